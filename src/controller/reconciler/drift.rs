//! Pull secrets that another writer keeps changing. Pure.

use std::collections::{BTreeSet, HashMap};

use jiff::{SignedDuration, Timestamp};

use crate::clock::Backoff;
use crate::provision::changes::PullSecretKey;

/// So many changes by others are taken back at once.
const FREE_REPAIRS: u32 = 5;

/// After so long without one they are forgotten.
const RESET_AFTER: SignedDuration = SignedDuration::from_mins(10);

/// The waits before drift is reverted.
const BACKOFF: Backoff = Backoff {
    first: SignedDuration::from_secs(2),
    longest: SignedDuration::from_mins(5),
};

/// How often another writer's changes to each pull secret were reverted, by a write or by a removal.
#[derive(Default)]
pub(super) struct DriftBackoffs(HashMap<PullSecretKey, Drift>);

struct Drift {
    repairs: u32,
    last: Timestamp,
}

impl Drift {
    /// How often it happened beyond what may be a mishap.
    fn excess(&self) -> u32 {
        self.repairs.saturating_sub(FREE_REPAIRS)
    }
}

/// How a change is answered that was one too many.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct DriftDelay {
    /// For how long the next change is not reverted.
    pub(super) wait: SignedDuration,
    /// Whether this was not reported yet.
    pub(super) is_first: bool,
}

impl DriftBackoffs {
    /// A change by another writer was reverted just now; `None`: it is not persistent yet.
    pub(super) fn record_change(
        &mut self,
        name: &PullSecretKey,
        now: Timestamp,
    ) -> Option<DriftDelay> {
        let drift = self.0.entry(name.clone()).or_insert(Drift {
            repairs: 0,
            last: now,
        });
        if now.duration_since(drift.last).abs() > RESET_AFTER {
            drift.repairs = 0;
        }
        drift.last = now;
        drift.repairs += 1;
        let excess = drift.excess();
        (excess > 0).then(|| DriftDelay {
            wait: BACKOFF.wait(excess - 1),
            is_first: excess == 1,
        })
    }

    /// The pull secrets with persistent drift.
    pub(super) fn persistent(&self) -> BTreeSet<PullSecretKey> {
        let persistent = self.0.iter().filter(|(_, drift)| drift.excess() > 0);
        persistent.map(|(name, _)| name.clone()).collect()
    }

    /// When the first persistent drift expires if no further change comes.
    pub(super) fn next_expiry(&self) -> Option<Timestamp> {
        let persistent = self.0.values().filter(|drift| drift.excess() > 0);
        persistent
            .filter_map(|drift| drift.last.checked_add(RESET_AFTER).ok())
            .min()
    }

    /// Whether this pull secret has persistent drift.
    pub(super) fn is_drifting(&self, name: &PullSecretKey) -> bool {
        self.0.get(name).is_some_and(|drift| drift.excess() > 0)
    }

    /// Forgets what has expired. A pull secret that is missing may be one that another writer keeps recreating.
    pub(super) fn forget_expired(&mut self, now: Timestamp) {
        self.0
            .retain(|_, drift| now.duration_since(drift.last).abs() < RESET_AFTER);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::at;

    #[test]
    fn answers_more_and_more_slowly_until_there_is_peace() {
        let (mut drift, name) = (
            DriftBackoffs::default(),
            ("team".parse().unwrap(), "pullpass".parse().unwrap()) as PullSecretKey,
        );
        let waits: Vec<Option<i64>> = (0..15)
            .map(|second| Some(drift.record_change(&name, at(second))?.wait.as_secs()))
            .collect();
        assert_eq!(waits[..5], [None; 5]);
        let slower = [2, 4, 8, 16, 32, 64, 128, 256, 300, 300].map(Some);
        assert_eq!(waits[5..], slower);
        assert_eq!(drift.persistent(), BTreeSet::from([name.clone()]));
        assert_eq!(drift.next_expiry(), Some(at(14 + 600)));

        drift.forget_expired(at(14 + 599));
        assert!(!drift.persistent().is_empty() && drift.is_drifting(&name));
        drift.forget_expired(at(14 + 600));
        assert!(drift.persistent().is_empty() && !drift.is_drifting(&name));
        assert_eq!(drift.record_change(&name, at(14 + 600)), None);
    }

    #[test]
    fn tells_once_of_each_fight() {
        let (mut drift, name) = (
            DriftBackoffs::default(),
            ("team".parse().unwrap(), "pullpass".parse().unwrap()) as PullSecretKey,
        );
        let leadership = (0..9).filter_map(|second| drift.record_change(&name, at(second)));
        let leadership: Vec<bool> = leadership
            .map(|record_change| record_change.is_first)
            .collect();
        assert_eq!(leadership, [true, false, false, false]);
    }
}
