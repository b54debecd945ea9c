//! What the controller needs of provisioning: one pull secret as it is and as it is to be, and the means to make it so.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::time::Instant;

use super::changes::{Change, ChangeLog, PullSecretKey};
use super::coverage::SecretCoverage;
use super::decide::{EntryState, Stale};
use super::entry_state::{end, entry_state, missing_keys};
pub use super::entry_view::EntryView;
use super::grant_coverage::GrantCoverage;
use super::provisioner::{Provisioner, ProvisionerInner};
use super::stale::StaleCheck;
use super::state::Observed;
use super::{EnsureOutcome, InjectMode, Namespace, Pending};
use crate::names::{NamespaceName, ObjectName};
use crate::registry::source::Tenant;

/// A pull secret of a namespace.
#[derive(Clone, Debug)]
pub struct PullSecretRef {
    /// The namespace.
    pub namespace: Arc<Namespace>,
    /// The secret's name.
    pub secret: ObjectName,
    /// What is known of it; `None`: there is none.
    pub observed: Option<Arc<Observed>>,
}

impl PullSecretRef {
    /// What it is called.
    pub fn key(&self) -> PullSecretKey {
        (self.namespace.name.clone(), self.secret.clone())
    }

    /// The unique id of the Secret; `None`: there is none.
    pub fn uid(&self) -> Option<&str> {
        self.observed
            .as_deref()
            .map(|observed| &*observed.version.uid)
    }

    /// Whether the Secret is there and ours.
    pub fn is_there(&self) -> bool {
        self.observed.as_ref().is_some_and(|observed| observed.ours)
    }
}

/// One pull secret as it is and as it is to be.
pub enum PullSecretView {
    /// Nothing is there, and nothing is to be, or to be changed.
    Nothing,
    /// A Secret of its name is there that is not ours, where a pull secret is to be: of these Registries.
    Foreign(Vec<ObjectName>),
    /// It is ours, or is to be.
    Ours(SecretView),
}

/// A pull secret that is ours, or is to be.
pub struct SecretView {
    /// Which one.
    pub target: PullSecretRef,
    /// What is to be taken out of it, and why.
    pub stale: Option<StaleEntries>,
    /// Whether more may be to be taken out: it was not asked yet whether an admin ordered that.
    pub is_unconfirmed: bool,
    /// Whether more may be to be taken out once each Registry can be read and breaks no rule.
    pub is_hidden: bool,
    /// When to look at it again, whatever is decided.
    pub requeue_at: Option<Timestamp>,
    /// What is to be in it; `None`: nothing is.
    coverage: Option<Arc<SecretCoverage>>,
}

/// What is in a pull secret and belongs there no more.
#[derive(Clone, Debug)]
pub struct StaleEntries {
    /// The keys.
    pub keys: Vec<String>,
    /// Why they are there no more.
    pub why: Stale,
    /// Whether any of it may be what pullpass wrote, as far as is known: of what was not read, nothing.
    pub is_ours: bool,
}

impl SecretView {
    /// What is to be in it, and what is of that.
    pub fn entries(&self, now: Timestamp) -> impl Iterator<Item = EntryView<'_>> {
        let covered = self.coverage.iter().flat_map(|one| one.covered().iter());
        covered.map(move |covered| EntryView::of(covered, now))
    }

    /// A pull secret into which nothing belongs.
    pub fn unwanted(target: PullSecretRef, stale: impl Into<Option<StaleEntries>>) -> Self {
        Self {
            target,
            stale: stale.into(),
            is_unconfirmed: false,
            is_hidden: false,
            requeue_at: None,
            coverage: None,
        }
    }

    /// Whether a login belongs into it.
    pub fn is_wanted(&self) -> bool {
        self.coverage.is_some()
    }

    /// Whether it holds anything of a Registry, good or not.
    pub fn holds_any_of(&self, registry: &str) -> bool {
        let coverage = self.coverage.as_ref();
        coverage.is_some_and(|coverage| coverage.holds_any_of(registry))
    }

    /// Whether what reads it may have it as a file: it is of a Registry that pushes, or an export.
    pub fn is_mounted(&self) -> bool {
        let coverage = self.coverage.as_ref();
        let mut grants = coverage.into_iter().flat_map(|one| one.group().iter());
        grants.any(|grant| grant.is_mounted())
    }

    /// The hosts for which several logins belong into it.
    pub fn shared_hosts(&self) -> &[String] {
        let coverage = self.coverage.as_ref();
        coverage.map_or(&[], |coverage| coverage.shared_hosts())
    }

    /// Whether it is the very same as another one was.
    pub fn is_same(&self, other: &Self) -> bool {
        match (&self.coverage, &other.coverage) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (one, other) => one.is_none() && other.is_none(),
        }
    }

    /// A number that it shares with all pull secrets into which the same belongs, and with no others, as long as one of them is kept.
    pub fn group(&self) -> Option<usize> {
        let grants = self.coverage.as_ref()?.group();
        Some(Arc::as_ptr(grants).cast::<()>().addr())
    }
}

