//! The state of a pull secret's entry at a moment. Pure.

use jiff::Timestamp;

use super::coverage::SecretCoverage;
use super::decide::{EntryState, mounted_until};
use super::grant_coverage::{GrantCoverage, KeyCoverage};
use crate::credential::{Freshness, freshness};

/// The keys of what a pull secret lacks and is there to be written.
pub(super) fn missing_keys(coverage: &SecretCoverage, now: Timestamp) -> Vec<&str> {
    let covered = coverage.covered().iter();
    covered
        .filter(|covered| {
            matches!(
                entry_state(covered, now),
                EntryState::Missing | EntryState::Outdated | EntryState::Previous(_)
            )
        })
        .flat_map(|covered| covered.grant.keys.iter().map(String::as_str))
        .collect()
}

/// When the entry ends, if it is known to be good and ends.
pub(super) fn end(covered: &GrantCoverage) -> Option<Timestamp> {
    let credential = match &covered.coverage {
        KeyCoverage::Current => covered.desired.credential(),
        KeyCoverage::Previous(credential) => Some(credential),
        KeyCoverage::PreviousLogin | KeyCoverage::Unknown => None,
    };
    credential.map(|credential| credential.expires_at)
}

/// The state of the entry.
pub(super) fn entry_state(covered: &GrantCoverage, now: Timestamp) -> EntryState {
    match &covered.coverage {
        // Until its very end: so long a Pod is admitted with it if no newer one can be minted.
        KeyCoverage::Current if end(covered).is_some_and(|end| end <= now) => {
            EntryState::Unavailable
        }
        KeyCoverage::Current => EntryState::Current,
        KeyCoverage::Previous(credential) if freshness(credential, now) != Freshness::Spent => {
            EntryState::Previous(if covered.grant.is_mounted() {
                mounted_until(credential.minted_at, credential.expires_at)
            } else {
                credential.expires_at
            })
        }
        KeyCoverage::PreviousLogin if covered.desired.is_available(now) => EntryState::Outdated,
        KeyCoverage::Previous(_) | KeyCoverage::PreviousLogin | KeyCoverage::Unknown => {
            if covered.desired.is_available(now) {
                EntryState::Missing
            } else {
                EntryState::Unavailable
            }
        }
    }
}
