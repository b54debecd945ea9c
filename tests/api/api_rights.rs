//! What pullpass may do: exactly what `manifests/rbac.yaml` says, all of it used, and no other Secret within its reach.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;

use crate::support;
use base64::Engine as _;
use futures::StreamExt as _;
use serde::Deserialize;
use serde_json::{Value, json};
use support::broker::grant_broker;
use support::cluster::{Cluster, read_yaml};
use support::fixture::{ECR, Fixture, OWN};
use support::process::{make_namespace, pod};
use support::wait;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    /// Whom such an attack hit.
    cve: Option<String>,
    method: String,
    path: String,
    body: Option<Value>,
    status: u16,
    /// What the answer says, for a refusal.
    because: Option<String>,
}

/// Sends a row's request and compares the answer; `names` stand for what is made for the test.
async fn expect(user: &Cluster, row: &Row, names: &[(&str, &str)]) {
    let fill = |text: &str| {
        let each = names.iter();
        each.fold(text.to_owned(), |text, (name, value)| {
            text.replace(name, value)
        })
    };
    let body = row.body.as_ref().map(|body| {
        let filled = fill(&body.to_string());
        serde_json::from_str::<Value>(&filled).expect("names are plain text")
    });
    let path = fill(&row.path);
    let answer = user.send(&row.method, &path, body.as_ref()).await;
    let method = format!("{} {}", row.cve.as_deref().unwrap_or_default(), row.method);
    assert_eq!(
        answer.status, row.status,
        "{method} {path}: {}",
        answer.body
    );
    let because = row.because.as_deref().unwrap_or_default();
    let message = answer.body["message"].as_str().unwrap_or_default();
    assert!(message.contains(because), "{method} {path}: {message}");
}

/// Requests as the account that pullpass runs as, in order, and what the API server answers to each.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn may_do_what_the_table_says() {
    let fixture = Fixture::new("rights").await;
    let namespace = fixture.namespace("tenant").await;
    let other = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "other", "namespace": namespace},
        "stringData": {"canary": "canary"},
    });
    fixture.cluster.apply(&other).await;
    let table: Vec<Row> =
        serde_saphyr::from_str(include_str!("../data/rights.yaml")).expect("the table is YAML");
    let pullpass = Cluster::connect(&fixture.launch().await.kubeconfig).await;
    for row in &table {
        expect(&pullpass, row, &[("TENANT", &namespace)]).await;
    }
    // And in the API server's own words.
    for (verb, name) in [
        ("get", "other"),
        ("list", ""),
        ("watch", ""),
        ("create", ""),
        ("delete", "other"),
        ("update", "pullpass"),
    ] {
        let asked =
            json!({"verb": verb, "resource": "secrets", "namespace": namespace, "name": name});
        assert!(!pullpass.may(&asked).await, "{asked}");
    }
    for verb in ["get", "list", "watch", "create", "patch", "delete"] {
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Allowed {
    places: Vec<String>,
    resource: String,
    names: Vec<String>,
    verbs: Vec<String>,
    /// Only with the broker.
    #[serde(default)]
    with_broker: bool,
}

const VERBS: [&str; 12] = [
    "get",
    "list",
    "watch",
    "create",
    "update",
    "patch",
    "delete",
    "deletecollection",
    "impersonate",
    "bind",
    "escalate",
    "approve",
];

/// Every verb on every resource, in three namespaces and across all: what is not in the table is not allowed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn may_do_nothing_beyond_the_matrix() {
    // With the rights of the default installation, which are more than those that other tests run under.
    let fixture = Fixture::alone("matrix").await;
    fixture.cluster.grant_webhooks().await;
    let tenant = fixture.namespace("tenant").await;
    let pullpass = Cluster::connect(&fixture.launch().await.kubeconfig).await;
    let table: Vec<Allowed> = serde_saphyr::from_str(include_str!("../data/rights_matrix.yaml"))
        .expect("the table is YAML");
    let questions = find_questions(&fixture.cluster).await;
    assert!(questions.len() > 5000, "{} questions", questions.len());
    for with_broker in [false, true] {
        if with_broker {
            grant_broker(&fixture.cluster).await;
            let asked = json!({"verb": "create", "group": "authentication.k8s.io", "resource": "tokenreviews"});
            wait::until("the broker's rights", async || {
                pullpass.may(&asked).await.then_some(())
            })
            .await;
        }
        let allowed = find_allowed(&pullpass, &tenant, &questions).await;
        let rows = table.iter().filter(|row| with_broker || !row.with_broker);
        let expected = expand(rows);
        let beyond: Vec<_> = allowed.difference(&expected).collect();
        assert!(
            beyond.is_empty(),
            "allowed and not in the table (broker: {with_broker}): {beyond:#?}"
        );
        let lacking: Vec<_> = expected.difference(&allowed).collect();
        assert!(
            lacking.is_empty(),
            "in the table and not allowed (broker: {with_broker}): {lacking:#?}"
        );
    }
}

