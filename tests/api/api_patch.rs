//! The patch over generated Pods, judged by a real API server: a Pod that it takes without the webhook it takes with it, and what
//! it then has differs in the three places alone.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use crate::support;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use pullpass::server::Bounds;
use serde_json::{Value, json};
use support::bed::Bed;
use support::tls::{Running, start};
use support::webhook::{HOST, IMAGE, offline, registries, webhook};

/// Pods that the API server must have taken before this test says anything.
const VALID: usize = 300;

fn registry() -> String {
    format!(
        "apiVersion: pullpass.dev/v1alpha1\nkind: Registry\nmetadata: {{name: team}}\nspec:\n  images: [{HOST}/team]\n  \
         namespaceSelector: {{matchLabels: {{pullpass.dev/inject: enabled}}}}\n  ecr: {{identity: {{workload: {{}}}}}}\n  \
         podMetadata: {{labels: {{aadpodidbinding: puller}}, annotations: {{iam.amazonaws.com/role: puller}}}}\n"
    )
}

fn key() -> impl Strategy<Value = String> {
    prop_oneof![
        select(vec![
            "aadpodidbinding",
            "iam.amazonaws.com/role",
            "app.kubernetes.io/name"
        ])
        .prop_map(str::to_owned),
        "[a-z][a-z0-9]{0,5}\\.example/[A-Za-z][A-Za-z0-9_.-]{0,8}[a-z]",
        "[a-z]{1,8}",
    ]
}

fn labels() -> impl Strategy<Value = Option<Value>> {
    option::of(
        btree_map(
            key(),
            "([A-Za-z0-9]([A-Za-z0-9_.-]{0,10}[A-Za-z0-9])?)?",
            0..4,
        )
        .prop_map(|map| json!(map)),
    )
}

fn annotations() -> impl Strategy<Value = Option<Value>> {
    option::of(btree_map(key(), any::<String>(), 0..4).prop_map(|map| json!(map)))
}

fn pull_secrets() -> impl Strategy<Value = Option<Value>> {
    let entry = prop_oneof![
        4 => select(vec!["pullpass", "regcred", "other"]).prop_map(|name| json!({"name": name})),
        1 => Just(json!({})),
    ];
    option::of(prop_oneof![
        Just(Value::Null),
        vec(entry, 0..4).prop_map(Value::from)
    ])
}

fn image() -> impl Strategy<Value = String> {
    select(vec![
        IMAGE.to_owned(),
        format!("{HOST}/team/a/b@sha256:{}", "0".repeat(64)),
        format!("{HOST}.evil.io/team/a"),
        "busybox".to_owned(),
        "quay.io:443/x/y:1".to_owned(),
    ])
}

