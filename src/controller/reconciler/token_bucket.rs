//! How many writes of renewed credentials may begin. Pure.

use std::time::Duration;

use jiff::Timestamp;

/// Grows with time, at a pace, and never beyond what a second gives: after a pause, or where the clock was set, no more begin at once.
#[derive(Debug, Default)]
pub(super) struct TokenBucket {
    writes: f64,
    refilled: Option<Timestamp>,
}

impl TokenBucket {
    /// Adds what a pace, in writes per second, gives since the last time.
    pub(super) fn refill(&mut self, rate: f64, now: Timestamp) {
        let last = self.refilled.replace(now);
        let passed = last.map_or(1.0, |last| now.duration_since(last).as_secs_f64());
        self.writes = (self.writes + rate * passed.clamp(0.0, 1.0)).min(rate.max(1.0));
    }

    /// Whether a write may begin.
    pub(super) fn has_token(&self) -> bool {
        self.writes >= 1.0
    }

    /// Takes one.
    pub(super) fn take(&mut self) {
        self.writes -= 1.0;
    }

    /// How long until the next one may begin.
    pub(super) fn wait(&self, rate: f64) -> Duration {
        let seconds = (1.0 - self.writes).max(0.0) / rate.max(0.001);
        // Not a moment too soon: it would be for nothing.
        Duration::from_secs_f64(seconds.min(1.0)) + Duration::from_millis(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: i64) -> Timestamp {
        Timestamp::from_millisecond(1_800_000_000_000 + milliseconds).unwrap()
    }

    fn take_all(bucket: &mut TokenBucket) -> usize {
        let mut count = 0;
        while bucket.has_token() {
            bucket.take();
            count += 1;
        }
        count
    }

    #[test]
    fn keeps_the_pace_whether_rounds_are_quick_or_slow() {
        for round in [1, 50, 200, 1000] {
            let mut bucket = TokenBucket::default();
            let mut count = 0;
            for time in (0..10_000).step_by(round) {
                bucket.refill(20.0, at(time));
                count += take_all(&mut bucket);
            }
            // The first second's worth is there at once.
            assert!((199..=220).contains(&count), "{round} ms: {count}");
        }
    }

    #[test]
    fn gives_no_more_than_a_second_after_a_pause_or_a_clock_that_was_set() {
        for set in [9_000, 3_600_000, -3_600_000] {
            let mut bucket = TokenBucket::default();
            bucket.refill(20.0, at(0));
            bucket.refill(20.0, at(set));
            assert!(take_all(&mut bucket) <= 20, "{set}");
        }
    }

    #[test]
    fn says_how_long_to_wait_for_the_next_one() {
        let mut bucket = TokenBucket::default();
        bucket.refill(20.0, at(0));
        take_all(&mut bucket);
        let wait = bucket.wait(20.0);
        assert!((50..=53).contains(&wait.as_millis()), "{wait:?}");
        bucket.refill(20.0, at(52));
        assert!(bucket.has_token());
    }
}
