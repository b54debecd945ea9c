//! The entries of one grant: minted, or read from its source Secret.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;

use super::access::Credentials;
use super::account::{Found, Reader, ServiceAccount};
use super::secret::Entry;
use super::state::State;
use super::{Namespace, Pending, bind};
use crate::credential::{Credential, SourceSecrets as _, fixed};
use crate::names::ObjectName;
use crate::registry::source::StaticSource;
use crate::registry::{CredentialSource, Grant};

/// The entries of one grant.
#[derive(Clone)]
pub(super) struct Gathered {
    /// The grant, bound to the namespace if it had to be.
    pub(super) grant: Arc<Grant>,
    pub(super) entries: Vec<Entry>,
}

impl Gathered {
    /// Whether what belongs under a key of the grant, or under a narrower one of a fixed login's own, is among `left_out`.
    pub(super) fn lacks(&self, key: &str, left_out: &BTreeSet<String>) -> bool {
        let is_own = |key: &String| !self.grant.keys.contains(key);
        let mut entries = self.entries.iter().map(|entry| &entry.key);
        left_out.contains(key) || entries.any(|key| is_own(key) && left_out.contains(key))
    }
}

/// What gathering for one namespace needs at hand.
#[derive(Clone, Copy)]
pub(super) struct Gatherer<'a> {
    pub(super) namespace: &'a Namespace,
    pub(super) reader: &'a Reader,
    pub(super) credentials: &'a dyn Credentials,
    pub(super) state: &'a State,
    pub(super) now: Timestamp,
}

/// Why there are no entries, and whether the ServiceAccount may be another by now than the one that is remembered.
struct Failure {
    pending: Pending,
    may_be_stale: bool,
}

impl Gatherer<'_> {
    /// The entries of `grant`, binding and minting if need be. A refusal is believed only of a ServiceAccount that was just read:
    /// what is remembered of it may be out of date.
    pub(super) async fn gather(self, grant: Arc<Grant>) -> Result<Gathered, Pending> {
        let Some(name) = bind::unbound(&grant) else {
            return self.fetch(grant).await.map_err(|failure| failure.pending);
        };
        let (account, is_new) = self.account(&grant, name).await?;
        let failure = match self.fetch_as(&grant, account.as_deref()).await {
            Ok(gathered) => return Ok(gathered),
            Err(failure) => failure,
        };
        if !failure.may_be_stale {
            return Err(failure.pending);
        }
        self.reader.forget(&self.namespace.name, name).await;
        if is_new {
            return Err(failure.pending);
        }
        let (read_again, _) = self.account(&grant, name).await?;
        if read_again == account {
            return Err(failure.pending);
        }
        let fetched = self.fetch_as(&grant, read_again.as_deref()).await;
        fetched.map_err(|failure| failure.pending)
    }

    /// The ServiceAccount of this name, and whether it was read just now. When it cannot be read, what was known last.
    async fn account(&self, grant: &Grant, name: &ObjectName) -> Result<(Found, bool), Pending> {
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
    ) -> Result<Gathered, Failure> {
        let bound = bind::bind(grant, self.namespace, account).map_err(|error| Failure {
            pending: pending(grant, error.reason(), error.to_string()),
            may_be_stale: true,
        })?;
        self.fetch(Arc::new(bound)).await
    }

    async fn fetch(self, grant: Arc<Grant>) -> Result<Gathered, Failure> {
        let entries = match &grant.source {
            CredentialSource::Static(source) => {
                find_fixed(&grant, source, self.state).map_err(|pending| Failure {
                    pending,
                    may_be_stale: false,
                })?
            }
            CredentialSource::Minted(source) => {
                match self.credentials.mint(source, self.now).await {
                    Ok(credential) => of_credential(&grant, &credential),
                    Err(error) => {
                        return Err(Failure {
                            pending: pending(&grant, error.reason(), error.to_string()),
                            may_be_stale: error.is_refusal(),
                        });
                    }
                }
            }
        };
        Ok(Gathered { grant, entries })
    }
}

fn pending(grant: &Grant, reason: &'static str, message: String) -> Pending {
    Pending {
        registry: Some(grant.registry.clone()),
        reason,
        message,
    }
}

/// The entries of `grant` as far as memory knows them now.
pub(super) fn find(
    grant: &Grant,
    credentials: &dyn Credentials,
    state: &State,
) -> Option<Vec<Entry>> {
    match &grant.source {
        CredentialSource::Static(source) => find_fixed(grant, source, state).ok(),
        CredentialSource::Minted(source) => {
            let credential = credentials.current(source)?;
            Some(of_credential(grant, &credential))
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
        CredentialSource::Static(source) => find_fixed(grant, source, state).err(),
        CredentialSource::Minted(_) => None,
    }
}

/// A minted credential under each key of its grant.
pub(super) fn of_credential(grant: &Grant, credential: &Credential) -> Vec<Entry> {
    let Some((first, others)) = grant.keys.split_first() else {
        return Vec::new();
    };
    let entry = Entry::new(
        first,
        grant.registry.clone(),
        &credential.username,
        &credential.password,
        Some(credential.expires_at),
    );
    let others: Vec<_> = others.iter().map(|key| entry.under(key)).collect();
    std::iter::once(entry).chain(others).collect()
}

fn find_fixed(grant: &Grant, source: &StaticSource, state: &State) -> Result<Vec<Entry>, Pending> {
    let secret = state
        .require(&source.secret)
        .map_err(|error| pending(grant, error.reason(), error.to_string()))?;
    let logins = fixed::logins(&secret, &grant.keys, &grant.reserved)
        .map_err(|error| pending(grant, "MalformedSource", error.to_string()))?;
    Ok(logins
        .into_iter()
        .map(|login| {
            Entry::new(
                login.key,
                grant.registry.clone(),
                &login.username,
                &login.password,
                None,
            )
        })
        .collect())
}
