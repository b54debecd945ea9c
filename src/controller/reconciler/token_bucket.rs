//! How many writes of renewed credentials may begin. Pure.

use std::time::Duration;

use jiff::Timestamp;

/// The longest round that is believed: a longer one was a pause, or the clock was set.
const MAX_REFILL_INTERVAL: Duration = Duration::from_secs(10);

/// Grows with time, at a pace, and never beyond what a second gives.
#[derive(Debug, Default)]
pub(super) struct TokenBucket {
    writes: f64,
    refilled: Option<Timestamp>,
}

impl TokenBucket {
    /// Adds what a pace, in writes per second, gives since the last round, which was a `tick` ago at least: with many namespaces a
    /// round takes longer.
    pub(super) fn refill(&mut self, rate: f64, tick: Duration, now: Timestamp) {
        let last = self.refilled.replace(now);
        let passed = last.and_then(|last| Duration::try_from(now.duration_since(last)).ok());
        let passed = passed.filter(|passed| (tick..=MAX_REFILL_INTERVAL).contains(passed));
        let refilled = self.writes + rate * passed.unwrap_or(tick).as_secs_f64();
        self.writes = refilled.min(rate.max(1.0));
    }

    /// Whether a write may begin.
    pub(super) fn has_token(&self) -> bool {
        self.writes >= 1.0
    }

    /// Takes one.
    pub(super) fn take(&mut self) {
        self.writes -= 1.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: Duration = Duration::from_millis(50);

    fn at(milliseconds: i64) -> Timestamp {
        Timestamp::from_millisecond(1_800_000_000_000 + milliseconds).unwrap()
    }

    /// How many writes begin in ten seconds of rounds that are so many milliseconds apart.
    fn count(round: i64) -> usize {
        let mut allowance = TokenBucket::default();
        let mut count = 0;
        for round in (0..10_000).step_by(usize::try_from(round).unwrap()) {
            allowance.refill(20.0, TICK, at(round));
            while allowance.has_token() {
                allowance.take();
                count += 1;
            }
        }
        count
    }

    #[test]
    fn keeps_the_pace_whether_rounds_are_quick_or_slow() {
        for round in [50, 200, 1000] {
            let count = count(round);
            assert!((180..=200).contains(&count), "{round} ms: {count}");
        }
    }

    #[test]
    fn gives_no_more_than_a_second_after_a_pause_or_a_clock_that_was_set() {
        for set in [9_000, 3_600_000, -3_600_000] {
            let mut allowance = TokenBucket::default();
            allowance.refill(20.0, TICK, at(0));
            allowance.refill(20.0, TICK, at(set));
            let mut count = 0;
            while allowance.has_token() {
                allowance.take();
                count += 1;
            }
            assert!(count <= 20, "{set}: {count}");
        }
    }
}
