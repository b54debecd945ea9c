//! What the watches know: opted-in namespaces, Registries, pull secrets, source Secrets.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::watch;

use super::account_cache::AccountCache;
use super::changes::{Change, ChangeLog};
use super::digest::Digest;
use super::listed_crd::ListedCrd;
use super::login_digests::{LoginDigests, digests_of};
pub use super::observed::Observed;
use super::store::Store;
use super::{Namespace, PULL_SECRET};
use crate::credential::{SourceSecret, SourceSecrets};
use crate::names::{NamespaceName, ObjectName};
use crate::registry::crd::RegistryStatus;
use crate::registry::{Registries, SpecChanges};

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
    source_logins: Arc<LoginDigests>,
    /// The ServiceAccounts whose identities are used.
    pub accounts: AccountCache,
    registries: ArcSwap<Registries>,
    spec_count: AtomicU64,
    spec_changes: Mutex<Arc<SpecChanges>>,
    /// Which CRD the Registries are of.
    pub crd: ListedCrd,
    changed: watch::Sender<()>,
    namespaces_shown: watch::Sender<()>,
    unreadable: Arc<UnreadableCount>,
    statuses: Mutex<HashMap<ObjectName, ShownStatus>>,
    generation: Arc<AtomicU64>,
    changes: Arc<ChangeLog<Change>>,
}

/// How many objects of a kind cannot be read.
#[derive(Debug, Default)]
pub struct UnreadableCount {
    count: AtomicUsize,
    changes: Arc<ChangeLog<Change>>,
}

impl UnreadableCount {
    /// How many.
    pub fn get(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// So many, now that what changed was announced.
    pub fn set(&self, count: usize) {
        if self.count.swap(count, Ordering::AcqRel) != count {
            self.changes.note(Change::Registries);
        }
    }

    /// At least so many.
    pub fn raise(&self, count: usize) {
        if self.count.fetch_max(count, Ordering::AcqRel) < count {
            self.changes.note(Change::Registries);
        }
    }
}

/// The status of a Registry as the watch shows it.
#[derive(Clone, Debug, Default)]
pub struct ShownStatus {
    /// How often it showed the Registry.
    pub count: u64,
    /// The status, if there is one.
    pub status: Option<RegistryStatus>,
}

impl Default for State {
    fn default() -> Self {
        let generation = Arc::new(AtomicU64::new(1));
        let changes: Arc<ChangeLog<Change>> = Arc::default();
        let (log, of_sources) = (Arc::clone(&changes), Arc::clone(&changes));
        let source_logins: Arc<LoginDigests> = Arc::default();
        let logins = Arc::clone(&source_logins);
        let namespaces = Store::new(Arc::default(), PartialEq::eq);
        let sources = Store::new(
            Arc::clone(&generation),
            |one: &SourceSecret, other: &SourceSecret| {
                one.resource_version == other.resource_version
            },
        );
        Self {
            namespaces: namespaces.on_change(move |name: &NamespaceName, _, _| {
                log.note(Change::Namespace(name.clone()));
            }),
            pull_secrets: Arc::new(observed(ObjectName::constant(PULL_SECRET), &changes)),
            own_secrets: Mutex::default(),
            source_logins,
            sources: sources.on_change(move |name: &ObjectName, before, now| {
                logins.replace(digests_of(before), digests_of(now));
                of_sources.note(Change::Source(name.clone()));
            }),
            accounts: AccountCache::new(Arc::clone(&generation), Arc::clone(&changes)),
            registries: ArcSwap::from_pointee(Registries::build([])),
            spec_count: AtomicU64::new(0),
            spec_changes: Mutex::default(),
            crd: ListedCrd::default(),
            changed: watch::Sender::new(()),
            namespaces_shown: watch::Sender::new(()),
            unreadable: Arc::new(UnreadableCount {
                count: AtomicUsize::new(0),
                changes: Arc::clone(&changes),
            }),
            statuses: Mutex::default(),
            generation,
            changes,
        }
    }
}

impl State {
    /// The Registries as they are now.
    pub fn registries(&self) -> Arc<Registries> {
        self.registries.load_full()
    }

