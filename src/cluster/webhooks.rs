//! The configurations of our own webhooks: whom the API server trusts when it calls them.

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
use crate::provision::ports::{ClusterError, Version};
use crate::provision::store::Store;

/// The name of both. The mutating ones are called before most others: they are in the order of their names.
pub const WEBHOOKS: &str = "00-pullpass";

/// The annotation of a configuration whose `caBundle` is not for pullpass to write, whatever it holds: the installation's certificates
/// are managed elsewhere. A replica of an earlier version, which still makes its own, then leaves it alone.
const EXTERNAL_CA_ANNOTATION: &str = "pullpass.dev/ca-bundle";

/// Which of the two kinds of configuration.
///
/// <https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/>
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WebhookKind {
    /// Those that change Pods.
    Mutating,
    /// Those that validate Registries and check Pods.
    Validating,
}

impl WebhookKind {
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
pub struct WebhookConfig {
    /// Which.
    pub of: WebhookKind,
    /// The state that was read.
    pub version: Version,
    /// Whether the trusted authorities are set by another tool.
    pub is_external: bool,
    /// The name of each and its `caBundle`, PEM, empty where there is none. In the order that they are in: applied in another one, they
    /// would be put into that, and whoever compares them with what was installed would see a difference for ever.
    pub webhooks: Vec<(String, Vec<u8>)>,
}

impl WebhookConfig {
    /// Whether the API server trusts just these authorities, PEM, for each of them, or that is not for us to say.
    pub fn trusts(&self, bundle: &str) -> bool {
        let mut bundles = self.webhooks.iter();
        self.is_external || bundles.all(|(_, trusted)| trusted == bundle.as_bytes())
    }
}

/// Both configurations, as the watches last showed them.
pub struct WebhookConfigs {
    mutating: Store<ObjectName, WebhookConfig>,
    validating: Store<ObjectName, WebhookConfig>,
    pub(super) changed: watch::Sender<()>,
}

impl Default for WebhookConfigs {
    fn default() -> Self {
        let generation: Arc<AtomicU64> = Arc::default();
        let table = || {
            Store::new(Arc::clone(&generation), |one: &WebhookConfig, other| {
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

impl WebhookConfigs {
    /// Those that are there; `None`: the one of webhooks that change Pods is not, or cannot be read.
    pub fn all(&self) -> Option<Vec<Arc<WebhookConfig>>> {
        let mutating = self.mutating.get(WEBHOOKS)?;
        let validating = self.validating.get(WEBHOOKS);
        Some(std::iter::once(mutating).chain(validating).collect())
    }

    /// Those that are not there, or cannot be read: the API server asks pullpass nothing then.
    pub fn missing(&self) -> Vec<WebhookKind> {
        let mut kinds = vec![WebhookKind::Mutating, WebhookKind::Validating];
        kinds.retain(|kind| self.table(*kind).get(WEBHOOKS).is_none());
        kinds
    }

    /// Rings when one of them changed.
    pub fn subscribe(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    pub(super) fn table(&self, kind: WebhookKind) -> &Store<ObjectName, WebhookConfig> {
        match kind {
            WebhookKind::Mutating => &self.mutating,
            WebhookKind::Validating => &self.validating,
        }
    }
}

/// What both kinds of object have in common.
pub(super) trait WebhookConfigObject:
    Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static
{
    const OF: WebhookKind;

    /// The name of each webhook and its `caBundle`, in their order.
    fn bundles(&self) -> Vec<(String, Vec<u8>)>;
}

macro_rules! configured {
    ($kind:ty, $of:expr) => {
        impl WebhookConfigObject for $kind {
            const OF: WebhookKind = $of;

            fn bundles(&self) -> Vec<(String, Vec<u8>)> {
                let webhooks = self.webhooks.iter().flatten();
                webhooks
                    .map(|webhook| (webhook.name.clone(), read_bundle(&webhook.client_config)))
                    .collect()
            }
        }
    };
}

configured!(MutatingWebhookConfiguration, WebhookKind::Mutating);
configured!(ValidatingWebhookConfiguration, WebhookKind::Validating);

fn read_bundle(client: &WebhookClientConfig) -> Vec<u8> {
    let bundle = client.ca_bundle.as_ref();
    bundle.map(|bundle| bundle.0.clone()).unwrap_or_default()
}

pub(super) fn read_configuration<K: WebhookConfigObject>(object: &K) -> WebhookConfig {
    WebhookConfig {
        of: K::OF,
        version: objects::read_version(object.meta()),
        is_external: object
            .annotations()
            .get(EXTERNAL_CA_ANNOTATION)
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
    /// [`ClusterError::Conflict`] when another writer changed it in between.
    pub async fn apply_bundle(
        &self,
        bundle: &str,
        read: &WebhookConfig,
        known: &WebhookConfigs,
    ) -> Result<(), ClusterError> {
        let encoded = STANDARD.encode(bundle);
        let names = read.webhooks.iter();
        let webhooks = names
            .map(|(name, _)| json!({"name": name, "clientConfig": {"caBundle": encoded}}))
            .collect();
        let written = match read.of {
            WebhookKind::Mutating => {
                self.apply_configuration::<MutatingWebhookConfiguration>(webhooks, read)
                    .await?
            }
            WebhookKind::Validating => {
                self.apply_configuration::<ValidatingWebhookConfiguration>(webhooks, read)
                    .await?
            }
        };
        let version = written.version.resource_version.clone();
        known
            .table(read.of)
            .apply_own_write(&ObjectName::constant(WEBHOOKS), &version, written);
        known.changed.send_replace(());
        Ok(())
    }

    async fn apply_configuration<K: WebhookConfigObject>(
        &self,
        webhooks: Vec<Value>,
        read: &WebhookConfig,
    ) -> Result<WebhookConfig, ClusterError> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_webhooks_in_the_order_that_they_are_in() {
        let webhook = |name: &str, bundle: &str| {
            json!({
                "name": name, "admissionReviewVersions": ["v1"], "sideEffects": "None",
                "clientConfig": {"url": "https://127.0.0.1/x", "caBundle": STANDARD.encode(bundle)},
            })
        };
        let object = json!({
            "metadata": {"name": WEBHOOKS},
            "webhooks": [webhook("z.pullpass.dev", "1"), webhook("a.pullpass.dev", "2"), webhook("m.pullpass.dev", "")],
        });
        let object: ValidatingWebhookConfiguration = serde_json::from_value(object).unwrap();
        let read = read_configuration(&object).webhooks;
        let bundles = [
            ("z.pullpass.dev", "1"),
            ("a.pullpass.dev", "2"),
            ("m.pullpass.dev", ""),
        ];
        let expected = bundles.map(|(name, bundle)| (name.to_owned(), bundle.as_bytes().to_vec()));
        assert_eq!(read, expected);
    }
}
