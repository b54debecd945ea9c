//! A Registry whose login kubelets ask for: whether they do. Pure.

use super::{Reason, RegistryFacts, Verdict};
use crate::provision::login_outcomes::parse_reason;
use crate::quantity;
use crate::registry::crd::RegistryStatus;

/// Nobody got a login yet.
pub(super) const NOT_OBSERVED: &str = "NotObserved";
/// Somebody did.
pub(super) const SERVED_BY_NODE: &str = "ServedByNode";

/// How a message begins that says what kubelets got: no other condition `Ready` of a Registry says that.
const LAST_FAILED: &str = "the kubelet that asked last got no login: ";
/// See [`LAST_FAILED`].
const NAMESPACES_FAIL: &str = "kubelets get no login for Pods of ";

/// What is known of kubelets that ask.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::controller) struct AskedFacts {
    /// How many nodes' kubelets did lately; `None`: that was not read yet.
    pub(in crate::controller) nodes: Option<usize>,
    /// Whether any of them got a login lately: to ask is not to be served.
    pub(in crate::controller) is_served: bool,
    /// Where the namespace's own identity gets none, and why it does not in one of them.
    pub(in crate::controller) failing: Option<FailingNamespaces>,
    /// Whether Secrets hold the login as well.
    pub(in crate::controller) has_secret: bool,
    /// Why there is no login to be given, though no Secret lacks it.
    pub(in crate::controller) source_problem: Option<String>,
}

/// Namespaces whose own identity fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::controller) struct FailingNamespaces {
    /// How many there are.
    pub(in crate::controller) count: usize,
    /// One of them.
    pub(in crate::controller) named: String,
    /// Why it fails there.
    pub(in crate::controller) why: Reason,
}

impl FailingNamespaces {
    /// That they get no login.
    fn describe(&self) -> Reason {
        let message = format!(
            "{NAMESPACES_FAIL}{}, for one {}: {}",
            quantity::count(self.count, "namespace"),
            self.named,
            self.why.message
        );
        self.why.in_words(message)
    }
}

impl RegistryFacts {
    /// Whether Secrets hold its login.
    pub(super) fn has_secrets(&self) -> bool {
        self.asked.as_ref().is_none_or(|asked| asked.has_secret)
    }
}

/// That some namespaces' own identities fail, if some do.
pub(super) fn find_failing(facts: &RegistryFacts) -> Option<Reason> {
    let failing = facts.asked.as_ref()?.failing.as_ref()?;
    Some(failing.describe())
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

/// Whether it is ready where no Secret holds its login: whether the kubelet that asked last got it.
///
/// A namespace's own identity that fails is that namespace's matter, and the others are served: it makes the Registry `Degraded`, and
/// not ready only where nobody ever was served.
///
/// That nobody asked yet is no failure: it is not known. It may pass, as a Pod is all that it takes.
pub(super) fn decide_ready(facts: &RegistryFacts, before: Option<&RegistryStatus>) -> Verdict {
    let asked = facts.asked.clone().unwrap_or_default();
    if let Some(problem) = asked.source_problem {
        return Verdict::new(false, Reason::new("MissingSource", problem));
    }
    if let Some(known) = before.filter(|_| asked.nodes.is_none()).and_then(keep) {
        return known;
    }
    if let Some(failure) = &facts.failure {
        let message = format!("{LAST_FAILED}{}", failure.message);
        return Verdict::new(false, failure.in_words(message));
    }
    if let Some(message) = describe(facts, before).filter(|_| asked.is_served) {
        return Verdict::new(true, Reason::new(SERVED_BY_NODE, message));
    }
    if let Some(failing) = find_failing(facts) {
        return Verdict::new(false, failing);
    }
    Verdict::unknown(
        NOT_OBSERVED,
        "no node's kubelet got its login yet, so it is not known whether nodes ask: set up the credential provider on the nodes of its Pods (docs/DELIVERY.md) and create a Pod there with one of its images, or set spec.delivery to Both",
    )
}

/// What an earlier leader said, until this one has read what kubelets asked.
fn keep(before: &RegistryStatus) -> Option<Verdict> {
    before.nodes?;
    let mut conditions = before.conditions.iter();
    let ready = conditions.find(|known| known.type_ == "Ready")?;
    let message = ready.message.as_str();
    if ready.status == "True" && ready.reason == SERVED_BY_NODE {
        return Some(Verdict::new(true, Reason::new(SERVED_BY_NODE, message)));
    }
    let is_of_kubelets = [LAST_FAILED, NAMESPACES_FAIL].map(|begin| message.starts_with(begin));
    let is_kept = ready.status == "False" && is_of_kubelets.contains(&true);
    let reason = parse_reason(&ready.reason).filter(|_| is_kept)?;
    Some(Verdict::new(false, Reason::new(reason, message)))
}

/// How many nodes' kubelets asked, in words; `None`: they do not ask.
pub(super) fn describe(facts: &RegistryFacts, before: Option<&RegistryStatus>) -> Option<String> {
    Some(match count(facts, before)? {
        0 => "no node's kubelet asked for it yet (docs/DELIVERY.md)".to_owned(),
        1 => "the kubelet of 1 node asked for it in the last 14 days".to_owned(),
        nodes => format!("the kubelets of {nodes} nodes asked for it in the last 14 days"),
    })
}
