//! Telling people: Registries' status, and Events.

mod unwritten;

use std::collections::{BTreeSet, HashMap, HashSet};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::ObjectReference;

use super::again::Again;
use super::report::{Facts, Finding, find_wrong, report};
use crate::cluster::{Gravity, Kube, Notice, reference};
use crate::names::ObjectName;
use crate::provision::Pending;
use crate::provision::access::ClusterError;
use crate::provision::survey::{Name, Survey};
use crate::provision::tally::Tally;
use crate::registry::kind::RegistryStatus;
use crate::registry::source::MintSource;
use crate::registry::{Labels, Listed, Registries};

/// How often a Registry's status is written at most: what changes in between is said together.
const EVERY: SignedDuration = SignedDuration::from_secs(2);

/// When it is told again what is still wrong: an Event that could not be written is tried again by then, one of some time ago repeated.
const STILL_WRONG: SignedDuration = SignedDuration::from_mins(1);

/// The longest wait before a status that could not be written is tried again; it begins with [`EVERY`] and doubles.
const LONGEST: SignedDuration = SignedDuration::from_mins(1);

/// How many Events begin per round at most: a cluster that is full of trouble is not flooded.
const EVENTS: usize = 20;

/// How many namespaces a message names.
const NAMED: usize = 3;

/// Who carries to the cluster what is to be told.
pub trait Teller: Send + Sync {
    /// Writes a Registry's status, of the Registry with this uid alone.
    ///
    /// # Errors
    /// The API server cannot be reached or refuses.
    fn apply_status<'a>(
        &'a self,
        listed: &'a Listed,
        status: &'a RegistryStatus,
    ) -> BoxFuture<'a, Result<(), ClusterError>>;

    /// Publishes an Event, unless the object was told the same lately.
    fn publish<'a>(&'a self, notice: &'a Notice, now: Timestamp) -> BoxFuture<'a, ()>;
}

impl Teller for Kube {
    fn apply_status<'a>(
        &'a self,
        listed: &'a Listed,
        status: &'a RegistryStatus,
    ) -> BoxFuture<'a, Result<(), ClusterError>> {
        self.apply_registry_status(&listed.name, &listed.uid, status)
            .boxed()
    }

    fn publish<'a>(&'a self, notice: &'a Notice, now: Timestamp) -> BoxFuture<'a, ()> {
        Kube::publish(self, notice, now).map(drop).boxed()
    }
}

/// What went wrong that no survey shows.
pub(super) struct Trouble<'t> {
    /// Why the credential of a source could not be minted.
    pub(super) failure: &'t dyn Fn(&MintSource) -> Option<Finding>,
    /// The pull secrets that somebody keeps changing.
    pub(super) fought: HashSet<Name>,
    /// Why pull secrets could not be written.
    pub(super) unwritten: HashMap<Name, Vec<Pending>>,
    /// What concerns each Registry.
    pub(super) notes: Vec<Finding>,
}

/// What is to be told now.
#[derive(Debug, Default)]
pub(super) struct News {
    pub(super) statuses: Vec<(Listed, RegistryStatus)>,
    pub(super) notices: Vec<Notice>,
    /// When to go on telling; `None`: there is nothing left.
    pub(super) again: Option<Timestamp>,
}

/// What was told, by this replica.
#[derive(Default)]
pub(super) struct Told {
    statuses: HashMap<ObjectName, RegistryStatus>,
    /// Registries whose status could not be written, and is left alone for a while.
    refused: HashMap<ObjectName, Again>,
    /// When it is time to tell more.
    next: Option<Again>,
    turn: Turn,
    /// Why no status could be written last time, as it was logged.
    complaint: Option<&'static str>,
}

impl Told {
    /// When it is time to tell again; `None`: now.
    pub(super) fn waits_until(&self, now: Timestamp) -> Option<Timestamp> {
        Some(self.next?.at(now)).filter(|next| *next > now)
    }

