//! Whether a replica that began to lead knows enough to publish status. Pure.

use jiff::{SignedDuration, Timestamp};

/// For how long at most no status is published after leadership began.
const MAX_HOLDOFF: SignedDuration = SignedDuration::from_secs(10);

/// How far it is.
#[derive(Debug, Default)]
pub(super) enum StatusHoldoff {
    /// Nothing was reconciled yet.
    #[default]
    NotStarted,
    /// Under way since then.
    Since(Timestamp),
    /// It knows.
    Done,
}

impl StatusHoldoff {
    /// Until when no status is published; `None`: it can be.
    ///
    /// A new leader has to find out first: ServiceAccounts are read again, and what an earlier leader left undone is done. What
    /// it left in good order needs no other status meanwhile.
    pub(super) fn holds_until(&mut self, is_busy: bool, now: Timestamp) -> Option<Timestamp> {
        let since = match self {
            Self::NotStarted => now,
            Self::Since(since) => *since,
            Self::Done => return None,
        };
        // A clock that went back does not hold status off.
        if is_busy && now.duration_since(since).abs() < MAX_HOLDOFF {
            *self = Self::Since(since);
            return since.checked_add(MAX_HOLDOFF).ok();
        }
        *self = Self::Done;
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::at;

    #[test]
    fn lasts_as_long_as_there_is_something_to_do_first() {
        let mut status_holdoff = StatusHoldoff::default();
        assert_eq!(status_holdoff.holds_until(true, at(0)), Some(at(10)));
        assert_eq!(status_holdoff.holds_until(true, at(3)), Some(at(10)));
        assert_eq!(status_holdoff.holds_until(false, at(4)), None);
        assert_eq!(
            status_holdoff.holds_until(true, at(5)),
            None,
            "what comes later is published as it comes"
        );
    }

    #[test]
    fn ends_at_once_where_all_is_done_and_after_some_seconds_in_any_case() {
        assert_eq!(StatusHoldoff::default().holds_until(false, at(0)), None);
        for end in [10, -10] {
            let mut status_holdoff = StatusHoldoff::default();
            assert_eq!(status_holdoff.holds_until(true, at(0)), Some(at(10)));
            assert_eq!(status_holdoff.holds_until(true, at(end)), None, "{end}");
        }
    }
}
