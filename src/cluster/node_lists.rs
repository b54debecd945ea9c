//! Which nodes' kubelets asked for a Registry's login, and what came of it: a Secret `pullpass-nodes-<registry>` in pullpass' own namespace
//! for each Registry.
//!
//! Any replica answers kubelets, and the leader is to know of all of them. It holds no secret: it is one because that is what pullpass may
//! write here ([ADR 15](../../docs/adr/0015-delivery.md)). The nodes are its data; what changes sooner is in annotations, so that a list of
//! metadata shows it.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::Secret;
use kube::api::ListParams;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::apply::swap;
use super::credential_store::STORE_LABEL;
use super::objects::read_version;
use super::{Kube, own_labels, own_selector};
use crate::names::ObjectName;
use crate::provision::login_outcomes::LoginOutcomes;
use crate::provision::node_list::NodeList;
use crate::provision::node_report::NodeReport;
use crate::provision::ports::{ClusterError, Precondition, Version};

pub(super) const NAME_PREFIX: &str = "pullpass-nodes-";

/// On the list of nodes: the `metadata.uid` of its Registry.
const REGISTRY_UID_ANNOTATION: &str = "pullpass.dev/registry-uid";

/// On the list of nodes: what came of the last requests, as JSON.
const OUTCOMES_ANNOTATION: &str = "pullpass.dev/login-outcomes";

/// What a list of metadata shows of the nodes of one Registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedReport {
    /// Its `metadata.resourceVersion`: another one with each write.
    pub resource_version: String,
    /// The `metadata.uid` of its Registry.
    pub registry_uid: String,
    /// What came of the last requests.
    pub outcomes: LoginOutcomes,
}

impl Kube {
    /// Reads the nodes of a Registry live, and the state of what holds them; `None`: none asked yet.
    ///
    /// # Errors
    /// The API server cannot be reached or refuses.
    pub async fn fetch_node_report(
        &self,
        registry: &ObjectName,
    ) -> Result<Option<(Version, NodeReport)>, ClusterError> {
        let found = self.own_secrets().get(&name_of(registry)).await?;
        Ok(found.map(|secret| (read_version(&secret.metadata), read_report(&secret))))
    }

    /// Writes the nodes of a Registry, if what is there is still what `precondition` says.
    ///
    /// # Errors
    /// [`ClusterError::Conflict`] when another writer changed it in between: read again, merge again.
    pub async fn apply_node_report(
        &self,
        registry: &ObjectName,
        report: &NodeReport,
        precondition: &Precondition,
    ) -> Result<(), ClusterError> {
        let data = report.nodes.format().into_iter();
        let data: Map<String, Value> = data
            .map(|(day, names)| (day, STANDARD.encode(names).into()))
            .collect();
        let object = json!({
            "metadata": {
                "labels": own_labels(),
                "annotations": {
                    REGISTRY_UID_ANNOTATION: report.registry_uid,
                    OUTCOMES_ANNOTATION: report.outcomes.format(),
                },
            },
            "type": "Opaque",
            "data": data,
        });
        let secrets = self.own_secrets();
        swap(&secrets, &name_of(registry), object, precondition)
            .await
            .map(drop)
    }

    /// What there is of each Registry, but for the nodes: metadata alone, however many nodes there are.
    ///
    /// # Errors
    /// The API server cannot be reached or refuses.
    pub async fn fetch_listed_reports(
        &self,
    ) -> Result<BTreeMap<ObjectName, ListedReport>, ClusterError> {
        // There may be many credentials.
        let selector = format!("{},!{STORE_LABEL}", own_selector());
        let asked = ListParams::default().labels(&selector);
        let path = format!("/api/v1/namespaces/{}/secrets", self.namespace());
        let mut found = BTreeMap::new();
        self.list_metadata(("secrets", &path), asked, |metadata: Metadata| {
            let registry = metadata.name.strip_prefix(NAME_PREFIX);
            let registry = registry.and_then(|name| ObjectName::parse(name).ok());
            found.extend(registry.map(|name| (name, read_listed(metadata))));
        })
        .await?;
        Ok(found)
    }

    /// Deletes the nodes of a Registry, if there are any.
    ///
    /// # Errors
    /// The API server cannot be reached or refuses; [`ClusterError::Conflict`] when a node was noted in between.
    pub async fn delete_node_report(&self, registry: &ObjectName) -> Result<(), ClusterError> {
        if let Some((version, _)) = self.fetch_node_report(registry).await? {
            let secrets = self.own_secrets();
            secrets.delete(&name_of(registry), &version).await?;
        }
        Ok(())
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    name: String,
    resource_version: String,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

/// Where the nodes of a Registry are. Its name is a DNS label of at most 54 bytes.
fn name_of(registry: &ObjectName) -> ObjectName {
    ObjectName::parse(&format!("{NAME_PREFIX}{registry}")).expect("a Registry's name leaves room")
}

fn read_listed(metadata: Metadata) -> ListedReport {
    let (registry_uid, outcomes) = read_annotations(&metadata.annotations);
    ListedReport {
        resource_version: metadata.resource_version,
        registry_uid,
        outcomes,
    }
}

fn read_annotations(annotations: &BTreeMap<String, String>) -> (String, LoginOutcomes) {
    let text = |key: &str| annotations.get(key).map_or("", String::as_str);
    let outcomes = LoginOutcomes::parse(text(OUTCOMES_ANNOTATION));
    (text(REGISTRY_UID_ANNOTATION).to_owned(), outcomes)
}

fn read_report(secret: &Secret) -> NodeReport {
    let none = BTreeMap::new();
    let annotations = secret.metadata.annotations.as_ref().unwrap_or(&none);
    let (registry_uid, outcomes) = read_annotations(annotations);
    let data = secret.data.iter().flatten();
    NodeReport {
        registry_uid,
        nodes: NodeList::parse(data.map(|(day, names)| (day.as_str(), names.0.as_slice()))),
        outcomes,
    }
}
