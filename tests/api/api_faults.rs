//! What happens to a cluster and to pullpass, on a real API server: docs/FAULTS.md lists it.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use std::ops::RangeInclusive;
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use crate::support;
use serde_json::{Value, json};
use support::balancer::Balancer;
use support::fixture::{ECR, FIXTURE, Fixture, OWN, references};
use support::pki::{Authority, ENDED, VALID};
use support::process::{Launch, Pullpass, configuration, make_certificates, make_namespace, pod};
use support::proxy::{Fault, Seen};
use support::wait;

/// The address of these tests' webhooks.
const LOOPBACK: &str = "127.0.0.1";

/// How long the API server waits for an answer where a test says so, in seconds.
const TIMEOUT: u32 = 2;

fn image() -> String {
    format!("{ECR}/team/hello:1")
}

/// A cluster of its own: nobody else's API server is stopped.
async fn fixture(name: &'static str) -> Fixture {
    let fixture = Fixture::alone(name).await;
    fixture.serve(&[&format!("{ECR}/team")]).await;
    fixture
}

fn tell_api_server(fixture: &Fixture, what: &str) {
    fixture.world.api.lock().unwrap().command(what);
}

/// The lists among these requests, by path.
fn count_lists(requests: &[Seen]) -> std::collections::BTreeMap<String, usize> {
    let mut lists = std::collections::BTreeMap::new();
    for request in requests {
        let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
        if request.method == "GET" && query.contains("limit=") {
            *lists.entry(path.to_owned()).or_default() += 1;
        }
    }
    lists
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_from_memory_and_lists_little_while_the_api_server_flaps() {
    const FLAPS: usize = 3;
    let fixture = fixture("flaps").await;
    let shop = fixture.namespace("shop").await;
    let pullpass = fixture.start_controller().await;
    let first = fixture.create(&shop, &[&image()]).await;
    assert!(references(&first.body), "{}", first.body);
    let watches = fixture.api.connections();
    fixture.api.forget();
    let review = pod(&shop, &[&image()]);
    for flap in 1..=FLAPS {
        tell_api_server(&fixture, "stop");
        // pullpass has noticed, and tries again.
        let before = fixture.api.connections();
        wait::until("a watch to begin anew", async || {
            (fixture.api.connections() > before).then_some(())
        })
        .await;
        for _ in 0..10 {
            let answer = pullpass.review(&review).await;
            assert!(answer["response"]["patch"].is_string(), "{answer}");
            assert!(answer["response"]["warnings"].is_null(), "{answer}");
        }
        assert!(pullpass.is_ready().await);
        tell_api_server(&fixture, "start");
        // A namespace that is made now is seen by the watches.
        let name = fixture.namespace(&format!("after{flap}")).await;
        fixture.wait_served(&name, &image()).await;
    }
    let attempts = fixture.api.connections() - watches;
    println!("{attempts} connections in {FLAPS} flaps");
    assert!(attempts < 100 * FLAPS as u64, "{attempts} connections");
    for (path, lists) in count_lists(&fixture.api.all()) {
        assert!(lists <= 3 * FLAPS, "{lists} lists of {path}");
    }
    assert_eq!(fixture.user.minted(&fixture.world.moto).await.len(), 1);
}

/// Secrets under the name of a pull secret where nobody opted in.
async fn create_others(fixture: &Fixture, count: usize) {
    for at in 0..count {
        let namespace = fixture.namespace_name(&format!("other{at}"));
        make_namespace(&fixture.cluster, &namespace, &json!({})).await;
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "pullpass", "namespace": namespace},
        });
        fixture.cluster.apply(&secret).await;
    }
}

