//! Writes Registries' status, and Events.

mod excluded;
mod write_failures;

use std::collections::{BTreeSet, HashMap, HashSet};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::ObjectReference;

use super::conditions::{
    Reason, RegistryFacts, build_status, find_deadline, find_problem, find_reach,
};
use crate::clock::RetryTimer;
use crate::cluster::{EventNote, EventType, Kube, reference};
use crate::names::ObjectName;
use crate::provision::Pending;
use crate::provision::ports::ClusterError;
use crate::provision::snapshot::{PullSecretKey, Snapshot};
use crate::provision::summary::RegistrySummary;
use crate::registry::crd::RegistryStatus;
use crate::registry::source::MintSource;
use crate::registry::{Labels, Registries, RegistryInfo};

/// How often a Registry's status is written at most: what changes in between is said together.
const MIN_INTERVAL: SignedDuration = SignedDuration::from_secs(2);

/// When problems that persist are reported again: an Event that could not be written is retried by then, an old one repeated.
const REPEAT_AFTER: SignedDuration = SignedDuration::from_mins(1);

/// The longest wait before a status that could not be written is tried again; it begins with [`MIN_INTERVAL`] and doubles.
const MAX_BACKOFF: SignedDuration = SignedDuration::from_mins(1);

/// How many Events begin per round at most: a cluster that is full of trouble is not flooded.
const MAX_EVENTS: usize = 20;

/// How many namespaces a message names.
const MAX_NAMED: usize = 3;

/// Writes status and Events into the cluster.
pub trait StatusWriter: Send + Sync {
    /// Writes a Registry's status, of the Registry with this uid alone.
    ///
    /// # Errors
    /// The API server cannot be reached or refuses.
    fn apply_status<'a>(
        &'a self,
        listed: &'a RegistryInfo,
        status: &'a RegistryStatus,
    ) -> BoxFuture<'a, Result<(), ClusterError>>;

    /// Publishes an Event, unless the same one was published lately.
    fn publish<'a>(&'a self, notice: &'a EventNote, now: Timestamp) -> BoxFuture<'a, ()>;
}

impl StatusWriter for Kube {
    fn apply_status<'a>(
        &'a self,
        listed: &'a RegistryInfo,
        status: &'a RegistryStatus,
    ) -> BoxFuture<'a, Result<(), ClusterError>> {
        self.apply_registry_status(&listed.name, &listed.uid, status)
            .boxed()
    }

    fn publish<'a>(&'a self, notice: &'a EventNote, now: Timestamp) -> BoxFuture<'a, ()> {
        Kube::publish(self, notice, now).map(drop).boxed()
    }
}

/// Errors that no snapshot shows.
pub(super) struct ReconcileErrors<'t> {
    /// Why the credential of a source could not be minted.
    pub(super) failure: &'t dyn Fn(&MintSource) -> Option<Reason>,
    /// The pull secrets with persistent drift.
    pub(super) drifting: HashSet<PullSecretKey>,
    /// Why pull secrets could not be written.
    pub(super) unwritten: HashMap<PullSecretKey, Vec<Pending>>,
    /// What concerns each Registry.
    pub(super) notes: Vec<Reason>,
}

/// What is to be published now.
#[derive(Debug, Default)]
pub(super) struct StatusUpdates {
    pub(super) statuses: Vec<(RegistryInfo, RegistryStatus)>,
    pub(super) events: Vec<EventNote>,
    /// When to publish more; `None`: there is nothing left.
    pub(super) requeue_at: Option<Timestamp>,
}

/// What this replica published.
#[derive(Default)]
pub(super) struct ReportedStatus {
    /// By the Registry's name, with its unique id: one recreated under the same name starts over.
    statuses: HashMap<ObjectName, (String, RegistryStatus)>,
    /// Registries whose status could not be written, and is left alone for a while.
    backoff: HashMap<ObjectName, RetryTimer>,
    /// When to publish more.
    next: Option<RetryTimer>,
    rotation: RoundRobin,
    /// Why no status could be written last time, as it was logged.
    logged_reason: Option<&'static str>,
}

impl ReportedStatus {
    /// When to publish again; `None`: now.
    pub(super) fn holds_until(&self, now: Timestamp) -> Option<Timestamp> {
        Some(self.next?.at(now)).filter(|next| *next > now)
    }

