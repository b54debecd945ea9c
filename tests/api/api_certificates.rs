//! Certificates of our own on a real API server: made, told, replaced and repaired, and no admission is lost.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::support;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use support::cluster::{Cluster, read_yaml};
use support::figure;
use support::fixture::{ECR, Fixture, OWN, references};
use support::netns::rounds;
use support::process::{Launch, Pullpass, pod};
use support::wait;

const KINDS: [&str; 2] = [
    "mutatingwebhookconfiguration",
    "validatingwebhookconfiguration",
];
const SECRET: &str = "pullpass-certificates";

/// Two replicas in a cluster of their own, with the rights that the chart binds for this, and webhooks that lose no Pod silently.
struct Stage {
    fixture: Fixture,
    replicas: [Pullpass; 2],
    namespace: String,
}

impl Stage {
    async fn set(name: &'static str, arguments: &[&'static str]) -> Self {
        let fixture = Fixture::alone(name).await;
        fixture.cluster.grant_webhooks().await;
        fixture.serve(&[&format!("{ECR}/team")]).await;
        let launch = Launch {
            controller: true,
            own_certificates: true,
            arguments: arguments.to_vec(),
            ..fixture.launch().await
        };
        let mut replicas = [
            Pullpass::listen(&launch).await,
            Pullpass::listen(&launch).await,
        ];
        assert!(!replicas[0].is_ready().await, "nobody is told to trust it");
        apply_webhooks(&fixture, &replicas[0]).await;
        for replica in &mut replicas {
            replica.wait_ready().await;
        }
        let namespace = fixture.namespace("shop").await;
        let called = async || try_pod(&fixture.cluster, &namespace).await.ok();
        wait::until("the API server to call it", called).await;
        Self {
            fixture,
            replicas,
            namespace,
        }
    }

    /// Whether a Pod is injected into, through the API server.
    async fn is_injected(&self) -> Result<(), String> {
        try_pod(&self.fixture.cluster, &self.namespace).await
    }

    async fn secret(&self) -> Option<Value> {
        self.fixture.cluster.secret(OWN, SECRET).await
    }

    /// Takes `caBundle` out of all webhooks, as somebody would by hand.
    fn wipe(&self) {
        for (kind, webhooks) in KINDS.into_iter().zip([1, 2]) {
            let removals = (0..webhooks).map(|at| {
                json!({"op": "remove", "path": format!("/webhooks/{at}/clientConfig/caBundle")})
            });
            let patch = removals.collect::<Value>().to_string();
            let way = ["--type=json", "--patch", &patch];
            let arguments = [["patch", kind, "00-pullpass"], way].concat();
            self.fixture.world.kubectl(&arguments);
        }
    }

    /// Wipes it and waits until it is back; answers how long that took.
    async fn wipe_and_wait(&self) -> Duration {
        let before = bundles(&self.fixture.cluster).await;
        self.wipe();
        let wiped = Instant::now();
        wait::until("caBundle to be back", async || {
            (bundles(&self.fixture.cluster).await == before).then_some(())
        })
        .await;
        wiped.elapsed()
    }

    /// The Secret, once it holds something else than `before`.
    async fn changed_secret(&self, before: &Value) -> Value {
        wait::until("the Secret to be made anew", async || {
            let secret = self.secret().await?;
            let data = &secret["data"];
            (data["ca.crt"].is_string() && data["ca.crt"] != before["data"]["ca.crt"])
                .then_some(secret)
        })
        .await
    }
}

/// How often each of these tried; none ever failed.
async fn end(streams: Vec<tokio::task::JoinHandle<(u64, Vec<String>)>>) -> Vec<u64> {
    let mut counts = Vec::new();
    for stream in streams {
        let (count, wrong) = stream.await.unwrap();
        let first = wrong.first();
        assert!(wrong.is_empty(), "{} of {count}: {first:?}", wrong.len());
        counts.push(count);
    }
    counts
}

async fn try_pod(cluster: &Cluster, namespace: &str) -> Result<(), String> {
    let pod = pod(namespace, &[&format!("{ECR}/team/hello:1")]);
    let answer = cluster.create_pod(&pod, "dryRun=All").await;
    if answer.status.is_success() && references(&answer.body) {
        Ok(())
    } else {
        Err(format!("{}: {}", answer.status, answer.body))
    }
}