    /// What is new since the last time. `known` gives what the cluster says now of a Registry that this replica told nothing yet.
    pub(super) fn find_news(
        &mut self,
        survey: &Survey,
        registries: &Registries,
        trouble: &Trouble<'_>,
        known: impl Fn(&str) -> Option<RegistryStatus>,
        now: Timestamp,
    ) -> News {
        self.next = Some(Again::after(EVERY, now));
        let mut news = News::default();
        let tied = find_ties(registries, survey);
        let fought = find_fought(registries, survey, &trouble.fought);
        let unwritten = unwritten::find(survey, &trouble.unwritten);
        for listed in registries.listed() {
            let mut facts = gather(listed, survey, registries, trouble, &tied);
            facts.notes.extend(fought.get(&listed.name).map(|namespaces| {
                let message = format!("somebody keeps changing the pull secret in {}: it is put back more and more slowly; find who does (kubectl get secret --show-managed-fields) and leave it to pullpass, or opt the namespace out", namespaces.join(", "));
                Finding::new("ChangedByOthers", message)
            }));
            let describe = unwritten::Reason::describe;
            facts.unwritten = unwritten.missing.get(&listed.name).map(describe);
            facts.unrenewed = unwritten.renewed.get(&listed.name).map(describe);
            let before = self
                .statuses
                .get(&listed.name)
                .cloned()
                .or_else(|| known(&listed.name));
            let status = report(listed, &facts, before.as_ref(), now);
            news.notices.extend(find_notice(listed, &facts, now));
            news.notices
                .extend(find_foreign(survey, registries, listed));
            if before.as_ref() != Some(&status) {
                if let Some(until) = self.rests_until(&listed.name, now) {
                    note_again(&mut news, until);
                    continue;
                }
                news.statuses.push((listed.clone(), status.clone()));
            }
            self.statuses.insert(listed.name.clone(), status);
        }
        news.notices.extend(unwritten.notices);
        let names: BTreeSet<&str> = registries.listed().iter().map(|one| &*one.name).collect();
        self.statuses.retain(|name, _| names.contains(&**name));
        self.refused.retain(|name, _| names.contains(&**name));
        let is_wrong = !news.notices.is_empty();
        news.notices = self.turn.take(news.notices);
        if self.turn.is_under_way() {
            note_again(&mut news, later(now, EVERY));
        } else if is_wrong {
            note_again(&mut news, later(now, STILL_WRONG));
        }
        news
    }

    /// Until when a Registry's status is left alone because it could not be written; `None`: it is not.
    fn rests_until(&self, registry: &str, now: Timestamp) -> Option<Timestamp> {
        Some(self.refused.get(registry)?.at(now)).filter(|until| *until > now)
    }

    /// Notes how writing a status ended: one that could not be written is tried again, ever later, and why is logged once.
    pub(super) fn note_written(
        &mut self,
        registry: &ObjectName,
        written: Result<(), ClusterError>,
        now: Timestamp,
    ) {
        let Err(error) = written else {
            self.complaint = None;
            self.refused.remove(registry);
            return;
        };
        self.statuses.remove(registry);
        let before = self.refused.get(registry);
        let wait = before.map_or(EVERY, |before| (before.wait() * 2).min(LONGEST));
        let again = Again::after(wait, now);
        self.refused.insert(registry.clone(), again);
        if self.complaint.replace(error.reason()) != Some(error.reason()) {
            tracing::warn!(
                registry.name = registry.as_str(),
                "the status of a Registry could not be written, it is tried again: {error}"
            );
        }
    }
}

fn later(now: Timestamp, wait: SignedDuration) -> Timestamp {
    now.checked_add(wait).unwrap_or(Timestamp::MAX)
}

fn note_again(news: &mut News, at: Timestamp) {
    news.again = Some(news.again.map_or(at, |again| again.min(at)));
}

/// Takes turns where there is more to tell than one round may.
#[derive(Debug, Default)]
struct Turn {
    /// How many were taken since the first one was.
    taken: usize,
}

impl Turn {
    /// Those whose turn it is. The order is the same from round to round, but for what changed.
    fn take(&mut self, notices: Vec<Notice>) -> Vec<Notice> {
        let all = notices.len();
        let begin = if self.taken < all { self.taken } else { 0 };
        let taken: Vec<Notice> = notices.into_iter().skip(begin).take(EVENTS).collect();
        let end = begin + taken.len();
        self.taken = if end < all { end } else { 0 };
        taken
    }

    /// Whether others are still to come.
    fn is_under_way(&self) -> bool {
        self.taken > 0
    }
}

