//! The few reads, and the one write into tenants' namespaces.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{
    Namespace as NamespaceObject, Secret, ServiceAccount as AccountObject,
};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DynamicObject, ListParams, PatchParams};
use kube::core::ApiResource;
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::api::Objects;
use super::objects;
use super::{FIELD_MANAGER, Kube, NO_OBJECT, api_error};
use crate::credential::SourceSecret;
use crate::names::{NamespaceName, ObjectName};
use crate::plain_text::to_base64;
use crate::provision::Namespace;
use crate::provision::ports::{
    Cluster, ClusterError, ListedRegistry, Precondition, PullSecret, PullSecretContent, Version,
};
use crate::provision::service_account::ServiceAccount;
use crate::registry::Registry;

/// The CRD of the kind Registry.
const CRD: &str = "registries.pullpass.dev";

/// Registries per page of a list of their names.
const REGISTRIES_PER_PAGE: u32 = 500;

#[async_trait]
impl Cluster for Kube {
    async fn fetch_namespace(
        &self,
        name: &NamespaceName,
    ) -> Result<Option<(String, Namespace)>, ClusterError> {
        // All of it, which is little: the answer to a request for metadata alone does not say of what kind it is.
        let namespaces = Objects::<NamespaceObject>::cluster_scoped(self);
        let Some(object) = namespaces.get(&name.clone().into()).await? else {
            return Ok(None);
        };
        let version = object.metadata.resource_version.clone().unwrap_or_default();
        let namespace = objects::read_namespace(name.clone(), object.metadata, &self.excluded);
        Ok(Some((version, namespace)))
    }

    async fn fetch_service_account(
        &self,
        namespace: &NamespaceName,
        name: &ObjectName,
    ) -> Result<Option<ServiceAccount>, ClusterError> {
        let accounts = Objects::<AccountObject>::namespaced(self, namespace);
        let found = accounts.get(name).await?;
        Ok(found.map(objects::read_service_account))
    }

    async fn fetch_source(&self, name: &ObjectName) -> Result<Option<SourceSecret>, ClusterError> {
        let found = self.own_secrets().get(name).await?;
        Ok(found
            .filter(objects::is_source)
            .map(|secret| objects::read_source_secret(name.clone(), secret)))
    }

    async fn fetch_pull_secret(
        &self,
        namespace: &NamespaceName,
        name: &ObjectName,
    ) -> Result<Option<PullSecret>, ClusterError> {
        let found = Objects::namespaced(self, namespace).get(name).await?;
        Ok(found.map(objects::read_pull_secret))
    }

    async fn apply_pull_secret(
        &self,
        namespace: &NamespaceName,
        name: &ObjectName,
        content: &PullSecretContent,
        precondition: &Precondition,
    ) -> Result<Version, ClusterError> {
        let data = content.data.iter();
        let data: BTreeMap<_, _> = data.map(|(key, text)| (key, to_base64(&**text))).collect();
        let object = json!({
            "metadata": {
                "labels": objects::labels_of(content.format),
                "annotations": content.annotations,
            },
            "type": content.format.secret_type(),
            "data": data,
        });
        let secrets = Objects::<Secret>::namespaced(self, namespace);
        let mut pauses = POLICY_LAG.into_iter();
        loop {
            let answer = swap(&secrets, name, object.clone(), precondition).await;
            self.metrics.count_write(&answer, "Written");
            match (answer, pauses.next()) {
                (Err(error), Some(pause)) if is_denied_by_policy(&error) => {
                    tokio::time::sleep(Duration::from_millis(pause)).await;
                }
                (answer, _) => return Ok(objects::read_version(&answer?.metadata)),
            }
        }
    }

    async fn delete_pull_secret(
        &self,
        namespace: &NamespaceName,
        name: &ObjectName,
        version: &Version,
    ) -> Result<(), ClusterError> {
        let secrets = Objects::<Secret>::namespaced(self, namespace);
        let answer = secrets.delete(name, version).await;
        self.metrics.count_write(&answer, "Deleted");
        answer.map(drop)
    }

