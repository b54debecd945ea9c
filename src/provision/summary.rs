//! A summary of each Registry over all the namespaces that it serves.

use std::collections::{BTreeMap, BTreeSet};

use super::decide::{EntryState, SecretEntry};
use super::grant_coverage::GrantCoverage;
use super::provisioner::Provisioner;
use super::{Namespace, Pending, grant_fetcher, tenant_identity};
use crate::names::ObjectName;

/// How many namespaces that need attention are named.
const NAMED: usize = 100;

/// The summary of one Registry.
#[derive(Clone, Debug, Default)]
pub struct RegistrySummary {
    /// The namespaces it serves.
    pub total: usize,
    /// Those that hold a good login of it.
    pub ready: usize,
    /// The places of its minted credentials in [`super::snapshot::Snapshot::sources`].
    pub credentials: BTreeSet<usize>,
    /// In how many of them a Secret that is not ours has the name of the pull secret.
    pub foreign: usize,
    /// The first of those.
    pub foreign_in: Vec<String>,
    /// Why some namespace lacks a login, where that is not the failed minting of a credential.
    pub lack: Option<Pending>,
    /// The first namespace that lacks a login.
    pub lacking_in: Option<String>,
}

/// The tallies of all Registries that serve any namespace.
#[derive(Clone, Debug, Default)]
pub struct RegistrySummaries(BTreeMap<ObjectName, RegistrySummary>);

#[cfg(test)]
impl FromIterator<(ObjectName, RegistrySummary)> for RegistrySummaries {
    fn from_iter<I: IntoIterator<Item = (ObjectName, RegistrySummary)>>(summaries: I) -> Self {
        Self(summaries.into_iter().collect())
    }
}

impl RegistrySummaries {
    /// A Registry's summary; `None`: it serves no opted-in namespace.
    pub fn get(&self, registry: &str) -> Option<&RegistrySummary> {
        self.0.get(registry)
    }

    fn of(&mut self, registry: &ObjectName) -> &mut RegistrySummary {
        self.0.entry(registry.clone()).or_default()
    }

    /// Counts a namespace in which a Secret that is not ours has the name.
    pub(super) fn add_foreign(&mut self, registry: &ObjectName, namespace: &str) {
        let summary = self.of(registry);
        summary.total += 1;
        summary.foreign += 1;
        if summary.foreign_in.len() < NAMED {
            summary.foreign_in.push(namespace.to_owned());
        }
    }

    /// Counts so many pull secrets, of which the first is in `namespace`, for each Registry that is to be in them; each of `pieces` has
    /// the state of one of `all`.
    pub(super) fn add(
        &mut self,
        (namespace, count): (&str, usize),
        all: &[GrantCoverage],
        entries: &[SecretEntry],
        find_lack: impl Fn(&GrantCoverage) -> Option<Pending>,
    ) {
        let mut good: BTreeMap<&ObjectName, bool> = BTreeMap::new();
        for (covered, entry) in all.iter().zip(entries) {
            let registry = &covered.grant.registry;
            let is_good = matches!(
                entry.entry_state,
                EntryState::Current | EntryState::Previous(_)
            );
            *good.entry(registry).or_insert(true) &= is_good;
            if is_good {
                continue;
            }
            let summary = self.of(registry);
            if entry.entry_state == EntryState::Unavailable && summary.lack.is_none() {
                summary.lack = find_lack(covered);
            }
            if summary.lacking_in.is_none() {
                summary.lacking_in = Some(namespace.to_owned());
            }
        }
        for (registry, is_good) in good {
            let summary = self.of(registry);
            summary.total += count;
            summary.ready += if is_good { count } else { 0 };
        }
    }

    /// Notes that a Registry needs this credential.
    pub(super) fn add_credential(&mut self, registry: &ObjectName, index: usize) {
        self.of(registry).credentials.insert(index);
    }
}

impl Provisioner {
    /// Why there is nothing to be written for a grant, where memory knows.
    pub(super) fn find_lack(
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
            registry: Some(grant.registry.clone()),
            reason: error.reason(),
            message: error.to_string(),
        })
    }
}
