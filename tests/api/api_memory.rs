//! What anybody may make in a cluster is read in bounded memory, on a real API server. `OBJECTS` says how many there are of each,
//! `NAMESPACES` how many ordinary namespaces stand beside them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use crate::support;
use futures::StreamExt as _;
use futures::stream;
use serde_json::{Value, json};
use support::figure;
use support::fixture::{ECR, Fixture};
use support::process::{Launch, Pullpass, pod};
use support::wait;

const MIB: u64 = 1024;

fn objects() -> usize {
    count("OBJECTS", 60)
}

fn count(name: &str, default: usize) -> usize {
    let given = std::env::var(name).ok();
    given.map_or(default, |given| given.parse().unwrap())
}

async fn controller(fixture: &Fixture) -> Launch {
    Launch {
        controller: true,
        arguments: vec!["--missed-pod-scan-interval=1h", "--drain-delay=0"],
        ..fixture.launch().await
    }
}

/// One that has read everything once.
async fn start(fixture: &Fixture) -> Pullpass {
    let pullpass = Pullpass::start(&controller(fixture).await).await;
    wait_for_scan(&pullpass).await;
    pullpass
}

async fn wait_for_scan(pullpass: &Pullpass) {
    let scans = "pullpass_missed_pod_scans_total";
    wait::until("a scan", async || {
        (pullpass.count(scans, &["succeeded"]).await > 0).then_some(())
    })
    .await;
}

/// The most memory that it needs as long as there is nothing out of the ordinary.
async fn measure_rest(fixture: &Fixture, namespace: &str) -> u64 {
    let pullpass = start(fixture).await;
    wait::until("the pull secret", async || {
        fixture.has_pull_secret(namespace).await.then_some(())
    })
    .await;
    let rest = pullpass.memory();
    pullpass.terminate();
    rest
}

async fn create_all(fixture: &Fixture, objects: Vec<(String, Value)>) {
    let created = stream::iter(&objects).for_each_concurrent(8, async |(path, object)| {
        let answer = fixture.cluster.send("POST", path, Some(object)).await;
        answer.ok();
    });
    created.await;
}

/// So many bytes of logins that say nothing.
fn forge(bytes: usize) -> String {
    let mut auths = String::from("{\"auths\":{");
    let mut number = 0;
    while auths.len() < bytes {
        write!(auths, "\"{number:x}\":{{}},").unwrap();
        number += 1;
    }
    auths.push_str("\"\":{}}}");
    auths
}

/// Ordinary namespaces that opted in, each with its pull secret.
async fn serve_ordinary(fixture: &Fixture) {
    let count = count("NAMESPACES", 30);
    let made = stream::iter(0..count).for_each_concurrent(8, async |at| {
        for object in fixture.namespace_objects(&format!("ordinary-{at}")) {
            fixture.cluster.apply(&object).await;
        }
    });
    made.await;
    let pullpass = start(fixture).await;
    // In steps, for each of which there is the deadline of a wait.
    for least in (0..count).step_by(500).chain([count]) {
        wait::until("a pull secret in each", async || {
            let written = pullpass.count("pullpass_pull_secret_writes_total", &["written"]);
            (written.await >= least as u64).then_some(())
        })
        .await;
    }
    pullpass.terminate();
}

/// Secrets of 1 MB under our name, in namespaces of their own and in `shop`, where pullpass writes one.
async fn create_forged(fixture: &Fixture, shop: &str) {
    let forged = forge(1_000_000);
    let secret = |namespace: &str| {
        let object = json!({
            "metadata": {"name": "pullpass", "labels": {"app.kubernetes.io/managed-by": "pullpass"}, "finalizers": ["example.com/keep"]},
            "type": "kubernetes.io/dockerconfigjson", "stringData": {".dockerconfigjson": forged},
        });
        (format!("/api/v1/namespaces/{namespace}/secrets"), object)
    };
    let made = stream::iter(0..objects()).for_each_concurrent(8, async |at| {
        let name = format!("forged-{at}");
        let namespace = json!({"metadata": {"name": name}});
        for (path, object) in [("/api/v1/namespaces".to_owned(), namespace), secret(&name)] {
            let answer = fixture.cluster.send("POST", &path, Some(&object)).await;
            answer.ok();
        }
    });
    made.await;
    replace(fixture, &secret(shop)).await;
}

/// Puts this one where pullpass has its own; it may be faster and have made that again.
async fn replace(fixture: &Fixture, (path, forged): &(String, Value)) {
    wait::until("the forged one to be there", async || {
        let own = format!("{path}/pullpass");
        fixture.cluster.send("DELETE", &own, None).await;
        let answer = fixture.cluster.send("POST", path, Some(forged)).await;
        answer.status.is_success().then_some(())
    })
    .await;
}

async fn wait_for_repair(fixture: &Fixture, shop: &str) {
    wait::until("the forged one to be put right", async || {
        let held = fixture.pull_secret(shop).await;
        (held.contains(ECR) && held.len() < 10_000).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stays_in_bounded_memory_beside_forged_pull_secrets() {
    let fixture = Fixture::alone("bulk").await;
    fixture.serve(&[&format!("{ECR}/team")]).await;
    let shop = fixture.namespace("shop").await;
    serve_ordinary(&fixture).await;
    let rest = measure_rest(&fixture, &shop).await;

    let pullpass = start(&fixture).await;
    create_forged(&fixture, &shop).await;
    wait_for_repair(&fixture, &shop).await;
    let running = pullpass.memory();
    pullpass.terminate();

    let mut pullpass = Pullpass::listen(&controller(&fixture).await).await;
    let began = Instant::now();
    pullpass.wait_ready().await;
    figure::within(
        "ready beside forged pull secrets",
        began.elapsed(),
        Duration::from_secs(1),
    );
    wait_for_scan(&pullpass).await;
    let started = pullpass.memory();
    println!(
        "{} forged: {rest} KiB, {running} KiB while they are made, {started} KiB after a start",
        objects()
    );
    assert!(running.max(started) < rest + 64 * MIB);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scans_large_pending_pods_in_bounded_memory() {
    let fixture = Fixture::alone("large").await;
    let image = format!("{ECR}/team/hello:1");
    fixture.serve(&[&format!("{ECR}/team")]).await;
    let shop = fixture.namespace("shop").await;
    let tenant = fixture.namespace_name("tenant");
    support::process::make_namespace(&fixture.cluster, &tenant, &json!({})).await;
    let rest = measure_rest(&fixture, &shop).await;

    let large = "x".repeat(1_300_000);
    let make = |namespace: &str, number: usize| {
        let mut object = pod(namespace, &[&image]);
        object["metadata"] = json!({"name": format!("p{number}"), "namespace": namespace});
        object["spec"]["containers"][0]["args"] = json!([large]);
        (format!("/api/v1/namespaces/{namespace}/pods"), object)
    };
    let all = (0..objects()).map(|number| make(&tenant, number));
    let all = all.chain((0..5).map(|number| make(&shop, number)));
    create_all(&fixture, all.collect()).await;

    let pullpass = start(&fixture).await;
    wait::until("the missed Pods to be counted", async || {
        (pullpass.count("pullpass_missed_pods{", &["pending"]).await == 5).then_some(())
    })
    .await;
    let most = pullpass.memory();
    println!("{} large Pods: {rest} KiB, then {most} KiB", objects());
    assert!(most < rest + 32 * MIB, "{rest} KiB, then {most} KiB");
    let asked = fixture.api.all();
    let asked = asked
        .iter()
        .filter(|one| one.path.starts_with("/api/v1/pods?"));
    assert!(asked.count() <= objects() / 100 + 10);
}
