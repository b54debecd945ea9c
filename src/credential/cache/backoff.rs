//! Which keys failed lately, and how long each is left alone.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::clock::RetryTimer;
use crate::credential::{CredentialKey, MintError, StoreError};

const MIN_BACKOFF: Duration = Duration::from_secs(1);
const MAX_BACKOFF: Duration = Duration::from_mins(1);
/// The longest where the credential store could not be reached and no cloud was asked: as soon as the cluster answers again, everybody
/// waits for credentials. What keys ask for at once then is spread by when each failed.
const MAX_STORE_BACKOFF: Duration = Duration::from_secs(4);
/// The longest that a server's Retry-After is followed.
const MAX_RETRY_AFTER: Duration = Duration::from_mins(10);
/// Keys are few (Registries × regions × rotated key sets); more than this are forgotten as soon as their wait is over.
const MAX_ENTRIES: usize = 1024;

/// Why a mint failed.
#[derive(Debug)]
pub(super) struct MintFailure {
    pub(super) error: MintError,
    /// Whether a cloud may have been asked for it: then it is not asked again soon.
    pub(super) asked_cloud: bool,
}

impl MintFailure {
    /// Before a cloud was asked: the store would not have the key claimed.
    pub(super) fn at_claim(error: StoreError) -> Self {
        Self {
            error: error.into(),
            asked_cloud: false,
        }
    }
}

impl From<MintError> for MintFailure {
    fn from(error: MintError) -> Self {
        Self {
            error,
            asked_cloud: true,
        }
    }
}

/// Failures that are remembered, per key.
#[derive(Default)]
pub(super) struct MintBackoff(HashMap<CredentialKey, MintBackoffEntry>);

struct MintBackoffEntry {
    error: Arc<MintError>,
    /// How many attempts failed in a row.
    count: u32,
    timer: RetryTimer,
}

impl MintBackoffEntry {
    /// Whether it is still to be waited out. If the clock went back, nobody waits longer than was meant.
    fn is_active(&self, now: Timestamp) -> bool {
        self.timer.at(now) > now
    }
}

impl MintBackoff {
    /// The failure that is still to be waited out at `now`.
    pub(super) fn find(&self, key: &CredentialKey, now: Timestamp) -> Option<Arc<MintError>> {
        let failure = self.0.get(key).filter(|failure| failure.is_active(now))?;
        Some(Arc::clone(&failure.error))
    }

    /// Remembers a failure; answers the error, and how long the key is left alone.
    pub(super) fn remember(
        &mut self,
        key: &CredentialKey,
        failed: MintFailure,
        now: Timestamp,
    ) -> (Arc<MintError>, Duration) {
        if self.0.len() >= MAX_ENTRIES {
            self.0.retain(|_, failure| failure.is_active(now));
        }
        let count = self
            .0
            .get(key)
            .map_or(1, |failure| failure.count.saturating_add(1));
        let wait = find_wait(count, &failed);
        let error = Arc::new(failed.error);
        let signed = SignedDuration::try_from(wait).unwrap_or_default();
        let failure = MintBackoffEntry {
            error: Arc::clone(&error),
            count,
            timer: RetryTimer::after(signed, now),
        };
        self.0.insert(key.clone(), failure);
        (error, wait)
    }

    /// Forgets the failures of a key that succeeded.
    pub(super) fn forget(&mut self, key: &CredentialKey) {
        self.0.remove(key);
    }
}

/// How long to wait after `count` failures in a row: 1, 2, 4 … 60 seconds, or what the server asked for if that is longer; 4 at most
/// where the credential store could not be reached before a cloud was asked.
fn find_wait(count: u32, failed: &MintFailure) -> Duration {
    let longest = match failed.error {
        MintError::Store(StoreError::Unreachable { .. }) if !failed.asked_cloud => {
            MAX_STORE_BACKOFF
        }
        _ => MAX_BACKOFF,
    };
    let asked = failed.error.retry_after().unwrap_or_default();
    let doubled = MIN_BACKOFF.saturating_mul(1 << count.saturating_sub(1).min(6));
    doubled.min(longest).max(asked.min(MAX_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(count: u32, asked: Option<u64>) -> u64 {
        let error = MintError::Throttled {
            host: "h".to_owned(),
            principal: "p".to_owned(),
            code: "c".to_owned(),
            retry_after: asked.map(Duration::from_secs),
        };
        find_wait(count, &error.into()).as_secs()
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
    fn find_wait_stays_short_where_the_store_cannot_be_reached_before_a_cloud_is_asked() {
        let detail = || "x".to_owned();
        let unreachable = || StoreError::Unreachable { detail: detail() };
        let forbidden = || StoreError::Forbidden { detail: detail() };
        let after = |error: StoreError| MintFailure::from(MintError::from(error));
        let table = [
            (MintFailure::at_claim(unreachable()), [1, 2, 4, 4, 4]),
            (MintFailure::at_claim(forbidden()), [1, 2, 4, 8, 16]),
            (
                MintFailure::at_claim(StoreError::Contended),
                [1, 2, 4, 8, 16],
            ),
            (after(unreachable()), [1, 2, 4, 8, 16]),
            (after(StoreError::Contended), [1, 2, 4, 8, 16]),
        ];
        for (failed, expected) in table {
            let waits = [1, 2, 3, 4, 5].map(|count| find_wait(count, &failed).as_secs());
            assert_eq!(waits, expected, "{failed:?}");
        }
    }

    #[test]
    fn find_failure_only_until_the_wait_is_over() {
        let now: Timestamp = "2026-11-21T10:00:00Z".parse().unwrap();
        let key = CredentialKey::parse(&"a".repeat(64)).unwrap();
        let other = CredentialKey::parse(&"b".repeat(64)).unwrap();
        let error = || {
            MintFailure::from(MintError::Timeout {
                host: "h".to_owned(),
            })
        };
        let mut failures = MintBackoff::default();
        assert_eq!(failures.remember(&key, error(), now).1.as_secs(), 1);
        assert!(failures.find(&key, now).is_some());
        assert!(failures.find(&other, now).is_none());
        let put_back = now - SignedDuration::from_mins(10);
        assert!(failures.find(&key, put_back).is_none());
        let later = now + SignedDuration::from_secs(1);
        assert!(failures.find(&key, later).is_none());
        assert_eq!(failures.remember(&key, error(), later).1.as_secs(), 2);
        failures.forget(&key);
        assert!(failures.find(&key, later).is_none());
    }
}
