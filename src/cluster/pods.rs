//! Pods, of which most are those that wait to run: read one at a time and never kept.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerState, LocalObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use kube::api::ListParams;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::api::pods_path;
use super::changes::{Part, last_change};
use super::list::ListReader;
use super::{Kube, api_error};
use crate::names::{NamespaceName, ObjectName};
use crate::provision::ports::ClusterError;
use crate::registry::is_pull_secret_name;

/// How many Pods are asked for at a time: the API server holds as many in memory, pullpass one.
const PAGE: u32 = 100;

/// What messages call it.
const WHAT: &str = "the list of pods";

/// <https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#pod-template-hash-label>
const TEMPLATE_HASH_LABEL: &str = "pod-template-hash";

/// What a container waits for whose image cannot be pulled.
/// <https://kubernetes.io/docs/concepts/containers/images/#imagepullbackoff>
const IMAGE_PULL_REASONS: [&str; 2] = ["ErrImagePull", "ImagePullBackOff"];

/// Which Pods are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PodScope {
    /// Those with `status.phase` Pending.
    Pending,
    /// These, and all that were created at this moment or later.
    PendingOrSince(Timestamp),
}

/// A page of the Pods of a namespace, or of all.
pub struct PodPage {
    list: ListReader,
    scope: PodScope,
}