    /// A list shows these Registries, the same as before or not. Answers whether they are of a later CRD than those of earlier lists.
    pub fn set_registries(&self, registries: Registries, now: Timestamp) -> bool {
        let crd = self.crd.uid();
        self.change_registries(registries, |changes, registries| {
            changes.note_list(registries, crd, now);
        });
        self.crd.end_list()
    }

    /// An event of the watch shows that the Registry of this name is another one, or gone: these are there now.
    pub fn apply_registry(&self, name: &str, registries: Registries, now: Timestamp) {
        // All that there were have gone: a CRD that was made anew begins so.
        if self.registries().listed().is_empty() {
            self.crd.doubt();
        }
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
        note(Arc::make_mut(&mut self.spec_changes.lock()), &registries);
        self.statuses
            .lock()
            .retain(|name, _| registries.find_listed(name).is_some());
        self.registries.store(registries);
        self.spec_count.fetch_add(1, Ordering::AcqRel);
        self.changes.note(Change::Registries);
        self.changed.send_replace(());
    }

    /// Whether a source Secret has this login, under whatever key.
    pub(super) fn is_in_source(&self, digest: &Digest) -> bool {
        self.source_logins.contains(digest)
    }

    /// What changes here.
    pub fn changes(&self) -> &ChangeLog<Change> {
        &self.changes
    }

    /// What admins changed or deleted of the Registries, at least up to what [`State::registries`] answered before.
    pub fn spec_changes(&self) -> Arc<SpecChanges> {
        Arc::clone(&self.spec_changes.lock())
    }

    /// The kind is served, 2 s after the change of this number, by the CRD of this uid; `None`: it cannot be read.
    pub fn confirm_spec_changes(&self, until: u64, crd: Option<&str>, now: Timestamp) {
        Arc::make_mut(&mut self.spec_changes.lock()).confirm(until, crd, now);
        if crd.is_some_and(|crd| self.crd.uid().as_deref() != Some(crd)) {
            self.crd.doubt();
        }
        self.changes.note(Change::Registries);
    }

    /// The kind is being deleted, or gone.
    pub fn lose_kind(&self) {
        Arc::make_mut(&mut self.spec_changes.lock()).lose_kind();
        self.crd.doubt();
        self.changes.note(Change::Registries);
    }

    /// What went with the kind was taken out, since an admin confirmed it.
    pub fn forget_lost_kind(&self) {
        Arc::make_mut(&mut self.spec_changes.lock()).forget_lost_kind();
        self.changes.note(Change::Registries);
    }

    /// How often the Registries changed.
    pub fn spec_count(&self) -> u64 {
        self.spec_count.load(Ordering::Acquire)
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
        let store = Arc::new(observed(name.clone(), &self.changes));
        tables.insert(name.clone(), Arc::clone(&store));
        store
    }