/// What the webhooks are told to trust, PEM, each.
async fn bundles(cluster: &Cluster) -> Vec<String> {
    let mut bundles = Vec::new();
    for kind in KINDS {
        let path = format!("/apis/admissionregistration.k8s.io/v1/{kind}s/00-pullpass");
        let configuration = cluster.get(&path).await.unwrap();
        let webhooks = configuration["webhooks"].as_array().unwrap().iter();
        bundles.extend(webhooks.map(|webhook| {
            let encoded = webhook["clientConfig"]["caBundle"].as_str();
            decode(encoded.unwrap_or_default())
        }));
    }
    bundles
}

fn decode(encoded: &str) -> String {
    String::from_utf8(STANDARD.decode(encoded).unwrap()).unwrap()
}

/// A new connection by somebody who trusts these authorities: the certificate that is served.
async fn shake_hands(replica: std::net::SocketAddr, bundle: &str) -> reqwest::Result<Vec<u8>> {
    let authorities = reqwest::Certificate::from_pem_bundle(bundle.as_bytes())?;
    let client = reqwest::Client::builder()
        .no_proxy()
        .tls_info(true)
        .tls_certs_only(authorities)
        .build()?;
    let answer = client.get(format!("https://{replica}/")).send().await?;
    let info = answer.extensions().get::<reqwest::tls::TlsInfo>().unwrap();
    Ok(info.peer_certificate().unwrap().to_vec())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn makes_its_certificates_and_repairs_what_is_taken_away() {
    let stage = Stage::set("repair", &[]).await;
    let cluster = &stage.fixture.cluster;
    let secret = stage.secret().await.unwrap();
    assert_eq!(secret["type"], "kubernetes.io/tls");
    assert_eq!(
        secret["metadata"]["labels"],
        json!({"app.kubernetes.io/managed-by": "pullpass", "velero.io/exclude-from-backup": "true"})
    );
    let authority = decode(secret["data"]["ca.crt"].as_str().unwrap());
    assert_eq!(bundles(cluster).await, vec![authority.as_str(); 4]);
    let [one, two] = &stage.replicas;
    let served = shake_hands(one.address(), &authority).await.unwrap();
    assert_eq!(
        served,
        shake_hands(two.address(), &authority).await.unwrap()
    );

    let took = stage.wipe_and_wait().await;
    figure::within("a wiped caBundle is back", took, Duration::from_secs(5));
    stage.is_injected().await.unwrap();

    // Deleted, then damaged: made anew, and what is served meanwhile stays trusted.
    let path = format!("/api/v1/namespaces/{OWN}/secrets/{SECRET}");
    cluster.send("DELETE", &path, None).await.ok();
    stage.is_injected().await.unwrap();
    let anew = stage.changed_secret(&secret).await;
    let garbage = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": SECRET, "namespace": OWN},
        "stringData": {"ca.key": "garbage"},
    });
    cluster.apply(&garbage).await;
    stage.is_injected().await.unwrap();
    let again = stage.changed_secret(&anew).await;
    let wanted = decode(again["data"]["ca.crt"].as_str().unwrap());
    assert_eq!(wanted.matches("BEGIN").count(), 2, "old and new");
    wait::until("the API server to be told", async || {
        let told = bundles(cluster).await;
        told.iter().all(|bundle| *bundle == wanted).then_some(())
    })
    .await;
    stage.is_injected().await.unwrap();
    for replica in &stage.replicas {
        assert_eq!(
            shake_hands(replica.address(), &wanted).await.unwrap(),
            served
        );
    }

    check_fight(&stage).await;
    check_rights(&stage.fixture);
}

