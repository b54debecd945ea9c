//! Writes one pull secret of a namespace: read, merge, compare-and-swap; again after a conflict.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;

use super::grant_fetcher::{self, FetchedGrant};
use super::ports::{Cluster, ClusterError, Credentials, Precondition, PullSecret};
use super::secret::{AuthEntry, Displaced, MAX_ENTRIES, Merged, is_ecr_public, merge};
use super::state::{Observed, State};
use super::store::Store;
use super::superseded_logins::SupersededLogins;
use super::{Pending, sources};
use crate::names::{NamespaceName, ObjectName};
use crate::quantity::{count, verb_of};
use crate::registry::{CredentialSource, SecretFormat, is_export_name, registry_of_secret};

/// How often a lost race is run again before it is given up for this time.
const ATTEMPTS: usize = 16;

/// What a write needs at hand.
pub(super) struct SecretWriter<'a> {
    pub(super) namespace: &'a NamespaceName,
    /// The pull secret's name.
    pub(super) secret: &'a ObjectName,
    pub(super) cluster: &'a dyn Cluster,
    pub(super) credentials: &'a dyn Credentials,
    pub(super) state: &'a State,
    pub(super) history: &'a SupersededLogins,
    pub(super) now: Timestamp,
}

/// How a write ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct WriteOutcome {
    pub(super) written: WriteResult,
    /// The keys that there was no room for, and what to say of them.
    pub(super) left_out: Option<(BTreeSet<String>, Pending)>,
}

impl From<WriteResult> for WriteOutcome {
    fn from(written: WriteResult) -> Self {
        Self {
            written,
            left_out: None,
        }
    }
}

/// What was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WriteResult {
    /// What must be there was written.
    Applied,
    /// It was there already.
    Unchanged,
    /// A Secret of this name is there that is not ours.
    Foreign,
}

