//! On a whole cluster, in which Pods really pull.

mod consumers;
mod e2e;
mod migrate;
mod nodes;
mod quick_start;
mod rotation;
mod site;
#[path = "../support/mod.rs"]
mod support;
