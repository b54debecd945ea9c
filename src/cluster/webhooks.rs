//! The configurations of our own webhooks: whom the API server is told to trust when it calls them.

use std::collections::BTreeMap;
use std::fmt::Debug;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration, WebhookClientConfig,
};
use kube::api::{Patch, PatchParams};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::certificates::Certificates;
use super::{FIELD_MANAGER, Kube, failure, objects};
use crate::provision::access::{ClusterError, Version};

/// The name of both. The mutating ones are called before most others: they are in the order of their names.
pub const WEBHOOKS: &str = "00-pullpass";

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

/// What the webhooks of one configuration are told to trust.
#[derive(Clone, Debug)]
pub struct Bundles {
    /// Whose they are.
    pub of: Webhooks,
    /// The state that was read.
    pub version: Version,
    /// The `caBundle` of each, by the webhook's name; empty where there is none.
    pub bundles: BTreeMap<String, Vec<u8>>,
}

impl Bundles {
    /// Whether each of them is told just this, PEM.
    pub fn tell(&self, bundle: &str) -> bool {
        let mut bundles = self.bundles.values();
        bundles.all(|told| told.as_slice() == bundle.as_bytes())
    }
}

/// What both kinds of configuration have in common.
pub(super) trait Configuration:
    Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static
{
    const OF: Webhooks;

    /// Each webhook's name, and how it is called.
    fn clients(&self) -> impl Iterator<Item = (&str, &WebhookClientConfig)>;
}

impl Configuration for MutatingWebhookConfiguration {
    const OF: Webhooks = Webhooks::Mutating;

    fn clients(&self) -> impl Iterator<Item = (&str, &WebhookClientConfig)> {
        let webhooks = self.webhooks.iter().flatten();
        webhooks.map(|webhook| (webhook.name.as_str(), &webhook.client_config))
    }
}

impl Configuration for ValidatingWebhookConfiguration {
    const OF: Webhooks = Webhooks::Validating;

    fn clients(&self) -> impl Iterator<Item = (&str, &WebhookClientConfig)> {
        let webhooks = self.webhooks.iter().flatten();
        webhooks.map(|webhook| (webhook.name.as_str(), &webhook.client_config))
    }
}

pub(super) fn read_bundles<K: Configuration>(configuration: &K) -> Bundles {
    let bundles = configuration.clients().map(|(name, client)| {
        let bundle = client.ca_bundle.as_ref();
        let bundle = bundle.map(|bundle| bundle.0.clone());
        (name.to_owned(), bundle.unwrap_or_default())
    });
    Bundles {
        of: K::OF,
        version: objects::read_version(configuration.meta()),
        bundles: bundles.collect(),
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
        read: &Bundles,
        known: &Certificates,
    ) -> Result<(), ClusterError> {
        let written = match read.of {
            Webhooks::Mutating => {
                self.tell::<MutatingWebhookConfiguration>(bundle, read)
                    .await?
            }
            Webhooks::Validating => {
                self.tell::<ValidatingWebhookConfiguration>(bundle, read)
                    .await?
            }
        };
        let version = written.version.resource_version.clone();
        known.table(read.of).put(WEBHOOKS, &version, written);
        known.changed.send_replace(());
        Ok(())
    }

    async fn tell<K: Configuration>(
        &self,
        bundle: &str,
        read: &Bundles,
    ) -> Result<Bundles, ClusterError> {
        let encoded = STANDARD.encode(bundle);
        let names = read.bundles.keys();
        let webhooks: Vec<Value> = names
            .map(|name| json!({"name": name, "clientConfig": {"caBundle": encoded}}))
            .collect();
        let object = json!({
            "apiVersion": K::api_version(&()),
            "kind": K::kind(&()),
            "metadata": {
                "name": WEBHOOKS,
                "uid": read.version.uid,
                "resourceVersion": read.version.resource_version,
            },
            "webhooks": webhooks,
        });
        let api: Api<K> = Api::all(self.client.clone());
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        let patch = Patch::Apply(object);
        let applied = api.patch(WEBHOOKS, &parameters, &patch);
        let what = format!("{} {WEBHOOKS}", read.of.kind());
        Ok(read_bundles(&failure::request(&what, applied).await?))
    }
}