/// Whoever fills the list of pull secrets, or an API server that is slow with it, keeps nobody from serving.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serves_pods_while_the_list_of_pull_secrets_does_not_end() {
    // More than the first page holds.
    const OTHERS: usize = 60;
    let fixture = fixture("listing").await;
    let [shop, there] = [
        fixture.namespace("shop").await,
        fixture.namespace("there").await,
    ];
    create_others(&fixture, OTHERS).await;
    let first = fixture.start().await;
    let created = fixture.create(&there, &[&image()]).await;
    assert!(references(&created.body), "{}", created.body);
    let held = fixture.pull_secret(&there).await;
    first.terminate();

    fixture.api.inject(|seen| {
        let is_page =
            seen.path.contains("metadata.name%3Dpullpass&") && seen.path.contains("continue=");
        is_page.then_some(Fault::Hang)
    });
    fixture.api.forget();
    let pullpass = fixture.start_controller().await;
    for namespace in [&shop, &there] {
        let created = fixture.create(namespace, &[&image()]).await;
        assert!(references(&created.body), "{}", created.body);
        assert_eq!(created.warnings, [] as [&str; 0]);
    }
    assert!(fixture.has_pull_secret(&shop).await);
    assert_eq!(
        fixture.pull_secret(&there).await,
        held,
        "nothing was written"
    );
    assert!(
        !fixture
            .api
            .all()
            .iter()
            .any(|seen| seen.path.contains("leases")),
        "it would decide by half of what there is"
    );
    fixture.api.heal();
    fixture.api.cut();
    wait::until("it to lead", async || {
        (pullpass.count("pullpass_leader", &[]).await == 1).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn comes_up_alone_after_the_whole_cluster_was_lost() {
    let fixture = fixture("lost").await;
    let shop = fixture.namespace("shop").await;
    for name in [OWN, "kube-system"] {
        let path = format!("/api/v1/namespaces/{name}");
        let labels = fixture.cluster.get(&path).await.unwrap()["metadata"]["labels"].take();
        make_namespace(&fixture.cluster, name, &labels).await;
    }
    let certificates = fixture.file("certs");
    make_certificates(&certificates, LOOPBACK);
    let (balancer, url) = Balancer::start(LOOPBACK).await;
    let ca = certificates.join("ca.crt");
    let mut configuration = configuration(&url, &[&ca], FIXTURE, fixture.name);
    for webhook in configuration["webhooks"].as_array_mut().unwrap() {
        webhook["failurePolicy"] = "Fail".into();
    }
    fixture.cluster.apply(&configuration).await;
    let refused = pod(&shop, &[&image()]);
    wait::until("the webhook to be demanded", async || {
        let answer = fixture.cluster.create_pod(&refused, "dryRun=All").await;
        answer.status.is_server_error().then_some(())
    })
    .await;
    let launch = fixture.launch().await;
    tell_api_server(&fixture, "stop");

    // Nothing is there but the API server's data. pullpass comes first, as it may.
    let before = fixture.api.connections();
    let start = Pullpass::start_with(&launch, &certificates);
    let api_server = async {
        wait::until("pullpass to ask the API server", async || {
            (fixture.api.connections() > before).then_some(())
        })
        .await;
        tell_api_server(&fixture, "start");
        // What a cluster needs to come up, pullpass' own Pods among it, is created though nobody answers.
        for namespace in ["kube-system", OWN] {
            let pod = restricted(pod(namespace, &[&image()]));
            fixture.cluster.create_pod(&pod, "dryRun=All").await.ok();
        }
    };
    let (pullpass, ()) = tokio::join!(start, api_server);
    balancer.add(pullpass.address(), pullpass.health());
    wait::until("Pods to be created again", async || {
        let answer = fixture.cluster.create_pod(&refused, "").await;
        references(&answer.body).then_some(())
    })
    .await;
    assert!(fixture.has_pull_secret(&shop).await);
}

/// The Pod as Pod Security `restricted` wants it.
fn restricted(mut pod: Value) -> Value {
    pod["spec"]["securityContext"] =
        json!({"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}});
    pod["spec"]["containers"][0]["securityContext"] =
        json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}});
    pod
}

/// Lets a process run for some 2 ms out of 100.
struct Throttle(Child);

impl Throttle {
    fn start(pid: u32) -> Self {
        let script =
            format!("while kill -STOP {pid}; do sleep 0.098; kill -CONT {pid}; sleep 0.002; done");
        Self(Command::new("sh").args(["-c", &script]).spawn().unwrap())
    }

    fn stop(mut self, pid: u32) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
        let told = Command::new("kill")
            .args(["-CONT", &pid.to_string()])
            .status();
        assert!(told.unwrap().success());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn holds_up_no_pod_for_long_when_it_gets_hardly_any_cpu() {
    const PODS: usize = 60;
    /// Beyond the time that the API server waits for pullpass: its own work, on a machine that does other things.
    const REST: Duration = Duration::from_secs(5);
    let fixture = Fixture::new("throttled").await;
    fixture.serve(&[&format!("{ECR}/team")]).await;
    let shop = fixture.namespace("shop").await;
    let pullpass = Pullpass::start(&fixture.launch().await).await;
    let seconds = Some(TIMEOUT);
    pullpass
        .register_with(&fixture.cluster, FIXTURE, fixture.name, seconds)
        .await;
    fixture.create(&shop, &[&image()]).await;

    let throttle = Throttle::start(pullpass.pid());
    let image = image();
    let images = [image.as_str()];
    let creations = (0..PODS).map(|_| async {
        let begun = Instant::now();
        let created = fixture.create(&shop, &images).await;
        (begun.elapsed(), references(&created.body))
    });
    let created = futures::future::join_all(creations).await;
    throttle.stop(pullpass.pid());
    let longest = created.iter().map(|(time, _)| *time).max().unwrap();
    let referencing = created.iter().filter(|(_, references)| *references).count();
    println!("{referencing} of {PODS} Pods got their reference, the longest took {longest:?}");
    assert!(
        longest < Duration::from_secs(TIMEOUT.into()) + REST,
        "{longest:?}"
    );

    assert!(references(&fixture.create(&shop, &images).await.body));
    assert!(pullpass.is_ready().await);
}

/// Writes a pair whose certificate is valid in these years.
fn write_pair(folder: &Path, authority: &Authority, years: RangeInclusive<i32>) {
    let pair = authority.sign_server(LOOPBACK, years);
    std::fs::create_dir_all(folder).unwrap();
    std::fs::write(folder.join("tls.crt"), pair.certificate).unwrap();
    std::fs::write(folder.join("tls.key"), pair.key).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serves_again_without_a_restart_when_its_certificate_had_ended() {
    let fixture = Fixture::new("ended").await;
    fixture.serve(&[&format!("{ECR}/team")]).await;
    let shop = fixture.namespace("shop").await;
    let (ended, renewed) = (fixture.file("ended"), fixture.file("renewed"));
    let authority = Authority::new("webhook");
    write_pair(&ended, &authority, ENDED);
    write_pair(&renewed, &authority, VALID);
    let ca = fixture.file("authority.crt");
    std::fs::write(&ca, authority.pem()).unwrap();
    let pullpass = Pullpass::start_with(&fixture.launch().await, &ended).await;
    let url = format!("https://{}/mutate", pullpass.address());
    let configuration = configuration(&url, &[&ca], FIXTURE, fixture.name);
    fixture.cluster.apply(&configuration).await;

    // The API server refuses it, says so, and creates Pods without asking.
    wait::until("the API server to refuse the certificate", async || {
        let created = fixture.create(&shop, &[&image()]).await;
        assert!(!references(&created.body));
        let refused = "pullpass_tls_handshake_failures_total{reason=\"refused\"}";
        (pullpass.count(refused, &[]).await > 0).then_some(())
    })
    .await;
    let ends = ends(&pullpass.metrics().await);
    let now = jiff::Timestamp::now().as_second();
    assert!(ends < now, "{ends}: the alert's metric says so");
    let refused = "TLS handshake refused by the client";
    pullpass.wait_logged(&[refused]).await;

    for file in ["tls.crt", "tls.key"] {
        std::fs::copy(renewed.join(file), ended.join(file)).unwrap();
    }
    fixture.wait_served(&shop, &image()).await;
    let created: Value = fixture.create(&shop, &[&image()]).await.body;
    assert!(references(&created), "{created}");
}

/// When the serving certificate ends, as the metrics say.
fn ends(metrics: &str) -> i64 {
    let name = "pullpass_certificate_expiry_timestamp_seconds ";
    let line = metrics.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap().parse().unwrap()
}

/// A client that keeps its connection, over which it asked once.
async fn keep_connection(pullpass: &Pullpass) -> reqwest::Client {
    let client = pullpass.client();
    let asked = client.get(pullpass.url("livez")).send().await;
    assert_eq!(asked.unwrap().status(), 404);
    client
}

/// The hard limit of file descriptors is a thousand, too, and callers keep about as many connections: what else needs one gets it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn goes_on_when_kept_connections_would_take_all_descriptors() {
    const KEPT: usize = 990;
    let fixture = fixture("descriptors").await;
    let launch = Launch {
        controller: true,
        files: Some(1024),
        ..fixture.launch().await
    };
    let pullpass = Pullpass::start(&launch).await;
    let mut kept = Vec::new();
    for _ in 0..KEPT {
        kept.push(keep_connection(&pullpass).await);
    }
    fixture.api.forget();
    let shop = fixture.namespace("shop").await;
    wait::until("the pull secret to be written", async || {
        assert!(pullpass.is_ready().await, "probes are answered");
        fixture.has_pull_secret(&shop).await.then_some(())
    })
    .await;
    wait::until("the Lease to be renewed twice", async || {
        let requests = fixture.api.requests();
        let renewals = requests
            .iter()
            .filter(|request| request.method != "GET" && request.path.contains("/leases/"));
        (renewals.count() > 1).then_some(())
    })
    .await;
    let metrics = pullpass.metrics().await;
    let open = metrics
        .lines()
        .find_map(|line| line.strip_prefix("pullpass_connections "));
    let open: usize = open.unwrap().parse().unwrap();
    assert!(open > KEPT / 2, "{open}");
    let log = pullpass.log();
    for line in ["failed to accept", "certificate files", "failed to read"] {
        assert!(!log.contains(line), "{line}: {log}");
    }
    drop(kept);
}
