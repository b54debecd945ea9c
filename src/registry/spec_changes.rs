//! What admins changed or deleted of the Registries, as this process saw it by its watch: an order to take out what they no longer give.
//!
//! ```text
//! DELETED, or another spec ─▶ Unconfirmed ── its CRD is served 2 s later ───────────▶ Confirmed: acts, in any number of namespaces
//!                                  └──────── that is going, or another one by then ─▶ KindLost: waits until an admin confirms it
//! ```
//!
//! With the kind all Registries go, each by a DELETED event, and nobody ordered that:
//! <https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#delete-a-customresourcedefinition>.
//! So the CRD has to be there afterwards, by its uid the one of before. What a list misses was not seen to be deleted, so that is no
//! order; and a list of another CRD, or with none of those that were known before, by their uids, is what follows on the loss of a kind.
//! A process that has just started knows of no order.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::pattern::Pattern;
use super::valid::ValidRegistry;
use super::{CredentialSource, Labels, Registries, RegistryInfo};
use crate::names::ObjectName;

/// How long an order is remembered since it was confirmed.
const REMEMBERED: SignedDuration = SignedDuration::from_hours(1);

/// How many changes are remembered, orders or not.
const MOST: usize = 4_000;

/// What is known of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SpecChangeState {
    /// The Registry went as if with its kind: nobody knows whether an admin wanted that.
    KindLost,
    /// Whether the kind is there to stay was not asked yet.
    Unconfirmed,
    /// An admin changed or deleted the Registry.
    Confirmed,
}

/// The changes and deletions of Registries that were seen while the process ran.
#[derive(Clone, Debug, Default)]
pub struct SpecChanges {
    current: Arc<Registries>,
    /// The uid of the CRD that these are of; `None`: unknown.
    crd: Option<Arc<str>>,
    /// The last valid form of each Registry that is there, also of one that breaks a rule now.
    forms: BTreeMap<ObjectName, Arc<ValidRegistry>>,
    /// How often the Registries changed.
    count: u64,
    log: VecDeque<SpecChange>,
    /// What Registries were after the first of these changes and are no more, and at which change they ended.
    past: VecDeque<(u64, Arc<ValidRegistry>)>,
}

/// One Registry that was changed or deleted.
#[derive(Clone, Debug)]
struct SpecChange {
    /// When it was confirmed; until then, when it was seen.
    at: Timestamp,
    /// At which change of the Registries.
    change: u64,
    /// The uid of the CRD that the Registry was of; `None`: unknown.
    crd: Option<Arc<str>>,
    name: ObjectName,
    /// What it was; `None`: it broke a rule for as long as this process knows, so that it may have given anything before.
    was: Option<Arc<ValidRegistry>>,
    /// Since when another one is in its place, or none yet.
    followed_at: Timestamp,
    state: SpecChangeState,
}

impl SpecChanges {
    /// Notes one event of the watch, about the Registry of this name.
    pub fn note_event(&mut self, name: &str, registries: &Arc<Registries>, now: Timestamp) {
        let before = self.advance(registries);
        self.follow(name, &before, now);
        let was = self.forms.get(name).map(Arc::clone);
        if was.is_none() && registries.find_listed(name).is_none() {
            self.note_unknown(name, &before, now, SpecChangeState::Unconfirmed);
        }
        let is_order = match (before.find_listed(name), registries.find_listed(name)) {
            (_, None) => true,
            (Some(was), Some(is)) => is_later(is, was),
            (None, Some(_)) => false,
        };
        if let Some(was) = was.filter(|was| is_order && is_less(was, registries)) {
            let name = was.name.clone();
            self.push(name, Some(was), now, SpecChangeState::Unconfirmed);
        }
        self.end_form(name, &before, registries);
        self.forget(now);
    }

