//! What the watches know: opted-in namespaces, Registries, pull secrets, source Secrets.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use tokio::sync::watch;

use super::account_cache::AccountCache;
use super::lock::lock;
use super::ports::{PullSecret, Version};
use super::secret::{Auths, Digest};
use super::store::{ChangedNames, Store};
use super::{Namespace, PULL_SECRET};
use crate::credential::{SourceSecret, SourceSecrets};
use crate::names::{NamespaceName, ObjectName};
use crate::registry::crd::RegistryStatus;
use crate::registry::{Registries, SpecChanges};

/// So many entries, and so many bytes of their keys, are remembered of a pull secret where none is to be.
const UNWANTED_ENTRIES: usize = 16;
const UNWANTED_KEY_BYTES: usize = 2048;

/// The state in memory. Watches write it, and provisioning after each of its own writes; admission only reads it.
pub struct State {
    /// Opted-in namespaces by name.
    pub namespaces: Store<NamespaceName, Namespace>,
    /// The Secrets [`PULL_SECRET`] by namespace.
    pub pull_secrets: Arc<Store<NamespaceName, Observed>>,
    /// The Registries' own pull secrets, by name; each table by namespace.
    own_secrets: Mutex<HashMap<ObjectName, Arc<Store<NamespaceName, Observed>>>>,
    /// The source Secrets of pullpass' own namespace by name.
    pub sources: Store<ObjectName, SourceSecret>,
    /// The ServiceAccounts whose identities are used.
    pub accounts: AccountCache,
    registries: ArcSwap<Registries>,
    spec_changes: Mutex<Arc<SpecChanges>>,
    /// The uid that the CRD of the Registries had before their last list began.
    registries_crd: Mutex<Option<Arc<str>>>,
    changed: watch::Sender<()>,
    namespaces_shown: watch::Sender<()>,
    unreadable: Arc<AtomicUsize>,
    statuses: Mutex<HashMap<String, RegistryStatus>>,
    generation: Arc<AtomicU64>,
    observations: Arc<AtomicU64>,
    changed_namespaces: Arc<ChangedNames<NamespaceName>>,
}

impl Default for State {
    fn default() -> Self {
        let generation = Arc::new(AtomicU64::new(1));
        let observations = Arc::new(AtomicU64::new(1));
        let changed_namespaces = Arc::default();
        let namespaces = Store::new(Arc::clone(&observations), PartialEq::eq);
        let pull_secrets = Store::new(Arc::clone(&observations), PartialEq::eq);
        Self {
            namespaces: namespaces.with_change_tracking(&changed_namespaces),
            pull_secrets: Arc::new(pull_secrets.with_change_tracking(&changed_namespaces)),
            own_secrets: Mutex::default(),
            sources: Store::new(Arc::clone(&generation), |one, other| {
                one.resource_version == other.resource_version
            }),
            accounts: AccountCache::new(Arc::clone(&generation)),
            registries: ArcSwap::from_pointee(Registries::build([])),
            spec_changes: Mutex::default(),
            registries_crd: Mutex::default(),
            changed: watch::Sender::new(()),
            namespaces_shown: watch::Sender::new(()),
            unreadable: Arc::default(),
            statuses: Mutex::default(),
            generation,
            observations,
            changed_namespaces,
        }
    }
}

impl State {
    /// The Registries as they are now.
    pub fn registries(&self) -> Arc<Registries> {
        self.registries.load_full()
    }

    /// A list of the Registries begins; their CRD has this uid. `None`: it cannot be read, is being deleted or is gone.
    pub fn begin_registries_list(&self, crd: Option<&str>) {
        *lock(&self.registries_crd) = crd.map(Arc::from);
    }

    /// A list shows these Registries, the same as before or not.
    pub fn set_registries(&self, registries: Registries, now: Timestamp) {
        let crd = lock(&self.registries_crd).clone();
        self.change_registries(registries, |changes, registries| {
            changes.note_list(registries, crd, now);
        });
    }

    /// An event of the watch shows that the Registry of this name is another one, or gone: these are there now.
    pub fn apply_registry(&self, name: &str, registries: Registries, now: Timestamp) {
        self.change_registries(registries, |changes, registries| {
            changes.note_event(name, registries, now);
        });
    }

