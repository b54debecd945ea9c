//! Whether Registries that are not there are truly gone, as the API server says. Pure.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use crate::provision::prune::Doubt;
use crate::registry::Registries;

/// Between a Registry's deletion and what follows from it the API server is asked whether it still knows the kind, and none that memory
/// misses: with the kind all Registries go, and nobody ordered that. It takes the API server about a second to forget a kind.
const KIND_GOES: SignedDuration = SignedDuration::from_secs(2);

/// How long an answer about the kind holds.
const KIND_KNOWN: SignedDuration = SignedDuration::from_secs(5);

/// What is known of the kind Registry.
#[derive(Default)]
pub(super) struct Kind {
    /// The Registries that the rest is about: an answer says nothing of those that went later.
    registries: Option<Arc<Registries>>,
    wanted_since: Option<Timestamp>,
    asked: bool,
    /// Whether what was asked is about earlier Registries.
    is_outdated: bool,
    known_at: Option<Timestamp>,
    is_known: bool,
}

impl Kind {
    /// Nothing is to be removed.
    pub(super) fn forget(&mut self) {
        *self = Self {
            asked: self.asked,
            is_outdated: self.asked,
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
            .known_at
            .is_some_and(|known_at| now.duration_since(known_at).abs() < KIND_KNOWN);
        if !holds {
            self.is_known = false;
        }
        let is_to_be_asked = waited && !holds && !self.asked;
        self.asked |= is_to_be_asked;
        is_to_be_asked
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
        self.known_at = Some(now);
        self.is_known = answer.is_ok();
        if let Err(error) = answer {
            tracing::warn!(
                "nothing is removed: whether the Registries that are not there were deleted cannot be told: {error}"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

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
}
