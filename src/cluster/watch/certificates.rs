//! Watches on the certificates that pullpass makes for itself: by name, three objects in all.

use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration,
};
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt as _;
use kube::api::Api;
use tokio::sync::watch as signal;

use super::events::Events;
use super::follow::{Manner, Reader, follow};
use super::{Kube, Watches, config};
use crate::cluster::certificates::{CERTIFICATES, Certificates, read_secret};
use crate::cluster::webhooks::{Configuration, WEBHOOKS, read_bundles};

impl Watches {
    /// Keeps `certificates` current, too.
    pub fn add_certificates(&mut self, kube: &Kube, certificates: &Arc<Certificates>) {
        self.add("certificates", |synced| {
            watch_secret(kube, Arc::clone(certificates), synced)
        });
        self.add("webhooks", |synced| {
            let certificates = Arc::clone(certificates);
            watch_webhooks::<MutatingWebhookConfiguration>(kube, certificates, synced)
        });
        self.add("webhooks", |synced| {
            let certificates = Arc::clone(certificates);
            watch_webhooks::<ValidatingWebhookConfiguration>(kube, certificates, synced)
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

/// Without the rights to it everything else works: the authority is then told to the API server by somebody else.
fn watch_webhooks<K: Configuration>(
    kube: &Kube,
    certificates: Arc<Certificates>,
    synced: signal::Sender<bool>,
) -> BoxFuture<'static, ()> {
    let api: Api<K> = Api::all(kube.client.clone());
    let named = config().fields(&format!("metadata.name={WEBHOOKS}"));
    let events = Events::new(kube, "webhooks", api, named);
    async move {
        let reader = Reader {
            manner: Manner {
                what: "webhooks",
                name: WEBHOOKS.to_owned(),
                advice: "bind the ClusterRole pullpass-webhooks, or give --tls-cert and --tls-key"
                    .to_owned(),
                waits_for_rights: false,
            },
            name: |object: &K| object.name_any(),
            read: |object: K| Ok(read_bundles(&object)),
            changed: |_: &str| certificates.changed.send_replace(()),
            unreadable: Arc::default(),
        };
        follow(events, certificates.table(K::OF), reader, synced).await;
    }
    .boxed()
}
