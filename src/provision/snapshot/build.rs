//! Adding pull secrets to a snapshot.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::coverage::SecretCoverage;
use super::super::decide::{EntryState, SecretEntry, SecretState, Stale};
use super::super::entry_state::{end, entry_state};
use super::super::grant_coverage::GrantCoverage;
use super::super::provisioner::Provisioner;
use super::super::stale::StaleCheck;
use super::super::{InjectMode, Namespace};
use super::{PullSecretRef, SharedCoverage, Snapshot};
use crate::names::ObjectName;

impl Snapshot {
    /// The Registries of which a pull secret, by its place, is to be written; whether a login of theirs is missing until then.
    pub fn unwritten(&self, index: usize) -> BTreeMap<&ObjectName, bool> {
        let covered = self
            .covered
            .get(index)
            .into_iter()
            .flat_map(|covered| &**covered);
        let holding = self.view.secrets.get(index).into_iter();
        let entries = holding.flat_map(|holding| &*holding.entries);
        let mut found = BTreeMap::new();
        for (covered, entry) in covered.zip(entries) {
            if matches!(
                entry.entry_state,
                EntryState::Missing | EntryState::Previous(_)
            ) {
                *found.entry(&covered.grant.registry).or_default() |=
                    entry.entry_state == EntryState::Missing;
            }
        }
        found
    }

    /// The Registries changed meanwhile: what was found to be given no more by some of them says nothing of others.
    pub(super) fn keep_all(&mut self) {
        self.stale.fill(Vec::new());
        for holding in &mut self.view.secrets {
            holding.stale = None;
        }
        self.is_unconfirmed = true;
    }

    pub(super) fn add(
        &mut self,
        target: PullSecretRef,
        coverage: &SecretCoverage,
        check: &StaleCheck<'_>,
        provisioner: &Provisioner,
    ) {
        let leftovers = check.of_secret(&target.namespace.labels, &target.secret, coverage);
        self.is_unconfirmed |= leftovers.is_unconfirmed;
        let (keys, stale) = leftovers.into_first();
        self.view.removals.secrets += usize::from(coverage.is_there());
        let entries = self.entries(&target.namespace, coverage, check, provisioner);
        self.covered.push(Arc::clone(coverage.covered()));
        self.view.secrets.push(SecretState {
            entries,
            stale,
            ..SecretState::default()
        });
        self.secrets.push(target);
        self.stale.push(keys);
    }

    /// What a pull secret holds, counted for its Registries.
    fn entries(
        &mut self,
        namespace: &Arc<Namespace>,
        coverage: &SecretCoverage,
        check: &StaleCheck<'_>,
        provisioner: &Provisioner,
    ) -> Arc<[SecretEntry]> {
        let at = coverage
            .shared()
            .map(|covered| (Arc::as_ptr(covered).addr(), covered));
        if let Some((at, _)) = at
            && let Some(shared) = self.shared.get_mut(&at)
        {
            shared.count += 1;
            return Arc::clone(&shared.entries);
        }
        let all = coverage.covered();
        let entries: Arc<[SecretEntry]> = all
            .iter()
            .map(|covered| self.entry(covered, check, provisioner))
            .collect();
        if let Some((at, covered)) = at {
            let shared = SharedCoverage {
                namespace: Arc::clone(namespace),
                covered: Arc::clone(covered),
                entries: Arc::clone(&entries),
                count: 1,
            };
            self.shared.insert(at, shared);
        } else {
            let find_lack = |covered: &GrantCoverage| provisioner.find_lack(namespace, covered);
            self.summaries
                .add((&namespace.name, 1), all, &entries, find_lack);
        }
        entries
    }

    fn entry(
        &mut self,
        covered: &GrantCoverage,
        check: &StaleCheck<'_>,
        provisioner: &Provisioner,
    ) -> SecretEntry {
        let credential = self.credential(covered, provisioner);
        let requeue_at = check
            .previous_identity_until(covered)
            .into_iter()
            .chain(end(covered));
        self.view.requeue_at = requeue_at
            .filter(|until| *until > check.now)
            .chain(self.view.requeue_at)
            .min();
        SecretEntry {
            credential,
            entry_state: entry_state(covered, check.now),
        }
    }

    /// The place of the credential that belongs there, which is noted for its Registry.
    fn credential(&mut self, covered: &GrantCoverage, provisioner: &Provisioner) -> Option<usize> {
        let at = Arc::as_ptr(&covered.desired).addr();
        if let Some((_, index)) = self.desired_index.get(&at) {
            return *index;
        }
        let index = covered.desired.source().map(|source| {
            let known = self.source_index.get(source).copied();
            known.unwrap_or_else(|| {
                let (credential_state, principal) = provisioner.credential_state(source);
                self.view.credentials.push(credential_state);
                self.principals.push(principal);
                self.sources.push(source.clone());
                self.source_index
                    .insert(source.clone(), self.sources.len() - 1);
                self.sources.len() - 1
            })
        });
        if let Some(index) = index {
            self.summaries
                .add_credential(&covered.grant.registry, index);
        }
        self.desired_index
            .insert(at, (Arc::clone(&covered.desired), index));
        index
    }

    /// Adds a pull secret that holds nothing but what belongs there no more.
    pub(super) fn add_stale(
        &mut self,
        target: PullSecretRef,
        keys: Vec<String>,
        check: &StaleCheck<'_>,
    ) {
        self.view.removals.secrets += 1;
        let (keys, why) = if target.namespace.mode == InjectMode::Off {
            // Nothing of Registries decides this: the namespace does not want it.
            (keys, Some(Stale::Unexplained))
        } else if keys.is_empty() {
            (keys, check.knows_all.then_some(Stale::Unexplained))
        } else {
            let leftovers = check.of_keys(&target.namespace.labels, &target.secret, &keys);
            self.is_unconfirmed |= leftovers.is_unconfirmed;
            leftovers.into_first()
        };
        self.covered.push(Arc::default());
        self.view.secrets.push(SecretState {
            stale: why,
            ..SecretState::default()
        });
        self.secrets.push(target);
        self.stale.push(keys);
    }
}
