//! About which Pods the API server asks when it is told the hosts of all Registries: never about fewer than those that are injected
//! into.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use pullpass::image::Reference;
use pullpass::registry::{Registries, Registry};
use serde_json::{Value, json};
use support::cluster::Cluster;
use support::process::{Launch, Pullpass};
use support::scene::{ECR, OWN, Scene, references};
use support::{bed, wait};

/// The webhook that is asked about some Pods alone.
const FILTERED: &str = "filtered-pods.pullpass.dev";

/// How many Pods are tried when nobody says otherwise; `make soak` tries ten thousand.
const PODS: usize = 1000;

/// So many at a time.
const AT_ONCE: usize = 16;

/// The chart's webhook configurations with conditions, for this process.
fn render(pullpass: &Pullpass) -> Vec<Value> {
    let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests/chart");
    let mut helm = Command::new(bed::dir().join("bin/helm"));
    helm.args(["template", "pullpass", "--namespace", OWN, "--set"])
        .arg("image.repository=any,webhook.prefilter=true,webhook.enforceDeny=true")
        .arg("--set=certificates.mode=secret,webhook.failurePolicy=Fail")
        .arg(format!(
            "--set=webhook.url=https://{}/mutate",
            pullpass.address()
        ))
        .arg(format!(
            "--set-file=certificates.caBundle={}",
            pullpass.ca().display()
        ))
        .args(["-s", "templates/webhook.yaml", "-s", "templates/rbac.yaml"])
        .arg(chart);
    let output = helm.output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    let text = String::from_utf8(output.stdout).unwrap();
    let documents: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
    let wanted = |object: &Value| {
        let name = object["metadata"]["name"].as_str();
        matches!(name, Some("00-pullpass" | "pullpass-webhooks"))
    };
    documents.into_iter().filter(wanted).collect()
}

/// A pullpass that leads and whose webhooks have conditions, in a world of its own.
struct Stage {
    scene: Scene,
    pullpass: Pullpass,
    namespace: String,
}

impl Stage {
    async fn set(name: &'static str) -> Self {
        let scene = Scene::alone(name).await;
        let launch = Launch {
            controller: true,
            arguments: vec!["--match-conditions"],
            log: "warn,pullpass::controller=info,pullpass::command=info",
            ..scene.launch().await
        };
        let mut pullpass = Pullpass::listen(&launch).await;
        for object in render(&pullpass) {
            scene.cluster.apply(&object).await;
        }
        pullpass.wait_ready().await;
        let namespace = scene.namespace("shop").await;
        Self {
            scene,
            pullpass,
            namespace,
        }
    }

    /// The expression of a webhook's condition.
    async fn condition(&self, kind: &str, webhook: &str) -> Option<String> {
        let path = format!(
            "/apis/admissionregistration.k8s.io/v1/{kind}webhookconfigurations/00-pullpass"
        );
        let configuration = self.scene.cluster.get(&path).await?;
        let webhooks = configuration["webhooks"].as_array().unwrap().iter();
        let mut webhooks = webhooks.filter(|one| one["name"] == webhook);
        let expression = &webhooks.next()?["matchConditions"][0]["expression"];
        expression.as_str().map(str::to_owned)
    }

    /// Waits until a Registry is ready; the API server asks about its images then.
    async fn wait_registry(&self, name: &str) {
        let path = format!("/apis/pullpass.dev/v1alpha1/registries/{name}");
        wait::until("the Registry to be ready", async || {
            let registry = self.scene.cluster.get(&path).await?;
            let conditions = registry["status"]["conditions"].as_array()?.iter();
            let mut ready = conditions.filter(|one| one["type"] == "Ready");
            (ready.next()?["status"] == "True").then_some(())
        })
        .await;
    }
}

fn host() -> impl Strategy<Value = String> {
    let hosts = [
        ECR,
        "registry.example.com",
        "registry.example.com:5000",
        "Registry.example.com",
        "registry.example.com.",
        "a.example.net",
        "b-1.example.net",
        "b.c.example.net",
        "example.net",
        "a.example.net:443",
        "xexample.net",
        "docker.io",
        "index.docker.io",
        "registry-1.docker.io",
        "localhost",
        "localhost:5000",
        "quay.io",
        "[::1]:5000",
        "[::1]",
        "127.0.0.1:5000",
        "library",
        "team",
        "",
    ];
    select(hosts.map(str::to_owned).to_vec())
}

fn image() -> impl Strategy<Value = String> {
    let paths = [
        "team/hello",
        "team",
        "hello",
        "library/nginx",
        "team/a/b",
        "other/hello",
        "te.am/x",
    ];
    let ends = [
        "",
        ":1",
        ":latest",
        "@sha256:0000000000000000000000000000000000000000000000000000000000000000",
        ":1@sha256:00",
    ];
    (host(), select(paths.to_vec()), select(ends.to_vec())).prop_map(|(host, path, end)| {
        let joint = if host.is_empty() { "" } else { "/" };
        format!("{host}{joint}{path}{end}")
    })
}

/// A Pod's images: of containers, of init containers and of volumes.
type Images = (Vec<String>, Vec<String>, Vec<String>);

fn images() -> impl Strategy<Value = Images> {
    (vec(image(), 1..3), vec(image(), 0..2), vec(image(), 0..2))
}

