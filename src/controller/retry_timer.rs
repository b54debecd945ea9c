//! When what failed is tried again. Pure.

use jiff::{SignedDuration, Timestamp};

/// A time that was set a while ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RetryTimer {
    at: Timestamp,
    wait: SignedDuration,
}

impl RetryTimer {
    /// So long after `now`.
    pub(super) fn after(wait: SignedDuration, now: Timestamp) -> Self {
        let at = now.saturating_add(wait).unwrap_or(now);
        Self { at, wait }
    }

    /// When, as seen at `now`: if the clock went back, nothing waits longer than was meant.
    pub(super) fn at(self, now: Timestamp) -> Timestamp {
        if self.at.duration_since(now) > self.wait {
            now
        } else {
            self.at
        }
    }

    /// For how long it was left alone.
    pub(super) fn wait(self) -> SignedDuration {
        self.wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::at;

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
