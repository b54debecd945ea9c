//! How fast changes by other writers are reverted. Pure.

use jiff::{SignedDuration, Timestamp};

use crate::clock::{Backoff, RetryTimer};

/// So many are taken back at once.
const FREE_REPAIRS: u32 = 5;

/// After so long without one they are forgotten.
const RESET_AFTER: SignedDuration = SignedDuration::from_mins(10);

/// The waits after a write that failed. A change of another writer's that is one too many begins with the second.
const BACKOFF: Backoff = Backoff {
    first: SignedDuration::from_secs(1),
    longest: SignedDuration::from_mins(5),
};

/// Who keeps changing what we write is answered more and more slowly, so that two programs that both know better do not keep the API
/// server busy; so is an API server that refuses what is written.
#[derive(Clone, Copy, Debug, Default)]
pub struct DriftBackoff {
    repairs: u32,
    failures: u32,
    last: Option<Timestamp>,
    timer: Option<RetryTimer>,
}

impl DriftBackoff {
    /// When the next write may begin; `now` when nothing is in its way.
    pub fn from(&self, now: Timestamp) -> Timestamp {
        self.timer.map_or(now, |timer| timer.at(now))
    }

    /// Another writer's change was reverted. Answers whether this starts the back-off.
    pub fn repaired(&mut self, now: Timestamp) -> bool {
        if self
            .last
            .is_some_and(|last| now.duration_since(last).abs() > RESET_AFTER)
        {
            self.repairs = 0;
        }
        self.last = Some(now);
        self.repairs = self.repairs.saturating_add(1);
        self.failures = 0;
        self.timer = self
            .repairs
            .checked_sub(FREE_REPAIRS)
            .map(|beyond| BACKOFF.timer(beyond + 1, now));
        self.repairs == FREE_REPAIRS
    }

    /// A write of our own went well.
    pub fn succeeded(&mut self) {
        self.failures = 0;
        self.timer = None;
    }

    /// A write failed. Answers whether it is the first to.
    pub fn failed(&mut self, now: Timestamp) -> bool {
        self.timer = Some(BACKOFF.timer(self.failures, now));
        self.failures = self.failures.saturating_add(1);
        self.failures == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn takes_back_at_once_then_more_and_more_slowly() {
        let mut pace = DriftBackoff::default();
        let mut now = 0;
        let mut waits = Vec::new();
        for turn in 1..=16 {
            assert_eq!(pace.repaired(at(now)), turn == 5, "{turn}");
            let wait = pace.from(at(now)).as_second() - now;
            waits.push(wait);
            now += wait;
        }
        assert_eq!(waits[..8], [0, 0, 0, 0, 2, 4, 8, 16]);
        assert_eq!(waits[15], 300);
        now += 601;
        assert!(!pace.repaired(at(now)));
        assert_eq!(pace.from(at(now)), at(now), "peace makes it quick again");
    }

    #[test]
    fn waits_no_longer_than_was_meant_when_the_clock_is_put_back() {
        let mut pace = DriftBackoff::default();
        for _ in 0..9 {
            pace.failed(at(30_000));
        }
        assert_eq!(pace.from(at(30_000)), at(30_256));
        assert_eq!(pace.from(at(1_200)), at(1_200));
        let mut pace = DriftBackoff::default();
        for _ in 0..9 {
            pace.repaired(at(30_000));
        }
        assert_eq!(pace.from(at(1_200)), at(1_200));
    }

    #[test]
    fn asks_an_api_server_that_refuses_less_and_less() {
        let mut pace = DriftBackoff::default();
        assert!(pace.failed(at(0)));
        assert_eq!(pace.from(at(0)), at(1));
        assert!(!pace.failed(at(1)));
        assert_eq!(pace.from(at(1)), at(3));
        pace.succeeded();
        assert_eq!(pace.from(at(4)), at(4));
        assert!(pace.failed(at(4)));
    }
}