    async fn may_write_pull_secrets(&self, name: &ObjectName) -> Result<bool, ClusterError> {
        self.may_write_secrets(name).await
    }

    async fn fetch_registry_verbs(&self) -> Result<Vec<String>, ClusterError> {
        let kind = ApiResource::erase::<Registry>(&());
        let what = "discovery of the kind Registry";
        let asked = self.client.list_api_group_resources(&kind.api_version);
        let listed = api_error::request(what, asked).await?;
        let mut resources = listed.resources.into_iter();
        resources
            .find(|resource| resource.name == kind.plural)
            .map(|resource| resource.verbs)
            .ok_or_else(|| ClusterError::NotFound {
                what: what.to_owned(),
            })
    }

    async fn fetch_registry_crd(&self) -> Result<Option<String>, ClusterError> {
        let crds = Objects::<CustomResourceDefinition>::cluster_scoped(self);
        let crd = crds.get(&ObjectName::constant(CRD)).await?;
        let crd = crd.filter(|crd| crd.metadata.deletion_timestamp.is_none());
        Ok(crd.and_then(|crd| crd.metadata.uid))
    }

    async fn list_registries(&self) -> Result<Vec<ListedRegistry>, ClusterError> {
        let resource = ApiResource::erase::<Registry>(&());
        let api: Api<DynamicObject> = Api::all_with(self.client.clone(), &resource);
        let mut asked = ListParams::default().limit(REGISTRIES_PER_PAGE);
        let mut registries = Vec::new();
        loop {
            let page = api_error::request("registries", api.list_metadata(&asked)).await?;
            registries.extend(page.items.into_iter().map(|one| ListedRegistry {
                name: one.name_any(),
                uid: one.metadata.uid.unwrap_or_default(),
                generation: one.metadata.generation,
            }));
            match page.metadata.continue_ {
                Some(next) if !next.is_empty() => asked = asked.continue_token(&next),
                Some(_) | None => return Ok(registries),
            }
        }
    }
}

/// How many milliseconds to wait before each further try of a write that a policy denied. Policies see namespaces through a watch of
/// the API server's own: for a moment after one has opted in, they still see it as it was.
const POLICY_LAG: [u64; 5] = [50, 100, 200, 400, 800];

/// <https://kubernetes.io/docs/reference/access-authn-authz/validating-admission-policy/>
fn is_denied_by_policy(error: &ClusterError) -> bool {
    matches!(error, ClusterError::Rejected { message, .. } if message.contains("ValidatingAdmissionPolicy"))
}

/// Writes one object by server-side apply, as a compare-and-swap. A first write is not forced: an object that another writer created
/// under this name meanwhile is a conflict.
pub(super) async fn swap<K>(
    objects: &Objects<'_, K>,
    name: &ObjectName,
    object: Value,
    precondition: &Precondition,
) -> Result<K, ClusterError>
where
    K: Resource<DynamicType = ()> + Clone + fmt::Debug + DeserializeOwned,
{
    swap_as(FIELD_MANAGER, objects, name, object, precondition).await
}

/// The same as this field manager: what it writes stays whatever another one leaves out later.
/// <https://kubernetes.io/docs/reference/using-api/server-side-apply/#managers>
pub(super) async fn swap_as<K>(
    manager: &str,
    objects: &Objects<'_, K>,
    name: &ObjectName,
    mut object: Value,
    precondition: &Precondition,
) -> Result<K, ClusterError>
where
    K: Resource<DynamicType = ()> + Clone + fmt::Debug + DeserializeOwned,
{
    let mut parameters = PatchParams::apply(manager);
    match precondition {
        Precondition::Absent => object["metadata"]["resourceVersion"] = NO_OBJECT.into(),
        Precondition::Exactly(version) => {
            parameters = parameters.force();
            object["metadata"]["uid"] = version.uid.as_str().into();
            object["metadata"]["resourceVersion"] = version.resource_version.as_str().into();
        }
    }
    objects.apply(name, object, &parameters).await
}
