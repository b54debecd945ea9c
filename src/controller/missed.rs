//! Missed Pods: Pods that wait for an image which a Registry serves and do not reference their pull secret, because pullpass was not
//! asked when they were created, or because the namespace or the Registry came later.
//!
//! They are looked for whenever a replica begins to lead, when an admission comes after a minute without any (the webhook may have
//! been away), and on a slow timer. Nothing is kept: a page of Pending Pods is read, judged by what admission would do
//! ([`Judge`]), counted, told in an Event on the Pod, and forgotten.

mod metrics;
mod notice;
mod owner;
mod schedule;

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;

use super::term::{Leadership, ticks};
use crate::admission::{self, Judge, Verdict};
use crate::cluster::{Kube, Told, WaitingPod};
use crate::provision::access::ClusterError;
pub use metrics::Metrics;
use schedule::{Ended, Schedule};

/// How often it is looked whether Pods are to be looked for.
const TICK: Duration = Duration::from_secs(1);

/// How many Pods are told by an Event each time; the others are counted.
const TELL: usize = 500;

/// Looks for missed Pods.
pub struct Missed {
    kube: Kube,
    judge: Judge,
    admissions: admission::Metrics,
    metrics: Metrics,
    every: SignedDuration,
    clock: fn() -> Timestamp,
}

/// What one look at all Pods has found.
#[derive(Default)]
struct Found {
    hanging: u64,
    waiting: u64,
    told: usize,
    /// Nobody can be told, so no more is tried.
    untold: bool,
}

impl Missed {
    /// Puts it together. `admissions` says when the webhook was last asked, `every` how often they are looked for when nothing else gives
    /// reason to; `clock` is [`Timestamp::now`] outside tests.
    pub fn new(
        kube: Kube,
        judge: Judge,
        admissions: admission::Metrics,
        metrics: Metrics,
        every: SignedDuration,
        clock: fn() -> Timestamp,
    ) -> Self {
        Self {
            kube,
            judge,
            admissions,
            metrics,
            every,
            clock,
        }
    }

    /// Looks for missed Pods whenever this replica leads. Ends when the sender is gone.
    pub async fn run(self, mut leadership: watch::Receiver<Leadership>) {
        while Leadership::begins(&mut leadership).await {
            Leadership::hold(&mut leadership, self.lead()).await;
            self.metrics.clear();
        }
    }

    async fn lead(&self) {
        let mut schedule = Schedule::new(self.every);
        let mut trouble = None;
        let mut ticks = ticks(TICK);
        loop {
            ticks.tick().await;
            if !schedule.is_due(self.admissions.last_answer(), (self.clock)()) {
                continue;
            }
            let ended = match self.look().await {
                Ok(found) => {
                    trouble = None;
                    self.metrics.set_missed(found.hanging, found.waiting);
                    found.log();
                    Ended::Well
                }
                Err(error) => {
                    log_once(&mut trouble, &error);
                    match error {
                        ClusterError::Forbidden { .. } => Ended::Forbidden,
                        _ => Ended::Badly,
                    }
                }
            };
            self.metrics.count_look(ended);
            schedule.note(ended, (self.clock)());
        }
    }

    /// Looks at every Pending Pod once, a page at a time.
    async fn look(&self) -> Result<Found, ClusterError> {
        let mut found = Found::default();
        let mut next = None;
        loop {
            let page = self.kube.fetch_waiting_pods(next.as_deref()).await?;
            for pod in &page.pods {
                self.look_at(pod, &mut found).await;
            }
            next = page.next;
            if next.is_none() {
                return Ok(found);
            }
        }
    }

    async fn look_at(&self, pod: &WaitingPod, found: &mut Found) {
        let Verdict::Missed(lacks) = self.judge(pod).await else {
            return;
        };
        if pod.hangs {
            found.hanging += 1;
        } else {
            found.waiting += 1;
        }
        if !found.untold && found.told < TELL {
            let notice = notice::missed(pod, &lacks);
            let told = self.kube.publish(&notice, (self.clock)()).await;
            found.told += 1;
            found.untold = told == Told::Failed;
        }
    }

    async fn judge(&self, pod: &WaitingPod) -> Verdict {
        if pod.is_deleted {
            return Verdict::Complete;
        }
        let json = pod.json.get();
        self.judge.judge(&pod.namespace, json, (self.clock)()).await
    }
}

impl Found {
    fn log(&self) {
        if self.hanging + self.waiting > 0 {
            tracing::warn!(
                pods.hanging = self.hanging,
                pods.waiting = self.waiting,
                "pods were created without a reference to their pull secret: an event on each says what to do (kubectl get events -A --field-selector reason=PullSecretNotReferenced)"
            );
        }
    }
}

/// Logs a failure unless it is the one that was logged last.
fn log_once(trouble: &mut Option<&'static str>, error: &ClusterError) {
    if trouble.replace(error.reason()) == Some(error.reason()) {
        return;
    }
    tracing::warn!(
        error.reason = error.reason(),
        "missed pods cannot be looked for: {error}; the right is list of pods, in ClusterRole pullpass-missed-pods, and --missed-pods-every=0 does without"
    );
}

/// A Pod for tests.
#[cfg(test)]
fn waiting_pod(namespace: &str, name: &str) -> WaitingPod {
    WaitingPod {
        namespace: namespace.parse().unwrap(),
        name: name.parse().unwrap(),
        uid: "u".to_owned(),
        is_deleted: false,
        hangs: true,
        controller: None,
        template_hash: None,
        json: Box::default(),
    }
}