/// A Pod that the API server has.
#[derive(Clone, Debug)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own that the API server says"
)]
pub struct ListedPod {
    /// Its namespace.
    pub namespace: NamespaceName,
    /// Its name.
    pub name: ObjectName,
    /// Its `metadata.uid`.
    pub uid: String,
    /// Whether its `status.phase` is Pending.
    pub is_pending: bool,
    /// When it was created, by the API server's clock, in whole seconds.
    pub created: Option<Timestamp>,
    /// When what decides about its pull secrets was written last, its `spec` and its labels; `None`: that is not known.
    pub changed: Option<Timestamp>,
    /// Whether it references a Secret of a name that pullpass writes.
    pub references_pull_secret: bool,
    /// Whether it is being deleted.
    pub is_deleted: bool,
    /// The images of its containers that wait in `ErrImagePull` or `ImagePullBackOff`.
    pub failing_images: Vec<String>,
    /// The node that it is bound to.
    pub node: Option<ObjectName>,
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

/// Whether a Pod of a namespace that is wanted is one of those to be read.
#[derive(Deserialize)]
struct PodSummary {
    metadata: PodSummaryMeta,
    #[serde(default)]
    status: PodPhase,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodSummaryMeta {
    #[serde(default)]
    creation_timestamp: Option<Time>,
}

#[derive(Default, Deserialize)]
struct PodPhase {
    #[serde(default)]
    phase: String,
}

#[derive(Deserialize)]
struct PodItem {
    metadata: ObjectMeta,
    #[serde(default)]
    spec: PodSecrets,
    #[serde(default)]
    status: PodStatus,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodSecrets {
    #[serde(default)]
    image_pull_secrets: Vec<LocalObjectReference>,
    #[serde(default)]
    node_name: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodStatus {
    #[serde(default)]
    container_statuses: Vec<ContainerStatus>,
    #[serde(default)]
    init_container_statuses: Vec<ContainerStatus>,
}

#[derive(Deserialize)]
struct ContainerStatus {
    #[serde(default)]
    image: String,
    #[serde(default)]
    state: ContainerState,
}

impl Kube {
    /// Asks for a page of the Pods of a namespace, or of all: the first, or the one that `next` of the one before says.
    ///
    /// # Errors
    /// The API server cannot be reached or refuses; a `next` of more than a few minutes ago has expired.
    pub async fn fetch_pods(
        &self,
        namespace: Option<&NamespaceName>,
        scope: PodScope,
        next: Option<&str>,
    ) -> Result<PodPage, ClusterError> {
        let mut parameters = ListParams::default().limit(PAGE);
        if scope == PodScope::Pending {
            parameters = parameters.fields("status.phase=Pending");
        }
        if let Some(next) = next {
            parameters = parameters.continue_token(next);
        }
        let path = namespace.map_or_else(|| "/api/v1/pods".to_owned(), pods_path);
        let page = ListReader::open(&self.client, &path, &parameters);
        let list = api_error::request(WHAT, page).await?;
        Ok(PodPage { list, scope })
    }
}

impl ListedPod {
    /// Whether a container of it waits in `ErrImagePull` or `ImagePullBackOff`.
    pub fn is_image_pull_failing(&self) -> bool {
        !self.failing_images.is_empty()
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
    ) -> Result<Option<ListedPod>, ClusterError> {
        while let Some(json) = api_error::request(WHAT, self.list.next()).await? {
            let pod = read_pod(json, self.scope, &is_wanted);
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
        let list = self.list.finish().map_err(|error| unreadable(&error))?;
        Ok(list.next().map(str::to_owned))
    }
}

fn unreadable(error: &dyn std::error::Error) -> ClusterError {
    ClusterError::Unreachable {
        what: WHAT.to_owned(),
        message: format!("the answer cannot be read: {error}"),
    }
}

/// Reads what is needed of a Pod; `None`: its namespace is not wanted, or it is not one of `scope`.
fn read_pod(
    json: &[u8],
    scope: PodScope,
    is_wanted: impl Fn(&NamespaceName) -> bool,
) -> serde_json::Result<Option<ListedPod>> {
    let PodPlace { metadata } = serde_json::from_slice(json)?;
    // A Pod that says no names is none of the API server's.
    let Ok(namespace) = NamespaceName::parse(&metadata.namespace) else {
        return Ok(None);
    };
    if !is_wanted(&namespace) {
        return Ok(None);
    }
    let summary: PodSummary = serde_json::from_slice(json)?;
    let created = summary.metadata.creation_timestamp.map(|time| time.0);
    let is_pending = summary.status.phase == "Pending";
    let is_recent = match scope {
        PodScope::Pending => false,
        PodScope::PendingOrSince(since) => created.is_some_and(|created| created >= since),
    };
    if !is_pending && !is_recent {
        return Ok(None);
    }
    let pod: PodItem = serde_json::from_slice(json)?;
    let Ok(name) = ObjectName::parse(pod.metadata.name.as_deref().unwrap_or_default()) else {
        return Ok(None);
    };
    let failing_images = pod.failing_images();
    let node = pod.spec.node_name.as_deref();
    let node = node.and_then(|node| ObjectName::parse(node).ok());
    let references_pull_secret = pod.references_pull_secret();
    let metadata = pod.metadata;
    let managed = metadata.managed_fields.unwrap_or_default();
    let mut owners = metadata.owner_references.into_iter().flatten();
    let mut labels = metadata.labels.unwrap_or_default();
    Ok(Some(ListedPod {
        failing_images,
        node,
        is_pending,
        references_pull_secret,
        created,
        changed: last_change(&managed, &[Part::Spec, Part::Labels]),
        controller: owners.find(|owner| owner.controller == Some(true)),
        template_hash: labels.remove(TEMPLATE_HASH_LABEL),
        namespace,
        name,
        uid: metadata.uid.unwrap_or_default(),
        is_deleted: metadata.deletion_timestamp.is_some(),
        json: serde_json::from_slice(json)?,
    }))
}

impl PodItem {
    fn failing_images(&self) -> Vec<String> {
        let containers = &self.status.container_statuses;
        let containers = containers
            .iter()
            .chain(&self.status.init_container_statuses);
        let failing = containers.filter(|container| {
            let waiting = container.state.waiting.as_ref();
            let reason = waiting.and_then(|waiting| waiting.reason.as_deref());
            reason.is_some_and(|reason| IMAGE_PULL_REASONS.contains(&reason))
        });
        failing.map(|container| container.image.clone()).collect()
    }

    fn references_pull_secret(&self) -> bool {
        let mut secrets = self.spec.image_pull_secrets.iter();
        secrets.any(|secret| is_pull_secret_name(&secret.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_those_created_since_whatever_their_phase() {
        let pod = |name: &str, created: &str, rest: &str| {
            format!(
                r#"{{"metadata":{{"name":"{name}","namespace":"n","uid":"1","creationTimestamp":"{created}",
                  "managedFields":[
                    {{"operation":"Update","time":"2026-01-02T03:04:09Z","subresource":"status","fieldsV1":{{"f:spec":{{}}}}}},
                    {{"operation":"Update","time":"2026-01-02T03:04:06Z","fieldsV1":{{"f:spec":{{}}}}}},
                    {{"operation":"Update","time":"2026-01-02T03:04:08Z","fieldsV1":{{"f:metadata":{{"f:annotations":{{}}}}}}}}]}}{rest}}}"#
            )
        };
        let refers =
            |name: &str| format!(r#","spec":{{"imagePullSecrets":[{{"name":"{name}"}}]}}"#);
        let pods = [
            pod(
                "old",
                "2026-01-02T03:04:04Z",
                r#","status":{"phase":"Running"}"#,
            ),
            pod(
                "waits",
                "2026-01-02T03:04:04Z",
                r#","status":{"phase":"Pending"}"#,
            ),
            pod("runs", "2026-01-02T03:04:05Z", &refers("pullpass-team")),
            pod("ended", "2026-01-02T03:04:05Z", &refers("pullpasses")),
        ];
        let since = PodScope::PendingOrSince("2026-01-02T03:04:05Z".parse().unwrap());
        let changed = "2026-01-02T03:04:06Z".parse().unwrap();
        let read: Vec<_> = pods
            .iter()
            .filter_map(|json| read_pod(json.as_bytes(), since, |_| true).unwrap())
            .map(|pod| {
                assert_eq!(pod.changed, Some(changed), "{}", pod.name);
                (
                    pod.name.to_string(),
                    pod.is_pending,
                    pod.references_pull_secret,
                )
            })
            .collect();
        let expected = [
            ("waits", true, false),
            ("runs", false, true),
            ("ended", false, false),
        ];
        assert_eq!(
            read,
            expected.map(|(name, pending, refers)| (name.to_owned(), pending, refers))
        );
    }

    #[test]
    fn reads_what_is_needed_of_each_pod() {
        let pods = [
            r#"{"metadata":{"name":"a","namespace":"n","uid":"1","deletionTimestamp":null,
              "labels":{"app":"a","pod-template-hash":"5d4f8"},
              "ownerReferences":[{"apiVersion":"v1","kind":"X","name":"x","uid":"8"},
                {"apiVersion":"apps/v1","kind":"ReplicaSet","name":"rs","uid":"9","controller":true}]},
             "spec":{"anything":[{}],"nodeName":"n1"},
             "status":{"phase":"Pending","containerStatuses":[{"image":"a/b","state":{"running":{}}},{"image":"a/c:1","state":{"waiting":{"reason":"ImagePullBackOff"}}}]}}"#,
            r#"{"metadata":{"name":"b","namespace":"n","uid":"2","labels":{},"deletionTimestamp":"2026-01-02T03:04:06Z"},
             "status":{"phase":"Pending","initContainerStatuses":[{"image":"a/d","state":{"waiting":{"reason":"ErrImagePull"}}}]}}"#,
            r#"{"metadata":{"name":"c","namespace":"n","uid":"3"},"status":{"phase":"Pending"}}"#,
            r#"{"metadata":{"name":"d","namespace":"n","uid":"4"},"status":{"phase":"Running"}}"#,
            // Of another namespace nothing else has to be readable.
            r#"{"metadata":{"name":5,"namespace":"elsewhere"},"status":[]}"#,
        ];
        let wanted = |namespace: &NamespaceName| *namespace == "n";
        let read: Vec<_> = pods
            .iter()
            .filter_map(|json| read_pod(json.as_bytes(), PodScope::Pending, wanted).unwrap())
            .map(|pod| {
                let owner = pod.controller.map(|owner| owner.uid);
                let name = pod.name.to_string();
                let failing = (pod.failing_images.join(" "), pod.node.is_some());
                (name, failing, pod.is_deleted, owner, pod.template_hash)
            })
            .collect();
        let (owner, hash) = (Some("9".to_owned()), Some("5d4f8".to_owned()));
        assert_eq!(
            read,
            [
                (
                    "a".to_owned(),
                    ("a/c:1".to_owned(), true),
                    false,
                    owner,
                    hash
                ),
                ("b".to_owned(), ("a/d".to_owned(), false), true, None, None),
                ("c".to_owned(), (String::new(), false), false, None, None)
            ]
        );
    }
}
