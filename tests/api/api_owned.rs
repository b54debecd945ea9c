//! Who may write the Secrets that pullpass writes: nobody else, whatever his rights; and what stays free for everybody.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;

use crate::support;
use serde::Deserialize;
use serde_json::{Value, json};
use support::chart;
use support::cluster::{Answer, Cluster};
use support::fixture::{Fixture, OWN};
use support::process::make_namespace;
use support::wait;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    by: String,
    #[serde(default)]
    method: String,
    path: String,
    body: Option<Value>,
    /// What is changed of what is there.
    edit: Option<Value>,
    status: u16,
    /// What the answer says, for a refusal.
    because: Option<String>,
}

/// A client of this user, in these groups.
async fn connect_as(fixture: &Fixture, user: &str, groups: &[&str]) -> Cluster {
    let text = std::fs::read_to_string(fixture.world.kubeconfig()).unwrap();
    let mut kubeconfig: Value = serde_saphyr::from_str(&text).unwrap();
    kubeconfig["users"][0]["user"]["as"] = user.into();
    kubeconfig["users"][0]["user"]["as-groups"] = json!(groups);
    let file = fixture.file("as.kubeconfig");
    std::fs::write(&file, kubeconfig.to_string()).unwrap();
    Cluster::connect(&file).await
}

/// A client of this ServiceAccount.
async fn connect_as_account(fixture: &Fixture, namespace: &str, name: &str) -> Cluster {
    let group = format!("system:serviceaccounts:{namespace}");
    let groups = ["system:serviceaccounts", &group, "system:authenticated"];
    let user = format!("system:serviceaccount:{namespace}:{name}");
    connect_as(fixture, &user, &groups).await
}

/// Lets the user `tenant` do everything with the Secrets of a namespace.
async fn grant_secrets(cluster: &Cluster, namespace: &str) {
    let group = "rbac.authorization.k8s.io";
    let rule = json!({"apiGroups": [""], "resources": ["secrets"], "verbs": ["*"]});
    cluster
        .apply(&json!({
            "apiVersion": format!("{group}/v1"), "kind": "Role", "metadata": {"name": "tenant", "namespace": namespace},
            "rules": [rule],
        }))
        .await;
    cluster
        .apply(&json!({
            "apiVersion": format!("{group}/v1"), "kind": "RoleBinding", "metadata": {"name": "tenant", "namespace": namespace},
            "roleRef": {"apiGroup": group, "kind": "Role", "name": "tenant"},
            "subjects": [{"apiGroup": group, "kind": "User", "name": "tenant"}],
        }))
        .await;
}

/// A client for each name in the table.
async fn connect_users(fixture: &Fixture) -> BTreeMap<&'static str, Cluster> {
    let account = async |namespace, name| connect_as_account(fixture, namespace, name).await;
    BTreeMap::from([
        ("before", fixture.cluster.clone()),
        (
            "admin",
            connect_as(fixture, "admin", &["system:masters"]).await,
        ),
        (
            "tenant",
            connect_as(fixture, "tenant", &["system:authenticated"]).await,
        ),
        ("pullpass", account(OWN, "pullpass").await),
        (
            "gc",
            account("kube-system", "generic-garbage-collector").await,
        ),
        (
            "namespaces",
            account("kube-system", "namespace-controller").await,
        ),
    ])
}

/// Sends a row's request.
async fn send(admin: &Cluster, user: &Cluster, row: &Row) -> Answer {
    let Some(edit) = &row.edit else {
        return user.send(&row.method, &row.path, row.body.as_ref()).await;
    };
    let mut object = admin.get(&row.path).await.expect("the object is there");
    json_patch::merge(&mut object, edit);
    user.send("PUT", &row.path, Some(&object)).await
}

