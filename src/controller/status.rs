//! Writes Registries' status, and Events.

mod asked;
mod facts;
mod shared_host;
mod unheeded;
mod waiting;
mod write_failures;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::ObjectReference;

use super::conditions::{
    Reason, RegistryFacts, build_status, find_deadline, find_problem, is_login_refused,
    is_login_untried,
};
use super::login_checks::CheckedLogins;
use super::metrics::RegistryGauges;
use super::node_lists::SeenNodes;
use super::reconciler::index::Index;
use crate::clock::{Backoff, RetryTimer};
use crate::cluster::{EventNote, EventType, Kube, reference};
use crate::log_throttle::LogThrottle;
use crate::names::{NamespaceName, ObjectName};
use crate::provision::changes::PullSecretKey;
use crate::provision::ports::ClusterError;
use crate::provision::{Namespace, Pending, Provision as _, Provisioner};
use crate::registry::crd::RegistryStatus;
use crate::registry::source::MintSource;
use crate::registry::{Registries, RegistryInfo};
use facts::Facts;
use waiting::WaitCauses;

/// How often a Registry's status is written at most: what changes in between is said together.
const MIN_INTERVAL: SignedDuration = SignedDuration::from_secs(2);

/// When problems that persist are reported again: an Event that could not be written is retried by then, an old one repeated.
const REPEAT_AFTER: SignedDuration = SignedDuration::from_mins(1);

/// The waits before a status that could not be written is tried again.
const BACKOFF: Backoff = Backoff {
    first: MIN_INTERVAL,
    longest: SignedDuration::from_mins(1),
};

/// How many Events begin per round at most: a cluster that is full of trouble is not flooded.
const MAX_EVENTS: usize = 20;

/// How many statuses are written at a time: whatever else goes to the API server has a way beside them.
const MAX_WRITES: usize = 16;

/// Writes status and Events into the cluster.
#[async_trait]
pub trait StatusWriter: Send + Sync {
    /// Writes a Registry's status, of the Registry with this uid alone.
    ///
    /// # Errors
    /// The API server cannot be reached or refuses.
    async fn apply_status(
        &self,
        listed: &RegistryInfo,
        status: &RegistryStatus,
    ) -> Result<(), ClusterError>;

    /// Publishes an Event, unless the same one was published lately.
    async fn publish(&self, notice: &EventNote, now: Timestamp);
}

#[async_trait]
impl StatusWriter for Kube {
    async fn apply_status(
        &self,
        listed: &RegistryInfo,
        status: &RegistryStatus,
    ) -> Result<(), ClusterError> {
        self.apply_registry_status(&listed.name, &listed.uid, status)
            .await
    }

    async fn publish(&self, notice: &EventNote, now: Timestamp) {
        Kube::publish(self, notice, now).await;
    }
}

/// What is to be known to say how a Registry is.
pub(super) struct StatusInput<'t> {
    pub(super) provisioner: &'t Provisioner,
    pub(super) index: &'t Index,
    /// Why the credential of a source could not be minted.
    pub(super) failure: &'t dyn Fn(&MintSource) -> Option<Reason>,
    /// The pull secrets with persistent drift.
    pub(super) drifting: BTreeSet<PullSecretKey>,
    /// Why pull secrets could not be written.
    pub(super) unwritten: BTreeMap<PullSecretKey, Vec<Pending>>,
    /// What is known of fixed logins; `None`: nobody tries them.
    pub(super) logins: Option<&'t CheckedLogins>,
    /// Which nodes' kubelets asked.
    pub(super) nodes: &'t SeenNodes,
    /// What concerns each Registry.
    pub(super) notes: Vec<Reason>,
    /// Those namespaces whose label is not followed.
    pub(super) unheeded: &'t BTreeMap<NamespaceName, Arc<Namespace>>,
    /// Where it is shown of each Registry whether it is ready, and until when.
    pub(super) gauges: &'t RegistryGauges,
}

/// A Registry by its name and unique id: one that is made anew under the same name is another one.
pub(super) type StatusKey = (ObjectName, String);

/// What this replica wrote, and how often the watch had shown the Registry then: what it shows later counts more.
struct WrittenStatus {
    status: RegistryStatus,
    shown: u64,
}

/// What this replica publishes.
#[derive(Default)]
pub(super) struct ReportedStatus {
    written: HashMap<StatusKey, WrittenStatus>,
    /// What waits to be written.
    waiting: BTreeMap<StatusKey, (RegistryInfo, RegistryStatus)>,
    /// What is being written.
    writing: BTreeMap<StatusKey, WrittenStatus>,
    /// Registries whose status could not be written, and is left alone for a while.
    backoff: HashMap<StatusKey, RetryTimer>,
    /// The Registries of which something changed since the last round.
    changed: BTreeSet<ObjectName>,
    /// Whether that may be any of them.
    all_changed: bool,
    /// When a Registry's status becomes another one though nothing changes.
    deadlines: BTreeMap<ObjectName, Timestamp>,
    /// What is wrong with each Registry.
    problems: BTreeMap<ObjectName, Vec<EventNote>>,
    /// Where Pods wait for a login of each Registry.
    unserved: BTreeMap<ObjectName, WaitCauses>,
    /// What is said once: where they did.
    ended: Vec<EventNote>,
    /// When there is to be another round: not before, and at the latest.
    holdoff: Option<RetryTimer>,
    repeat: Option<RetryTimer>,
    rotation: RoundRobin,
    /// By the reason: where one status is refused, all of them may be.
    failures: LogThrottle<&'static str>,
}

