//! What reads the Secrets beside the kubelet: the clients' own libraries, a builder, a Pod with a mounted file, and what goes by a
//! ServiceAccount. `make test-consumers` builds the parts and runs this.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod builds;
mod layouts;
mod lookups;
mod mounted;
mod program;
mod pushes;
