//! Pull secrets that another writer keeps changing. Pure.

use std::collections::{BTreeSet, HashMap};

use jiff::Timestamp;

use crate::clock::{DriftBackoff, DriftDelay};
use crate::provision::changes::PullSecretKey;

/// How often another writer's changes to each pull secret were reverted, by a write or by a removal.
#[derive(Default)]
pub(super) struct DriftBackoffs(HashMap<PullSecretKey, DriftBackoff>);

impl DriftBackoffs {
    /// A change by another writer was reverted just now; `None`: it is not persistent yet.
    pub(super) fn record_change(
        &mut self,
        name: &PullSecretKey,
        now: Timestamp,
    ) -> Option<DriftDelay> {
        self.0.entry(name.clone()).or_default().record_change(now)
    }

    /// The pull secrets with persistent drift.
    pub(super) fn persistent(&self) -> BTreeSet<PullSecretKey> {
        let persistent = self.0.iter().filter(|(_, drift)| drift.is_persistent());
        persistent.map(|(name, _)| name.clone()).collect()
    }

    /// When the first persistent drift expires if no further change comes.
    pub(super) fn next_expiry(&self) -> Option<Timestamp> {
        let persistent = self.0.values().filter(|drift| drift.is_persistent());
        persistent.filter_map(DriftBackoff::expiry).min()
    }

    /// Whether this pull secret has persistent drift.
    pub(super) fn is_drifting(&self, name: &PullSecretKey) -> bool {
        self.0.get(name).is_some_and(DriftBackoff::is_persistent)
    }

    /// Forgets what has expired. A pull secret that is missing may be one that another writer keeps recreating.
    pub(super) fn forget_expired(&mut self, now: Timestamp) {
        self.0.retain(|_, drift| !drift.is_expired(now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::at;

    #[test]
    fn shows_those_that_another_writer_keeps_changing_until_there_is_peace() {
        let name: PullSecretKey = ("team".parse().unwrap(), "pullpass".parse().unwrap());
        let mut drift = DriftBackoffs::default();
        for second in 0..15 {
            drift.record_change(&name, at(second));
        }
        assert_eq!(drift.persistent(), BTreeSet::from([name.clone()]));
        assert_eq!(drift.next_expiry(), Some(at(14 + 600)));
        drift.forget_expired(at(14 + 599));
        assert!(!drift.persistent().is_empty() && drift.is_drifting(&name));
        drift.forget_expired(at(14 + 600));
        assert!(drift.persistent().is_empty() && !drift.is_drifting(&name));
        assert_eq!(drift.record_change(&name, at(14 + 600)), None);
    }
}
