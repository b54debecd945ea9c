//! What has ended is deleted from the credential store: what is in use is renewed long before.
//!
//! ```text
//! stored credentials ─▶ plan (pure) ─▶ an hour after its end ──────────────────▶ delete
//!                                   └▶ of a tenant that memory does not know ─▶ read live ─▶ delete at once if it is gone
//! ```
//!
//! Only a live read says that something is gone: a watch may lag, a namespace may have opted out.

mod plan;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::Instant;

use self::plan::{Cause, Check, Collectable, Evidence};
use super::leadership::Leadership;
use crate::cluster::{Kube, MintedCredentials};
use crate::provision::changes::{Change, Cursor};
use crate::provision::ports::{Cluster as _, ClusterError, Credentials as _, StoredCredential};
use crate::provision::{Provision as _, Provisioner};
use crate::registry::source::Tenant;

/// The least pause after a pass: what changes meanwhile is seen together.
const MIN_PAUSE: Duration = Duration::from_secs(1);

/// How often to check what has expired where nothing changes.
const CHECK_INTERVAL: Duration = Duration::from_mins(1);

/// After a pass there is a pause of so many times its duration: the replica has other work, too.
const PAUSE_FACTOR: u32 = 3;

/// Deletes stored credentials that have ended, or whose tenant is gone.
pub struct CredentialGc {
    /// Knows which tenants there are.
    pub provisioner: Provisioner,
    /// Reads tenants that it does not know.
    pub kube: Kube,
    /// The store.
    pub minted: Arc<MintedCredentials>,
    /// [`Timestamp::now`] outside tests.
    pub clock: fn() -> Timestamp,
}

impl CredentialGc {
    /// Collects whenever this replica leads. Ends when the sender is gone.
    pub async fn run(self, mut leadership: watch::Receiver<Leadership>) {
        while Leadership::acquired(&mut leadership).await {
            Leadership::while_leading(&mut leadership, self.lead()).await;
        }
    }

    async fn lead(&self) {
        let mut evidence = Evidence::default();
        loop {
            let began = Instant::now();
            // What changes from here on is for the next pass.
            let mut seen = self.provisioner.changes().end();
            let stored = self.minted.changes().end();
            let did_something = self.collect(&mut evidence).await;
            let pause = (began.elapsed() * PAUSE_FACTOR).max(MIN_PAUSE);
            tokio::time::sleep(pause).await;
            if did_something {
                continue;
            }
            tokio::select! {
                () = self.tenants_changed(&mut seen) => {}
                () = self.minted.changes().changed_since(stored) => {}
                () = tokio::time::sleep_until(began + CHECK_INTERVAL) => {}
            }
        }
    }

    /// Waits until something changed that a pass goes by: namespaces, and the ServiceAccounts in them.
    async fn tenants_changed(&self, seen: &mut Cursor) {
        let changes = self.provisioner.changes();
        let mut is_concerned = false;
        while !is_concerned {
            changes.changed_since(*seen).await;
            let knows = changes.read(seen, |change| {
                is_concerned |= matches!(change, Change::Namespace(_));
            });
            is_concerned |= !knows;
        }
    }

    /// Runs one pass; answers whether there was anything to do: then there may be more.
    async fn collect(&self, evidence: &mut Evidence) -> bool {
        let stored = self.minted.stored();
        let uses: Vec<_> = stored.iter().map(|stored| self.find(stored)).collect();
        let sweep = evidence.plan(&uses, (self.clock)());
        let did_something = !sweep.delete.is_empty() || !sweep.checks.is_empty();
        for check in sweep.checks {
            let is_there = self.fetch_is_there(check).await;
            evidence.note_read(check, is_there.as_ref().ok().copied(), (self.clock)());
            if let Err(error) = is_there {
                tracing::debug!("failed to read whose a stored credential is, retrying: {error}");
                break; // the next one would fail, too
            }
        }
        for (stored, cause) in sweep.delete {
            self.delete(stored, cause, evidence).await;
        }
        did_something
    }

    fn find<'a>(&self, stored: &'a StoredCredential) -> Collectable<'a> {
        let tenant = stored.tenant.as_ref();
        Collectable {
            stored,
            knows_namespace: tenant.is_some_and(|tenant| self.knows_namespace(tenant)),
            knows_account: tenant.is_some_and(|tenant| self.provisioner.knows_account(tenant)),
        }
    }

    fn knows_namespace(&self, tenant: &Tenant) -> bool {
        let known = self.provisioner.namespace(&tenant.namespace);
        known.is_some_and(|known| known.uid == tenant.namespace_uid)
    }

    /// Whether this very namespace and ServiceAccount are there, read live.
    async fn fetch_is_there(&self, check: Check<'_>) -> Result<bool, ClusterError> {
        let tenant = check.tenant;
        let (namespace, account) = (&tenant.namespace, &tenant.service_account);
        if !check.knows_namespace {
            let found = self.kube.fetch_namespace(namespace).await?;
            if found.is_none_or(|(_, found)| found.uid != tenant.namespace_uid) {
                return Ok(false);
            }
        }
        let found = self.kube.fetch_service_account(namespace, account).await?;
        let is_there = found.is_some_and(|found| found.uid == tenant.service_account_uid);
        if !is_there {
            // Who would mint by it next learns of it before the credential is gone.
            self.provisioner.refresh_account(tenant).await;
        }
        Ok(is_there)
    }

    async fn delete(&self, stored: &StoredCredential, cause: Cause, evidence: &mut Evidence) {
        let deleted = self.minted.delete(stored).await;
        let is_first = evidence.note_tried(&stored.name, (self.clock)());
        match deleted {
            Ok(()) => tracing::info!(
                secret.name = stored.name.as_str(),
                credential.source = stored.source,
                "deleted a stored credential: {cause}"
            ),
            // Another replica renewed it.
            Err(ClusterError::Conflict { .. }) => {}
            Err(error) if is_first => tracing::warn!(
                secret.name = stored.name.as_str(),
                error.reason = error.reason(),
                "failed to delete a stored credential ({cause}), retrying: {error}"
            ),
            Err(_) => {}
        }
    }
}
