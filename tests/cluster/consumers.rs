//! What reads the Secrets beside the kubelet: the clients' own libraries. `make test-consumers` builds the parts and runs this.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod layouts;
mod lookups;
mod program;
mod pushes;
