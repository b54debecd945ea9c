//! Events on a real API server: where they show, and how often.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use crate::support;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use pullpass::cluster::{EventNote, EventType, Kube, Published};
use serde_json::{Value, json};
use support::bed::Bed;
use support::cluster::Cluster;
use support::names::name;

async fn connect(kubeconfig: &str) -> Kube {
    let file = Kubeconfig::read_from(kubeconfig).unwrap();
    let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await;
    Kube::new(Client::try_from(config.unwrap()).unwrap(), name("pullpass"))
}

fn notice(kind: &str, namespace: Option<&str>, name: &str) -> EventNote {
    EventNote {
        regarding: ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some(kind.to_owned()),
            namespace: namespace.map(str::to_owned),
            name: Some(name.to_owned()),
            ..ObjectReference::default()
        },
        event_type: EventType::Warning,
        reason: "SecretNotManaged".into(),
        series: None,
        action: "Keep",
        note: format!("{} is not managed by pullpass: rename it", "é".repeat(700)),
    }
}

/// What `kubectl describe` finds: Events by the object's kind and name, in its namespace.
async fn find_events(cluster: &Cluster, namespace: &str, kind: &str, name: &str) -> Vec<Value> {
    let path = format!(
        "/api/v1/namespaces/{namespace}/events?fieldSelector=involvedObject.kind%3D{kind},involvedObject.name%3D{name}"
    );
    let list = cluster.get(&path).await.unwrap();
    list["items"].as_array().unwrap().clone()
}

#[tokio::test]
async fn shows_where_people_look_and_not_twice_in_ten_minutes() {
    let mut bed = Bed::start("api", &[]);
    let cluster = Cluster::connect(bed.field("kubeconfig")).await;
    bed.command("namespace team-a");
    let kube = connect(bed.field("kubeconfig")).await;
    let now = Timestamp::now();
    // The Secret need not be there.
    let secret = notice("Secret", Some("team-a"), "pullpass");
    assert_eq!(kube.publish(&secret, now).await, Published::Created);
    assert_eq!(kube.publish(&secret, now).await, Published::Suppressed);
    // Another process knows nothing of it.
    let other = connect(bed.field("kubeconfig")).await;
    assert_eq!(other.publish(&secret, now).await, Published::Suppressed);
    let found = find_events(&cluster, "team-a", "Secret", "pullpass").await;
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0]["type"], "Warning");
    assert_eq!(found[0]["reason"], "SecretNotManaged");
    assert_eq!(found[0]["message"], "é".repeat(512));

    let later = now.checked_add(SignedDuration::from_mins(10)).unwrap();
    assert_eq!(kube.publish(&secret, later).await, Published::Created);
    let found = find_events(&cluster, "team-a", "Secret", "pullpass").await;
    assert_eq!(found.len(), 2, "{found:?}");

    // What has no namespace is told in `default`; a longest name is no trouble.
    let longest = format!("{}.{}", "a".repeat(199), "b".repeat(53));
    let node = notice("Node", None, &longest);
    assert_eq!(kube.publish(&node, now).await, Published::Created);
    let found = find_events(&cluster, "default", "Node", &longest).await;
    assert_eq!(found.len(), 1, "{found:?}");

    let gone = notice("Secret", Some("nowhere"), "pullpass");
    assert_eq!(kube.publish(&gone, now).await, Published::Failed);
}

#[tokio::test]
async fn needs_no_right_but_to_create() {
    let mut bed = Bed::start("api", &[]);
    let cluster = Cluster::connect(bed.field("kubeconfig")).await;
    let answer = bed.command("kubeconfig teller");
    let kube = connect(answer["kubeconfig"].as_str().unwrap()).await;
    let now = Timestamp::now();
    let notice = notice("Secret", Some("default"), "pullpass");
    assert_eq!(kube.publish(&notice, now).await, Published::Failed);
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "teller"},
        "rules": [{"apiGroups": ["events.k8s.io"], "resources": ["events"], "verbs": ["create"]}],
    });
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "teller"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "teller"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "teller"}],
    });
    cluster.apply(&role).await;
    cluster.apply(&binding).await;
    // Not again at once: a failure is no reason to hurry.
    assert_eq!(kube.publish(&notice, now).await, Published::Suppressed);
    let mut minute = now;
    let told = support::wait::until("the right", async || {
        minute = minute.checked_add(SignedDuration::from_mins(1)).unwrap();
        let told = kube.publish(&notice, minute).await;
        (told != Published::Failed).then_some(told)
    })
    .await;
    assert_eq!(told, Published::Created);
}
