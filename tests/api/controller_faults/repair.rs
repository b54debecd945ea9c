//! What others do to pull secrets and namespaces.

use std::time::{Duration, Instant};

use futures::StreamExt as _;
use serde_json::{Value, json};

use super::support::figure;
use super::support::fixture::Fixture;
use super::support::process::Pullpass;
use super::support::wait;
use super::{auth, complaints, launch, make_namespaces, put_fixed, wait_all, wait_one};

fn secret_path(namespace: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/secrets/pullpass")
}

fn secret(namespace: &str, more: &Value) -> Value {
    let mut object = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "pullpass", "namespace": namespace},
    });
    for (key, value) in more.as_object().unwrap() {
        match key.as_str() {
            "labels" => object["metadata"]["labels"] = value.clone(),
            key => object[key] = value.clone(),
        }
    }
    object
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn brings_back_all_pull_secrets_that_were_deleted_at_once() {
    const MANY: usize = 300;
    let fixture = Fixture::alone("wiped").await;
    put_fixed(&fixture, "one", "canary").await;
    let names = make_namespaces(&fixture, MANY).await;
    let pullpass = Pullpass::start(&launch(&fixture).await).await;
    let one = auth("one", "canary");
    wait_all(&fixture, MANY, &one).await;

    let started = Instant::now();
    let deletions = names.iter().map(|name| {
        let (cluster, path) = (fixture.cluster.clone(), secret_path(name));
        async move { cluster.send("DELETE", &path, None).await.ok() }
    });
    let deleted = futures::stream::iter(deletions).buffer_unordered(64);
    deleted.collect::<Vec<_>>().await;
    let gone = started.elapsed();
    let back = wait_all(&fixture, MANY, &one).await;
    println!("{MANY} pull secrets deleted in {gone:.1?}");
    figure::within(
        "all deleted pull secrets are back",
        back,
        Duration::from_secs(10),
    );
    assert_eq!(complaints(&pullpass), [""; 0]);
}

/// Waits until nothing more is written to the namespace's pull secret; answers it.
async fn settled(fixture: &Fixture, namespace: &str) -> Value {
    tokio::time::sleep(Duration::from_secs(1)).await;
    fixture.cluster.secret(namespace, "pullpass").await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn puts_right_what_is_ours_and_leaves_what_is_not() {
    let fixture = Fixture::alone("touched").await;
    put_fixed(&fixture, "one", "canary").await;
    let namespaces = make_namespaces(&fixture, 5).await;
    let [edited, conflict, relabelled, replaced, taken] = namespaces.try_into().unwrap();
    let pullpass = Pullpass::start(&launch(&fixture).await).await;
    let one = auth("one", "canary");
    wait_all(&fixture, 5, &one).await;
    let all = [&edited, &conflict, &relabelled, &replaced, &taken];

    // What it says is put right within a second.
    for (namespace, content) in [
        (
            &edited,
            r#"{"auths":{"one.example.com":{"auth":"Zm9yZ2VkOmZvcmdlZA=="}}}"#,
        ),
        (&conflict, r#"{"auths":"#),
    ] {
        let content = json!({"stringData": {".dockerconfigjson": content}});
        // The API server refuses what is no JSON at all.
        let path = format!("{}?fieldManager=test&force=true", secret_path(namespace));
        let object = secret(namespace, &content);
        fixture.cluster.send("PATCH", &path, Some(&object)).await;
        let took = wait_one(&fixture, namespace, &one).await;
        figure::within(
            "an edited pull secret is right again",
            took,
            Duration::from_secs(1),
        );
    }

    // Without our label it is nobody's business of ours; with it again it is ours again.
    let other = json!({"labels": {"app.kubernetes.io/managed-by": "somebody"}, "stringData": {"mine": "x"}});
    fixture.cluster.apply(&secret(&relabelled, &other)).await;
    let before = settled(&fixture, &relabelled).await;
    assert_eq!(
        before["metadata"]["labels"]["app.kubernetes.io/managed-by"],
        "somebody"
    );
    let ours = json!({"labels": {"app.kubernetes.io/managed-by": "pullpass"},
        "stringData": {".dockerconfigjson": "{\"auths\":{}}"}});
    fixture.cluster.apply(&secret(&relabelled, &ours)).await;
    wait_one(&fixture, &relabelled, &one).await;

    // One of another type takes its place, without our label and with it: it stays, until it is gone.
    let labelled = json!({"app.kubernetes.io/managed-by": "pullpass"});
    for (namespace, labels) in [(&replaced, json!({})), (&taken, labelled)] {
        let object = secret(
            namespace,
            &json!({"labels": labels, "stringData": {"mine": "x"}}),
        );
        replace(&fixture, namespace, &object).await;
        let stays = settled(&fixture, namespace).await;
        assert_eq!(stays["type"], "Opaque");
        assert_eq!(stays["data"].as_object().unwrap().len(), 1);
        fixture
            .cluster
            .send("DELETE", &secret_path(namespace), None)
            .await
            .ok();
        let took = wait_one(&fixture, namespace, &one).await;
        figure::within(
            "a pull secret after a foreign one",
            took,
            Duration::from_secs(1),
        );
    }
    for namespace in all {
        wait_one(&fixture, namespace, &one).await;
    }
    let told = complaints(&pullpass);
    assert!(told.len() <= 8, "{told:#?}");
}

/// Puts another Secret into the place of a pull secret, however fast that is back.
async fn replace(fixture: &Fixture, namespace: &str, object: &Value) {
    wait::until("a Secret of somebody else", async || {
        let path = secret_path(namespace);
        fixture.cluster.send("DELETE", &path, None).await;
        let path = format!("/api/v1/namespaces/{namespace}/secrets");
        let made = fixture.cluster.send("POST", &path, Some(object)).await;
        made.status.is_success().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stays_calm_when_namespaces_end_and_come_back() {
    const MANY: usize = 30;
    let fixture = Fixture::alone("ending").await;
    put_fixed(&fixture, "one", "canary").await;
    let names = make_namespaces(&fixture, MANY).await;
    let pullpass = Pullpass::start(&launch(&fixture).await).await;
    let one = auth("one", "canary");
    wait_all(&fixture, MANY, &one).await;

    for name in &names {
        let path = format!("/api/v1/namespaces/{name}");
        fixture.cluster.send("DELETE", &path, None).await.ok();
    }
    // What the namespace controller does, which does not run here: everything in it goes, then the namespace.
    for name in &names {
        fixture
            .cluster
            .send("DELETE", &secret_path(name), None)
            .await
            .ok();
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    for name in &names {
        assert!(
            fixture.cluster.secret(name, "pullpass").await.is_none(),
            "{name}"
        );
        finalize(&fixture, name).await;
        fixture
            .namespace(name.strip_prefix("ending-").unwrap())
            .await;
    }
    let took = wait_all(&fixture, MANY, &one).await;
    println!("{MANY} namespaces ended and made anew: all pull secrets {took:.1?} after the last");
    let told = complaints(&pullpass);
    assert!(told.len() <= 3, "{told:#?}");
}

async fn finalize(fixture: &Fixture, namespace: &str) {
    let path = format!("/api/v1/namespaces/{namespace}");
    let mut object = fixture.cluster.get(&path).await.unwrap();
    object["spec"]["finalizers"] = json!([]);
    let path = format!("{path}/finalize");
    fixture.cluster.send("PUT", &path, Some(&object)).await.ok();
}
