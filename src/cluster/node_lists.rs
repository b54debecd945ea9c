//! Which nodes' kubelets asked for a Registry's login: a Secret `pullpass-nodes-<registry>` in pullpass' own namespace for each Registry.
//!
//! Any replica answers kubelets, and the leader is to know of all of them. It holds no secret: it is one because that is what pullpass may
//! write here ([ADR 15](../../docs/adr/0015-delivery.md)).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::Secret;
use kube::api::ListParams;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::apply::swap;
use super::objects::read_version;
use super::{Kube, own_labels, own_selector};
use crate::names::ObjectName;
use crate::provision::node_list::NodeList;
use crate::provision::ports::{ClusterError, Precondition, Version};

pub(super) const NAME_PREFIX: &str = "pullpass-nodes-";

impl Kube {
    /// Reads the nodes of a Registry live, and the state of what holds them; `None`: none asked yet.
    ///
    /// # Errors
    /// The API server cannot be reached or refuses.
    pub async fn fetch_node_list(
        &self,
        registry: &ObjectName,
    ) -> Result<Option<(Version, NodeList)>, ClusterError> {
        let found = self.own_secrets().get(&name_of(registry)).await?;
        Ok(found.map(|secret| (read_version(&secret.metadata), read_list(&secret))))
    }

    /// Writes the nodes of a Registry, if what is there is still what `precondition` says.
    ///
    /// # Errors
    /// [`ClusterError::Conflict`] when another writer changed it in between: read again, merge again.
    pub async fn apply_node_list(
        &self,
        registry: &ObjectName,
        list: &NodeList,
        precondition: &Precondition,
    ) -> Result<(), ClusterError> {
        let data = list.format().into_iter();
        let data: Map<String, Value> = data
            .map(|(day, names)| (day, STANDARD.encode(names).into()))
            .collect();
        let object = json!({"metadata": {"labels": own_labels()}, "type": "Opaque", "data": data});
        let secrets = self.own_secrets();
        swap(&secrets, &name_of(registry), object, precondition)
            .await
            .map(drop)
    }

    /// The Registries of which there are such lists. What they hold is not asked for.
    ///
    /// # Errors
    /// The API server cannot be reached or refuses.
    pub async fn fetch_listed_nodes(&self) -> Result<Vec<ObjectName>, ClusterError> {
        let asked = ListParams::default().labels(&own_selector());
        let path = format!("/api/v1/namespaces/{}/secrets", self.namespace());
        let mut found = Vec::new();
        self.list_metadata(("secrets", &path), asked, |Named { name }| {
            let registry = name.strip_prefix(NAME_PREFIX);
            found.extend(registry.and_then(|name| ObjectName::parse(name).ok()));
        })
        .await?;
        Ok(found)
    }

    /// Deletes the list of a Registry, if there is one.
    ///
    /// # Errors
    /// The API server cannot be reached or refuses; [`ClusterError::Conflict`] when a node was noted in between.
    pub async fn delete_node_list(&self, registry: &ObjectName) -> Result<(), ClusterError> {
        if let Some((version, _)) = self.fetch_node_list(registry).await? {
            let secrets = self.own_secrets();
            secrets.delete(&name_of(registry), &version).await?;
        }
        Ok(())
    }
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

/// Where the nodes of a Registry are. Its name is a DNS label of at most 54 bytes.
fn name_of(registry: &ObjectName) -> ObjectName {
    ObjectName::parse(&format!("{NAME_PREFIX}{registry}")).expect("a Registry's name leaves room")
}

fn read_list(secret: &Secret) -> NodeList {
    let data = secret.data.iter().flatten();
    NodeList::parse(data.map(|(day, names)| (day.as_str(), names.0.as_slice())))
}
