//! Admission: a review is read, a plan made, a patch written, an answer sent.

pub mod handler;
pub mod metrics;
pub mod patch;
pub mod plan;
mod pod_check;
mod request;
pub mod review;
mod routes;
mod secrets;
mod validate;
pub mod validate_registry;

pub use handler::Webhook;
pub use metrics::Metrics;
pub use pod_check::{MissingReferences, PodCheck, PodChecker};
pub use routes::router;
