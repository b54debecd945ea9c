//! What is in a pull secret and belongs there no more.

use std::sync::atomic::Ordering;

use jiff::{SignedDuration, Timestamp};

use super::coverage::SecretCoverage;
use super::decide::Stale;
use super::grant_coverage::{GrantCoverage, KeyCoverage};
use super::state::State;
use crate::registry::{Labels, Orders, Registries};

/// How long the login of a Registry's earlier identity stays when the new one has none.
const PREVIOUS_IDENTITY_GRACE: SignedDuration = SignedDuration::from_mins(10);

/// What decides whether an entry may be removed, and why.
#[derive(Clone, Copy)]
pub(super) struct StaleCheck<'j> {
    pub(super) registries: &'j Registries,
    pub(super) orders: &'j Orders,
    /// Whether each Registry that there is can be read and breaks no rule: what another one gave is unknown.
    pub(super) knows_all: bool,
    pub(super) now: Timestamp,
}

impl<'j> StaleCheck<'j> {
    pub(super) fn new(
        state: &State,
        registries: &'j Registries,
        orders: &'j Orders,
        now: Timestamp,
    ) -> Self {
        let readable = state.unreadable().load(Ordering::Acquire) == 0;
        Self {
            registries,
            orders,
            knows_all: readable && registries.problems().is_empty(),
            now,
        }
    }

    /// Why the entry under `key` of this secret is stale; `None`: it stays.
    fn of_key(&self, labels: &Labels, secret: &str, key: &str) -> Option<Stale> {
        let mut registries = self.registries.iter();
        if registries.any(|registry| registry.retains(labels, secret, key)) {
            return None;
        }
        if self.orders.covers(labels, secret, key) {
            return Some(Stale::SpecChange);
        }
        self.knows_all.then_some(Stale::Unexplained)
    }

    /// The keys to be taken out of a pull secret, and why.
    pub(super) fn of_secret(
        &self,
        labels: &Labels,
        secret: &str,
        coverage: &SecretCoverage,
    ) -> (Vec<String>, Option<Stale>) {
        let (mut keys, mut why) = self.of_keys(labels, secret, coverage.stale());
        if coverage.shared().is_some() {
            return (keys, why);
        }
        let outlived = coverage.covered().iter().filter(|covered| {
            self.previous_identity_until(covered)
                .is_some_and(|until| until <= self.now)
                && coverage.holds_any(&covered.grant.keys)
        });
        for covered in outlived {
            keys.extend(covered.grant.keys.iter().cloned());
            why = why.or(Some(Stale::SpecChange));
        }
        (keys, why)
    }

    /// Which of `all` are to be taken out, and why. One that nobody ordered makes all of it something to be counted.
    pub(super) fn of_keys(
        &self,
        labels: &Labels,
        secret: &str,
        all: &[String],
    ) -> (Vec<String>, Option<Stale>) {
        let mut keys = Vec::new();
        let mut why = None;
        for key in all {
            if let Some(of_key) = self.of_key(labels, secret, key) {
                keys.push(key.clone());
                why = why
                    .filter(|why| *why == Stale::Unexplained)
                    .or(Some(of_key));
            }
        }
        (keys, why)
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
            .orders
            .source_changed_at(&covered.grant.registry, source)?;
        changed_at.checked_add(PREVIOUS_IDENTITY_GRACE).ok()
    }
}