    /// What is new since the last time. `known` gives the status that the cluster has of a Registry that this replica published nothing for yet.
    pub(super) fn find_updates(
        &mut self,
        snapshot: &Snapshot,
        registries: &Registries,
        errors: &ReconcileErrors<'_>,
        reported: impl Fn(&str) -> Option<RegistryStatus>,
        now: Timestamp,
    ) -> StatusUpdates {
        self.next = Some(RetryTimer::after(MIN_INTERVAL, now));
        let mut updates = StatusUpdates::default();
        let tied = find_ties(registries, snapshot);
        let drifting = find_drifting(registries, snapshot, &errors.drifting);
        let unwritten = write_failures::find(snapshot, &errors.unwritten);
        for listed in registries.listed() {
            let mut facts = gather_facts(listed, snapshot, registries, errors, &tied);
            facts.notes.extend(drifting.get(&listed.name).map(|namespaces| {
                let message = format!("another writer keeps changing the pull secret in {}, backing off; find it with `kubectl get secret pullpass --show-managed-fields -o yaml`, or opt the namespace out", namespaces.join(", "));
                Reason::new("ConflictingWriter", message)
            }));
            let describe = write_failures::WriteFailure::describe;
            facts.unwritten = unwritten.missing.get(&listed.name).map(describe);
            facts.unrenewed = unwritten.renewed.get(&listed.name).map(describe);
            let before = self
                .statuses
                .get(&listed.name)
                .filter(|(uid, _)| *uid == listed.uid)
                .map(|(_, status)| status.clone())
                .or_else(|| reported(&listed.name));
            let status = build_status(listed, &facts, before.as_ref(), now);
            if let Some(deadline) = find_deadline(&status) {
                requeue_at(&mut updates, deadline);
            }
            let events = &mut updates.events;
            events.extend(find_event(listed, &facts, now));
            events.extend(find_foreign(snapshot, registries, listed));
            if before.as_ref() != Some(&status) {
                if let Some(expiration_time) = self.backoff_until(&listed.name, now) {
                    requeue_at(&mut updates, expiration_time);
                    continue;
                }
                updates.statuses.push((listed.clone(), status.clone()));
            }
            self.statuses
                .insert(listed.name.clone(), (listed.uid.clone(), status));
        }
        updates.events.extend(unwritten.events);
        updates.events.extend(excluded::find(snapshot));
        let names: BTreeSet<&str> = registries.listed().iter().map(|one| &*one.name).collect();
        self.statuses.retain(|name, _| names.contains(&**name));
        self.backoff.retain(|name, _| names.contains(&**name));
        let is_wrong = !updates.events.is_empty();
        updates.events = self.rotation.take(updates.events);
        if self.rotation.is_partial() {
            requeue_at(&mut updates, later(now, MIN_INTERVAL));
        } else if is_wrong {
            requeue_at(&mut updates, later(now, REPEAT_AFTER));
        }
        updates
    }

    /// Until when a Registry's status is left alone because it could not be written; `None`: it is not.
    fn backoff_until(&self, registry: &str, now: Timestamp) -> Option<Timestamp> {
        Some(self.backoff.get(registry)?.at(now)).filter(|expiration_time| *expiration_time > now)
    }

    /// Notes how writing a status ended: one that could not be written is tried again, ever later, and why is logged once.
    pub(super) fn record_write(
        &mut self,
        registry: &ObjectName,
        written: Result<(), ClusterError>,
        now: Timestamp,
    ) {
        let Err(error) = written else {
            self.logged_reason = None;
            self.backoff.remove(registry);
            return;
        };
        self.statuses.remove(registry);
        let before = self.backoff.get(registry);
        let wait = before.map_or(MIN_INTERVAL, |before| (before.wait() * 2).min(MAX_BACKOFF));
        let requeue_at = RetryTimer::after(wait, now);
        self.backoff.insert(registry.clone(), requeue_at);
        if self.logged_reason.replace(error.reason()) != Some(error.reason()) {
            tracing::warn!(
                registry.name = registry.as_str(),
                "failed to update the status of a Registry, retrying: {error}"
            );
        }
    }
}

fn later(now: Timestamp, wait: SignedDuration) -> Timestamp {
    now.checked_add(wait).unwrap_or(Timestamp::MAX)
}

fn requeue_at(updates: &mut StatusUpdates, at: Timestamp) {
    updates.requeue_at = Some(
        updates
            .requeue_at
            .map_or(at, |requeue_at| requeue_at.min(at)),
    );
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

fn gather_facts<'a>(
    listed: &RegistryInfo,
    snapshot: &'a Snapshot,
    registries: &Registries,
    errors: &ReconcileErrors<'_>,
    tied: &HashMap<ObjectName, String>,
) -> RegistryFacts<'a> {
    let problems = registries.problems().iter();
    let problem = problems
        .filter(|problem| problem.registry == *listed.name)
        .map(|problem| format!("{} {}", problem.field, problem.message))
        .reduce(|one, other| format!("{one}; {other}"));
    let summary = snapshot.summaries.get(&listed.name);
    let registry = registries.get(&listed.name);
    let mut facts = RegistryFacts {
        problem,
        suspended: registry.is_some_and(|registry| registry.suspend),
        summary,
        reach: registry
            .filter(|_| summary.is_none())
            .map(|registry| find_reach(registry, &snapshot.opted_in))
            .unwrap_or_default(),
        notes: errors.notes.clone(),
        ..RegistryFacts::default()
    };
    facts.notes.extend(tied.get(&listed.name).map(|other| {
        let message = format!(
            "ambiguous precedence with Registry {other}: same pattern, equally specific, equally old, so only the name decides; make one more specific"
        );
        Reason::new("AmbiguousPrecedence", message)
    }));
    if let Some(summary) = summary {
        add_credentials(&mut facts, summary, snapshot, errors);
    }
    facts
}

