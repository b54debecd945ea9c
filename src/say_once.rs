//! Saying of a failure once what may fail again and again, or in many places: by its cause. Pure.

use std::collections::HashMap;
use std::hash::Hash;

use jiff::{SignedDuration, Timestamp};

/// A cause that was not seen for so long is over: the next time it is said again. Longer than anything that failed waits to be tried again.
const OVER_AFTER: SignedDuration = SignedDuration::from_mins(10);

/// So many causes are remembered; beyond that, none is until some are over.
const MOST: usize = 256;

/// What was said, by its cause, and when the cause was seen last.
#[derive(Debug)]
pub(crate) struct SayOnce<C>(HashMap<C, Timestamp>);

impl<C> Default for SayOnce<C> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<C: Eq + Hash> SayOnce<C> {
    /// Whether this is to be said: its cause is new, or had been over.
    pub(crate) fn is_new(&mut self, cause: C, now: Timestamp) -> bool {
        self.0
            .retain(|_, seen| now.duration_since(*seen).abs() < OVER_AFTER);
        if self.0.len() >= MOST && !self.0.contains_key(&cause) {
            return false;
        }
        self.0.insert(cause, now).is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).expect("it is a moment")
    }

    #[test]
    fn says_each_cause_once_until_it_is_over() {
        let mut said = SayOnce::default();
        let rows = [
            (0, "quota", true),
            (1, "quota", false),
            (2, "forbidden", true),
            // As long as it goes on.
            (500, "quota", false),
            (1_000, "quota", false),
            (1_600, "quota", true),
            // The clock was put back.
            (-600, "quota", true),
        ];
        for (second, cause, is_new) in rows {
            assert_eq!(said.is_new(cause, at(second)), is_new, "{second} {cause}");
        }
    }

    #[test]
    fn remembers_no_more_causes_than_it_may() {
        let mut said = SayOnce::default();
        let new = (0..2 * MOST).filter(|cause| said.is_new(*cause, at(0)));
        assert_eq!(new.count(), MOST);
        assert!(said.is_new(0, at(600)), "all are over");
    }
}
