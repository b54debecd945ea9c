//! What needs nothing but this repository: decisions, the webhook and the controller over doubles, the binary's own answers, documents.

mod acr;
mod admission;
mod bad_inputs;
mod check_azure;
mod check_node;
mod client_auth;
mod command_line;
mod dependencies;
mod docs;
mod explain;
mod hosts;
mod layering;
mod model;
mod node_scripts;
mod patch_properties;
mod plug_in;
mod policy;
mod programs;
mod provision;
mod reconciler;
mod reference;
mod registries;
mod serve;
mod server;
#[path = "../support/mod.rs"]
mod support;
mod workflows;
