//! What is in a pull secret and belongs there no more.

use jiff::{SignedDuration, Timestamp};

use super::coverage::SecretCoverage;
use super::decide::Stale;
use super::grant_coverage::{GrantCoverage, KeyCoverage};
use super::state::State;
use crate::registry::{Labels, Registries, SpecChangeState, SpecChanges};

/// How long the login of a Registry's earlier identity stays when the new one has none.
const PREVIOUS_IDENTITY_GRACE: SignedDuration = SignedDuration::from_mins(10);

/// The keys to be taken out of a pull secret, by why.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Leftovers {
    ordered: Vec<String>,
    found: Vec<String>,
    lost: Vec<String>,
    /// Whether some stay until it is known whether an admin ordered that.
    pub(super) is_unconfirmed: bool,
    /// Whether some stay for as long as a Registry cannot be read or breaks a rule.
    pub(super) is_hidden: bool,
}

impl Leftovers {
    /// What goes first, and why: an order waits for nothing else in the same secret.
    pub(super) fn into_first(self) -> (Vec<String>, Option<Stale>) {
        let all = [
            (self.ordered, Stale::SpecChange),
            (self.found, Stale::Unexplained),
            (self.lost, Stale::KindLost),
        ];
        let mut all = all.into_iter().filter(|(keys, _)| !keys.is_empty());
        let first = all.next();
        first.map_or_else(Default::default, |(keys, why)| (keys, Some(why)))
    }
}

/// What decides whether an entry may be removed, and why.
#[derive(Clone, Copy)]
pub(super) struct StaleCheck<'j> {
    pub(super) registries: &'j Registries,
    pub(super) changes: &'j SpecChanges,
    /// Whether each Registry that there is can be read and breaks no rule: what another one gave is unknown.
    pub(super) knows_all: bool,
    pub(super) now: Timestamp,
}

impl<'j> StaleCheck<'j> {
    pub(super) fn new(
        state: &State,
        registries: &'j Registries,
        changes: &'j SpecChanges,
        now: Timestamp,
    ) -> Self {
        let readable = state.unreadable().get() == 0;
        Self {
            registries,
            changes,
            knows_all: readable && registries.problems().is_empty(),
            now,
        }
    }

    /// Notes why what is under `key` of this secret is stale, unless it stays.
    fn note_key(&self, labels: &Labels, secret: &str, key: &str, leftovers: &mut Leftovers) {
        let mut registries = self.registries.iter();
        if registries.any(|registry| registry.retains(labels, secret, key)) {
            return;
        }
        let of_why = match self.changes.find(labels, secret, key) {
            Some(SpecChangeState::Confirmed) => &mut leftovers.ordered,
            Some(SpecChangeState::Unconfirmed) => {
                leftovers.is_unconfirmed = true;
                return;
            }
            _ if !self.knows_all => {
                leftovers.is_hidden = true;
                return;
            }
            Some(SpecChangeState::KindLost) => &mut leftovers.lost,
            None => &mut leftovers.found,
        };
        of_why.push(key.to_owned());
    }

    /// What is to be taken out of a pull secret.
    pub(super) fn of_secret(
        &self,
        labels: &Labels,
        secret: &str,
        coverage: &SecretCoverage,
    ) -> Leftovers {
        let mut leftovers = self.of_keys(labels, secret, coverage.stale());
        if coverage.shared().is_some() {
            return leftovers;
        }
        let outlived = coverage.covered().iter().filter(|covered| {
            self.previous_identity_until(covered)
                .is_some_and(|until| until <= self.now)
                && coverage.holds_any(covered.grant.all_keys())
        });
        for covered in outlived {
            leftovers.ordered.extend(covered.grant.all_keys().cloned());
        }
        leftovers
    }

    /// Whether all of this secret stays, whatever it is, since its Registry rests.
    pub(super) fn retains_all(&self, labels: &Labels, secret: &str) -> bool {
        let mut registries = self.registries.iter();
        registries.any(|registry| registry.retains_all(labels, secret))
    }

    /// Which of `all` are to be taken out of a pull secret.
    pub(super) fn of_keys(&self, labels: &Labels, secret: &str, all: &[String]) -> Leftovers {
        let mut leftovers = Leftovers::default();
        for key in all {
            self.note_key(labels, secret, key, &mut leftovers);
        }
        leftovers
    }

    /// Until when the login of an earlier identity stays; `None` where there is none of that kind.
    pub(super) fn previous_identity_until(&self, covered: &GrantCoverage) -> Option<Timestamp> {
        if !matches!(covered.coverage, KeyCoverage::Unknown)
            || covered.desired.is_available(self.now)
        {
            return None;
        }
        let sources = &self.registries.get(&covered.grant.registry)?.sources;
        let (source, _) = sources
            .iter()
            .find(|(_, keys)| keys.iter().any(|key| covered.grant.keys.contains(key)))?;
        let changed_at = self
            .changes
            .source_changed_at(&covered.grant.registry, source)?;
        changed_at.checked_add(PREVIOUS_IDENTITY_GRACE).ok()
    }
}