fn add_credentials(
    facts: &mut RegistryFacts<'_>,
    summary: &RegistrySummary,
    snapshot: &Snapshot,
    errors: &ReconcileErrors<'_>,
) {
    let mut principals = BTreeSet::new();
    for &index in &summary.credentials {
        let life = snapshot.view.credentials[index].minted;
        let expiration_time = life.map(|(_, expiration_time)| expiration_time);
        facts.expiration_time = facts
            .expiration_time
            .into_iter()
            .chain(expiration_time)
            .min();
        principals.extend(snapshot.principals[index].clone());
        let failure = (errors.failure)(&snapshot.sources[index]);
        facts.failure = facts.failure.take().or(failure);
    }
    // Registries of namespaces' own ServiceAccounts have one in each.
    facts.principals = principals.into_iter().take(3).collect();
}

/// Which other Registry each one ties with, in some namespace.
fn find_ties(registries: &Registries, snapshot: &Snapshot) -> HashMap<ObjectName, String> {
    let mut tied = HashMap::new();
    let mut seen: BTreeSet<&Labels> = BTreeSet::new();
    for target in &snapshot.secrets {
        let labels = &target.namespace.labels;
        // Namespaces that cannot tie are not checked one by one.
        if !registries.may_tie() || !seen.insert(labels) {
            continue;
        }
        for (one, other) in registries.ties(labels) {
            tied.insert(one.name.clone(), other.name.to_string());
            tied.insert(other.name.clone(), one.name.to_string());
        }
    }
    tied
}

/// In which namespaces another writer keeps changing the secret that holds each Registry's logins; the first few of them.
fn find_drifting(
    registries: &Registries,
    snapshot: &Snapshot,
    drifting: &HashSet<PullSecretKey>,
) -> HashMap<ObjectName, Vec<String>> {
    let mut found: HashMap<ObjectName, Vec<String>> = HashMap::new();
    if drifting.is_empty() {
        return found;
    }
    for target in &snapshot.secrets {
        if !drifting.contains(&target.name()) {
            continue;
        }
        let serving = registries.serving(&target.namespace.labels).into_iter();
        for registry in serving.filter(|registry| registry.secret == target.secret) {
            let namespaces = found.entry(registry.name.clone()).or_default();
            if namespaces.len() < MAX_NAMED {
                namespaces.push(target.namespace.name.to_string());
            }
        }
    }
    found
}

/// The Event that a Registry is worth: what is wrong with it.
fn find_event(
    listed: &RegistryInfo,
    facts: &RegistryFacts<'_>,
    now: Timestamp,
) -> Option<EventNote> {
    let wrong = find_problem(facts, now)?;
    Some(EventNote {
        regarding: reference(
            ["pullpass.dev/v1alpha1", "Registry", &listed.name],
            None,
            Some(&listed.uid),
        ),
        event_type: EventType::Warning,
        reason: wrong.reason,
        action: "Provision",
        note: wrong.message,
    })
}

/// Events in namespaces in which a Secret that is not ours has the name: people there may not be allowed to read Registries.
fn find_foreign(
    snapshot: &Snapshot,
    registries: &Registries,
    listed: &RegistryInfo,
) -> Vec<EventNote> {
    let summary = snapshot.summaries.get(&listed.name);
    let Some((summary, registry)) = summary.zip(registries.get(&listed.name)) else {
        return Vec::new();
    };
    let named = summary.foreign_in.iter();
    named
        .map(|namespace| EventNote {
            regarding: secret(namespace, &registry.secret),
            event_type: EventType::Warning,
            reason: "SecretNotManaged",
            action: "Provision",
            note: format!(
                "pullpass does not manage this Secret, so Pods here get no pull secret of Registry {}: rename or delete it",
                listed.name
            ),
        })
        .collect()
}

/// A reference to a pull secret, which need not be there.
pub(super) fn secret(namespace: &str, name: &str) -> ObjectReference {
    reference(["v1", "Secret", name], Some(namespace), None)
}

#[cfg(test)]
mod tests;
