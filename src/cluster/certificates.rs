//! The certificates that pullpass makes for itself: the Secret that holds them.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret;
use secrecy::{SecretSlice, SecretString};
use serde_json::json;
use tokio::sync::watch;

use super::apply::swap;
use super::{Kube, objects, own_labels};
use crate::names::ObjectName;
use crate::plain_text::to_base64;
use crate::provision::ports::{ClusterError, Precondition, Version};
use crate::provision::store::Store;

/// The Secret, in pullpass' own namespace.
pub const CERTIFICATES: &str = "pullpass-certificates";

/// <https://kubernetes.io/docs/concepts/configuration/secret/#tls-secrets>
const TLS_TYPE: &str = "kubernetes.io/tls";

/// The certificates' Secret.
#[derive(Clone)]
pub struct CertificateSecret {
    /// The state that was read.
    pub version: Version,
    /// Its data.
    pub data: BTreeMap<String, SecretSlice<u8>>,
}

/// The Secret, as the watch last showed it.
pub struct Certificates {
    pub(super) secrets: Store<ObjectName, CertificateSecret>,
    pub(super) changed: watch::Sender<()>,
}

impl Default for Certificates {
    fn default() -> Self {
        Self {
            secrets: Store::new(Arc::default(), |one, other| one.version == other.version),
            changed: watch::Sender::default(),
        }
    }
}

impl Certificates {
    /// The Secret; `None`: there is none.
    pub fn secret(&self) -> Option<Arc<CertificateSecret>> {
        self.secrets.get(CERTIFICATES)
    }

    /// Rings when it changed.
    pub fn subscribe(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }
}

impl Kube {
    /// Writes the certificates' Secret, if what is there is still what `precondition` says.
    ///
    /// # Errors
    /// [`ClusterError::Conflict`] when another writer changed it in between.
    pub async fn apply_certificates(
        &self,
        data: &BTreeMap<&'static str, SecretString>,
        precondition: &Precondition,
        known: &Certificates,
    ) -> Result<(), ClusterError> {
        let data: BTreeMap<_, _> = data
            .iter()
            .map(|(key, text)| (key, to_base64(text)))
            .collect();
        let object = json!({
            "metadata": {"labels": own_labels()},
            "type": TLS_TYPE,
            "data": data,
        });
        let name = ObjectName::constant(CERTIFICATES);
        let written = swap(&self.own_secrets(), &name, object, precondition).await?;
        let written = read_secret(written);
        let version = written.version.resource_version.clone();
        known.secrets.apply_own_write(&name, &version, written);
        known.changed.send_replace(());
        Ok(())
    }
}

pub(super) fn read_secret(secret: Secret) -> CertificateSecret {
    let data = secret.data.unwrap_or_default().into_iter();
    CertificateSecret {
        version: objects::read_version(&secret.metadata),
        data: data
            .map(|(key, bytes)| (key, SecretSlice::from(bytes.0)))
            .collect(),
    }
}
