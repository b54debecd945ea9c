//! Replicas are replaced, and their certificate and its authority, under load, and no Pod is refused though the webhook must answer
//! (`failurePolicy: Fail`). `make soak` does it many times.
//!
//! The API server reaches the webhook at an address that is not loopback, where it speaks HTTP/1.1 as it does to a Service, through
//! a balancer that does what kube-proxy does. A network namespace has such an address.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::support;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use support::balancer::Balancer;
use support::bed::Bed;
use support::cluster::Cluster;
use support::fixture::references;
use support::load::Load;
use support::metrics;
use support::netns::{self, ADDRESS};
use support::patch_only::{Replica, Setup};
use support::process::{make_certificates, pod};
use support::wait;
use support::webhook::IMAGE;

/// Pods that are created at the same time.
const WORKERS: usize = 16;

/// Seconds that a replica goes on answering; longer than the balancer needs to hear of it, also on a busy machine.
const DRAIN_DELAY: &str = "8";

/// Pods that are created at least while one replica is replaced, or one certificate.
const PODS: usize = 600;

/// One load at a time: each takes all that the machine has.
static LOAD: Mutex<()> = Mutex::new(());

#[test]
fn loses_no_pod_when_replicas_are_replaced_under_load() {
    let _alone = LOAD.lock().unwrap_or_else(PoisonError::into_inner);
    netns::run("drain::replaces_replicas");
}

#[test]
fn loses_no_pod_when_certificate_and_authority_are_rotated_under_load() {
    let _alone = LOAD.lock().unwrap_or_else(PoisonError::into_inner);
    netns::run("drain::rotates_certificates");
}

/// Two replicas behind a balancer, called by an API server.
struct Place {
    _bed: Bed,
    cluster: Cluster,
    setup: Setup,
    balancer: Balancer,
    url: String,
    replicas: Vec<Replica>,
    /// How often the webhook's configuration was written.
    written: usize,
}

impl Place {
    async fn start() -> Self {
        let mut bed = Bed::start("api", &[]);
        bed.command("namespace shop");
        let cluster = Cluster::connect(bed.field("kubeconfig")).await;
        let (balancer, url) = Balancer::start(ADDRESS).await;
        let mut place = Self {
            _bed: bed,
            cluster,
            setup: Setup::new(ADDRESS),
            balancer,
            url,
            replicas: Vec::new(),
            written: 0,
        };
        place.add_replica().await;
        place.add_replica().await;
        let ca = place.setup.certificate("ca.crt");
        place.trust(&[&ca]).await;
        place
    }

    async fn add_replica(&mut self) {
        let replica = self.setup.start(ADDRESS, DRAIN_DELAY).await;
        self.balancer.add(replica.webhook, replica.health);
        self.replicas.push(replica);
    }

    /// Has the API server trust these authorities; returns when it does.
    async fn trust(&mut self, authorities: &[&Path]) {
        self.written += 1;
        let written = self.written.to_string();
        let configuration = configuration(&self.url, authorities, &written);
        self.cluster.apply(&configuration).await;
        let mut probe = pod("shop", &[IMAGE]);
        probe["metadata"]["labels"] = json!({"written": written});
        wait::until("the API server to know the configuration", async || {
            let answer = self.cluster.create_pod(&probe, "dryRun=All").await;
            references(&answer.body).then_some(())
        })
        .await;
    }

    fn start_load(&self) -> Load {
        Load::start(&self.cluster, &pod("shop", &[IMAGE]), "dryRun=All", WORKERS)
    }

    /// The sum of the counters that begin so, over all replicas.
    async fn count(&self, begin: &str) -> u64 {
        let mut sum = 0;
        for replica in &self.replicas {
            sum += metrics::sum(&replica.metrics().await, begin, &[]);
        }
        sum
    }
}

/// The webhook, and a second one for Pods that ask whether this version is known.
fn configuration(url: &str, authorities: &[&Path], written: &str) -> Value {
    let bundle = authorities.iter().map(|file| std::fs::read(file).unwrap());
    let ca = STANDARD.encode(bundle.collect::<Vec<_>>().concat());
    let webhook = |name: &str, policy: &str, selector: Value| {
        json!({
            "name": name, "admissionReviewVersions": ["v1"], "sideEffects": "None", "failurePolicy": policy,
            "clientConfig": {"url": url, "caBundle": ca}, "timeoutSeconds": 10,
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "shop"}},
            "objectSelector": {"matchExpressions": [selector]},
            "rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}],
        })
    };
    let probe = json!({"key": "written", "operator": "In", "values": [written]});
    let others = json!({"key": "written", "operator": "DoesNotExist"});
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration", "metadata": {"name": "pullpass"},
        "webhooks": [
            webhook("inject.pullpass.dev", "Fail", others), webhook("probe.pullpass.dev", "Ignore", probe),
        ],
    })
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a test above runs it, in a network namespace"]
async fn replaces_replicas() {
    let rounds = netns::rounds(2);
    let mut place = Place::start().await;
    let load = place.start_load();
    for round in 1..=rounds {
        for _ in 0..2 {
            place.add_replica().await;
            let old = place.replicas.remove(0);
            old.terminate();
            let (ended, ()) = tokio::join!(old.ended(), load.wait_for(PODS));
            assert!(ended.success(), "{ended}");
        }
        println!("rolling restart {round} of {rounds}");
    }
    let outcome = load.end().await;
    outcome.tell(rounds, "rolling restarts of two replicas, Fail");
    outcome.check_none_lost();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a test above runs it, in a network namespace"]
async fn rotates_certificates() {
    let rounds = netns::rounds(2);
    let mut place = Place::start().await;
    let folder = tempfile::tempdir().unwrap();
    let mut old = folder.path().join("0");
    std::fs::create_dir(&old).unwrap();
    std::fs::copy(place.setup.certificate("ca.crt"), old.join("ca.crt")).unwrap();
    let load = place.start_load();
    for round in 1..=rounds {
        let new = folder.path().join(round.to_string());
        make_certificates(&new, ADDRESS);
        rotate(&mut place, &old, &new, round).await;
        load.wait_for(PODS).await;
        println!("rotation {round} of {rounds}");
        old = new;
    }
    let outcome = load.end().await;
    outcome.tell(rounds, "rotations of certificate and authority, Fail");
    outcome.check_none_lost();
    let failed = place.count("pullpass_tls_handshake_failures_total").await;
    assert_eq!(failed, 0, "handshakes failed");
}

/// The new authority is trusted beside the old one, then the new pair is served, then the old authority is trusted no more.
async fn rotate(place: &mut Place, old: &Path, new: &Path, round: usize) {
    let ca = |folder: &Path| -> PathBuf { folder.join("ca.crt") };
    place.trust(&[&ca(old), &ca(new)]).await;
    for file in ["tls.crt", "tls.key"] {
        std::fs::copy(new.join(file), place.setup.certificate(file)).unwrap();
    }
    let expected = u64::try_from(round * place.replicas.len()).unwrap();
    wait::until("both replicas to serve the new certificate", async || {
        let replaced = "pullpass_certificate_reloads_total{outcome=\"replaced\"}";
        (place.count(replaced).await >= expected).then_some(())
    })
    .await;
    place.trust(&[&ca(new)]).await;
}
