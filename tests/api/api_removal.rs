//! What the controller takes out of namespaces, and what it leaves, on a real API server.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod orders;

use std::collections::BTreeSet;

use crate::support;
use serde_json::{Value, json};
use support::fixture::{Fixture, OWN, read_dockerconfigjson};
use support::process::Pullpass;
use support::wait;

/// A Registry of a fixed login for all namespaces of the scene.
async fn put_fixed(fixture: &Fixture, name: &str, images: &[&str], suspend: bool) {
    let login = json!({"username": name, "password": "canary"});
    fixture
        .put_source(name, "kubernetes.io/basic-auth", login)
        .await;
    let spec =
        json!({"images": images, "static": {"secretRef": {"name": name}}, "suspend": suspend});
    fixture.put_registry(name, spec).await;
}

async fn delete_registry(fixture: &Fixture, name: &str) {
    let path = format!("/apis/pullpass.dev/v1alpha1/registries/{name}");
    fixture.cluster.send("DELETE", &path, None).await.ok();
}

/// Opts a namespace in or out.
async fn opt(fixture: &Fixture, namespace: &str, is_in: bool) {
    let mut labels = fixture.labels();
    if !is_in {
        labels
            .as_object_mut()
            .unwrap()
            .remove("pullpass.dev/inject");
    }
    support::process::make_namespace(&fixture.cluster, namespace, &labels).await;
}

/// The keys of a namespace's pull secret; `None`: there is no such Secret.
async fn keys(fixture: &Fixture, namespace: &str) -> Option<BTreeSet<String>> {
    let secret = fixture.cluster.secret(namespace, "pullpass").await?;
    let text = read_dockerconfigjson(&secret);
    let value: Value = serde_json::from_str(&text).unwrap();
    Some(
        value["auths"]
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect(),
    )
}

async fn wait_keys(fixture: &Fixture, namespace: &str, wanted: Option<&[&str]>) {
    let wanted: Option<BTreeSet<String>> =
        wanted.map(|keys| keys.iter().map(|&key| key.to_owned()).collect());
    wait::until(&format!("{wanted:?} in {namespace}"), async || {
        (keys(fixture, namespace).await == wanted).then_some(())
    })
    .await;
}

async fn wait_deletions(pullpass: &Pullpass, wanted: u64) {
    wait::until("deletions to be counted", async || {
        let name = "pullpass_pull_secret_writes_total";
        let deletions = pullpass.count(name, &["deleted"]).await;
        (deletions == wanted).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn takes_out_what_no_registry_gives_and_leaves_everything_else() {
    let fixture = Fixture::alone("taken").await;
    put_fixed(&fixture, "one", &["one.example.com"], false).await;
    put_fixed(&fixture, "two", &["two.example.com/team"], false).await;
    put_fixed(&fixture, "rests", &["rests.example.com"], false).await;
    let pullpass = fixture.start_controller().await;
    let stays = fixture.namespace("stays").await;
    let leaves = fixture.namespace("leaves").await;
    let all = [
        "one.example.com",
        "two.example.com/team",
        "rests.example.com",
    ];
    for namespace in [&stays, &leaves] {
        wait_keys(&fixture, namespace, Some(&all)).await;
    }
    let uid = fixture.cluster.secret(&stays, "pullpass").await.unwrap()["metadata"]["uid"].clone();

    // A Registry that rests takes nothing away, even when another one goes.
    put_fixed(&fixture, "rests", &["rests.example.com"], true).await;
    delete_registry(&fixture, "two").await;
    for namespace in [&stays, &leaves] {
        wait_keys(
            &fixture,
            namespace,
            Some(&["one.example.com", "rests.example.com"]),
        )
        .await;
    }

    // A namespace that opts out loses the secret; the other keeps the very same one.
    opt(&fixture, &leaves, false).await;
    wait_keys(&fixture, &leaves, None).await;
    wait_deletions(&pullpass, 1).await;
    let secret = fixture.cluster.secret(&stays, "pullpass").await.unwrap();
    assert_eq!(secret["metadata"]["uid"], uid);

    // A Secret of somebody else under that name is left alone, also where nobody is served.
    let foreign = fixture.namespace_name("foreign");
    support::process::make_namespace(&fixture.cluster, &foreign, &json!({})).await;
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "pullpass", "namespace": foreign},
        "stringData": {"mine": "canary"},
    });
    fixture.cluster.apply(&secret).await;

    // It opts in again, and has its secret again.
    opt(&fixture, &leaves, true).await;
    wait_keys(&fixture, &leaves, Some(&["one.example.com"])).await;

    // The last Registries go: so does the secret.
    delete_registry(&fixture, "rests").await;
    delete_registry(&fixture, "one").await;
    for namespace in [&stays, &leaves] {
        wait_keys(&fixture, namespace, None).await;
    }
    assert!(fixture.cluster.secret(&foreign, "pullpass").await.is_some());
    assert!(pullpass.is_ready().await);
}

