//! Watches on the Registries' own pull secrets: one per name, as long as the Registry is there, or any of its secrets.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{BoxFuture, join_all};
use tokio::sync::watch as signal;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

use super::super::Kube;
use super::pull_secrets::watch_secrets;
use super::reflect::{OWN_SECRETS, WatchTarget};
use crate::names::ObjectName;
use crate::provision::missing_rbac;
use crate::provision::state::State;

/// How often to check whether the secrets of deleted Registries are gone, too.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// For how long they are still watched.
const LINGER: Duration = Duration::from_hours(1);

/// Keeps the Registries' own pull secrets in `state` current. A name that pullpass has no rights to holds up nothing: its Registry's
/// Pods get a warning, and access is tried again now and then.
pub(super) fn watch_own_secrets(
    kube: &Kube,
    state: Arc<State>,
    [namespaces, mut registries]: [signal::Receiver<bool>; 2],
    synced: signal::Sender<bool>,
) -> BoxFuture<'static, ()> {
    let kube = kube.clone();
    async move {
        let mut changes = state.subscribe_registries();
        // The sender lives as long as its watch, which never ends.
        let _ = registries.wait_for(|synced| *synced).await;
        let mut watches = OwnSecretWatches::new(namespaces);
        loop {
            changes.mark_unchanged();
            let began = watches.adjust(&kube, &state);
            if !*synced.borrow() {
                join_all(began.into_iter().map(settled)).await;
                synced.send_replace(true);
            }
            tokio::select! {
                rung = changes.changed() => if rung.is_err() { return },
                () = tokio::time::sleep(CHECK_INTERVAL), if !watches.lingering.is_empty() => {}
                Some(ended) = watches.tasks.join_next() => {
                    // One that was stopped has ended as it should; one that panicked must not go unnoticed.
                    if ended.is_err_and(|error| error.is_panic()) { return }
                }
            }
        }
    }
    .boxed()
}

async fn settled(mut signal: signal::Receiver<bool>) {
    let _ = signal.wait_for(|settled| *settled).await;
}

struct OwnSecretWatches {
    /// Becomes true once namespaces were listed.
    namespaces: signal::Receiver<bool>,
    running: BTreeMap<ObjectName, AbortHandle>,
    /// Those whose Registry is gone, and since when: the secrets are still to be removed.
    lingering: BTreeMap<ObjectName, Instant>,
    tasks: JoinSet<()>,
}

impl OwnSecretWatches {
    fn new(namespaces: signal::Receiver<bool>) -> Self {
        Self {
            namespaces,
            running: BTreeMap::new(),
            lingering: BTreeMap::new(),
            tasks: JoinSet::new(),
        }
    }

    /// Starts and stops watches, so that there is one for each Registry with a secret of its own name. Answers how to wait for those
    /// that begin now.
    fn adjust(&mut self, kube: &Kube, state: &Arc<State>) -> Vec<signal::Receiver<bool>> {
        let registries = state.registries();
        let narrow = registries
            .iter()
            .filter(|registry| registry.specificity.is_narrow());
        let wanted: BTreeMap<&ObjectName, &ObjectName> = narrow
            .map(|registry| (&registry.secret, &registry.name))
            .collect();
        let names: BTreeSet<&ObjectName> = wanted.keys().copied().collect();
        let lingering = &mut self.lingering;
        self.running.retain(|name, watch| {
            if names.contains(name) {
                lingering.remove(name);
                return true;
            }
            let failing_since = *lingering.entry(name.clone()).or_insert_with(Instant::now);
            let left = state.pull_secrets_of(name).entries();
            let stays = left.iter().any(|(_, seen)| seen.ours) && failing_since.elapsed() < LINGER;
            if !stays {
                lingering.remove(name);
                watch.abort();
                state.forget_pull_secrets_of(name);
            }
            stays
        });
        let mut began = Vec::new();
        for (secret, registry) in wanted {
            if self.running.contains_key(secret) {
                continue;
            }
            let (sender, receiver) = signal::channel(false);
            let target = WatchTarget {
                what: OWN_SECRETS,
                name: secret.to_string(),
                advice: missing_rbac(registry),
                blocks_readiness: false,
            };
            let signals = (self.namespaces.clone(), sender);
            let watch = watch_secrets(kube, secret, state, target, signals);
            self.running.insert(secret.clone(), self.tasks.spawn(watch));
            began.push(receiver);
        }
        began
    }
}
