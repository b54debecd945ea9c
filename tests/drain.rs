//! Replicas are replaced one after the other under load, and no Pod is refused.
//!
//! The API server reaches the webhook at an address that is not loopback, where it speaks HTTP/1.1 as it does to a Service, through
//! a balancer that does what kube-proxy does: connections stay where they are, and a replica that is leaving gets new ones until
//! that has got about. A network namespace has such an address.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use support::bed::{self, Bed};
use support::cluster::Cluster;
use support::patch_only::{Replica, Setup, is_ready};
use support::wait;
use support::webhook::IMAGE;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// The address of the network namespace's bridge.
const ADDRESS: &str = "10.213.0.1";

/// How often replicas are replaced.
const RESTARTS: usize = 6;

/// Pods that are created at the same time.
const WORKERS: usize = 16;

/// How long it takes until a replica that is not ready gets no new connections.
const PROPAGATION: Duration = Duration::from_secs(1);

/// Seconds that a replica goes on answering; longer than [`PROPAGATION`].
const DRAIN_DELAY: &str = "3";

#[test]
fn loses_no_pod_when_replicas_are_replaced_under_load() {
    let inside = Command::new(bed::dir().join("bin/bed"))
        .args(["netns", "--"])
        .arg(std::env::current_exe().unwrap())
        .args([
            "--ignored",
            "--exact",
            "--nocapture",
            "inside_a_network_namespace",
        ])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&inside.stdout).into_owned()
        + &String::from_utf8_lossy(&inside.stderr);
    if inside.status.code() == Some(3) {
        println!("not shown here, as this machine allows no network namespace: {said}");
        return;
    }
    assert!(
        inside.status.success() && said.contains("1 passed"),
        "{said}"
    );
    println!("{said}");
}

/// Connections go to the replicas in turn.
#[derive(Clone, Default)]
struct Balancer {
    /// Where the webhooks and their health endpoints are.
    replicas: Arc<Mutex<Vec<(SocketAddr, SocketAddr)>>>,
    next: Arc<AtomicUsize>,
}

impl Balancer {
    fn add(&self, replica: &Replica) {
        self.replicas
            .lock()
            .unwrap()
            .push((replica.webhook, replica.health));
    }

    fn pick(&self) -> SocketAddr {
        let replicas = self.replicas.lock().unwrap();
        replicas[self.next.fetch_add(1, Ordering::Relaxed) % replicas.len()].0
    }

    async fn forward(self, listener: TcpListener) {
        loop {
            let (mut caller, _) = listener.accept().await.unwrap();
            let replica = self.pick();
            tokio::spawn(async move {
                let Ok(mut replica) = TcpStream::connect(replica).await else {
                    return;
                };
                // Either side may go away at any time; what that does to a Pod is what this test is about.
                let _ = tokio::io::copy_bidirectional(&mut caller, &mut replica).await;
            });
        }
    }

    /// Takes replicas that are not ready out, some time after they said so.
    async fn watch(self) {
        loop {
            let known = self.replicas.lock().unwrap().clone();
            for (webhook, health) in known {
                if !is_ready(health).await {
                    tokio::time::sleep(PROPAGATION).await;
                    self.replicas
                        .lock()
                        .unwrap()
                        .retain(|replica| replica.0 != webhook);
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

fn configuration(url: &str, setup: &Setup) -> Value {
    let ca = STANDARD.encode(std::fs::read(setup.certificate("ca.crt")).unwrap());
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration", "metadata": {"name": "pullpass"},
        "webhooks": [{
            "name": "inject.pullpass.dev", "admissionReviewVersions": ["v1"], "sideEffects": "None", "failurePolicy": "Fail",
            "clientConfig": {"url": url, "caBundle": ca}, "timeoutSeconds": 10,
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "shop"}},
            "rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}],
        }],
    })
}

async fn try_pod(cluster: &Cluster) -> Result<(), String> {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": "web-"},
        "spec": {"containers": [{"name": "web", "image": IMAGE}]},
    });
    let answer = cluster
        .send(
            "POST",
            "/api/v1/namespaces/shop/pods?dryRun=All",
            Some(&pod),
        )
        .await;
    let referenced = answer.body["spec"]["imagePullSecrets"] == json!([{"name": "pullpass"}]);
    if answer.status.is_success() && referenced {
        Ok(())
    } else {
        Err(format!("{} {}", answer.status, answer.body))
    }
}

/// Workers that create Pods one after the other.
struct Load {
    stop: Arc<AtomicBool>,
    workers: Vec<JoinHandle<(usize, Vec<String>)>>,
}

impl Load {
    fn start(cluster: &Cluster) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let workers = (0..WORKERS).map(|_| tokio::spawn(work(cluster.clone(), Arc::clone(&stop))));
        Self {
            workers: workers.collect(),
            stop,
        }
    }

    /// How many Pods were created, and what the API server said of the others.
    async fn stop(self) -> (usize, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        let (mut created, mut lost) = (0, Vec::new());
        for worker in self.workers {
            let (more, errors) = worker.await.unwrap();
            created += more;
            lost.extend(errors);
        }
        (created, lost)
    }
}

async fn work(cluster: Cluster, stop: Arc<AtomicBool>) -> (usize, Vec<String>) {
    let (mut created, mut lost) = (0, Vec::new());
    while !stop.load(Ordering::Relaxed) {
        match try_pod(&cluster).await {
            Ok(()) => created += 1,
            Err(error) => lost.push(error),
        }
    }
    (created, lost)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "the test above runs it, in a network namespace"]
async fn inside_a_network_namespace() {
    let mut bed = Bed::start("api", &[]);
    bed.command("namespace shop");
    let cluster = Cluster::connect(bed.field("kubeconfig")).await;
    let setup = Setup::new(ADDRESS);
    let balancer = Balancer::default();
    let mut replicas = vec![
        setup.start(ADDRESS, DRAIN_DELAY).await,
        setup.start(ADDRESS, DRAIN_DELAY).await,
    ];
    for replica in &replicas {
        balancer.add(replica);
    }
    let listener = TcpListener::bind((ADDRESS, 0)).await.unwrap();
    let url = format!("https://{}/mutate", listener.local_addr().unwrap());
    tokio::spawn(balancer.clone().forward(listener));
    tokio::spawn(balancer.clone().watch());
    let path = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";
    cluster
        .send("POST", path, Some(&configuration(&url, &setup)))
        .await
        .ok();
    wait::until("the API server to call the webhook", async || {
        try_pod(&cluster).await.ok()
    })
    .await;

    let load = Load::start(&cluster);
    for _ in 0..RESTARTS {
        let new = setup.start(ADDRESS, DRAIN_DELAY).await;
        balancer.add(&new);
        replicas.push(new);
        let old = replicas.remove(0);
        old.terminate();
        assert!(old.ended().await.success());
    }
    let (created, lost) = load.stop().await;
    assert!(
        lost.is_empty(),
        "{} of {} Pods were lost: {}",
        lost.len(),
        created + lost.len(),
        lost[0]
    );
    println!("{created} Pods, {RESTARTS} replacements, 0 lost");
}