/// Confirms the removals that pullpass blocked last.
async fn confirm(fixture: &Fixture, pullpass: &Pullpass) {
    // What is blocked is reported once that stays the same.
    let count = pullpass.count("pullpass_removals_blocked", &[]).await;
    let report = format!("blocked removal from {count} of ");
    let id: String = wait::until(&report, async || {
        let log = pullpass.log();
        let (_, line) = log.rsplit_once(&report)?;
        let (_, id) = line.split_once("confirm-removal=")?;
        Some(id.chars().take_while(char::is_ascii_alphanumeric).collect())
    })
    .await;
    let confirm = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": "pullpass", "namespace": OWN, "annotations": {"pullpass.dev/confirm-removal": id}},
    });
    fixture.cluster.apply(&confirm).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn asks_before_many_namespaces_lose_their_secrets_at_once() {
    const MANY: usize = 12;
    let fixture = Fixture::alone("many").await;
    put_fixed(&fixture, "one", &["one.example.com"], false).await;
    let mut names = Vec::new();
    for number in 0..MANY {
        names.push(fixture.namespace(&format!("n{number}")).await);
    }
    let pullpass = fixture.start_controller().await;
    for name in &names {
        wait_keys(&fixture, name, Some(&["one.example.com"])).await;
    }
    // Seen all at once by the next process.
    drop(pullpass);
    for name in &names {
        opt(&fixture, name, false).await;
    }
    let pullpass = fixture.start_controller().await;
    wait::until("a question", async || {
        (pullpass.count("pullpass_removals_blocked", &[]).await == MANY as u64).then_some(())
    })
    .await;
    for name in &names {
        assert!(keys(&fixture, name).await.is_some(), "{name}");
    }
    confirm(&fixture, &pullpass).await;
    for name in &names {
        wait_keys(&fixture, name, None).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn puts_back_what_somebody_keeps_changing_more_and_more_slowly() {
    let fixture = Fixture::alone("fight").await;
    put_fixed(&fixture, "one", &["one.example.com"], false).await;
    let pullpass = fixture.start_controller().await;
    let namespace = fixture.namespace("team").await;
    let path = format!("/api/v1/namespaces/{namespace}/secrets/pullpass");
    for _ in 0..6 {
        wait_keys(&fixture, &namespace, Some(&["one.example.com"])).await;
        fixture.cluster.send("DELETE", &path, None).await.ok();
    }
    // The people there are told, and so is the admin.
    wait::until("an Event in the namespace", async || {
        is_told(&fixture, &namespace, "pullpass")
            .await
            .then_some(())
    })
    .await;
    wait::until("a condition of the Registry", async || {
        let registry = "/apis/pullpass.dev/v1alpha1/registries/one";
        let registry = fixture.cluster.get(registry).await?;
        let mut conditions = registry["status"]["conditions"].as_array()?.iter();
        let degraded = conditions.find(|condition| condition["type"] == "Degraded")?;
        let is_named = degraded["message"].as_str()?.contains(&namespace);
        (degraded["reason"] == "ConflictingWriter" && is_named).then_some(())
    })
    .await;
    wait::until("an Event on the Registry", async || {
        is_told(&fixture, "default", "one").await.then_some(())
    })
    .await;
    let line = "another writer keeps changing this pull secret";
    let log = pullpass.wait_logged(&[line]).await;
    let told = log.matches(line).count();
    assert_eq!(told, 1, "{log}");
    // It is there all the same, and the next time it takes its while.
    wait_keys(&fixture, &namespace, Some(&["one.example.com"])).await;
    fixture.cluster.send("DELETE", &path, None).await.ok();
    let deleted = std::time::Instant::now();
    wait_keys(&fixture, &namespace, Some(&["one.example.com"])).await;
    let took = deleted.elapsed();
    println!("changed for the 7th time: back after {took:.1?}");
    fixture.cluster.send("DELETE", &path, None).await.ok();
    let deleted = std::time::Instant::now();
    wait_keys(&fixture, &namespace, Some(&["one.example.com"])).await;
    let longer = deleted.elapsed();
    println!("changed for the 8th time: back after {longer:.1?}");
    assert!(longer > took, "{took:?} {longer:?}");
    assert!(longer > std::time::Duration::from_secs(2), "{longer:?}");
}

/// One tenant that puts in what belongs nowhere, and others that opt out meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn takes_out_what_somebody_keeps_putting_in_more_and_more_slowly() {
    let fixture = Fixture::alone("filling").await;
    put_fixed(&fixture, "one", &["one.example.com"], false).await;
    let pullpass = fixture.start_controller().await;
    let (namespace, leaves) = (
        fixture.namespace("team").await,
        fixture.namespace("leaves").await,
    );
    let wanted: &[&str] = &["one.example.com"];
    for namespace in [&namespace, &leaves] {
        wait_keys(&fixture, namespace, Some(wanted)).await;
    }
    let mut took = Vec::new();
    for _ in 0..8 {
        put_in(&fixture, &namespace, "forged.example.com").await;
        let put = std::time::Instant::now();
        wait_keys(&fixture, &namespace, Some(wanted)).await;
        took.push(put.elapsed());
    }
    println!("taken out after {took:.1?}");
    assert!(took[6] > std::time::Duration::from_secs(1), "{took:?}");
    assert!(took[7] > std::time::Duration::from_secs(2), "{took:?}");
    wait::until("an Event in the namespace", async || {
        is_told(&fixture, &namespace, "pullpass")
            .await
            .then_some(())
    })
    .await;
    opt(&fixture, &leaves, false).await;
    wait_keys(&fixture, &leaves, None).await;
    assert_eq!(pullpass.count("pullpass_removals_blocked", &[]).await, 0);
}

/// Puts a login under one more key of a namespace's pull secret, as somebody does who may write it.
async fn put_in(fixture: &Fixture, namespace: &str, key: &str) {
    use base64::Engine as _;
    let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    let mut secret = fixture.cluster.secret(namespace, "pullpass").await.unwrap();
    let mut content: Value = serde_json::from_str(&read_dockerconfigjson(&secret)).unwrap();
    content["auths"][key] = json!({"auth": encode("me:canary")});
    secret["data"][".dockerconfigjson"] = encode(&content.to_string()).into();
    let path = format!("/api/v1/namespaces/{namespace}/secrets/pullpass");
    let answer = fixture.cluster.send("PUT", &path, Some(&secret)).await;
    answer.ok();
}

/// Whether there is an Event about a fight over an object of this name.
async fn is_told(fixture: &Fixture, namespace: &str, name: &str) -> bool {
    let path = format!("/apis/events.k8s.io/v1/namespaces/{namespace}/events");
    let events = fixture.cluster.get(&path).await.unwrap();
    let mut events = events["items"].as_array().unwrap().iter();
    events.any(|event| event["regarding"]["name"] == name && event["reason"] == "ConflictingWriter")
}
