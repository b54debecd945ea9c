//! On a whole cluster, in which Pods really pull.

mod consumers;
mod e2e;
mod migrate;
mod nodes;
mod quick_start;
mod rotation;
#[path = "../support/mod.rs"]
mod support;
