//! What is remembered of a mint that failed, and how long its key is left alone.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::throttles::HeldOff;
use crate::api_server::ClusterError;
use crate::clock::{Backoff, RetryTimer};
use crate::credential::{Credential, MintError, retry_after};

/// The waits after a failure.
const BACKOFF: Backoff = Backoff {
    first: SignedDuration::from_secs(1),
    longest: SignedDuration::from_mins(1),
};
/// The longest where the credential store could not be reached and no cloud was asked: as soon as the cluster answers again, everybody
/// waits for credentials. What keys ask for at once then is spread by when each failed.
const MAX_STORE_BACKOFF: SignedDuration = SignedDuration::from_secs(4);

/// Why a mint failed.
#[derive(Debug)]
pub(super) struct MintFailure {
    pub(super) error: MintError,
    /// Whether a cloud may have been asked for it: then it is not asked again soon.
    pub(super) asked_cloud: bool,
    /// Where nobody was asked, as an account throttles: how long that is so.
    pub(super) held_off: Option<SignedDuration>,
    /// What was minted, where the store did not take it: put there by the next attempt, in place of another mint.
    pub(super) unsaved: Option<Arc<Credential>>,
}

impl MintFailure {
    /// Before a cloud was asked: the store would not have the key claimed.
    pub(super) fn at_claim(error: ClusterError) -> Self {
        Self {
            error: error.into(),
            asked_cloud: false,
            held_off: None,
            unsaved: None,
        }
    }

    /// The account throttles: nobody was asked.
    pub(super) fn held_off(held_off: &HeldOff) -> Self {
        Self {
            error: MintError::clone(&held_off.why),
            asked_cloud: false,
            held_off: Some(held_off.wait),
            unsaved: None,
        }
    }
}

impl From<MintError> for MintFailure {
    fn from(error: MintError) -> Self {
        Self {
            error,
            asked_cloud: true,
            held_off: None,
            unsaved: None,
        }
    }
}

/// A failure that is remembered.
#[derive(Clone)]
pub(super) struct RememberedFailure {
    pub(super) error: Arc<MintError>,
    pub(super) unsaved: Option<Arc<Credential>>,
    /// Whether nobody was asked, as an account throttles.
    pub(super) is_held_off: bool,
    /// How many attempts failed in a row.
    count: u32,
    /// Until when it counts; `None`: not at all.
    timer: Option<RetryTimer>,
}

impl RememberedFailure {
    /// A failure after `before`, if the attempt before it failed, too.
    pub(super) fn after(before: Option<&Self>, failed: MintFailure, now: Timestamp) -> Self {
        let earlier = before.map_or(0, |before| before.count);
        let is_held_off = failed.held_off.is_some();
        let count = earlier.saturating_add(u32::from(!is_held_off));
        let wait = failed.held_off.unwrap_or_else(|| find_wait(count, &failed));
        let unsaved = before.and_then(|before| before.unsaved.clone());
        Self {
            error: Arc::new(failed.error),
            unsaved: failed.unsaved.or(unsaved),
            is_held_off,
            count,
            timer: Some(RetryTimer::after(wait, now)),
        }
    }

    /// One of ours, for which no key is left alone.
    pub(super) fn of_a_bug(error: MintError) -> Self {
        Self {
            error: Arc::new(error),
            unsaved: None,
            is_held_off: false,
            count: 0,
            timer: None,
        }
    }

    /// Whether it is still to be waited out. If the clock went back, nobody waits longer than was meant.
    pub(super) fn is_active(&self, now: Timestamp) -> bool {
        self.timer.is_some_and(|timer| timer.at(now) > now)
    }

    /// How long its key is left alone.
    pub(super) fn wait(&self) -> SignedDuration {
        self.timer.map_or(SignedDuration::ZERO, RetryTimer::wait)
    }
}

/// How long to wait after `count` failures in a row: 1, 2, 4 … 60 seconds, or what the server asked for if that is longer; 4 at most
/// where the credential store could not be reached before a cloud was asked.
fn find_wait(count: u32, failed: &MintFailure) -> SignedDuration {
    let longest = if failed.error.is_store_unreachable() && !failed.asked_cloud {
        MAX_STORE_BACKOFF
    } else {
        BACKOFF.longest
    };
    let asked = failed.error.retry_after().unwrap_or_default();
    let asked = asked.min(retry_after::LONGEST);
    let asked = SignedDuration::try_from(asked).unwrap_or_default();
    let doubled = BACKOFF.wait(count.saturating_sub(1));
    doubled.min(longest).max(asked)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::credential::Refusal;

    fn throttled(retry_after: Option<Duration>) -> MintError {
        MintError::Refused(Box::new(Refusal {
            retry_after,
            ..Refusal::of_throttle()
        }))
    }

    fn wait(count: u32, asked: Option<u64>) -> i64 {
        let error = throttled(asked.map(Duration::from_secs));
        find_wait(count, &error.into()).as_secs()
    }

    #[test]
    fn find_wait_doubles_up_to_a_minute() {
        let waits: Vec<i64> = (1..=9).map(|count| wait(count, None)).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(wait(u32::MAX, None), 60);
    }

    #[test]
    fn find_wait_follows_the_server_within_reason() {
        assert_eq!(wait(1, Some(30)), 30);
        assert_eq!(wait(7, Some(30)), 60);
        assert_eq!(wait(1, Some(86_400)), 600);
    }

    #[test]
    fn find_wait_stays_short_where_the_store_cannot_be_reached_before_a_cloud_is_asked() {
        let (what, message) = ("x".to_owned(), "y".to_owned());
        let unreachable = || ClusterError::Unreachable {
            what: what.clone(),
            message: message.clone(),
        };
        let forbidden = || ClusterError::Forbidden {
            what: what.clone(),
            message: message.clone(),
        };
        let gone = || ClusterError::NotFound { what: what.clone() };
        let conflict = || ClusterError::Conflict { what: what.clone() };
        let after = |error: ClusterError| MintFailure::from(MintError::from(error));
        let table = [
            (MintFailure::at_claim(unreachable()), [1, 2, 4, 4, 4]),
            (MintFailure::at_claim(forbidden()), [1, 2, 4, 8, 16]),
            (MintFailure::at_claim(gone()), [1, 2, 4, 4, 4]),
            (MintFailure::at_claim(conflict()), [1, 2, 4, 8, 16]),
            (after(unreachable()), [1, 2, 4, 8, 16]),
            (after(conflict()), [1, 2, 4, 8, 16]),
        ];
        for (failed, expected) in table {
            let waits = [1, 2, 3, 4, 5].map(|count| find_wait(count, &failed).as_secs());
            assert_eq!(waits, expected, "{failed:?}");
        }
    }

    #[test]
    fn counts_a_failure_only_until_the_wait_is_over() {
        let now: Timestamp = "2026-11-21T10:00:00Z".parse().unwrap();
        let after = |before: Option<&RememberedFailure>, now| {
            let host = "h".to_owned();
            RememberedFailure::after(before, MintError::Timeout { host }.into(), now)
        };
        let first = after(None, now);
        assert_eq!(first.wait().as_secs(), 1);
        assert!(first.is_active(now));
        assert!(!first.is_active(now - SignedDuration::from_mins(10)));
        let later = now + SignedDuration::from_secs(1);
        assert!(!first.is_active(later));
        let second = after(Some(&first), later);
        assert_eq!(second.wait().as_secs(), 2);
        let bug = RememberedFailure::of_a_bug(MintError::TaskPanicked);
        assert!(!bug.is_active(now));
        assert_eq!(after(Some(&bug), now).wait().as_secs(), 1);
    }
}
