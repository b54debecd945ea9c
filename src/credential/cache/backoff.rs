//! Which keys failed lately, and how long each is left alone.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::credential::{CredentialKey, MintError};

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_mins(1);
/// The longest where it is the credential store that cannot be reached: the cluster is asked, and not a cloud, and as soon as it answers
/// again, everybody waits for credentials.
const LONGEST_OF_STORE: Duration = Duration::from_secs(4);
/// The longest that a server's Retry-After is followed.
const LONGEST_ASKED: Duration = Duration::from_mins(10);
/// Keys are few (Registries × regions × rotated key sets); more than this are forgotten as soon as their wait is over.
const BOUND: usize = 1024;

/// Failures that are remembered, per key.
#[derive(Default)]
pub(super) struct Failures(HashMap<CredentialKey, Failure>);

struct Failure {
    error: Arc<MintError>,
    /// How many attempts failed in a row.
    count: u32,
    until: Timestamp,
}

impl Failures {
    /// The failure that is still to be waited out at `now`.
    pub(super) fn find(&self, key: &CredentialKey, now: Timestamp) -> Option<Arc<MintError>> {
        let failure = self.0.get(key).filter(|failure| now < failure.until)?;
        Some(Arc::clone(&failure.error))
    }

    /// Remembers a failure and answers how long the key is left alone.
    pub(super) fn remember(
        &mut self,
        key: &CredentialKey,
        error: &Arc<MintError>,
        now: Timestamp,
    ) -> Duration {
        if self.0.len() >= BOUND {
            self.0.retain(|_, failure| now < failure.until);
        }
        let count = self
            .0
            .get(key)
            .map_or(1, |failure| failure.count.saturating_add(1));
        let wait = find_wait(count, error);
        let until = SignedDuration::try_from(wait)
            .ok()
            .and_then(|wait| now.saturating_add(wait).ok());
        let failure = Failure {
            error: Arc::clone(error),
            count,
            until: until.unwrap_or(now),
        };
        self.0.insert(key.clone(), failure);
        wait
    }

    /// Forgets the failures of a key that succeeded.
    pub(super) fn forget(&mut self, key: &CredentialKey) {
        self.0.remove(key);
    }
}

/// How long to wait after `count` failures in a row: 1, 2, 4 … 60 seconds, or what the server asked for if that is longer.
fn find_wait(count: u32, error: &MintError) -> Duration {
    let longest = match error {
        MintError::Store(_) => LONGEST_OF_STORE,
        _ => LONGEST,
    };
    let asked = error.retry_after().unwrap_or_default();
    let doubled = FIRST.saturating_mul(1 << count.saturating_sub(1).min(6));
    doubled.min(longest).max(asked.min(LONGEST_ASKED))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credential::StoreError;

    fn wait(count: u32, asked: Option<u64>) -> u64 {
        let error = MintError::Throttled {
            host: "h".to_owned(),
            principal: "p".to_owned(),
            code: "c".to_owned(),
            retry_after: asked.map(Duration::from_secs),
        };
        find_wait(count, &error).as_secs()
    }

    #[test]
    fn find_wait_doubles_up_to_a_minute() {
        let waits: Vec<u64> = (1..=9).map(|count| wait(count, None)).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(wait(u32::MAX, None), 60);
    }

    #[test]
    fn find_wait_follows_the_server_within_reason() {
        assert_eq!(wait(1, Some(30)), 30);
        assert_eq!(wait(7, Some(30)), 60);
        assert_eq!(wait(1, Some(86_400)), 600);
    }

    #[test]
    fn find_wait_stays_short_where_the_store_cannot_be_reached() {
        let error = MintError::Store(StoreError::Contended);
        let waits: Vec<u64> = (1..=5)
            .map(|count| find_wait(count, &error).as_secs())
            .collect();
        assert_eq!(waits, [1, 2, 4, 4, 4]);
    }

    #[test]
    fn find_failure_only_until_the_wait_is_over() {
        let now: Timestamp = "2026-11-21T10:00:00Z".parse().unwrap();
        let key = CredentialKey::parse(&"a".repeat(64)).unwrap();
        let other = CredentialKey::parse(&"b".repeat(64)).unwrap();
        let error = Arc::new(MintError::Timeout {
            host: "h".to_owned(),
        });
        let mut failures = Failures::default();
        assert_eq!(failures.remember(&key, &error, now).as_secs(), 1);
        assert!(failures.find(&key, now).is_some());
        assert!(failures.find(&other, now).is_none());
        let later = now + SignedDuration::from_secs(1);
        assert!(failures.find(&key, later).is_none());
        assert_eq!(failures.remember(&key, &error, later).as_secs(), 2);
        failures.forget(&key);
        assert!(failures.find(&key, later).is_none());
    }
}
