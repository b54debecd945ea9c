//! What is refused, and what is warned of, when Registries and Pods are written: the chart's validating webhook on a real API server.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::path::Path;
use std::process::Command;

use axum::http::StatusCode;
use serde_json::{Value, json};
use support::cluster::Answer;
use support::process::{Pullpass, make_namespace, pod};
use support::scene::{ECR, OWN, SCENE, Scene, references};
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
async fn register(scene: &Scene, pullpass: &Pullpass) {
    let mut documents = render(pullpass).into_iter();
    let mut configuration = documents
        .find(|object| object["kind"] == "ValidatingWebhookConfiguration")
        .unwrap();
    configuration["metadata"]["name"] = format!("00-pullpass-{}", scene.name).into();
    for webhook in configuration["webhooks"].as_array_mut().unwrap() {
        let selector = &mut webhook["namespaceSelector"]["matchExpressions"];
        if let Some(selector) = selector.as_array_mut() {
            selector.push(json!({"key": SCENE, "operator": "In", "values": [scene.name]}));
        }
    }
    scene.cluster.apply(&configuration).await;
    let broken = registry("probe", &json!({"exclude": ["registry.example.com"]}));
    wait::until("the API server to ask about Registries", async || {
        let tried = create(scene, &broken, "dryRun=All").await;
        (!tried.status.is_success()).then_some(())
    })
    .await;
}

/// A Registry with a fixed login, and more or other fields in its `spec`.
fn registry(name: &str, more: &Value) -> Value {
    let mut spec = json!({
        "images": ["registry.example.com/team"], "serves": {"namespaces": {"matchLabels": {"none": name}}},
        "static": {"secretRef": {"name": "validate-login"}},
    });
    let fields = spec.as_object_mut().unwrap();
    fields.extend(more.as_object().unwrap().clone());
    json!({"apiVersion": "pullpass.dev/v1alpha1", "kind": "Registry", "metadata": {"name": name}, "spec": spec})
}

async fn create(scene: &Scene, registry: &Value, query: &str) -> Answer {
    let path = format!("/apis/pullpass.dev/v1alpha1/registries?{query}");
    scene.cluster.send("POST", &path, Some(registry)).await
}

