//! Missed Pods, as the leader's scan finds them: those that wait without the reference that a review now would give them.

use std::sync::Arc;

use jiff::Timestamp;

use crate::admission::{PodCheck, PodChecker};
use crate::cluster::{Kube, ListedPod, PodScope};
use crate::controller::missed_pods::find_restart;
use crate::names::{NamespaceName, ObjectName};
use crate::provision::Namespace;
use crate::provision::offline::Offline;
use crate::provision::ports::ClusterError;
use crate::registry::Registries;

/// How many of the Pods that wait are kept.
const WAITING_MAX: usize = 500;

/// A Pod that waits without its reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MissedPod {
    pub(super) namespace: NamespaceName,
    pub(super) name: ObjectName,
    /// Whether its image could not be pulled; `false`: nobody tried yet.
    pub(super) is_image_pull_failing: bool,
    /// The pull secrets that it lacks.
    pub(super) lacks: Vec<String>,
    /// The command that creates all Pods of its Deployment again, in the cluster of kubectl's own choice.
    pub(super) restart: Option<String>,
}

/// What a review would do, by these Registries, in namespaces that opted in.
pub(super) fn open_checker(
    registries: impl Into<Arc<Registries>>,
    namespaces: impl IntoIterator<Item = Namespace>,
) -> PodChecker {
    PodChecker::new(Arc::new(Offline::new(registries, namespaces)))
}

/// Reads the Pending Pods of a namespace, or of all, and keeps those that were missed, the first 500.
///
/// # Errors
/// The API server cannot be reached or refuses.
pub(super) async fn fetch_missed(
    kube: &Kube,
    namespace: Option<&NamespaceName>,
    checker: &PodChecker,
) -> Result<Vec<MissedPod>, ClusterError> {
    let is_wanted = |name: &NamespaceName| checker.is_opted_in(name);
    let keep = async |pod: ListedPod| find_missed(&pod, checker).await;
    fetch_waiting(kube, namespace, is_wanted, keep).await
}

/// Reads the Pending Pods of a namespace, or of those that are wanted, page by page, until 500 are kept.
///
/// # Errors
/// The API server cannot be reached or refuses.
pub(super) async fn fetch_waiting<T>(
    kube: &Kube,
    namespace: Option<&NamespaceName>,
    is_wanted: impl Fn(&NamespaceName) -> bool,
    keep: impl AsyncFn(ListedPod) -> Option<T>,
) -> Result<Vec<T>, ClusterError> {
    let (mut kept, mut next) = (Vec::new(), None);
    loop {
        let scope = PodScope::Pending;
        let mut page = kube.fetch_pods(namespace, scope, next.as_deref()).await?;
        while let Some(pod) = page.next_pod(&is_wanted).await? {
            kept.extend(keep(pod).await);
            if kept.len() == WAITING_MAX {
                return Ok(kept);
            }
        }
        next = page.finish()?;
        if next.is_none() {
            return Ok(kept);
        }
    }
}

async fn find_missed(pod: &ListedPod, checker: &PodChecker) -> Option<MissedPod> {
    if pod.is_deleted {
        return None;
    }
    let now = Timestamp::now();
    let verdict = checker.check(&pod.namespace, pod.json.get(), now);
    let PodCheck::Missed(lacks) = verdict.await else {
        return None;
    };
    Some(MissedPod {
        namespace: pod.namespace.clone(),
        name: pod.name.clone(),
        is_image_pull_failing: pod.is_image_pull_failing(),
        lacks: lacks.secrets,
        restart: find_restart(pod),
    })
}

/// The first of them by name, and how many more there are: `web-1, web-2 and 3 more`.
pub(super) fn name_all<'m>(missed: impl IntoIterator<Item = &'m MissedPod>) -> String {
    const NAMED: usize = 3;
    let mut names: Vec<&str> = missed.into_iter().map(|pod| pod.name.as_str()).collect();
    names.sort_unstable();
    let more = match names.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    names.truncate(NAMED);
    names.join(", ") + &more
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::missed_pods::waiting_pod;

    #[tokio::test]
    async fn finds_a_pod_that_lacks_what_its_image_needs() {
        let registry = "apiVersion: pullpass.dev/v1alpha1\nkind: Registry\nmetadata: {name: team}\nspec: {images: [a.example.com], namespaceSelector: {}, static: {secretRef: {name: team}}}";
        let registries = Registries::build([serde_saphyr::from_str(registry).unwrap()]);
        let labels = [("pullpass.dev/inject".to_owned(), "enabled".to_owned())];
        let shop = Namespace::new("shop".parse().unwrap(), labels.into(), false);
        let checker = open_checker(registries, [shop]);
        let pod = |namespace: &str, image: &str, spec: &str| {
            let json = format!(
                r#"{{"metadata":{{"name":"web-1"}},"spec":{{{spec}"containers":[{{"name":"c","image":"{image}"}}]}}}}"#
            );
            let json = serde_json::value::RawValue::from_string(json).unwrap();
            ListedPod {
                json,
                ..waiting_pod(namespace, "web-1")
            }
        };
        let ours = r#""imagePullSecrets":[{"name":"pullpass"}],"#;
        for (pod, is_missed) in [
            (pod("shop", "a.example.com/x", ""), true),
            (pod("shop", "a.example.com/x", ours), false),
            (pod("shop", "elsewhere.example.com/x", ""), false),
            (pod("other", "a.example.com/x", ""), false),
            (
                ListedPod {
                    is_deleted: true,
                    ..pod("shop", "a.example.com/x", "")
                },
                false,
            ),
        ] {
            let missed = find_missed(&pod, &checker).await;
            assert_eq!(missed.is_some(), is_missed, "{pod:?}");
            let lacks = missed.map(|missed| missed.lacks);
            assert_eq!(lacks, is_missed.then(|| vec!["pullpass".to_owned()]));
        }
    }

    #[test]
    fn names_a_few_and_counts_the_others() {
        let pod = |name: &str| MissedPod {
            namespace: NamespaceName::constant("shop"),
            name: name.parse().unwrap(),
            is_image_pull_failing: true,
            lacks: Vec::new(),
            restart: None,
        };
        let all = ["b", "a", "d", "c"].map(pod);
        assert_eq!(name_all(&all[..2]), "a, b");
        assert_eq!(name_all(&all), "a, b, c and 1 more");
    }
}
