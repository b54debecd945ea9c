//! How fast what is written is written again. Pure.

use jiff::{SignedDuration, Timestamp};

use crate::clock::{Backoff, DriftBackoff, RetryTimer};

/// The waits after a write that failed.
const BACKOFF: Backoff = Backoff {
    first: SignedDuration::from_secs(1),
    longest: SignedDuration::from_mins(5),
};

/// Who keeps changing what we write is answered more and more slowly; so is an API server that refuses what is written.
#[derive(Clone, Copy, Debug, Default)]
pub struct RewriteBackoff {
    drift: DriftBackoff,
    failures: u32,
    timer: Option<RetryTimer>,
}

impl RewriteBackoff {
    /// When the next write may begin; `now` when nothing is in its way.
    pub fn from(&self, now: Timestamp) -> Timestamp {
        self.timer.map_or(now, |timer| timer.at(now))
    }

    /// Another writer's change was reverted. Answers whether this starts the back-off.
    pub fn repaired(&mut self, now: Timestamp) -> bool {
        self.failures = 0;
        let delay = self.drift.record_change(now);
        let wait = delay.as_ref().map(|delay| delay.wait);
        self.timer = wait.map(|wait| RetryTimer::after(wait, now));
        delay.is_some_and(|delay| delay.is_first)
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
        let mut pace = RewriteBackoff::default();
        let mut now = 0;
        let mut waits = Vec::new();
        for turn in 1..=17 {
            assert_eq!(pace.repaired(at(now)), turn == 6, "{turn}");
            let wait = pace.from(at(now)).as_second() - now;
            waits.push(wait);
            now += wait;
        }
        assert_eq!(waits[..8], [0, 0, 0, 0, 0, 2, 4, 8]);
        assert_eq!(waits[16], 300);
        now += 601;
        assert!(!pace.repaired(at(now)));
        assert_eq!(pace.from(at(now)), at(now), "peace makes it quick again");
    }

    #[test]
    fn waits_no_longer_than_was_meant_when_the_clock_is_put_back() {
        let mut pace = RewriteBackoff::default();
        for _ in 0..9 {
            pace.failed(at(30_000));
        }
        assert_eq!(pace.from(at(30_000)), at(30_256));
        assert_eq!(pace.from(at(1_200)), at(1_200));
        let mut pace = RewriteBackoff::default();
        for _ in 0..10 {
            pace.repaired(at(30_000));
        }
        assert_eq!(pace.from(at(1_200)), at(1_200));
    }

    #[test]
    fn asks_an_api_server_that_refuses_less_and_less() {
        let mut pace = RewriteBackoff::default();
        assert!(pace.failed(at(0)));
        assert_eq!(pace.from(at(0)), at(1));
        assert!(!pace.failed(at(1)));
        assert_eq!(pace.from(at(1)), at(3));
        pace.succeeded();
        assert_eq!(pace.from(at(4)), at(4));
        assert!(pace.failed(at(4)));
    }
}