fn container() -> impl Strategy<Value = Value> {
    let extras = vec![
        json!({}),
        json!({"env": [{"name": "A", "value": "é😀\"\\"}, {"name": "B", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]}),
        json!({"ports": [{"containerPort": 80, "protocol": "TCP"}], "resources": {"requests": {"cpu": "10m"}, "limits": {"memory": "1Gi"}}}),
        json!({"securityContext": {"runAsNonRoot": true, "capabilities": {"drop": ["ALL"]}}, "command": ["a", ""], "workingDir": "/"}),
        json!({"livenessProbe": {"httpGet": {"path": "/~0/", "port": "web"}}, "ports": [{"name": "web", "containerPort": 8080}]}),
    ];
    (image(), select(extras)).prop_map(|(image, mut container)| {
        container["image"] = json!(image);
        container
    })
}

/// Containers with names, each its own.
fn containers(prefix: &'static str, least: usize) -> impl Strategy<Value = Value> {
    vec(container(), least..3).prop_map(move |mut containers| {
        for (number, container) in containers.iter_mut().enumerate() {
            container["name"] = json!(format!("{prefix}{number}"));
        }
        Value::from(containers)
    })
}

fn volumes() -> impl Strategy<Value = Value> {
    let sources = vec![
        json!({"emptyDir": {"sizeLimit": "1Mi"}}),
        json!({"image": {"reference": IMAGE, "pullPolicy": "IfNotPresent"}}),
        json!({"configMap": {"name": "c", "optional": true}}),
        json!({"projected": {"sources": [{"serviceAccountToken": {"path": "t", "audience": "a"}}]}}),
    ];
    vec(select(sources), 0..3).prop_map(|mut volumes| {
        for (number, volume) in volumes.iter_mut().enumerate() {
            volume["name"] = json!(format!("v{number}"));
        }
        Value::from(volumes)
    })
}

/// Pods, nearly all of them valid.
fn pod() -> impl Strategy<Value = Value> {
    let extras = vec![
        json!({}),
        json!({"hostNetwork": true, "dnsPolicy": "ClusterFirstWithHostNet"}),
        json!({"schedulingGates": [{"name": "a.example/gate"}], "restartPolicy": "Never", "activeDeadlineSeconds": 60}),
        json!({"tolerations": [{"operator": "Exists"}], "nodeSelector": {"a/b": "c"}, "priority": 0, "terminationGracePeriodSeconds": 0}),
        json!({"os": {"name": "windows"}, "automountServiceAccountToken": false, "enableServiceLinks": false}),
        json!({"serviceAccountName": "default", "hostAliases": [{"ip": "127.0.0.1", "hostnames": ["a"]}]}),
        json!({"restartPolicy": "Sometimes"}),
    ];
    let named = prop_oneof![
        Just(json!({"name": "web"})),
        Just(json!({"generateName": "web-"}))
    ];
    let metadata = (named, labels(), annotations());
    let spec = (
        pull_secrets(),
        containers("c", 1),
        option::of(containers("i", 0)),
        volumes(),
        select(extras),
    );
    (metadata, spec).prop_map(
        |((mut metadata, labels, annotations), (secrets, containers, inits, volumes, mut spec))| {
            let set = |object: &mut Value, key: &str, value: Option<Value>| {
                if let Some(value) = value {
                    object[key] = value;
                }
            };
            set(&mut metadata, "labels", labels);
            set(&mut metadata, "annotations", annotations);
            set(&mut spec, "imagePullSecrets", secrets);
            set(&mut spec, "initContainers", inits);
            spec["containers"] = containers;
            spec["volumes"] = volumes;
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
        },
    )
}

async fn client(bed: &Bed) -> Client {
    let kubeconfig = Kubeconfig::read_from(bed.field("kubeconfig")).unwrap();
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .unwrap();
    Client::try_from(config).unwrap()
}

async fn create(client: &Client, path: &str, object: &Value) -> Result<Value, String> {
    let request = axum::http::Request::post(path).header("content-type", "application/json");
    let request = request.body(object.to_string().into_bytes()).unwrap();
    client
        .request::<Value>(request)
        .await
        .map_err(|error| error.to_string())
}

/// Calls the webhook for namespaces that opted in.
async fn configure(client: &Client, webhook: &Running) {
    use base64::Engine as _;
    let bundle = base64::engine::general_purpose::STANDARD.encode(&webhook.ca_pem);
    let url = format!("https://127.0.0.1:{}/mutate", webhook.address.port());
    let configuration = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration", "metadata": {"name": "pullpass"},
        "webhooks": [{
            "name": "inject.pullpass.dev", "admissionReviewVersions": ["v1"], "sideEffects": "NoneOnDryRun", "failurePolicy": "Fail",
            "reinvocationPolicy": "IfNeeded", "clientConfig": {"url": url, "caBundle": bundle}, "timeoutSeconds": 10,
            "namespaceSelector": {"matchLabels": {"pullpass.dev/inject": "enabled"}},
            "rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}],
        }],
    });
    create(
        client,
        "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations",
        &configuration,
    )
    .await
    .unwrap();
}

async fn try_pod(client: &Client, namespace: &str, pod: &Value) -> Result<Value, String> {
    create(
        client,
        &format!("/api/v1/namespaces/{namespace}/pods?dryRun=All"),
        pod,
    )
    .await
}