impl Provisioner {
    /// What changes of namespaces, Registries and Secrets.
    pub fn changes(&self) -> &ChangeLog<Change> {
        self.0.state.changes()
    }

    /// How many Registries cannot be read: nothing is removed as long as there are some.
    pub fn unreadable(&self) -> usize {
        self.0.state.unreadable().get()
    }

    /// The names of all pull secrets that there are, or that are to be.
    pub fn all_keys(&self) -> Vec<PullSecretKey> {
        let registries = self.0.state.registries();
        let mut keys = Vec::new();
        for namespace in self.0.state.namespaces.list() {
            if namespace.wants_pull_secrets() {
                let secrets = registries.secrets(&namespace.labels).into_iter();
                keys.extend(secrets.map(|secret| (namespace.name.clone(), secret.clone())));
            }
        }
        for (secret, store) in self.0.state.all_pull_secrets() {
            let entries = store.entries().into_iter();
            keys.extend(entries.map(|(namespace, _)| (namespace, secret.clone())));
        }
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    /// All namespaces that are known.
    pub fn namespaces(&self) -> Vec<Arc<Namespace>> {
        self.0.state.namespaces.list()
    }

    /// The pull secrets that are to be in a namespace.
    pub fn secrets_of(&self, namespace: &Namespace) -> Vec<PullSecretKey> {
        if !namespace.wants_pull_secrets() {
            return Vec::new();
        }
        let registries = self.0.state.registries();
        let secrets = registries.secrets(&namespace.labels).into_iter();
        secrets
            .map(|secret| (namespace.name.clone(), secret.clone()))
            .collect()
    }

    /// The pull secrets that there are in a namespace, ours or not.
    pub fn secrets_there(&self, namespace: &NamespaceName) -> Vec<PullSecretKey> {
        let all = self.0.state.all_pull_secrets().into_iter();
        let there = all.filter(|(_, store)| store.get(namespace).is_some());
        there
            .map(|(secret, _)| (namespace.clone(), secret))
            .collect()
    }

    /// One pull secret as it is and as it is to be, from memory alone.
    pub fn view(&self, (namespace, secret): &PullSecretKey, now: Timestamp) -> PullSecretView {
        let state = &self.0.state;
        let registries = state.registries();
        let changes = state.spec_changes();
        let check = StaleCheck::new(state, &registries, &changes, now);
        let known = state.namespaces.get(namespace);
        let may_hold = |known: &&Arc<Namespace>| self.0.state.may_hold(known, secret);
        if let Some(known) = known.as_ref().filter(may_hold) {
            let coverage = self.0.coverage(known, secret);
            let serving = || registries.serving(&known.labels).into_iter();
            if coverage.is_foreign() {
                let of_secret = serving().filter(|one| one.has_secret(secret));
                let names: Vec<_> = of_secret.map(|one| one.name.clone()).collect();
                return if names.is_empty() {
                    PullSecretView::Nothing
                } else {
                    PullSecretView::Foreign(names)
                };
            }
            if !coverage.covered().is_empty() {
                let view = self.view_wanted(known, secret, coverage, &check);
                let is_current = Arc::ptr_eq(&registries, &state.registries());
                // The Registries changed meanwhile: what was found to be given no more by some of them says nothing of others.
                return PullSecretView::Ours(if is_current {
                    view
                } else {
                    SecretView {
                        stale: None,
                        is_unconfirmed: true,
                        ..view
                    }
                });
            }
        }
        let observed = state.pull_secrets_of(secret).get(namespace);
        let is_terminating = known.as_ref().is_some_and(|known| known.terminating);
        let Some(observed) = observed.filter(|one| one.ours && !is_terminating) else {
            return PullSecretView::Nothing;
        };
        let known = known
            .unwrap_or_else(|| Arc::new(Namespace::new(namespace.clone(), BTreeMap::new(), false)));
        let target = PullSecretRef {
            namespace: known,
            secret: secret.clone(),
            observed: Some(observed),
        };
        PullSecretView::Ours(self.view_unwanted(target, &check))
    }

    fn view_wanted(
        &self,
        namespace: &Arc<Namespace>,
        secret: &ObjectName,
        coverage: Arc<SecretCoverage>,
        check: &StaleCheck<'_>,
    ) -> SecretView {
        let target = PullSecretRef {
            namespace: Arc::clone(namespace),
            secret: secret.clone(),
            observed: coverage.observed().cloned(),
        };
        let leftovers = check.of_secret(&namespace.labels, secret, &coverage);
        let (is_unconfirmed, is_hidden) = (leftovers.is_unconfirmed, leftovers.is_hidden);
        let (keys, why) = leftovers.into_first();
        let ends = coverage.covered().iter().flat_map(|covered| {
            let until = check.previous_identity_until(covered).into_iter();
            let wait = covered.desired.next_read();
            let read_at = wait.and_then(|wait| check.now.checked_add(wait).ok());
            until.chain(end(covered)).chain(read_at)
        });
        let requeue_at = ends.filter(|until| *until > check.now).min();
        SecretView {
            stale: why.map(|why| self.stale_entries(&target, keys, why)),
            target,
            is_unconfirmed,
            is_hidden,
            requeue_at,
            coverage: Some(coverage),
        }
    }

    /// A pull secret that holds nothing but what belongs there no more.
    fn view_unwanted(&self, target: PullSecretRef, check: &StaleCheck<'_>) -> SecretView {
        let observed = target.observed.iter();
        let keys: Vec<String> = observed
            .flat_map(|observed| observed.digests.keys().cloned())
            .collect();
        let (mut is_unconfirmed, mut is_hidden) = (false, false);
        let (keys, why) = if target.namespace.mode == InjectMode::Off {
            // Nothing of Registries decides this: the namespace does not want it.
            (keys, Some(Stale::Unexplained))
        } else if keys.is_empty() && check.retains_all(&target.namespace.labels, &target.secret) {
            (keys, None)
        } else if keys.is_empty() {
            is_hidden = !check.knows_all;
            (keys, check.knows_all.then_some(Stale::Unexplained))
        } else {
            let leftovers = check.of_keys(&target.namespace.labels, &target.secret, &keys);
            (is_unconfirmed, is_hidden) = (leftovers.is_unconfirmed, leftovers.is_hidden);
            leftovers.into_first()
        };
        let stale = why.map(|why| self.stale_entries(&target, keys, why));
        SecretView {
            is_unconfirmed,
            is_hidden,
            ..SecretView::unwanted(target, stale)
        }
    }

    fn stale_entries(&self, target: &PullSecretRef, keys: Vec<String>, why: Stale) -> StaleEntries {
        // What cannot be read works nowhere: anybody may have put it there, and nothing is lost with it.
        let is_ours = target.observed.as_ref().is_some_and(|observed| {
            let mut logins = keys.iter().filter_map(|key| observed.digests.get(key));
            logins.any(|digest| self.0.may_have_written(digest))
        });
        StaleEntries { keys, why, is_ours }
    }

    /// Why there is nothing to be written for a Registry in a pull secret, where memory knows.
    pub fn find_lack(&self, view: &SecretView, registry: &str, now: Timestamp) -> Option<Pending> {
        let coverage = view.coverage.as_ref()?;
        let mut lacking = coverage.covered().iter().filter(|covered| {
            *covered.grant.registry == *registry
                && entry_state(covered, now) == EntryState::Unavailable
        });
        lacking.find_map(|covered: &GrantCoverage| {
            self.find_grant_lack(&view.target.namespace, covered)
        })
    }

    /// Writes what a pull secret lacks of what is there to be written, and waits for it, not beyond `deadline`.
    pub async fn write_missing(&self, target: &PullSecretRef, deadline: Instant) -> EnsureOutcome {
        let PullSecretRef {
            namespace, secret, ..
        } = target;
        let coverage = self.0.coverage(namespace, secret);
        let keys = missing_keys(&coverage, (self.0.clock)());
        if keys.is_empty() {
            return EnsureOutcome::Covered;
        }
        ProvisionerInner::ensure(&self.0, namespace, secret, &keys, deadline).await
    }

    /// Reads a ServiceAccount again whose identity was refused: it may be gone, or another one by now.
    pub async fn refresh_account(&self, tenant: &Tenant) {
        let (namespace, name) = (&tenant.namespace, &tenant.service_account);
        self.0.accounts.forget(namespace, name);
        let accounts = &self.0.state.accounts;
        if let Err(error) = self.0.accounts.follow(accounts, namespace, name).await {
            tracing::debug!("failed to get a ServiceAccount, keeping what is cached: {error}");
        }
    }

    /// A pull secret as it is now; `None`: nothing of what it lacks is there to be written, or it is to be none any more.
    pub fn find_incomplete(&self, (namespace, secret): &PullSecretKey) -> Option<PullSecretRef> {
        let namespace = self.0.state.namespaces.get(namespace)?;
        if !self.0.state.may_hold(&namespace, secret) {
            return None;
        }
        let coverage = self.0.coverage(&namespace, secret);
        let is_lacking =
            !coverage.is_foreign() && !missing_keys(&coverage, (self.0.clock)()).is_empty();
        is_lacking.then(|| PullSecretRef {
            namespace,
            secret: secret.clone(),
            observed: coverage.observed().cloned(),
        })
    }

    /// The resource version of a pull secret as it is known now.
    pub fn version(&self, target: &PullSecretRef) -> Option<String> {
        let store = self.0.state.pull_secrets_of(&target.secret);
        let observed = store.get(&target.namespace.name)?;
        Some(observed.version.resource_version.clone())
    }
}