    /// Notes what a list shows, changed or not. `crd` is the uid that the CRD had before the list began: a later one would be taken for
    /// that of Registries which went with an earlier one.
    pub fn note_list(
        &mut self,
        registries: &Arc<Registries>,
        crd: Option<Arc<str>>,
        now: Timestamp,
    ) {
        let before = self.advance(registries);
        let known: BTreeSet<_> = before.listed().iter().map(identify).collect();
        let mut listed = registries.listed().iter();
        let is_other = self.crd.is_some() && crd.is_some() && self.crd != crd;
        let is_lost = is_other || !listed.any(|one| known.contains(&identify(one)));
        let names: BTreeSet<ObjectName> = [&*before, registries]
            .into_iter()
            .flat_map(Registries::listed)
            .map(|one| one.name.clone())
            .collect();
        for name in &names {
            self.follow(name, &before, now);
            let was = self.forms.get(name).map(Arc::clone);
            if was.is_none() && is_lost {
                self.note_unknown(name, &before, now, SpecChangeState::KindLost);
            }
            let is_gone = |was: &Arc<ValidRegistry>| is_lost && is_less(was, registries);
            if let Some(was) = was.filter(is_gone) {
                self.push(name.clone(), Some(was), now, SpecChangeState::KindLost);
            }
            self.end_form(name, &before, registries);
        }
        self.crd = crd;
        self.forget(now);
    }

    /// How often the Registries changed: what is asked now is about changes up to this one.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The kind is served, 2 s after the change of this number or more, by the CRD of this uid: what was changed or deleted of its
    /// Registries up to then was ordered. Where either uid is unknown nobody knows that.
    pub fn confirm(&mut self, until: u64, crd: Option<&str>, now: Timestamp) {
        for one in self.unconfirmed().filter(|one| one.change <= until) {
            if crd.is_some() && one.crd.as_deref() == crd {
                (one.state, one.at) = (SpecChangeState::Confirmed, now);
            } else {
                one.state = SpecChangeState::KindLost;
            }
        }
        // That one was deleted orders nothing, where it is not known what it gave.
        self.log
            .retain(|one| one.was.is_some() || one.state != SpecChangeState::Confirmed);
    }

    /// The kind is being deleted, or gone: what went with it nobody ordered.
    pub fn lose_kind(&mut self) {
        for one in self.unconfirmed() {
            one.state = SpecChangeState::KindLost;
        }
    }

    /// An admin confirmed that what went with the kind is to go, and it is gone.
    pub fn forget_lost_kind(&mut self) {
        self.log
            .retain(|one| one.state != SpecChangeState::KindLost);
    }

    /// What is known of the change since which an entry under `key` of this secret is given no more, in a namespace with these labels:
    /// by the Registry that was changed or deleted, and by none since then. What one that breaks a rule gave
    /// stays, too, until it breaks none.
    pub fn find(&self, namespace: &Labels, secret: &str, key: &str) -> Option<SpecChangeState> {
        let key = Pattern::of_key(key)?;
        let gives = |registry: &ValidRegistry| registry.gives(namespace, secret, &key);
        let last_given = self.past.iter().rev().find(|(_, past)| gives(past));
        let last_given = last_given.map_or(0, |(ended, _)| *ended);
        // One that breaks a rule now may have given it once more before, unseen.
        let is_broken = |name: &str| {
            let mut problems = self.current.problems().iter();
            problems.any(|problem| problem.registry == name)
        };
        let covers = |one: &&SpecChange| {
            last_given <= one.change
                && !is_broken(&one.name)
                && one
                    .was
                    .as_ref()
                    .is_none_or(|was| was.reaches(namespace, secret, &key))
        };
        let found = self.log.iter().filter(covers);
        found.map(|one| one.state).max()
    }

    /// Since when this Registry's credentials come from somewhere else than before, not counting a time in which it was deleted;
    /// `None`: for longer than is remembered.
    pub fn source_changed_at(
        &self,
        registry: &str,
        source: &CredentialSource,
    ) -> Option<Timestamp> {
        let mut of = self.log.iter().rev().filter(|one| *one.name == *registry);
        let (latest, was) = of.find_map(|one| Some((one, one.was.as_ref()?)))?;
        let had = was.sources.iter().any(|(had, _)| had == source);
        (!had).then_some(latest.followed_at)
    }