    /// Forgets the pull secrets of a Registry that is gone.
    pub fn forget_pull_secrets_of(&self, name: &str) {
        let Some(store) = self.own_secrets().remove(name) else {
            return;
        };
        for (namespace, _) in store.entries() {
            store.delete(&namespace, "");
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
    pub fn unreadable(&self) -> Arc<UnreadableCount> {
        Arc::clone(&self.unreadable)
    }

    /// The watch shows the status of a Registry; `None`: it has none.
    pub fn record_status(&self, registry: &ObjectName, status: Option<RegistryStatus>) {
        let mut statuses = self.statuses.lock();
        let known = statuses.entry(registry.clone()).or_default();
        *known = ShownStatus {
            count: known.count + 1,
            status,
        };
        drop(statuses);
        self.changes.note(Change::Status(registry.clone()));
    }

    /// The status that the watch showed last of a Registry.
    pub fn status(&self, registry: &str) -> ShownStatus {
        self.statuses
            .lock()
            .get(registry)
            .cloned()
            .unwrap_or_default()
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
        self.own_secrets.lock()
    }

    /// A number that grows with every change of anything that concerns more than one namespace: what was worked out at the same number
    /// from the same namespace and pull secret still holds.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }
}

/// A table of the pull secrets of this name.
fn observed(
    secret: ObjectName,
    changes: &Arc<ChangeLog<Change>>,
) -> Store<NamespaceName, Observed> {
    let changes = Arc::clone(changes);
    let store = Store::new(Arc::default(), PartialEq::eq);
    store.on_change(move |namespace: &NamespaceName, _, _| {
        changes.note(Change::PullSecret((namespace.clone(), secret.clone())));
    })
}

impl SourceSecrets for State {
    fn source(&self, name: &str) -> Option<Arc<SourceSecret>> {
        self.sources.get(name)
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::*;
    use crate::provision::digest::COMPUTED;

    /// Anybody may have that asked of as many logins as a Secret holds, every second.
    #[test]
    #[allow(clippy::too_many_lines, reason = "one course of events")]
    fn finds_logins_of_sources_without_working_out_any_anew() {
        let state = State::default();
        let docker = |entries: usize| {
            let entry = |number| {
                let auth = STANDARD.encode(format!("robot:docker-{number}"));
                format!(r#""host-{number}.example":{{"auth":"{auth}"}}"#)
            };
            let entries: Vec<String> = (0..entries).map(entry).collect();
            let config = format!(r#"{{"auths":{{{}}}}}"#, entries.join(","));
            let data = [(".dockerconfigjson", config)];
            ("kubernetes.io/dockerconfigjson", data.to_vec())
        };
        let basic = |password: String| {
            let data = [("username", "robot".to_owned()), ("password", password)];
            ("kubernetes.io/basic-auth", data.to_vec())
        };
        let put = |name: &str, version: usize, (type_, data): (&str, Vec<(&str, String)>)| {
            let data = data.into_iter();
            let data = data.map(|(key, text)| (key.to_owned(), text.into_bytes().into()));
            let secret = SourceSecret {
                name: name.parse().unwrap(),
                type_: type_.to_owned(),
                data: data.collect(),
                resource_version: version.to_string(),
            };
            let name = name.parse().unwrap();
            state
                .sources
                .apply_event(&name, &version.to_string(), secret);
        };
        for number in 0..100 {
            put(
                &format!("basic-{number}"),
                1,
                basic(format!("basic-{number}")),
            );
        }
        put("docker", 1, docker(1_000));
        let junk: Vec<Digest> = (0..1_024)
            .map(|number| Digest::of_auth(&format!("junk-{number}")))
            .collect();
        COMPUTED.set(0);
        assert!(!junk.iter().any(|digest| state.is_in_source(digest)));
        assert_eq!(COMPUTED.get(), 0);
        let has = |password: &str| {
            state.is_in_source(&Digest::of_login("robot", &password.to_owned().into()))
        };
        let all = || ["basic-7", "docker-0", "docker-999", "new"].map(has);
        assert_eq!(all(), [true, true, true, false]);
        put("basic-7", 2, basic("new".to_owned()));
        put("docker", 2, docker(1));
        assert_eq!(all(), [false, true, false, true]);
        state.sources.delete("docker", "3");
        assert_eq!(all(), [false, false, false, true]);
    }

    /// Who looked before must look again: what it found may be given by the one that cannot be read now.
    #[test]
    fn notes_that_more_registries_cannot_be_read_once() {
        let state = State::default();
        let unreadable = state.unreadable();
        for (count, noted) in [(1, 1), (1, 1), (2, 2)] {
            unreadable.raise(count);
            assert_eq!(state.changes().count(), noted);
        }
        for (count, noted) in [(2, 2), (0, 3)] {
            unreadable.set(count);
            assert_eq!(state.changes().count(), noted);
        }
    }
}
