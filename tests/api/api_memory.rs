//! What anybody may make in a cluster is read in bounded memory, on a real API server. `OBJECTS` says how many there are of each.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fmt::Write as _;

use crate::support;
use futures::StreamExt as _;
use futures::stream;
use serde_json::{Value, json};
use support::fixture::{ECR, Fixture};
use support::process::{Launch, Pullpass, pod};
use support::wait;

const MIB: u64 = 1024;

fn objects() -> usize {
    let given = std::env::var("OBJECTS").ok();
    given.map_or(60, |given| given.parse().unwrap())
}

/// One that has read everything once.
async fn start(fixture: &Fixture) -> Pullpass {
    let launch = Launch {
        controller: true,
        arguments: vec!["--missed-pod-scan-interval=1h"],
        ..fixture.launch().await
    };
    let pullpass = Pullpass::start(&launch).await;
    let scans = "pullpass_missed_pod_scans_total";
    wait::until("a scan", async || {
        (pullpass.count(scans, &["succeeded"]).await > 0).then_some(())
    })
    .await;
    pullpass
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn starts_in_bounded_memory_beside_forged_pull_secrets() {
    let fixture = Fixture::alone("bulk").await;
    fixture.serve(&[&format!("{ECR}/team")]).await;
    let shop = fixture.namespace("shop").await;
    let rest = measure_rest(&fixture, &shop).await;

    let forged = forge(1_000_000);
    let names: Vec<String> = (0..objects()).map(|at| format!("forged-{at}")).collect();
    let namespace = |name: &String| {
        let object = json!({"metadata": {"name": name}});
        ("/api/v1/namespaces".to_owned(), object)
    };
    create_all(&fixture, names.iter().map(namespace).collect()).await;
    let secret = |namespace: &str| {
        let object = json!({
            "metadata": {"name": "pullpass", "labels": {"app.kubernetes.io/managed-by": "pullpass"}, "finalizers": ["example.com/keep"]},
            "type": "kubernetes.io/dockerconfigjson", "stringData": {".dockerconfigjson": forged},
        });
        (format!("/api/v1/namespaces/{namespace}/secrets"), object)
    };
    create_all(&fixture, names.iter().map(|name| secret(name)).collect()).await;
    // One more where it opted in: it is put right.
    let path = format!("/api/v1/namespaces/{shop}/secrets/pullpass");
    fixture.cluster.send("DELETE", &path, None).await.ok();
    create_all(&fixture, vec![secret(&shop)]).await;

    let pullpass = start(&fixture).await;
    wait::until("the forged one to be put right", async || {
        let held = fixture.pull_secret(&shop).await;
        (held.contains(ECR) && held.len() < 10_000).then_some(())
    })
    .await;
    let most = pullpass.memory();
    println!("{} forged: {rest} KiB, then {most} KiB", names.len());
    assert!(most < rest + 64 * MIB, "{rest} KiB, then {most} KiB");
    pullpass.terminate();
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
    pullpass.terminate();
}