fn gather<'a>(
    listed: &Listed,
    survey: &'a Survey,
    registries: &Registries,
    trouble: &Trouble<'_>,
    tied: &HashMap<ObjectName, String>,
) -> Facts<'a> {
    let problems = registries.problems().iter();
    let problem = problems
        .filter(|problem| problem.registry == *listed.name)
        .map(|problem| format!("{} {}", problem.field, problem.message))
        .reduce(|one, other| format!("{one}; {other}"));
    let tally = survey.tallies.get(&listed.name);
    let registry = registries.get(&listed.name);
    let mut facts = Facts {
        problem,
        suspended: registry.is_some_and(|registry| registry.suspend),
        tally,
        notes: trouble.notes.clone(),
        ..Facts::default()
    };
    facts.notes.extend(tied.get(&listed.name).map(|other| {
        let message = format!(
            "Registry {other} has the same pattern, serves the same namespaces and is as old: only the name says which comes first; make one narrower"
        );
        Finding::new("Tied", message)
    }));
    if let Some(tally) = tally {
        add_credentials(&mut facts, tally, survey, trouble);
    }
    facts
}

fn add_credentials(facts: &mut Facts<'_>, tally: &Tally, survey: &Survey, trouble: &Trouble<'_>) {
    let mut principals = BTreeSet::new();
    for &place in &tally.credentials {
        let life = survey.view.credentials[place].minted;
        let until = life.map(|(_, until)| until);
        facts.until = facts.until.into_iter().chain(until).min();
        principals.extend(survey.principals[place].clone());
        let failure = (trouble.failure)(&survey.sources[place]);
        facts.failure = facts.failure.take().or(failure);
    }
    // Registries of namespaces' own ServiceAccounts have one in each.
    facts.principals = principals.into_iter().take(3).collect();
}

/// Which other Registry each one ties with, in some namespace.
fn find_ties(registries: &Registries, survey: &Survey) -> HashMap<ObjectName, String> {
    let mut tied = HashMap::new();
    let mut seen: BTreeSet<&Labels> = BTreeSet::new();
    for place in &survey.secrets {
        let labels = &place.namespace.labels;
        // Namespaces without a doubt are not looked at one by one.
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

/// In which namespaces somebody keeps changing the secret that each Registry's logins stand in; the first few of them.
fn find_fought(
    registries: &Registries,
    survey: &Survey,
    fought: &HashSet<Name>,
) -> HashMap<ObjectName, Vec<String>> {
    let mut found: HashMap<ObjectName, Vec<String>> = HashMap::new();
    if fought.is_empty() {
        return found;
    }
    for place in &survey.secrets {
        if !fought.contains(&place.name()) {
            continue;
        }
        let serving = registries.serving(&place.namespace.labels).into_iter();
        for registry in serving.filter(|registry| registry.secret == place.secret) {
            let namespaces = found.entry(registry.name.clone()).or_default();
            if namespaces.len() < NAMED {
                namespaces.push(place.namespace.name.to_string());
            }
        }
    }
    found
}

/// The Event that a Registry is worth: what is wrong with it.
fn find_notice(listed: &Listed, facts: &Facts<'_>, now: Timestamp) -> Option<Notice> {
    let wrong = find_wrong(facts, now)?;
    Some(Notice {
        regarding: reference(
            ["pullpass.dev/v1alpha1", "Registry", &listed.name],
            None,
            Some(&listed.uid),
        ),
        gravity: Gravity::Warning,
        reason: wrong.reason,
        action: "Provision",
        note: wrong.message,
    })
}

/// Events in the namespaces in which somebody else's Secret takes the place: people there may see no Registry.
fn find_foreign(survey: &Survey, registries: &Registries, listed: &Listed) -> Vec<Notice> {
    let tally = survey.tallies.get(&listed.name);
    let Some((tally, registry)) = tally.zip(registries.get(&listed.name)) else {
        return Vec::new();
    };
    let named = tally.foreign_in.iter();
    named
        .map(|namespace| Notice {
            regarding: secret(namespace, &registry.secret),
            gravity: Gravity::Warning,
            reason: "ForeignSecret",
            action: "Provision",
            note: format!(
                "this Secret is not pullpass' and is left alone, so that Pods here get no pull secret of Registry {}: rename it, or delete it",
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
