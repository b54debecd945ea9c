//! Watches on the Registries' own Secrets: one per name, as long as the Registry is there, or any of its secrets.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch as signal;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

use super::super::Kube;
use super::pull_secrets::watch_secrets;
use super::reflect::WatchTarget;
use super::sync::{self, OWN_SECRETS, SyncState, reached};
use crate::names::ObjectName;
use crate::provision::missing_rbac;
use crate::provision::state::State;
use crate::registry::ValidRegistry;

/// How often to check whether the secrets of deleted Registries are gone, too.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// For how long they are watched still without the rights to them: what is not removed until then stays there.
const LINGER: Duration = Duration::from_hours(1);

/// Keeps the Registries' own pull secrets in `state` current. A name that pullpass has no rights to holds up nothing: its Registry's
/// Pods get a warning, and access is tried again now and then.
pub(super) async fn watch_own_secrets(
    kube: Kube,
    state: Arc<State>,
    [namespaces, mut registries]: [signal::Receiver<SyncState>; 2],
    synced: signal::Sender<SyncState>,
) {
    let mut changes = state.subscribe_registries();
    reached(&mut registries, SyncState::Listed).await;
    let mut watches = OwnSecretWatches::new(namespaces);
    loop {
        changes.mark_unchanged();
        let mut began = watches.adjust(&kube, &state);
        if *synced.borrow() < SyncState::Listed {
            for state in [SyncState::Listing, SyncState::Listed] {
                for watch in &mut began {
                    reached(watch, state).await;
                }
                synced.send_replace(state);
            }
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

/// One watch, and whether it has no rights.
struct OwnSecretWatch {
    task: AbortHandle,
    is_forbidden: Arc<AtomicBool>,
}

struct OwnSecretWatches {
    /// Namespaces are to be listed before.
    namespaces: signal::Receiver<SyncState>,
    running: BTreeMap<ObjectName, OwnSecretWatch>,
    /// Those whose Registry is gone, and since when without the rights to them: the secrets are still to be removed.
    lingering: BTreeMap<ObjectName, Instant>,
    tasks: JoinSet<()>,
}

impl OwnSecretWatches {
    fn new(namespaces: signal::Receiver<SyncState>) -> Self {
        Self {
            namespaces,
            running: BTreeMap::new(),
            lingering: BTreeMap::new(),
            tasks: JoinSet::new(),
        }
    }

    /// Stops the watches whose Registries are gone, once none of their secrets is left, or pullpass had no rights to them for an hour.
    fn stop_unwanted(&mut self, names: &BTreeSet<&ObjectName>, state: &State) {
        let lingering = &mut self.lingering;
        self.running.retain(|name, watch| {
            if names.contains(name) {
                lingering.remove(name);
                return true;
            }
            let failing_since = lingering.entry(name.clone()).or_insert_with(Instant::now);
            if !watch.is_forbidden.load(Ordering::Acquire) {
                // However long an admin takes to confirm their removal.
                *failing_since = Instant::now();
            }
            let all = state.pull_secrets_of(name).entries();
            let left = all.iter().filter(|(_, seen)| seen.ours).count();
            let stays = left > 0 && failing_since.elapsed() < LINGER;
            if !stays {
                if left > 0 {
                    tracing::warn!(
                        secret.name = %name,
                        secrets.left = left,
                        "pull secrets of a deleted Registry stay: pullpass has had no rights to them for an hour -> delete them, or grant the rights and restart pullpass"
                    );
                }
                lingering.remove(name);
                watch.task.abort();
                state.forget_pull_secrets_of(name);
            }
            stays
        });
    }

    /// Starts and stops watches, so that there is one for each Secret of a Registry's own name. Answers how to wait for those
    /// that begin now.
    fn adjust(&mut self, kube: &Kube, state: &Arc<State>) -> Vec<signal::Receiver<SyncState>> {
        let registries = state.registries();
        let names: BTreeSet<&ObjectName> = registries
            .iter()
            .flat_map(ValidRegistry::own_secrets)
            .collect();
        self.stop_unwanted(&names, state);
        let mut began = Vec::new();
        for secret in names {
            if self.running.contains_key(secret) {
                continue;
            }
            let (sender, receiver) = sync::channel();
            let is_forbidden: Arc<AtomicBool> = Arc::default();
            let target = WatchTarget {
                what: OWN_SECRETS,
                name: secret.to_string(),
                advice: missing_rbac(secret),
                blocks_readiness: false,
                is_forbidden: Arc::clone(&is_forbidden),
            };
            let signals = (self.namespaces.clone(), sender);
            let (kube, state) = (kube.clone(), Arc::clone(state));
            let watch = watch_secrets(kube, secret.clone(), state, target, signals);
            let task = self.tasks.spawn(watch);
            let watch = OwnSecretWatch { task, is_forbidden };
            self.running.insert(secret.clone(), watch);
            began.push(receiver);
        }
        began
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::NamespaceName;
    use crate::provision::state::Observed;
    use crate::registry::Registries;

    /// Their removal may wait for an admin for days.
    #[tokio::test(start_paused = true)]
    #[allow(clippy::too_many_lines, reason = "one course of events")]
    async fn watches_secrets_of_a_deleted_registry_until_they_are_gone_or_forbidden_for_an_hour() {
        let service = tower::service_fn(|_: hyper::Request<kube::client::Body>| {
            std::future::pending::<Result<hyper::Response<kube::client::Body>, std::io::Error>>()
        });
        let client = kube::Client::new(service, "pullpass");
        let kube = Kube::new(client, "pullpass".parse().unwrap());
        let state = Arc::new(State::default());
        let narrow = serde_json::json!({
            "apiVersion": "pullpass.dev/v1alpha1", "kind": "Registry", "metadata": {"name": "narrow"},
            "spec": {"images": ["harbor.example"], "namespaceSelector": {}, "serviceAccountNames": ["ci"],
                "static": {"secretRef": {"name": "login"}}},
        });
        let serve = |all: Vec<serde_json::Value>| {
            let all = all
                .into_iter()
                .map(|one| serde_json::from_value(one).unwrap());
            state.set_registries(Registries::build(all), jiff::Timestamp::UNIX_EPOCH);
        };
        let (name, namespace): (ObjectName, NamespaceName) =
            ("pullpass-narrow".parse().unwrap(), "team".parse().unwrap());
        let put = || {
            let observed = Observed {
                version: crate::provision::ports::Version::default(),
                ours: true,
                format: None,
                intact: true,
                digests: BTreeMap::new(),
            };
            let store = state.pull_secrets_of(&name);
            store.apply_event(&namespace, "1", observed);
        };
        let mut watches = OwnSecretWatches::new(sync::channel().1);
        let mut is_watched = async |hours: u64| {
            tokio::time::advance(Duration::from_hours(hours)).await;
            watches.adjust(&kube, &state);
            let watch = watches.running.get(&name);
            watch.map(|watch| Arc::clone(&watch.is_forbidden))
        };
        serve(vec![narrow.clone()]);
        assert!(is_watched(0).await.is_some());
        put();
        serve(Vec::new());
        for hours in [0, 1, 100] {
            assert!(is_watched(hours).await.is_some(), "{hours}");
        }
        let watch = is_watched(1).await.unwrap();
        watch.store(true, Ordering::Release);
        assert!(is_watched(0).await.is_some());
        watch.store(false, Ordering::Release);
        assert!(is_watched(1).await.is_some(), "the rights are there again");
        watch.store(true, Ordering::Release);
        assert!(is_watched(1).await.is_none());
        assert_eq!(state.pull_secrets_of(&name).count(), 0);

        serve(vec![narrow]);
        assert!(is_watched(0).await.is_some());
        serve(Vec::new());
        assert!(is_watched(0).await.is_none(), "nothing is left");
    }
}
