//! The entries of one grant: minted, or read from its source Secret.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;

use super::account_cache::{AccountLookup, AccountReader};
use super::grant_entries::{of_credential, of_logins};
use super::ports::Credentials;
use super::secret::AuthEntry;
use super::service_account::ServiceAccount;
use super::state::State;
use super::{Namespace, Pending, tenant_identity};
use crate::credential::static_login::{self, StaticLoginError};
use crate::credential::{Credential, SourceSecrets as _};
use crate::names::ObjectName;
use crate::registry::source::StaticSource;
use crate::registry::{CredentialSource, Grant};

/// The entries of one grant.
#[derive(Clone)]
pub(super) struct FetchedGrant {
    /// The grant, bound to the namespace if it had to be.
    pub(super) grant: Arc<Grant>,
    pub(super) entries: Vec<AuthEntry>,
}

impl FetchedGrant {
    /// Whether what belongs under a key of the grant, or under a narrower one of a fixed login's own, is among `left_out`.
    pub(super) fn lacks(&self, key: &str, left_out: &BTreeSet<String>) -> bool {
        let is_own = |key: &String| !self.grant.keys.contains(key);
        let mut entries = self.entries.iter().map(|entry| &entry.key);
        left_out.contains(key) || entries.any(|key| is_own(key) && left_out.contains(key))
    }
}

/// What gathering for one namespace needs at hand.
#[derive(Clone, Copy)]
pub(super) struct GrantFetcher<'a> {
    pub(super) namespace: &'a Namespace,
    pub(super) reader: &'a AccountReader,
    pub(super) credentials: &'a dyn Credentials,
    pub(super) state: &'a State,
    pub(super) now: Timestamp,
}

/// Why there are no entries, and whether the ServiceAccount may be another by now than the one that is remembered.
struct FetchFailure {
    pending: Pending,
    may_be_stale: bool,
}

impl GrantFetcher<'_> {
    /// The entries of `grant`, binding and minting if need be. A refusal is believed only of a ServiceAccount that was just read:
    /// what is remembered of it may be out of date.
    pub(super) async fn fetch_entries(self, grant: Arc<Grant>) -> Result<FetchedGrant, Pending> {
        let Some(name) = tenant_identity::unbound(&grant) else {
            return self.fetch(grant).await.map_err(|failure| failure.pending);
        };
        let (account, is_new) = self.account(&grant, name).await?;
        let failure = match self.fetch_as(&grant, account.as_deref()).await {
            Ok(fetched) => return Ok(fetched),
            Err(failure) => failure,
        };
        if !failure.may_be_stale {
            return Err(failure.pending);
        }
        self.reader.forget(&self.namespace.name, name);
        if is_new {
            return Err(failure.pending);
        }
        let (refresh_account, _) = self.account(&grant, name).await?;
        if refresh_account == account {
            return Err(failure.pending);
        }
        let fetched = self.fetch_as(&grant, refresh_account.as_deref()).await;
        fetched.map_err(|failure| failure.pending)
    }

    /// The ServiceAccount of this name, and whether it was read just now. When it cannot be read, what was known last.
    async fn account(
        &self,
        grant: &Grant,
        name: &ObjectName,
    ) -> Result<(AccountLookup, bool), Pending> {
        let namespace = &self.namespace.name;
        let accounts = &self.state.accounts;
        let read = self.reader.follow(accounts, namespace, name).await;
        read.or_else(|error| match accounts.get(namespace, name) {
            Some(known) => Ok((known.account.clone(), true)),
            None => Err(pending(grant, error.reason(), error.to_string())),
        })
    }

    async fn fetch_as(
        self,
        grant: &Grant,
        account: Option<&ServiceAccount>,
    ) -> Result<FetchedGrant, FetchFailure> {
        let bound = tenant_identity::bind(grant, self.namespace, account).map_err(|error| {
            FetchFailure {
                pending: pending(grant, error.reason(), error.to_string()),
                may_be_stale: true,
            }
        })?;
        self.fetch(Arc::new(bound)).await
    }

    async fn fetch(self, grant: Arc<Grant>) -> Result<FetchedGrant, FetchFailure> {
        let entries = match &grant.source {
            CredentialSource::Static(source) => {
                find_static(&grant, source, self.state).map_err(|pending| FetchFailure {
                    pending,
                    may_be_stale: false,
                })?
            }
            CredentialSource::Minted(source) => {
                match self.credentials.mint(source, self.now).await {
                    Ok(credential) => of_credential(&grant, &credential),
                    Err(error) => {
                        let pending = Pending {
                            is_for_admins: error.is_for_admins(source.tenant().is_some()),
                            ..pending(&grant, error.reason(), error.to_string())
                        };
                        return Err(FetchFailure {
                            pending,
                            may_be_stale: error.is_refusal(),
                        });
                    }
                }
            }
        };
        Ok(FetchedGrant { grant, entries })
    }
}

/// Why a grant cannot be had, in words for whoever has the Pod.
pub(super) fn pending(grant: &Grant, reason: &'static str, message: String) -> Pending {
    Pending {
        is_for_admins: false,
        registry: Some(grant.registry.clone()),
        reason,
        message,
    }
}

/// The minted credential of `grant`, and its entries, as far as memory knows them now.
pub(super) fn find(
    grant: &Grant,
    credentials: &dyn Credentials,
    state: &State,
) -> (Option<Arc<Credential>>, Option<Vec<AuthEntry>>) {
    match &grant.source {
        CredentialSource::Static(source) => (None, find_static(grant, source, state).ok()),
        CredentialSource::Minted(source) => {
            let credential = credentials.current(source);
            let entries = credential.as_ref().map(|one| of_credential(grant, one));
            (credential, entries)
        }
    }
}

/// Whether memory knows anything of this source.
pub(super) fn is_there(
    source: &CredentialSource,
    credentials: &dyn Credentials,
    state: &State,
) -> bool {
    match source {
        CredentialSource::Static(source) => state.sources.get(&source.secret).is_some(),
        CredentialSource::Minted(source) => credentials.current(source).is_some(),
    }
}

/// Why the fixed login of `grant` cannot be read, if it cannot.
pub(super) fn find_lack(grant: &Grant, state: &State) -> Option<Pending> {
    match &grant.source {
        CredentialSource::Static(source) => find_static(grant, source, state).err(),
        CredentialSource::Minted(_) => None,
    }
}

fn find_static(
    grant: &Grant,
    source: &StaticSource,
    state: &State,
) -> Result<Vec<AuthEntry>, Pending> {
    let secret = state
        .require(&source.secret)
        .map_err(|error| pending(grant, error.reason(), error.to_string()))?;
    // It names what else is in the Secret, which is none of the namespace's.
    let malformed = |error: StaticLoginError| Pending {
        is_for_admins: true,
        ..pending(grant, "MalformedSource", error.to_string())
    };
    let logins = static_login::logins(&secret, &grant.keys, &grant.reserved).map_err(malformed)?;
    Ok(of_logins(grant, logins))
}
