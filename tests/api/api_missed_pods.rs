//! Pods that were created while pullpass was away, on a real API server: found, counted, told.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod calls;

use std::collections::{BTreeMap, BTreeSet};

use crate::support;
use serde_json::{Value, json};
use support::fixture::{ECR, Fixture, references};
use support::process::{Launch, Pullpass, make_namespace, pod};
use support::wait;

/// A scene in which a Registry serves [`image`].
async fn fixture(name: &'static str) -> Fixture {
    let fixture = Fixture::alone(name).await;
    fixture.serve(&[&format!("{ECR}/team")]).await;
    fixture
}

fn image() -> String {
    format!("{ECR}/team/hello:1")
}

/// Creates a Pod of this name that a ReplicaSet of this name owns.
async fn create(fixture: &Fixture, namespace: &str, name: &str, owner: Option<&str>) -> Value {
    create_with(fixture, namespace, name, owner, json!({})).await
}

async fn create_with(
    fixture: &Fixture,
    namespace: &str,
    name: &str,
    owner: Option<&str>,
    extra: Value,
) -> Value {
    let mut object = pod(namespace, &[&image()]);
    object["metadata"] = json!({"name": name, "namespace": namespace});
    if let Some(owner) = owner {
        object["metadata"]["ownerReferences"] = json!([{
            "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": owner, "uid": format!("uid-of-{owner}"), "controller": true,
        }]);
    }
    for (place, value) in extra.as_object().unwrap() {
        let (part, key) = place.split_once('.').unwrap();
        object[part][key] = value.clone();
    }
    fixture.cluster.create_pod(&object, "").await.ok().body
}

/// Says of a Pod what the kubelet would: its image cannot be pulled.
async fn hang(fixture: &Fixture, namespace: &str, name: &str) {
    let status = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace},
        "status": {"phase": "Pending", "containerStatuses": [{
            "name": "c0", "image": image(), "imageID": "", "ready": false, "restartCount": 0,
            "state": {"waiting": {"reason": "ImagePullBackOff", "message": "401"}},
        }]},
    });
    let path = format!(
        "/api/v1/namespaces/{namespace}/pods/{name}/status?fieldManager=kubelet&force=true"
    );
    fixture
        .cluster
        .send("PATCH", &path, Some(&status))
        .await
        .ok();
}

