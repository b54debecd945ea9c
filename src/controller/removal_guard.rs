//! Which removals are carried out, and which wait until an admin confirms them. Pure.
//!
//! An order acts at once, in any number of namespaces. Everything else that would empty more than a part of all secrets within a minute
//! may be a mistake, ours or an admin's, and waits until it is confirmed; so does what went with the kind, however little it is. What
//! pullpass cannot have written counts for nothing: anybody may put it there.

use std::collections::{BTreeMap, HashMap};

use jiff::{SignedDuration, Timestamp};

use crate::provision::changes::PullSecretKey;
use crate::provision::decide::Stale;

/// Within how long removals that nobody ordered are counted together.
pub(super) const REMOVAL_WINDOW: SignedDuration = SignedDuration::from_mins(1);

/// So many removals that nobody ordered never wait, however few secrets there are.
const FREE_REMOVALS: usize = 10;

/// Of so many secrets one may be removed without an order.
const REMOVAL_DIVISOR: usize = 5;

/// Why something is to be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RemovalCause {
    pub(super) why: Stale,
    /// Whether pullpass may have written any of it.
    pub(super) is_ours: bool,
}

impl RemovalCause {
    /// Whether it counts among what may be a mistake.
    fn counts(self) -> bool {
        self.why == Stale::Unexplained && self.is_ours
    }
}

/// What is to be removed.
#[derive(Debug, Default)]
pub(super) struct RemovalGuard {
    wanted: BTreeMap<PullSecretKey, RemovalCause>,
    /// What is being removed, and why.
    under_way: HashMap<PullSecretKey, RemovalCause>,
    /// From which pull secrets something was removed that counts, and when; whether nothing was left.
    recent: HashMap<PullSecretKey, (Timestamp, bool)>,
    /// Whether anything was wanted, or is no more, since it was last asked.
    is_changed: bool,
}

/// What may be removed now, and what may not.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Permits {
    pub(super) permitted: Vec<PullSecretKey>,
    pub(super) blocked: Vec<PullSecretKey>,
}

impl RemovalGuard {
    /// Something is to be removed from a pull secret.
    pub(super) fn want(&mut self, key: &PullSecretKey, cause: RemovalCause) {
        self.wanted.insert(key.clone(), cause);
        self.is_changed = true;
    }

    /// Nothing is, or not now.
    pub(super) fn forget(&mut self, key: &PullSecretKey) {
        self.is_changed |= self.wanted.remove(key).is_some();
    }

