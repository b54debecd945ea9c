//! What is refused, and what is warned of, when Registries and Pods are written: the chart's validating webhook on a real API server.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::Path;
use std::process::Command;

use crate::support;
use axum::http::StatusCode;
use serde_json::{Value, json};
use support::cluster::Answer;
use support::fixture::{ECR, FIXTURE, Fixture, OWN, references};
use support::grant::grant_printed;
use support::process::{Pullpass, make_namespace, pod};
use support::{bed, wait};

fn image() -> String {
    format!("{ECR}/team/hello:1")
}

/// The chart's webhook configurations, for this process.
fn render(pullpass: &Pullpass) -> Vec<Value> {
    let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests/chart");
    let mut helm = Command::new(bed::dir().join("bin/helm"));
    helm.args(["template", "pullpass", "--namespace", OWN, "--set"])
        .arg("image.repository=any,webhook.enforceDeny=true,certificates.mode=secret")
        .arg(format!(
            "--set=webhook.url=https://{}/mutate",
            pullpass.address()
        ))
        .arg(format!(
            "--set-file=certificates.caBundle={}",
            pullpass.ca().display()
        ))
        .args(["-s", "templates/webhook.yaml"])
        .arg(chart);
    let output = helm.output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(&String::from_utf8(output.stdout).unwrap()).unwrap();
    documents
}

/// Applies the validating webhook configuration, for a scene's Pods and all Registries.
async fn register(fixture: &Fixture, pullpass: &Pullpass) {
    let mut documents = render(pullpass).into_iter();
    let mut configuration = documents
        .find(|object| object["kind"] == "ValidatingWebhookConfiguration")
        .unwrap();
    configuration["metadata"]["name"] = format!("00-pullpass-{}", fixture.name).into();
    for webhook in configuration["webhooks"].as_array_mut().unwrap() {
        let selector = &mut webhook["namespaceSelector"]["matchExpressions"];
        if let Some(selector) = selector.as_array_mut() {
            selector.push(json!({"key": FIXTURE, "operator": "In", "values": [fixture.name]}));
        }
    }
    fixture.cluster.apply(&configuration).await;
    let broken = registry(
        "probe",
        &json!({"excludedImages": ["registry.example.com"]}),
    );
    wait::until("the API server to ask about Registries", async || {
        let tried = create(fixture, &broken, "dryRun=All").await;
        (!tried.status.is_success()).then_some(())
    })
    .await;
}

/// A Registry with a fixed login, and more or other fields in its `spec`.
fn registry(name: &str, more: &Value) -> Value {
    let mut spec = json!({
        "images": ["registry.example.com/team"], "namespaceSelector": {"matchLabels": {"none": name}},
        "static": {"secretRef": {"name": "validate-login"}},
    });
    let fields = spec.as_object_mut().unwrap();
    fields.extend(more.as_object().unwrap().clone());
    json!({"apiVersion": "pullpass.dev/v1alpha1", "kind": "Registry", "metadata": {"name": name}, "spec": spec})
}

async fn create(fixture: &Fixture, registry: &Value, query: &str) -> Answer {
    let path = format!("/apis/pullpass.dev/v1alpha1/registries?{query}");
    fixture.cluster.send("POST", &path, Some(registry)).await
}

