//! Pods that were created while pullpass was away, on a real API server: found, counted, told.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use support::process::{Launch, Pullpass, make_namespace, pod};
use support::scene::{ECR, Scene, references};
use support::wait;

/// A scene in which a Registry serves [`image`].
async fn scene(name: &'static str) -> Scene {
    let scene = Scene::alone(name).await;
    scene.serve(&[&format!("{ECR}/team")]).await;
    scene
}

fn image() -> String {
    format!("{ECR}/team/hello:1")
}

/// Creates a Pod of this name that a ReplicaSet of this name owns.
async fn create(scene: &Scene, namespace: &str, name: &str, owner: Option<&str>) -> Value {
    create_with(scene, namespace, name, owner, json!({})).await
}

async fn create_with(
    scene: &Scene,
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
    scene.cluster.create_pod(&object, "").await.ok().body
}

/// Says of a Pod what the kubelet would: its image cannot be pulled.
async fn hang(scene: &Scene, namespace: &str, name: &str) {
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
    scene.cluster.send("PATCH", &path, Some(&status)).await.ok();
}

async fn start(scene: &Scene, arguments: &[&'static str]) -> Pullpass {
    let launch = Launch {
        controller: true,
        arguments: arguments.to_vec(),
        ..scene.launch().await
    };
    Pullpass::start(&launch).await
}

async fn gauge(pullpass: &Pullpass, name: &str, label: &str) -> u64 {
    pullpass.count(name, &[label]).await
}

/// The names of what Events with this reason are about.
async fn told(scene: &Scene, namespace: &str, reason: &str) -> BTreeSet<String> {
    let notes = notes(scene, namespace, reason).await;
    notes.into_keys().collect()
}

/// What Events with this reason say of what.
async fn notes(scene: &Scene, namespace: &str, reason: &str) -> BTreeMap<String, String> {
    let path = format!("/api/v1/namespaces/{namespace}/events?fieldSelector=reason%3D{reason}");
    let list = scene.cluster.get(&path).await.unwrap();
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
async fn create_missed(scene: &Scene, shop: &str) -> BTreeSet<String> {
    create(scene, shop, "web-1", Some("web")).await;
    create(scene, shop, "web-2", Some("web")).await;
    create(scene, shop, "bare", None).await;
    let job = json!({"metadata.ownerReferences": [{
        "apiVersion": "batch/v1", "kind": "Job", "name": "once", "uid": "uid-of-once", "controller": true,
    }]});
    create_with(scene, shop, "step", None, job).await;
    for name in ["web-1", "web-2", "bare", "step"] {
        hang(scene, shop, name).await;
    }
    create(scene, shop, "unscheduled", Some("web")).await;
    // These are as they should be.
    let disabled = json!({"metadata.labels": {"pullpass.dev/inject": "disabled"}});
    create_with(scene, shop, "opted-out", None, disabled).await;
    let refers = json!({"spec.imagePullSecrets": [{"name": "pullpass"}]});
    create_with(scene, shop, "refers", Some("web"), refers).await;
    hang(scene, shop, "refers").await;
    let foreign = json!({"spec.containers": [{"name": "c0", "image": "alpine"}]});
    create_with(scene, shop, "foreign", None, foreign).await;
    let account = json!({
        "apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": {"name": "strict", "namespace": shop, "annotations": {"kubernetes.io/enforce-mountable-secrets": "true"}},
    });
    scene.cluster.apply(&account).await;
    let strict = json!({"spec.serviceAccountName": "strict"});
    create_with(scene, shop, "strict", None, strict).await;
    ["web-1", "web-2", "bare", "step", "unscheduled"]
        .map(str::to_owned)
        .into()
}

/// Pods were read a page at a time, and nothing else was asked about them.
fn check_requests(scene: &Scene) {
    let pods = scene.api.all();
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
    let scene = scene("missed").await;
    let shop = scene.namespace("shop").await;
    let missed = create_missed(&scene, &shop).await;
    let pullpass = start(&scene, &[]).await;

    wait::until("the missed pods to be counted", async || {
        let hanging = gauge(&pullpass, "pullpass_missed_pods{", "Hanging").await;
        let waiting = gauge(&pullpass, "pullpass_missed_pods{", "Waiting").await;
        ((hanging, waiting) == (4, 1)).then_some(())
    })
    .await;
    let notes = notes(&scene, &shop, "PullSecretNotReferenced").await;
    assert_eq!(notes.keys().cloned().collect::<BTreeSet<_>>(), missed);
    let delete = |name: &str| format!("kubectl delete pod {name} -n {shop}");
    for (name, said) in [
        (
            "web-1",
            format!("ReplicaSet web makes it again: {}. It", delete("web-1")),
        ),
        (
            "bare",
            format!("Nothing makes it again: {}, then", delete("bare")),
        ),
        (
            "step",
            "delete the Job and create it again instead. It".to_owned(),
        ),
    ] {
        assert!(notes[name].contains(&said), "{name}: {}", notes[name]);
        assert!(notes[name].contains("lacks pullpass, of Registry missed"));
    }
    let log = pullpass.log();
    assert!(log.contains("an event on each says what to do"), "{log}");

    // A person does as told; what the ReplicaSet makes then is not missed.
    pullpass.register(&scene.cluster, "scene", "missed").await;
    let said = delete("web-1");
    let arguments: Vec<&str> = said.split(' ').skip(1).collect();
    scene.world.kubectl(&arguments);
    let path = format!("/api/v1/namespaces/{shop}/pods/web-1");
    assert!(scene.cluster.get(&path).await.is_none());
    let made = create(&scene, &shop, "web-3", Some("web")).await;
    assert!(references(&made), "{made}");
    check_requests(&scene);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn finds_pods_of_a_namespace_that_opts_in_later_page_by_page() {
    const MANY: usize = 230;
    let scene = scene("later").await;
    let later = scene.namespace_name("later");
    make_namespace(&scene.cluster, &later, &json!({"scene": "later"})).await;
    for number in 0..MANY {
        create(&scene, &later, &format!("p{number}"), None).await;
    }
    let pullpass = start(&scene, &["--missed-pods-every=2s"]).await;
    let looks = "pullpass_missed_pods_looks_total";
    wait::until("a look", async || {
        (gauge(&pullpass, looks, "Done").await > 0).then_some(())
    })
    .await;
    assert_eq!(pullpass.count("pullpass_missed_pods{", &[]).await, 0);

    // A Pod whose pull secret is somebody else's would not be helped by being created again.
    let foreign = scene.namespace_name("foreign");
    make_namespace(&scene.cluster, &foreign, &json!({"scene": "later"})).await;
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "pullpass", "namespace": foreign},
        "stringData": {"mine": "canary"},
    });
    scene.cluster.apply(&secret).await;
    create(&scene, &foreign, "waits", None).await;
    scene.namespace("foreign").await;

    scene.namespace("later").await;
    wait::until("all of them to be counted", async || {
        let waiting = gauge(&pullpass, "pullpass_missed_pods{", "Waiting").await;
        (waiting == MANY as u64).then_some(())
    })
    .await;
    let names = told(&scene, &later, "PullSecretNotReferenced").await;
    assert_eq!(names.len(), MANY);
    let event = scene
        .world
        .kubectl(&["-n", &later, "describe", "pod", "p0"]);
    let said = format!("Nothing makes it again: kubectl delete pod p0 -n {later}");
    assert!(event.contains(&said), "{event}");
    let all = scene.api.all();
    let continued = all
        .iter()
        .filter(|request| request.path.contains("continue="));
    assert!(continued.count() >= 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn says_once_which_right_is_missing() {
    let scene = scene("denied").await;
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "pullpass-missed-pods"},
    });
    scene.cluster.delete(&binding).await;
    let shop = scene.namespace("shop").await;
    create(&scene, &shop, "waits", None).await;
    let pullpass = start(&scene, &["--missed-pods-every=1s"]).await;
    let looks = "pullpass_missed_pods_looks_total";
    wait::until("three looks", async || {
        (gauge(&pullpass, looks, "Failed").await >= 3).then_some(())
    })
    .await;
    let log = pullpass.log();
    assert_eq!(
        log.matches("missed pods cannot be looked for").count(),
        1,
        "{log}"
    );
    assert!(log.contains("ClusterRole pullpass-missed-pods"), "{log}");
    let lists = scene.api.all();
    let lists = lists
        .iter()
        .filter(|request| request.path.starts_with("/api/v1/pods?"));
    assert!(lists.count() <= 6);
    assert!(
        told(&scene, &shop, "PullSecretNotReferenced")
            .await
            .is_empty()
    );
}
