//! What to do about a missed Pod, by what would make it again. Pure.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use crate::cluster::ListedPod;

/// The longest names of objects and of kinds.
/// <https://kubernetes.io/docs/concepts/overview/working-with-objects/names/>
const NAME_MAX: usize = 253;
const KIND_MAX: usize = 63;

/// What a controller does when one of its Pods is deleted.
#[derive(Clone, Copy, Debug)]
enum Fate {
    /// It makes the Pod again.
    Remakes,
    /// It is a run that ends, or may end.
    Ends {
        how: &'static str,
        instead: &'static str,
    },
}

/// Controllers whose fate is known, by their API group and kind:
/// <https://kubernetes.io/docs/concepts/workloads/controllers/>,
/// <https://kubernetes.io/docs/concepts/workloads/controllers/job/#pod-backoff-failure-policy>,
/// <https://github.com/tektoncd/pipeline/issues/6558>, <https://github.com/argoproj/argo-workflows/issues/1414>.
const CONTROLLERS: &[(&str, &str, Fate)] = &[
    ("apps", "ReplicaSet", Fate::Remakes),
    ("apps", "StatefulSet", Fate::Remakes),
    ("apps", "DaemonSet", Fate::Remakes),
    ("", "ReplicationController", Fate::Remakes),
    (
        "batch",
        "Job",
        Fate::Ends {
            how: "may end for good when this Pod is deleted, with backoffLimit 0 it does",
            instead: "delete the Job and create it again",
        },
    ),
    (
        "tekton.dev",
        "TaskRun",
        Fate::Ends {
            how: "fails when this Pod is deleted",
            instead: "start the TaskRun or its PipelineRun again",
        },
    ),
    (
        "argoproj.io",
        "Workflow",
        Fate::Ends {
            how: "fails at this step when this Pod is deleted",
            instead: "stop the Workflow and submit it again",
        },
    ),
];

/// What a person should do so that the Pod is there again, with its reference: what its controller does decides.
pub(super) fn advise(pod: &ListedPod) -> String {
    let delete = format!("kubectl delete pod {} -n {}", pod.name, pod.namespace);
    let Some(owner) = &pod.controller else {
        return format!("No controller recreates it: {delete}, then create it again");
    };
    let named = name(owner);
    let who = named.as_deref().unwrap_or("Its controller");
    match find_fate(owner).filter(|_| named.is_some()) {
        Some(Fate::Remakes) => {
            let all = find_restart(pod).map_or_else(String::new, |restart| {
                format!("; or all Pods of its Deployment, one after the other: {restart}")
            });
            format!("{who} recreates it: {delete}{all}")
        }
        Some(Fate::Ends { how, instead }) => format!("{who} {how}: {instead} instead"),
        None => format!(
            "{who} may make it again ({delete}), or may end with it, as builds and other runs do: start that again instead"
        ),
    }
}

/// The command that creates all Pods of the Pod's Deployment again, one after the other; `None`: it has none.
pub fn find_restart(pod: &ListedPod) -> Option<String> {
    let deployment = find_deployment(pod.controller.as_ref()?, pod)?;
    let namespace = &pod.namespace;
    Some(format!(
        "kubectl rollout restart deployment/{deployment} -n {namespace}"
    ))
}

fn find_fate(owner: &OwnerReference) -> Option<Fate> {
    let group = owner.api_version.split_once('/');
    let group = group.map_or("", |(group, _)| group);
    let mut known = CONTROLLERS.iter();
    let (_, _, fate) =
        known.find(|(known, kind, _)| *known == group && *kind == owner.kind.as_str())?;
    Some(*fate)
}

/// The Deployment whose ReplicaSet made the Pod: a ReplicaSet is named after it and the hash of the Pods' template.
/// <https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#pod-template-hash-label>
fn find_deployment<'p>(owner: &'p OwnerReference, pod: &ListedPod) -> Option<&'p str> {
    let hash = pod.template_hash.as_deref()?;
    let name = owner.name.strip_suffix(hash)?.strip_suffix('-')?;
    (owner.kind == "ReplicaSet" && is_name(name)).then_some(name)
}

/// Kind and name, unless they are no kind and name: an API server takes any text there from any user who creates the Pod, and people
/// copy commands out of Events.
fn name(owner: &OwnerReference) -> Option<String> {
    let OwnerReference { kind, name, .. } = owner;
    let is_kind = (1..=KIND_MAX).contains(&kind.len())
        && kind.bytes().all(|byte| byte.is_ascii_alphanumeric());
    (is_kind && is_name(name)).then(|| format!("{kind} {name}"))
}

fn is_name(text: &str) -> bool {
    let is_inner = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.');
    let is_edge = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    text.len() <= NAME_MAX
        && text.bytes().all(is_inner)
        && is_edge(text.bytes().next())
        && is_edge(text.bytes().next_back())
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::controller::missed_pods::waiting_pod;

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "camelCase")]
    struct Row {
        owner: Option<OwnerReference>,
        template_hash: Option<String>,
        says: String,
    }

    #[test]
    fn says_what_to_do_by_the_table() {
        let table: Vec<Row> =
            serde_saphyr::from_str(include_str!("../../../tests/data/owners.yaml")).unwrap();
        assert!(table.len() > CONTROLLERS.len());
        for row in table {
            let pod = ListedPod {
                controller: row.owner,
                template_hash: row.template_hash,
                ..waiting_pod("shop", "web-x")
            };
            assert_eq!(advise(&pod), row.says, "{:?}", pod.controller);
        }
    }

    #[test]
    fn has_a_row_in_the_table_and_in_the_document_for_each_controller() {
        let table = include_str!("../../../tests/data/owners.yaml");
        let document = include_str!("../../../docs/MISSED-PODS.md");
        for (group, kind, _) in CONTROLLERS {
            assert!(table.contains(&format!("kind: {kind},")), "{group} {kind}");
            let mut rows = document.lines().filter(|line| line.starts_with('|'));
            assert!(rows.any(|row| row.contains(kind)), "{group} {kind}");
        }
    }
}
