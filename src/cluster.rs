//! The Kubernetes API: the only room that holds a client.
//!
//! It implements what the other rooms ask for: [`crate::provision::ports::Cluster`] (a few reads, one compare-and-swap write) and
//! [`crate::credential::CredentialStore`], and keeps [`crate::provision::state::State`] current by watches.

mod api;
mod api_error;
mod apply;
mod certificates;
mod changes;
mod connect;
mod credential_store;
mod events;
mod glance;
mod inspect;
mod lease;
mod list;
mod metadata_list;
mod metrics;
mod minted_credentials;
mod node_lists;
mod node_recorder;
mod objects;
mod owned_secrets;
mod pods;
mod revision;
mod status;
mod token_reviews;
pub(crate) mod tokens;
mod user;
mod watch;
mod watch_throttle;
mod webhooks;

use std::path::Path;
use std::sync::{Arc, OnceLock};

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Client;
use serde_json::{Value, json};

pub use certificates::{CERTIFICATES, CertificateSecret, Certificates};
pub use connect::{ConnectError, Connection, connect};
pub use credential_store::KubeCredentialStore;
pub use events::{EventNote, EventType, Published, reference, reference_pod};
pub use glance::{EventGlance, LeaderGlance, Replicas};
pub use inspect::{DryRunPod, ListedSecrets, WEBHOOK, WebhookTarget};
pub use lease::{CONFIRM_ANNOTATION, LeaseRecord, LeaseSpec};
pub use metrics::Metrics;
pub use minted_credentials::MintedCredentials;
pub use node_lists::ListedReport;
pub use node_recorder::NodeRecorder;
pub use owned_secrets::OwnedSecret;
pub use pods::{ListedPod, PodPage, PodScope};
pub use user::ApiUser;
pub use watch::{Synced, Watches};
pub use webhooks::{WEBHOOKS, WebhookConfig, WebhookConfigs, WebhookKind};

use api::Objects;
use revision::Revision;

use crate::names::NamespaceName;
use crate::provision::ExcludedNamespaces;

/// Who writes, in `metadata.managedFields`.
const FIELD_MANAGER: &str = "pullpass";

/// The label on everything that pullpass writes.
const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "pullpass");

/// The label by which Velero leaves an object out of its backups: what a restore brings back has ended, and only pullpass may write it.
/// <https://velero.io/docs/main/resource-filtering/#veleroioexclude-from-backuptrue>
const NO_BACKUP: (&str, &str) = ("velero.io/exclude-from-backup", "true");

/// The labels of every Secret that pullpass writes. The chart's policies let it write no others.
fn own_labels() -> Value {
    json!({ MANAGED_BY.0: MANAGED_BY.1, NO_BACKUP.0: NO_BACKUP.1 })
}

/// The label selector of what pullpass writes.
fn own_selector() -> String {
    let (label, value) = MANAGED_BY;
    format!("{label}={value}")
}

/// The resource version that means "no object of this name may exist" in a first apply: no live object has it.
///
/// A create by server-side apply can be limited to one name by RBAC, which a POST cannot, and the resource version in its body is
/// compared when there is an object: 201 where there is none, 409 where another writer was first.
const NO_OBJECT: &str = "1";

/// One cluster, seen by pullpass in its own namespace.
#[derive(Clone)]
pub struct Kube {
    client: Client,
    namespace: NamespaceName,
    excluded: Arc<ExcludedNamespaces>,
    correlator: Arc<events::EventCorrelator>,
    metrics: Metrics,
    revision: Revision,
    /// The file of our own token, which says what the API server's audiences are; `None`: there is none, or it is a person's.
    own_token: Option<Arc<Path>>,
    /// Who reports in Events, if that is known.
    instance: Option<Arc<str>>,
    /// What the Lease goes with, once it is known.
    lease_owner: Arc<OnceLock<OwnerReference>>,
}

impl Kube {
    /// The cluster behind `client`; `namespace` is pullpass' own.
    pub fn new(client: Client, namespace: NamespaceName) -> Self {
        let excluded = Arc::new(ExcludedNamespaces::new(namespace.clone(), []));
        Self {
            client,
            namespace,
            excluded,
            correlator: Arc::default(),
            metrics: Metrics::default(),
            revision: Revision::default(),
            own_token: None,
            instance: None,
            lease_owner: Arc::default(),
        }
    }

    /// The same, with the name of the Pod that Events are reported by.
    #[must_use]
    pub fn reporting_as(self, instance: &str) -> Self {
        Self {
            instance: Some(instance.into()),
            ..self
        }
    }

    /// pullpass' own namespace: source Secrets and the credential store live there.
    pub fn namespace(&self) -> &NamespaceName {
        &self.namespace
    }

    /// The namespaces that count as not opted in, whatever their labels say.
    pub fn excluded(&self) -> &Arc<ExcludedNamespaces> {
        &self.excluded
    }

    /// What is counted of all that goes through this and its clones.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    fn own_secrets(&self) -> Objects<'_, Secret> {
        Objects::namespaced(self, &self.namespace)
    }
}