/// Verb, resource, name and place of what is asked.
type Question = (&'static str, String, &'static str, &'static str);

/// Which of all that is asked about is allowed.
async fn find_allowed(
    pullpass: &Cluster,
    tenant: &str,
    questions: &[Question],
) -> BTreeSet<String> {
    let ask = |(verb, resource, name, place): &Question| {
        let (verb, name, place) = (*verb, *name, *place);
        let resource = resource.clone();
        async move {
            let (plural, group) = resource.split_once('.').unwrap_or((&resource, ""));
            let (plural, subresource) = plural.split_once('/').unwrap_or((plural, ""));
            let namespace = match place {
                "*" => "",
                "tenant" => tenant,
                other => other,
            };
            let asked = json!({
                "verb": verb, "resource": plural, "subresource": subresource, "group": group,
                "name": name, "namespace": namespace,
            });
            let allowed = pullpass.may(&asked).await;
            allowed.then(|| describe(verb, &resource, name, place))
        }
    };
    let answers = futures::stream::iter(questions)
        .map(ask)
        .buffer_unordered(16);
    answers.filter_map(std::future::ready).collect().await
}

fn expand<'a>(table: impl Iterator<Item = &'a Allowed>) -> BTreeSet<String> {
    let mut expected = BTreeSet::new();
    for row in table {
        for place in &row.places {
            for name in &row.names {
                let each = row.verbs.iter();
                expected.extend(each.map(|verb| describe(verb, &row.resource, name, place)));
            }
        }
    }
    expected
}

/// All that is asked.
async fn find_questions(cluster: &Cluster) -> Vec<Question> {
    let mut questions = Vec::new();
    for (resource, namespaced) in find_resources(cluster).await {
        // A namespace's name is the namespace of a request about it.
        let within = namespaced || resource == "namespaces";
        let places: &[&'static str] = if within {
            &["*", "tenant", "kube-system", "pullpass"]
        } else {
            &["*"]
        };
        for place in places {
            for name in [
                "",
                "pullpass",
                "00-pullpass",
                "registries.pullpass.dev",
                "other",
            ] {
                questions.extend(VERBS.map(|verb| (verb, resource.clone(), name, *place)));
            }
        }
    }
    questions
}

fn describe(verb: &str, resource: &str, name: &str, place: &str) -> String {
    format!("{verb} {resource} named {name:?} in {place}")
}

/// Every resource that the API server knows, subresources included, as `resource.group`, and whether it is in namespaces.
async fn find_resources(cluster: &Cluster) -> BTreeSet<(String, bool)> {
    let mut versions = vec![(String::new(), "/api/v1".to_owned())];
    let groups = cluster.get("/apis").await.unwrap();
    for group in groups["groups"].as_array().unwrap() {
        let name = group["name"].as_str().unwrap();
        for version in group["versions"].as_array().unwrap() {
            let version = version["groupVersion"].as_str().unwrap();
            versions.push((format!(".{name}"), format!("/apis/{version}")));
        }
    }
    let mut resources = BTreeSet::new();
    for (suffix, path) in versions {
        let list = cluster.get(&path).await.unwrap();
        for resource in list["resources"].as_array().unwrap() {
            let name = resource["name"].as_str().unwrap();
            resources.insert((format!("{name}{suffix}"), resource["namespaced"] == true));
        }
    }
    resources
}

