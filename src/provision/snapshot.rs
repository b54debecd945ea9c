//! What the controller needs of provisioning: a snapshot of all pull secrets, and the means to reconcile one.

mod build;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use jiff::Timestamp;
use tokio::time::Instant;

use super::cache_version::CacheVersion;
use super::decide::{CredentialState, DecisionInput, SecretEntry};
use super::desired::Desired;
use super::entry_state::missing_keys;
use super::grant_coverage::GrantCoverage;
use super::provisioner::{Provisioner, ProvisionerInner};
use super::stale::StaleCheck;
use super::state::Observed;
use super::summary::RegistrySummaries;
use super::{EnsureOutcome, Namespace};
use crate::names::{NamespaceName, ObjectName};
use crate::registry::source::{MintSource, Tenant};

/// The state of every pull secret, and what the indices in the view refer to.
#[derive(Default)]
pub struct Snapshot {
    /// What to decide by.
    pub view: DecisionInput,
    /// The pull secrets, by their place.
    pub secrets: Vec<PullSecretRef>,
    /// What is to be taken out of each pull secret, by its place.
    pub stale: Vec<Vec<String>>,
    /// Whether more may be to be taken out: it was not asked yet whether an admin ordered that.
    pub is_unconfirmed: bool,
    /// The credentials' sources, by their place.
    pub sources: Vec<MintSource>,
    /// Who their credentials' principals are, by their place.
    pub principals: Vec<Option<String>>,
    /// The summary of each Registry.
    pub summaries: RegistrySummaries,
    /// All that opted in.
    pub opted_in: Vec<Arc<Namespace>>,
    /// Those that opted in and are excluded.
    pub excluded: Vec<Arc<Namespace>>,
    source_index: HashMap<MintSource, usize>,
    /// What each pull secret is to hold, by its place.
    covered: Vec<Arc<[GrantCoverage]>>,
    /// The places by the address of what was found there, which is kept so that it stays its own.
    desired_index: HashMap<usize, (Arc<Desired>, Option<usize>)>,
    /// Shared coverage, by its address.
    shared: HashMap<usize, SharedCoverage>,
}

/// Coverage that many pull secrets share.
struct SharedCoverage {
    /// The first of their namespaces.
    namespace: Arc<Namespace>,
    covered: Arc<[GrantCoverage]>,
    entries: Arc<[SecretEntry]>,
    /// In how many.
    count: usize,
}

/// Changes whenever a snapshot would.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ChangeToken {
    version: CacheVersion,
    observations: u64,
    /// How many Registries cannot be read: nothing is removed as long as there are some.
    unreadable: usize,
}

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

/// The names of a namespace and of a pull secret in it.
pub type PullSecretKey = (NamespaceName, ObjectName);

impl PullSecretRef {
    /// What it is called.
    pub fn name(&self) -> PullSecretKey {
        (self.namespace.name.clone(), self.secret.clone())
    }

    /// The unique id of the Secret; `None`: there is none.
    pub fn uid(&self) -> Option<&str> {
        self.observed
            .as_deref()
            .map(|observed| &*observed.version.uid)
    }
}

impl Provisioner {
    /// Numbers that differ whenever something changed that a snapshot shows.
    pub fn change(&self) -> ChangeToken {
        ChangeToken {
            version: CacheVersion::of(&self.0.state, &*self.0.credentials),
            observations: self.0.state.observations(),
            unreadable: self.0.state.unreadable().load(Ordering::Acquire),
        }
    }

    /// A snapshot of every pull secret that exists or should, from memory alone: those of opted-in namespaces that a Registry serves, and
    /// those of ours that belong nowhere.
    pub fn snapshot(&self, now: Timestamp) -> Snapshot {
        let registries = self.0.state.registries();
        let changes = self.0.state.spec_changes();
        let check = StaleCheck::new(&self.0.state, &registries, &changes, now);
        let mut snapshot = Snapshot::default();
        for namespace in self.0.state.namespaces.list() {
            self.add_desired(&mut snapshot, &check, &namespace);
        }
        self.count_shared(&mut snapshot);
        let named = snapshot.secrets.iter().map(PullSecretRef::name).collect();
        self.add_unexpected(&mut snapshot, &check, &named);
        if !Arc::ptr_eq(&registries, &self.0.state.registries()) {
            snapshot.keep_all();
        }
        snapshot
    }

    /// Adds shared coverage to the Registries' summaries. Always in the same order: the first one is reported.
    fn count_shared(&self, snapshot: &mut Snapshot) {
        let mut all: Vec<SharedCoverage> =
            std::mem::take(&mut snapshot.shared).into_values().collect();
        all.sort_by(|one, other| one.namespace.name.cmp(&other.namespace.name));
        for shared in all {
            let find_lack = |covered: &GrantCoverage| self.find_lack(&shared.namespace, covered);
            let (name, entries) = (&shared.namespace.name, &shared.entries);
            let summaries = &mut snapshot.summaries;
            summaries.add((name, shared.count), &shared.covered, entries, find_lack);
        }
    }

