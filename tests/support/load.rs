//! A stream of Pod creations through the API server.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::task::JoinHandle;

use super::cluster::Cluster;
use super::fixture::references;
use super::wait;

/// Workers that create Pods one after the other, until they are told to stop.
pub struct Load {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicUsize>,
    begun: Instant,
    workers: Vec<JoinHandle<Outcome>>,
}

/// What became of Pods.
#[derive(Debug, Default)]
pub struct Outcome {
    /// How many reference the pull secret.
    pub referencing: usize,
    /// The names of those that were created without it.
    pub missed: Vec<String>,
    /// What the API server said of those that it refused.
    pub refused: Vec<String>,
    /// How long it took.
    pub time: Duration,
}

impl Load {
    /// Starts to create this Pod again and again; `query` may be `dryRun=All`.
    pub fn start(cluster: &Cluster, pod: &Value, query: &'static str, workers: usize) -> Self {
        let (stop, sent) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let work = |_| {
            let (cluster, pod) = (cluster.clone(), pod.clone());
            let (stop, sent) = (Arc::clone(&stop), Arc::clone(&sent));
            tokio::spawn(async move {
                let mut outcome = Outcome::default();
                while !stop.load(Ordering::Relaxed) {
                    outcome.note(&cluster, &pod, query).await;
                    sent.fetch_add(1, Ordering::Relaxed);
                }
                outcome
            })
        };
        Self {
            workers: (0..workers).map(work).collect(),
            begun: Instant::now(),
            stop,
            sent,
        }
    }

    /// Waits until so many more Pods were sent.
    pub async fn wait_for(&self, more: usize) {
        let sent = || self.sent.load(Ordering::Relaxed);
        let goal = sent() + more;
        wait::until("the load to go on", async || (sent() >= goal).then_some(())).await;
    }

    /// Ends it, and answers what became of all Pods.
    pub async fn end(self) -> Outcome {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Outcome::default();
        for worker in self.workers {
            all.add(worker.await.unwrap());
        }
        all.time = self.begun.elapsed();
        all
    }
}

impl Outcome {
    async fn note(&mut self, cluster: &Cluster, pod: &Value, query: &str) {
        let answer = cluster.create_pod(pod, query).await;
        let name = answer.body["metadata"]["name"].as_str();
        match (answer.status.is_success(), references(&answer.body)) {
            (false, _) => self
                .refused
                .push(format!("{} {}", answer.status, answer.body)),
            (true, true) => self.referencing += 1,
            (true, false) => self.missed.push(name.unwrap_or_default().to_owned()),
        }
    }

    /// Takes the Pods of another one in.
    pub fn add(&mut self, other: Self) {
        self.referencing += other.referencing;
        self.missed.extend(other.missed);
        self.refused.extend(other.refused);
        self.time += other.time;
    }

    /// All Pods.
    pub fn all(&self) -> usize {
        self.referencing + self.missed.len() + self.refused.len()
    }

    /// Pods a second.
    pub fn rate(&self) -> f64 {
        let all = u32::try_from(self.all()).expect("a countable number of Pods");
        f64::from(all) / self.time.as_secs_f64()
    }

    /// A row of the table that `make soak` shows.
    pub fn tell(&self, rounds: usize, what: &str) {
        println!(
            "| {what} | {rounds} | {} | {:.0} | {} | {} |",
            self.all(),
            self.rate(),
            self.refused.len(),
            self.missed.len()
        );
    }

    /// Fails unless every Pod got its reference.
    pub fn check_none_lost(&self) {
        let lost = self.refused.len() + self.missed.len();
        let first = self.refused.first();
        assert_eq!(lost, 0, "of {}; the first refusal: {first:?}", self.all());
    }
}