impl SecretWriter<'_> {
    /// Makes sure that the pull secret holds the entries of each of `gathered`, as far as there is room for them.
    pub(super) async fn write(
        &self,
        mut fetched: Vec<FetchedGrant>,
    ) -> Result<WriteOutcome, Pending> {
        let format = self.format_of(&fetched);
        let Some(format) = format.filter(|format| !self.is_known_to_hold(&fetched, *format)) else {
            return Ok(WriteResult::Unchanged.into());
        };
        let mut there = match self.store().get(self.namespace) {
            None => None,
            Some(_) => self.fetch().await?,
        };
        let mut deleted = None;
        for _ in 0..ATTEMPTS {
            if there.as_ref().is_some_and(|secret| !secret.ours) {
                return Ok(WriteResult::Foreign.into());
            }
            let merged = self.merge(there.as_ref(), format, &mut fetched).await?;
            let Some(content) = &merged.content else {
                return Ok(self.outcome(WriteResult::Unchanged, &merged));
            };
            if let Some(secret) = there.take_if(|secret| secret.type_ != format.secret_type()) {
                // A Secret's type stays what it is: its labels and keys are written over.
                self.check_replaceable(&secret, deleted.as_deref())?;
                deleted = self.delete(&secret).await?;
            }
            let precondition = there.as_ref().map_or(Precondition::Absent, |secret| {
                Precondition::Exactly(secret.version.clone())
            });
            match self
                .cluster
                .apply_pull_secret(self.namespace, self.secret, content, &precondition)
                .await
            {
                Ok(version) => {
                    let outcome = self.outcome(WriteResult::Applied, &merged);
                    let observed = Observed::of_own_write(version, format, merged.digests);
                    let resource_version = observed.version.resource_version.clone();
                    self.store()
                        .apply_own_write(self.namespace, &resource_version, observed);
                    return Ok(outcome);
                }
                Err(ClusterError::Conflict { .. }) => there = self.fetch().await?,
                Err(error) => return Err(self.pending(&error)),
            }
        }
        Err(self.pending(&ClusterError::Unreachable {
            what: format!("secret {}/{}", self.namespace, self.secret),
            message: format!("conflict {ATTEMPTS} times in a row"),
        }))
    }

    /// In which form the Secret is to be; `None`: nothing says so, and nothing is there to be written.
    fn format_of(&self, fetched: &[FetchedGrant]) -> Option<SecretFormat> {
        match fetched.first() {
            Some(first) => Some(first.grant.format),
            None if is_export_name(self.secret) => None,
            None => Some(SecretFormat::PullSecret),
        }
    }

    /// Whether memory says that there is nothing to write.
    fn is_known_to_hold(&self, fetched: &[FetchedGrant], format: SecretFormat) -> bool {
        let mut entries = fetched.iter().flat_map(|grant| &grant.entries);
        let Some(observed) = self.store().get(self.namespace) else {
            // An empty secret is of no use to anybody.
            return entries.next().is_none();
        };
        let wanted: BTreeSet<&str> = entries.clone().map(|entry| entry.key.as_str()).collect();
        // A login of ECR Public may have expired: it is checked, and removed.
        let public = observed
            .digests
            .keys()
            .any(|key| is_ecr_public(key) && !wanted.contains(key.as_str()));
        observed.ours
            && observed.is_readable_as(format)
            && !public
            && entries.all(|entry| observed.digests.get(&entry.key) == Some(&entry.digest))
    }

    async fn fetch(&self) -> Result<Option<PullSecret>, Pending> {
        let found = self
            .cluster
            .fetch_pull_secret(self.namespace, self.secret)
            .await
            .map_err(|error| self.pending(&error))?;
        if let Some(secret) = &found {
            self.store().apply_own_write(
                self.namespace,
                &secret.version.resource_version,
                Observed::of(secret),
            );
        }
        Ok(found)
    }

    /// Whether a Secret of another type may go: another one takes its place only where a namespace wants pull secrets, and only once
    /// nothing holds the one that was deleted, whose unique id is `deleted`.
    fn check_replaceable(&self, secret: &PullSecret, deleted: Option<&str>) -> Result<(), Pending> {
        let (namespace, name) = (self.namespace, self.secret);
        let known = self.state.namespaces.get(namespace);
        let (reason, message) = if known.is_some_and(|known| !known.wants_pull_secrets()) {
            (
                "UnknownInjectValue",
                format!(
                    "secret {namespace}/{name} is of another type, and none is made in its namespace: label it pullpass.dev/inject=enabled or all"
                ),
            )
        } else if deleted == Some(&*secret.version.uid) {
            (
                "SecretHeld",
                format!(
                    "secret {namespace}/{name} is of another type and is being deleted, and a finalizer holds it: remove the finalizer"
                ),
            )
        } else {
            return Ok(());
        };
        Err(self.lacking(reason, message))
    }

    /// Deletes what is there of another type; answers its unique id. Where another writer was first, nothing was deleted, and the write that
    /// follows is a conflict.
    async fn delete(&self, secret: &PullSecret) -> Result<Option<String>, Pending> {
        let (namespace, name) = (self.namespace, self.secret);
        let deleted = self
            .cluster
            .delete_pull_secret(namespace, name, &secret.version);
        match deleted.await {
            Ok(()) => {
                self.store().delete(namespace, "");
                Ok(Some(secret.version.uid.clone()))
            }
            Err(ClusterError::Conflict { .. }) => Ok(None),
            Err(error) => Err(self.pending(&error)),
        }
    }

    /// Merges. An entry that would be replaced and that we do not know may be newer than what we know: then what we know is read again
    /// first. What replaces it is what memory holds by then, not what was fetched a while ago: so nothing staler ever wins.
    async fn merge(
        &self,
        there: Option<&PullSecret>,
        format: SecretFormat,
        fetched: &mut [FetchedGrant],
    ) -> Result<Merged, Pending> {
        let merged = merge(there, format, &entries(fetched), self.now);
        if merged.displaced.is_empty() {
            return Ok(merged);
        }
        for grant in fetched.iter_mut() {
            let is_of_grant = |displaced: &&Displaced| {
                let mut entries = grant.entries.iter();
                entries.any(|entry| entry.key == displaced.key)
            };
            let displaced: Vec<&Displaced> = merged.displaced.iter().filter(is_of_grant).collect();
            if !displaced.is_empty() {
                self.renew(grant, &displaced).await?;
            }
        }
        Ok(merge(there, format, &entries(fetched), self.now))
    }

    /// Takes the newest that memory knows of a grant that displaces something, and what the cluster knows where that may be newer.
    async fn renew(
        &self,
        grant: &mut FetchedGrant,
        displaced: &[&Displaced],
    ) -> Result<(), Pending> {
        let source = &grant.grant.source;
        let find = || grant_fetcher::find(&grant.grant, self.credentials, self.state).1;
        // This comes first: what is known to be older by now is older than what memory holds afterwards.
        let mut unknown = displaced.to_vec();
        unknown.retain(|displaced| !self.history.contains(source, &displaced.digest));
        let mut newest = find();
        if newest.is_none() || !unknown.is_empty() {
            self.refresh(source).await?;
            newest = find();
        }
        if let Some(entries) = newest {
            grant.entries = entries;
        }
        for displaced in unknown {
            let mut entries = grant.entries.iter();
            if entries.all(|entry| entry.digest != displaced.digest) {
                self.history
                    .record_older(&grant.grant.source, displaced.digest);
            }
        }
        Ok(())
    }

    async fn refresh(&self, source: &CredentialSource) -> Result<(), Pending> {
        let refreshed = match source {
            CredentialSource::Minted(source) => self.credentials.refresh(source).await,
            CredentialSource::Static(source) => {
                sources::read(&source.secret, self.cluster, self.state).await
            }
        };
        refreshed.map_err(|error| self.pending(&error))
    }

    fn store(&self) -> Arc<Store<NamespaceName, Observed>> {
        self.state.pull_secrets_of(self.secret)
    }

    fn pending(&self, error: &ClusterError) -> Pending {
        let registry = registry_of_secret(self.secret);
        let message = match (error, registry) {
            (ClusterError::Forbidden { .. }, Some(_)) => missing_rbac(self.secret),
            // <https://github.com/kubernetes/kubernetes/blob/v1.36.0/pkg/apis/core/validation/validation.go> (ValidateSecretUpdate)
            (ClusterError::Rejected { message, .. }, _)
                if message.contains("when `immutable` is set") =>
            {
                format!(
                    "secret {}/{} is immutable, its logins cannot be renewed: delete it, pullpass makes it again",
                    self.namespace, self.secret
                )
            }
            _ => error.to_string(),
        };
        self.lacking(error.reason(), message)
    }

    fn lacking(&self, reason: &'static str, message: String) -> Pending {
        let registry = registry_of_secret(self.secret);
        Pending {
            is_for_admins: false,
            registry: registry.and_then(|name| ObjectName::parse(name).ok()),
            reason,
            message,
        }
    }

    fn outcome(&self, written: WriteResult, merged: &Merged) -> WriteOutcome {
        let keys: BTreeSet<String> = merged.left_out.iter().cloned().collect();
        let too_big = || Pending {
            is_for_admins: false,
            registry: None,
            reason: "SecretTooLarge",
            message: format!(
                "secret {}/{} would have {} KiB and {}, more than {} KiB or {MAX_ENTRIES} logins: {} {} not fit, those in it are renewed; let fewer Registries serve this namespace",
                self.namespace,
                self.secret,
                merged.bytes / 1024,
                count(merged.digests.len() + keys.len(), "login"),
                merged.max_bytes / 1024,
                count(keys.len(), "login"),
                verb_of(keys.len(), "does", "do"),
            ),
        };
        WriteOutcome {
            written,
            left_out: (!keys.is_empty()).then(|| (keys.clone(), too_big())),
        }
    }
}

fn entries(fetched: &[FetchedGrant]) -> Vec<AuthEntry> {
    fetched
        .iter()
        .flat_map(|grant| grant.entries.iter().cloned())
        .collect()
}

/// The message for an admin when the rights to a Registry's own Secrets of this name are missing.
pub(crate) fn missing_rbac(secret: &str) -> String {
    format!(
        "forbidden: pullpass needs get, list, watch, create, patch and delete on Secrets {secret}: apply what `pullpass rbac` prints"
    )
}
