//! Clocks that differ, run ahead and are put back: what every room makes of a time that cannot be right. Pure.
//!
//! Three rules, and each room goes by them:
//! - What was made more than [`MAX_SKEW`] in the future is unusable, and is made anew.
//! - A wait is as long as it was meant to be, whatever happens to the clock meanwhile ([`RetryTimer`]).
//! - No wait is longer than [`MAX_WAIT`] of monotonic time; then everything that is due by the clock is due.

pub(crate) mod token_bucket;

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// How far the clocks of two machines may differ: twice what AWS allows
/// (<https://docs.aws.amazon.com/IAM/latest/UserGuide/signature-v4-troubleshooting.html>).
pub const MAX_SKEW: SignedDuration = SignedDuration::from_mins(10);

/// The longest wait, by a clock that nobody can set.
pub const MAX_WAIT: Duration = Duration::from_mins(1);

/// Whether what says that it was made at `made` was made by a clock that was wrong, or ours is.
pub fn is_from_future(made: Timestamp, now: Timestamp) -> bool {
    made.duration_since(now) > MAX_SKEW
}

/// How long to sleep until `until`, at most [`MAX_WAIT`].
pub fn find_wait(until: Timestamp, now: Timestamp) -> Duration {
    let wait = Duration::try_from(until.duration_since(now));
    wait.unwrap_or_default().min(MAX_WAIT)
}

/// A time that was set a while ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryTimer {
    at: Timestamp,
    wait: SignedDuration,
}

impl RetryTimer {
    /// So long after `now`.
    pub fn after(wait: SignedDuration, now: Timestamp) -> Self {
        let at = now.saturating_add(wait).unwrap_or(now);
        Self { at, wait }
    }

    /// When, as seen at `now`: if the clock went back, nothing waits longer than was meant.
    pub fn at(self, now: Timestamp) -> Timestamp {
        if self.at.duration_since(now) > self.wait {
            now
        } else {
            self.at
        }
    }

    /// For how long it was left alone.
    pub fn wait(self) -> SignedDuration {
        self.wait
    }
}

/// How long what failed is left alone: twice as long each time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The first wait.
    pub first: SignedDuration,
    /// The longest.
    pub longest: SignedDuration,
}

impl Backoff {
    /// The wait after so many earlier ones in a row.
    pub fn wait(self, earlier: u32) -> SignedDuration {
        let doubled = self.first.saturating_mul(1 << earlier.min(30));
        doubled.min(self.longest)
    }

    /// The wait after so many earlier ones in a row, from `now` on.
    pub fn timer(self, earlier: u32, now: Timestamp) -> RetryTimer {
        RetryTimer::after(self.wait(earlier), now)
    }

    /// The wait that follows another one, from `now` on; `None`: the first.
    pub fn next(self, before: Option<RetryTimer>, now: Timestamp) -> RetryTimer {
        let doubled = before.map_or(self.first, |before| before.wait().saturating_mul(2));
        RetryTimer::after(doubled.min(self.longest), now)
    }
}

/// So many changes by others are taken back at once.
const FREE_REPAIRS: u32 = 5;

/// After so long without one they are forgotten.
const PEACE_AFTER: SignedDuration = SignedDuration::from_mins(10);

/// The waits before drift is reverted.
const DRIFT_BACKOFF: Backoff = Backoff {
    first: SignedDuration::from_secs(2),
    longest: SignedDuration::from_mins(5),
};

/// How often another writer's changes of one thing were reverted. Who keeps changing what we write is answered more and more slowly, so
/// that two programs that both know better do not keep the API server busy.
#[derive(Clone, Copy, Debug, Default)]
pub struct DriftBackoff {
    repairs: u32,
    last: Option<Timestamp>,
}

/// How a change is answered that was one too many.
#[derive(Debug, PartialEq, Eq)]
pub struct DriftDelay {
    /// For how long the next change is not reverted.
    pub wait: SignedDuration,
    /// Whether this is the first such change.
    pub is_first: bool,
}

