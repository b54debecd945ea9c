//! Watches on the configurations of pullpass' own webhooks: by name, two objects.

use std::sync::Arc;

use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration,
};
use kube::api::Api;
use tokio::sync::watch as signal;

use super::list_watch::Selection;
use super::reflect::{ReflectorSpec, WatchTarget, follow};
use super::stream::WatchStream;
use super::sync::SyncState;
use super::{Kube, Watches};
use crate::cluster::api::{check_identity, named};
use crate::cluster::webhooks::{WEBHOOKS, WebhookConfigObject, WebhookConfigs, read_configuration};
use crate::names::ObjectName;

impl Watches {
    /// Keeps `configurations` current, too.
    pub fn add_webhooks(&mut self, kube: &Kube, configurations: &Arc<WebhookConfigs>) {
        self.add("webhooks", |synced| {
            watch_one::<MutatingWebhookConfiguration>(
                kube.clone(),
                Arc::clone(configurations),
                synced,
            )
        });
        self.add("webhooks", |synced| {
            watch_one::<ValidatingWebhookConfiguration>(
                kube.clone(),
                Arc::clone(configurations),
                synced,
            )
        });
    }
}

/// Without the rights to it everything else works: then another tool must set the caBundle.
async fn watch_one<K: WebhookConfigObject>(
    kube: Kube,
    configurations: Arc<WebhookConfigs>,
    synced: signal::Sender<SyncState>,
) {
    let api: Api<K> = Api::all(kube.client.clone());
    let name = ObjectName::constant(WEBHOOKS);
    let named = Selection::of_fields(named(&name));
    let events = WatchStream::new(&kube, "webhooks", api, named);
    let reader = ReflectorSpec {
        target: WatchTarget {
            what: "webhooks",
            name: WEBHOOKS.to_owned(),
            advice: "bind the ClusterRole pullpass-webhooks, or give --tls-cert and --tls-key"
                .to_owned(),
            blocks_readiness: false,
            is_forbidden: Arc::default(),
        },
        identify: |object: &K| {
            let checked = check_identity(object, None, Some(&name));
            checked
                .map(|()| name.clone())
                .map_err(|error| error.to_string())
        },
        read: |_: &ObjectName, object: K| Ok(read_configuration(&object)),
        changed: |_: &str| configurations.changed.send_replace(()),
        unreadable: Arc::default(),
    };
    follow(events, configurations.table(K::OF), reader, synced).await;
}
