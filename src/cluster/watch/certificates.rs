//! The watch on the certificates that pullpass makes for itself: one Secret, by name.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret;
use tokio::sync::watch as signal;

use super::list_watch::Selection;
use super::reflect::{ReflectorSpec, follow};
use super::stream::WatchStream;
use super::sync::SyncState;
use super::{Kube, Watches};
use crate::cluster::api::{check_identity, named};
use crate::cluster::certificates::{CERTIFICATES, Certificates, read_secret};
use crate::names::ObjectName;

impl Watches {
    /// Keeps `certificates` current, too.
    pub fn add_certificates(&mut self, kube: &Kube, certificates: &Arc<Certificates>) {
        self.add("certificates", |synced| {
            watch_secret(kube.clone(), Arc::clone(certificates), synced)
        });
    }
}

async fn watch_secret(
    kube: Kube,
    certificates: Arc<Certificates>,
    synced: signal::Sender<SyncState>,
) {
    let (own, name) = (kube.namespace().clone(), ObjectName::constant(CERTIFICATES));
    let named = Selection::of_fields(named(&name));
    let events = WatchStream::new(&kube, "certificates", kube.namespaced(&own), named);
    let reader = ReflectorSpec {
        target: "certificates".into(),
        identify: |object: &Secret| {
            let checked = check_identity(object, Some(&own), Some(&name));
            checked
                .map(|()| name.clone())
                .map_err(|error| error.to_string())
        },
        read: |_: &ObjectName, object| Ok(read_secret(object)),
        changed: |_: &str| certificates.changed.send_replace(()),
        unreadable: Arc::default(),
    };
    follow(events, &certificates.secrets, reader, synced).await;
}
