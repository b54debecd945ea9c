//! Watches that keep the state in memory current, for as long as the process lives.
//!
//! A list or watch that fails, is forbidden or finds the kind gone changes nothing: it is tried again with back-off, and what is
//! known stays. Only a list that ended says what is not there.

mod certificates;
mod identity;
mod list_watch;
mod own_secrets;
mod pull_secrets;
mod reflect;
mod registries;
mod stream;
mod sync;
mod webhooks;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::{Namespace as NamespaceObject, Secret};
use kube::api::Api;
use kube::core::PartialObjectMeta;
use tokio::sync::watch as signal;

use self::identity::identify;
use self::list_watch::Selection;
use self::own_secrets::watch_own_secrets;
use self::pull_secrets::watch_secrets;
use self::reflect::{OWN_SECRETS, ReflectorSpec, follow};
use self::registries::watch_registries;
use self::stream::WatchStream;
pub use self::sync::Synced;
use self::sync::{PULL_SECRETS, SyncState};
use super::credential_store::{STORE_LABEL, StoredSecret};
use super::objects;
use super::{Kube, KubeCredentialStore};
use crate::names::{NamespaceName, ObjectName};
use crate::provision::namespace::INJECT_LABEL;
use crate::provision::state::State;
use crate::provision::{Namespace, PULL_SECRET};

/// All watches of one process.
pub struct Watches {
    tasks: Vec<(&'static str, BoxFuture<'static, ()>)>,
    synced: Synced,
}

impl Watches {
    /// The watches that keep `state` and `store` current. Nothing runs before [`Watches::run`].
    pub fn new(kube: &Kube, state: &Arc<State>, store: &Arc<KubeCredentialStore>) -> Self {
        let mut watches = Self {
            tasks: Vec::new(),
            synced: Synced::default(),
        };
        watches.add("namespaces", |synced| {
            watch_namespaces(kube.clone(), Arc::clone(state), synced)
        });
        watches.add("registries", |synced| {
            watch_registries(kube.clone(), Arc::clone(state), synced)
        });
        let namespaces = watches.synced.receiver("namespaces");
        watches.add(PULL_SECRETS, |synced| {
            let (name, target) = (ObjectName::constant(PULL_SECRET), PULL_SECRETS.into());
            let signals = (namespaces, synced);
            watch_secrets(kube.clone(), name, Arc::clone(state), target, signals)
        });
        let before = ["namespaces", "registries"].map(|what| watches.synced.receiver(what));
        watches.add(OWN_SECRETS, |synced| {
            watch_own_secrets(kube.clone(), Arc::clone(state), before, synced)
        });
        watches.add("source_secrets", |synced| {
            watch_sources(kube.clone(), Arc::clone(state), synced)
        });
        watches.add("credential_store", |synced| {
            watch_store(kube.clone(), Arc::clone(store), synced)
        });
        watches
    }

    /// How far each watch has come.
    pub fn synced(&self) -> Synced {
        self.synced.clone()
    }

    /// Runs all watches. They never end by themselves: when this answers, with the name of the one that ended, the process can no
    /// longer be trusted to be current.
    pub async fn run(self) -> &'static str {
        let mut running = tokio::task::JoinSet::new();
        for (what, task) in self.tasks {
            running.spawn(task.map(move |()| what));
        }
        match running.join_next().await {
            Some(Ok(what)) => what,
            Some(Err(_)) | None => "a watch",
        }
    }

    fn add<W: Future<Output = ()> + Send + 'static>(
        &mut self,
        what: &'static str,
        watch: impl FnOnce(signal::Sender<SyncState>) -> W,
    ) {
        let (sender, receiver) = sync::channel();
        self.tasks.push((what, watch(sender).boxed()));
        self.synced.add(what, receiver);
    }
}

/// What is logged of a namespace that opted in and is excluded.
const EXCLUDED_WARNING: &str = "namespace is opted in and excluded: nothing is injected or written there; take its label pullpass.dev/inject off, or do not exclude it (--exclude-namespaces; kube-* and pullpass' own always are)";

/// What is to be logged of a namespace whose label is not followed; `None`: it is.
fn find_warning(namespace: &Namespace) -> Option<String> {
    let unknown = namespace.find_unknown_inject();
    unknown.or_else(|| namespace.excluded.then(|| EXCLUDED_WARNING.to_owned()))
}

