//! What is known of kubelets that ask for a Registry's login, for its status.

use std::collections::{BTreeMap, BTreeSet};

use super::StatusInput;
use crate::controller::conditions::{AskedFacts, FailingNamespaces, Reason};
use crate::names::NamespaceName;
use crate::provision::Provision as _;
use crate::provision::login_outcomes::{LoginFailure, LoginOutcomes, LoginSource};
use crate::registry::{CredentialSource, RegistryInfo, ValidRegistry};

/// What is known of them; `None`: they do not ask.
pub(super) fn find(
    input: &StatusInput<'_>,
    listed: &RegistryInfo,
    registry: &ValidRegistry,
) -> Option<AskedFacts> {
    if !registry.delivers_by_node() {
        return None;
    }
    let has_secret = registry.delivers_by_secret();
    // Where Secrets hold it, they lack it because of that.
    let problems = (!has_secret).then(|| input.provisioner.source_problems(registry));
    let seen = input.nodes.get(listed);
    let failing = seen.as_ref().filter(|_| !has_secret);
    Some(AskedFacts {
        nodes: seen.as_ref().map(|seen| seen.nodes.len()),
        is_served: seen
            .as_ref()
            .is_some_and(|seen| seen.outcomes.served().is_some()),
        failing: failing.and_then(|seen| find_failing(input, registry, &seen.outcomes)),
        has_secret,
        source_problem: problems.and_then(|problems| problems.into_iter().next()),
    })
}

/// Why the Registry's own identity got no login when a kubelet asked last; `None`: it did, or Secrets hold the login, and the leader mints
/// for these.
pub(super) fn find_failure(
    input: &StatusInput<'_>,
    listed: &RegistryInfo,
    registry: &ValidRegistry,
) -> Option<Reason> {
    if registry.delivers_by_secret() {
        return None;
    }
    let seen = input.nodes.get(listed)?;
    let mut failures = find_current(registry, &seen.outcomes);
    let (_, failure) = failures.find(|(source, _)| source.namespace.is_none())?;
    Some(reason_of(failure))
}

/// The namespaces that it serves and whose own identity fails.
fn find_failing(
    input: &StatusInput<'_>,
    registry: &ValidRegistry,
    outcomes: &LoginOutcomes,
) -> Option<FailingNamespaces> {
    let is_served = |name: &NamespaceName| {
        let namespace = input.provisioner.namespace(name);
        namespace.is_some_and(|namespace| {
            namespace.wants_pull_secrets() && registry.namespaces.matches(&namespace.labels)
        })
    };
    let failing = find_current(registry, outcomes)
        .filter_map(|(source, failure)| Some((source.namespace.as_ref()?, failure)));
    let failing: BTreeMap<&NamespaceName, &LoginFailure> =
        failing.filter(|(name, _)| is_served(name)).collect();
    let (named, failure) = failing.first_key_value()?;
    Some(FailingNamespaces {
        count: failing.len(),
        named: named.to_string(),
        why: reason_of(failure),
    })
}

/// What fails of the credentials that the Registry has now: it may have had others.
fn find_current<'o>(
    registry: &ValidRegistry,
    outcomes: &'o LoginOutcomes,
) -> impl Iterator<Item = (&'o LoginSource, &'o LoginFailure)> + use<'o> {
    let sources = registry.sources.iter();
    let sources = sources.filter_map(|(source, _)| match source {
        CredentialSource::Minted(source) => Some(source.canonical()),
        CredentialSource::Static(_) => None,
    });
    let sources: BTreeSet<String> = sources.collect();
    let failures = outcomes.failures();
    failures.filter(move |(source, _)| sources.contains(&source.source))
}

fn reason_of(failure: &LoginFailure) -> Reason {
    Reason::new(failure.reason.clone(), &*failure.message)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::json;

    use super::*;
    use crate::provision::Pending;
    use crate::registry::Registries;

    fn registries(region: &str, identity: &serde_json::Value) -> Registries {
        let host = format!("123456789012.dkr.ecr.{region}.amazonaws.com");
        let registry = json!({
            "apiVersion": "pullpass.dev/v1alpha1", "kind": "Registry", "metadata": {"name": "one"},
            "spec": {"namespaceSelector": {}, "images": [host], "delivery": "Node", "ecr": {"identity": identity}},
        });
        Registries::build([serde_json::from_value(registry).unwrap()])
    }

    /// What was corrected by another identity is no failure of this one.
    #[test]
    fn counts_failures_of_the_credentials_that_the_registry_has_now() {
        let (workload, node) = (json!({"workload": {}}), json!({"node": {}}));
        let failing = registries("eu-west-1", &workload);
        let pending = Pending {
            registry: None,
            reason: "AccessDenied",
            message: "no: ask".to_owned(),
            is_for_admins: true,
        };
        let mut outcomes = LoginOutcomes::default();
        let failure = LoginFailure::new(&pending, Timestamp::UNIX_EPOCH);
        for (source, _) in &failing.get("one").unwrap().sources {
            let source = LoginSource::of(source, &NamespaceName::constant("team-a"));
            outcomes.note_failure(&source.unwrap(), &failure);
        }
        for (region, identity, count) in [
            ("eu-west-1", &workload, 1),
            ("eu-west-1", &node, 0),
            ("us-east-1", &workload, 0),
        ] {
            let now = registries(region, identity);
            let found = find_current(now.get("one").unwrap(), &outcomes);
            assert_eq!(found.count(), count, "{region} {identity}");
        }
    }
}