impl ReportedStatus {
    /// Something of this Registry changed.
    pub(super) fn mark(&mut self, registry: ObjectName) {
        self.changed.insert(registry);
    }

    /// Something changed that may concern any.
    pub(super) fn mark_all(&mut self) {
        self.all_changed = true;
    }

    /// When there is to be a round; `None`: not before something changes.
    pub(super) fn next(&self, now: Timestamp) -> Option<Timestamp> {
        let changed = (self.all_changed || !self.changed.is_empty()).then_some(now);
        let deadline = self.deadlines.values().min().copied();
        let repeat = self.repeat.map(|timer| timer.at(now));
        let due = changed.into_iter().chain(deadline).chain(repeat).min()?;
        let holdoff = self.holdoff.map(|timer| timer.at(now));
        Some(holdoff.map_or(due, |holdoff| holdoff.max(due)))
    }

    /// Finds what is to be said anew; answers the Events to publish.
    pub(super) fn round(&mut self, input: &StatusInput<'_>, now: Timestamp) -> Vec<EventNote> {
        self.holdoff = Some(RetryTimer::after(MIN_INTERVAL, now));
        let registries = input.provisioner.registries();
        let mut names = std::mem::take(&mut self.changed);
        let is_due = |(_, at): &(&ObjectName, &Timestamp)| **at <= now;
        let due = self.deadlines.iter().filter(is_due);
        names.extend(due.map(|(name, _)| name.clone()));
        if std::mem::take(&mut self.all_changed) {
            names.extend(registries.listed().iter().map(|one| one.name.clone()));
            self.forget_gone(&registries);
            let is_there = |name: &ObjectName| registries.find_listed(name).is_some();
            input.gauges.retain(is_there);
        }
        let facts = Facts::new(input, &registries, now);
        for name in names {
            self.deadlines.remove(&name);
            if let Some(listed) = registries.find_listed(&name) {
                self.update(listed, &facts, now);
            } else {
                self.problems.remove(&name);
                self.unserved.remove(&name);
                input.gauges.remove(&name);
            }
        }
        let mut events: Vec<EventNote> = self.problems.values().flatten().cloned().collect();
        events.extend(facts.unwritten.events);
        events.extend(unheeded::find(input.unheeded));
        let is_wrong = !events.is_empty();
        let mut events = self.rotation.take(events);
        let now_ended = self.ended.len().min(MAX_EVENTS);
        events.extend(self.ended.drain(..now_ended));
        let again = if self.rotation.is_partial() || !self.ended.is_empty() {
            MIN_INTERVAL
        } else {
            REPEAT_AFTER
        };
        self.repeat = (is_wrong || !self.ended.is_empty()).then(|| RetryTimer::after(again, now));
        events
    }

    /// Works out the status of one Registry, and queues it where the cluster has another one.
    fn update(&mut self, listed: &RegistryInfo, facts: &Facts<'_>, now: Timestamp) {
        let key = (listed.name.clone(), listed.uid.clone());
        let shown = facts.input.provisioner.status(&listed.name);
        let written = self.written.get(&key);
        let written = written.filter(|written| shown.count <= written.shown);
        let before = written
            .map(|written| written.status.clone())
            .or(shown.status);
        let of_registry = facts.of(listed);
        let status = build_status(listed, &of_registry, before.as_ref(), now);
        facts.input.gauges.set(&listed.name, &status);
        let mut problems = Vec::from_iter(find_event(listed, &of_registry, before.as_ref(), now));
        problems.extend(facts.find_foreign(listed));
        problems.extend(self.find_waiting(
            listed,
            facts,
            is_login_refused(&of_registry, before.as_ref()),
            is_login_untried(&of_registry, before.as_ref()),
        ));
        if problems.is_empty() {
            self.problems.remove(&listed.name);
        } else {
            self.problems.insert(listed.name.clone(), problems);
        }
        let mut deadline = find_deadline(&status);
        if self.writing.contains_key(&key) || before.as_ref() == Some(&status) {
            // When what is being written is there, this is seen again.
            self.waiting.remove(&key);
        } else if let Some(until) = self.backoff_until(&key, now) {
            deadline = Some(deadline.map_or(until, |deadline| deadline.min(until)));
        } else {
            self.waiting.insert(key, (listed.clone(), status));
        }
        if let Some(deadline) = deadline {
            self.deadlines.insert(listed.name.clone(), deadline);
        }
    }

