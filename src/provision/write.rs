//! Writing one pull secret of a namespace: read, merge, compare and swap, again if somebody was faster.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;

use super::access::{Cluster, ClusterError, Credentials, Precondition, PullSecret};
use super::gather::{self, Gathered};
use super::history::History;
use super::secret::{Displaced, Entry, MAX_BYTES, Merged, is_ecr_public, merge};
use super::state::{Seen, State};
use super::table::Table;
use super::{Namespace, PULL_SECRET, Pending};
use crate::names::{NamespaceName, ObjectName};
use crate::registry::CredentialSource;

/// How often a lost race is run again before it is given up for this time.
const ATTEMPTS: usize = 16;

/// What a write needs at hand.
pub(super) struct Writer<'a> {
    pub(super) namespace: &'a NamespaceName,
    /// The pull secret's name.
    pub(super) secret: &'a ObjectName,
    pub(super) cluster: &'a dyn Cluster,
    pub(super) credentials: &'a dyn Credentials,
    pub(super) state: &'a State,
    pub(super) history: &'a History,
    pub(super) now: Timestamp,
}

/// How a write ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ended {
    pub(super) written: Written,
    /// The keys that there was no room for, and what to say of them.
    pub(super) left_out: Option<(BTreeSet<String>, Pending)>,
}

impl From<Written> for Ended {
    fn from(written: Written) -> Self {
        Self {
            written,
            left_out: None,
        }
    }
}

/// What was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// What must be there was written.
    Applied,
    /// It was there already.
    Equal,
    /// A Secret of this name is there that is not ours.
    Foreign,
}

impl Writer<'_> {
    /// Makes sure that the pull secret holds the entries of each of `gathered`, as far as there is room for them.
    pub(super) async fn write(&self, mut gathered: Vec<Gathered>) -> Result<Ended, Pending> {
        if self.is_known_to_hold(&gathered) {
            return Ok(Written::Equal.into());
        }
        let mut there = match self.table().get(self.namespace) {
            None => None,
            Some(_) => self.fetch().await?,
        };
        for _ in 0..ATTEMPTS {
            if there.as_ref().is_some_and(|secret| !secret.ours) {
                return Ok(Written::Foreign.into());
            }
            let merged = self.merge(there.as_ref(), &mut gathered).await?;
            let Some(content) = &merged.content else {
                return Ok(self.ended(Written::Equal, &merged));
            };
            let precondition = there.as_ref().map_or(Precondition::Absent, |secret| {
                Precondition::Exactly(secret.version.clone())
            });
            match self
                .cluster
                .apply_pull_secret(self.namespace, self.secret, content, &precondition)
                .await
            {
                Ok(version) => {
                    let ended = self.ended(Written::Applied, &merged);
                    let seen = Seen {
                        version,
                        ours: true,
                        intact: true,
                        digests: merged.digests,
                    };
                    let resource_version = seen.version.resource_version.clone();
                    self.table().put(self.namespace, &resource_version, seen);
                    return Ok(ended);
                }
                Err(ClusterError::Conflict { .. }) => there = self.fetch().await?,
                Err(error) => return Err(self.pending(&error)),
            }
        }
        Err(self.pending(&ClusterError::Unreachable {
            what: format!("secret {}/{}", self.namespace, self.secret),
            message: format!("others wrote it {ATTEMPTS} times in between"),
        }))
    }

    /// Whether memory says that there is nothing to write.
    fn is_known_to_hold(&self, gathered: &[Gathered]) -> bool {
        let mut entries = gathered.iter().flat_map(|grant| &grant.entries);
        let Some(seen) = self.table().get(self.namespace) else {
            // An empty secret is of no use to anybody.
            return entries.next().is_none();
        };
        let wanted: BTreeSet<&str> = entries.clone().map(|entry| entry.key.as_str()).collect();
        // A login of ECR Public may have expired: it is looked at, and taken out.
        let public = seen
            .digests
            .keys()
            .any(|key| is_ecr_public(key) && !wanted.contains(key.as_str()));
        seen.ours
            && seen.intact
            && !public
            && entries.all(|entry| seen.digests.get(&entry.key) == Some(&entry.digest))
    }

    async fn fetch(&self) -> Result<Option<PullSecret>, Pending> {
        let found = self
            .cluster
            .fetch_pull_secret(self.namespace, self.secret)
            .await
            .map_err(|error| self.pending(&error))?;
        if let Some(secret) = &found {
            self.table().put(
                self.namespace,
                &secret.version.resource_version,
                Seen::of(secret),
            );
        }
        Ok(found)
    }

    /// Merges. An entry that would be replaced and that we do not know may be newer than what we know: then what we know is read anew
    /// first. What replaces it is what memory holds by then, not what was gathered a while ago: so nothing staler ever wins.
    async fn merge(
        &self,
        there: Option<&PullSecret>,
        gathered: &mut [Gathered],
    ) -> Result<Merged, Pending> {
        let merged = merge(there, &entries(gathered), self.now);
        if merged.displaced.is_empty() {
            return Ok(merged);
        }
        for grant in gathered.iter_mut() {
            let is_of_grant = |displaced: &&Displaced| {
                let mut entries = grant.entries.iter();
                entries.any(|entry| entry.key == displaced.key)
            };
            let displaced: Vec<&Displaced> = merged.displaced.iter().filter(is_of_grant).collect();
            if !displaced.is_empty() {
                self.renew(grant, &displaced).await?;
            }
        }
        Ok(merge(there, &entries(gathered), self.now))
    }

    /// Takes the newest that memory knows of a grant that displaces something, and what the cluster knows where that may be newer.
    async fn renew(&self, grant: &mut Gathered, displaced: &[&Displaced]) -> Result<(), Pending> {
        let source = &grant.grant.source;
        let find = || gather::find(&grant.grant, self.credentials, self.state);
        // This comes first: what is known to be older by now is older than what memory holds afterwards.
        let mut unknown = displaced.to_vec();
        unknown.retain(|displaced| !self.history.knows(source, &displaced.digest));
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
                    .note_older(&grant.grant.source, displaced.digest);
            }
        }
        Ok(())
    }

    async fn refresh(&self, source: &CredentialSource) -> Result<(), Pending> {
        let refreshed = match source {
            CredentialSource::Minted(source) => self.credentials.refresh(source).await,
            CredentialSource::Static(source) => self
                .cluster
                .fetch_source(&source.secret)
                .await
                .map(|found| {
                    if let Some(secret) = found {
                        let version = secret.resource_version.clone();
                        self.state.sources.put(&source.secret, &version, secret);
                    }
                }),
        };
        refreshed.map_err(|error| self.pending(&error))
    }

    fn table(&self) -> Arc<Table<NamespaceName, Seen>> {
        self.state.pull_secrets_of(self.secret)
    }

    fn pending(&self, error: &ClusterError) -> Pending {
        let registry = own_secret_of(self.secret);
        let message = match (error, registry) {
            (ClusterError::Forbidden { .. }, Some(registry)) => missing_rights(registry),
            _ => error.to_string(),
        };
        Pending {
            registry: registry.and_then(|name| ObjectName::parse(name).ok()),
            reason: error.reason(),
            message,
        }
    }

    fn ended(&self, written: Written, merged: &Merged) -> Ended {
        let keys: BTreeSet<String> = merged.left_out.iter().cloned().collect();
        let too_big = || Pending {
            registry: None,
            reason: "TooBig",
            message: format!(
                "secret {}/{} would have {} KiB, more than {} KiB: it has no room for {} logins, what stands in it is renewed; let fewer Registries serve this namespace",
                self.namespace,
                self.secret,
                merged.bytes / 1024,
                MAX_BYTES / 1024,
                keys.len(),
            ),
        };
        Ended {
            written,
            left_out: (!keys.is_empty()).then(|| (keys.clone(), too_big())),
        }
    }
}

