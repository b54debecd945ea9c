//! A Registry whose login kubelets ask for: whether they do. Pure.

use super::{Reason, RegistryFacts, Verdict};
use crate::registry::crd::RegistryStatus;

/// Nobody asked yet.
pub(super) const NOT_OBSERVED: &str = "NotObserved";
/// Somebody did.
pub(super) const SERVED_BY_NODE: &str = "ServedByNode";

/// What is known of kubelets that ask.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::controller) struct AskedFacts {
    /// How many nodes' kubelets did lately; `None`: that was not read yet.
    pub(in crate::controller) nodes: Option<usize>,
    /// Whether Secrets hold the login as well.
    pub(in crate::controller) has_secret: bool,
    /// Why there is no login to be given, though no Secret lacks it.
    pub(in crate::controller) source_problem: Option<String>,
}

impl RegistryFacts {
    /// Whether Secrets hold its login.
    pub(super) fn has_secrets(&self) -> bool {
        self.asked.as_ref().is_none_or(|asked| asked.has_secret)
    }
}

/// How many nodes' kubelets asked, or what an earlier leader knew of that; `None`: they do not ask.
pub(super) fn count(facts: &RegistryFacts, before: Option<&RegistryStatus>) -> Option<i64> {
    let asked = facts.asked.as_ref()?;
    let known = asked
        .nodes
        .map(|nodes| i64::try_from(nodes).unwrap_or(i64::MAX));
    Some(
        known
            .or(before.and_then(|before| before.nodes))
            .unwrap_or(0),
    )
}

/// Whether it is ready where no Secret holds its login.
pub(super) fn decide_ready(facts: &RegistryFacts, before: Option<&RegistryStatus>) -> Verdict {
    let problem = facts
        .asked
        .as_ref()
        .and_then(|asked| asked.source_problem.as_ref());
    if let Some(problem) = problem {
        return Verdict::new(false, Reason::new("MissingSource", problem));
    }
    match describe(facts, before) {
        Some(message) if count(facts, before) > Some(0) => {
            Verdict::new(true, Reason::new(SERVED_BY_NODE, message))
        }
        _ => Verdict::unknown(
            NOT_OBSERVED,
            "no node's kubelet asked for its login yet: set up the credential provider on the nodes of its Pods (docs/DELIVERY.md) and create a Pod there with one of its images, or set spec.delivery to Both",
        ),
    }
}

/// How many nodes' kubelets asked, in words; `None`: they do not ask.
pub(super) fn describe(facts: &RegistryFacts, before: Option<&RegistryStatus>) -> Option<String> {
    Some(match count(facts, before)? {
        0 => "no node's kubelet asked for it yet (docs/DELIVERY.md)".to_owned(),
        1 => "the kubelet of 1 node asked for it in the last 14 days".to_owned(),
        nodes => format!("the kubelets of {nodes} nodes asked for it in the last 14 days"),
    })
}
