//! Pods that wait to run: read one at a time and never kept.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::ListParams;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::list::ListReader;
use super::{Kube, api_error};
use crate::names::{NamespaceName, ObjectName};
use crate::provision::ports::ClusterError;

/// How many Pods are asked for at a time: the API server holds as many in memory, pullpass one.
const PAGE: u32 = 100;

/// What messages call it.
const WHAT: &str = "the list of pending pods";

/// What a container waits for whose image cannot be pulled.
/// <https://kubernetes.io/docs/concepts/containers/images/#imagepullbackoff>
const IMAGE_PULL_REASONS: [&str; 2] = ["ErrImagePull", "ImagePullBackOff"];

/// A page of the Pods that wait to run, of all namespaces.
pub struct PodPage(ListReader);

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

/// Where a Pod is: all that is read of one that nobody wants.
#[derive(Deserialize)]
struct PodPlace {
    metadata: PodPlaceMeta,
}

#[derive(Deserialize)]
struct PodPlaceMeta {
    namespace: String,
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
    uid: String,
    #[serde(default)]
    deletion_timestamp: Option<IgnoredAny>,
    #[serde(default)]
    labels: TemplateLabels,
    #[serde(default)]
    owner_references: Vec<OwnerReference>,
}

#[derive(Default, Deserialize)]
struct TemplateLabels {
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
    /// Asks for a page of the cluster's Pending Pods: the first, or the one that `next` of the one before says.
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
        let page = ListReader::open(&self.client, "/api/v1/pods", &parameters);
        api_error::request(WHAT, page).await.map(PodPage)
    }
}

impl PodPage {
    /// Reads the next Pod of a namespace that `is_wanted`; of all others nothing but their namespace is decoded, and they are forgotten
    /// one by one. `None`: that was the last of this page.
    ///
    /// # Errors
    /// The answer ended too early, or cannot be read.
    pub async fn next_pod(
        &mut self,
        is_wanted: impl Fn(&NamespaceName) -> bool,
    ) -> Result<Option<PendingPod>, ClusterError> {
        while let Some(json) = api_error::request(WHAT, self.0.next()).await? {
            let pod = read_pod(json, &is_wanted);
            if let Some(pod) = pod.map_err(|error| unreadable(&error))? {
                return Ok(Some(pod));
            }
        }
        Ok(None)
    }

    /// What to ask for the next page with; `None`: this was the last.
    ///
    /// # Errors
    /// The answer ended before the list did.
    pub fn finish(self) -> Result<Option<String>, ClusterError> {
        let list = self.0.finish().map_err(|error| unreadable(&error))?;
        Ok(list.next().map(str::to_owned))
    }
}

fn unreadable(error: &dyn std::error::Error) -> ClusterError {
    ClusterError::Unreachable {
        what: WHAT.to_owned(),
        message: format!("the answer cannot be read: {error}"),
    }
}

/// Reads what is needed of a Pod; `None`: its namespace is not wanted, or it is not Pending.
fn read_pod(
    json: &[u8],
    is_wanted: impl Fn(&NamespaceName) -> bool,
) -> serde_json::Result<Option<PendingPod>> {
    let PodPlace { metadata } = serde_json::from_slice(json)?;
    // A Pod that says no names is none of the API server's.
    let Ok(namespace) = NamespaceName::parse(&metadata.namespace) else {
        return Ok(None);
    };
    if !is_wanted(&namespace) {
        return Ok(None);
    }
    let PodItem { metadata, status } = serde_json::from_slice(json)?;
    let Ok(name) = ObjectName::parse(&metadata.name) else {
        return Ok(None);
    };
    if status.phase != "Pending" {
        return Ok(None);
    }
    let mut containers = status
        .container_statuses
        .iter()
        .chain(&status.init_container_statuses);
    let is_image_pull_failing = |container: &ContainerStatus| {
        let waiting = container.state.waiting.as_ref();
        waiting.is_some_and(|waiting| IMAGE_PULL_REASONS.contains(&waiting.reason.as_str()))
    };
    let mut owners = metadata.owner_references.into_iter();
    Ok(Some(PendingPod {
        is_image_pull_failing: containers.any(is_image_pull_failing),
        controller: owners.find(|owner| owner.controller == Some(true)),
        template_hash: metadata.labels.template_hash,
        namespace,
        name,
        uid: metadata.uid,
        is_deleted: metadata.deletion_timestamp.is_some(),
        json: serde_json::from_slice(json)?,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_is_needed_of_each_pod() {
        let pods = [
            r#"{"metadata":{"name":"a","namespace":"n","uid":"1","deletionTimestamp":null,
              "labels":{"app":"a","pod-template-hash":"5d4f8"},
              "ownerReferences":[{"apiVersion":"v1","kind":"X","name":"x","uid":"8"},
                {"apiVersion":"apps/v1","kind":"ReplicaSet","name":"rs","uid":"9","controller":true}]},
             "spec":{"anything":[{}]},
             "status":{"phase":"Pending","containerStatuses":[{"state":{"running":{}}},{"state":{"waiting":{"reason":"ImagePullBackOff"}}}]}}"#,
            r#"{"metadata":{"name":"b","namespace":"n","uid":"2","labels":{},"deletionTimestamp":"2026-01-02T03:04:06Z"},
             "status":{"phase":"Pending","initContainerStatuses":[{"state":{"waiting":{"reason":"ErrImagePull"}}}]}}"#,
            r#"{"metadata":{"name":"c","namespace":"n","uid":"3"},"status":{"phase":"Pending"}}"#,
            r#"{"metadata":{"name":"d","namespace":"n","uid":"4"},"status":{"phase":"Running"}}"#,
            // Of another namespace nothing else has to be readable.
            r#"{"metadata":{"name":5,"namespace":"elsewhere"},"status":[]}"#,
        ];
        let wanted = |namespace: &NamespaceName| *namespace == "n";
        let read: Vec<_> = pods
            .iter()
            .filter_map(|json| read_pod(json.as_bytes(), wanted).unwrap())
            .map(|pod| {
                let owner = pod.controller.map(|owner| owner.uid);
                let name = pod.name.to_string();
                let failing = pod.is_image_pull_failing;
                (name, failing, pod.is_deleted, owner, pod.template_hash)
            })
            .collect();
        let (owner, hash) = (Some("9".to_owned()), Some("5d4f8".to_owned()));
        assert_eq!(
            read,
            [
                ("a".to_owned(), true, false, owner, hash),
                ("b".to_owned(), true, true, None, None),
                ("c".to_owned(), false, false, None, None)
            ]
        );
    }
}