fn check(row: &Row, answer: &Answer) {
    let Row {
        by, method, path, ..
    } = row;
    let asked = format!("{by} {method} {path} {:?}", row.edit.as_ref());
    assert_eq!(answer.status, row.status, "{asked}: {}", answer.body);
    let because = row.because.as_deref().unwrap_or_default();
    let message = answer.body["message"].as_str().unwrap_or_default();
    assert!(message.contains(because), "{asked}: {message}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lets_nobody_else_write_a_secret_of_pullpass() {
    let fixture = Fixture::alone("owned").await;
    let admin = &fixture.cluster;
    let tenant = fixture.namespace("tenant").await;
    let other = fixture.namespace_name("other");
    make_namespace(admin, &other, &json!({})).await;
    for namespace in [&tenant, &other] {
        grant_secrets(admin, namespace).await;
    }
    let theirs = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "pullpass", "namespace": other}});
    admin.apply(&theirs).await;
    let table = include_str!("../data/owned.yaml")
        .replace("TENANT", &tenant)
        .replace("OTHER", &other);
    let table: Vec<Row> = serde_saphyr::from_str(&table).expect("the table is YAML");
    let users = connect_users(&fixture).await;
    let user = |row: &Row| &users[row.by.as_str()];
    admin.wait_for_policies().await;
    for row in &table {
        let answer = send(admin, user(row), row).await;
        check(row, &answer);
    }
    // And as people do it.
    let namespace = ["--namespace", tenant.as_str()];
    for user in [
        &["--as=tenant"][..],
        &["--as=admin", "--as-group=system:masters"],
    ] {
        users["pullpass"].apply(&own_secret(&tenant)).await;
        let kubectl = |arguments: &[&str]| {
            let all = [arguments, &namespace, user].concat();
            fixture.world.kubectl(&all)
        };
        let read = kubectl(&["get", "secret", "pullpass", "--output=json"]);
        let file = fixture.file("secret.json");
        std::fs::write(&file, read).unwrap();
        kubectl(&["replace", "--filename", file.to_str().unwrap()]);
        kubectl(&["delete", "secret", "pullpass", "--cascade=background"]);
    }
}

/// What pullpass writes there.
fn own_secret(namespace: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/dockerconfigjson",
        "metadata": {
            "name": "pullpass", "namespace": namespace, "labels": {"app.kubernetes.io/managed-by": "pullpass"},
            "annotations": {"pullpass.dev/covers": "nothing"},
        },
        "stringData": {".dockerconfigjson": "{\"auths\":{}}"},
    })
}

/// A process beside the cluster has a user of its own: that one is bound to the rights, and is who the policies mean.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn takes_the_user_that_the_chart_names_for_pullpass() {
    const OUTSIDE: &str = "pullpass #1: beside the cluster";
    let fixture = Fixture::alone("outside").await;
    let tenant = fixture.namespace("tenant").await;
    let settings = [
        &format!("user={OUTSIDE}")[..],
        "webhook.url=https://192.0.2.1/mutate",
    ];
    let rights = ["Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"];
    for object in chart::render(&settings) {
        let kind = object["kind"].as_str().unwrap();
        if rights.contains(&kind) || kind.starts_with("ValidatingAdmissionPolicy") {
            fixture.cluster.apply(&object).await;
        }
    }
    let outside = connect_as(&fixture, OUTSIDE, &["system:authenticated"]).await;
    let account = connect_as_account(&fixture, OWN, "pullpass").await;
    let admin = connect_as(&fixture, "admin", &["system:masters"]).await;
    let path = format!("/api/v1/namespaces/{tenant}/secrets/pullpass?fieldManager=pullpass");
    let mut own = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/dockerconfigjson",
        "metadata": {"name": "pullpass", "labels": {"app.kubernetes.io/managed-by": "pullpass"}},
        "stringData": {".dockerconfigjson": "{\"auths\":{}}"},
    });
    let forced = format!("{path}&force=true");
    fixture.cluster.wait_for_policies().await;
    wait::until("the rights", async || {
        let answer = outside.send("PATCH", &path, Some(&own)).await;
        answer.status.is_success().then_some(())
    })
    .await;
    assert_eq!(account.send("PATCH", &path, Some(&own)).await.status, 403);
    own["stringData"] = json!({".dockerconfigjson": "{}"});
    let refused = admin.send("PATCH", &forced, Some(&own)).await;
    assert_eq!(refused.status, 422, "{}", refused.body);
    // And it is held to what holds for pullpass.
    own["metadata"]["finalizers"] = json!(["example.com/keep"]);
    let refused = outside.send("PATCH", &forced, Some(&own)).await;
    let message = refused.body["message"].as_str().unwrap_or_default();
    assert!(message.contains("no finalizers"), "{message}");
}
