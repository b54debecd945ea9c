//! What is in a pull secret and belongs there no more.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use jiff::{SignedDuration, Timestamp};

use super::access::Credentials;
use super::decide::Surplus;
use super::gather;
use super::state::State;
use super::verify::{Held, Standing, Verified};
use crate::registry::{CredentialSource, Grant, Labels, Orders, Pattern, Registries};

/// How long the login of a Registry's earlier identity stays when the new one has none.
const EARLIER_IDENTITY: SignedDuration = SignedDuration::from_mins(10);

/// The keys among `there` that no grant wants. A fixed login that cannot be read wants everything within its keys.
pub(super) fn find<'k>(
    there: impl Iterator<Item = &'k String>,
    grants: &[Arc<Grant>],
    credentials: &dyn Credentials,
    state: &State,
) -> Vec<String> {
    let mut surplus: Vec<String> = there
        .filter(|key| !grants.iter().any(|grant| grant.keys.contains(*key)))
        .cloned()
        .collect();
    if surplus.is_empty() {
        return surplus;
    }
    for grant in grants {
        if let CredentialSource::Static(_) = grant.source {
            let entries = gather::find(grant, credentials, state);
            surplus.retain(|key| match &entries {
                Some(entries) => !entries.iter().any(|entry| entry.key == *key),
                None => !is_within(key, &grant.keys),
            });
        }
    }
    surplus
}

fn is_within(key: &str, wider: &[String]) -> bool {
    let Ok(key) = Pattern::parse(key) else {
        return false;
    };
    let mut wider = wider.iter().filter_map(|key| Pattern::parse(key).ok());
    wider.any(|wider| wider.covers_pattern(&key))
}

/// What tells whether something may be taken out, and why.
#[derive(Clone, Copy)]
pub(super) struct Judge<'j> {
    pub(super) registries: &'j Registries,
    pub(super) orders: &'j Orders,
    /// Whether each Registry that there is can be read and breaks no rule: what another one gave is unknown.
    pub(super) knows_all: bool,
    pub(super) now: Timestamp,
}

impl<'j> Judge<'j> {
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

    /// Why what stands under `key` of this secret is to be taken out; `None`: it stays.
    fn of_key(&self, labels: &Labels, secret: &str, key: &str) -> Option<Surplus> {
        let mut registries = self.registries.iter();
        if registries.any(|registry| registry.retains(labels, secret, key)) {
            return None;
        }
        if self.orders.covers(labels, secret, key) {
            return Some(Surplus::Ordered);
        }
        self.knows_all.then_some(Surplus::Found)
    }

    /// The keys to be taken out of a pull secret, and why.
    pub(super) fn of_secret(
        &self,
        labels: &Labels,
        secret: &str,
        verdict: &Verified,
    ) -> (Vec<String>, Option<Surplus>) {
        let (mut keys, mut why) = self.of_keys(labels, secret, verdict.surplus());
        if verdict.common().is_some() {
            return (keys, why);
        }
        let outlived = verdict.held().iter().filter(|held| {
            self.outlives_identity(held)
                .is_some_and(|until| until <= self.now)
                && verdict.holds_any(&held.grant.keys)
        });
        for held in outlived {
            keys.extend(held.grant.keys.iter().cloned());
            why = why.or(Some(Surplus::Ordered));
        }
        (keys, why)
    }

    /// Which of `all` are to be taken out, and why. One that nobody ordered makes all of it something to be counted.
    pub(super) fn of_keys(
        &self,
        labels: &Labels,
        secret: &str,
        all: &[String],
    ) -> (Vec<String>, Option<Surplus>) {
        let mut keys = Vec::new();
        let mut why = None;
        for key in all {
            if let Some(of_key) = self.of_key(labels, secret, key) {
                keys.push(key.clone());
                why = why.filter(|why| *why == Surplus::Found).or(Some(of_key));
            }
        }
        (keys, why)
    }

    /// Until when the login of an earlier identity stays; `None` where there is none of that kind.
    pub(super) fn outlives_identity(&self, held: &Held) -> Option<Timestamp> {
        if !matches!(held.standing, Standing::Unknown) || held.supply.is_available(self.now) {
            return None;
        }
        let sources = &self.registries.get(&held.grant.registry)?.sources;
        let (source, _) = sources
            .iter()
            .find(|(_, keys)| keys.iter().any(|key| held.grant.keys.contains(key)))?;
        let changed_at = self
            .orders
            .source_changed_at(&held.grant.registry, source)?;
        changed_at.checked_add(EARLIER_IDENTITY).ok()
    }
}