/// What RBAC cannot say is said by policies: with rights beyond those that it has, pullpass' account gets no further.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn is_refused_by_policies_what_rights_would_allow() {
    // The rights that it gets are for everything in its world.
    let fixture = Fixture::alone("attacks").await;
    let tenant = fixture.namespace("tenant").await;
    let fresh = fixture.namespace("fresh").await;
    let outside = fixture.namespace_name("outside");
    make_namespace(&fixture.cluster, &outside, &json!({})).await;
    let foreign = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/dockerconfigjson",
        "metadata": {"name": "pullpass", "namespace": tenant}, "stringData": {".dockerconfigjson": "{\"auths\":{}}"},
    });
    fixture.cluster.apply(&foreign).await;
    // As from before the policy: a key that is no key of the form.
    let kept = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/basic-auth",
        "metadata": {"name": "pullpass-a.x-b", "namespace": tenant, "labels": {"app.kubernetes.io/managed-by": "pullpass"}},
        "stringData": {"username": "a", "password": "b", "kept": "theirs"},
    });
    fixture.cluster.apply(&kept).await;
    make_namespace(&fixture.cluster, "kube-public", &fixture.labels()).await;
    let victim = make_victim(&fixture).await;
    let release = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "helm.sh/release.v1", "stringData": {"release": "ours"},
        "metadata": {"name": "sh.helm.release.v1.pullpass.v1", "namespace": OWN, "labels": {"owner": "helm"}},
    });
    fixture.cluster.apply(&release).await;
    make_builders(&fixture, &[&fresh, &outside, "kube-system", "kube-public"]).await;
    apply_idle_webhooks(&fixture.cluster).await;
    grant_more(&fixture).await;
    let table: Vec<Row> =
        serde_saphyr::from_str(include_str!("../data/attacks.yaml")).expect("the table is YAML");
    let pullpass = Cluster::connect(&fixture.launch().await.kubeconfig).await;
    let authority = base64::engine::general_purpose::STANDARD.encode(&fixture.aws.certificate);
    let names = [
        ("TENANT", tenant.as_str()),
        ("FRESH", &fresh),
        ("OUTSIDE", &outside),
        ("VICTIM", &victim),
        ("AUTHORITY", &authority),
    ];
    fixture.cluster.wait_for_policies().await;
    for row in &table {
        expect(&pullpass, row, &names).await;
    }
}

/// Another tenant's namespace, with what looks like a source.
async fn make_victim(fixture: &Fixture) -> String {
    let victim = fixture.namespace("victim").await;
    let keys = json!({
        "apiVersion": "v1", "kind": "Secret", "stringData": {"AWS_ACCESS_KEY_ID": "AKIA"},
        "metadata": {"name": "keys", "namespace": victim, "labels": {"pullpass.dev/source": "true"}},
    });
    fixture.cluster.apply(&keys).await;
    victim
}

/// ServiceAccounts of the name that pullpass may have tokens of.
async fn make_builders(fixture: &Fixture, namespaces: &[&str]) {
    for namespace in namespaces {
        let account = json!({
            "apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "builder", "namespace": namespace},
        });
        fixture.cluster.apply(&account).await;
    }
}

/// Its webhooks, called for nothing that this test makes.
async fn apply_idle_webhooks(cluster: &Cluster) {
    let webhooks = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests/webhook.yaml");
    for mut configuration in read_yaml(webhooks) {
        for entry in configuration["webhooks"].as_array_mut().unwrap() {
            entry["namespaceSelector"] = json!({"matchLabels": {"idle": "yes"}});
        }
        cluster.apply(&configuration).await;
    }
}

