//! The configurations of our own webhooks: whom the API server trusts when it calls them.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration, WebhookClientConfig,
};
use kube::api::PatchParams;
use kube::{Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::api::Objects;
use super::{FIELD_MANAGER, Kube, objects};
use crate::names::ObjectName;
use crate::provision::access::{ClusterError, Version};
use crate::provision::table::Table;

/// The name of both. The mutating ones are called before most others: they are in the order of their names.
pub const WEBHOOKS: &str = "00-pullpass";

/// The annotation of a configuration whose `caBundle` is not for pullpass to write, whatever it holds: the installation's certificates
/// are somebody else's. A replica of before, which still makes its own, then leaves it alone.
const GIVEN_ANNOTATION: &str = "pullpass.dev/ca-bundle";

/// Which of the two kinds of configuration.
///
/// <https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/>
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Webhooks {
    /// Those that change Pods.
    Mutating,
    /// Those that look at Registries and at what Pods have become.
    Validating,
}

impl Webhooks {
    /// As messages name the kind.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Mutating => "mutatingwebhookconfiguration",
            Self::Validating => "validatingwebhookconfiguration",
        }
    }
}

/// The webhooks of one configuration.
#[derive(Clone, Debug)]
pub struct Configuration {
    /// Which.
    pub of: Webhooks,
    /// The state that was read.
    pub version: Version,
    /// Whether somebody else says which authorities are trusted.
    pub is_given: bool,
    /// The `caBundle` of each, PEM, by its name; empty where there is none.
    pub webhooks: BTreeMap<String, Vec<u8>>,
}

impl Configuration {
    /// Whether the API server trusts just these authorities, PEM, for each of them, or that is not for us to say.
    pub fn trusts(&self, bundle: &str) -> bool {
        let mut bundles = self.webhooks.values();
        self.is_given || bundles.all(|trusted| trusted == bundle.as_bytes())
    }
}

/// Both configurations, as the watches last showed them.
pub struct Configurations {
    mutating: Table<ObjectName, Configuration>,
    validating: Table<ObjectName, Configuration>,
    pub(super) changed: watch::Sender<()>,
}

impl Default for Configurations {
    fn default() -> Self {
        let generation: Arc<AtomicU64> = Arc::default();
        let table = || {
            Table::new(Arc::clone(&generation), |one: &Configuration, other| {
                one.version == other.version
            })
        };
        Self {
            mutating: table(),
            validating: table(),
            changed: watch::Sender::default(),
        }
    }
}

impl Configurations {
    /// Those that are there; `None`: the one of webhooks that change Pods is not, or cannot be read.
    pub fn all(&self) -> Option<Vec<Arc<Configuration>>> {
        let mutating = self.mutating.get(WEBHOOKS)?;
        let validating = self.validating.get(WEBHOOKS);
        Some(std::iter::once(mutating).chain(validating).collect())
    }

    /// Those that are not there, or cannot be read: the API server asks pullpass nothing then.
    pub fn missing(&self) -> Vec<Webhooks> {
        let mut kinds = vec![Webhooks::Mutating, Webhooks::Validating];
        kinds.retain(|kind| self.table(*kind).get(WEBHOOKS).is_none());
        kinds
    }

    /// Rings when one of them changed.
    pub fn follow(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    pub(super) fn table(&self, kind: Webhooks) -> &Table<ObjectName, Configuration> {
        match kind {
            Webhooks::Mutating => &self.mutating,
            Webhooks::Validating => &self.validating,
        }
    }
}

/// What both kinds of object have in common.
pub(super) trait Configured:
    Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static
{
    const OF: Webhooks;

    /// The `caBundle` of each webhook, by its name.
    fn bundles(&self) -> BTreeMap<String, Vec<u8>>;
}

macro_rules! configured {
    ($kind:ty, $of:expr) => {
        impl Configured for $kind {
            const OF: Webhooks = $of;

            fn bundles(&self) -> BTreeMap<String, Vec<u8>> {
                let webhooks = self.webhooks.iter().flatten();
                webhooks
                    .map(|webhook| (webhook.name.clone(), read_bundle(&webhook.client_config)))
                    .collect()
            }
        }
    };
}

configured!(MutatingWebhookConfiguration, Webhooks::Mutating);
configured!(ValidatingWebhookConfiguration, Webhooks::Validating);

fn read_bundle(client: &WebhookClientConfig) -> Vec<u8> {
    let bundle = client.ca_bundle.as_ref();
    bundle.map(|bundle| bundle.0.clone()).unwrap_or_default()
}

pub(super) fn read_configuration<K: Configured>(object: &K) -> Configuration {
    Configuration {
        of: K::OF,
        version: objects::read_version(object.meta()),
        is_given: object
            .annotations()
            .get(GIVEN_ANNOTATION)
            .map(String::as_str)
            == Some("given"),
        webhooks: object.bundles(),
    }
}

impl Kube {
    /// Writes the `caBundle` of each webhook of one configuration, PEM, if they are still what was read. Nothing else of them is
    /// touched, and who wrote a `caBundle` before does not matter: with certificates of our own nobody else knows it.
    ///
    /// # Errors
    /// [`ClusterError::Conflict`] when somebody else wrote in between.
    pub async fn apply_bundle(
        &self,
        bundle: &str,
        read: &Configuration,
        known: &Configurations,
    ) -> Result<(), ClusterError> {
        let encoded = STANDARD.encode(bundle);
        let names = read.webhooks.keys();
        let webhooks = names
            .map(|name| json!({"name": name, "clientConfig": {"caBundle": encoded}}))
            .collect();
        let written = match read.of {
            Webhooks::Mutating => {
                self.apply_configuration::<MutatingWebhookConfiguration>(webhooks, read)
                    .await?
            }
            Webhooks::Validating => {
                self.apply_configuration::<ValidatingWebhookConfiguration>(webhooks, read)
                    .await?
            }
        };
        let version = written.version.resource_version.clone();
        known
            .table(read.of)
            .put(&ObjectName::constant(WEBHOOKS), &version, written);
        known.changed.send_replace(());
        Ok(())
    }

    async fn apply_configuration<K: Configured>(
        &self,
        webhooks: Vec<Value>,
        read: &Configuration,
    ) -> Result<Configuration, ClusterError> {
        let object = json!({
            "metadata": {
                "uid": read.version.uid,
                "resourceVersion": read.version.resource_version,
            },
            "webhooks": webhooks,
        });
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        let configurations = Objects::<K>::cluster_scoped(self);
        let name = ObjectName::constant(WEBHOOKS);
        let applied = configurations.apply(&name, object, &parameters).await?;
        Ok(read_configuration(&applied))
    }
}
