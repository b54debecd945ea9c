//! pullpass gives Kubernetes Pods the credentials to pull private images from Amazon ECR, Azure ACR and
//! registries with a fixed login.
//!
//! The modules are rooms, in the order in which data flows through them; `docs/ARCHITECTURE.md` draws the picture and
//! `tests/unit/layering.rs` keeps the arrows pointing one way.

pub mod admission;
pub mod api_server;
pub mod broker;
pub mod certificates;
pub mod clock;
pub mod cluster;
pub mod command;
pub mod controller;
pub mod credential;
#[cfg(any(test, pullpass_fuzz))]
#[path = "../fuzz/targets/targets.rs"]
pub mod fuzz;
pub mod image;
mod log_throttle;
mod metric;
pub mod names;
mod plain_text;
pub mod provision;
mod quantity;
pub mod registry;
pub mod server;
