//! The controller when things go wrong around it, and what it costs when nothing does: real processes on a real API server.
//!
//! Each test has a cluster of its own, which ends with it, and waits most of the time.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]
#![expect(
    clippy::too_many_lines,
    reason = "a fault and what follows from it are told in one go"
)]

mod answers;
mod idle;
mod leaders;
mod many;
mod outage;
mod repair;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::support;
use serde_json::{Value, json};
use support::fixture::{Fixture, read_dockerconfigjson};
use support::process::{Launch, Pullpass};
use support::proxy::Seen;
use support::wait;

/// How to start pullpass with its controller.
async fn launch(fixture: &Fixture) -> Launch {
    Launch {
        controller: true,
        arguments: vec!["--drain-delay", "0"],
        ..fixture.launch().await
    }
}

/// Makes so many namespaces of a scene, several at a time.
async fn make_namespaces(fixture: &Fixture, count: usize) -> Vec<String> {
    use futures::StreamExt as _;
    let names: Vec<String> = (0..count).map(|number| format!("n{number}")).collect();
    let made = names.iter().map(|name| fixture.namespace(name));
    futures::stream::iter(made).buffered(16).collect().await
}

/// What every pull secret of the scene's namespaces holds, by namespace.
async fn held(fixture: &Fixture) -> BTreeMap<String, String> {
    let path = "/api/v1/secrets?fieldSelector=metadata.name%3Dpullpass";
    let all = fixture.cluster.get(path).await.unwrap();
    let prefix = format!("{}-", fixture.name);
    let all = all["items"].as_array().unwrap().iter();
    let namespace = |secret: &Value| secret["metadata"]["namespace"].as_str().map(str::to_owned);
    all.filter(|secret| secret["data"][".dockerconfigjson"].is_string())
        .filter_map(|secret| Some((namespace(secret)?, read_dockerconfigjson(secret))))
        .filter(|(namespace, _)| namespace.starts_with(&prefix))
        .collect()
}

/// Waits until the pull secrets of so many of the scene's namespaces hold this; answers how long it took.
async fn wait_all(fixture: &Fixture, count: usize, text: &str) -> Duration {
    let started = Instant::now();
    wait::until(&format!("{text} in {count} pull secrets"), async || {
        let looking = Instant::now();
        let held = held(fixture).await;
        let good = held.values().filter(|held| held.contains(text));
        if good.count() < count {
            // Looking at many takes its time, which is to be left to pullpass as well.
            tokio::time::sleep(looking.elapsed() * 3).await;
            return None;
        }
        Some(())
    })
    .await;
    started.elapsed()
}

/// Waits until the namespace's pull secret holds this; answers how long it took.
async fn wait_one(fixture: &Fixture, namespace: &str, text: &str) -> Duration {
    let started = Instant::now();
    wait::until(&format!("{text} in {namespace}"), async || {
        let secret = fixture.cluster.secret(namespace, "pullpass").await?;
        secret["data"][".dockerconfigjson"].as_str()?;
        read_dockerconfigjson(&secret).contains(text).then_some(())
    })
    .await;
    started.elapsed()
}

/// A Registry of a fixed login for all namespaces of the scene.
async fn put_fixed(fixture: &Fixture, name: &str, password: &str) {
    let login = json!({"username": name, "password": password});
    fixture
        .put_source(name, "kubernetes.io/basic-auth", login)
        .await;
    let host = format!("{name}.example.com");
    let spec = json!({"images": [host], "static": {"secretRef": {"name": name}}});
    fixture.put_registry(name, spec).await;
}

/// What stands under `auth` for a login of [`put_fixed`].
fn auth(name: &str, password: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(format!("{name}:{password}"))
}

/// Whether this is about the Lease.
fn is_lease(request: &Seen) -> bool {
    request.path.contains("/leases/")
}

/// The writes among requests, but for the Lease's.
fn writes(requests: &[Seen]) -> Vec<String> {
    // Each start asks once who it is: a POST that writes nothing.
    let is_review = |request: &&Seen| request.path.contains("/selfsubjectreviews");
    let is_write =
        |request: &&Seen| request.method != "GET" && !is_lease(request) && !is_review(request);
    let writes = requests.iter().filter(is_write);
    writes
        .map(|request| format!("{} {}", request.method, request.path))
        .collect()
}

/// The writes of Secrets among requests: pull secrets', and those of the credential store.
fn secret_writes(requests: &[Seen]) -> (Vec<String>, Vec<String>) {
    let all = writes(requests).into_iter();
    let secrets = all.filter(|write| write.contains("/secrets/"));
    secrets.partition(|write| write.contains("/secrets/pullpass?"))
}

/// Waits until pullpass leads.
async fn wait_leads(pullpass: &Pullpass) {
    wait::until("leadership", async || {
        let gauge = pullpass.metrics().await;
        gauge
            .lines()
            .any(|line| line == "pullpass_leader 1")
            .then_some(())
    })
    .await;
}

/// The lines of warnings and errors that pullpass logged.
fn complaints(pullpass: &Pullpass) -> Vec<String> {
    let log = pullpass.log();
    let is_complaint = |line: &&str| {
        let line: Value = serde_json::from_str(line).unwrap_or_default();
        matches!(line["level"].as_str(), Some("WARN" | "ERROR"))
    };
    log.lines()
        .filter(is_complaint)
        .map(str::to_owned)
        .collect()
}
