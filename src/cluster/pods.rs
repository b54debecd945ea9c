//! Pods that wait to run: read a page at a time and never kept.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{ListParams, Request};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::{Kube, api_error};
use crate::names::{NamespaceName, ObjectName};
use crate::provision::ports::ClusterError;

/// How many Pods are read at a time.
const PAGE: u32 = 100;

/// What a container waits for whose image cannot be pulled.
/// <https://kubernetes.io/docs/concepts/containers/images/#imagepullbackoff>
const IMAGE_PULL_REASONS: [&str; 2] = ["ErrImagePull", "ImagePullBackOff"];

/// Some of the Pods that wait to run.
#[derive(Debug)]
pub struct PodPage {
    /// The Pods, of all namespaces.
    pub pods: Vec<PendingPod>,
    /// What to ask for the next page with; `None`: this is the last.
    pub next: Option<String>,
}

/// A Pod with `status.phase` Pending.
#[derive(Clone, Debug)]
pub struct PendingPod {
    /// Its namespace.
    pub namespace: NamespaceName,
    /// Its name.
    pub name: ObjectName,
    /// Its `metadata.uid`.
    pub uid: String,
    /// Whether it is being deleted.
    pub is_deleted: bool,
    /// Whether a container of it waits in `ErrImagePull` or `ImagePullBackOff`.
    pub is_image_pull_failing: bool,
    /// What creates it again after it is deleted: its owner with `controller: true`.
    pub controller: Option<OwnerReference>,
    /// Its label `pod-template-hash`.
    pub template_hash: Option<String>,
    /// All of it, as JSON.
    pub json: Box<RawValue>,
}

#[derive(Deserialize)]
struct PodList {
    #[serde(default)]
    metadata: ListMeta,
    #[serde(default)]
    items: Vec<Box<RawValue>>,
}

#[derive(Default, Deserialize)]
struct ListMeta {
    #[serde(default, rename = "continue")]
    next: Option<String>,
}