    /// Notes that a Registry is gone that broke a rule for as long as this process knows.
    fn note_unknown(
        &mut self,
        name: &str,
        before: &Registries,
        now: Timestamp,
        state: SpecChangeState,
    ) {
        if let Some(was) = before.find_listed(name) {
            self.push(was.name.clone(), None, now, state);
        }
    }

    fn push(
        &mut self,
        name: ObjectName,
        was: Option<Arc<ValidRegistry>>,
        now: Timestamp,
        state: SpecChangeState,
    ) {
        self.log.push_back(SpecChange {
            at: now,
            change: self.count,
            crd: self.crd.clone(),
            name,
            was,
            followed_at: now,
            state,
        });
    }

    fn unconfirmed(&mut self) -> impl Iterator<Item = &mut SpecChange> {
        let log = self.log.iter_mut();
        log.filter(|one| one.state == SpecChangeState::Unconfirmed)
    }

    /// The Registries are these now; answers what they were.
    fn advance(&mut self, registries: &Arc<Registries>) -> Arc<Registries> {
        self.count += 1;
        std::mem::replace(&mut self.current, Arc::clone(registries))
    }

    /// Notes since when there is a Registry again in the place of one that was deleted.
    fn follow(&mut self, name: &str, before: &Registries, now: Timestamp) {
        if before.get(name).is_none() && self.current.get(name).is_some() {
            for one in self.log.iter_mut().filter(|one| *one.name == *name) {
                one.followed_at = now;
            }
        }
    }

    /// Notes which form the Registry of this name has now, and that an earlier one ended.
    fn end_form(&mut self, name: &str, before: &Registries, registries: &Registries) {
        if let Some(was) = self.forms.get(name)
            && before.get(name).is_some()
            && is_ended(was, registries)
        {
            self.past.push_back((self.count, Arc::clone(was)));
        }
        if registries.find_listed(name).is_none() {
            self.forms.remove(name);
        } else if let Some(is) = registries.get(name) {
            let is = Arc::new(is.clone());
            // What it gave is known again.
            self.log
                .retain(|one| one.was.is_some() || *one.name != *name);
            self.forms.insert(is.name.clone(), is);
        }
    }

    fn forget(&mut self, now: Timestamp) {
        self.log.retain(|one| !one.is_over(now));
        loop {
            let first = self.log.front().map_or(self.count, |one| one.change);
            while self.past.front().is_some_and(|(end, _)| *end <= first) {
                self.past.pop_front();
            }
            if self.log.len().max(self.past.len()) <= MOST {
                break;
            }
            self.log.pop_front();
        }
    }
}

impl SpecChange {
    /// What is open stays, however long nobody leads who asks.
    fn is_over(&self, now: Timestamp) -> bool {
        let is_old = now.duration_since(self.at).abs() > REMEMBERED;
        is_old && self.state == SpecChangeState::Confirmed
    }
}

/// What tells an object from one that was made anew under its name.
fn identify(one: &RegistryInfo) -> (&str, &str) {
    (&one.name, &one.uid)
}

/// Whether it is the same object with a later spec: an earlier one comes back with a cluster that was put back.
/// <https://github.com/kubernetes/community/blob/main/contributors/devel/sig-architecture/api-conventions.md#metadata>
fn is_later(after: &RegistryInfo, before: &RegistryInfo) -> bool {
    after.uid == before.uid && after.generation > before.generation
}

/// Whether a Registry gives no more what it gave: it is gone, another one, or breaks a rule.
fn is_ended(was: &ValidRegistry, registries: &Registries) -> bool {
    let is = registries.get(&was.name);
    is.is_none_or(|is| !is.gives_the_same(was))
}

/// Whether a Registry is gone or another one now. One that breaks a rule since then is neither: nobody ordered that.
fn is_less(was: &ValidRegistry, registries: &Registries) -> bool {
    let mut problems = registries.problems().iter();
    is_ended(was, registries) && !problems.any(|problem| problem.registry == *was.name)
}

#[cfg(test)]
mod tests;
