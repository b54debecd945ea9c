//! The Secrets that pullpass wrote, found by label and name, and never read: `pullpass purge` takes them away, `pullpass status` shows them.

use std::collections::{BTreeSet, HashMap};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::ListParams;
use serde::Deserialize;

use super::api::Objects;
use super::credential_store::NAME_PREFIX as CREDENTIAL_PREFIX;
use super::node_lists::NAME_PREFIX as NODES_PREFIX;
use super::{Kube, own_selector};
use crate::names::{NamespaceName, ObjectName};
use crate::provision::ports::{ClusterError, Version};
use crate::provision::secret::{COVERS_ANNOTATION, UNTIL_ANNOTATION, find_covering};
use crate::registry::{is_export_name, is_pull_secret_name};

/// A Secret that pullpass wrote.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OwnedSecret {
    /// Where it is.
    pub namespace: NamespaceName,
    /// What it is called.
    pub name: ObjectName,
    /// When it was made.
    pub created: Option<Timestamp>,
    /// When the first of its logins ends, as its annotation says; `None`: none does.
    pub expires: Option<Timestamp>,
    /// The Registries whose logins it holds, as its annotation says.
    pub registries: BTreeSet<String>,
    /// Its `metadata.uid`.
    pub(crate) uid: String,
}

impl OwnedSecret {
    /// What it holds, in a few words.
    pub fn describe(&self) -> &'static str {
        if self.name.starts_with(CREDENTIAL_PREFIX) {
            "minted credential"
        } else if self.name.starts_with(NODES_PREFIX) {
            "list of nodes"
        } else if is_export_name(&self.name) {
            "export"
        } else {
            "pull secret"
        }
    }
}

impl Kube {
    /// The Secrets that pullpass wrote, in a namespace or in all: the pull secrets and exports, and the minted credentials in its own. Their
    /// content is not asked for.
    ///
    /// # Errors
    /// The API server cannot be reached or refuses.
    pub async fn fetch_owned(
        &self,
        namespace: Option<&NamespaceName>,
    ) -> Result<Vec<OwnedSecret>, ClusterError> {
        let asked = ListParams::default().labels(&own_selector());
        let (path, what) = match namespace {
            Some(name) => (
                format!("/api/v1/namespaces/{name}/secrets"),
                format!("secrets in namespace {name}"),
            ),
            None => ("/api/v1/secrets".to_owned(), "secrets".to_owned()),
        };
        let mut written = Vec::new();
        self.list_metadata((&what, &path), asked, |metadata| {
            written.extend(read_owned(metadata));
        })
        .await?;
        written.sort();
        Ok(written)
    }

    /// Deletes one of them, unless another object has its name by now; answers whether it was there.
    ///
    /// # Errors
    /// The API server cannot be reached or refuses.
    pub async fn delete_owned(&self, written: &OwnedSecret) -> Result<bool, ClusterError> {
        let OwnedSecret {
            namespace,
            name,
            uid,
            ..
        } = written;
        let same = Version {
            uid: uid.clone(),
            resource_version: String::new(),
        };
        let secrets = Objects::<Secret>::namespaced(self, namespace);
        match secrets.delete(name, &same).await {
            Err(ClusterError::Conflict { .. }) => Ok(false),
            answer => answer,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    name: String,
    namespace: String,
    uid: String,
    #[serde(default)]
    creation_timestamp: Option<Time>,
    #[serde(default)]
    annotations: HashMap<String, String>,
}

fn read_owned(metadata: Metadata) -> Option<OwnedSecret> {
    let name = ObjectName::parse(&metadata.name).ok()?;
    let namespace = NamespaceName::parse(&metadata.namespace).ok()?;
    // A Secret that another user made could carry the label, too, so the name counts as well.
    let is_its_name = is_pull_secret_name(&name) || is_export_name(&name);
    let annotation = |key: &str| metadata.annotations.get(key).map(String::as_str);
    is_its_name.then(|| OwnedSecret {
        namespace,
        name,
        created: metadata.creation_timestamp.map(|time| time.0),
        expires: annotation(UNTIL_ANNOTATION).and_then(|text| text.parse().ok()),
        registries: annotation(COVERS_ANNOTATION).map_or_else(BTreeSet::new, find_covering),
        uid: metadata.uid,
    })
}
