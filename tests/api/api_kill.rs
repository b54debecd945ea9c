//! Replicas are killed under load: no Pod is refused (`failurePolicy: Ignore`), and each one that was created without its reference
//! meanwhile is found and told by an Event. `make soak` does it many times.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Instant;

use crate::support;
use serde_json::{Value, json};
use support::balancer::Balancer;
use support::fixture::{ECR, FIXTURE, Fixture, references};
use support::load::{Load, Outcome};
use support::netns::{self, ADDRESS};
use support::process::{Launch, Pullpass, configuration, make_certificates, pod};
use support::wait;

/// Pods that are created at the same time.
const WORKERS: usize = 16;

/// Pods that are created between two things that happen.
const PODS: usize = 100;

#[test]
fn refuses_no_pod_and_tells_of_each_missed_one_when_replicas_are_killed_under_load() {
    netns::run("api_kill::kills_replicas");
}

/// Two replicas behind a balancer, called by an API server.
struct Place {
    fixture: Fixture,
    launch: Launch,
    certificates: PathBuf,
    balancer: Balancer,
    replicas: Vec<Pullpass>,
}

impl Place {
    async fn start() -> Self {
        let fixture = Fixture::alone("kill").await;
        fixture.serve(&[&format!("{ECR}/team")]).await;
        let certificates = fixture.file("certs");
        make_certificates(&certificates, ADDRESS);
        let (balancer, url) = Balancer::start(ADDRESS).await;
        let launch = Launch {
            controller: true,
            log: "warn,pullpass=info",
            arguments: vec!["--missed-pod-scan-interval=5s"],
            ..fixture.launch().await
        };
        let mut place = Self {
            fixture,
            launch,
            certificates,
            balancer,
            replicas: Vec::new(),
        };
        place.start_replica().await;
        place.start_replica().await;
        let ca = place.certificates.join("ca.crt");
        let configuration = configuration(&url, &[&ca], FIXTURE, place.fixture.name);
        place.fixture.cluster.apply(&configuration).await;
        place
    }

    async fn start_replica(&mut self) {
        let replica = Pullpass::start_with(&self.launch, &self.certificates).await;
        self.balancer.add(replica.address(), replica.health());
        self.replicas.push(replica);
    }

    /// A namespace in which the API server asks a replica.
    async fn namespace(&self, name: &str) -> String {
        let name = self.fixture.namespace(name).await;
        let probe = pod(&name, &[&image()]);
        wait::until("the webhook to be called", async || {
            let answer = self.fixture.cluster.create_pod(&probe, "dryRun=All").await;
            references(&answer.body).then_some(())
        })
        .await;
        name
    }

    fn start_load(&self, namespace: &str) -> Load {
        let pod = pod(namespace, &[&image()]);
        Load::start(&self.fixture.cluster, &pod, "", WORKERS)
    }

    /// The names of the Pods that Events say were missed.
    async fn told(&self, namespace: &str) -> BTreeSet<String> {
        let path = format!(
            "/api/v1/namespaces/{namespace}/events?fieldSelector=reason%3DPullSecretNotReferenced"
        );
        let list = self.fixture.cluster.get(&path).await.unwrap();
        let events = list["items"].as_array().unwrap().iter();
        let name = |event: &Value| event["involvedObject"]["name"].as_str().map(str::to_owned);
        events.filter_map(name).collect()
    }

    /// Waits until the missed Pods, and no others, were told; then they are deleted with all others.
    async fn check_told(&self, namespace: &str, outcome: &Outcome) {
        let missed: BTreeSet<String> = outcome.missed.iter().cloned().collect();
        let mut told = 0;
        while told < missed.len() {
            told = wait::until("another missed Pod to be told", async || {
                let now = self.told(namespace).await.len();
                (now > told).then_some(now)
            })
            .await;
        }
        assert_eq!(self.told(namespace).await, missed);
        let pods = format!("/api/v1/namespaces/{namespace}/pods");
        let now = json!({"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0});
        self.fixture
            .cluster
            .send("DELETE", &pods, Some(&now))
            .await
            .ok();
    }
}

fn image() -> String {
    format!("{ECR}/team/hello:1")
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "the test above runs it, in a network namespace"]
async fn kills_replicas() {
    let rounds = netns::rounds(1);
    let mut place = Place::start().await;
    let (mut one, mut both) = (Outcome::default(), Outcome::default());
    for round in 1..=rounds {
        one.add(kill_one(&mut place, round).await);
        both.add(kill_both(&mut place, round).await);
        println!(
            "kills {round} of {rounds}: {} Pods missed so far",
            one.missed.len() + both.missed.len()
        );
    }
    one.tell(rounds, "one of two replicas killed (-9), Ignore");
    both.tell(rounds, "both replicas killed (-9), Ignore");
    for outcome in [one, both] {
        assert_eq!(outcome.refused.len(), 0, "{:?}", outcome.refused.first());
    }
}

/// One replica, the older one, is killed and a new one started.
async fn kill_one(place: &mut Place, round: usize) -> Outcome {
    let namespace = place.namespace(&format!("one{round}")).await;
    let load = place.start_load(&namespace);
    load.wait_for(PODS).await;
    place.replicas.remove(0).kill();
    load.wait_for(PODS).await;
    place.start_replica().await;
    load.wait_for(PODS).await;
    let outcome = load.end().await;
    place.check_told(&namespace, &outcome).await;
    outcome
}

/// Nobody answers for a while.
async fn kill_both(place: &mut Place, round: usize) -> Outcome {
    let namespace = place.namespace(&format!("both{round}")).await;
    let load = place.start_load(&namespace);
    load.wait_for(PODS).await;
    for replica in place.replicas.drain(..) {
        replica.kill();
    }
    load.wait_for(PODS).await;
    place.start_replica().await;
    let recovered = Instant::now();
    place.start_replica().await;
    load.wait_for(PODS).await;
    let outcome = load.end().await;
    assert!(outcome.missed.len() >= PODS - WORKERS, "{outcome:?}");
    place.check_told(&namespace, &outcome).await;
    println!(
        "all told {:.1} s after one answered again",
        recovered.elapsed().as_secs_f64()
    );
    outcome
}
