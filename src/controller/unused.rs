//! Minted credentials that nobody uses any more are deleted from the credential store.
//!
//! One whose namespace or ServiceAccount is gone is deleted at once, as far as that is known: the API server is asked when the
//! credential falls out of use. Any other one is kept for an hour.

mod plan;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::Instant;

use self::plan::{Row, Unused};
use super::term::{Leadership, ticks};
use crate::cluster::{Kube, Minted};
use crate::names::ObjectName;
use crate::provision::access::{Cluster as _, ClusterError, StoredCredential};
use crate::provision::survey::Change;
use crate::provision::{Ensure, Provision as _};
use crate::registry::source::{MintSource, Tenant};
use crate::registry::{CredentialSource, Orders};

/// How often it is looked whether something changed.
const TICK: Duration = Duration::from_secs(1);

/// After a look, so many times as long as that took nothing is looked at again: the replica has more to do.
const REST: u32 = 3;

/// Deletes stored credentials that nobody uses any more.
pub struct Cleaner {
    ensure: Ensure,
    kube: Kube,
    minted: Arc<Minted>,
    clock: fn() -> Timestamp,
}

impl Cleaner {
    /// Puts it together; `clock` is [`Timestamp::now`] outside tests.
    pub fn new(ensure: Ensure, kube: Kube, minted: Arc<Minted>, clock: fn() -> Timestamp) -> Self {
        Self {
            ensure,
            kube,
            minted,
            clock,
        }
    }

    /// Cleans up whenever this replica leads. Ends when the sender is gone.
    pub async fn run(self, mut leadership: watch::Receiver<Leadership>) {
        while Leadership::begins(&mut leadership).await {
            Leadership::hold(&mut leadership, self.lead()).await;
        }
    }

    async fn lead(&self) {
        let mut unused = Unused::default();
        let mut looked: Option<Change> = None;
        let mut next: Option<Timestamp> = None;
        let mut rests_until = Instant::now();
        let mut ticks = ticks(TICK);
        loop {
            ticks.tick().await;
            if Instant::now() < rests_until {
                continue;
            }
            let (seen, now) = (Some(self.ensure.change()), (self.clock)());
            if looked == seen && next.is_none_or(|next| next > now) {
                continue;
            }
            looked = seen;
            let began = Instant::now();
            next = self.look(&mut unused, now).await;
            rests_until = Instant::now() + began.elapsed() * REST;
        }
    }

    /// Looks once; answers when to look again if nothing changes.
    async fn look(&self, unused: &mut Unused, now: Timestamp) -> Option<Timestamp> {
        let stored = self.minted.stored();
        if stored.is_empty() {
            return None;
        }
        let used = self.used(now);
        let is_known = |tenant: &Tenant| self.is_known(tenant);
        let rows: Vec<Row<'_>> = stored
            .iter()
            .map(|stored| Row {
                stored,
                is_used: used.contains(&stored.name),
                is_home_known: stored.tenant.as_ref().is_none_or(is_known),
            })
            .collect();
        let decision = unused.decide(&rows, now);
        for stored in decision.ask {
            match self.is_gone(stored).await {
                Ok(false) => {}
                Ok(true) => {
                    let why = "its namespace or ServiceAccount is gone";
                    self.delete(stored, why, unused, now).await;
                }
                Err(error) => {
                    tracing::debug!("whether a ServiceAccount is there cannot be told: {error}");
                }
            }
        }
        let knows = decision.delete.is_empty() || self.knows_registries().await;
        for stored in decision.delete {
            if knows {
                let why = "nobody has used it for an hour";
                self.delete(stored, why, unused, now).await;
            } else {
                unused.note_failure(&stored.name, now);
            }
        }
        decision.next
    }

    /// The names under which everything is stored that is in use, or that a suspended Registry may use again.
    fn used(&self, now: Timestamp) -> HashSet<ObjectName> {
        let survey = self.ensure.survey(&Orders::default(), now);
        let registries = self.ensure.registries();
        let suspended = registries.iter().filter(|registry| registry.suspend);
        let suspended = suspended.flat_map(|registry| &registry.sources);
        let suspended = suspended.filter_map(|(source, _)| match source {
            CredentialSource::Minted(source) => Some(source),
            CredentialSource::Static(_) => None,
        });
        let sources = survey.sources.iter().chain(suspended);
        let name = |source: &MintSource| self.minted.name_of(source);
        sources.filter_map(name).collect()
    }

    /// Whether this very namespace is opted in and there to stay, as far as memory knows.
    fn is_known(&self, tenant: &Tenant) -> bool {
        let known = self.ensure.namespace(&tenant.namespace);
        known.is_some_and(|known| known.uid == tenant.namespace_uid && !known.terminating)
    }

    /// Whether the namespace or ServiceAccount that minted this is not there any more, read live.
    async fn is_gone(&self, stored: &StoredCredential) -> Result<bool, ClusterError> {
        let Some(tenant) = &stored.tenant else {
            return Ok(false);
        };
        let namespace = self.kube.fetch_namespace(&tenant.namespace).await?;
        let stays = namespace.is_some_and(|(_, namespace)| {
            namespace.uid == tenant.namespace_uid && !namespace.terminating
        });
        if !stays {
            return Ok(true);
        }
        let (namespace, name) = (&tenant.namespace, &tenant.service_account);
        let account = self.kube.fetch_service_account(namespace, name).await?;
        Ok(account.is_none_or(|account| account.uid != tenant.service_account_uid))
    }

    /// Whether memory knows the Registries that the API server has: else nothing can be said about what nobody uses.
    async fn knows_registries(&self) -> bool {
        let known = self.ensure.check_registries().await;
        known
            .inspect_err(|error| {
                tracing::debug!(
                    "unused credentials stay: whether they are cannot be told: {error}"
                );
            })
            .is_ok()
    }

    async fn delete(
        &self,
        stored: &StoredCredential,
        why: &str,
        unused: &mut Unused,
        now: Timestamp,
    ) {
        match self.minted.delete(stored).await {
            Ok(()) => tracing::info!(
                secret.name = stored.name.as_str(),
                credential.source = stored.source,
                "minted credential deleted: {why}"
            ),
            // Somebody uses it again.
            Err(ClusterError::Conflict { .. }) => {
                unused.note_failure(&stored.name, now);
            }
            Err(error) => {
                if unused.note_failure(&stored.name, now) {
                    tracing::warn!(
                        secret.name = stored.name.as_str(),
                        error.reason = error.reason(),
                        "a minted credential that nobody uses cannot be deleted, it is tried again: {error}"
                    );
                }
            }
        }
    }
}
