//! Missed Pods: Pods that wait for an image which a Registry serves and do not reference their pull secret, because pullpass was not
//! asked when they were created, or because the namespace or the Registry came later.
//!
//! A scan runs whenever a replica begins to lead, when an admission comes after a minute without any (the webhook may have
//! been down), soon after a namespace opted in or a Registry came (Pods may hang there already), and on a slow timer. Nothing is kept: the Pending Pods are read one at a time; one of a namespace that opted in is evaluated
//! by what admission would do ([`PodChecker`]), counted, reported by an Event on it, and each is forgotten.
//!
//! The same scan finds out whether the API server calls the webhook at all ([`calls`]). Where this replica was asked nothing for a while,
//! it reads all Pods that were created since: those of the other replicas have their references.

pub mod calls;
mod event;
mod metrics;
mod newly_served;
mod owner;
mod schedule;
pub mod webhook_calls;

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;

use super::leadership::{Leadership, ticks};
use super::node_lists::SeenNodes;
use crate::admission::{self, PodCheck, PodChecker};
use crate::cluster::{EventNote, Kube, ListedPod, PodScope, Published};
use crate::names::{NamespaceName, ObjectName};
use crate::provision::ports::ClusterError;
use crate::provision::{Provision as _, Provisioner};
use calls::{CallEvidence, CallTiming, Suspect, UnaskedPod};
pub use metrics::Metrics;
use newly_served::NewlyServed;
pub use owner::find_restart;
use schedule::{ScanOutcome, ScanSchedule};
use webhook_calls::WebhookCalls;

/// How often to check whether a scan is due.
const TICK: Duration = Duration::from_secs(1);

/// How many Pods get an Event in each scan; the others are counted.
const MAX_EVENTS: usize = 500;

/// Scans for missed Pods.
pub struct MissedPodScanner {
    /// Lists the Pods.
    pub kube: Kube,
    /// Says which namespaces opted in, and which Registries there are.
    pub provisioner: Provisioner,
    /// Says what a Pod lacks.
    pub check: PodChecker,
    /// Says when the webhook was last asked.
    pub admissions: admission::Metrics,
    /// Gets what is found out of the API server's calls.
    pub calls: WebhookCalls,
    /// How long evidence of them is waited for.
    pub timing: CallTiming,
    /// Knows which nodes' kubelets asked for logins.
    pub nodes: SeenNodes,
    /// Counts what is found.
    pub metrics: Metrics,
    /// How often to scan when nothing else gives reason to.
    pub interval: SignedDuration,
    /// [`Timestamp::now`] outside tests.
    pub clock: fn() -> Timestamp,
}

/// The result of one scan.
#[derive(Default)]
struct ScanResult {
    image_pull_failing: u64,
    waiting: u64,
    /// Those that hang because their node's kubelet does not ask.
    not_asked: u64,
    event_count: usize,
    /// Events cannot be written, so no more are tried.
    events_failing: bool,
}

impl MissedPodScanner {
    /// Scans for missed Pods while this replica leads. Ends when the sender is gone.
    pub async fn run(self, mut leadership: watch::Receiver<Leadership>) {
        while Leadership::acquired(&mut leadership).await {
            Leadership::while_leading(&mut leadership, self.lead()).await;
            self.calls.set_unasked(None);
            self.metrics.clear();
        }
    }

