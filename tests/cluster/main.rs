//! On a whole cluster, in which Pods really pull.

mod consumers;
mod e2e;
mod nodes;
mod rotation;
#[path = "../support/mod.rs"]
mod support;
