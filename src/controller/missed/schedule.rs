//! When missed Pods are looked for. Pure.

use jiff::{SignedDuration, Timestamp};

/// Without an admission for so long, the webhook may have been away.
const SILENCE: SignedDuration = SignedDuration::from_mins(1);

/// The least time between two looks.
const BETWEEN: SignedDuration = SignedDuration::from_secs(10);

/// The first pause after a look that failed; it doubles up to the usual one.
const AGAIN: SignedDuration = SignedDuration::from_secs(30);

/// How a look ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// All Pods were looked at.
    Well,
    /// The right to list Pods is missing.
    Forbidden,
    /// Something else went wrong.
    Badly,
}

/// When the next look is due.
#[derive(Debug)]
pub(super) struct Schedule {
    every: SignedDuration,
    looked: Option<Timestamp>,
    pause: SignedDuration,
    failures: i32,
    answered: Option<Timestamp>,
    is_back: bool,
}

impl Schedule {
    /// The first look is due at once, later ones `every` so often.
    pub(super) fn new(every: SignedDuration) -> Self {
        Self {
            every,
            looked: None,
            pause: every,
            failures: 0,
            answered: None,
            is_back: false,
        }
    }

    /// Whether a look is due; `answered` is when the webhook last answered the API server.
    pub(super) fn is_due(&mut self, answered: Option<Timestamp>, now: Timestamp) -> bool {
        if let Some(answer) = answered {
            let silent = |before: Timestamp| answer.duration_since(before) >= SILENCE;
            self.is_back |= self.answered.is_none_or(silent);
            self.answered = Some(answer);
        }
        let Some(looked) = self.looked else {
            return true;
        };
        let passed = now.duration_since(looked);
        // A clock that was put back is no reason to wait.
        passed.is_negative() || passed >= self.pause || (self.is_back && passed >= BETWEEN)
    }

    /// A look has ended.
    pub(super) fn note(&mut self, ended: Ended, now: Timestamp) {
        self.looked = Some(now);
        self.is_back = false;
        self.failures = match ended {
            Ended::Badly => (self.failures + 1).min(20),
            Ended::Well | Ended::Forbidden => 0,
        };
        self.pause = match self.failures {
            0 => self.every,
            failures => (AGAIN * (1 << (failures - 1))).min(self.every),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn due(schedule: &mut Schedule, answered: Option<i64>, now: i64) -> bool {
        schedule.is_due(answered.map(at), at(now))
    }

    #[test]
    fn looks_at_once_then_on_the_timer() {
        let mut schedule = Schedule::new(SignedDuration::from_mins(10));
        assert!(due(&mut schedule, None, 1000));
        schedule.note(Ended::Well, at(1000));
        assert!(!due(&mut schedule, None, 1599));
        assert!(due(&mut schedule, None, 1600));
        schedule.note(Ended::Forbidden, at(1600));
        assert!(!due(&mut schedule, None, 2199));
        assert!(due(&mut schedule, None, 0), "the clock was put back");
    }

    #[test]
    fn looks_when_an_admission_ends_a_silence() {
        let mut schedule = Schedule::new(SignedDuration::from_mins(10));
        assert!(due(&mut schedule, None, 1000));
        schedule.note(Ended::Well, at(1000));
        // The first admission of all, but not at once after a look.
        assert!(!due(&mut schedule, Some(1003), 1004));
        assert!(due(&mut schedule, Some(1003), 1010));
        schedule.note(Ended::Well, at(1010));
        // Admissions as they come and go.
        assert!(!due(&mut schedule, Some(1030), 1030));
        assert!(!due(&mut schedule, Some(1089), 1100));
        // After a minute without.
        assert!(due(&mut schedule, Some(1149), 1149));
        schedule.note(Ended::Well, at(1149));
        assert!(!due(&mut schedule, Some(1149), 1300));
    }

    #[test]
    fn waits_longer_after_each_failure() {
        let mut schedule = Schedule::new(SignedDuration::from_mins(2));
        for (now, pause) in [(0, 30), (100, 60), (200, 120), (400, 120)] {
            schedule.note(Ended::Badly, at(now));
            assert!(!due(&mut schedule, None, now + pause - 1));
            assert!(due(&mut schedule, None, now + pause));
        }
        schedule.note(Ended::Well, at(600));
        schedule.note(Ended::Badly, at(600));
        assert!(due(&mut schedule, None, 630));
    }
}
