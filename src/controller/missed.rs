//! Missed Pods: Pods that wait for an image which a Registry serves and do not reference their pull secret, because pullpass was not
//! asked when they were created, or because the namespace or the Registry came later.
//!
//! They are looked for whenever a replica begins to lead, when an admission comes after a minute without any (the webhook may have
//! been away), and on a slow timer. Nothing is kept: a page of Pending Pods is read, judged by what admission would do
//! ([`Judge`]), counted, told in an Event on the Pod, and forgotten.

mod metrics;
mod notice;
mod rescue;
mod schedule;

use std::collections::HashSet;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;

use super::term::{Leadership, ticks};
use crate::admission::{self, Judge, Verdict};
use crate::cluster::{Kube, Told, WaitingPod};
use crate::names::{NamespaceName, ObjectName};
use crate::provision::access::ClusterError;
pub use metrics::Metrics;
use rescue::{Failed, OWNER_PAUSE};
use schedule::{Ended, Schedule};

/// How often it is looked whether Pods are to be looked for.
const TICK: Duration = Duration::from_secs(1);

/// How many Pods are told by an Event each time; the others are counted.
const TELL: usize = 500;

/// How many Pods are evicted after each look, and the pause between two.
const RESCUES: usize = 100;
const RESCUE_PACE: Duration = Duration::from_secs(2);

/// How missed Pods are treated.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How often they are looked for when nothing else gives reason to.
    pub every: SignedDuration,
    /// Whether those that hang are evicted.
    pub rescue: bool,
}

/// Looks for missed Pods.
pub struct Missed {
    kube: Kube,
    judge: Judge,
    admissions: admission::Metrics,
    metrics: Metrics,
    settings: Settings,
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
    rescues: Vec<Rescue>,
    owners: HashSet<String>,
    /// When the youngest of them was created.
    youngest: Option<Timestamp>,
}

/// A Pod that is to be evicted, if it still is what it was.
struct Rescue {
    namespace: NamespaceName,
    name: ObjectName,
    uid: String,
}

impl Missed {
    /// Puts it together. `admissions` says when the webhook was last asked; `clock` is [`Timestamp::now`] outside tests.
    pub fn new(
        kube: Kube,
        judge: Judge,
        admissions: admission::Metrics,
        metrics: Metrics,
        settings: Settings,
        clock: fn() -> Timestamp,
    ) -> Self {
        Self {
            kube,
            judge,
            admissions,
            metrics,
            settings,
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
        let mut schedule = Schedule::new(self.settings.every);
        let (mut trouble, mut failed) = (None, Failed::default());
        let mut ticks = ticks(TICK);
        loop {
            ticks.tick().await;
            if !schedule.is_due(self.admissions.last_answer(), (self.clock)()) {
                continue;
            }
            let ended = match self.look(&failed).await {
                Ok(found) => {
                    trouble = None;
                    self.metrics.set_missed(found.hanging, found.waiting);
                    self.log(&found);
                    self.rescue(found, &mut failed).await;
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
    async fn look(&self, failed: &Failed) -> Result<Found, ClusterError> {
        let mut found = Found::default();
        let mut next = None;
        loop {
            let page = self.kube.fetch_waiting_pods(next.as_deref()).await?;
            for pod in &page.pods {
                self.look_at(pod, failed, &mut found).await;
            }
            next = page.next;
            if next.is_none() {
                return Ok(found);
            }
        }
    }

    async fn look_at(&self, pod: &WaitingPod, failed: &Failed, found: &mut Found) {
        let Verdict::Missed(lacks) = self.judge(pod).await else {
            return;
        };
        if pod.hangs {
            found.hanging += 1;
        } else {
            found.waiting += 1;
        }
        found.youngest = found.youngest.max(Some(pod.created));
        if !found.untold && found.told < TELL {
            let notice = notice::missed(pod, &lacks, self.settings.rescue);
            let told = self.kube.publish(&notice, (self.clock)()).await;
            found.told += 1;
            found.untold = told == Told::Failed;
        }
        if self.settings.rescue
            && found.rescues.len() < RESCUES
            && let Ok(owner) = rescue::find_owner(pod)
            && failed.allows(&owner.uid, &pod.uid, (self.clock)())
            && found.owners.insert(owner.uid.clone())
        {
            found.rescues.push(Rescue {
                namespace: pod.namespace.clone(),
                name: pod.name.clone(),
                uid: pod.uid.clone(),
            });
        }
    }

    async fn judge(&self, pod: &WaitingPod) -> Verdict {
        if pod.is_deleted {
            return Verdict::Complete;
        }
        let json = pod.json.get();
        self.judge.judge(&pod.namespace, json, (self.clock)()).await
    }

    fn log(&self, found: &Found) {
        if found.hanging + found.waiting == 0 {
            return;
        }
        let hint = if self.settings.rescue {
            "those that hang and have a controller are evicted"
        } else {
            "delete them so that they are created again, or let pullpass do so with --rescue=evict"
        };
        tracing::warn!(
            pods.hanging = found.hanging,
            pods.waiting = found.waiting,
            "pods were created without a reference to their pull secret: {hint}"
        );
    }

    async fn rescue(&self, found: Found, failed: &mut Failed) {
        if !rescue::is_way_open(self.admissions.last_answer(), found.youngest) {
            return;
        }
        for rescue in found.rescues {
            match self.rescue_one(&rescue, failed).await {
                Ok(()) => {}
                Err(error) => {
                    self.metrics.count_rescue(false);
                    tracing::warn!(
                        pod.namespace = rescue.namespace.as_str(),
                        pod.name = rescue.name.as_str(),
                        error.reason = error.reason(),
                        "a pod that hangs could not be evicted, it is tried again: {error}; the right is in ClusterRole pullpass-rescue"
                    );
                    if matches!(error, ClusterError::Forbidden { .. }) {
                        return;
                    }
                }
            }
            tokio::time::sleep(RESCUE_PACE).await;
        }
    }

    /// Evicts a Pod that, read live, still is missed and hangs, unless that was announced for another Pod of its owner within the hour.
    async fn rescue_one(&self, rescue: &Rescue, failed: &mut Failed) -> Result<(), ClusterError> {
        let (namespace, name) = (&rescue.namespace, &rescue.name);
        let Some(pod) = self.kube.fetch_waiting_pod(namespace, name).await? else {
            return Ok(());
        };
        let Ok(owner) = rescue::find_owner(&pod) else {
            return Ok(());
        };
        if pod.uid != rescue.uid || !matches!(self.judge(&pod).await, Verdict::Missed(_)) {
            return Ok(());
        }
        let now = (self.clock)();
        let announced = failed.find(&owner.uid, &pod.uid, now);
        if announced.is_none() {
            let notice = notice::rescue(&pod, owner);
            if self.kube.publish_once(&notice, OWNER_PAUSE, now).await != Told::Now {
                return Ok(());
            }
        }
        let evicted = self.kube.evict(&pod).await.inspect_err(|_| {
            failed.note(&owner.uid, &pod.uid, announced.unwrap_or(now), now);
        });
        if evicted? {
            self.metrics.count_rescue(true);
            tracing::info!(
                pod.namespace = namespace.as_str(),
                pod.name = name.as_str(),
                owner.kind = owner.kind,
                owner.name = owner.name,
                "evicted a pod that hung without a reference to its pull secret"
            );
        }
        Ok(())
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