/// Gives pullpass' account the rights that are bound only with a setting, and deleting.
async fn grant_more(fixture: &Fixture) {
    let group = "rbac.authorization.k8s.io";
    let rules = json!([
        {"apiGroups": [""], "resources": ["serviceaccounts/token"], "resourceNames": ["builder"], "verbs": ["create"]},
        {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["pullpass"], "verbs": ["delete"]},
        {
            "apiGroups": [""], "resources": ["secrets"], "resourceNames": ["pullpass-a", "pullpass-a.x-b", "pullpass-a.y"],
            "verbs": ["create", "patch", "delete"],
        },
        {
            "apiGroups": ["admissionregistration.k8s.io"],
            "resources": ["mutatingwebhookconfigurations", "validatingwebhookconfigurations"],
            "resourceNames": ["00-pullpass"], "verbs": ["get", "patch", "delete"],
        },
        {
            "apiGroups": ["admissionregistration.k8s.io"],
            "resources": ["mutatingwebhookconfigurations", "validatingwebhookconfigurations"], "verbs": ["create"],
        },
    ]);
    let role = json!({
        "apiVersion": format!("{group}/v1"), "kind": "ClusterRole",
        "metadata": {"name": fixture.name}, "rules": rules,
    });
    let binding = json!({
        "apiVersion": format!("{group}/v1"), "kind": "ClusterRoleBinding", "metadata": {"name": fixture.name},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": fixture.name},
        "subjects": [{"kind": "ServiceAccount", "name": "pullpass", "namespace": OWN}],
    });
    fixture.cluster.apply(&role).await;
    fixture.cluster.apply(&binding).await;
}

/// A right that nothing uses has no place in the file.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uses_every_right_that_it_has() {
    let fixture = Fixture::new("used").await;
    fixture.serve(&[&format!("{ECR}/team")]).await;
    let namespace = fixture.namespace("pods").await;
    let image = format!("{ECR}/team/hello:1");
    // The webhook is not there yet: this Pod is missed, and told so.
    fixture.create(&namespace, &[&image]).await;
    let pullpass = fixture.start_controller().await;
    fixture.create(&namespace, &[&image]).await;
    // Somebody touches the Secret, so that it is read again before it is repaired.
    let object = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "pullpass", "namespace": namespace},
        "stringData": {".dockerconfigjson": "{\"auths\":{}}"},
    });
    fixture.cluster.apply(&object).await;
    let login = fixture.user.newest(&fixture.world.moto).await.unwrap();
    fixture.create_until(&namespace, &image, &login).await;
    // A namespace that no watch has shown is read live.
    let answer = pullpass.review(&pod("default", &[&image])).await;
    assert_eq!(answer["response"], json!({"uid": "test", "allowed": true}));
    wait::until("the event on the missed pod", async || {
        let all = fixture.api.all();
        let told = |path: &str| path.starts_with("/apis/events.k8s.io/");
        all.iter().any(|request| told(&request.path)).then_some(())
    })
    .await;
    // A namespace that opts out loses the Secret; what a namespace minted that is gone is deleted.
    fixture.cluster.apply(&orphan()).await;
    wait::until("nothing minted in a namespace that is gone", async || {
        let orphan = orphan()["metadata"]["name"].clone();
        let there = fixture.cluster.secret(OWN, orphan.as_str()?).await;
        there.is_none().then_some(())
    })
    .await;
    let labels = json!({"scene": "used"});
    support::process::make_namespace(&fixture.cluster, &namespace, &labels).await;
    wait::until("no pull secret", async || {
        let there = fixture.cluster.secret(&namespace, "pullpass").await;
        there.is_none().then_some(())
    })
    .await;
    let used = fixture
        .api
        .all()
        .iter()
        .flat_map(|request| find_uses(&request.method, &request.path))
        .collect::<BTreeSet<_>>();

    let granted = granted();
    let unused: Vec<_> = granted.difference(&used).collect();
    assert!(
        unused.is_empty(),
        "granted and not used: {unused:?}\nused: {used:?}"
    );
    let beyond: Vec<_> = used.difference(&granted).collect();
    assert!(beyond.is_empty(), "used and not granted: {beyond:?}");
}