    /// Whether another answer is to be expected than last time, but for what time changes.
    pub(super) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.is_changed)
    }

    /// Whether nothing is to be removed, nor being removed.
    pub(super) fn is_idle(&self) -> bool {
        self.wanted.is_empty() && self.under_way.is_empty()
    }

    /// Why something is to be removed from a pull secret.
    pub(super) fn cause(&self, key: &PullSecretKey) -> Option<RemovalCause> {
        self.wanted.get(key).copied()
    }

    /// From which pull secrets an admin ordered that something is removed.
    pub(super) fn ordered(&self) -> impl Iterator<Item = &PullSecretKey> {
        let ordered = self.wanted.iter();
        let ordered = ordered.filter(|(_, cause)| cause.why == Stale::SpecChange);
        ordered.map(|(key, _)| key)
    }

    /// What is wanted begins.
    pub(super) fn begin(&mut self, key: &PullSecretKey) {
        if let Some(cause) = self.wanted.remove(key) {
            self.under_way.insert(key.clone(), cause);
        }
        self.is_changed = true;
    }

    /// What began has ended; `removed`: something was removed, and whether nothing is left of the Secret.
    pub(super) fn end(&mut self, key: &PullSecretKey, removed: Option<bool>, now: Timestamp) {
        let cause = self.under_way.remove(key);
        if let (Some(is_whole), true) = (removed, cause.is_some_and(RemovalCause::counts)) {
            self.recent.insert(key.clone(), (now, is_whole));
        }
        self.is_changed = true;
    }

    /// Which of all that is to be removed may be. There are so many pull secrets of ours; an admin confirmed some.
    pub(super) fn permit(
        &mut self,
        secrets: usize,
        is_confirmed: impl Fn(&PullSecretKey) -> bool,
        now: Timestamp,
    ) -> Permits {
        self.recent
            .retain(|_, (at, _)| now.duration_since(*at).abs() < REMOVAL_WINDOW);
        let counting = self.wanted.values().chain(self.under_way.values());
        let counting = counting.filter(|cause| cause.counts()).count();
        let all = counting + self.recent.len();
        // Those that are gone since then were some of all of them.
        let gone = self.recent.values().filter(|(_, is_whole)| *is_whole);
        let is_little = all < FREE_REMOVALS || all * REMOVAL_DIVISOR <= secrets + gone.count();
        let mut permits = Permits::default();
        for (key, cause) in &self.wanted {
            let is_permitted = match cause.why {
                Stale::SpecChange => true,
                Stale::Unexplained => is_little || !cause.is_ours,
                Stale::KindLost => false,
            };
            if is_permitted || is_confirmed(key) {
                permits.permitted.push(key.clone());
            } else {
                permits.blocked.push(key.clone());
            }
        }
        permits
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::at;

    fn key(number: usize) -> PullSecretKey {
        let namespace = format!("n{number:03}");
        (namespace.parse().unwrap(), "pullpass".parse().unwrap())
    }

    fn guard(count: usize, why: Stale, is_ours: bool) -> RemovalGuard {
        let mut guard = RemovalGuard::default();
        for number in 0..count {
            guard.want(&key(number), RemovalCause { why, is_ours });
        }
        guard
    }

    /// How many of so many secrets are permitted and blocked.
    fn permit(guard: &mut RemovalGuard, secrets: usize, is_confirmed: bool) -> (usize, usize) {
        let permits = guard.permit(secrets, |_| is_confirmed, at(0));
        (permits.permitted.len(), permits.blocked.len())
    }

    #[test]
    fn permits_what_was_ordered_and_blocks_what_nobody_ordered_when_it_is_much() {
        use Stale::{KindLost, SpecChange, Unexplained};
        let rows = [
            (SpecChange, true, 100, 100, (100, 0)),
            (Unexplained, true, 9, 9, (9, 0)),
            (Unexplained, true, 10, 40, (0, 10)),
            (Unexplained, true, 20, 100, (20, 0)),
            (Unexplained, true, 21, 100, (0, 21)),
            // Nobody knows them.
            (Unexplained, false, 100, 100, (100, 0)),
            (KindLost, true, 1, 100, (0, 1)),
        ];
        for (why, is_ours, count, secrets, expected) in rows {
            let mut guard = guard(count, why, is_ours);
            assert_eq!(
                permit(&mut guard, secrets, false),
                expected,
                "{why:?} {count} of {secrets}"
            );
            assert_eq!(permit(&mut guard, secrets, true), (count, 0));
        }
    }

    #[test]
    fn lets_orders_and_forgeries_hold_nothing_up() {
        let mut guard = guard(12, Stale::Unexplained, false);
        let ours = |why| RemovalCause { why, is_ours: true };
        guard.want(&key(20), ours(Stale::Unexplained));
        for number in 30..60 {
            guard.want(&key(number), ours(Stale::SpecChange));
        }
        assert_eq!(permit(&mut guard, 20, false), (43, 0));
        guard.want(&key(61), ours(Stale::KindLost));
        assert_eq!(permit(&mut guard, 20, false), (43, 1));
    }

    #[test]
    fn counts_each_secret_once_among_the_removals_of_a_minute() {
        let mut guard = guard(1, Stale::Unexplained, true);
        let remove = |guard: &mut RemovalGuard, number, second| {
            let (why, is_ours) = (Stale::Unexplained, true);
            guard.want(&key(number), RemovalCause { why, is_ours });
            guard.begin(&key(number));
            guard.end(&key(number), Some(false), at(second));
        };
        for second in 0..12 {
            remove(&mut guard, 0, second);
        }
        guard.want(
            &key(0),
            RemovalCause {
                why: Stale::Unexplained,
                is_ours: true,
            },
        );
        assert_eq!(permit(&mut guard, 20, false), (1, 0));
        for number in 1..9 {
            remove(&mut guard, number, 0);
        }
        assert_eq!(permit(&mut guard, 20, false), (0, 1));
        let permits = guard.permit(20, |_| false, at(60 + 12));
        assert_eq!(permits.permitted.len(), 1, "a minute later");
        guard.forget(&key(0));
        assert!(guard.is_idle() && guard.cause(&key(0)).is_none());
    }

    #[test]
    fn counts_what_is_under_way_and_no_failure() {
        let mut guard = guard(20, Stale::Unexplained, true);
        for number in 0..20 {
            guard.begin(&key(number));
        }
        assert!(!guard.is_idle());
        guard.want(
            &key(20),
            RemovalCause {
                why: Stale::Unexplained,
                is_ours: true,
            },
        );
        assert_eq!(permit(&mut guard, 100, false), (0, 1));
        guard.end(&key(0), None, at(0));
        assert_eq!(permit(&mut guard, 100, false), (1, 0));
    }

    /// As many whole Secrets are removed as may be, some at a time: it goes on though ever fewer are there.
    #[test]
    fn goes_on_to_the_end_with_whole_secrets_that_were_permitted() {
        let mut guard = guard(40, Stale::Unexplained, true);
        for begun in (0..40).step_by(8) {
            let (there, left) = (200 - begun, 40 - begun);
            assert_eq!(permit(&mut guard, there, false), (left, 0), "{begun}");
            let now = begun..begun + 8;
            now.clone().for_each(|number| guard.begin(&key(number)));
            now.for_each(|number| guard.end(&key(number), Some(true), at(0)));
        }
    }

    /// A tenant may put in what belongs nowhere as often as it will.
    #[test]
    fn counts_no_removal_of_what_pullpass_cannot_have_written() {
        let mut guard = guard(30, Stale::Unexplained, false);
        for number in 0..30 {
            guard.begin(&key(number));
            guard.end(&key(number), Some(true), at(0));
        }
        guard.want(
            &key(30),
            RemovalCause {
                why: Stale::Unexplained,
                is_ours: true,
            },
        );
        assert_eq!(permit(&mut guard, 10, false), (1, 0));
    }
}
