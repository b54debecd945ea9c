//! Moving from other tools and back, by the commands of docs/MIGRATE.md as they are written, while Pods are created all the time: none
//! fails to pull. The tools' controllers are not here: what they leave is made as they make it, and what they do then is done for them.
//! `make test-consumers` builds the parts and runs this.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot be set up has failed"
)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::task::{JoinHandle, block_in_place};

use super::quick_start::page::Page;
use super::support::cluster::Cluster;
use super::support::wait;
use crate::support::site::clouds::LOGINS;
use crate::support::site::{Shell, Site};

/// How often a Pod is created.
const PAUSE: Duration = Duration::from_millis(400);
/// How many may be on their way: a slow node would have ever more to do.
const UNDER_WAY: usize = 8;
/// How many are created after the last step of a way, at least.
const MORE: usize = 2;
/// The two ways of each section.
const WAYS: [&str; 2] = ["Move in", "Move out"];

/// A tool that a section of the document is about.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Tool {
    section: String,
    namespace: String,
    /// Shell that makes what the tool made.
    before: String,
    /// Shell that does what the tool's controller does, by a part of the block of commands that it comes after.
    #[serde(default)]
    controller: BTreeMap<String, String>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_pull_fails_on_the_way_in_and_out() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |name: &str| std::fs::read_to_string(root.join(name)).unwrap();
    let tools: Vec<Tool> = serde_saphyr::from_str(&read("tests/data/migrations.yaml")).unwrap();
    let page = Page::read(&read("docs/MIGRATE.md"));
    for block in &page.blocks {
        let is_tried = tools.iter().any(|tool| tool.section == block.section);
        assert!(
            is_tried || block.section == "Before you begin",
            "{}",
            block.section
        );
    }
    let Some(site) = Site::start().await else {
        return;
    };
    let shell = site.shell("migrate");
    block_in_place(|| {
        shell.must(
            "helm install pullpass manifests/chart --namespace pullpass --create-namespace --wait \
             --set image.repository=registry.example.com/pullpass --set replicas=1",
        );
        shell.must(PREPARE);
    });
    for tool in &tools {
        let began = Instant::now();
        let created = migrate(&site, &shell, tool, &page).await;
        println!(
            "{}: {created} Pods, {} s",
            tool.section,
            began.elapsed().as_secs()
        );
    }
}

/// The Registry that a reader has by then, and kinds as the tools have them.
const PREPARE: &str = r#"
kind() { cat <<EOF
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: $2.$1}
spec:
  group: $1
  names: {kind: $3, plural: $2, singular: ${2%s}}
  scope: Namespaced
  versions:
    - name: $4
      served: true
      storage: true
      schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
---
EOF
}
(kind external-secrets.io externalsecrets ExternalSecret v1
kind acrpull.microsoft.com acrpullbindings AcrPullBinding v1beta2) | kubectl apply -f -
kubectl wait --for condition=Established crd/externalsecrets.external-secrets.io crd/acrpullbindings.acrpull.microsoft.com
kubectl apply -f - <<EOF
apiVersion: v1
kind: Secret
metadata: {name: registry-login, namespace: pullpass, labels: {pullpass.dev/source: "true"}}
type: kubernetes.io/basic-auth
stringData: {username: robot, password: change-me}
---
apiVersion: pullpass.dev/v1alpha1
kind: Registry
metadata: {name: team}
spec:
  images: [registry.example.com/team]
  namespaceSelector: {}
  static: {secretRef: {name: registry-login}}
EOF
"#;

/// The tool's namespace with a Deployment that pulls through it.
const BEFORE: &str = r#"
kubectl create namespace $NAMESPACE
until kubectl get serviceaccount default --namespace $NAMESPACE; do sleep 0.1; done
login() { kubectl create secret docker-registry $1 --namespace $NAMESPACE --docker-server registry.example.com --docker-username before --docker-password old-login; }
list() { kubectl patch serviceaccount default --namespace $NAMESPACE --patch '{"imagePullSecrets": [{"name": "'$1'"}]}'; }
deploy() { kubectl apply --namespace $NAMESPACE -f - <<EOF
apiVersion: apps/v1
kind: Deployment
metadata: {name: api}
spec:
  selector: {matchLabels: {app: api}}
  template:
    metadata: {labels: {app: api}}
    spec:
      ${1:-}
      containers: [{name: api, image: registry.example.com/team/hello:1, imagePullPolicy: Always}]
EOF
}
"#;