async fn start(fixture: &Fixture, arguments: &[&'static str]) -> Pullpass {
    let launch = Launch {
        controller: true,
        arguments: arguments.to_vec(),
        ..fixture.launch().await
    };
    Pullpass::start(&launch).await
}

async fn gauge(pullpass: &Pullpass, name: &str, label: &str) -> u64 {
    pullpass.count(name, &[label]).await
}

/// The names of what Events with this reason are about.
async fn told(fixture: &Fixture, namespace: &str, reason: &str) -> BTreeSet<String> {
    let notes = notes(fixture, namespace, reason).await;
    notes.into_keys().collect()
}

/// What Events with this reason say of what.
async fn notes(fixture: &Fixture, namespace: &str, reason: &str) -> BTreeMap<String, String> {
    let path = format!("/api/v1/namespaces/{namespace}/events?fieldSelector=reason%3D{reason}");
    let list = fixture.cluster.get(&path).await.unwrap();
    let items = list["items"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    items
        .map(|event| {
            (
                text(&event["involvedObject"]["name"]),
                text(&event["message"]),
            )
        })
        .collect()
}

/// Pods that were created before pullpass was there, each kind of them once. Answers who was missed.
async fn create_missed(fixture: &Fixture, shop: &str) -> BTreeSet<String> {
    create(fixture, shop, "web-1", Some("web")).await;
    create(fixture, shop, "web-2", Some("web")).await;
    create(fixture, shop, "bare", None).await;
    let job = json!({"metadata.ownerReferences": [{
        "apiVersion": "batch/v1", "kind": "Job", "name": "once", "uid": "uid-of-once", "controller": true,
    }]});
    create_with(fixture, shop, "step", None, job).await;
    for name in ["web-1", "web-2", "bare", "step"] {
        hang(fixture, shop, name).await;
    }
    create(fixture, shop, "unscheduled", Some("web")).await;
    // These are as they should be.
    let disabled = json!({"metadata.labels": {"pullpass.dev/inject": "disabled"}});
    create_with(fixture, shop, "opted-out", None, disabled).await;
    let refers = json!({"spec.imagePullSecrets": [{"name": "pullpass"}]});
    create_with(fixture, shop, "refers", Some("web"), refers).await;
    hang(fixture, shop, "refers").await;
    let foreign = json!({"spec.containers": [{"name": "c0", "image": "alpine"}]});
    create_with(fixture, shop, "foreign", None, foreign).await;
    let account = json!({
        "apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": {"name": "strict", "namespace": shop, "annotations": {"kubernetes.io/enforce-mountable-secrets": "true"}},
    });
    fixture.cluster.apply(&account).await;
    let strict = json!({"spec.serviceAccountName": "strict"});
    create_with(fixture, shop, "strict", None, strict).await;
    ["web-1", "web-2", "bare", "step", "unscheduled"]
        .map(str::to_owned)
        .into()
}

/// Pods were read a page at a time, and nothing else was asked about them.
fn check_requests(fixture: &Fixture) {
    let pods = fixture.api.all();
    let pods = pods.iter().filter(|request| request.path.contains("/pods"));
    for request in pods {
        let path = &request.path;
        let is_page = path.starts_with("/api/v1/pods?") && path.contains("limit=100");
        assert!(request.method == "GET" && is_page, "{request:?}");
        assert!(!path.contains("watch"), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn finds_pods_that_were_missed_and_says_what_to_do() {
    let fixture = fixture("missed").await;
    let shop = fixture.namespace("shop").await;
    let missed = create_missed(&fixture, &shop).await;
    let pullpass = start(&fixture, &[]).await;

    wait::until("the missed pods to be counted", async || {
        let hanging = gauge(&pullpass, "pullpass_missed_pods{", "image_pull_failing").await;
        let waiting = gauge(&pullpass, "pullpass_missed_pods{", "pending").await;
        ((hanging, waiting) == (4, 1)).then_some(())
    })
    .await;
    let notes = notes(&fixture, &shop, "PullSecretNotReferenced").await;
    assert_eq!(notes.keys().cloned().collect::<BTreeSet<_>>(), missed);
    let delete = |name: &str| format!("kubectl delete pod {name} -n {shop}");
    for (name, said) in [
        (
            "web-1",
            format!("ReplicaSet web recreates it: {}. It", delete("web-1")),
        ),
        (
            "bare",
            format!("No controller recreates it: {}, then", delete("bare")),
        ),
        (
            "step",
            "delete the Job and create it again instead. It".to_owned(),
        ),
    ] {
        assert!(notes[name].contains(&said), "{name}: {}", notes[name]);
        assert!(notes[name].contains("lacks pullpass, of Registry missed"));
    }
    pullpass
        .wait_logged(&["an event on each says what to do"])
        .await;

    // A person does as told; what the ReplicaSet makes then is not missed.
    pullpass.register(&fixture.cluster, "scene", "missed").await;
    let said = delete("web-1");
    let arguments: Vec<&str> = said.split(' ').skip(1).collect();
    fixture.world.kubectl(&arguments);
    let path = format!("/api/v1/namespaces/{shop}/pods/web-1");
    assert!(fixture.cluster.get(&path).await.is_none());
    let made = create(&fixture, &shop, "web-3", Some("web")).await;
    assert!(references(&made), "{made}");
    check_requests(&fixture);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn finds_pods_of_a_namespace_that_opts_in_later_page_by_page() {
    const MANY: usize = 230;
    let fixture = fixture("later").await;
    let later = fixture.namespace_name("later");
    make_namespace(&fixture.cluster, &later, &json!({"scene": "later"})).await;
    for number in 0..MANY {
        create(&fixture, &later, &format!("p{number}"), None).await;
    }
    // The next scan by the timer is in ten minutes.
    let pullpass = start(&fixture, &[]).await;
    let looks = "pullpass_missed_pod_scans_total";
    wait::until("a look", async || {
        (gauge(&pullpass, looks, "succeeded").await > 0).then_some(())
    })
    .await;
    assert_eq!(pullpass.count("pullpass_missed_pods{", &[]).await, 0);

    // A Pod whose pull secret is somebody else's would not be helped by being created again.
    let foreign = fixture.namespace_name("foreign");
    make_namespace(&fixture.cluster, &foreign, &json!({"scene": "later"})).await;
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "pullpass", "namespace": foreign},
        "stringData": {"mine": "canary"},
    });
    fixture.cluster.apply(&secret).await;
    create(&fixture, &foreign, "waits", None).await;
    fixture.namespace("foreign").await;

    fixture.namespace("later").await;
    wait::until("all of them to be counted", async || {
        let waiting = gauge(&pullpass, "pullpass_missed_pods{", "pending").await;
        (waiting == MANY as u64).then_some(())
    })
    .await;
    let names = told(&fixture, &later, "PullSecretNotReferenced").await;
    assert_eq!(names.len(), MANY);
    let event = fixture
        .world
        .kubectl(&["-n", &later, "describe", "pod", "p0"]);
    let said = format!("No controller recreates it: kubectl delete pod p0 -n {later}");
    assert!(event.contains(&said), "{event}");
    let all = fixture.api.all();
    let continued = all
        .iter()
        .filter(|request| request.path.contains("continue="));
    assert!(continued.count() >= 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn says_once_which_right_is_missing() {
    let fixture = fixture("denied").await;
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "pullpass-missed-pods"},
    });
    fixture.cluster.delete(&binding).await;
    let shop = fixture.namespace("shop").await;
    create(&fixture, &shop, "waits", None).await;
    let pullpass = start(&fixture, &["--missed-pod-scan-interval=1s"]).await;
    let looks = "pullpass_missed_pod_scans_total";
    wait::until("three looks", async || {
        (gauge(&pullpass, looks, "failed").await >= 3).then_some(())
    })
    .await;
    let log = pullpass.log();
    assert_eq!(
        log.matches("failed to scan for missed Pods").count(),
        1,
        "{log}"
    );
    assert!(log.contains("ClusterRole pullpass-missed-pods"), "{log}");
    let lists = fixture.api.all();
    let lists = lists
        .iter()
        .filter(|request| request.path.starts_with("/api/v1/pods?"));
    assert!(lists.count() <= 6);
    assert!(
        told(&fixture, &shop, "PullSecretNotReferenced")
            .await
            .is_empty()
    );
}
