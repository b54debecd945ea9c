//! When to scan for missed Pods. Pure.

use jiff::{SignedDuration, Timestamp};

use crate::clock::Backoff;

/// Without an admission for so long, the webhook may have been away.
const SILENCE: SignedDuration = SignedDuration::from_mins(1);

/// The least time between two scans.
const MIN_INTERVAL: SignedDuration = SignedDuration::from_secs(10);

/// The least time between two scans where the later one is for a namespace that opted in or a Registry that came: many may, one by one.
const NEWLY_SERVED_INTERVAL: SignedDuration = SignedDuration::from_secs(30);

/// The first pause after a scan that failed; it doubles up to the usual one.
const RETRY_AFTER: SignedDuration = SignedDuration::from_secs(30);

/// How a scan ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ScanOutcome {
    /// All Pods were checked.
    Succeeded,
    /// The right to list Pods is missing.
    Forbidden,
    /// Something else went wrong.
    Errored,
}

/// When the next scan is due.
#[derive(Debug)]
pub(super) struct ScanSchedule {
    interval: SignedDuration,
    scanned: Option<Timestamp>,
    pause: SignedDuration,
    failures: u32,
    recheck_at: Option<Timestamp>,
    answered: Option<Timestamp>,
    is_back: bool,
    is_newly_served: bool,
}

impl ScanSchedule {
    /// The first scan is due at once, later ones every `interval`.
    pub(super) fn new(interval: SignedDuration) -> Self {
        Self {
            interval,
            scanned: None,
            pause: interval,
            failures: 0,
            recheck_at: None,
            answered: None,
            is_back: false,
            is_newly_served: false,
        }
    }

    /// A namespace opted in, or a Registry came: Pods may hang that nobody was asked about.
    pub(super) fn note_newly_served(&mut self) {
        self.is_newly_served = true;
    }

    /// Whether a scan is due; `answered` is when the webhook last answered the API server.
    pub(super) fn is_due(&mut self, answered: Option<Timestamp>, now: Timestamp) -> bool {
        if let Some(answer) = answered {
            let silent = |before: Timestamp| answer.duration_since(before) >= SILENCE;
            self.is_back |= self.answered.is_none_or(silent);
            self.answered = Some(answer);
        }
        let Some(scanned) = self.scanned else {
            return true;
        };
        let passed = now.duration_since(scanned);
        let is_wanted = self.is_back || self.recheck_at.is_some_and(|at| at <= now);
        // A clock that went back is no reason to wait.
        passed.is_negative()
            || passed >= self.pause
            || (is_wanted && passed >= MIN_INTERVAL)
            || (self.is_newly_served && passed >= NEWLY_SERVED_INTERVAL)
    }

    /// A scan has ended; what it saw is to be seen again at `recheck_at`, at the latest.
    pub(super) fn note(
        &mut self,
        ended: ScanOutcome,
        recheck_at: Option<Timestamp>,
        now: Timestamp,
    ) {
        self.scanned = Some(now);
        self.recheck_at = recheck_at;
        self.is_back = false;
        self.is_newly_served = false;
        self.failures = match ended {
            ScanOutcome::Errored => self.failures.saturating_add(1),
            ScanOutcome::Succeeded | ScanOutcome::Forbidden => 0,
        };
        let backoff = Backoff {
            first: RETRY_AFTER,
            longest: self.interval,
        };
        let earlier = self.failures.checked_sub(1);
        self.pause = earlier.map_or(self.interval, |earlier| backoff.wait(earlier));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn due(schedule: &mut ScanSchedule, answered: Option<i64>, now: i64) -> bool {
        schedule.is_due(answered.map(at), at(now))
    }

    #[test]
    fn looks_at_once_then_on_the_timer() {
        let mut schedule = ScanSchedule::new(SignedDuration::from_mins(10));
        assert!(due(&mut schedule, None, 1000));
        schedule.note(ScanOutcome::Succeeded, None, at(1000));
        assert!(!due(&mut schedule, None, 1599));
        assert!(due(&mut schedule, None, 1600));
        schedule.note(ScanOutcome::Forbidden, None, at(1600));
        assert!(!due(&mut schedule, None, 2199));
        assert!(due(&mut schedule, None, 0), "the clock went back");
    }

    #[test]
    fn looks_when_an_admission_ends_a_silence() {
        let mut schedule = ScanSchedule::new(SignedDuration::from_mins(10));
        assert!(due(&mut schedule, None, 1000));
        schedule.note(ScanOutcome::Succeeded, None, at(1000));
        // The first admission of all, but not right after a scan.
        assert!(!due(&mut schedule, Some(1003), 1004));
        assert!(due(&mut schedule, Some(1003), 1010));
        schedule.note(ScanOutcome::Succeeded, None, at(1010));
        // Admissions as they come and go.
        assert!(!due(&mut schedule, Some(1030), 1030));
        assert!(!due(&mut schedule, Some(1089), 1100));
        // After a minute without.
        assert!(due(&mut schedule, Some(1149), 1149));
        schedule.note(ScanOutcome::Succeeded, None, at(1149));
        assert!(!due(&mut schedule, Some(1149), 1300));
    }

    #[test]
    fn scans_soon_after_a_namespace_opted_in_however_many_do() {
        let mut schedule = ScanSchedule::new(SignedDuration::from_mins(10));
        schedule.note(ScanOutcome::Succeeded, None, at(0));
        schedule.note_newly_served();
        assert!(!due(&mut schedule, None, 29), "right after a scan");
        assert!(due(&mut schedule, None, 30));
        let mut scans = 0;
        for now in 30..630 {
            schedule.note_newly_served();
            if due(&mut schedule, None, now) {
                schedule.note(ScanOutcome::Succeeded, None, at(now));
                scans += 1;
            }
        }
        assert_eq!(scans, 20);
        schedule.note(ScanOutcome::Succeeded, None, at(630));
        assert!(!due(&mut schedule, None, 1000), "nothing came since");
    }

    #[test]
    fn waits_longer_after_each_failure() {
        let mut schedule = ScanSchedule::new(SignedDuration::from_mins(2));
        for (now, pause) in [(0, 30), (100, 60), (200, 120), (400, 120)] {
            schedule.note(ScanOutcome::Errored, None, at(now));
            assert!(!due(&mut schedule, None, now + pause - 1));
            assert!(due(&mut schedule, None, now + pause));
        }
        schedule.note(ScanOutcome::Succeeded, None, at(600));
        schedule.note(ScanOutcome::Errored, None, at(600));
        assert!(due(&mut schedule, None, 630));
    }

    #[test]
    fn scans_again_when_what_was_too_young_is_old_enough() {
        let mut schedule = ScanSchedule::new(SignedDuration::from_mins(10));
        schedule.note(ScanOutcome::Succeeded, Some(at(100)), at(50));
        assert!(!due(&mut schedule, None, 99));
        assert!(due(&mut schedule, None, 100));
        // Not right after a scan.
        schedule.note(ScanOutcome::Succeeded, Some(at(101)), at(100));
        assert!(!due(&mut schedule, None, 109));
        assert!(due(&mut schedule, None, 110));
    }
}
