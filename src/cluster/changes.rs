//! When objects were written last, by what the API server notes of each writer.
//!
//! <https://kubernetes.io/docs/reference/using-api/server-side-apply/#field-management>: an entry of `managedFields` has the time of the
//! last change that its manager made. So what an entry owns was as it is now at that time, and may have been so before.

use std::fmt::Debug;

use jiff::Timestamp;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta};
use kube::Resource;
use kube::api::Api;
use serde::de::DeserializeOwned;

use super::api::{check_identity, list_named};
use super::{Kube, WEBHOOKS, api_error};
use crate::names::{NamespaceName, ObjectName};
use crate::provision::ports::ClusterError;
use crate::registry::Registry;

/// A part of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Its `spec`.
    Spec,
    /// Its `metadata.labels`.
    Labels,
    /// Its `webhooks`.
    Webhooks,
}

impl Part {
    fn is_in(self, entry: &ManagedFieldsEntry) -> bool {
        let Some(fields) = &entry.fields_v1 else {
            return false;
        };
        match self {
            Self::Spec => fields.0.get("f:spec").is_some(),
            Self::Labels => fields.0.pointer("/f:metadata/f:labels").is_some(),
            Self::Webhooks => fields.0.get("f:webhooks").is_some(),
        }
    }
}

/// When one of these parts was written last; `None`: nobody is noted to have written any.
pub(super) fn last_change(managed: &[ManagedFieldsEntry], parts: &[Part]) -> Option<Timestamp> {
    let entries = managed.iter().filter(|entry| {
        let of_object = entry.subresource.as_deref().unwrap_or_default().is_empty();
        of_object && parts.iter().any(|part| part.is_in(entry))
    });
    let times = entries.map(|entry| entry.time.as_ref().map(|time| time.0));
    // One without a time: it may have been a moment ago.
    times.collect::<Option<Vec<_>>>()?.into_iter().max()
}

impl Kube {
    /// When the configuration by which the API server calls our webhook for Pods was written last; `None`: there is none, or that is not
    /// known.
    ///
    /// # Errors
    /// The API server cannot be reached or refuses.
    pub async fn fetch_webhooks_changed(&self) -> Result<Option<Timestamp>, ClusterError> {
        let name = ObjectName::constant(WEBHOOKS);
        let all: Api<MutatingWebhookConfiguration> = Api::all(self.client.clone());
        let found = self.find_metadata("mutatingwebhookconfigurations", all, None, &name);
        Ok(find_change(found.await?, Part::Webhooks))
    }

    /// When a namespace's labels were written last.
    ///
    /// # Errors
    /// As [`Kube::fetch_webhooks_changed`].
    pub async fn fetch_labels_changed(
        &self,
        name: &NamespaceName,
    ) -> Result<Option<Timestamp>, ClusterError> {
        let all: Api<Namespace> = Api::all(self.client.clone());
        let name = name.clone().into();
        let found = self.find_metadata("namespaces", all, None, &name);
        Ok(find_change(found.await?, Part::Labels))
    }

    /// When a Registry's `spec` was written last.
    ///
    /// # Errors
    /// As [`Kube::fetch_webhooks_changed`].
    pub async fn fetch_spec_changed(
        &self,
        registry: &ObjectName,
    ) -> Result<Option<Timestamp>, ClusterError> {
        let all: Api<Registry> = Api::all(self.client.clone());
        let found = self.find_metadata("registries", all, None, registry);
        Ok(find_change(found.await?, Part::Spec))
    }

    /// The `metadata.uid` of the Registry of this name; `None`: there is none.
    ///
    /// # Errors
    /// As [`Kube::fetch_webhooks_changed`].
    pub async fn fetch_registry_uid(
        &self,
        registry: &ObjectName,
    ) -> Result<Option<String>, ClusterError> {
        let all: Api<Registry> = Api::all(self.client.clone());
        let found = self.find_metadata("registries", all, None, registry);
        Ok(found.await?.and_then(|found| found.uid))
    }

    /// When a Secret of this name was created; `None`: there is none.
    ///
    /// # Errors
    /// As [`Kube::fetch_webhooks_changed`].
    pub async fn fetch_secret_created(
        &self,
        namespace: &NamespaceName,
        name: &ObjectName,
    ) -> Result<Option<Timestamp>, ClusterError> {
        let all: Api<Secret> = self.namespaced(namespace);
        let found = self.find_metadata("secrets", all, Some(namespace), name);
        let created = found.await?.and_then(|found| found.creation_timestamp);
        Ok(created.map(|created| created.0))
    }

    /// The metadata of one object.
    async fn find_metadata<K>(
        &self,
        what: &str,
        of: Api<K>,
        namespace: Option<&NamespaceName>,
        name: &ObjectName,
    ) -> Result<Option<ObjectMeta>, ClusterError>
    where
        K: Resource + Clone + DeserializeOwned + Debug,
    {
        let asked = list_named(name);
        let listed = api_error::request(what, of.list_metadata(&asked)).await?;
        let Some(found) = listed.items.into_iter().next() else {
            return Ok(None);
        };
        let namespace = namespace.map(NamespaceName::as_str);
        check_identity(&found, namespace, Some(name))
            .map_err(|mismatch| self.reject(what, &mismatch))?;
        Ok(Some(found.metadata))
    }
}

fn find_change(found: Option<ObjectMeta>, part: Part) -> Option<Timestamp> {
    last_change(&found?.managed_fields.unwrap_or_default(), &[part])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_last_change_of_a_part_and_of_nothing_else() {
        let managed: Vec<ManagedFieldsEntry> = serde_json::from_str(
            r#"[
            {"manager":"a","time":"2026-01-02T03:04:05Z","fieldsV1":{"f:metadata":{"f:labels":{".":{},"f:x":{}}},"f:spec":{"f:images":{}}}},
            {"manager":"b","time":"2026-01-02T03:04:06Z","fieldsV1":{"f:metadata":{"f:annotations":{}}}},
            {"manager":"c","time":"2026-01-02T03:04:07Z","fieldsV1":{"f:spec":{"f:suspend":{}}}},
            {"manager":"d","time":"2026-01-02T03:04:08Z","subresource":"status","fieldsV1":{"f:spec":{}}},
            {"manager":"e","fieldsV1":{"f:webhooks":{}}}]"#,
        )
        .unwrap();
        let at = |seconds: i64| Timestamp::from_second(1_767_323_040 + seconds).ok();
        for (parts, expected) in [
            (&[Part::Labels][..], at(5)),
            (&[Part::Spec], at(7)),
            (&[Part::Spec, Part::Labels], at(7)),
            // It has no time.
            (&[Part::Webhooks], None),
        ] {
            assert_eq!(last_change(&managed, parts), expected, "{parts:?}");
        }
        assert_eq!(last_change(&[], &[Part::Spec]), None);
    }
}
