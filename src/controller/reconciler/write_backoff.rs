//! The pull secrets whose writing, or from which removing, is tried again, and why it failed. Pure.

use std::collections::{BTreeMap, HashMap};

use jiff::{SignedDuration, Timestamp};

use crate::clock::{Backoff, RetryTimer};
use crate::provision::Pending;
use crate::provision::changes::PullSecretKey;

/// The waits after a write that failed.
const BACKOFF: Backoff = Backoff {
    first: SignedDuration::from_secs(1),
    longest: SignedDuration::from_mins(1),
};

/// So many failures in a row are reported.
const REPORT_AFTER: u32 = 2;

/// The pull secrets that are left alone for a while.
#[derive(Default)]
pub(super) struct WriteBackoff(HashMap<PullSecretKey, BackoffEntry>);

struct BackoffEntry {
    timer: RetryTimer,
    /// The unique id of the Secret that was there, if one was.
    uid: Option<String>,
    /// How often it failed one after the other.
    failures: u32,
    /// Why what belongs there could not be written last.
    why: Vec<Pending>,
}

impl WriteBackoff {
    /// Nothing is wrong with a pull secret any more.
    pub(super) fn forget(&mut self, name: &PullSecretKey) {
        self.0.remove(name);
    }

    /// A pull secret could not be written, or nothing taken out of it, which leaves `why` empty. `uid` is that of the Secret that was
    /// there: once it is gone, nothing is left that the failure can be about.
    pub(super) fn record_failure(
        &mut self,
        name: PullSecretKey,
        uid: Option<String>,
        why: Vec<Pending>,
        now: Timestamp,
    ) {
        let before = self.0.get(&name);
        let entry = BackoffEntry {
            timer: BACKOFF.next(before.map(|before| before.timer), now),
            uid,
            failures: before.map_or(1, |before| before.failures.saturating_add(1)),
            why,
        };
        self.0.insert(name, entry);
    }

    /// A pull secret was written and is backed off from all the same, because another writer keeps changing it.
    pub(super) fn hold_off(&mut self, name: PullSecretKey, wait: SignedDuration, now: Timestamp) {
        let entry = BackoffEntry {
            timer: RetryTimer::after(wait, now),
            uid: None,
            failures: 0,
            why: Vec::new(),
        };
        self.0.insert(name, entry);
    }

    /// The pull secrets that are left alone.
    pub(super) fn keys(&self) -> impl Iterator<Item = &PullSecretKey> {
        self.0.keys()
    }

    /// Until when a pull secret is left alone, which may be over. `uid` is that of the Secret that is there now.
    pub(super) fn until(
        &self,
        name: &PullSecretKey,
        uid: Option<&str>,
        now: Timestamp,
    ) -> Option<Timestamp> {
        self.0
            .get(name)
            .filter(|entry| entry.uid.is_none() || entry.uid.as_deref() == uid)
            .map(|entry| entry.timer.at(now))
    }

    /// Whether the last write failed, or the last removal.
    pub(super) fn has_failed(&self, name: &PullSecretKey) -> bool {
        self.0.get(name).is_some_and(|entry| entry.failures > 0)
    }

    /// The pull secrets that could not be written again and again, and why.
    pub(super) fn persistent(&self) -> BTreeMap<PullSecretKey, Vec<Pending>> {
        let persistent = self
            .0
            .iter()
            .filter(|(_, entry)| entry.failures >= REPORT_AFTER);
        persistent
            .filter(|(_, entry)| !entry.why.is_empty())
            .map(|(name, entry)| (name.clone(), entry.why.clone()))
            .collect()
    }

    /// Forgets all but these pull secrets.
    pub(super) fn retain(&mut self, stays: impl Fn(&PullSecretKey) -> bool) {
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
            WriteBackoff::default(),
            ("team".parse().unwrap(), "pullpass".parse().unwrap()) as PullSecretKey,
        );
        for (wait, is_drifting) in [(1, false), (2, true), (4, true), (8, true)] {
            failures.record_failure(name.clone(), None, why(), at(0));
            assert_eq!(failures.until(&name, None, at(0)), Some(at(wait)));
            assert_eq!(!failures.persistent().is_empty(), is_drifting, "{wait}");
            assert!(failures.has_failed(&name));
        }
        for _ in 0..9 {
            failures.record_failure(name.clone(), None, why(), at(0));
        }
        assert_eq!(failures.until(&name, None, at(0)), Some(at(60)));
        failures.forget(&name);
        assert!(failures.keys().count() == 0 && !failures.has_failed(&name));
    }

    #[test]
    fn takes_no_failure_for_one_where_somebody_keeps_changing_it() {
        let (mut failures, name) = (
            WriteBackoff::default(),
            ("team".parse().unwrap(), "pullpass".parse().unwrap()) as PullSecretKey,
        );
        failures.hold_off(name.clone(), SignedDuration::from_secs(8), at(0));
        assert_eq!(failures.until(&name, None, at(0)), Some(at(8)));
        assert!(!failures.has_failed(&name) && failures.persistent().is_empty());
    }

    /// An immutable Secret is deleted, and is to be there again at once.
    #[test]
    fn leaves_no_secret_alone_that_took_the_place_of_the_one_that_failed() {
        let (mut failures, name) = (
            WriteBackoff::default(),
            ("team".parse().unwrap(), "pullpass".parse().unwrap()) as PullSecretKey,
        );
        let uid = || Some("u-1".to_owned());
        failures.record_failure(name.clone(), uid(), why(), at(0));
        failures.record_failure(name.clone(), uid(), why(), at(0));
        assert_eq!(failures.until(&name, Some("u-1"), at(0)), Some(at(2)));
        assert_eq!(failures.until(&name, None, at(0)), None);
        assert_eq!(failures.until(&name, Some("u-2"), at(0)), None);
        // Where there was none a quota may refuse, whatever is there later.
        failures.record_failure(name.clone(), None, why(), at(0));
        assert_eq!(failures.until(&name, Some("u-2"), at(0)), Some(at(4)));
    }
}
