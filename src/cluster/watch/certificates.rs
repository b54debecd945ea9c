//! The watch on the certificates that pullpass makes for itself: one Secret, by name.

use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt as _;
use tokio::sync::watch as signal;

use super::events::Events;
use super::follow::{Reader, follow};
use super::{Kube, Watches, config};
use crate::cluster::certificates::{CERTIFICATES, Certificates, read_secret};

impl Watches {
    /// Keeps `certificates` current, too.
    pub fn add_certificates(&mut self, kube: &Kube, certificates: &Arc<Certificates>) {
        self.add("certificates", |synced| {
            watch_secret(kube, Arc::clone(certificates), synced)
        });
    }
}

fn watch_secret(
    kube: &Kube,
    certificates: Arc<Certificates>,
    synced: signal::Sender<bool>,
) -> BoxFuture<'static, ()> {
    let named = config().fields(&format!("metadata.name={CERTIFICATES}"));
    let events = Events::new(kube, "certificates", kube.own_secrets(), named);
    async move {
        let reader = Reader {
            manner: "certificates".into(),
            name: |object: &Secret| object.name_any(),
            read: |object| Ok(read_secret(object)),
            changed: |_: &str| certificates.changed.send_replace(()),
            unreadable: Arc::default(),
        };
        follow(events, &certificates.secrets, reader, synced).await;
    }
    .boxed()
}
