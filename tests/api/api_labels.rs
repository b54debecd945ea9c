//! Whoever writes a label that means nothing is warned at once: by the chart's policies, whatever becomes of pullpass.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use crate::support;
use serde_json::{Value, json};
use support::fixture::Fixture;
use support::process::{make_namespace, pod};

const INJECT: &str = "pullpass.dev/inject";
const ENFORCE: &str = "pullpass.dev/enforce";

async fn place() -> Fixture {
    let fixture = Fixture::new("labels").await;
    fixture.cluster.wait_for_policies().await;
    fixture
}

/// What whoever does this is warned of.
async fn warnings(fixture: &Fixture, method: &str, path: &str, body: &Value) -> String {
    let answer = fixture.cluster.send(method, path, Some(body)).await.ok();
    answer.warnings.join(" ")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn warns_who_labels_a_namespace_so_that_it_means_nothing() {
    let fixture = place().await;
    let rows = [
        (json!({}), ""),
        (json!({INJECT: "enabled"}), ""),
        (json!({INJECT: "all", ENFORCE: "deny"}), ""),
        (json!({INJECT: "disabled", ENFORCE: "warn"}), ""),
        (
            json!({INJECT: "true"}),
            "pullpass.dev/inject=true means nothing",
        ),
        (
            json!({INJECT: "Enabled"}),
            "pullpass.dev/inject=Enabled means nothing",
        ),
        (json!({INJECT: "false"}), "write enabled, all or disabled"),
        (json!({INJECT: ""}), "pullpass.dev/inject= means nothing"),
        (
            json!({ENFORCE: "yes"}),
            "pullpass.dev/enforce=yes means nothing",
        ),
        (
            json!({INJECT: "enabled", ENFORCE: "Deny"}),
            "write warn or deny",
        ),
    ];
    let namespace = |labels: &Value| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "labels-tried", "labels": labels}});
    let path = "/api/v1/namespaces?dryRun=All";
    for (labels, words) in &rows {
        let said = warnings(&fixture, "POST", path, &namespace(labels)).await;
        println!("{labels}: {said}");
        assert!(said.contains(words), "{labels}: {said}");
        assert_eq!(said.is_empty(), words.is_empty(), "{labels}: {said}");
    }
    // And who relabels one that is there; who corrects it is not.
    make_namespace(
        &fixture.cluster,
        "labels-there",
        &json!({INJECT: "enabled"}),
    )
    .await;
    let path = "/api/v1/namespaces/labels-there";
    let relabelled = |value: &str| {
        let mut namespace = namespace(&json!({INJECT: value}));
        namespace["metadata"]["name"] = "labels-there".into();
        namespace
    };
    for (value, is_warned) in [("on", true), ("all", false)] {
        let said = warnings(&fixture, "PUT", path, &relabelled(value)).await;
        assert_eq!(said.contains("means nothing"), is_warned, "{value}: {said}");
    }
}

/// A Pod's own label opts it out and never in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn warns_who_labels_a_pod_where_its_namespace_did_not_opt_in() {
    let fixture = place().await;
    for (namespace, labels) in [
        ("labels-out", json!({})),
        ("labels-in", json!({INJECT: "enabled"})),
        ("labels-disabled", json!({INJECT: "disabled"})),
    ] {
        make_namespace(&fixture.cluster, namespace, &labels).await;
    }
    for (namespace, label, is_warned) in [
        ("labels-out", Some("enabled"), true),
        ("labels-out", Some("true"), true),
        ("labels-out", Some("disabled"), false),
        ("labels-out", None, false),
        ("labels-disabled", Some("all"), true),
        ("labels-in", Some("enabled"), false),
    ] {
        let mut pod = pod(namespace, &["alpine:3"]);
        if let Some(label) = label {
            pod["metadata"]["labels"] = json!({INJECT: label});
        }
        let created = fixture.cluster.create_pod(&pod, "dryRun=All").await.ok();
        let said = created.warnings.join(" ");
        assert_eq!(
            said.contains("never in, label the namespace"),
            is_warned,
            "{namespace} {label:?}: {said}"
        );
    }
}