fn path_of(name: &str) -> String {
    format!("/apis/pullpass.dev/v1alpha1/registries/{name}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refuses_registries_that_can_serve_nothing_and_nothing_else() {
    // Webhooks of other tests would refuse it.
    let fixture = Fixture::alone("registries").await;
    // One that was written while nobody looked.
    let stale = registry(
        "stale",
        &json!({"excludedImages": ["registry.example.com"]}),
    );
    create(&fixture, &stale, "").await.ok();
    let pullpass = fixture.start().await;
    register(&fixture, &pullpass).await;

    let refused = [
        (
            json!({"excludedImages": ["other.example.com"]}),
            "spec.excludedImages[0]",
        ),
        (
            json!({"images": ["registry.example.com/team", "a.com:99999"]}),
            "spec.images[1]",
        ),
        (
            json!({"images": [format!("{ECR}/a")], "static": null, "ecr": {"identity": {"workload": {}}, "region": "us-east-1"}}),
            "spec.ecr.region",
        ),
    ];
    for (more, field) in refused {
        let answer = create(&fixture, &registry("refused", &more), "").await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{more}");
        let message = answer.body["message"].as_str().unwrap();
        assert!(message.contains(field), "{message}");
    }
    assert!(fixture.cluster.get(&path_of("refused")).await.is_none());

    // A change that breaks it is refused, too; the one that was broken before can be labelled, mended and deleted.
    create(&fixture, &registry("fine", &json!({})), "")
        .await
        .ok();
    let broken = registry("fine", &json!({"excludedImages": ["registry.example.com"]}));
    let path = format!("{}?fieldManager=test&force=true", path_of("fine"));
    let answer = fixture.cluster.send("PATCH", &path, Some(&broken)).await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
    let label = json!({
        "apiVersion": "pullpass.dev/v1alpha1", "kind": "Registry", "metadata": {"name": "stale", "labels": {"a": "b"}},
    });
    fixture.cluster.apply(&label).await;
    fixture.cluster.delete(&stale).await;
    let refused = ["subject=\"registry\"", "outcome=\"denied\""];
    assert!(pullpass.count("pullpass_validations_total", &refused).await > 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn warns_of_registries_that_need_or_fight_something() {
    let fixture = Fixture::new("warnings").await;
    let pullpass = fixture.start().await;
    register(&fixture, &pullpass).await;
    let more = json!({
        "images": ["warnings.example.com"], "namespaceSelector": {},
        "static": {"secretRef": {"name": "late"}},
    });

    let first = create(&fixture, &registry("first", &more), "").await.ok();
    let warning = first.warnings.join("\n").replace("\n… ", " ");
    assert!(warning.contains("source secret late"), "{warning}");
    assert!(warning.contains("pullpass.dev/source=true"), "{warning}");

    let half = json!({"username": "me"});
    fixture
        .put_source("late", "kubernetes.io/basic-auth", half)
        .await;
    let whole = json!({"username": "me", "password": "it's me"});
    for (data, said) in [(None, Some("password")), (Some(whole), None)] {
        if let Some(data) = data {
            fixture
                .put_source("late", "kubernetes.io/basic-auth", data)
                .await;
        }
        wait::until("the warning to say what the Secret lacks", async || {
            let other = registry("other", &more);
            let tried = create(&fixture, &other, "dryRun=All").await.ok();
            let warning = tried.warnings.join(" ").replace(" … ", " ");
            let is_said = match said {
                Some(key) => warning.contains(&format!("has no {key}")),
                None => !warning.contains("source secret"),
            };
            let ties =
                warning.contains("Registry first has the same pattern \"warnings.example.com\"");
            (is_said && ties && warning.contains("first comes first")).then_some(())
        })
        .await;
    }
    let elsewhere =
        json!({"images": ["warnings.example.com"], "static": {"secretRef": {"name": "late"}}});
    let alone = create(&fixture, &registry("alone", &elsewhere), "")
        .await
        .ok();
    assert_eq!(alone.warnings, [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn warns_of_a_narrow_registry_whose_rights_are_missing() {
    let fixture = Fixture::new("rights").await;
    let pullpass = fixture.start().await;
    register(&fixture, &pullpass).await;
    let login = json!({"username": "me", "password": "it's me"});
    fixture
        .put_source("rights-login", "kubernetes.io/basic-auth", login)
        .await;
    let narrow = registry(
        "narrow-rights",
        &json!({
            "images": ["rights.example.com"], "serviceAccountNames": ["ci"],
            "static": {"secretRef": {"name": "rights-login"}},
        }),
    );
    let warnings = async || {
        let tried = create(&fixture, &narrow, "dryRun=All").await.ok();
        tried.warnings.join(" ").replace(" … ", " ")
    };
    wait::until("the warning of missing rights", async || {
        let said = warnings().await;
        let is_said = said.contains("pullpass-narrow-rights") && said.contains("pullpass rbac");
        (is_said && !said.contains("source secret")).then_some(())
    })
    .await;
    grant_printed(&fixture, std::slice::from_ref(&narrow)).await;
    wait::until("no warning", async || {
        warnings().await.is_empty().then_some(())
    })
    .await;
}

/// Namespaces that differ in what they ask for.
async fn make_namespaces(fixture: &Fixture) {
    for (name, inject, enforce) in [
        ("warn", "enabled", "warn"),
        ("deny", "enabled", "deny"),
        ("none", "enabled", "none"),
        ("odd-warn", "true", "warn"),
        ("odd-deny", "true", "deny"),
        ("out-deny", "disabled", "deny"),
    ] {
        let labels = json!({"pullpass.dev/inject": inject, "pullpass.dev/enforce": enforce, FIXTURE: fixture.name});
        make_namespace(&fixture.cluster, &fixture.namespace_name(name), &labels).await;
    }
}

/// A label that means nothing takes nothing away: what is enforced holds, and the line says how to correct the label.
async fn enforces_where_the_label_means_nothing(fixture: &Fixture) {
    let corrected = format!(
        "kubectl label namespace {} --overwrite pullpass.dev/inject=enabled",
        fixture.namespace_name("odd-deny")
    );
    let denied = try_pod(fixture, "odd-deny", |_| {}).await;
    assert_eq!(denied.status, StatusCode::FORBIDDEN, "{denied:?}");
    let message = denied.body["message"].as_str().unwrap();
    for words in ["pullpass.dev/inject=true means nothing", &corrected] {
        assert!(message.contains(words), "{message}");
    }
    let warned = try_pod(fixture, "odd-warn", |_| {}).await.ok().warnings;
    let warned = warned.join(" ").replace("… ", "");
    assert!(
        warned.contains("pullpass.dev/inject=true means nothing"),
        "{warned}"
    );
    try_pod(fixture, "odd-deny", unmanaged).await.ok();
    let with_reference =
        |pod: &mut Value| pod["spec"]["imagePullSecrets"] = json!([{"name": "pullpass"}]);
    try_pod(fixture, "odd-deny", with_reference).await.ok();
    let out = try_pod(fixture, "out-deny", |_| {}).await.ok();
    assert!(out.warnings.is_empty(), "{out:?}");
}

async fn try_pod(fixture: &Fixture, enforce: &str, change: impl Fn(&mut Value)) -> Answer {
    let mut pod = pod(&fixture.namespace_name(enforce), &[&image()]);
    change(&mut pod);
    fixture.cluster.create_pod(&pod, "dryRun=All").await
}

/// No Registry serves its image.
fn unmanaged(pod: &mut Value) {
    pod["spec"]["containers"][0]["image"] = "alpine:3".into();
}

async fn exempts_what_needs_or_may_have_no_reference(fixture: &Fixture) {
    let account = json!({
        "apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": {"name": "strict", "namespace": fixture.namespace_name("deny"),
            "annotations": {"kubernetes.io/enforce-mountable-secrets": "true"}},
    });
    fixture.cluster.apply(&account).await;
    let with_reference =
        |pod: &mut Value| pod["spec"]["imagePullSecrets"] = json!([{"name": "pullpass"}]);
    let strict = |pod: &mut Value| pod["spec"]["serviceAccountName"] = "strict".into();
    let mirror = |pod: &mut Value| {
        pod["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "x"});
        pod["spec"]["nodeName"] = "node".into();
    };
    let free: [&dyn Fn(&mut Value); 4] = [&with_reference, &unmanaged, &strict, &mirror];
    for change in free {
        let tried = try_pod(fixture, "deny", change).await.ok();
        assert!(tried.warnings.is_empty(), "{tried:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::too_many_lines, reason = "one course of events")]
async fn enforces_references_where_a_namespace_asks() {
    let fixture = Fixture::new("enforce").await;
    fixture.serve(&[&format!("{ECR}/team")]).await;
    make_namespaces(&fixture).await;
    // Nobody mutates: every Pod comes without the reference.
    let pullpass = Pullpass::start(&fixture.launch().await).await;
    register(&fixture, &pullpass).await;
    wait::until("Pods to be refused", async || {
        let tried = try_pod(&fixture, "deny", |_| {}).await;
        (tried.status == StatusCode::FORBIDDEN).then_some(())
    })
    .await;

    let warned = try_pod(&fixture, "warn", |_| {})
        .await
        .ok()
        .warnings
        .join(" ");
    assert!(
        warned.contains("does not reference Secret pullpass"),
        "{warned}"
    );
    assert!(
        try_pod(&fixture, "none", |_| {})
            .await
            .ok()
            .warnings
            .is_empty()
    );
    let denied = try_pod(&fixture, "deny", |_| {}).await.body;
    let message = denied["message"].as_str().unwrap();
    assert!(message.contains("Registry enforce"), "{message}");
    assert!(message.contains("recreate it"), "{message}");
    let out =
        |pod: &mut Value| pod["metadata"]["labels"] = json!({"pullpass.dev/inject": "disabled"});
    let denied = try_pod(&fixture, "deny", out).await;
    assert_eq!(denied.status, StatusCode::FORBIDDEN);
    let message = denied.body["message"].as_str().unwrap();
    assert!(
        message.contains("remove the label pullpass.dev/inject=disabled"),
        "{message}"
    );

    enforces_where_the_label_means_nothing(&fixture).await;
    exempts_what_needs_or_may_have_no_reference(&fixture).await;
    exempts_foreign_secret(&fixture).await;

    // With the mutating webhook everybody gets in, and without pullpass nobody where that is asked for.
    pullpass
        .register(&fixture.cluster, FIXTURE, fixture.name)
        .await;
    assert!(references(
        &try_pod(&fixture, "deny", |_| {}).await.ok().body
    ));
    drop(pullpass);
    for change in [|_: &mut Value| {}, unmanaged] {
        let down = try_pod(&fixture, "deny", change).await;
        assert!(down.status.is_server_error(), "{down:?}");
        try_pod(&fixture, "warn", change).await.ok();
        try_pod(&fixture, "none", change).await.ok();
    }
}

async fn exempts_foreign_secret(fixture: &Fixture) {
    let foreign = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/dockerconfigjson",
        "metadata": {"name": "pullpass", "namespace": fixture.namespace_name("deny")},
        "stringData": {".dockerconfigjson": "{\"auths\":{}}"},
    });
    fixture.cluster.apply(&foreign).await;
    wait::until("Pods to be exempt", async || {
        let tried = try_pod(fixture, "deny", |_| {}).await;
        tried.status.is_success().then_some(())
    })
    .await;
    fixture.cluster.delete(&foreign).await;
    wait::until("Pods to be refused again", async || {
        let tried = try_pod(fixture, "deny", |_| {}).await;
        (!tried.status.is_success()).then_some(())
    })
    .await;
}
