//! The mints that failed, and when each is tried again: by its own time, however many pull secrets wait for it. Pure.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};

use super::super::conditions::Reason;
use super::workqueue::KeyQueue;
use crate::clock::{Backoff, RetryTimer};
use crate::names::ObjectName;
use crate::provision::ports::MintError;
use crate::registry::source::MintSource;

/// When a mint that failed is asked for again; the minter's own back-off decides whether the cloud is.
const BACKOFF: Backoff = Backoff {
    first: SignedDuration::from_secs(5),
    longest: SignedDuration::from_mins(1),
};

/// The sources whose last mint failed.
#[derive(Default)]
pub(super) struct MintRetries {
    failed: HashMap<MintSource, Retry>,
    /// Those of them that are to be asked for again, and when.
    waiting: KeyQueue<Timestamp, MintSource>,
}

struct Retry {
    timer: RetryTimer,
    /// How often it failed one after the other.
    failures: u32,
    why: Reason,
}

/// Why a mint failed.
pub(crate) struct SourceFailure {
    why: Reason,
    is_paced_elsewhere: bool,
}

impl SourceFailure {
    /// What is remembered of this error.
    pub(crate) fn of(error: &MintError) -> Self {
        Self {
            why: Reason::of_mint(error),
            // No cloud was asked, since the API server could not be: as soon as it answers again, everybody waits for credentials. Or
            // an account throttles: then the minter spreads what is asked for, and keys that came late would leave its turns unused.
            is_paced_elsewhere: error.is_of_cluster() || error.is_throttled(),
        }
    }

    /// The task of the mint panicked.
    pub(super) fn of_a_bug(why: Reason) -> Self {
        Self {
            why,
            is_paced_elsewhere: false,
        }
    }

    /// When it is asked for again after it had failed so often before, in a row: later and later, or at one pace where something else
    /// spreads the attempts.
    pub(crate) fn retry(&self, failures: u32, now: Timestamp) -> RetryTimer {
        let earlier = if self.is_paced_elsewhere { 0 } else { failures };
        BACKOFF.timer(earlier, now)
    }
}

impl MintRetries {
    /// A mint failed; whether it is the first time in a row.
    pub(super) fn record_failure(
        &mut self,
        source: &MintSource,
        failed: SourceFailure,
        now: Timestamp,
    ) -> bool {
        let failures = self.failed.get(source).map_or(0, |before| before.failures);
        let timer = failed.retry(failures, now);
        self.waiting.push(source.clone(), timer.at(now));
        let retry = Retry {
            timer,
            failures: failures.saturating_add(1),
            why: failed.why,
        };
        self.failed.insert(source.clone(), retry);
        failures == 0
    }

    /// It was minted.
    pub(super) fn forget(&mut self, source: &MintSource) {
        self.failed.remove(source);
        self.waiting.remove(source);
    }

    /// When a mint that failed is tried again, which may be over.
    pub(super) fn until(&self, source: &MintSource, now: Timestamp) -> Option<Timestamp> {
        self.failed.get(source).map(|failure| failure.timer.at(now))
    }

    /// Why the last mint failed.
    pub(super) fn why(&self, source: &MintSource) -> Option<&Reason> {
        self.failed.get(source).map(|failure| &failure.why)
    }

    /// Takes the next source that is to be asked for again.
    pub(super) fn pop_due(&mut self, now: Timestamp) -> Option<MintSource> {
        self.waiting.first().filter(|at| *at <= now)?;
        self.waiting.pop()
    }

    /// When the first one is.
    pub(super) fn next(&self) -> Option<Timestamp> {
        self.waiting.first()
    }

