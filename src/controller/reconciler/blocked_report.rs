//! When blocked removals are reported: who confirms them by what the first report says must find the same set. Pure.

use jiff::{SignedDuration, Timestamp};

use crate::clock::RetryTimer;

/// So long a set must stay the same before it is reported: what belongs to it is found little by little.
const SETTLED_AFTER: SignedDuration = SignedDuration::from_secs(2);

/// One that changes all the time is reported as it is then.
const MAX_DELAY: SignedDuration = SignedDuration::from_secs(10);

/// How often the same set is reported: an API server forgets Events after an hour
/// (<https://kubernetes.io/docs/reference/command-line-tools-reference/kube-apiserver/>, `--event-ttl`).
const REPEAT_AFTER: SignedDuration = SignedDuration::from_mins(10);

/// Which set of blocked removals was found last, and which one was reported.
#[derive(Default)]
pub(super) struct BlockedReport {
    /// The set that is to be reported, once it is settled or has changed for too long.
    pending: Option<PendingReport>,
    /// What was reported last, and when it is again.
    reported: Option<(String, RetryTimer)>,
}

struct PendingReport {
    id: String,
    settled: RetryTimer,
    latest: RetryTimer,
}

impl BlockedReport {
    /// Whether this set of blocked removals is to be reported now; if so, it counts as reported.
    pub(super) fn is_due(&mut self, id: &str, now: Timestamp) -> bool {
        let is_due = match &self.reported {
            Some((reported, again)) if reported == id => {
                self.pending = None;
                again.at(now) <= now
            }
            _ => self.is_settled(id, now),
        };
        if is_due {
            self.pending = None;
            let again = RetryTimer::after(REPEAT_AFTER, now);
            self.reported = Some((id.to_owned(), again));
        }
        is_due
    }

    fn is_settled(&mut self, id: &str, now: Timestamp) -> bool {
        let settled = RetryTimer::after(SETTLED_AFTER, now);
        let pending = self.pending.get_or_insert_with(|| PendingReport {
            id: id.to_owned(),
            settled,
            latest: RetryTimer::after(MAX_DELAY, now),
        });
        if pending.id != id {
            id.clone_into(&mut pending.id);
            pending.settled = settled;
        }
        pending.settled.at(now) <= now || pending.latest.at(now) <= now
    }

    /// When it may be to be reported, if nothing changes.
    pub(super) fn next(&self, now: Timestamp) -> Option<Timestamp> {
        let pending = self.pending.as_ref();
        pending.map(|pending| pending.settled.at(now).min(pending.latest.at(now)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::at;

    #[test]
    fn reports_a_set_that_stays_the_same_and_again_as_long_as_it_waits() {
        let mut report = BlockedReport::default();
        // When, which one was found, whether it is reported and when it may be next.
        let table = [
            (0, "a", false, Some(2)),
            (1, "b", false, Some(3)),
            (2, "b", false, Some(3)),
            (3, "b", true, None),
            (4, "b", false, None),
            (602, "b", false, None),
            (603, "b", true, None),
            (604, "c", false, Some(606)),
            (605, "b", false, None),
            (607, "c", false, Some(609)),
            (609, "c", true, None),
        ];
        for (second, id, is_due, next) in table {
            assert_eq!(report.is_due(id, at(second)), is_due, "{second} {id}");
            assert_eq!(report.next(at(second)), next.map(at), "{second} {id}");
        }
    }

    #[test]
    fn reports_one_that_changes_all_the_time_as_it_is_after_a_while() {
        let mut report = BlockedReport::default();
        let ids: Vec<String> = (0..30).map(|second| second.to_string()).collect();
        let reported = (0..).zip(&ids);
        let reported = reported.filter(|(second, id)| report.is_due(id, at(*second)));
        let seconds: Vec<i64> = reported.map(|(second, _)| second).collect();
        assert_eq!(seconds, [10, 21]);
    }
}
