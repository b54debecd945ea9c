//! Tests inside a network namespace, where there is an address that is not loopback: the API server speaks HTTP/1.1 to a webhook
//! there, as it does to a Service.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use super::bed;

/// The address of the namespace's bridge.
pub const ADDRESS: &str = "10.213.0.1";

/// What `bed` answers where the machine allows no network namespace.
const NOT_ALLOWED: i32 = 3;

/// Runs an ignored test of this binary there, and passes on what it prints.
pub fn run(test: &str) {
    run_with(&[], test);
}

/// The same with further addresses of its loopback device.
pub fn run_with(addresses: &[&str], test: &str) {
    let mut inside = Command::new(bed::dir().join("bin/bed"))
        .arg("netns")
        .args(addresses.iter().flat_map(|address| ["--address", address]))
        .arg("--")
        .arg(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "--nocapture", test])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut passed = false;
    for line in BufReader::new(inside.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        passed |= line.contains("1 passed");
        println!("{line}");
    }
    let status = inside.wait().unwrap();
    if status.code() == Some(NOT_ALLOWED) {
        println!("{test} is not shown here: this machine allows no network namespace");
        return;
    }
    assert!(status.success() && passed, "{test}: {status}");
}

/// How often a test is to do what it does: `PULLPASS_ROUNDS`, which `make soak` sets, or `few`.
pub fn rounds(few: usize) -> usize {
    let said = std::env::var("PULLPASS_ROUNDS").ok();
    said.map_or(few, |said| {
        said.parse().expect("PULLPASS_ROUNDS is a number")
    })
}
