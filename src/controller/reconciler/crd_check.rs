//! Whether Registries that are not there are truly gone, as the API server says. Pure.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use crate::provision::prune::RegistriesUnconfirmed;
use crate::registry::Registries;

/// How long an answer about the CRD is valid. An inconclusive one is valid twice as long as the one before it, at most a minute.
const ANSWER_VALID: SignedDuration = SignedDuration::from_secs(5);
const MAX_ANSWER_VALID: SignedDuration = SignedDuration::from_mins(1);

/// What is known of the kind Registry.
#[derive(Default)]
pub(super) struct CrdCheck {
    /// The Registries that are being asked about.
    asked: Option<Arc<Registries>>,
    /// Those that were asked about last: the answer says nothing of what a list misses later.
    about: Option<Arc<Registries>>,
    /// When it was answered, and how long that holds.
    answered: Option<(Timestamp, SignedDuration)>,
    is_confirmed: bool,
    is_gone: bool,
    /// The last logged reason why it cannot be decided.
    logged_reason: Option<String>,
}

impl CrdCheck {
    /// Nothing is to be removed.
    pub(super) fn forget(&mut self) {
        *self = Self {
            asked: self.asked.take(),
            logged_reason: self.logged_reason.take(),
            ..Self::default()
        };
    }

    /// Whether the API server is to be asked now, by these Registries. Then it has been.
    pub(super) fn should_ask(&mut self, registries: &Arc<Registries>, now: Timestamp) -> bool {
        let holds = self
            .answered
            .is_some_and(|(at, long)| now.duration_since(at).abs() < long);
        if !holds {
            (self.is_confirmed, self.is_gone) = (false, false);
        }
        let should_ask = self.asked.is_none() && !(holds && self.is_about(registries));
        if should_ask {
            self.asked = Some(Arc::clone(registries));
        }
        should_ask
    }

    /// When it is next to be seen whether the API server is to be asked; `None`: once it answered.
    pub(super) fn next(&self) -> Option<Timestamp> {
        let (at, long) = self.answered.filter(|_| self.asked.is_none())?;
        at.checked_add(long).ok()
    }

    /// Whether the kind was there a moment ago, and memory knew all Registries.
    pub(super) fn is_confirmed(&self) -> bool {
        self.is_confirmed
    }

    /// Whether of these Registries those that are not there are truly gone.
    pub(super) fn knows(&self, registries: &Arc<Registries>) -> bool {
        self.is_confirmed && self.is_about(registries)
    }

    /// Whether the kind was being deleted, or gone, a moment ago.
    pub(super) fn is_gone(&self) -> bool {
        self.is_gone
    }

    fn is_about(&self, registries: &Arc<Registries>) -> bool {
        let about = self.about.as_ref();
        about.is_some_and(|about| Arc::ptr_eq(about, registries))
    }

    /// Takes an answer.
    pub(super) fn record_answer(
        &mut self,
        answer: Result<(), RegistriesUnconfirmed>,
        now: Timestamp,
    ) {
        let asked = self.asked.take();
        let is_again = asked.as_ref().is_some_and(|asked| self.is_about(asked));
        let long = match self.answered {
            Some((_, last)) if answer.is_err() && is_again => (last * 2).min(MAX_ANSWER_VALID),
            _ => ANSWER_VALID,
        };
        self.about = asked;
        self.is_confirmed = answer.is_ok();
        self.is_gone = matches!(answer, Err(RegistriesUnconfirmed::KindGone));
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

    fn registries() -> Arc<Registries> {
        Arc::new(Registries::build([]))
    }

    fn doubt() -> Result<(), RegistriesUnconfirmed> {
        let name = "eu".to_owned();
        Err(RegistriesUnconfirmed::CacheBehind { name })
    }

    #[test]
    fn takes_no_answer_for_registries_that_went_after_the_question() {
        let (before, after) = (registries(), registries());
        let mut crd_check = CrdCheck::default();
        assert!(crd_check.should_ask(&before, at(0)));
        assert!(!crd_check.should_ask(&before, at(1)), "it is being asked");
        crd_check.record_answer(Ok(()), at(2));
        assert!(crd_check.is_confirmed() && crd_check.knows(&before));

        assert!(!crd_check.knows(&after), "it was asked before these went");
        assert!(crd_check.is_confirmed(), "the kind is there all the same");
        assert!(crd_check.should_ask(&after, at(3)));
        crd_check.record_answer(doubt(), at(5));
        assert!(!crd_check.is_confirmed() && !crd_check.knows(&after));
        assert!(!crd_check.should_ask(&after, at(9)));
        assert!(crd_check.should_ask(&after, at(10)));
        // What is asked is about what there was then, whatever comes between.
        assert!(!crd_check.should_ask(&before, at(11)));
        crd_check.forget();
        crd_check.record_answer(Ok(()), at(12));
        assert!(crd_check.knows(&after) && !crd_check.knows(&before));
        crd_check.forget();
        assert!(!crd_check.is_confirmed());
    }

    #[test]
    fn an_answer_holds_for_some_seconds() {
        let registries = registries();
        let mut crd_check = CrdCheck::default();
        for (answer, known, gone) in [
            (Ok(()), true, false),
            (Err(RegistriesUnconfirmed::KindGone), false, true),
            (doubt(), false, false),
        ] {
            crd_check.forget();
            assert!(crd_check.should_ask(&registries, at(0)));
            crd_check.record_answer(answer, at(0));
            assert!(!crd_check.should_ask(&registries, at(4)));
            assert_eq!(
                (crd_check.is_confirmed(), crd_check.is_gone()),
                (known, gone)
            );
            // Also by a clock that was put back.
            for end in [-5, 5] {
                let mut crd_check = CrdCheck {
                    about: crd_check.about.clone(),
                    logged_reason: None,
                    asked: None,
                    ..crd_check
                };
                assert!(crd_check.should_ask(&registries, at(end)));
                assert_eq!(
                    (crd_check.is_confirmed(), crd_check.is_gone()),
                    (false, false)
                );
            }
        }
    }

    #[test]
    fn asks_more_and_more_rarely_as_long_as_it_cannot_be_decided() {
        let registries = registries();
        let mut crd_check = CrdCheck::default();
        let mut asked = Vec::new();
        for second in 0..300 {
            if crd_check.should_ask(&registries, at(second)) {
                assert_eq!(crd_check.next(), None, "the answer comes first");
                crd_check.record_answer(doubt(), at(second));
                assert!(!crd_check.is_confirmed());
                asked.push(second);
            } else {
                let next = crd_check.next().unwrap();
                assert!(next > at(second), "nothing is to be done before");
            }
        }
        assert_eq!(asked, [0, 5, 15, 35, 75, 135, 195, 255]);
        // After a conclusive answer the interval is the shortest again.
        assert!(crd_check.should_ask(&registries, at(315)));
        crd_check.record_answer(Ok(()), at(315));
        assert!(crd_check.is_confirmed());
        assert!(crd_check.should_ask(&registries, at(320)));
        crd_check.record_answer(doubt(), at(320));
        assert_eq!(crd_check.next(), Some(at(330)));
        // Other Registries are another question.
        assert!(crd_check.should_ask(&self::registries(), at(321)));
        crd_check.record_answer(doubt(), at(321));
        assert_eq!(crd_check.next(), Some(at(326)));
    }

    #[test]
    fn logs_once_why_it_cannot_be_decided() {
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
