//! Where people run it: pullpass' own Pods before the webhooks by which clouds give tokens to Pods, under Pod Security, on machines with
//! either address family. Each Pod is created by a real API server, and the program then runs with that Pod's environment.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed"
)]

#[path = "platforms/azure.rs"]
mod azure;
#[path = "platforms/eks.rs"]
mod eks;
#[path = "platforms/listen.rs"]
mod listen;
#[path = "platforms/openshift.rs"]
mod openshift;
#[path = "platforms/place.rs"]
mod place;
#[path = "platforms/platform.rs"]
mod platform;
#[path = "platforms/rehearsal.rs"]
mod rehearsal;
#[path = "platforms/site.rs"]
mod site;
mod support;
