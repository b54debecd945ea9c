//! Missed Pods: Pods that wait for an image which a Registry serves and do not reference their pull secret, because pullpass was not
//! asked when they were created, or because the namespace or the Registry came later.
//!
//! A scan runs whenever a replica begins to lead, when an admission comes after a minute without any (the webhook may have
//! been down), and on a slow timer. Nothing is kept: the Pending Pods are read one at a time; one of a namespace that opted in is evaluated
//! by what admission would do ([`PodChecker`]), counted, reported by an Event on it, and each is forgotten.

mod event;
mod metrics;
mod owner;
mod schedule;

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;

use super::leadership::{Leadership, ticks};
use crate::admission::{self, PodCheck, PodChecker};
use crate::cluster::{EventNote, Kube, PendingPod, Published};
use crate::names::NamespaceName;
use crate::provision::ports::ClusterError;
pub use metrics::Metrics;
use schedule::{ScanOutcome, ScanSchedule};

/// How often to check whether a scan is due.
const TICK: Duration = Duration::from_secs(1);

/// How many Pods get an Event in each scan; the others are counted.
const MAX_EVENTS: usize = 500;

/// Scans for missed Pods.
pub struct MissedPodScanner {
    kube: Kube,
    check: PodChecker,
    admissions: admission::Metrics,
    metrics: Metrics,
    interval: SignedDuration,
    clock: fn() -> Timestamp,
}

/// The result of one scan.
#[derive(Default)]
struct ScanResult {
    image_pull_failing: u64,
    waiting: u64,
    event_count: usize,
    /// Events cannot be written, so no more are tried.
    events_failing: bool,
}

impl MissedPodScanner {
    /// Puts it together. `admissions` says when the webhook was last asked, `every` how often to scan when nothing else gives
    /// reason to; `clock` is [`Timestamp::now`] outside tests.
    pub fn new(
        kube: Kube,
        check: PodChecker,
        admissions: admission::Metrics,
        metrics: Metrics,
        interval: SignedDuration,
        clock: fn() -> Timestamp,
    ) -> Self {
        Self {
            kube,
            check,
            admissions,
            metrics,
            interval,
            clock,
        }
    }

    /// Scans for missed Pods while this replica leads. Ends when the sender is gone.
    pub async fn run(self, mut leadership: watch::Receiver<Leadership>) {
        while Leadership::acquired(&mut leadership).await {
            Leadership::while_leading(&mut leadership, self.lead()).await;
            self.metrics.clear();
        }
    }

    async fn lead(&self) {
        let mut schedule = ScanSchedule::new(self.interval);
        let mut last_failure = None;
        let mut ticks = ticks(TICK);
        loop {
            ticks.tick().await;
            if !schedule.is_due(self.admissions.last_response(), (self.clock)()) {
                continue;
            }
            let ended = match self.scan().await {
                Ok(found) => {
                    last_failure = None;
                    self.metrics
                        .set_missed(found.image_pull_failing, found.waiting);
                    found.log();
                    ScanOutcome::Succeeded
                }
                Err(error) => {
                    log_new_failure(&mut last_failure, &error);
                    match error {
                        ClusterError::Forbidden { .. } => ScanOutcome::Forbidden,
                        _ => ScanOutcome::Errored,
                    }
                }
            };
            self.metrics.count_scan(ended);
            schedule.note(ended, (self.clock)());
        }
    }

    /// Checks every Pending Pod once, of namespaces that opted in.
    async fn scan(&self) -> Result<ScanResult, ClusterError> {
        let mut found = ScanResult::default();
        let mut next = None;
        loop {
            let mut page = self.kube.fetch_pending_pods(next.as_deref()).await?;
            let mut notes = Vec::new();
            let is_wanted = |namespace: &NamespaceName| self.check.is_opted_in(namespace);
            while let Some(pod) = page.next_pod(is_wanted).await? {
                notes.extend(self.scan_pod(&pod, &mut found).await);
            }
            next = page.finish()?;
            // Not before the page has ended: the API server gives up one that is read slowly.
            for note in notes {
                self.publish(&note, &mut found).await;
            }
            if next.is_none() {
                return Ok(found);
            }
        }
    }

    /// Counts a Pod if it was missed; answers what to say of it.
    async fn scan_pod(&self, pod: &PendingPod, found: &mut ScanResult) -> Option<EventNote> {
        let PodCheck::Missed(lacks) = self.check(pod).await else {
            return None;
        };
        if pod.is_image_pull_failing {
            found.image_pull_failing += 1;
        } else {
            found.waiting += 1;
        }
        Some(event::missed_pod(pod, &lacks))
    }

    async fn publish(&self, note: &EventNote, found: &mut ScanResult) {
        if !found.events_failing && found.event_count < MAX_EVENTS {
            let published = self.kube.publish(note, (self.clock)()).await;
            found.event_count += 1;
            found.events_failing = published == Published::Failed;
        }
    }

    async fn check(&self, pod: &PendingPod) -> PodCheck {
        if pod.is_deleted {
            return PodCheck::Referenced;
        }
        let json = pod.json.get();
        self.check.check(&pod.namespace, json, (self.clock)()).await
    }
}

impl ScanResult {
    fn log(&self) {
        if self.image_pull_failing + self.waiting > 0 {
            tracing::warn!(
                pods.image_pull_failing = self.image_pull_failing,
                pods.pending = self.waiting,
                "pods were created without a reference to their pull secret: an event on each says what to do (kubectl get events -A --field-selector reason=PullSecretNotReferenced)"
            );
        }
    }
}

/// Logs a failure unless it is the one that was logged last.
fn log_new_failure(last_failure: &mut Option<&'static str>, error: &ClusterError) {
    if last_failure.replace(error.reason()) == Some(error.reason()) {
        return;
    }
    tracing::warn!(
        error.reason = error.reason(),
        "failed to scan for missed Pods, retrying: {error}; needs \"list\" on pods (ClusterRole pullpass-missed-pods), or --missed-pod-scan-interval=0 to disable"
    );
}

/// A Pod for tests.
#[cfg(test)]
fn waiting_pod(namespace: &str, name: &str) -> PendingPod {
    PendingPod {
        namespace: namespace.parse().unwrap(),
        name: name.parse().unwrap(),
        uid: "u".to_owned(),
        is_deleted: false,
        is_image_pull_failing: true,
        controller: None,
        template_hash: None,
        json: Box::default(),
    }
}
