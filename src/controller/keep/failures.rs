//! The pull secrets whose writing, or from which removing, is tried again, and why it failed. Pure.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};

use crate::controller::again::Again;
use crate::provision::Pending;
use crate::provision::survey::Name;

/// The first wait after a write that failed, and the longest; it doubles.
const WAITS: (SignedDuration, SignedDuration) =
    (SignedDuration::from_secs(1), SignedDuration::from_mins(1));

/// So many failures one after the other are no mishap any more: people are told.
const LASTING: u32 = 2;

/// The pull secrets that are left alone for a while.
#[derive(Default)]
pub(super) struct Failures(HashMap<Name, Rest>);

struct Rest {
    again: Again,
    /// How often it failed one after the other.
    failures: u32,
    /// Why what belongs there could not be written last.
    why: Vec<Pending>,
}

impl Failures {
    /// Nothing is wrong with a pull secret any more.
    pub(super) fn forget(&mut self, name: &Name) {
        self.0.remove(name);
    }

    /// A pull secret could not be written, or nothing taken out of it, which leaves `why` empty.
    pub(super) fn note_failed(&mut self, name: Name, why: Vec<Pending>, now: Timestamp) {
        let before = self.0.get(&name);
        let wait = before.map_or(WAITS.0, |before| (before.again.wait() * 2).min(WAITS.1));
        let rest = Rest {
            again: Again::after(wait, now),
            failures: before.map_or(1, |before| before.failures.saturating_add(1)),
            why,
        };
        self.0.insert(name, rest);
    }

    /// A pull secret was written and is left alone all the same, because somebody else keeps changing it.
    pub(super) fn rest(&mut self, name: Name, wait: SignedDuration, now: Timestamp) {
        let rest = Rest {
            again: Again::after(wait, now),
            failures: 0,
            why: Vec::new(),
        };
        self.0.insert(name, rest);
    }

    /// Whether no pull secret is left alone.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Until when a pull secret is left alone, which may be over.
    pub(super) fn until(&self, name: &Name, now: Timestamp) -> Option<Timestamp> {
        self.0.get(name).map(|rest| rest.again.at(now))
    }

    /// Whether the last write failed, or the last removal.
    pub(super) fn has_failed(&self, name: &Name) -> bool {
        self.0.get(name).is_some_and(|rest| rest.failures > 0)
    }

    /// The pull secrets that could not be written again and again, and why.
    pub(super) fn lasting(&self) -> HashMap<Name, Vec<Pending>> {
        let lasting = self.0.iter().filter(|(_, rest)| rest.failures >= LASTING);
        lasting
            .filter(|(_, rest)| !rest.why.is_empty())
            .map(|(name, rest)| (name.clone(), rest.why.clone()))
            .collect()
    }

    /// Forgets all but these pull secrets.
    pub(super) fn retain(&mut self, stays: impl Fn(&Name) -> bool) {
        self.0.retain(|name, _| stays(name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::at;

    fn why() -> Vec<Pending> {
        vec![Pending {
            registry: None,
            reason: "Forbidden",
            message: "no".to_owned(),
        }]
    }

    #[test]
    fn waits_longer_and_longer_and_tells_of_what_is_no_mishap() {
        let (mut failures, name) = (
            Failures::default(),
            ("team".parse().unwrap(), "pullpass".parse().unwrap()) as Name,
        );
        for (wait, lasts) in [(1, false), (2, true), (4, true), (8, true)] {
            failures.note_failed(name.clone(), why(), at(0));
            assert_eq!(failures.until(&name, at(0)), Some(at(wait)));
            assert_eq!(!failures.lasting().is_empty(), lasts, "{wait}");
            assert!(failures.has_failed(&name));
        }
        for _ in 0..9 {
            failures.note_failed(name.clone(), why(), at(0));
        }
        assert_eq!(failures.until(&name, at(0)), Some(at(60)));
        failures.forget(&name);
        assert!(failures.is_empty() && !failures.has_failed(&name));
    }

    #[test]
    fn takes_no_failure_for_one_where_somebody_keeps_changing_it() {
        let (mut failures, name) = (
            Failures::default(),
            ("team".parse().unwrap(), "pullpass".parse().unwrap()) as Name,
        );
        failures.rest(name.clone(), SignedDuration::from_secs(8), at(0));
        assert_eq!(failures.until(&name, at(0)), Some(at(8)));
        assert!(!failures.has_failed(&name) && failures.lasting().is_empty());
    }
}
