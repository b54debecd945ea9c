//! Where people run it: pullpass' own Pods before the webhooks by which clouds give tokens to Pods, under Pod Security, on machines with
//! either address family. Each Pod is created by a real API server, and the program then runs with that Pod's environment.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed"
)]

mod azure;
mod eks;
mod listen;
mod openshift;
mod place;
mod platform;
mod rehearsal;
mod site;

use crate::support;
