//! The step of a namespace that looks for Pods that were missed: they wait without the reference that a Pod created now would get.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::context::CheckContext;
use super::report::{Fix, StepResult};
use super::{advice, ids};
use crate::cluster::Kube;
use crate::command::missed::{MissedPod, fetch_missed, name_all, open_checker};
use crate::names::ObjectName;
use crate::provision::Namespace;
use crate::provision::ports::ClusterError;
use crate::quantity::{count, verb_of};

/// Whether Pods of the namespace wait without their reference; not to a Secret that is `foreign`, which no new Pod gets either.
pub(super) async fn check(
    context: &CheckContext<'_>,
    kube: &Kube,
    namespace: &Namespace,
    foreign: &BTreeSet<ObjectName>,
) -> StepResult {
    let registries = Arc::clone(&context.registries);
    let checker = open_checker(registries, [namespace.clone()]);
    match fetch_missed(kube, Some(&namespace.name), &checker).await {
        Ok(mut missed) => {
            let is_foreign = |name: &String| foreign.iter().any(|one| **one == **name);
            missed.retain(|pod| !pod.lacks.iter().all(is_foreign));
            let kubectl = |command: &str| context.kubectl(command);
            judge(&missed, kubectl, &context.same_cluster())
        }
        Err(ClusterError::Forbidden { .. }) => {
            StepResult::hidden("this account may not list Pods here")
        }
        Err(error) => advice::of_cluster(&error),
    }
}

/// What is said of them: it fails where an image could not be pulled, which nothing but a new Pod mends.
fn judge(missed: &[MissedPod], kubectl: impl Fn(&str) -> String, same_cluster: &str) -> StepResult {
    let failing: Vec<&MissedPod> = missed
        .iter()
        .filter(|pod| pod.is_image_pull_failing)
        .collect();
    let Some(first) = failing.first().copied().or(missed.first()) else {
        return StepResult::ok("none waits without its reference");
    };
    let all: Vec<&MissedPod> = if failing.is_empty() {
        missed.iter().collect()
    } else {
        failing.clone()
    };
    let message = format!(
        "{} {} without the reference {}, which cannot be added: {}",
        count(all.len(), "Pod"),
        verb_of(all.len(), "waits", "wait"),
        first.lacks.join(", "),
        name_all(all.iter().copied()),
    );
    let delete = || {
        let command = format!("delete pod {} -n {}", first.name, first.namespace);
        Fix::run(
            "create it again; where its controller does so, delete it",
            kubectl(&command),
        )
    };
    let restart = first.restart.as_ref().map(|restart| {
        let text = "create its Deployment's Pods again";
        Fix::run(text, format!("{restart}{same_cluster}"))
    });
    let fix = restart.unwrap_or_else(delete);
    let result = if failing.is_empty() {
        StepResult::warning(message, fix)
    } else {
        StepResult::failed(message, fix)
    };
    result.id(ids::PULL_SECRET_NOT_REFERENCED)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::NamespaceName;

    fn pod(name: &str, is_image_pull_failing: bool, restart: Option<&str>) -> MissedPod {
        MissedPod {
            namespace: NamespaceName::constant("shop"),
            name: name.parse().unwrap(),
            is_image_pull_failing,
            lacks: vec!["pullpass".to_owned()],
            restart: restart.map(str::to_owned),
        }
    }

    /// What fails is named before what only waits.
    #[test]
    fn fails_where_an_image_could_not_be_pulled() {
        let kubectl = |command: &str| format!("kubectl {command} --context x");
        let of = |missed: &[MissedPod]| judge(missed, kubectl, " --context x");
        assert!(of(&[]).is(ids::OK));
        let waits = of(&[pod("a", false, None)]);
        assert!(waits.is(ids::PULL_SECRET_NOT_REFERENCED));
        assert!(format!("{waits:?}").contains("Warning"), "{waits:?}");
        let fails = of(&[
            pod("a", false, None),
            pod(
                "b",
                true,
                Some("kubectl rollout restart deployment/b -n shop"),
            ),
        ]);
        let text = format!("{fails:?}");
        for words in [
            "Failed",
            "1 Pod waits without the reference pullpass, which cannot be added: b",
            "kubectl rollout restart deployment/b -n shop --context x",
        ] {
            assert!(text.contains(words), "{text}");
        }
        let bare = format!("{:?}", of(&[pod("b", true, None)]));
        assert!(
            bare.contains("kubectl delete pod b -n shop --context x"),
            "{bare}"
        );
    }
}
