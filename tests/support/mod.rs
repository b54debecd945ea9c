//! what the tests share: the parts of the test bed, and tables.

#![allow(dead_code, unreachable_pub, reason = "each test uses some of it")]
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::unwrap_in_result,
    reason = "a test that cannot be set up has failed"
)]

pub mod account;
pub mod azure;
pub mod balancer;
pub mod bed;
pub mod broker;
pub mod chart;
pub mod cluster;
pub mod figure;
pub mod fixture;
pub mod generated;
pub mod grant;
pub mod internet;
pub mod jwt;
pub mod keyring;
pub mod kubelet;
pub mod load;
pub mod log;
pub mod manifests;
pub mod memory;
pub mod metrics;
pub mod module;
pub mod moto;
pub mod names;
pub mod netns;
pub mod node;
pub mod oci;
pub mod patch_only;
pub mod pki;
pub mod place;
pub mod process;
pub mod program_log;
pub mod proxy;
pub mod registries;
pub mod roles;
pub mod site;
pub mod source;
pub mod sources;
pub mod store;
pub mod tls;
pub mod user;
pub mod wait;
pub mod webhook;
pub mod worst;
