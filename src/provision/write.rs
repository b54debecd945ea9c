//! Writing one pull secret of a namespace: read, merge, compare and swap, again if somebody was faster.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;

use super::access::{Cluster, ClusterError, Credentials, Precondition, PullSecret};
use super::gather::{self, Gathered};
use super::secret::{Displaced, Entry, MAX_BYTES, Merged, is_ecr_public, merge};
use super::state::{Seen, State};
use super::table::Table;
use super::verify::History;
use super::{PULL_SECRET, Pending};
use crate::registry::CredentialSource;

/// How often a lost race is run again before it is given up for this time.
const ATTEMPTS: usize = 16;

/// What a write needs at hand.
pub(super) struct Writer<'a> {
    pub(super) namespace: &'a str,
    /// The pull secret's name.
    pub(super) secret: &'a str,
    pub(super) cluster: &'a dyn Cluster,
    pub(super) credentials: &'a dyn Credentials,
    pub(super) state: &'a State,
    pub(super) history: &'a History,
    pub(super) now: Timestamp,
}

/// How a write ended.
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
    /// Makes sure that the pull secret holds the entries of each of `gathered`.
    pub(super) async fn write(&self, mut gathered: Vec<Gathered>) -> Result<Written, Pending> {
        if self.is_known_to_hold(&gathered) {
            return Ok(Written::Equal);
        }
        let mut there = match self.table().get(self.namespace) {
            None => None,
            Some(_) => self.fetch().await?,
        };
        for _ in 0..ATTEMPTS {
            if there.as_ref().is_some_and(|secret| !secret.ours) {
                return Ok(Written::Foreign);
            }
            let merged = self.merge(there.as_ref(), &mut gathered).await?;
            if merged.is_too_big() {
                return Err(self.too_big(&merged));
            }
            let Some(content) = &merged.content else {
                return Ok(Written::Equal);
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
                    let seen = Seen {
                        version,
                        ours: true,
                        intact: true,
                        digests: merged.digests,
                    };
                    let resource_version = seen.version.resource_version.clone();
                    self.table().put(self.namespace, &resource_version, seen);
                    return Ok(Written::Applied);
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

    fn table(&self) -> Arc<Table<Seen>> {
        self.state.pull_secrets_of(self.secret)
    }

    fn pending(&self, error: &ClusterError) -> Pending {
        let registry = own_secret_of(self.secret);
        let message = match (error, registry) {
            (ClusterError::Forbidden { .. }, Some(registry)) => missing_rights(registry),
            _ => error.to_string(),
        };
        Pending {
            registry: registry.map(Into::into),
            reason: error.reason(),
            message,
        }
    }

    fn too_big(&self, merged: &Merged) -> Pending {
        Pending {
            registry: None,
            reason: "TooBig",
            message: format!(
                "secret {}/{} would have {} KiB, more than {} KiB: the last good one stays; let fewer Registries serve this namespace",
                self.namespace,
                self.secret,
                merged.bytes / 1024,
                MAX_BYTES / 1024
            ),
        }
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
