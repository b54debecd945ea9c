//! What there is to be written under the keys of one grant.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::Timestamp;

use super::account_cache::CachedAccount;
use super::digest::Digest;
use super::grant_fetcher;
use super::ports::Credentials;
use super::state::{Observed, State};
use super::superseded_logins::SupersededLogins;
use crate::credential::{Credential, Freshness, freshness};
use crate::registry::source::MintSource;
use crate::registry::{CredentialSource, Grant};

/// What there is to be written under the keys of one grant.
pub(super) struct Desired {
    /// Where it comes from; `None` where no ServiceAccount to bind it to is known.
    origin: Option<CredentialSource>,
    credential: Option<Arc<Credential>>,
    /// What it must hold; `None`: nothing that is known.
    entries: Option<Vec<(String, Digest)>>,
    /// Its source's own number.
    jitter: u8,
    /// The ServiceAccount to which it cannot be bound as it is.
    useless_account: Option<Arc<CachedAccount>>,
    /// Whether its credential or its source Secret is another one by now.
    is_outdated: AtomicBool,
}

impl Desired {
    /// What memory knows of a grant that is bound, if it had to be. Its logins are remembered as those of its source.
    pub(super) fn of(
        grant: &Grant,
        state: &State,
        credentials: &dyn Credentials,
        history: &SupersededLogins,
    ) -> Self {
        history.forget_gone(|source| grant_fetcher::is_there(source, credentials, state));
        let (credential, entries) = grant_fetcher::find(grant, credentials, state);
        let entries = entries.map(|entries| {
            history.note(grant, &entries, credential.as_ref());
            let digests = entries.into_iter().map(|entry| (entry.key, entry.digest));
            digests.collect()
        });
        Self {
            origin: Some(grant.source.clone()),
            credential,
            entries,
            jitter: match &grant.source {
                CredentialSource::Minted(source) => source.jitter(),
                CredentialSource::Static(_) => 0,
            },
            useless_account: None,
            is_outdated: AtomicBool::new(false),
        }
    }

    /// Nothing is known, as long as no ServiceAccount was read, or only one that is of no use.
    pub(super) fn unknown(useless_account: Option<Arc<CachedAccount>>) -> Self {
        Self {
            origin: None,
            credential: None,
            entries: None,
            jitter: 0,
            useless_account,
            is_outdated: AtomicBool::new(false),
        }
    }

    /// Where it comes from.
    pub(super) fn origin(&self) -> Option<&CredentialSource> {
        self.origin.as_ref()
    }

    /// Who mints it; `None` for a fixed login, and where no ServiceAccount to bind it to is known.
    pub(super) fn source(&self) -> Option<&MintSource> {
        match self.origin.as_ref()? {
            CredentialSource::Minted(source) => Some(source),
            CredentialSource::Static(_) => None,
        }
    }

    /// What spreads its renewal from others.
    pub(super) fn jitter(&self) -> u8 {
        self.jitter
    }

    /// What it must hold; `None`: nothing that is known.
    pub(super) fn entries(&self) -> Option<&Vec<(String, Digest)>> {
        self.entries.as_ref()
    }

    /// The minted credential.
    pub(super) fn credential(&self) -> Option<&Arc<Credential>> {
        self.credential.as_ref()
    }

    /// Whether there is something good to be written.
    pub(super) fn is_available(&self, now: Timestamp) -> bool {
        match (&self.origin, &self.credential) {
            (None, _) => self.next_read().is_none_or(|wait| wait.is_zero()),
            (Some(CredentialSource::Static(_)), _) => self.entries.is_some(),
            (Some(CredentialSource::Minted(_)), None) => false,
            (Some(CredentialSource::Minted(_)), Some(credential)) => {
                freshness(credential, now) != Freshness::Spent
            }
        }
    }

    /// Whether the secret holds all of it.
    pub(super) fn is_in(&self, observed: &Observed) -> bool {
        self.entries.as_ref().is_some_and(|entries| {
            let mut entries = entries.iter();
            entries.all(|(key, digest)| observed.digests.get(key) == Some(digest))
        })
    }

    /// Whether a ServiceAccount has to be read before anything is known.
    pub(super) fn is_unread(&self) -> bool {
        self.origin.is_none() && self.useless_account.is_none()
    }

    /// In how long a ServiceAccount is to be read again that was of no use.
    pub(super) fn next_read(&self) -> Option<Duration> {
        let account = self.useless_account.as_ref();
        account.map(|account| account.next_read())
    }

    /// Whether it still is what there is to be written.
    pub(super) fn is_current(&self) -> bool {
        !self.is_outdated.load(Ordering::Acquire)
    }

    /// Its credential or its source Secret is another one by now.
    pub(super) fn outdate(&self) {
        self.is_outdated.store(true, Ordering::Release);
    }
}
