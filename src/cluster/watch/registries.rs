//! Registries, and which CRD they are of.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::FutureExt as _;
use jiff::{SignedDuration, Timestamp};
use kube::Resource as _;
use kube::api::{Api, DynamicObject};
use kube::core::ApiResource;
use tokio::sync::{Notify, watch as signal};
use tokio::time::timeout;

use super::identity::identify;
use super::list_watch::Selection;
use super::reflect::{ReflectorSpec, follow};
use super::stream::WatchStream;
use super::sync::SyncState;
use crate::clock::Backoff;
use crate::cluster::Kube;
use crate::cluster::api::Mismatch;
use crate::names::ObjectName;
use crate::provision::ports::{Cluster as _, ClusterError};
use crate::provision::state::State;
use crate::provision::store::Store;
use crate::registry::{Problem, Registries, Registry};

/// The pauses between attempts to read the CRD. An API server that does not answer that lists nothing either.
const CRD_PAUSES: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(1)];

/// How often the CRD is read while it is in doubt which one the Registries are of.
const CRD_BACKOFF: Backoff = Backoff {
    first: SignedDuration::from_millis(500),
    longest: SignedDuration::from_mins(1),
};

/// Registries. Each is read by itself, so that one that cannot be read does not hide the others.
pub(super) async fn watch_registries(
    kube: Kube,
    state: Arc<State>,
    synced: signal::Sender<SyncState>,
) {
    let resource = ApiResource::erase::<Registry>(&());
    let api: Api<DynamicObject> = Api::all_with(kube.client.clone(), &resource);
    let events = WatchStream::new(&kube, "registries", api, Selection::default());
    let events = events.before_each_list({
        let (kube, state, is_logged) = (kube.clone(), Arc::clone(&state), Arc::default());
        move || read_crd(kube.clone(), Arc::clone(&state), Arc::clone(&is_logged)).boxed()
    });
    let store = Store::new(Arc::default(), is_same);
    let mut told = Vec::new();
    let reader = ReflectorSpec {
        target: "registries".into(),
        identify: |object: &DynamicObject| {
            let kind = object.types.as_ref().map(|types| types.kind.as_str());
            if kind.is_some_and(|kind| kind != "Registry") {
                return Err(Mismatch::Kind("Registry".to_owned()).to_string());
            }
            identify(object, None)
        },
        read: |name: &ObjectName, object: DynamicObject| {
            let mut registry = object
                .try_parse::<Registry>()
                .map_err(|error| error.to_string())?;
            state.record_status(name, registry.status.take());
            Ok(registry)
        },
        changed: |name: &str| {
            let registries = build_registries(&store, &mut told);
            if name.is_empty() {
                if state.set_registries(registries, Timestamp::now()) {
                    tracing::info!("listed Registries of a new CRD");
                }
            } else {
                state.apply_registry(name, registries, Timestamp::now());
            }
        },
        unreadable: state.unreadable(),
    };
    let relist = events.relist();
    tokio::join!(
        follow(events, &store, reader, synced),
        follow_crd(kube, &state, &relist)
    );
}

/// Notes which CRD the Registries are of that are listed next. They are listed all the same where it cannot be read, which is logged once
/// until it can be.
async fn read_crd(kube: Kube, state: Arc<State>, is_logged: Arc<AtomicBool>) {
    let mut pauses = CRD_PAUSES.into_iter();
    let crd = loop {
        match (kube.fetch_registry_crd().await, pauses.next()) {
            (Ok(crd), _) => {
                is_logged.store(false, Ordering::Release);
                break crd;
            }
            (Err(ClusterError::Unreachable { .. }), Some(pause)) => {
                tokio::time::sleep(pause).await;
            }
            (Err(error), _) => {
                if !is_logged.swap(true, Ordering::AcqRel) {
                    tracing::warn!(
                        "cannot read the CRD of Registries: until it can be read, the logins of those that are deleted or changed wait for an admin to confirm their removal, retrying: {error}"
                    );
                }
                break None;
            }
        }
    };
    state.crd.begin_list(crd.as_deref());
}

/// Lists the Registries anew for as long as it is not known that they are of the CRD that there is now.
async fn follow_crd(kube: Kube, state: &State, relist: &Notify) {
    let mut in_doubt = state.crd.subscribe();
    let mut attempts = 0;
    loop {
        // The sender lives as long as the state.
        let _ = in_doubt.wait_for(|in_doubt| *in_doubt).await;
        if let Ok(Some(crd)) = kube.fetch_registry_crd().await
            && state.crd.compare(&crd)
        {
            tracing::info!("CRD of Registries was replaced or could not be read before, relisting");
            relist.notify_one();
        }
        let pause = CRD_BACKOFF.wait(attempts).unsigned_abs();
        attempts += 1;
        // What this attempt itself made of the doubt is no news.
        in_doubt.borrow_and_update();
        let _ = timeout(pause, in_doubt.changed()).await;
        if !*in_doubt.borrow() {
            attempts = 0;
        }
    }
}

/// Whether it is the same object with the same spec.
fn is_same(one: &Registry, other: &Registry) -> bool {
    let (meta, other_meta) = (one.meta(), other.meta());
    one.spec == other.spec && meta.uid == other_meta.uid && meta.generation == other_meta.generation
}

/// Builds the snapshot; logs each rule that is broken once, until it is fixed.
fn build_registries(store: &Store<ObjectName, Registry>, told: &mut Vec<Problem>) -> Registries {
    let objects = store.list();
    let registries = Registries::build(objects.iter().map(|registry| Registry::clone(registry)));
    let problems = registries.problems();
    for problem in problems.iter().filter(|problem| !told.contains(problem)) {
        tracing::warn!(
            registry.name = %problem.registry,
            registry.field = %problem.field,
            "invalid Registry, it serves nothing: {} {}",
            problem.field,
            problem.message
        );
    }
    *told = problems.to_vec();
    tracing::info!(registries.count = objects.len(), "Registries changed");
    registries
}