    fn change_registries(
        &self,
        registries: Registries,
        note: impl FnOnce(&mut SpecChanges, &Arc<Registries>),
    ) {
        let registries = Arc::new(registries);
        // First: who sees the Registries finds how they came about.
        note(Arc::make_mut(&mut lock(&self.spec_changes)), &registries);
        self.registries.store(registries);
        self.generation.fetch_add(1, Ordering::AcqRel);
        self.changed.send_replace(());
    }

    /// What admins changed or deleted of the Registries, at least up to what [`State::registries`] answered before.
    pub fn spec_changes(&self) -> Arc<SpecChanges> {
        Arc::clone(&lock(&self.spec_changes))
    }

    /// The kind is served, 2 s after the change of this number, by the CRD of this uid; `None`: it cannot be read.
    pub fn confirm_spec_changes(&self, until: u64, crd: Option<&str>, now: Timestamp) {
        Arc::make_mut(&mut lock(&self.spec_changes)).confirm(until, crd, now);
    }

    /// The kind is being deleted, or gone.
    pub fn lose_kind(&self) {
        Arc::make_mut(&mut lock(&self.spec_changes)).lose_kind();
    }

    /// What went with the kind was taken out, since an admin confirmed it.
    pub fn forget_lost_kind(&self) {
        Arc::make_mut(&mut lock(&self.spec_changes)).forget_lost_kind();
    }

    /// Rings when the Registries change.
    pub fn subscribe_registries(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Wakes the waiters for a namespace: the watch has shown some.
    pub fn announce_namespaces(&self) {
        self.namespaces_shown.send_replace(());
    }

    /// Waits until the watch shows a namespace of this name, which it may never do.
    pub async fn wait_for_namespace(&self, name: &NamespaceName) -> Arc<Namespace> {
        let mut shown = self.namespaces_shown.subscribe();
        loop {
            if let Some(namespace) = self.namespaces.get(name) {
                return namespace;
            }
            // The sender lives as long as this state.
            let _ = shown.changed().await;
        }
    }

    /// The pull secrets of this name, by namespace.
    pub fn pull_secrets_of(&self, name: &ObjectName) -> Arc<Store<NamespaceName, Observed>> {
        if *name == PULL_SECRET {
            return Arc::clone(&self.pull_secrets);
        }
        let mut tables = self.own_secrets();
        if let Some(store) = tables.get(name) {
            return Arc::clone(store);
        }
        let store = Store::new(Arc::clone(&self.observations), PartialEq::eq);
        let store = Arc::new(store.with_change_tracking(&self.changed_namespaces));
        tables.insert(name.clone(), Arc::clone(&store));
        store
    }

    /// Forgets the pull secrets of a Registry that is gone.
    pub fn forget_pull_secrets_of(&self, name: &str) {
        if self.own_secrets().remove(name).is_some() {
            self.observations.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// The names of the pull secrets that are known, and all that is known of them.
    pub fn all_pull_secrets(&self) -> Vec<(ObjectName, Arc<Store<NamespaceName, Observed>>)> {
        let shared = (
            ObjectName::constant(PULL_SECRET),
            Arc::clone(&self.pull_secrets),
        );
        let own = self.own_secrets();
        let own = own.iter();
        let own = own.map(|(name, store)| (name.clone(), Arc::clone(store)));
        std::iter::once(shared).chain(own).collect()
    }

    /// How many Registries cannot be read: nobody knows whom they serve.
    pub fn unreadable(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.unreadable)
    }

    /// Notes what was said of a Registry last, by whichever replica; `None`: nothing yet.
    pub fn record_status(&self, registry: &str, status: Option<RegistryStatus>) {
        let mut statuses = lock(&self.statuses);
        match status {
            Some(status) => statuses.insert(registry.to_owned(), status),
            None => statuses.remove(registry),
        };
    }

    /// What was said of a Registry last.
    pub fn status(&self, registry: &str) -> Option<RegistryStatus> {
        lock(&self.statuses).get(registry).cloned()
    }

    /// Forgets all pull secrets of a namespace: one that comes back under its name has none of them.
    pub fn forget_pull_secrets_in(&self, namespace: &str) {
        self.pull_secrets.delete(namespace, "");
        for store in self.own_secrets().values() {
            store.delete(namespace, "");
        }
    }

    fn own_secrets(
        &self,
    ) -> MutexGuard<'_, HashMap<ObjectName, Arc<Store<NamespaceName, Observed>>>> {
        lock(&self.own_secrets)
    }

    /// A number that grows with every change of anything that concerns more than one namespace: what was worked out at the same number
    /// from the same namespace and pull secret still holds.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// A number that grows with every change of a namespace or pull secret.
    pub fn observations(&self) -> u64 {
        self.observations.load(Ordering::Acquire)
    }

    /// The namespaces that changed, themselves or a pull secret in them, since they were taken last; `None`: many.
    pub fn take_changed_namespaces(&self) -> Option<BTreeSet<NamespaceName>> {
        self.changed_namespaces.take()
    }
}

impl SourceSecrets for State {
    fn source(&self, name: &str) -> Option<Arc<SourceSecret>> {
        self.sources.get(name)
    }
}

/// What is remembered of a namespace's pull secret: enough to compare, no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// The object's state.
    pub version: Version,
    /// Whether it is ours.
    pub ours: bool,
    /// Whether the kubelet can decode all of it.
    pub intact: bool,
    /// The digest of each entry, by `auths` key; empty for a Secret that is not ours.
    pub digests: BTreeMap<String, Digest>,
}

