//! Pods that were created while pullpass was away, on a real API server: found, counted, told, evicted.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use std::collections::BTreeSet;
use std::time::Instant;

use serde_json::{Value, json};
use support::process::{Launch, Pullpass, make_namespace, pod};
use support::scene::{ECR, OWN, Scene, references};
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
    let path = format!("/api/v1/namespaces/{namespace}/events?fieldSelector=reason%3D{reason}");
    let list = scene.cluster.get(&path).await.unwrap();
    let items = list["items"].as_array().unwrap().iter();
    items
        .map(|event| event["involvedObject"]["name"].as_str().unwrap().to_owned())
        .collect()
}

async fn bind_rescue(scene: &Scene) {
    let group = "rbac.authorization.k8s.io";
    let binding = json!({
        "apiVersion": format!("{group}/v1"), "kind": "ClusterRoleBinding", "metadata": {"name": "pullpass-rescue"},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "pullpass-rescue"},
        "subjects": [{"kind": "ServiceAccount", "name": "pullpass", "namespace": OWN}],
    });
    scene.cluster.apply(&binding).await;
}

/// Pods that were created before pullpass was there, each kind of them once. Answers who was missed.
async fn create_missed(scene: &Scene, shop: &str) -> BTreeSet<String> {
    create(scene, shop, "web-1", Some("web")).await;
    create(scene, shop, "web-2", Some("web")).await;
    create(scene, shop, "bare", None).await;
    for name in ["web-1", "web-2", "bare"] {
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
    ["web-1", "web-2", "bare", "unscheduled"]
        .map(str::to_owned)
        .into()
}

/// One Pod of the one owner is gone, all others are there.
async fn check_left(scene: &Scene, shop: &str) {
    let path = format!("/api/v1/namespaces/{shop}/pods");
    let left = scene.cluster.get(&path).await.unwrap();
    let names: Vec<&str> = left["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|pod| pod["metadata"]["name"].as_str().unwrap())
        .collect();
    let of_web = ["web-1", "web-2"]
        .iter()
        .filter(|name| names.contains(*name));
    assert_eq!(of_web.count(), 1, "one of an owner: {names:?}");
    assert!(names.contains(&"bare") && names.contains(&"unscheduled") && names.contains(&"refers"));
    assert_eq!(
        told(scene, shop, "RescuePod").await,
        BTreeSet::from(["web".to_owned()])
    );
}

/// Pods were read a page at a time or by name, and never watched.
fn check_requests(scene: &Scene) {
    let pods = scene.api.all();
    let pods = pods.iter().filter(|request| request.path.contains("/pods"));
    for request in pods {
        let path = &request.path;
        assert!(!path.contains("watch"), "{path}");
        let known = path.contains("limit=100")
            || path.contains("metadata.name%3D")
            || path.ends_with("/eviction?");
        assert!(known, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn finds_tells_and_evicts_pods_that_were_missed() {
    let scene = scene("missed").await;
    let shop = scene.namespace("shop").await;
    let missed = create_missed(&scene, &shop).await;
    bind_rescue(&scene).await;
    let pullpass = start(&scene, &["--rescue=evict"]).await;

    wait::until("the missed pods to be counted", async || {
        let hanging = gauge(&pullpass, "pullpass_missed_pods{", "Hanging").await;
        let waiting = gauge(&pullpass, "pullpass_missed_pods{", "Waiting").await;
        ((hanging, waiting) == (3, 1)).then_some(())
    })
    .await;
    assert_eq!(told(&scene, &shop, "PullSecretNotReferenced").await, missed);
    // The API server has not asked the webhook yet: what would be created again could be missed again.
    let evictions = "pullpass_missed_pods_evictions_total";
    assert_eq!(pullpass.count(evictions, &[]).await, 0);
    assert!(told(&scene, &shop, "RescuePod").await.is_empty());

    let asked = Instant::now();
    pullpass.register(&scene.cluster, "scene", "missed").await;
    wait::until("an eviction", async || {
        (gauge(&pullpass, evictions, "Done").await == 1).then_some(())
    })
    .await;
    println!(
        "evicted {:.1} s after the webhook was asked again",
        asked.elapsed().as_secs_f64()
    );
    check_left(&scene, &shop).await;

    // What the ReplicaSet makes now is not missed.
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
    assert!(event.contains("delete it and create it again"), "{event}");
    let all = scene.api.all();
    let continued = all
        .iter()
        .filter(|request| request.path.contains("continue="));
    assert!(continued.count() >= 2);
    assert_eq!(
        pullpass
            .count("pullpass_missed_pods_evictions_total", &[])
            .await,
        0
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn evicts_the_same_pod_once_it_may() {
    let scene = scene("refused").await;
    let shop = scene.namespace("shop").await;
    for name in ["web-1", "web-2"] {
        create(&scene, &shop, name, Some("web")).await;
        hang(&scene, &shop, name).await;
    }
    let pullpass = start(&scene, &["--rescue=evict", "--missed-pods-every=1s"]).await;
    pullpass.register(&scene.cluster, "scene", "refused").await;
    let evictions = "pullpass_missed_pods_evictions_total";
    wait::until("two evictions that are refused", async || {
        (gauge(&pullpass, evictions, "Failed").await >= 2).then_some(())
    })
    .await;
    let web = BTreeSet::from(["web".to_owned()]);
    assert_eq!(told(&scene, &shop, "RescuePod").await, web);
    bind_rescue(&scene).await;
    wait::until("an eviction", async || {
        (gauge(&pullpass, evictions, "Done").await == 1).then_some(())
    })
    .await;
    // All that was asked for was the eviction of the one Pod.
    let all = scene.api.all();
    let asked = all.iter().filter(|one| one.path.ends_with("/eviction?"));
    let asked: BTreeSet<&str> = asked.map(|one| one.path.as_str()).collect();
    assert_eq!(asked.len(), 1, "{asked:?}");
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