fn pod((containers, inits, volumes): &Images) -> Value {
    let list = |prefix: &str, images: &[String]| -> Vec<Value> {
        let numbered = images.iter().enumerate();
        numbered
            .map(|(number, image)| json!({"name": format!("{prefix}{number}"), "image": image}))
            .collect()
    };
    let mounted = volumes.iter().enumerate();
    let mounted: Vec<Value> = mounted
        .map(|(number, image)| json!({"name": format!("v{number}"), "image": {"reference": image}}))
        .collect();
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": "pod-"},
        "spec": {"containers": list("c", containers), "initContainers": list("i", inits), "volumes": mounted},
    })
}

/// The Registries of this test, as they are applied and as they are asked what serves an image.
fn registries() -> Vec<Value> {
    let registry = |name: &str, images: &[&str]| {
        json!({
            "apiVersion": "pullpass.dev/v1alpha1", "kind": "Registry", "metadata": {"name": name},
            "spec": {"images": images, "serves": {"namespaces": {}}, "static": {"secretRef": {"name": "login"}}},
        })
    };
    vec![
        registry(
            "exact",
            &[
                "registry.example.com/team",
                "localhost:5000",
                "[::1]:5000/team",
            ],
        ),
        registry("wild", &["*.example.net", "*.io/team"]),
        registry("hub", &["docker.io/library"]),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn asks_about_each_pod_that_is_injected_into() {
    let stage = Stage::set("conditions").await;
    let cluster = &stage.scene.cluster;
    // There is no Registry yet.
    wait::until("the first condition", async || {
        let condition = stage.condition("mutating", FILTERED).await?;
        (condition == "false").then_some(())
    })
    .await;
    let login = json!({"username": "robot", "password": "robots-password"});
    stage
        .scene
        .put_source("login", "kubernetes.io/basic-auth", login)
        .await;
    for registry in registries() {
        cluster.apply(&registry).await;
    }
    for name in ["exact", "wild", "hub"] {
        stage.wait_registry(name).await;
    }
    let condition = stage.condition("mutating", FILTERED).await;
    assert!(condition.is_some());
    let deny = stage
        .condition("validating", "enforce-deny.pullpass.dev")
        .await;
    assert_eq!(deny, condition);
    assert_eq!(
        stage
            .condition("validating", "enforce-warn.pullpass.dev")
            .await,
        None
    );
    let parsed = registries()
        .into_iter()
        .map(|one| serde_json::from_value::<Registry>(one).unwrap());
    let parsed = Arc::new(Registries::build(parsed));
    assert!(parsed.problems().is_empty(), "{:?}", parsed.problems());
    compare(&stage, &parsed).await;
}

/// Each Pod that a Registry serves is injected into, though the API server does not ask about all.
async fn compare(stage: &Stage, registries: &Arc<Registries>) {
    let said = std::env::var("PULLPASS_PODS").ok();
    let wanted = said.map_or(PODS, |pods| pods.parse().unwrap());
    let before = stage.pullpass.count("pullpass_admissions", &[]).await;
    let began = Instant::now();
    let mut runner = TestRunner::deterministic();
    let pods: Vec<Images> = (0..wanted)
        .map(|_| images().new_tree(&mut runner).unwrap().current())
        .collect();
    let (pods, next) = (Arc::new(pods), Arc::<AtomicUsize>::default());
    let workers = (0..AT_ONCE).map(|_| {
        let (pods, next, registries) =
            (Arc::clone(&pods), Arc::clone(&next), Arc::clone(registries));
        let (cluster, namespace) = (stage.scene.cluster.clone(), stage.namespace.clone());
        tokio::spawn(async move {
            let mut counts = Counts::default();
            while let Some(images) = pods.get(next.fetch_add(1, Ordering::Relaxed)) {
                counts
                    .try_pod(&cluster, &namespace, images, &registries)
                    .await;
            }
            counts
        })
    });
    let mut all = Counts::default();
    for worker in workers.collect::<Vec<_>>() {
        let counts = worker.await.unwrap();
        all.served += counts.served;
        all.others += counts.others;
        all.refused += counts.refused;
    }
    let asked = stage.pullpass.count("pullpass_admissions", &[]).await - before;
    let rate = f64::from(u32::try_from(wanted).unwrap()) / began.elapsed().as_secs_f64();
    let refused = all.refused;
    println!("{all:?}, asked about {asked}");
    println!("| generated Pods, asked about by hosts | 1 | {wanted} | {rate:.0} | {refused} | 0 |");
    assert!(all.served.min(all.others) > wanted / 10, "{all:?}");
    assert!(asked >= all.served as u64);
    assert!(asked < wanted as u64, "about {asked} of {all:?}");
}

#[derive(Debug, Default)]
struct Counts {
    served: usize,
    others: usize,
    refused: usize,
}

impl Counts {
    /// Has one made, as a dry run.
    async fn try_pod(
        &mut self,
        cluster: &Cluster,
        namespace: &str,
        images: &Images,
        registries: &Registries,
    ) {
        let mut pod = pod(images);
        pod["metadata"]["namespace"] = namespace.into();
        let answer = cluster.create_pod(&pod, "dryRun=All").await;
        if answer.status.is_success() {
            self.add(images, registries, references(&answer.body));
        } else {
            self.refused += 1;
        }
    }

    fn add(&mut self, images: &Images, registries: &Registries, is_injected: bool) {
        let labels = BTreeMap::from([("pullpass.dev/inject".to_owned(), "enabled".to_owned())]);
        let mut all = [&images.0, &images.1, &images.2].into_iter().flatten();
        let is_served = all.any(|image| {
            let reference = Reference::parse(image);
            reference.is_ok_and(|reference| registries.resolve(&labels, &reference).is_some())
        });
        assert_eq!(is_injected, is_served, "{images:?}");
        if is_served {
            self.served += 1;
        } else {
            self.others += 1;
        }
    }
}
