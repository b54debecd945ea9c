//! The traits that provisioning needs: of a Kubernetes cluster, and of what mints.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use secrecy::SecretSlice;

use super::Namespace;
use super::changes::ChangeLog;
use super::digest::Digest;
use super::service_account::ServiceAccount;
pub use crate::api_server::{ClusterError, Precondition, Version};
pub use crate::credential::login_check::{
    LoginChecker, LoginId, LoginOutcome, LoginTries, LoginTry, MAX_PATHS, find_tries, summarise,
};
use crate::credential::{Credential, SourceSecret};
pub use crate::credential::{MintError, is_passing_reason};
use crate::names::{NamespaceName, ObjectName};
use crate::registry::SecretFormat;
use crate::registry::source::{MintSource, Tenant};

/// Minted credentials.
#[async_trait]
pub trait Credentials: Send + Sync {
    /// The credential that is stored for `source`, from memory, expired or not.
    fn current(&self, source: &MintSource) -> Option<Arc<Credential>>;

    /// A credential for `source` that is good at `now`: the stored one, or a new one. One past half of its life is answered at once
    /// and renewed beside.
    ///
    /// # Errors
    /// [`MintError`] when there is none and none can be minted.
    async fn mint(
        &self,
        source: &MintSource,
        now: Timestamp,
    ) -> Result<Arc<Credential>, Arc<MintError>>;

    /// A new credential for `source`, unless another replica has stored one that is in the first half of its life.
    ///
    /// # Errors
    /// [`MintError`] when none can be minted; what was there stays.
    async fn renew(
        &self,
        source: &MintSource,
        now: Timestamp,
    ) -> Result<Arc<Credential>, Arc<MintError>>;

    /// Reads live what is stored for `source`, so that [`Credentials::current`] is as new as the store is.
    ///
    /// # Errors
    /// The store cannot be reached or refuses.
    async fn refresh(&self, source: &MintSource) -> Result<(), ClusterError>;

    /// The sources whose stored credentials changed, by [`MintSource::canonical`].
    fn changes(&self) -> &ChangeLog<String>;

    /// Whether a stored credential has this login, whatever its source: then it may be one that pullpass wrote.
    fn is_stored(&self, _: &Digest) -> bool {
        false
    }
}

/// One stored credential, but for what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredCredential {
    /// The name of the Secret that holds it.
    pub name: ObjectName,
    /// The Secret's state.
    pub version: Version,
    /// What it was minted from, in words for people.
    pub source: String,
    /// The ServiceAccount of a tenant that it is minted by, if it is.
    pub tenant: Option<Tenant>,
    /// When the credential ends; `None`: there is none yet.
    pub expires_at: Option<Timestamp>,
    /// Until when a replica has claimed to mint the next one.
    pub claimed_until: Option<Timestamp>,
    /// When the Secret was made.
    pub created_at: Option<Timestamp>,
}

/// The few requests that provisioning makes.
#[async_trait]
pub trait Cluster: Send + Sync {
    /// Reads one Namespace and its resource version live; `None`: there is none.
    ///
    /// # Errors
    /// The API server cannot be reached or refuses.
    async fn fetch_namespace(
        &self,
        name: &NamespaceName,
    ) -> Result<Option<(String, Namespace)>, ClusterError>;

    /// Reads one ServiceAccount live; `None`: there is none.
    ///
    /// # Errors
    /// The API server cannot be reached or refuses.
    async fn fetch_service_account(
        &self,
        namespace: &NamespaceName,
        name: &ObjectName,
    ) -> Result<Option<ServiceAccount>, ClusterError>;

    /// Reads one source Secret of pullpass' own namespace live; `None`: there is none of this name with our label.
    ///
    /// # Errors
    /// The API server cannot be reached or refuses.
    async fn fetch_source(&self, name: &ObjectName) -> Result<Option<SourceSecret>, ClusterError>;

    /// Reads one of a namespace's pull secrets live; `None`: there is none.
    ///
    /// # Errors
    /// The API server cannot be reached or refuses.
    async fn fetch_pull_secret(
        &self,
        namespace: &NamespaceName,
        name: &ObjectName,
    ) -> Result<Option<PullSecret>, ClusterError>;

    /// Writes one of a namespace's pull secrets, if what is there is still what `precondition` says; answers what is there now.
    ///
    /// # Errors
    /// [`ClusterError::Conflict`] when another writer changed it in between: read again, merge again.
    async fn apply_pull_secret(
        &self,
        namespace: &NamespaceName,
        name: &ObjectName,
        content: &PullSecretContent,
        precondition: &Precondition,
    ) -> Result<Version, ClusterError>;

    /// Deletes a pull secret of a namespace, if it is still in this state; one that is gone already counts as deleted.
    ///
    /// # Errors
    /// [`ClusterError::Conflict`] when another writer changed it in between.
    async fn delete_pull_secret(
        &self,
        namespace: &NamespaceName,
        name: &ObjectName,
        version: &Version,
    ) -> Result<(), ClusterError>;

    /// Whether pull secrets of this name may be written, in each namespace.
    ///
    /// # Errors
    /// The API server cannot be reached or refuses.
    async fn may_write_pull_secrets(&self, _: &ObjectName) -> Result<bool, ClusterError> {
        Ok(true)
    }

    /// Asks the API server's discovery what can be done with Registries. `create` is missing while the kind is being deleted:
    /// <https://github.com/kubernetes/kubernetes/blob/v1.36.0/staging/src/k8s.io/apiextensions-apiserver/pkg/apiserver/customresource_discovery_controller.go>
    ///
    /// # Errors
    /// [`ClusterError::NotFound`] when the kind is gone; the API server cannot be reached or refuses.
    async fn fetch_registry_verbs(&self) -> Result<Vec<String>, ClusterError>;

    /// Reads live the uid of the kind's CRD: one that was deleted and made again has another one. `None`: it is being deleted, or gone.
    ///
    /// # Errors
    /// The API server cannot be reached or refuses.
    async fn fetch_registry_crd(&self) -> Result<Option<String>, ClusterError>;

    /// Asks the API server for all Registries that there are now.
    ///
    /// # Errors
    /// The API server cannot be reached or refuses, or does not know the kind.
    async fn list_registries(&self) -> Result<Vec<ListedRegistry>, ClusterError>;
}

/// Which state of a Registry there is, without what it says.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ListedRegistry {
    /// Its name.
    pub name: String,
    /// Its `metadata.uid`.
    pub uid: String,
    /// Its `metadata.generation`.
    pub generation: Option<i64>,
}

/// What is under the keys of a Secret that pullpass writes.
pub type SecretData = BTreeMap<&'static str, Arc<SecretSlice<u8>>>;

/// A pull secret or an export as it was read.
#[derive(Clone)]
pub struct PullSecret {
    /// The state that was read.
    pub version: Version,
    /// Whether it is ours: our label, and a type that one of its name may have.
    pub ours: bool,
    /// In which form it holds logins; `None`: in none that one of its name may have.
    pub format: Option<SecretFormat>,
    /// Its type, which nothing changes.
    pub type_: String,
    /// What is under the keys that pullpass writes.
    pub data: SecretData,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
}

/// What is written into a pull secret or an export.
#[derive(Clone)]
pub struct PullSecretContent {
    /// What decides its type and labels.
    pub format: SecretFormat,
    /// What is under its keys.
    pub data: SecretData,
    /// Annotations for people.
    pub annotations: BTreeMap<String, String>,
}