    async fn lead(&self) {
        let mut schedule = ScanSchedule::new(self.interval);
        let mut newly_served = NewlyServed::new(&self.provisioner);
        let mut last_failure = None;
        let mut ticks = ticks(TICK);
        loop {
            ticks.tick().await;
            self.hear();
            if newly_served.take() {
                schedule.note_newly_served();
            }
            if !schedule.is_due(self.admissions.last_response(), (self.clock)()) {
                continue;
            }
            let mut evidence = self.open_evidence().await;
            let scanned = self.scan(evidence.as_mut()).await;
            let concluded = match scanned {
                Ok(()) => self.conclude(evidence.as_ref()).await,
                Err(error) => Err(error),
            };
            let ended = match concluded {
                Ok(()) => {
                    last_failure = None;
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
            let recheck_at = evidence.and_then(|evidence| evidence.recheck_at());
            schedule.note(ended, recheck_at, (self.clock)());
        }
    }

    /// What is to be seen of the API server's calls; `None`: it is not known to be configured, or this replica cannot be called yet.
    async fn open_evidence(&self) -> Option<CallEvidence> {
        let configured = self.kube.fetch_webhooks_changed().await;
        let configured = configured.unwrap_or_else(|error| {
            tracing::debug!("whether the API server calls the webhook is not known: {error}");
            None
        });
        let moments = [configured?, self.calls.ready_since()?];
        let (answered, now) = (self.admissions.last_response(), (self.clock)());
        Some(CallEvidence::new(self.timing, moments, answered, now))
    }

    /// Checks every Pending Pod once, of namespaces that opted in; and those that may be evidence.
    async fn scan(&self, mut evidence: Option<&mut CallEvidence>) -> Result<(), ClusterError> {
        let mut found = ScanResult::default();
        let since = evidence.as_ref().and_then(|evidence| evidence.since());
        let scope = since.map_or(PodScope::Pending, PodScope::PendingOrSince);
        let mut next = None;
        loop {
            let mut page = self.kube.fetch_pods(None, scope, next.as_deref()).await?;
            let mut notes = Vec::new();
            let is_wanted = |namespace: &NamespaceName| self.check.is_opted_in(namespace);
            while let Some(pod) = page.next_pod(is_wanted).await? {
                let checked = self.check(&pod).await;
                if let Some(evidence) = evidence.as_deref_mut() {
                    note_evidence(&pod, &checked, evidence);
                }
                notes.extend(found.count(&pod, &checked));
                notes.extend(self.find_not_asked(&pod).inspect(|_| found.not_asked += 1));
            }
            next = page.finish()?;
            // Not before the page has ended: the API server gives up one that is read slowly.
            for note in notes {
                self.publish(&note, &mut found).await;
            }
            if next.is_none() {
                break;
            }
        }
        self.metrics
            .set_missed(found.image_pull_failing, found.waiting);
        self.metrics.set_not_asked(found.not_asked);
        found.log();
        Ok(())
    }

    /// What to say of a Pod that hangs on a node whose kubelet never asked for a login that it alone can get.
    fn find_not_asked(&self, pod: &ListedPod) -> Option<EventNote> {
        let node = pod.node.as_ref().filter(|_| !pod.is_deleted)?;
        let images = &pod.failing_images;
        if !pod.is_pending || images.is_empty() {
            return None;
        }
        let asked_for = self
            .check
            .find_asked_for(&pod.namespace, pod.json.get(), images);
        let registries = self.provisioner.registries();
        let registry = asked_for.into_iter().find(|registry| {
            let seen = registries.find_listed(registry);
            let seen = seen.and_then(|listed| self.nodes.get(listed));
            // Of those for whom there was no room nothing is known.
            seen.is_some_and(|seen| !seen.nodes.is_full() && seen.nodes.last_day(node).is_none())
        })?;
        Some(event::node_not_asked(pod, node, &registry))
    }

    /// A review that came after a Pod that was not asked about: the API server calls again.
    fn hear(&self) {
        let heard = self.calls.unasked().zip(self.admissions.last_response());
        if heard.is_some_and(|(pod, answered)| answered > pod.created) {
            self.set_unasked(None);
        }
    }

    /// Says what a scan showed of the API server's calls. What was said before holds until something speaks against it.
    async fn conclude(&self, evidence: Option<&CallEvidence>) -> Result<(), ClusterError> {
        let Some(evidence) = evidence else {
            return Ok(());
        };
        let known = self.calls.unasked();
        let known = known.filter(|known| evidence.upholds(known));
        let unasked = match known {
            Some(known) => Some(UnaskedPod::clone(&known)),
            None => self.find_unasked(evidence).await?,
        };
        if let Some(pod) = &unasked {
            let note = event::webhook_not_called(pod);
            self.kube.publish(&note, (self.clock)()).await;
        }
        self.set_unasked(unasked);
        Ok(())
    }

    /// The newest Pod that nobody was asked about and that was created after all that decides about it was as it is now, if this
    /// suffices.
    async fn find_unasked(
        &self,
        evidence: &CallEvidence,
    ) -> Result<Option<UnaskedPod>, ClusterError> {
        let mut newest: Option<&UnaskedPod> = None;
        for suspect in evidence.suspects() {
            if !self.is_settled(suspect, evidence).await? {
                continue;
            }
            let newest = *newest.get_or_insert(&suspect.pod);
            if evidence.suffices(newest, &suspect.pod) {
                return Ok(Some(newest.clone()));
            }
        }
        Ok(None)
    }

    /// Whether nothing was written since that explains why nobody was asked about a Pod, or why it lacks what it does.
    async fn is_settled(
        &self,
        Suspect { pod, lacks }: &Suspect,
        evidence: &CallEvidence,
    ) -> Result<bool, ClusterError> {
        let labels = self.kube.fetch_labels_changed(&pod.namespace).await?;
        let mut is_settled = evidence.is_settled(labels, pod);
        for registry in lacks.registries.iter().flat_map(|name| name.parse()) {
            let spec = self.kube.fetch_spec_changed(&registry).await?;
            is_settled &= evidence.is_settled(spec, pod);
        }
        let secrets = lacks.secrets.iter();
        for secret in secrets.flat_map(|name| name.parse::<ObjectName>()) {
            let created = self.kube.fetch_secret_created(&pod.namespace, &secret);
            let created = created.await?;
            // One that is younger may have taken the place of one that is not ours.
            is_settled &= created.is_none() || evidence.is_settled(created, pod);
        }
        Ok(is_settled)
    }

    fn set_unasked(&self, pod: Option<UnaskedPod>) {
        let was_unasked = self.calls.unasked().is_some();
        match &pod {
            Some(pod) if !was_unasked => tracing::warn!("{}", pod.describe()),
            None if was_unasked => tracing::info!(
                "the API server called the webhook, or its configuration changed: it may be reached again"
            ),
            _ => {}
        }
        self.metrics.set_not_called(pod.is_some());
        self.calls.set_unasked(pod);
    }

    async fn publish(&self, note: &EventNote, found: &mut ScanResult) {
        if !found.events_failing && found.event_count < MAX_EVENTS {
            let published = self.kube.publish(note, (self.clock)()).await;
            found.event_count += 1;
            found.events_failing = published == Published::Failed;
        }
    }

    async fn check(&self, pod: &ListedPod) -> PodCheck {
        if pod.is_deleted {
            return PodCheck::Referenced;
        }
        let json = pod.json.get();
        self.check.check(&pod.namespace, json, (self.clock)()).await
    }
}

impl ScanResult {
    /// Counts a Pod if it was missed and waits; answers what to say of it.
    fn count(&mut self, pod: &ListedPod, checked: &PodCheck) -> Option<EventNote> {
        let PodCheck::Missed(lacks) = checked else {
            return None;
        };
        if !pod.is_pending {
            return None;
        }
        if pod.is_image_pull_failing() {
            self.image_pull_failing += 1;
        } else {
            self.waiting += 1;
        }
        Some(event::missed_pod(pod, lacks))
    }

    fn log(&self) {
        if self.not_asked > 0 {
            tracing::warn!(
                pods.not_asked = self.not_asked,
                "pods hang on nodes whose kubelet never asked for a login that no Secret holds: an event on each says what to do (kubectl get events -A --field-selector reason=NodeNotAsked)"
            );
        }
        if self.image_pull_failing + self.waiting > 0 {
            tracing::warn!(
                pods.image_pull_failing = self.image_pull_failing,
                pods.pending = self.waiting,
                "pods were created without a reference to their pull secret: an event on each says what to do (kubectl get events -A --field-selector reason=PullSecretNotReferenced)"
            );
        }
    }
}

/// What a Pod shows of the API server's calls.
fn note_evidence(pod: &ListedPod, checked: &PodCheck, evidence: &mut CallEvidence) {
    let Some(created) = pod.created else {
        return;
    };
    if pod.references_pull_secret {
        evidence.note_asked(created);
    } else if let PodCheck::Missed(lacks) = checked {
        let suspect = Suspect {
            pod: UnaskedPod {
                namespace: pod.namespace.clone(),
                name: pod.name.clone(),
                created,
            },
            lacks: lacks.clone(),
        };
        evidence.note_unasked(suspect, pod.changed);
    }
}

/// Logs a failure unless it is the one that was logged last.
fn log_new_failure(last_failure: &mut Option<&'static str>, error: &ClusterError) {
    if last_failure.replace(error.reason()) == Some(error.reason()) {
        return;
    }
    tracing::warn!(
        error.reason = error.reason(),
        "failed to scan for missed Pods, retrying: {error}; needs the ClusterRole pullpass-missed-pods, or --missed-pod-scan-interval=0 to disable"
    );
}

/// A Pod for tests.
#[cfg(test)]
pub(crate) fn waiting_pod(namespace: &str, name: &str) -> ListedPod {
    ListedPod {
        namespace: namespace.parse().unwrap(),
        name: name.parse().unwrap(),
        uid: "u".to_owned(),
        is_pending: true,
        created: None,
        changed: None,
        references_pull_secret: false,
        is_deleted: false,
        failing_images: vec!["a.example.com/x".to_owned()],
        node: None,
        controller: None,
        template_hash: None,
        json: Box::default(),
    }
}