/// A Secret of the credential store, minted in a namespace that is not there.
fn orphan() -> Value {
    let labels = json!({
        "pullpass.dev/store": "true",
        "pullpass.dev/tenant-namespace": "gone",
        "pullpass.dev/tenant-namespace-uid": "n-1",
        "pullpass.dev/tenant-service-account-uid": "s-1",
    });
    let annotations = json!({"pullpass.dev/tenant-service-account": "puller"});
    let name = format!("pullpass-credential-{}", "0".repeat(64));
    json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": name, "namespace": OWN, "labels": labels, "annotations": annotations},
    })
}

/// (verb, resource, in pullpass' own namespace) of all that manifests/rbac.yaml binds.
fn granted() -> BTreeSet<(String, String, bool)> {
    let manifest = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests/rbac.yaml");
    let objects = read_yaml(manifest);
    let bound: Vec<&Value> = objects
        .iter()
        .map(|object| &object["roleRef"]["name"])
        .collect();
    objects
        .iter()
        .filter(|object| bound.contains(&&object["metadata"]["name"]))
        .flat_map(find_grants)
        .collect()
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
    if path.ends_with("/selfsubjectreviews") {
        // Everybody may ask who he is: system:basic-user.
        return Vec::new();
    }
    let mut parts: Vec<&str> = path.split('/').skip(1).collect();
    parts.drain(..if parts[0] == "api" { 2 } else { 3 });
    if parts.is_empty() {
        // Everybody may ask what is served: system:discovery.
        return Vec::new();
    }
    let own = parts.starts_with(&["namespaces", "pullpass"]) && parts.len() > 2;
    if parts.len() > 2 && parts[0] == "namespaces" {
        parts.drain(..2);
    }
    let verbs: &[&str] = match (method, parts.len()) {
        ("GET", _) if query.contains("watch=true") => &["watch"],
        ("GET", 1) => &["list"],
        ("GET", _) => &["get"],
        ("PATCH", 3) => &["patch"],
        ("PATCH", _) => &["patch", "create"],
        ("POST", 1) => &["create"],
        ("DELETE", 2) => &["delete"],
        _ => &["unexpected"],
    };
    let resource = match parts[..] {
        [resource, _, subresource] => format!("{resource}/{subresource}"),
        _ => parts[0].to_owned(),
    };
    verbs
        .iter()
        .map(|verb| ((*verb).to_owned(), resource.clone(), own))
        .collect()
}

/// With the broker two rights more, and no others; without it neither.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn may_review_tokens_and_read_pods_with_the_broker_alone() {
    let fixture = Fixture::alone("broker").await;
    let tenant = fixture.namespace("tenant").await;
    let pullpass = Cluster::connect(&fixture.launch().await.kubeconfig).await;
    let review =
        json!({"verb": "create", "group": "authentication.k8s.io", "resource": "tokenreviews"});
    let pod =
        |verb: &str| json!({"verb": verb, "resource": "pods", "namespace": tenant, "name": "any"});
    for asked in [&review, &pod("get")] {
        assert!(!pullpass.may(asked).await, "{asked}");
    }
    support::broker::grant_broker(&fixture.cluster).await;
    wait::until("the rights of the broker", async || {
        (pullpass.may(&review).await && pullpass.may(&pod("get")).await).then_some(())
    })
    .await;
    for verb in VERBS {
        if !["get", "list"].contains(&verb) {
            assert!(!pullpass.may(&pod(verb)).await, "{verb}");
        }
        if verb != "create" {
            let mut other = review.clone();
            other["verb"] = verb.into();
            assert!(!pullpass.may(&other).await, "{verb}");
        }
    }
}
