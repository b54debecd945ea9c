//! Where minted credentials are kept, so that replicas agree on them and a restart mints nothing.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;

use super::{Credential, CredentialKey};
use crate::api_server::{ClusterError, Version};
use crate::clock::MAX_SKEW;
use crate::registry::source::MintSource;

/// How long a claim holds after it was made or extended ([`CredentialStore::extend`]): two replicas mint the same credential only when
/// one of them died, and then the other one waits no longer than this.
pub const CLAIM_LIFE: SignedDuration = SignedDuration::from_secs(10);

/// How much longer a claim that ends at `until` by its holder's clock is respected by who first saw it `seen_for` ago; `None`: no more.
///
/// Its holder's clock is another one. So a claim counts from when it was seen, by a clock that nobody sets, as client-go judges a Lease
/// (<https://github.com/kubernetes/client-go/blob/master/tools/leaderelection/leaderelection.go>); what no clock that is about right
/// can have written counts for nothing.
pub fn find_claim_left(
    until: Timestamp,
    seen_for: Duration,
    now: Timestamp,
) -> Option<SignedDuration> {
    let differs = until.duration_since(now);
    let seen_for = SignedDuration::try_from(seen_for).unwrap_or(SignedDuration::MAX);
    let left = CLAIM_LIFE.saturating_sub(seen_for);
    let is_plausible = (-MAX_SKEW..=MAX_SKEW + CLAIM_LIFE).contains(&differs);
    (is_plausible && left.is_positive()).then_some(left)
}

/// The right to mint one credential, until [`Claim::Pending`] ends for the others.
#[derive(Clone, Debug)]
pub struct Ticket {
    /// The credential that may be minted.
    pub key: CredentialKey,
    /// The version of the stored object at the moment of the claim; what [`CredentialStore::put`] compares and swaps.
    pub version: Version,
}

/// The answer to [`CredentialStore::claim`].
#[derive(Clone, Debug)]
pub enum Claim {
    /// The caller mints, then calls [`CredentialStore::put`] or [`CredentialStore::release`].
    Acquired(Ticket),
    /// Another replica stored a credential that is [`super::Freshness::Fresh`] already.
    AlreadyStored(Arc<Credential>),
    /// Another replica is minting; its claim ends at `until` at the latest.
    Pending {
        /// When to claim again if nothing changed before.
        until: Timestamp,
    },
}

/// The credential store: one object per [`CredentialKey`] in pullpass' own namespace, watched by all replicas.
#[async_trait]
pub trait CredentialStore: Send + Sync {
    /// The credential that is stored under `key`, from memory, expired or not.
    fn current(&self, key: &CredentialKey) -> Option<Arc<Credential>>;

    /// Claims the right to mint the credential of `key` until `now` + [`CLAIM_LIFE`], by compare-and-swap, keeping the credential
    /// already stored. `source` is kept beside it: its canonical text for people, its tenant for garbage collection.
    ///
    /// A stored credential that is `Fresh` at `now` is answered with [`Claim::AlreadyStored`]; another replica's claim that ended
    /// ([`find_claim_left`]) is taken over.
    async fn claim(
        &self,
        key: &CredentialKey,
        source: &MintSource,
        now: Timestamp,
    ) -> Result<Claim, ClusterError>;

    /// Has a claim hold until `now` + [`CLAIM_LIFE`], for a mint that takes longer. Answers the ticket that counts from then on: the same
    /// one where another replica took the claim over, or the store does not answer.
    async fn extend(&self, ticket: Ticket, now: Timestamp) -> Ticket;

    /// Stores a credential under the ticket and ends the claim. Answers what is stored afterwards: when the claim was taken over
    /// meanwhile and a credential with a later end is stored, that one, which the caller takes instead of its own.
    /// When this returns, [`CredentialStore::current`] answers the same.
    async fn put(
        &self,
        ticket: Ticket,
        credential: Credential,
    ) -> Result<Arc<Credential>, ClusterError>;

    /// Ends a claim after a mint that failed. It is no error if that fails: the claim ends by itself.
    async fn release(&self, ticket: Ticket);

    /// A number that grows whenever another credential is stored, here or by another replica, to wait for another replica's mint.
    fn changes(&self) -> watch::Receiver<u64>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn respects_a_claim_from_when_it_was_seen_whatever_its_holders_clock_says() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        // When it ends by its holder's clock, for how long it was seen, how long it is respected.
        let table = [
            (10, 0, Some(10)),
            (10, 4, Some(6)),
            (10, 10, None),
            (550, 0, Some(10)),
            (-530, 3, Some(7)),
            (610, 0, Some(10)),
            (611, 0, None),
            (-601, 0, None),
        ];
        for (until, seen_for, left) in table {
            let until = now + SignedDuration::from_secs(until);
            let found = find_claim_left(until, Duration::from_secs(seen_for), now);
            assert_eq!(
                found,
                left.map(SignedDuration::from_secs),
                "{until} {seen_for}"
            );
        }
    }
}
