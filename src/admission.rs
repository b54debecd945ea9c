//! Admission: a review is read, a plan made, a patch written, an answer sent.

pub mod handler;
mod judge;
pub mod metrics;
pub mod patch;
pub mod plan;
mod request;
pub mod review;
mod secrets;
mod validate;
pub mod vet;

pub use handler::{Webhook, router};
pub use judge::{Judge, Lacks, Verdict};
pub use metrics::Metrics;
