//! What a Registry's status says of the namespaces that it serves.

use std::sync::Arc;

use jiff::Timestamp;

use super::digest::Digest;
use super::grant_coverage::GrantCoverage;
use super::provisioner::{Provisioner, ProvisionerInner};
use super::{Namespace, Pending, grant_fetcher, tenant_identity};
use crate::credential::Freshness;
use crate::names::ObjectName;
use crate::registry::source::Tenant;

/// The summary of one Registry.
#[derive(Clone, Debug, Default)]
pub struct RegistrySummary {
    /// The namespaces it serves.
    pub total: usize,
    /// Those that hold a good login of it.
    pub ready: usize,
    /// Those of the others that keep the last fixed login, of which nobody knows whether it is good still.
    pub kept: usize,
    /// In how many of them a Secret that is not ours has the name of the pull secret.
    pub foreign: usize,
    /// The first of those.
    pub foreign_in: Vec<String>,
    /// Why some namespace lacks a login, where that is not the failed minting of a credential.
    pub lack: Option<Pending>,
    /// The first namespace that lacks a login.
    pub lacking_in: Option<String>,
}

impl ProvisionerInner {
    /// Whether a login may be one that pullpass wrote: a source has it, had it while this process ran, or it is stored. It costs the
    /// same however many there are: anybody may have pullpass ask that of a thousand entries again and again.
    pub(super) fn may_have_written(&self, digest: &Digest) -> bool {
        self.history.is_ours(digest)
            || self.state.is_in_source(digest)
            || self.credentials.is_stored(digest)
    }
}

impl Provisioner {
    /// Whether memory knows a tenant's very ServiceAccount, read in the last minutes.
    pub fn knows_account(&self, tenant: &Tenant) -> bool {
        let (namespace, name) = (&tenant.namespace, &tenant.service_account);
        let known = self.0.state.accounts.get(namespace, name);
        known.is_some_and(|known| {
            let account = known.account.as_ref().filter(|_| !known.is_stale());
            account.is_some_and(|account| account.uid == tenant.service_account_uid)
        })
    }

    /// Why what a pull secret lacks under these keys is not there to be written, where memory knows.
    pub(super) fn find_lacks_of(
        &self,
        namespace: &Arc<Namespace>,
        secret: &ObjectName,
        keys: &[&str],
        now: Timestamp,
    ) -> Vec<Pending> {
        let coverage = self.0.coverage(namespace, secret);
        let is_asked = |covered: &&GrantCoverage| {
            let mut of_grant = covered.grant.keys.iter();
            covered.freshness(now) == Freshness::Spent
                && of_grant.any(|key| keys.contains(&key.as_str()))
        };
        let lacking = coverage.covered().iter().filter(is_asked);
        let mut lacks: Vec<Pending> = Vec::new();
        for lack in lacking.filter_map(|covered| self.find_grant_lack(namespace, covered)) {
            if !lacks.contains(&lack) {
                lacks.push(lack);
            }
        }
        lacks
    }

    /// Why there is nothing to be written for a grant, where memory knows.
    pub(super) fn find_grant_lack(
        &self,
        namespace: &Namespace,
        covered: &GrantCoverage,
    ) -> Option<Pending> {
        let state = &self.0.state;
        let grant = &covered.grant;
        let Some(name) = tenant_identity::unbound(grant) else {
            return grant_fetcher::find_lack(grant, state);
        };
        let known = state.accounts.get(&namespace.name, name)?;
        let bound = tenant_identity::bind(grant, namespace, known.account.as_deref());
        bound.err().map(|error| Pending {
            is_for_admins: false,
            registry: Some(grant.registry.clone()),
            reason: error.reason(),
            message: error.to_string(),
        })
    }
}
