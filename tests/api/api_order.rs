//! pullpass beside a webhook that rewrites images and is asked only about Pods with a label: the API server's order of both.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use crate::support;
use axum::routing::post;
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pullpass::server::Bounds;
use serde_json::{Value, json};
use support::fixture::{ECR, FIXTURE, Fixture, references};
use support::process::pod;
use support::tls::{self, Running};
use support::{keyring, wait};

/// The label that the other webhook selects on.
const LABEL: &str = "mirror.example.com/use";

/// A webhook that replaces the host `mirror.example.com` of images by ECR's.
fn rewriter() -> Router {
    Router::new().route("/", post(rewrite))
}

async fn rewrite(Json(review): Json<Value>) -> Json<Value> {
    let containers = &review["request"]["object"]["spec"]["containers"];
    let containers = containers.as_array().unwrap().iter().enumerate();
    let operations: Vec<Value> = containers
        .filter_map(|(place, container)| {
            let path = container["image"]
                .as_str()?
                .strip_prefix("mirror.example.com/")?;
            Some(json!({
                "op": "replace", "path": format!("/spec/containers/{place}/image"), "value": format!("{ECR}/{path}"),
            }))
        })
        .collect();
    let patch = STANDARD.encode(Value::from(operations).to_string());
    Json(json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "response": {"uid": review["request"]["uid"], "allowed": true, "patchType": "JSONPatch", "patch": patch},
    }))
}

/// Has the API server call the other webhook, under this name, for Pods that have [`LABEL`] by then.
async fn register(fixture: &Fixture, other: &Running, name: &str) -> Value {
    let url = format!("https://127.0.0.1:{}/", other.address.port());
    let configuration = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration", "metadata": {"name": name},
        "webhooks": [{
            "name": "rewrite.example.com", "admissionReviewVersions": ["v1"], "sideEffects": "None", "failurePolicy": "Fail",
            "clientConfig": {"url": url, "caBundle": STANDARD.encode(&other.ca_pem)},
            "namespaceSelector": {"matchLabels": {FIXTURE: fixture.name}},
            "objectSelector": {"matchExpressions": [{"key": LABEL, "operator": "Exists"}]},
            "rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}],
        }],
    });
    fixture.cluster.apply(&configuration).await;
    configuration
}

/// A Pod of two images, one of which the other webhook would rewrite, with or without the label that it asks for.
fn mirrored(namespace: &str, images: [&str; 2], labelled: bool) -> Value {
    let mut pod = pod(namespace, &images);
    if labelled {
        pod["metadata"]["labels"] = json!({LABEL: "own"});
    }
    pod
}

fn images(pod: &Value) -> Vec<&str> {
    let containers = pod["spec"]["containers"].as_array().unwrap().iter();
    containers
        .map(|container| container["image"].as_str().unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::too_many_lines, reason = "one course of events")]
async fn comes_first_and_comes_back() {
    let fixture = Fixture::new("order").await;
    for (name, path) in [("order-team", "team"), ("order-later", "later")] {
        let mut spec = json!({"images": [format!("{ECR}/{path}")], "ecr": fixture.ecr("order")});
        if path == "team" {
            spec["podMetadata"] = json!({"labels": {LABEL: "pullpass"}});
        }
        fixture.put_registry(name, spec).await;
    }
    let namespace = fixture.namespace("shop").await;
    let _pullpass = fixture.start().await;
    let other = tls::start(rewriter(), Bounds::default()).await;
    let (team, mirror) = (format!("{ECR}/team/a:1"), "mirror.example.com/later/b:1");
    let rewritten = format!("{ECR}/later/b:1");
    fixture.wait_served(&namespace, &team).await;

    // Where the other one comes first it is asked before the label is there, and not again.
    let early = register(&fixture, &other, "00-mirror").await;
    let labelled = mirrored(&namespace, ["alpine:3", mirror], true);
    wait::until("the other webhook to be called", async || {
        let tried = fixture
            .cluster
            .create_pod(&labelled, "dryRun=All")
            .await
            .ok();
        images(&tried.body)
            .contains(&rewritten.as_str())
            .then_some(())
    })
    .await;
    let plain = mirrored(&namespace, [&team, mirror], false);
    let tried = fixture
        .cluster
        .create_pod(&plain, "dryRun=All")
        .await
        .ok()
        .body;
    assert_eq!(images(&tried), [&team, mirror]);
    assert_eq!(tried["metadata"]["labels"][LABEL], "pullpass");
    fixture.cluster.delete(&early).await;

    // The names of most put them behind: pullpass' label selects the Pod, and the image that comes of it is seen in the second round.
    register(&fixture, &other, "mirror").await;
    wait::until("the label to select the Pod", async || {
        let tried = fixture.cluster.create_pod(&plain, "dryRun=All").await.ok();
        (images(&tried.body) == [&team, &rewritten]).then_some(())
    })
    .await;
    let created = fixture.cluster.create_pod(&labelled, "").await.ok().body;
    assert_eq!(images(&created), ["alpine:3", &rewritten]);
    assert!(
        references(&created),
        "nothing was managed in the first round"
    );
    assert_eq!(created["metadata"]["labels"][LABEL], "own");
    let held = fixture.pull_secret(&namespace).await;
    let logins = keyring::lookup(&held, &[&rewritten]);
    let minted = fixture.user.newest(&fixture.world.moto).await.unwrap();
    assert_eq!(logins[0], [minted], "the login is there when the Pod is");
}