impl Observed {
    /// What to remember of a pull secret.
    pub fn of(secret: &PullSecret) -> Self {
        let auths = Some(secret).filter(|secret| secret.ours);
        let auths = auths.map(Auths::of).unwrap_or_default();
        Self {
            intact: auths.is_intact(),
            digests: auths.digests(),
            ..Self::unread(secret)
        }
    }

    /// What to remember of a pull secret in a namespace that did not opt in. Anybody may have made it: with more than a few entries it
    /// counts as unreadable, until the namespace opts in and it is read again.
    pub fn of_unwanted(secret: &PullSecret) -> Self {
        let observed = Self::of(secret);
        let key_bytes: usize = observed.digests.keys().map(String::len).sum();
        if observed.digests.len() <= UNWANTED_ENTRIES && key_bytes <= UNWANTED_KEY_BYTES {
            return observed;
        }
        Self::unread(secret)
    }

    fn unread(secret: &PullSecret) -> Self {
        Self {
            version: secret.version.clone(),
            ours: secret.ours,
            intact: false,
            digests: BTreeMap::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provision::ports::Version;

    /// A Secret of ours with so many logins under keys of so many bytes.
    fn secret(count: usize, key_bytes: usize) -> PullSecret {
        let key = |number: usize| format!("{number:0key_bytes$}");
        let logins: Vec<_> = (0..count)
            .map(|number| format!(r#""{}":{{"auth":"YTpi"}}"#, key(number)))
            .collect();
        let config = format!(r#"{{"auths":{{{}}}}}"#, logins.join(","));
        PullSecret {
            version: Version::default(),
            ours: true,
            dockerconfigjson: Some(config.into_bytes().into()),
            annotations: BTreeMap::new(),
        }
    }

    #[test]
    fn keeps_few_entries_where_none_are_wanted() {
        let rows = [
            (UNWANTED_ENTRIES, 10, true),
            (UNWANTED_ENTRIES + 1, 10, false),
            (2, UNWANTED_KEY_BYTES / 2, true),
            (2, UNWANTED_KEY_BYTES / 2 + 1, false),
        ];
        for (count, key_bytes, is_kept) in rows {
            let secret = secret(count, key_bytes);
            let wanted = Observed::of(&secret);
            assert!(wanted.intact && wanted.digests.len() == count);
            let unwanted = Observed::of_unwanted(&secret);
            assert!(unwanted.ours);
            assert_eq!(unwanted.intact, is_kept, "{count} of {key_bytes}");
            assert_eq!(unwanted.digests.is_empty(), !is_kept);
        }
    }
}