/// Logs how a write of this pull secret ended.
pub(super) fn tell(namespace: &Namespace, secret: &ObjectName, ended: &Result<Ended, Pending>) {
    let name = namespace.name.as_str();
    match ended.as_ref().map(|ended| ended.written) {
        Ok(Written::Applied) => {
            tracing::info!(
                namespace.name = name,
                secret.name = secret.as_str(),
                "pull secret written"
            );
        }
        Ok(Written::Equal) => {
            tracing::debug!(
                namespace.name = name,
                secret.name = secret.as_str(),
                "pull secret is as it must be"
            );
        }
        Ok(Written::Foreign) => tracing::warn!(
            namespace.name = name,
            "secret {name}/{secret} is not ours and is left alone: rename it, or delete it so that pullpass can make its own"
        ),
        Err(why) => tracing::warn!(
            namespace.name = name,
            secret.name = secret.as_str(),
            reason = why.reason,
            "pull secret not written: {}",
            why.message
        ),
    }
    if let Ok(Ended {
        left_out: Some((_, why)),
        ..
    }) = ended
    {
        tracing::warn!(
            namespace.name = name,
            secret.name = secret.as_str(),
            reason = why.reason,
            "pull secret is not complete: {}",
            why.message
        );
    }
}

fn entries(gathered: &[Gathered]) -> Vec<Entry> {
    gathered
        .iter()
        .flat_map(|grant| grant.entries.iter().cloned())
        .collect()
}

/// The Registry whose own secret has this name.
fn own_secret_of(secret: &str) -> Option<&str> {
    secret.strip_prefix(PULL_SECRET)?.strip_prefix('-')
}

/// What an admin is told when the rights for a Registry's own secret are missing.
pub(crate) fn missing_rights(registry: &str) -> String {
    format!(
        "pullpass may not get, list, watch, create, patch and delete the Secrets {PULL_SECRET}-{registry}: apply what `pullpass rbac` prints for it"
    )
}
