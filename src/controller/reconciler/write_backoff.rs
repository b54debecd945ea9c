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
        let earlier = self.0.get(&name).map_or(0, |before| before.failures);
        let entry = BackoffEntry {
            timer: BACKOFF.timer(earlier, now),
            uid,
            failures: earlier.saturating_add(1),
            why,
        };
        self.0.insert(name, entry);
    }

    /// A pull secret is backed off from without a failure, because another writer keeps changing it. What failed before it did all the same.
    pub(super) fn hold_off(&mut self, name: PullSecretKey, wait: SignedDuration, now: Timestamp) {
        let timer = RetryTimer::after(wait, now);
        let entry = self.0.entry(name).or_insert(BackoffEntry {
            timer,
            uid: None,
            failures: 0,
            why: Vec::new(),
        });
        if entry.timer.at(now) < timer.at(now) {
            entry.timer = timer;
            entry.uid = None;
        }
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

    /// Forgets those whose time is over and of which nothing `is_undone`, and those that do not matter; which of them had failed.
    pub(super) fn settle(
        &mut self,
        matters: impl Fn(&PullSecretKey) -> bool,
        is_undone: impl Fn(&PullSecretKey) -> bool,
        now: Timestamp,
    ) -> Vec<PullSecretKey> {
        let mut settled = Vec::new();
        self.0.retain(|name, entry| {
            let stays = matters(name) && (entry.timer.at(now) > now || is_undone(name));
            if !stays && entry.failures > 0 {
                settled.push(name.clone());
            }
            stays
        });
        settled
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::at;

    fn why() -> Vec<Pending> {
        vec![Pending {
            is_for_admins: false,
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
        // The first failure after it is the first.
        failures.record_failure(name.clone(), None, why(), at(9));
        assert_eq!(failures.until(&name, None, at(9)), Some(at(10)));
    }

    #[test]
    fn keeps_what_failed_and_the_longer_wait_where_somebody_keeps_changing_it() {
        let (mut failures, name) = (
            WriteBackoff::default(),
            ("team".parse().unwrap(), "pullpass".parse().unwrap()) as PullSecretKey,
        );
        for _ in 0..4 {
            failures.record_failure(name.clone(), Some("u-1".to_owned()), why(), at(0));
        }
        for (wait, until) in [(2, 8), (30, 30)] {
            failures.hold_off(name.clone(), SignedDuration::from_secs(wait), at(0));
            assert_eq!(failures.until(&name, Some("u-1"), at(0)), Some(at(until)));
            assert!(failures.has_failed(&name) && !failures.persistent().is_empty());
        }
        assert_eq!(failures.until(&name, Some("u-2"), at(0)), Some(at(30)));
        failures.record_failure(name.clone(), None, why(), at(30));
        assert_eq!(failures.until(&name, None, at(30)), Some(at(46)));
    }

    #[test]
    fn forgets_what_is_settled_once_its_time_is_over() {
        let key = |namespace: &str| -> PullSecretKey {
            (namespace.parse().unwrap(), "pullpass".parse().unwrap())
        };
        let mut failures = WriteBackoff::default();
        for namespace in ["done", "gone", "undone"] {
            failures.record_failure(key(namespace), None, why(), at(0));
        }
        failures.hold_off(key("drift"), SignedDuration::from_secs(1), at(0));
        let mut settle = |now| {
            let matters = |one: &PullSecretKey| *one != key("gone");
            let mut settled = failures.settle(matters, |one| *one == key("undone"), now);
            settled.sort();
            (settled, failures.keys().count())
        };
        assert_eq!(settle(at(0)), (vec![key("gone")], 3));
        assert_eq!(settle(at(1)), (vec![key("done")], 1));
        assert_eq!(settle(at(600)), (vec![], 1));
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