#[derive(Deserialize)]
struct PodItem {
    metadata: PodListMeta,
    #[serde(default)]
    status: PodStatus,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodListMeta {
    name: String,
    namespace: String,
    uid: String,
    #[serde(default)]
    deletion_timestamp: Option<IgnoredAny>,
    #[serde(default)]
    labels: Labels,
    #[serde(default)]
    owner_references: Vec<OwnerReference>,
}

#[derive(Default, Deserialize)]
struct Labels {
    #[serde(default, rename = "pod-template-hash")]
    template_hash: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodStatus {
    #[serde(default)]
    phase: String,
    #[serde(default)]
    container_statuses: Vec<ContainerStatus>,
    #[serde(default)]
    init_container_statuses: Vec<ContainerStatus>,
}

#[derive(Deserialize)]
struct ContainerStatus {
    #[serde(default)]
    state: ContainerState,
}

#[derive(Default, Deserialize)]
struct ContainerState {
    #[serde(default)]
    waiting: Option<ContainerStateWaiting>,
}

#[derive(Deserialize)]
struct ContainerStateWaiting {
    #[serde(default)]
    reason: String,
}

impl Kube {
    /// Reads a page of the cluster's Pending Pods: the first, or the one that `next` of the one before says.
    ///
    /// # Errors
    /// The API server cannot be reached or refuses; a `next` of more than a few minutes ago has expired.
    pub async fn fetch_pending_pods(&self, next: Option<&str>) -> Result<PodPage, ClusterError> {
        let mut parameters = ListParams::default()
            .fields("status.phase=Pending")
            .limit(PAGE);
        if let Some(next) = next {
            parameters = parameters.continue_token(next);
        }
        let what = "the list of pending pods";
        let asked = async {
            let request = Request::new("/api/v1/pods").list(&parameters);
            let request = request.map_err(kube::Error::BuildRequest)?;
            self.client.request_text(request).await
        };
        let text = api_error::request(what, asked).await?;
        parse_page(&text).map_err(|error| ClusterError::Unreachable {
            what: what.to_owned(),
            message: format!("the answer cannot be read: {error}"),
        })
    }
}

/// Reads a PodList, only what is needed of each Pod. Those that are not Pending are left out.
fn parse_page(text: &str) -> serde_json::Result<PodPage> {
    let list: PodList = serde_json::from_str(text)?;
    let mut pods = Vec::with_capacity(list.items.len());
    for json in list.items {
        let PodItem { metadata, status } = serde_json::from_str(json.get())?;
        if status.phase != "Pending" {
            continue;
        }
        // A Pod that says no names is none of the API server's.
        let names = (
            NamespaceName::parse(&metadata.namespace),
            ObjectName::parse(&metadata.name),
        );
        let (Ok(namespace), Ok(name)) = names else {
            continue;
        };
        let mut containers = status
            .container_statuses
            .iter()
            .chain(&status.init_container_statuses);
        let is_image_pull_failing = |container: &ContainerStatus| {
            let waiting = container.state.waiting.as_ref();
            waiting.is_some_and(|waiting| IMAGE_PULL_REASONS.contains(&waiting.reason.as_str()))
        };
        let mut owners = metadata.owner_references.into_iter();
        pods.push(PendingPod {
            is_image_pull_failing: containers.any(is_image_pull_failing),
            controller: owners.find(|owner| owner.controller == Some(true)),
            template_hash: metadata.labels.template_hash,
            namespace,
            name,
            uid: metadata.uid,
            is_deleted: metadata.deletion_timestamp.is_some(),
            json,
        });
    }
    let next = list.metadata.next.filter(|next| !next.is_empty());
    Ok(PodPage { pods, next })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_is_needed_of_each_pod() {
        let page = r#"{"kind":"PodList","apiVersion":"v1","metadata":{"continue":"abc"},"items":[
            {"metadata":{"name":"a","namespace":"n","uid":"1","deletionTimestamp":null,
              "labels":{"app":"a","pod-template-hash":"5d4f8"},
              "ownerReferences":[{"apiVersion":"v1","kind":"X","name":"x","uid":"8"},
                {"apiVersion":"apps/v1","kind":"ReplicaSet","name":"rs","uid":"9","controller":true}]},
             "spec":{"anything":[{}]},
             "status":{"phase":"Pending","containerStatuses":[{"state":{"running":{}}},{"state":{"waiting":{"reason":"ImagePullBackOff"}}}]}},
            {"metadata":{"name":"b","namespace":"n","uid":"2","labels":{},"deletionTimestamp":"2026-01-02T03:04:06Z"},
             "status":{"phase":"Pending","initContainerStatuses":[{"state":{"waiting":{"reason":"ErrImagePull"}}}]}},
            {"metadata":{"name":"c","namespace":"n","uid":"3"},"status":{"phase":"Pending"}},
            {"metadata":{"name":"d","namespace":"n","uid":"4"},"status":{"phase":"Running"}}]}"#;
        let page = parse_page(page).unwrap();
        assert_eq!(page.next.as_deref(), Some("abc"));
        let read: Vec<_> = page
            .pods
            .iter()
            .map(|pod| {
                let owner = pod.controller.as_ref().map(|owner| owner.uid.as_str());
                let hash = pod.template_hash.as_deref();
                (
                    pod.name.as_str(),
                    pod.is_image_pull_failing,
                    pod.is_deleted,
                    owner,
                    hash,
                )
            })
            .collect();
        assert_eq!(
            read,
            [
                ("a", true, false, Some("9"), Some("5d4f8")),
                ("b", true, true, None, None),
                ("c", false, false, None, None)
            ]
        );
        let last = parse_page(r#"{"metadata":{"continue":""},"items":[]}"#).unwrap();
        assert!(last.next.is_none() && last.pods.is_empty());
    }
}