    /// Events where Pods wait for a login of a Registry. Nothing is said while it rests.
    fn find_waiting(
        &mut self,
        listed: &RegistryInfo,
        facts: &Facts<'_>,
        is_refused: bool,
        is_untried: bool,
    ) -> Vec<EventNote> {
        let name = &listed.name;
        let before = self.unserved.remove(name).unwrap_or_default();
        let others = self.unserved.values().map(BTreeMap::len).sum();
        let now_waiting = waiting::find(facts, listed, is_refused, others);
        let describe = |(key, cause)| waiting::describe(key, name, cause);
        let events = now_waiting.iter().map(describe).collect();
        // What was minted is still to be written, or another login to be tried.
        let known = waiting::keep_lacking(facts, (name, is_untried), &before, now_waiting);
        let ended = waiting::describe_ended(facts, name, &before, &known);
        self.ended.extend(ended);
        if !known.is_empty() {
            self.unserved.insert(name.clone(), known);
        }
        events
    }

    /// Takes the next status to be written, as long as not too many are.
    pub(super) fn pop_write(
        &mut self,
        provisioner: &Provisioner,
    ) -> Option<(RegistryInfo, RegistryStatus)> {
        if self.writing.len() >= MAX_WRITES {
            return None;
        }
        let (key, (listed, status)) = self.waiting.pop_first()?;
        let written = WrittenStatus {
            status: status.clone(),
            shown: provisioner.status(&listed.name).count,
        };
        self.writing.insert(key, written);
        Some((listed, status))
    }

    fn forget_gone(&mut self, registries: &Registries) {
        let is_there = |(name, uid): &StatusKey| {
            let listed = registries.find_listed(name);
            listed.is_some_and(|listed| listed.uid == *uid)
        };
        self.written.retain(|key, _| is_there(key));
        self.waiting.retain(|key, _| is_there(key));
        self.backoff.retain(|key, _| is_there(key));
        let is_listed = |name: &ObjectName| registries.find_listed(name).is_some();
        self.problems.retain(|name, _| is_listed(name));
        self.unserved.retain(|name, _| is_listed(name));
        self.deadlines.retain(|name, _| is_listed(name));
    }

    /// Until when a Registry's status is left alone because it could not be written; `None`: it is not.
    fn backoff_until(&self, key: &StatusKey, now: Timestamp) -> Option<Timestamp> {
        Some(self.backoff.get(key)?.at(now)).filter(|until| *until > now)
    }

    /// Notes how writing a status ended: one that could not be written is tried again, ever later, and why is logged once a minute.
    pub(super) fn record_write(
        &mut self,
        key: StatusKey,
        result: Result<(), ClusterError>,
        now: Timestamp,
    ) {
        self.changed.insert(key.0.clone());
        let written = self.writing.remove(&key);
        let Err(error) = result else {
            self.backoff.remove(&key);
            self.written.extend(written.map(|written| (key, written)));
            return;
        };
        let timer = BACKOFF.next(self.backoff.get(&key).copied(), now);
        if let Some(suppressed) = self.failures.admit(error.reason()) {
            tracing::warn!(
                registry.name = key.0.as_str(),
                suppressed,
                "failed to update the status of a Registry, retrying: {error}"
            );
        }
        self.written.remove(&key);
        self.backoff.insert(key, timer);
    }
}

/// Takes turns where there is more to publish than one round allows.
#[derive(Debug, Default)]
struct RoundRobin {
    /// How many were taken since the first one was.
    taken: usize,
}

impl RoundRobin {
    /// Those whose turn it is. The order is the same from round to round, but for what changed.
    fn take(&mut self, events: Vec<EventNote>) -> Vec<EventNote> {
        let all = events.len();
        let begin = if self.taken < all { self.taken } else { 0 };
        let taken: Vec<EventNote> = events.into_iter().skip(begin).take(MAX_EVENTS).collect();
        let end = begin + taken.len();
        self.taken = if end < all { end } else { 0 };
        taken
    }

    /// Whether others are still to come.
    fn is_partial(&self) -> bool {
        self.taken > 0
    }
}

/// The Event that a Registry is worth: what is wrong with it.
fn find_event(
    listed: &RegistryInfo,
    facts: &RegistryFacts,
    before: Option<&RegistryStatus>,
    now: Timestamp,
) -> Option<EventNote> {
    let wrong = find_problem(facts, before, now)?;
    Some(EventNote {
        regarding: reference(
            ["pullpass.dev/v1alpha1", "Registry", &listed.name],
            None,
            Some(&listed.uid),
        ),
        event_type: EventType::Warning,
        reason: wrong.reason,
        series: None,
        action: "Provision",
        note: wrong.message,
    })
}

/// A reference to a pull secret, which need not be there.
pub(super) fn secret(namespace: &str, name: &str) -> ObjectReference {
    reference(["v1", "Secret", name], Some(namespace), None)
}

#[cfg(test)]
mod tests;
