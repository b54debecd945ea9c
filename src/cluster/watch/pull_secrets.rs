//! The watch on the pull secrets of one name, in all namespaces.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret;
use kube::Resource as _;
use kube::api::Api;
use tokio::sync::watch as signal;

use super::super::api::{check_identity, named};
use super::super::{Kube, objects};
use super::list_watch::Selection;
use super::reflect::{ReflectorSpec, WatchTarget, follow};
use super::stream::WatchStream;
use super::sync::{SyncState, reached};
use crate::names::{NamespaceName, ObjectName};
use crate::provision::state::{Observed, State};

/// The pull secrets of this name of all namespaces: by their name, which is all that our rights allow. Listed once `namespaces` were.
pub(super) async fn watch_secrets(
    kube: Kube,
    name: ObjectName,
    state: Arc<State>,
    target: WatchTarget,
    (mut namespaces, synced): (signal::Receiver<SyncState>, signal::Sender<SyncState>),
) {
    let store = state.pull_secrets_of(&name);
    let api: Api<Secret> = Api::all(kube.client.clone());
    let events = WatchStream::new(&kube, target.what, api, Selection::of_fields(named(&name)));
    let reader = ReflectorSpec {
        target,
        identify: |object: &Secret| {
            let namespace = object.meta().namespace.as_deref();
            check_identity(object, namespace, Some(&name)).map_err(|error| error.to_string())?;
            NamespaceName::parse(namespace.unwrap_or_default()).map_err(|error| error.to_string())
        },
        read: |namespace: &NamespaceName, object| {
            let secret = objects::read_pull_secret(object);
            let is_wanted = state.namespaces.get(namespace).is_some();
            let known = store.get(namespace);
            let known = known.filter(|known| known.version == secret.version);
            Ok(match known {
                Some(known) if known.intact || !is_wanted => Observed::clone(&known),
                _ if is_wanted => Observed::of(&secret),
                _ => Observed::of_unwanted(&secret),
            })
        },
        changed: |_: &str| {},
        unreadable: Arc::default(),
    };
    // What is in a Secret is kept where it is wanted alone.
    reached(&mut namespaces, SyncState::Listed).await;
    follow(events, &store, reader, synced).await;
}