/// Both kinds, one after the other: told by each replica, and mended by whoever applies it again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tells_of_a_deleted_configuration_and_goes_on_when_it_is_back() {
    let stage = Stage::set("deleted", &[]).await;
    let cluster = &stage.fixture.cluster;
    let before = bundles(cluster).await;
    let missing = async |count: u64| {
        for replica in &stage.replicas {
            let name = "pullpass_webhook_configurations_missing";
            wait::until("the metric", async || {
                (replica.count(name, &[]).await == count).then_some(())
            })
            .await;
        }
    };
    missing(0).await;
    for kind in KINDS {
        let path = format!("/apis/admissionregistration.k8s.io/v1/{kind}s/00-pullpass");
        cluster.send("DELETE", &path, None).await.ok();
        missing(1).await;
        for replica in &stage.replicas {
            let told = format!("the {kind} was deleted");
            replica.wait_logged(&[&told]).await;
            assert!(replica.is_ready().await, "the other one is served");
        }
        apply_webhooks(&stage.fixture, &stage.replicas[0]).await;
        missing(0).await;
        wait::until("the API server to be told whom to trust", async || {
            (bundles(cluster).await == before).then_some(())
        })
        .await;
        let called = async || stage.is_injected().await.ok();
        wait::until("the API server to call it", called).await;
    }
}

/// Somebody who keeps at it is answered, and talked about.
async fn check_fight(stage: &Stage) {
    for _ in 0..5 {
        stage.wipe_and_wait().await;
    }
    let [one, two] = &stage.replicas;
    let logs = [one.log(), two.log()].concat();
    let told = logs.contains("another writer keeps changing caBundle");
    assert!(told, "{logs}");
    assert!(!logs.contains("PRIVATE"), "a key was logged");
}

/// What the chart says with `certificates.mode=secret`: while it changes to that, who leads still makes certificates of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaves_a_configuration_alone_whose_authority_is_given() {
    let stage = Stage::set("given", &[]).await;
    let cluster = &stage.fixture.cluster;
    let before = bundles(cluster).await;
    let path = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/00-pullpass";
    let given = stage.fixture.aws.certificate.clone();
    let mut told = cluster.get(path).await.unwrap();
    told["metadata"]["managedFields"].take();
    told["metadata"]["annotations"]["pullpass.dev/ca-bundle"] = "given".into();
    for webhook in told["webhooks"].as_array_mut().unwrap() {
        webhook["clientConfig"]["caBundle"] = STANDARD.encode(&given).into();
    }
    cluster.send("PUT", path, Some(&told)).await.ok();
    // The other one is wiped, and put back later than this one would be.
    let wipe = json!([{"op": "remove", "path": "/webhooks/0/clientConfig/caBundle"}]).to_string();
    let way = ["--type=json", "--patch", &wipe];
    let arguments = [["patch", KINDS[1], "00-pullpass"], way].concat();
    stage.fixture.world.kubectl(&arguments);
    wait::until("the other one to be put back", async || {
        (bundles(cluster).await[1..] == before[1..]).then_some(())
    })
    .await;
    assert_eq!(bundles(cluster).await[0], given);
    // As when the mode changes back.
    let annotation = "pullpass.dev/ca-bundle-";
    let annotate = ["annotate", KINDS[0], "00-pullpass", annotation];
    stage.fixture.world.kubectl(&annotate);
    wait::until("it to be pullpass' own again", async || {
        (bundles(cluster).await == before).then_some(())
    })
    .await;
}

/// Each right to the webhooks is used, and no other.
fn check_rights(fixture: &Fixture) {
    let all = fixture.api.all();
    let uses = all.iter().filter_map(|request| {
        let (before, rest) = request.path.split_once("webhookconfigurations")?;
        let verb = match request.method.as_str() {
            "GET" if rest.starts_with('/') => "get",
            "GET" if rest.contains("watch=true") => "watch",
            "GET" => "list",
            "PATCH" => "patch",
            _ => "another",
        };
        Some((before.rsplit('/').next()?, verb))
    });
    let kinds = ["mutating", "validating"].into_iter();
    let granted = kinds.flat_map(|kind| ["list", "patch", "watch"].map(|verb| (kind, verb)));
    assert_eq!(
        uses.collect::<BTreeSet<_>>(),
        granted.collect::<BTreeSet<_>>()
    );
}