    /// The source Secret is another one: what failed with it may not now.
    pub(super) fn hurry_with(&mut self, secret: &ObjectName, now: Timestamp) {
        let failed = self.failed.keys();
        let of_secret = failed.filter(|source| source.secret() == Some(secret));
        let mut hurried: Vec<MintSource> = of_secret.cloned().collect();
        // The same order in each process: what a seed of the model stands for goes by it.
        hurried.sort_by_cached_key(MintSource::canonical);
        for source in hurried {
            if let Some(failure) = self.failed.get_mut(&source) {
                failure.timer = RetryTimer::after(SignedDuration::ZERO, now);
            }
            self.waiting.push(source, now);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.failed.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.failed.is_empty()
    }

    /// Forgets all but these.
    pub(super) fn retain(&mut self, stays: impl Fn(&MintSource) -> bool) {
        let waiting = &mut self.waiting;
        self.failed.retain(|source, _| {
            let stays = stays(source);
            if !stays {
                waiting.remove(source);
            }
            stays
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::state::tests::{source, source_of};
    use super::*;
    use crate::api_server::ClusterError;
    use crate::controller::at;
    use crate::credential::Refusal;

    fn silent() -> MintError {
        MintError::Timeout {
            host: "h".to_owned(),
        }
    }

    fn failure() -> SourceFailure {
        SourceFailure::of(&silent())
    }

    /// An account that throttles, and an API server that does not answer.
    fn paced_elsewhere() -> [MintError; 3] {
        let throttled = || MintError::Refused(Box::new(Refusal::of_throttle()));
        let (what, message) = ("x".to_owned(), "y".to_owned());
        [
            throttled(),
            MintError::Hop {
                hop: 1,
                hops: 1,
                role_arn: "r".to_owned(),
                cause: Box::new(throttled()),
            },
            ClusterError::Unreachable { what, message }.into(),
        ]
    }

    #[test]
    fn tries_again_more_and_more_rarely_unless_something_else_spreads_the_attempts() {
        let rarely = std::iter::once((silent(), [5, 10, 20, 40, 60, 60]));
        let evenly = paced_elsewhere().map(|error| (error, [5, 5, 5, 5, 5, 5]));
        for (error, waits) in rarely.chain(evenly) {
            let (mut retries, source) = (MintRetries::default(), source("eu-west-1"));
            for (count, wait) in waits.into_iter().enumerate() {
                let is_first = retries.record_failure(&source, SourceFailure::of(&error), at(0));
                assert_eq!(is_first, count == 0);
                assert_eq!(retries.until(&source, at(0)), Some(at(wait)), "{error}");
                assert_eq!(retries.next(), Some(at(wait)));
                assert_eq!(retries.pop_due(at(wait - 1)), None);
                assert_eq!(retries.pop_due(at(wait)), Some(source.clone()));
                assert_eq!(retries.pop_due(at(wait)), None, "once");
            }
            retries.forget(&source);
            assert!(retries.is_empty() && retries.next().is_none());
        }
    }

    #[test]
    fn forgets_what_nobody_uses_and_when_to_try_it() {
        let mut retries = MintRetries::default();
        for region in ["eu-west-1", "eu-west-2"] {
            retries.record_failure(&source(region), failure(), at(0));
        }
        retries.retain(|one| *one == source("eu-west-2"));
        assert_eq!(retries.len(), 1);
        assert_eq!(retries.pop_due(at(9)), Some(source("eu-west-2")));
        assert_eq!(retries.pop_due(at(9)), None);
    }

    #[test]
    fn hurries_what_failed_with_a_source_secret_in_the_same_order_each_time() {
        let keys = |name: &str| serde_json::json!({"keys": {"secretRef": {"name": name}}});
        let regions = [
            "eu-west-1",
            "eu-west-2",
            "eu-west-3",
            "us-east-1",
            "us-east-2",
        ];
        let mut retries = MintRetries::default();
        for region in regions {
            for identity in [keys("one"), keys("other")] {
                let source = source_of(region, &identity);
                retries.record_failure(&source, failure(), at(0));
            }
        }
        retries.hurry_with(&"one".parse().unwrap(), at(1));
        let hurried = std::iter::from_fn(|| retries.pop_due(at(1)));
        let expected = regions.map(|region| source_of(region, &keys("one")));
        assert_eq!(hurried.collect::<Vec<_>>(), expected);
        assert_eq!(retries.until(&expected[0], at(1)), Some(at(1)));
        let other = source_of(regions[0], &keys("other"));
        assert_eq!(retries.until(&other, at(1)), Some(at(5)));
    }
}