impl DriftBackoff {
    /// A change by another writer was reverted just now; `None`: it is not persistent yet.
    pub fn record_change(&mut self, now: Timestamp) -> Option<DriftDelay> {
        let peace = |last: Timestamp| now.duration_since(last).abs() > PEACE_AFTER;
        if self.last.replace(now).is_some_and(peace) {
            self.repairs = 0;
        }
        self.repairs = self.repairs.saturating_add(1);
        let earlier = self.excess().checked_sub(1)?;
        Some(DriftDelay {
            wait: DRIFT_BACKOFF.wait(earlier),
            is_first: earlier == 0,
        })
    }

    /// Whether that happens more often than a mishap does.
    pub fn is_persistent(&self) -> bool {
        self.excess() > 0
    }

    /// When it is forgotten, if no further change comes.
    pub fn expiry(&self) -> Option<Timestamp> {
        self.last?.checked_add(PEACE_AFTER).ok()
    }

    /// Whether it is to be forgotten.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        let last = self.last;
        last.is_none_or(|last| now.duration_since(last).abs() >= PEACE_AFTER)
    }

    fn excess(&self) -> u32 {
        self.repairs.saturating_sub(FREE_REPAIRS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_another_writer_at_once_then_more_and_more_slowly_until_there_is_peace() {
        let at = |second: i64| Timestamp::from_second(second).unwrap();
        let mut drift = DriftBackoff::default();
        let delays: Vec<_> = (0..15).map(|one| drift.record_change(at(one))).collect();
        assert!(delays[..5].iter().all(Option::is_none));
        let waits = delays[5..].iter().flatten();
        let waits: Vec<_> = waits.map(|delay| delay.wait.as_secs()).collect();
        assert_eq!(waits, [2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        let first = delays[5..].iter().flatten().map(|delay| delay.is_first);
        assert!(first.eq((0..10).map(|one| one == 0)));
        assert_eq!(drift.expiry(), Some(at(14 + 600)));
        assert!(drift.is_persistent() && !drift.is_expired(at(14 + 599)));
        assert!(drift.is_expired(at(14 + 600)));
        assert_eq!(drift.record_change(at(14 + 601)), None);
        assert!(!drift.is_persistent());
    }

    #[test]
    fn waits_twice_as_long_each_time_up_to_the_longest() {
        let backoff = Backoff {
            first: SignedDuration::from_secs(1),
            longest: SignedDuration::from_mins(1),
        };
        let mut timer = None;
        for (earlier, wait) in [1, 2, 4, 8, 16, 32, 60, 60].into_iter().enumerate() {
            let earlier = u32::try_from(earlier).expect("it is small");
            timer = Some(backoff.next(timer, at(0)));
            assert_eq!(timer, Some(backoff.timer(earlier, at(0))), "{earlier}");
            assert_eq!(backoff.wait(earlier), SignedDuration::from_secs(wait));
        }
        assert_eq!(backoff.wait(u32::MAX), backoff.longest);
        let long = Backoff {
            first: SignedDuration::MAX,
            longest: SignedDuration::MAX,
        };
        assert_eq!(long.wait(u32::MAX), SignedDuration::MAX);
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).expect("it is a moment")
    }

    #[test]
    fn takes_for_made_in_the_future_what_no_clock_of_ours_may_have_made() {
        for (made, is_future) in [(-9, false), (0, false), (600, false), (601, true)] {
            assert_eq!(is_from_future(at(made), at(0)), is_future, "{made}");
        }
        assert!(is_from_future(Timestamp::MAX, Timestamp::MIN));
    }

    #[test]
    fn waits_until_then_but_no_longer_than_a_minute() {
        for (until, wait) in [(-5, 0), (0, 0), (5, 5), (60, 60), (9_000, 60)] {
            assert_eq!(
                find_wait(at(until), at(0)),
                Duration::from_secs(wait),
                "{until}"
            );
        }
    }

    #[test]
    fn waits_no_longer_than_was_meant_whatever_happens_to_the_clock() {
        let again = RetryTimer::after(SignedDuration::from_secs(5), at(0));
        // What the clock says, and whether it is time.
        let cases = [(0, false), (4, false), (5, true), (600, true)];
        let put_back = [(-1, true), (-600, true)];
        for (seconds, is_time) in cases.into_iter().chain(put_back) {
            let now = at(seconds);
            assert_eq!(again.at(now) <= now, is_time, "{seconds}");
        }
    }
}