/// Who leads may have its certificate from files, and stays until the others are ready: as when an installation changes to this.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gets_ready_beside_a_leader_that_has_no_certificates_of_its_own() {
    let fixture = Fixture::alone("change").await;
    fixture.cluster.grant_webhooks().await;
    let launch = Launch {
        controller: true,
        ..fixture.launch().await
    };
    let leader = Pullpass::start(&launch).await;
    wait::until("it to lead", async || {
        (leader.count("pullpass_leader", &[]).await == 1).then_some(())
    })
    .await;
    let launch = Launch {
        own_certificates: true,
        ..launch
    };
    let mut other = Pullpass::listen(&launch).await;
    apply_webhooks(&fixture, &other).await;
    other.wait_ready().await;
    assert_eq!(leader.count("pullpass_leader", &[]).await, 1);
}

/// The configurations of its webhooks, at this replica; no Pod is lost silently.
async fn apply_webhooks(fixture: &Fixture, replica: &Pullpass) {
    let manifests = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests");
    for mut configuration in read_yaml(manifests.join("webhook.yaml")) {
        for webhook in configuration["webhooks"].as_array_mut().unwrap() {
            let url = webhook["clientConfig"]["url"].as_str().unwrap();
            let (_, path) = url.split_once(":8443/").unwrap();
            let url = format!("https://{}/{path}", replica.address());
            webhook["clientConfig"]["url"] = url.into();
            webhook["failurePolicy"] = "Fail".into();
        }
        fixture.cluster.apply(&configuration).await;
    }
}

/// Tries something over and over, until it is told to stop; answers how often, and what went wrong.
fn repeat<F>(
    stop: &Arc<AtomicBool>,
    mut attempt: impl FnMut() -> F + Send + 'static,
) -> tokio::task::JoinHandle<(u64, Vec<String>)>
where
    F: Future<Output = Result<(), String>> + Send,
{
    let stop = Arc::clone(stop);
    tokio::spawn(async move {
        let (mut count, mut wrong) = (0, Vec::new());
        while !stop.load(Ordering::Relaxed) {
            wrong.extend(attempt().await.err());
            count += 1;
        }
        (count, wrong)
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replaces_certificates_and_authorities_under_a_stream_of_admissions() {
    let lives = ["--certificate-validity=20s", "--ca-validity=30s"];
    let stage = Stage::set("rotation", &lives).await;
    let stop = Arc::<AtomicBool>::default();
    let mut streams = Vec::new();
    for _ in 0..2 {
        let (cluster, namespace) = (stage.fixture.cluster.clone(), stage.namespace.clone());
        streams.push(repeat(&stop, move || {
            let (cluster, namespace) = (cluster.clone(), namespace.clone());
            async move { try_pod(&cluster, &namespace).await }
        }));
    }
    for replica in &stage.replicas {
        let (cluster, address) = (stage.fixture.cluster.clone(), replica.address());
        streams.push(repeat(&stop, move || {
            let cluster = cluster.clone();
            async move {
                let told = bundles(&cluster).await.remove(0);
                let answer = shake_hands(address, &told).await;
                answer.map(drop).map_err(|error| format!("{error:?}"))
            }
        }));
    }
    let (mut authorities, mut certificates) = (BTreeSet::new(), BTreeSet::new());
    let address = stage.replicas[1].address();
    let began = Instant::now();
    let rounds = rounds(1);
    let limit = Duration::from_mins(3) * u32::try_from(rounds).unwrap();
    while authorities.len() < 2 + rounds || certificates.len() < 4 + rounds {
        assert!(began.elapsed() < limit, "{authorities:?}");
        let told = bundles(&stage.fixture.cluster).await.remove(0);
        certificates.insert(shake_hands(address, &told).await.unwrap());
        let ended = told.split_inclusive("-----END CERTIFICATE-----\n");
        authorities.extend(ended.map(str::to_owned));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    stop.store(true, Ordering::Relaxed);
    let counts = end(streams).await;
    let all: u64 = counts.iter().sum();
    println!(
        "| {} authorities and {} certificates of its own, Fail | 1 | {all} | {:.0} | 0 | 0 |",
        authorities.len(),
        certificates.len(),
        f64::from(u32::try_from(all).unwrap()) / began.elapsed().as_secs_f64()
    );
}