/// Waits until the API server calls the webhook.
async fn wait_for_webhook(client: &Client) {
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "probe"}, "spec": {"containers": [{"name": "a", "image": IMAGE}]}});
    support::wait::until("the API server to call the webhook", async || {
        let tried = try_pod(client, "shop", &pod).await.unwrap();
        (!list(&tried).is_empty()).then_some(())
    })
    .await;
}

fn list(pod: &Value) -> Vec<Value> {
    pod["spec"]["imagePullSecrets"]
        .as_array()
        .cloned()
        .unwrap_or_default()
}

/// What is left of a Pod without the three places and without what no two Pods share.
fn rest(pod: &Value) -> Value {
    let mut pod = pod.clone();
    for key in [
        "labels",
        "annotations",
        "namespace",
        "uid",
        "creationTimestamp",
        "managedFields",
        "name",
    ] {
        pod["metadata"].as_object_mut().unwrap().remove(key);
    }
    pod["spec"]
        .as_object_mut()
        .unwrap()
        .remove("imagePullSecrets");
    // It says when conditions began.
    pod.as_object_mut().unwrap().remove("status");
    // The ServiceAccount's token volume has a name of its own in each Pod.
    let mut text = pod.to_string();
    while let Some(at) = text.find("kube-api-access-") {
        text.replace_range(at..at + "kube-api-access-xxxxx".len(), "token");
    }
    serde_json::from_str(&text).unwrap()
}

fn is_managed(pod: &Value) -> bool {
    pod["spec"].to_string().contains(&format!("\"{HOST}/team"))
}

fn check(sent: &Value, without: &Value, with: &Value) {
    assert_eq!(rest(without), rest(with), "{sent}");
    let (old, new) = (list(without), list(with));
    let ours = json!({"name": "pullpass"});
    let mut expected = old.clone();
    if is_managed(sent) && !old.contains(&ours) {
        expected.push(ours);
    }
    assert_eq!(new, expected, "{sent}");
    for (name, key) in [
        ("labels", "aadpodidbinding"),
        ("annotations", "iam.amazonaws.com/role"),
    ] {
        let mut expected = without["metadata"][name]
            .as_object()
            .cloned()
            .unwrap_or_default();
        if is_managed(sent) {
            expected.entry(key).or_insert_with(|| json!("puller"));
        }
        let found = with["metadata"][name]
            .as_object()
            .cloned()
            .unwrap_or_default();
        assert_eq!(found, expected, "{name} of {sent}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn applies_to_each_pod_that_the_api_server_takes() {
    let mut bed = Bed::start("api", &[]);
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let (application, _) = webhook(offline(registries(&registry())));
    let running = start(application, Bounds::default()).await;
    let client = client(&bed).await;
    for namespace in ["shop", "plain"] {
        bed.command(&format!("namespace {namespace}"));
    }
    let label = json!({"metadata": {"labels": {"pullpass.dev/inject": "enabled"}}});
    let request = axum::http::Request::patch("/api/v1/namespaces/shop")
        .header("content-type", "application/merge-patch+json");
    client
        .request::<Value>(request.body(label.to_string().into_bytes()).unwrap())
        .await
        .unwrap();
    configure(&client, &running).await;
    wait_for_webhook(&client).await;

    let mut runner = TestRunner::deterministic();
    let (mut valid, mut managed, mut refused) = (0, 0, 0);
    while valid < VALID {
        let pod = pod().new_tree(&mut runner).unwrap().current();
        match (
            try_pod(&client, "plain", &pod).await,
            try_pod(&client, "shop", &pod).await,
        ) {
            (Ok(without), Ok(with)) => {
                check(&pod, &without, &with);
                valid += 1;
                managed += usize::from(is_managed(&pod));
            }
            (Err(_), Err(error)) => {
                assert!(error.contains("invalid"), "{error}: {pod}");
                refused += 1;
                assert!(
                    refused < VALID,
                    "most Pods must be valid; the last one: {error}"
                );
            }
            (without, with) => panic!("{pod}\nwithout the webhook: {without:?}\nwith it: {with:?}"),
        }
    }
    assert!(
        managed > VALID / 2,
        "{managed} of {valid} Pods were patched"
    );
    println!(
        "{valid} valid Pods, {managed} of them patched; {refused} invalid ones refused with and without"
    );
}