/// Logs a namespace whose label is not followed, once for as long as that is so; with an empty name all of them.
fn warn_of_unheeded(state: &State, name: &str, warned: &mut HashSet<NamespaceName>) {
    let known: Vec<Arc<Namespace>> = if name.is_empty() {
        state.namespaces.list()
    } else {
        state.namespaces.get(name).into_iter().collect()
    };
    let is_unheeded = |name: &NamespaceName| {
        let namespace = state.namespaces.get(name.as_str());
        namespace.is_some_and(|namespace| find_warning(&namespace).is_some())
    };
    warned.retain(is_unheeded);
    for namespace in known {
        if let Some(warning) = find_warning(&namespace)
            && warned.insert(namespace.name.clone())
        {
            tracing::warn!(namespace.name = %namespace.name, "{warning}");
        }
    }
}

/// Namespaces with the opt-in label, metadata alone: also those where its value means nothing, and what is there stays.
async fn watch_namespaces(kube: Kube, state: Arc<State>, synced: signal::Sender<SyncState>) {
    let api: Api<PartialObjectMeta<NamespaceObject>> = Api::all(kube.client.clone());
    let selection = Selection::of_labels(format!("{INJECT_LABEL},{INJECT_LABEL}!=disabled"));
    let events = WatchStream::new(&kube, "namespaces", api, selection);
    let mut warned = HashSet::new();
    // Those that are gone, too, until the next list.
    let mut known = HashMap::new();
    let reader = ReflectorSpec {
        target: "namespaces".into(),
        identify: |object: &PartialObjectMeta<NamespaceObject>| identify(object, None),
        read: |name: &NamespaceName, object: PartialObjectMeta<NamespaceObject>| {
            Ok(objects::read_namespace(
                name.clone(),
                object.metadata,
                &kube.excluded,
            ))
        },
        // A namespace that comes back under the same name has none of the old one's Secrets, whichever watch says so first.
        changed: |name: &str| {
            state.announce_namespaces();
            warn_of_unheeded(&state, name, &mut warned);
            if name.is_empty() {
                let all = state.namespaces.entries().into_iter();
                known = all
                    .map(|(name, namespace)| (name, namespace.uid.clone()))
                    .collect();
            } else if let Some(namespace) = state.namespaces.get(name) {
                let before = known.insert(namespace.name.clone(), namespace.uid.clone());
                if before.is_some_and(|uid| uid != namespace.uid) {
                    state.forget_pull_secrets_in(name);
                }
            }
        },
        unreadable: Arc::default(),
    };
    follow(events, &state.namespaces, reader, synced).await;
}

async fn watch_sources(kube: Kube, state: Arc<State>, synced: signal::Sender<SyncState>) {
    let selection = Selection::of_labels(format!("{}=true", objects::SOURCE_LABEL));
    let own = kube.namespace().clone();
    let events = WatchStream::new(&kube, "source_secrets", kube.namespaced(&own), selection);
    let reader = ReflectorSpec {
        target: "source_secrets".into(),
        identify: |object: &Secret| identify(object, Some(&own)),
        read: |name: &ObjectName, object| Ok(objects::read_source_secret(name.clone(), object)),
        changed: |name: &str| log_source_change(name, state.sources.count()),
        unreadable: Arc::default(),
    };
    follow(events, &state.sources, reader, synced).await;
}

/// After a list no single one is named.
fn log_source_change(name: &str, count: usize) {
    if name.is_empty() {
        tracing::info!(sources.count = count, "listed source Secrets");
    } else {
        tracing::info!(secret.name = name, "source Secret changed");
    }
}

async fn watch_store(
    kube: Kube,
    store: Arc<KubeCredentialStore>,
    synced: signal::Sender<SyncState>,
) {
    let selection = Selection::of_labels(format!("{STORE_LABEL}=true"));
    let own = kube.namespace().clone();
    let events = WatchStream::new(&kube, "credential_store", kube.namespaced(&own), selection);
    let reader = ReflectorSpec {
        target: "credential_store".into(),
        identify: |object: &Secret| identify(object, Some(&own)),
        read: |_: &ObjectName, object| StoredSecret::try_read(&object),
        changed: |_: &str| store.notify(),
        unreadable: Arc::default(),
    };
    follow(events, store.cache(), reader, synced).await;
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::*;

    /// What is logged meanwhile.
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    #[allow(clippy::unwrap_in_result, reason = "a poisoned lock fails the test")]
    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let held = self.0.lock();
            held.map_err(|_| io::ErrorKind::Other)?
                .extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn names_no_source_secret_after_a_list() {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            log_source_change("", 3);
            log_source_change("harbor", 3);
        });
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert!(
            text.contains("listed source Secrets sources.count=3"),
            "{text}"
        );
        assert!(
            text.contains("source Secret changed secret.name=\"harbor\""),
            "{text}"
        );
        assert!(!text.contains("secret.name=\"\""), "{text}");
    }
}
