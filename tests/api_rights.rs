//! What pullpass may do: exactly what `manifests/rbac.yaml` says, all of it used, and no other Secret within its reach.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::{Value, json};
use support::cluster::{Cluster, read_yaml};
use support::process::pod;
use support::scene::{ECR, Scene};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    method: String,
    path: String,
    body: Option<Value>,
    status: u16,
}

/// Requests as the account that pullpass runs as, in order, and what the API server answers to each.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn may_do_what_the_table_says() {
    let scene = Scene::new("rights").await;
    let namespace = scene.namespace("tenant").await;
    let other = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "other", "namespace": namespace},
        "stringData": {"canary": "canary"},
    });
    scene.cluster.apply(&other).await;
    let table: Vec<Row> =
        serde_saphyr::from_str(include_str!("data/rights.yaml")).expect("the table is YAML");
    let pullpass = Cluster::connect(&scene.launch().await.kubeconfig).await;
    for row in table {
        let path = row.path.replace("TENANT", &namespace);
        let answer = pullpass.send(&row.method, &path, row.body.as_ref()).await;
        assert_eq!(
            answer.status, row.status,
            "{} {path}: {}",
            row.method, answer.body
        );
    }
    // And in the API server's own words.
    for (verb, name) in [
        ("get", "other"),
        ("list", ""),
        ("watch", ""),
        ("create", ""),
        ("delete", "pullpass"),
        ("update", "pullpass"),
    ] {
        let asked =
            json!({"verb": verb, "resource": "secrets", "namespace": namespace, "name": name});
        assert!(!pullpass.may(&asked).await, "{asked}");
    }
    for verb in ["get", "list", "watch", "create", "patch"] {
        let asked = json!({"verb": verb, "resource": "secrets", "namespace": namespace, "name": "pullpass"});
        assert!(pullpass.may(&asked).await, "{asked}");
    }
    assert!(
        !pullpass
            .may(&json!({"verb": "create", "resource": "pods", "namespace": namespace}))
            .await
    );
    assert!(
        !pullpass
            .may(&json!({"verb": "*", "group": "*", "resource": "*"}))
            .await
    );
}

/// A right that nothing uses has no place in the file.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uses_every_right_that_it_has() {
    let scene = Scene::new("used").await;
    scene.serve(&[&format!("{ECR}/team")]).await;
    let namespace = scene.namespace("pods").await;
    let pullpass = scene.start_controller().await;
    let image = format!("{ECR}/team/hello:1");
    scene.create(&namespace, &[&image]).await;
    // Somebody touches the Secret, so that it is read again before it is repaired.
    let object = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "pullpass", "namespace": namespace},
        "stringData": {".dockerconfigjson": "{\"auths\":{}}"},
    });
    scene.cluster.apply(&object).await;
    let login = scene.user.newest(&scene.world.moto).await.unwrap();
    scene.create_until(&namespace, &image, &login).await;
    // A namespace that no watch has shown is read live.
    let answer = pullpass.review(&pod("default", &[&image])).await;
    assert_eq!(answer["response"], json!({"uid": "test", "allowed": true}));
    let used = scene
        .api
        .all()
        .iter()
        .flat_map(|request| find_uses(&request.method, &request.path))
        .collect::<BTreeSet<_>>();

    let manifest = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests/rbac.yaml");
    let granted: BTreeSet<(String, String, bool)> =
        read_yaml(manifest).iter().flat_map(find_grants).collect();

    let unused: Vec<_> = granted.difference(&used).collect();
    assert!(
        unused.is_empty(),
        "granted and not used: {unused:?}\nused: {used:?}"
    );
    let beyond: Vec<_> = used.difference(&granted).collect();
    assert!(beyond.is_empty(), "used and not granted: {beyond:?}");
}

/// (verb, resource, in pullpass' own namespace) that a rule grants.
fn find_grants(object: &Value) -> Vec<(String, String, bool)> {
    let own = object["kind"] == "Role";
    let mut grants = Vec::new();
    for rule in object["rules"].as_array().into_iter().flatten() {
        for resource in rule["resources"].as_array().unwrap() {
            for verb in rule["verbs"].as_array().unwrap() {
                grants.push((
                    verb.as_str().unwrap().to_owned(),
                    resource.as_str().unwrap().to_owned(),
                    own,
                ));
            }
        }
    }
    grants
}

/// The same that a request needs. A first server-side apply is a create, too.
fn find_uses(method: &str, path: &str) -> Vec<(String, String, bool)> {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let mut parts: Vec<&str> = path.split('/').skip(1).collect();
    parts.drain(..if parts[0] == "api" { 2 } else { 3 });
    let own = parts.starts_with(&["namespaces", "pullpass"]) && parts.len() > 2;
    if parts.len() > 2 && parts[0] == "namespaces" {
        parts.drain(..2);
    }
    let verbs: &[&str] = match (method, parts.len()) {
        ("GET", _) if query.contains("watch=true") => &["watch"],
        ("GET", 1) => &["list"],
        ("GET", _) => &["get"],
        ("PATCH", _) => &["patch", "create"],
        _ => &["unexpected"],
    };
    verbs
        .iter()
        .map(|verb| ((*verb).to_owned(), parts[0].to_owned(), own))
        .collect()
}
