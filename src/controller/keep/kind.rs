//! Whether Registries that are not there are truly gone, as the API server says. Pure.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use crate::provision::prune::Doubt;
use crate::registry::Registries;

/// Between a Registry's deletion and what follows from it the API server is asked whether it still knows the kind, and none that memory
/// misses: with the kind all Registries go, and nobody ordered that. It takes the API server about a second to forget a kind.
const KIND_GOES: SignedDuration = SignedDuration::from_secs(2);

/// How long an answer about the kind holds. One that tells nothing holds twice as long as the one before it, at most a minute.
const KIND_KNOWN: SignedDuration = SignedDuration::from_secs(5);
const DOUBT_HOLDS: SignedDuration = SignedDuration::from_mins(1);

/// What is known of the kind Registry.
#[derive(Default)]
pub(super) struct Kind {
    /// The Registries that the rest is about: an answer says nothing of those that went later.
    registries: Option<Arc<Registries>>,
    wanted_since: Option<Timestamp>,
    asked: bool,
    /// Whether what was asked is about earlier Registries.
    is_outdated: bool,
    /// When it was answered, and how long that holds.
    answered: Option<(Timestamp, SignedDuration)>,
    is_known: bool,
    /// What was said last of why it cannot be told.
    complaint: Option<String>,
}

impl Kind {
    /// Nothing is to be removed.
    pub(super) fn forget(&mut self) {
        *self = Self {
            asked: self.asked,
            is_outdated: self.asked,
            complaint: self.complaint.take(),
            ..Self::default()
        };
    }

    /// Something is to be removed by these Registries.
    pub(super) fn see(&mut self, registries: &Arc<Registries>) {
        let last = self.registries.as_ref();
        if last.is_none_or(|last| !Arc::ptr_eq(last, registries)) {
            self.forget();
            self.registries = Some(Arc::clone(registries));
        }
    }

    /// Whether the API server is to be asked now. Then it has been.
    pub(super) fn is_to_be_asked(&mut self, now: Timestamp) -> bool {
        let since = *self.wanted_since.get_or_insert(now);
        let waited = now.duration_since(since).abs() >= KIND_GOES;
        let holds = self
            .answered
            .is_some_and(|(at, long)| now.duration_since(at).abs() < long);
        if !holds {
            self.is_known = false;
        }
        let is_to_be_asked = waited && !holds && !self.asked;
        self.asked |= is_to_be_asked;
        is_to_be_asked
    }

    /// When it is next to be seen whether the API server is to be asked; `None`: once it answered.
    pub(super) fn next(&self) -> Option<Timestamp> {
        let (since, long) = match self.answered {
            _ if self.asked => return None,
            Some(answered) => answered,
            None => (self.wanted_since?, KIND_GOES),
        };
        since.checked_add(long).ok()
    }

    /// Whether Registries that are not there are truly gone.
    pub(super) fn is_known(&self) -> bool {
        self.is_known
    }

    /// Takes an answer.
    pub(super) fn take(&mut self, answer: Result<(), Doubt>, now: Timestamp) {
        self.asked = false;
        if std::mem::take(&mut self.is_outdated) {
            return;
        }
        self.is_known = answer.is_ok();
        let long = match self.answered {
            Some((_, last)) if answer.is_err() => (last * 2).min(DOUBT_HOLDS),
            _ => KIND_KNOWN,
        };
        self.answered = Some((now, long));
        self.note_complaint(answer.err().map(|error| error.to_string()));
    }

    /// Says why it cannot be told, when that is another reason than before; whether it did.
    fn note_complaint(&mut self, complaint: Option<String>) -> bool {
        let is_new = complaint != self.complaint;
        self.complaint = complaint;
        let new = self.complaint.as_ref().filter(|_| is_new);
        if let Some(error) = new {
            tracing::warn!(
                "nothing is removed: whether the Registries that are not there were deleted cannot be told: {error}"
            );
        }
        new.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::at;

    #[test]
    fn takes_no_answer_for_registries_that_went_after_the_question() {
        let (before, after) = (
            Arc::new(Registries::build([])),
            Arc::new(Registries::build([])),
        );
        let mut kind = Kind::default();
        kind.see(&before);
        assert!(!kind.is_to_be_asked(at(0)));
        assert!(kind.is_to_be_asked(at(2)));
        kind.take(Ok(()), at(2));
        assert!(kind.is_known());

        kind.see(&after);
        assert!(!kind.is_known(), "it was asked before these went");
        assert!(!kind.is_to_be_asked(at(3)));
        assert!(kind.is_to_be_asked(at(5)));
        kind.see(&before);
        kind.take(Ok(()), at(5));
        assert!(!kind.is_known(), "the answer is to an earlier question");
        assert!(!kind.is_to_be_asked(at(5)));
        assert!(kind.is_to_be_asked(at(7)));
        kind.take(Ok(()), at(7));
        assert!(kind.is_known());
    }

    fn doubt() -> Result<(), Doubt> {
        let name = "eu".to_owned();
        Err(Doubt::Behind { name })
    }

    #[test]
    fn asks_more_and_more_rarely_as_long_as_it_cannot_be_told() {
        let registries = Arc::new(Registries::build([]));
        let mut kind = Kind::default();
        kind.see(&registries);
        assert!(!kind.is_to_be_asked(at(0)));
        assert_eq!(kind.next(), Some(at(2)));
        let mut asked = Vec::new();
        for second in 2..300 {
            kind.see(&registries);
            if kind.is_to_be_asked(at(second)) {
                assert_eq!(kind.next(), None, "the answer comes first");
                kind.take(doubt(), at(second));
                assert!(!kind.is_known());
                asked.push(second);
            } else {
                let next = kind.next().unwrap();
                assert!(next > at(second), "nothing is to be done before");
            }
        }
        assert_eq!(asked, [2, 7, 17, 37, 77, 137, 197, 257]);
        // An answer that tells is asked for anew as soon as ever.
        assert!(kind.is_to_be_asked(at(317)));
        kind.take(Ok(()), at(317));
        assert!(kind.is_known());
        assert!(kind.is_to_be_asked(at(322)));
        kind.take(doubt(), at(322));
        assert_eq!(kind.next(), Some(at(332)));
    }

    #[test]
    fn says_once_why_it_cannot_be_told() {
        let mut kind = Kind::default();
        let mut said = Vec::new();
        for complaint in [Some("a"), Some("a"), Some("b"), None, Some("b"), Some("b")] {
            said.push(kind.note_complaint(complaint.map(str::to_owned)));
            // A Registry that changes says nothing of that.
            kind.forget();
        }
        assert_eq!(said, [true, false, true, false, true, false]);
    }
}