    /// The namespaces that changed, themselves or a pull secret in them, since they were taken last; none where they are too many.
    pub fn take_changed(&self) -> BTreeSet<NamespaceName> {
        self.0.state.take_changed_namespaces().unwrap_or_default()
    }

    /// A snapshot of the pull secrets that should be in a few namespaces, and of nothing else.
    pub fn snapshot_namespaces(&self, names: &BTreeSet<NamespaceName>, now: Timestamp) -> Snapshot {
        let registries = self.0.state.registries();
        let changes = self.0.state.spec_changes();
        let check = StaleCheck::new(&self.0.state, &registries, &changes, now);
        let mut snapshot = Snapshot::default();
        let namespaces = &self.0.state.namespaces;
        for namespace in names.iter().filter_map(|name| namespaces.get(name)) {
            self.add_desired(&mut snapshot, &check, &namespace);
        }
        snapshot
    }

    /// Adds the pull secrets that are to be in a namespace.
    fn add_desired(
        &self,
        snapshot: &mut Snapshot,
        check: &StaleCheck<'_>,
        namespace: &Arc<Namespace>,
    ) {
        if namespace.excluded {
            snapshot.excluded.push(Arc::clone(namespace));
        }
        if !namespace.wants_pull_secrets() {
            return;
        }
        snapshot.opted_in.push(Arc::clone(namespace));
        for secret in check.registries.secrets(&namespace.labels) {
            let coverage = self.0.coverage(namespace, secret);
            if coverage.is_foreign() {
                let serving = check.registries.serving(&namespace.labels);
                for registry in serving.iter().filter(|one| one.secret == *secret) {
                    snapshot
                        .summaries
                        .add_foreign(&registry.name, &namespace.name);
                }
                continue;
            }
            if coverage.covered().is_empty() {
                continue;
            }
            let target = PullSecretRef {
                namespace: Arc::clone(namespace),
                secret: secret.clone(),
                observed: coverage.observed().cloned(),
            };
            snapshot.add(target, &coverage, check, self);
        }
    }

    /// Adds the pull secrets of ours where none is to be.
    fn add_unexpected(
        &self,
        snapshot: &mut Snapshot,
        check: &StaleCheck<'_>,
        named: &HashSet<PullSecretKey>,
    ) {
        for (secret, store) in self.0.state.all_pull_secrets() {
            for (name, observed) in store.entries() {
                let key = (name, secret.clone());
                if !observed.ours || named.contains(&key) {
                    continue;
                }
                let known = self.0.state.namespaces.get(&key.0);
                if known
                    .as_ref()
                    .is_some_and(|namespace| namespace.terminating)
                {
                    continue;
                }
                let namespace = known
                    .unwrap_or_else(|| Arc::new(Namespace::new(key.0, BTreeMap::new(), false)));
                let keys: Vec<String> = observed.digests.keys().cloned().collect();
                snapshot.add_stale(
                    PullSecretRef {
                        namespace,
                        secret: key.1,
                        observed: Some(observed),
                    },
                    keys,
                    check,
                );
            }
        }
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
        self.0.accounts.forget(namespace, name).await;
        let accounts = &self.0.state.accounts;
        if let Err(error) = self.0.accounts.follow(accounts, namespace, name).await {
            tracing::debug!("failed to get a ServiceAccount, keeping what is cached: {error}");
        }
    }

    /// A place as it is now; `None`: nothing of what it lacks is there to be written, or it is to be no pull secret any more.
    pub fn find_incomplete(&self, target: &PullSecretRef) -> Option<PullSecretRef> {
        let namespace = self.0.state.namespaces.get(&target.namespace.name)?;
        if !namespace.wants_pull_secrets() {
            return None;
        }
        let coverage = self.0.coverage(&namespace, &target.secret);
        let is_lacking =
            !coverage.is_foreign() && !missing_keys(&coverage, (self.0.clock)()).is_empty();
        is_lacking.then(|| PullSecretRef {
            namespace,
            secret: target.secret.clone(),
            observed: coverage.observed().cloned(),
        })
    }

    /// The resource version of a pull secret as it is known now.
    pub fn version(&self, target: &PullSecretRef) -> Option<String> {
        let store = self.0.state.pull_secrets_of(&target.secret);
        let observed = store.get(&target.namespace.name)?;
        Some(observed.version.resource_version.clone())
    }

    /// The life of the credential that is there for `source`, and its principal.
    fn credential_state(&self, source: &MintSource) -> (CredentialState, Option<String>) {
        let credential = self.0.credentials.current(source);
        let principal = credential.as_ref().map(|one| one.principal.clone());
        let credential_state = CredentialState {
            minted: credential.map(|credential| (credential.minted_at, credential.expires_at)),
            is_minting: false,
            retry_at: None,
            jitter: source.jitter(),
        };
        (credential_state, principal)
    }
}
