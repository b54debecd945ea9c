//! The Secrets that pullpass wrote, found by label and name, and never read: `pullpass purge` takes them away, `pullpass status` shows them.

use std::collections::{BTreeSet, HashMap};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::ListParams;
use serde::Deserialize;

use super::api::Objects;
use super::certificates::CERTIFICATES;
use super::credential_store::STORE_LABEL;
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
    /// What it holds, in a few words.
    pub holds: &'static str,
    /// When it was made.
    pub created: Option<Timestamp>,
    /// When the first of its logins ends, as its annotation says; `None`: none does.
    pub expires: Option<Timestamp>,
    /// The Registries whose logins it holds, as its annotation says.
    pub registries: BTreeSet<String>,
    /// Its `metadata.uid`.
    pub(crate) uid: String,
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
    labels: HashMap<String, String>,
    #[serde(default)]
    annotations: HashMap<String, String>,
}

impl Metadata {
    /// What the Secret holds: its labels and annotations say it first, as the name of a Registry may begin like any of ours.
    fn find_content(&self) -> &'static str {
        if is_export_name(&self.name) {
            "export"
        } else if self.annotations.contains_key(COVERS_ANNOTATION) {
            "pull secret"
        } else if self.labels.contains_key(STORE_LABEL) {
            "minted credential"
        } else if self.name == CERTIFICATES {
            "certificates"
        } else if self.name.starts_with(NODES_PREFIX) {
            "list of nodes"
        } else {
            "pull secret"
        }
    }
}

fn read_owned(metadata: Metadata) -> Option<OwnedSecret> {
    let name = ObjectName::parse(&metadata.name).ok()?;
    let namespace = NamespaceName::parse(&metadata.namespace).ok()?;
    // A Secret that another user made could carry the label, too, so the name counts as well.
    let is_its_name = is_pull_secret_name(&name) || is_export_name(&name);
    let holds = metadata.find_content();
    let annotation = |key: &str| metadata.annotations.get(key).map(String::as_str);
    is_its_name.then(|| OwnedSecret {
        namespace,
        name,
        holds,
        created: metadata.creation_timestamp.map(|time| time.0),
        expires: annotation(UNTIL_ANNOTATION).and_then(|text| text.parse().ok()),
        registries: annotation(COVERS_ANNOTATION).map_or_else(BTreeSet::new, find_covering),
        uid: metadata.uid,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn tells_what_a_secret_holds_whatever_a_registry_is_called() {
        let (none, covers) = (json!({}), json!({COVERS_ANNOTATION: "a: Registry b\n"}));
        let store = json!({STORE_LABEL: "true"});
        for (name, labels, annotations, holds) in [
            ("pullpass", &none, &covers, "pull secret"),
            ("pullpass", &none, &none, "pull secret"),
            ("pullpass-nodes-eu", &none, &covers, "pull secret"),
            ("pullpass-nodes-eu", &none, &none, "list of nodes"),
            ("pullpass-credential-a", &none, &covers, "pull secret"),
            ("pullpass-credential-a", &store, &none, "minted credential"),
            ("pullpass-certificates", &none, &covers, "pull secret"),
            ("pullpass-certificates", &none, &none, "certificates"),
            ("pullpass-nodes-eu.x-ci", &none, &covers, "export"),
        ] {
            let metadata = json!({
                "name": name, "namespace": "team", "uid": "1", "labels": labels, "annotations": annotations,
            });
            let read = read_owned(serde_json::from_value(metadata).unwrap()).unwrap();
            assert_eq!(read.holds, holds, "{name} {labels} {annotations}");
        }
    }
}
