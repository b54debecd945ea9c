//! Before what others wrote: AWS as moto speaks it, Azure's SDK, and the code of the kubelet and of distribution/reference.

mod azure_sdk;
mod credential_cache;
mod credential_providers;
mod ecr_moto;
mod keyring;
mod policy_moto;
mod references;
#[path = "../support/mod.rs"]
mod support;