fn path_of(name: &str) -> String {
    format!("/apis/pullpass.dev/v1alpha1/registries/{name}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refuses_registries_that_can_serve_nothing_and_nothing_else() {
    // Webhooks of other tests would refuse it.
    let scene = Scene::alone("registries").await;
    // One that was written while nobody looked.
    let stale = registry("stale", &json!({"exclude": ["registry.example.com"]}));
    create(&scene, &stale, "").await.ok();
    let pullpass = scene.start().await;
    register(&scene, &pullpass).await;

    let refused = [
        (json!({"exclude": ["other.example.com"]}), "spec.exclude[0]"),
        (
            json!({"images": ["registry.example.com/team", "a.com:99999"]}),
            "spec.images[1]",
        ),
        (
            json!({"images": [format!("{ECR}/a")], "static": null, "ecr": {"region": "us-east-1"}}),
            "spec.ecr.region",
        ),
    ];
    for (more, field) in refused {
        let answer = create(&scene, &registry("refused", &more), "").await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{more}");
        let message = answer.body["message"].as_str().unwrap();
        assert!(message.contains(field), "{message}");
    }
    assert!(scene.cluster.get(&path_of("refused")).await.is_none());

    // A change that breaks it is refused, too; the one that was broken before can be labelled, mended and deleted.
    create(&scene, &registry("fine", &json!({})), "").await.ok();
    let broken = registry("fine", &json!({"exclude": ["registry.example.com"]}));
    let path = format!("{}?fieldManager=test&force=true", path_of("fine"));
    let answer = scene.cluster.send("PATCH", &path, Some(&broken)).await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
    let label = json!({
        "apiVersion": "pullpass.dev/v1alpha1", "kind": "Registry", "metadata": {"name": "stale", "labels": {"a": "b"}},
    });
    scene.cluster.apply(&label).await;
    scene.cluster.delete(&stale).await;
    let refused = ["subject=\"Registry\"", "outcome=\"Denied\""];
    assert!(pullpass.count("pullpass_validations_total", &refused).await > 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn warns_of_registries_that_need_or_fight_something() {
    let scene = Scene::new("warnings").await;
    let pullpass = scene.start().await;
    register(&scene, &pullpass).await;
    let more = json!({
        "images": ["warnings.example.com"], "serves": {"namespaces": {}},
        "static": {"secretRef": {"name": "late"}},
    });

    let first = create(&scene, &registry("first", &more), "").await.ok();
    let warning = first.warnings.join(" ");
    assert!(warning.contains("source secret late"), "{warning}");
    assert!(warning.contains("pullpass.dev/source=true"), "{warning}");

    let half = json!({"username": "me"});
    scene
        .put_source("late", "kubernetes.io/basic-auth", half)
        .await;
    let whole = json!({"username": "me", "password": "it's me"});
    for (data, said) in [(None, Some("password")), (Some(whole), None)] {
        if let Some(data) = data {
            scene
                .put_source("late", "kubernetes.io/basic-auth", data)
                .await;
        }
        wait::until("the warning to say what the Secret lacks", async || {
            let other = registry("other", &more);
            let tried = create(&scene, &other, "dryRun=All").await.ok();
            let warning = tried.warnings.join(" ").replace(" … ", " ");
            let is_said = match said {
                Some(key) => warning.contains(&format!("has no {key}")),
                None => !warning.contains("source secret"),
            };
            let ties = warning.contains("Registry first has the pattern \"warnings.example.com\"");
            (is_said && ties && warning.contains("first comes first")).then_some(())
        })
        .await;
    }
    let elsewhere =
        json!({"images": ["warnings.example.com"], "static": {"secretRef": {"name": "late"}}});
    let alone = create(&scene, &registry("alone", &elsewhere), "")
        .await
        .ok();
    assert_eq!(alone.warnings, [""; 0]);
}

/// Namespaces that differ in what they ask for.
async fn make_namespaces(scene: &Scene) {
    for enforce in ["warn", "deny", "none"] {
        let labels = json!({"pullpass.dev/inject": "enabled", "pullpass.dev/enforce": enforce, SCENE: scene.name});
        make_namespace(&scene.cluster, &scene.namespace_name(enforce), &labels).await;
    }
}

async fn try_pod(scene: &Scene, enforce: &str, change: impl Fn(&mut Value)) -> Answer {
    let mut pod = pod(&scene.namespace_name(enforce), &[&image()]);
    change(&mut pod);
    scene.cluster.create_pod(&pod, "dryRun=All").await
}

/// No Registry serves its image.
fn unmanaged(pod: &mut Value) {
    pod["spec"]["containers"][0]["image"] = "alpine:3".into();
}

async fn exempts_what_needs_or_may_have_no_reference(scene: &Scene) {
    let account = json!({
        "apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": {"name": "strict", "namespace": scene.namespace_name("deny"),
            "annotations": {"kubernetes.io/enforce-mountable-secrets": "true"}},
    });
    scene.cluster.apply(&account).await;
    let with_reference =
        |pod: &mut Value| pod["spec"]["imagePullSecrets"] = json!([{"name": "pullpass"}]);
    let strict = |pod: &mut Value| pod["spec"]["serviceAccountName"] = "strict".into();
    let mirror = |pod: &mut Value| {
        pod["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "x"});
        pod["spec"]["nodeName"] = "node".into();
    };
    let free: [&dyn Fn(&mut Value); 4] = [&with_reference, &unmanaged, &strict, &mirror];
    for change in free {
        let tried = try_pod(scene, "deny", change).await.ok();
        assert!(tried.warnings.is_empty(), "{tried:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn enforces_references_where_a_namespace_asks() {
    let scene = Scene::new("enforce").await;
    scene.serve(&[&format!("{ECR}/team")]).await;
    make_namespaces(&scene).await;
    // Nobody mutates: every Pod comes without the reference.
    let pullpass = Pullpass::start(&scene.launch().await).await;
    register(&scene, &pullpass).await;
    wait::until("Pods to be refused", async || {
        let tried = try_pod(&scene, "deny", |_| {}).await;
        (tried.status == StatusCode::FORBIDDEN).then_some(())
    })
    .await;

    let warned = try_pod(&scene, "warn", |_| {})
        .await
        .ok()
        .warnings
        .join(" ");
    assert!(
        warned.contains("does not reference Secret pullpass"),
        "{warned}"
    );
    assert!(
        try_pod(&scene, "none", |_| {})
            .await
            .ok()
            .warnings
            .is_empty()
    );
    let denied = try_pod(&scene, "deny", |_| {}).await.body;
    let message = denied["message"].as_str().unwrap();
    assert!(message.contains("Registry enforce"), "{message}");
    assert!(message.contains("create it again"), "{message}");
    let out =
        |pod: &mut Value| pod["metadata"]["labels"] = json!({"pullpass.dev/inject": "disabled"});
    let denied = try_pod(&scene, "deny", out).await;
    assert_eq!(denied.status, StatusCode::FORBIDDEN);
    let message = denied.body["message"].as_str().unwrap();
    assert!(
        message.contains("remove its label pullpass.dev/inject=disabled"),
        "{message}"
    );

    exempts_what_needs_or_may_have_no_reference(&scene).await;
    exempts_foreign_secret(&scene).await;

    // With the mutating webhook everybody gets in, and without pullpass nobody where that is asked for.
    pullpass.register(&scene.cluster, SCENE, scene.name).await;
    assert!(references(&try_pod(&scene, "deny", |_| {}).await.ok().body));
    drop(pullpass);
    for change in [|_: &mut Value| {}, unmanaged] {
        let down = try_pod(&scene, "deny", change).await;
        assert!(down.status.is_server_error(), "{down:?}");
        try_pod(&scene, "warn", change).await.ok();
        try_pod(&scene, "none", change).await.ok();
    }
}

async fn exempts_foreign_secret(scene: &Scene) {
    let foreign = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/dockerconfigjson",
        "metadata": {"name": "pullpass", "namespace": scene.namespace_name("deny")},
        "stringData": {".dockerconfigjson": "{\"auths\":{}}"},
    });
    scene.cluster.apply(&foreign).await;
    wait::until("Pods to be exempt", async || {
        let tried = try_pod(scene, "deny", |_| {}).await;
        tried.status.is_success().then_some(())
    })
    .await;
    scene.cluster.delete(&foreign).await;
    wait::until("Pods to be refused again", async || {
        let tried = try_pod(scene, "deny", |_| {}).await;
        (!tried.status.is_success()).then_some(())
    })
    .await;
}