/// Goes both ways; answers how many Pods were created meanwhile.
async fn migrate(site: &Site, shell: &Shell, tool: &Tool, page: &Page) -> usize {
    block_in_place(|| {
        shell.must(&format!("export NAMESPACE={}", tool.namespace));
        shell.must(&format!("{BEFORE}{}", tool.before));
        shell.must("kubectl rollout status deployment/api --namespace $NAMESPACE --timeout 60s");
    });
    let stream = Stream::start(&site.cluster, &tool.namespace);
    let logins = LOGINS.map(|(user, password)| (user.to_owned(), password.to_owned()));
    for (way, left) in WAYS.into_iter().zip(&logins) {
        stream.wait_for_more().await;
        let mut blocks = page.blocks.iter();
        assert!(
            blocks.any(|block| block.section == tool.section && block.heading == way),
            "{}: no {way}",
            tool.section
        );
        for block in &page.blocks {
            if block.section != tool.section || block.heading != way {
                continue;
            }
            block_in_place(|| run(site, shell, tool, &block.text));
        }
        // What was left behind logs nobody in any more.
        site.clouds.allow(vec![left.clone()]).await;
        stream.wait_for_more().await;
        site.clouds.allow(logins.to_vec()).await;
    }
    stream.end(site).await
}

fn run(site: &Site, shell: &Shell, tool: &Tool, block: &str) {
    let ran = shell.run(block);
    assert!(
        ran.succeeded,
        "{}:\n{block}\n{}\n{}",
        tool.section,
        ran.output,
        site.tell()
    );
    for (part, script) in &tool.controller {
        if block.contains(part) {
            shell.must(script);
        }
    }
}

/// Pods that are created one after the other, each as the Deployment's template says by then, and end as soon as they started.
struct Stream {
    cluster: Cluster,
    namespace: String,
    ends: Arc<AtomicBool>,
    task: JoinHandle<usize>,
}

impl Stream {
    fn start(cluster: &Cluster, namespace: &str) -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        let task = tokio::spawn(create_pods(
            cluster.clone(),
            namespace.to_owned(),
            Arc::clone(&ends),
        ));
        Self {
            cluster: cluster.clone(),
            namespace: namespace.to_owned(),
            ends,
            task,
        }
    }

    async fn pods(&self) -> BTreeMap<String, String> {
        list_pods(&self.cluster, &self.namespace).await
    }

    /// Waits until some that were created after now have pulled.
    async fn wait_for_more(&self) {
        let before = self.pods().await;
        wait::until("further Pods to pull", async || {
            let pods = self.pods().await.into_iter();
            let pulled =
                pods.filter(|(name, phase)| phase == "Succeeded" && !before.contains_key(name));
            (pulled.count() >= MORE).then_some(())
        })
        .await;
    }

    /// All of them pulled at their first try, and are gone then: what ended is work for the kubelet as long as it is there.
    async fn end(self, site: &Site) -> usize {
        self.ends.store(true, Ordering::Release);
        wait::until("the last Pods to pull", async || {
            let is_done = self.task.is_finished();
            let pods = self.pods().await;
            (is_done && pods.values().all(|phase| phase == "Succeeded")).then_some(())
        })
        .await;
        let path = format!(
            "/api/v1/namespaces/{}/events?fieldSelector=reason=Failed",
            self.namespace
        );
        let failed = self.cluster.get(&path).await.unwrap();
        let failed = failed["items"].as_array().unwrap();
        assert!(failed.is_empty(), "{failed:#?}\n{}", site.tell());
        for name in self.pods().await.into_keys() {
            let metadata = json!({"name": name, "namespace": self.namespace});
            let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata});
            self.cluster.delete(&pod).await;
        }
        self.task.await.unwrap()
    }
}

/// The names and phases of a stream's Pods.
async fn list_pods(cluster: &Cluster, namespace: &str) -> BTreeMap<String, String> {
    let path = format!("/api/v1/namespaces/{namespace}/pods?labelSelector=stream");
    let pods = cluster.get(&path).await.unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let pods = pods["items"].as_array().unwrap().iter();
    pods.map(|pod| {
        (
            text(&pod["metadata"]["name"]),
            text(&pod["status"]["phase"]),
        )
    })
    .collect()
}

async fn create_pods(cluster: Cluster, namespace: String, ends: Arc<AtomicBool>) -> usize {
    let path = format!("/apis/apps/v1/namespaces/{namespace}/deployments/api");
    let mut count = 0;
    while !ends.load(Ordering::Acquire) {
        let pods = list_pods(&cluster, &namespace).await;
        let under_way = pods.values().filter(|phase| *phase != "Succeeded");
        if under_way.count() < UNDER_WAY {
            let deployment = cluster.get(&path).await.unwrap();
            let mut spec = deployment["spec"]["template"]["spec"].clone();
            spec["restartPolicy"] = json!("Never");
            spec["containers"][0]["args"] = json!(["--exit", "0"]);
            let pod = json!({
                "apiVersion": "v1", "kind": "Pod", "spec": spec,
                "metadata": {"name": format!("stream-{count}"), "namespace": namespace, "labels": {"stream": "yes"}},
            });
            cluster.create_pod(&pod, "").await.ok();
            count += 1;
        }
        tokio::time::sleep(PAUSE).await;
    }
    count
}
