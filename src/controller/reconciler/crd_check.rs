//! Whether Registries that are not there are truly gone, as the API server says. Pure.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use crate::provision::prune::RegistriesUnconfirmed;
use crate::registry::Registries;

/// Between a Registry's deletion and what follows from it the API server is asked whether it still knows the kind, and none that memory
/// misses: with the kind all Registries go, and nobody ordered that. It takes the API server about a second to forget a kind.
const CRD_SETTLE: SignedDuration = SignedDuration::from_secs(2);

/// How long an answer about the CRD is valid. An inconclusive one is valid twice as long as the one before it, at most a minute.
const ANSWER_VALID: SignedDuration = SignedDuration::from_secs(5);
const MAX_ANSWER_VALID: SignedDuration = SignedDuration::from_mins(1);

/// What is known of the kind Registry.
#[derive(Default)]
pub(super) struct CrdCheck {
    /// The Registries that the rest is about: an answer says nothing of those that went later.
    registries: Option<Arc<Registries>>,
    waiting_since: Option<Timestamp>,
    asked: bool,
    /// Whether what was asked is about earlier Registries.
    is_outdated: bool,
    /// When it was answered, and how long that holds.
    answered: Option<(Timestamp, SignedDuration)>,
    is_confirmed: bool,
    /// The last logged reason why it cannot be decided.
    logged_reason: Option<String>,
}

impl CrdCheck {
    /// Nothing is to be removed.
    pub(super) fn forget(&mut self) {
        *self = Self {
            asked: self.asked,
            is_outdated: self.asked,
            logged_reason: self.logged_reason.take(),
            ..Self::default()
        };
    }

    /// Something is to be removed by these Registries.
    pub(super) fn observe(&mut self, registries: &Arc<Registries>) {
        let last = self.registries.as_ref();
        if last.is_none_or(|last| !Arc::ptr_eq(last, registries)) {
            self.forget();
            self.registries = Some(Arc::clone(registries));
        }
    }

    /// Whether the API server is to be asked now. Then it has been.
    pub(super) fn should_ask(&mut self, now: Timestamp) -> bool {
        let since = *self.waiting_since.get_or_insert(now);
        let waited = now.duration_since(since).abs() >= CRD_SETTLE;
        let holds = self
            .answered
            .is_some_and(|(at, long)| now.duration_since(at).abs() < long);
        if !holds {
            self.is_confirmed = false;
        }
        let should_ask = waited && !holds && !self.asked;
        self.asked |= should_ask;
        should_ask
    }

    /// When it is next to be seen whether the API server is to be asked; `None`: once it answered.
    pub(super) fn next(&self) -> Option<Timestamp> {
        let (since, long) = match self.answered {
            _ if self.asked => return None,
            Some(answered) => answered,
            None => (self.waiting_since?, CRD_SETTLE),
        };
        since.checked_add(long).ok()
    }

    /// Whether Registries that are not there are truly gone.
    pub(super) fn is_confirmed(&self) -> bool {
        self.is_confirmed
    }

    /// Takes an answer.
    pub(super) fn record_answer(
        &mut self,
        answer: Result<(), RegistriesUnconfirmed>,
        now: Timestamp,
    ) {
        self.asked = false;
        if std::mem::take(&mut self.is_outdated) {
            return;
        }
        self.is_confirmed = answer.is_ok();
        let long = match self.answered {
            Some((_, last)) if answer.is_err() => (last * 2).min(MAX_ANSWER_VALID),
            _ => ANSWER_VALID,
        };
        self.answered = Some((now, long));
        self.log_reason(answer.err().map(|error| error.to_string()));
    }

    /// Logs why it cannot be decided, if the reason is new; whether it did.
    fn log_reason(&mut self, logged_reason: Option<String>) -> bool {
        let is_new = logged_reason != self.logged_reason;
        self.logged_reason = logged_reason;
        let new = self.logged_reason.as_ref().filter(|_| is_new);
        if let Some(error) = new {
            tracing::warn!(
                "not removing anything: cannot confirm that missing Registries were deleted, retrying: {error}"
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
        let mut crd_check = CrdCheck::default();
        crd_check.observe(&before);
        assert!(!crd_check.should_ask(at(0)));
        assert!(crd_check.should_ask(at(2)));
        crd_check.record_answer(Ok(()), at(2));
        assert!(crd_check.is_confirmed());

        crd_check.observe(&after);
        assert!(!crd_check.is_confirmed(), "it was asked before these went");
        assert!(!crd_check.should_ask(at(3)));
        assert!(crd_check.should_ask(at(5)));
        crd_check.observe(&before);
        crd_check.record_answer(Ok(()), at(5));
        assert!(
            !crd_check.is_confirmed(),
            "the answer is to an earlier question"
        );
        assert!(!crd_check.should_ask(at(5)));
        assert!(crd_check.should_ask(at(7)));
        crd_check.record_answer(Ok(()), at(7));
        assert!(crd_check.is_confirmed());
    }

    fn doubt() -> Result<(), RegistriesUnconfirmed> {
        let name = "eu".to_owned();
        Err(RegistriesUnconfirmed::CacheBehind { name })
    }

    #[test]
    fn asks_more_and_more_rarely_as_long_as_it_cannot_be_told() {
        let registries = Arc::new(Registries::build([]));
        let mut crd_check = CrdCheck::default();
        crd_check.observe(&registries);
        assert!(!crd_check.should_ask(at(0)));
        assert_eq!(crd_check.next(), Some(at(2)));
        let mut asked = Vec::new();
        for second in 2..300 {
            crd_check.observe(&registries);
            if crd_check.should_ask(at(second)) {
                assert_eq!(crd_check.next(), None, "the answer comes first");
                crd_check.record_answer(doubt(), at(second));
                assert!(!crd_check.is_confirmed());
                asked.push(second);
            } else {
                let next = crd_check.next().unwrap();
                assert!(next > at(second), "nothing is to be done before");
            }
        }
        assert_eq!(asked, [2, 7, 17, 37, 77, 137, 197, 257]);
        // After a conclusive answer the interval is the shortest again.
        assert!(crd_check.should_ask(at(317)));
        crd_check.record_answer(Ok(()), at(317));
        assert!(crd_check.is_confirmed());
        assert!(crd_check.should_ask(at(322)));
        crd_check.record_answer(doubt(), at(322));
        assert_eq!(crd_check.next(), Some(at(332)));
    }

    #[test]
    fn says_once_why_it_cannot_be_told() {
        let mut crd_check = CrdCheck::default();
        let mut said = Vec::new();
        for logged_reason in [Some("a"), Some("a"), Some("b"), None, Some("b"), Some("b")] {
            said.push(crd_check.log_reason(logged_reason.map(str::to_owned)));
            // A Registry that changes says nothing of that.
            crd_check.forget();
        }
        assert_eq!(said, [true, false, true, false, true, false]);
    }
}
