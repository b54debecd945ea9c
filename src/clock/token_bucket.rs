//! How many of something may begin: so many a second, and so many at once after a pause. Pure.

use std::time::Duration;

use jiff::Timestamp;

/// Fills with time at a pace, and never beyond what may begin at once: also after a pause, or where the clock was set.
#[derive(Debug, Default)]
pub(crate) struct TokenBucket {
    tokens: f64,
    refilled: Option<Timestamp>,
}

impl TokenBucket {
    /// Adds what a pace, in tokens per second, gives since the last time, up to `most`. The first time it is full.
    pub(crate) fn refill(&mut self, rate: f64, most: f64, now: Timestamp) {
        let grown = match self.refilled.replace(now) {
            Some(last) => self.tokens + rate * now.duration_since(last).as_secs_f64().max(0.0),
            None => most,
        };
        self.tokens = grown.min(most);
    }

    /// Whether one may begin.
    pub(crate) fn has_token(&self) -> bool {
        self.tokens >= 1.0
    }

    /// How many may begin.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is whole, and what is below zero is none"
    )]
    pub(crate) fn count(&self) -> usize {
        self.tokens.floor() as usize
    }

    /// Takes one.
    pub(crate) fn take(&mut self) {
        self.tokens -= 1.0;
    }

    /// How long until the next one may begin.
    pub(crate) fn wait(&self, rate: f64) -> Duration {
        let seconds = (1.0 - self.tokens).max(0.0) / rate.max(0.001);
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
                bucket.refill(20.0, 20.0, at(time));
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
            bucket.refill(20.0, 20.0, at(0));
            bucket.refill(20.0, 20.0, at(set));
            assert!(take_all(&mut bucket) <= 20, "{set}");
        }
    }

    #[test]
    fn fills_up_to_what_may_begin_at_once_however_slow_the_pace() {
        for (passed, count) in [(0, 0), (499, 0), (500, 1), (19_999, 39), (20_000, 40)] {
            let mut bucket = TokenBucket::default();
            bucket.refill(2.0, 40.0, at(0));
            assert_eq!((bucket.count(), take_all(&mut bucket)), (40, 40));
            bucket.refill(2.0, 40.0, at(passed));
            assert_eq!(bucket.count(), count, "{passed} ms");
            bucket.refill(2.0, 40.0, at(3_600_000));
            assert_eq!(bucket.count(), 40);
        }
    }

    #[test]
    fn says_how_long_to_wait_for_the_next_one() {
        let mut bucket = TokenBucket::default();
        bucket.refill(20.0, 20.0, at(0));
        take_all(&mut bucket);
        let wait = bucket.wait(20.0);
        assert!((50..=53).contains(&wait.as_millis()), "{wait:?}");
        bucket.refill(20.0, 20.0, at(52));
        assert!(bucket.has_token());
    }
}
