//! A Registry that no opted-in namespace is to hold a login of: why. Pure.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::asked::SERVED_BY_NODE;
use super::{PROVISIONING, Reason};
use crate::provision::Namespace;
use crate::quantity::count;
use crate::registry::ValidRegistry;
use crate::registry::selector::LabelSelector;

/// How many labels a message names.
const LABELS: usize = 5;
/// How much of a selector a message holds, in bytes.
const SELECTOR: usize = 256;

/// Which opted-in namespaces a Registry selects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::controller) enum Reach {
    /// There are none.
    #[default]
    NoneOptedIn,
    /// None of those that there are.
    NoneMatches {
        /// What its selector asks for, and which labels exist.
        message: String,
    },
    /// Some, whose Pods' kubelets ask for it: no Secret holds it.
    ByNode,
    /// Some, in which other Registries give everything.
    Outranked,
    /// Some, and its own Secrets are not there yet: no other Registry can give what it does.
    NotYet,
}

impl Reach {
    /// Whether it is ready, and why.
    pub(super) fn decide_ready(&self) -> (bool, Reason) {
        match self {
            Self::NoneOptedIn => {
                let message = "no namespace opted in yet: label one pullpass.dev/inject=enabled, and as namespaceSelector asks";
                (true, Reason::new("NoNamespacesYet", message))
            }
            Self::NoneMatches { message } => (false, Reason::new("NoMatchingNamespaces", message)),
            Self::ByNode => (true, Reason::new(SERVED_BY_NODE, "kubelets ask for it")),
            Self::Outranked => {
                let message = "other Registries come first for all its images in the namespaces that it selects: ask `pullpass explain`";
                (true, Reason::new("Outranked", message))
            }
            Self::NotYet => {
                let message = "its Secrets are on their way";
                (false, Reason::new(PROVISIONING, message))
            }
        }
    }
}

/// Which of these namespaces, all that opted in, a Registry selects.
pub(in crate::controller) fn find_reach(
    registry: &ValidRegistry,
    opted_in: &[Arc<Namespace>],
) -> Reach {
    let selector = &registry.namespaces;
    if opted_in.is_empty() {
        return Reach::NoneOptedIn;
    }
    if opted_in.iter().any(|one| selector.matches(&one.labels)) {
        return if !registry.delivers_by_secret() {
            Reach::ByNode
        } else if registry.access.is_pull() && registry.exports.is_empty() {
            Reach::Outranked
        } else {
            Reach::NotYet
        };
    }
    let message = format!(
        "namespaceSelector \"{}\" selects none of {}, {}: correct it, or label a namespace so; one that is meant has to opt in, too (pullpass.dev/inject=enabled)",
        shorten(&selector.to_string()),
        count(opted_in.len(), "opted-in namespace"),
        describe(selector, opted_in)
    );
    Reach::NoneMatches { message }
}

/// The labels that the selector asks about, with the values that exist.
fn describe(selector: &LabelSelector, opted_in: &[Arc<Namespace>]) -> String {
    let asked = selector.match_labels.keys();
    let asked = asked.chain(selector.match_expressions.iter().map(|one| &one.key));
    let asked: BTreeSet<&String> = asked.collect();
    let mut found: BTreeSet<(&String, &String)> = BTreeSet::new();
    for namespace in opted_in {
        let of = |key: &&&String| namespace.labels.get_key_value(&***key);
        found.extend(asked.iter().filter_map(|key| of(&key)));
    }
    if found.is_empty() {
        let asked: Vec<&str> = asked.iter().take(LABELS).map(|key| key.as_str()).collect();
        return format!("none of which has a label {}", asked.join(" or "));
    }
    let named = found.iter().take(LABELS);
    let named: Vec<String> = named.map(|(key, value)| format!("{key}={value}")).collect();
    let more = match found.len() - named.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("where {}{more} exist", named.join(", "))
}

fn shorten(text: &str) -> String {
    if text.len() <= SELECTOR {
        return text.to_owned();
    }
    format!("{}…", &text[..text.floor_char_boundary(SELECTOR)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Registries;

    fn reach(selector: &serde_json::Value, labels: &[(&str, &str)]) -> Reach {
        let registry = serde_json::from_value(serde_json::json!({
            "apiVersion": "pullpass.dev/v1alpha1", "kind": "Registry", "metadata": {"name": "one"},
            "spec": {"images": ["a.example.com"], "namespaceSelector": selector, "static": {"secretRef": {"name": "a"}}},
        }));
        let registries = Registries::build([registry.unwrap()]);
        let namespace = |(number, (key, value)): (usize, &(&str, &str))| {
            let labels = [(*key).to_owned()].into_iter().zip([(*value).to_owned()]);
            let name = format!("n{number}").parse().unwrap();
            Arc::new(Namespace::new(name, labels.collect(), false))
        };
        let namespaces: Vec<_> = labels.iter().enumerate().map(namespace).collect();
        find_reach(registries.get("one").unwrap(), &namespaces)
    }

    fn message(selector: &serde_json::Value, labels: &[(&str, &str)]) -> String {
        match reach(selector, labels) {
            Reach::NoneMatches { message } => message,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn tells_a_typo_from_namespaces_that_are_not_there_yet() {
        let payment = serde_json::json!({"matchLabels": {"team": "payment"}});
        assert_eq!(reach(&payment, &[]), Reach::NoneOptedIn);
        assert_eq!(reach(&payment, &[("team", "payment")]), Reach::Outranked);
        let told = message(
            &payment,
            &[("team", "payments"), ("team", "orders"), ("a", "b")],
        );
        assert!(told.contains("\"team=payment\" selects none of 3 opted-in namespaces, where team=orders, team=payments exist"), "{told}");
        let told = message(&payment, &[("teams", "payment")]);
        assert!(
            told.contains("1 opted-in namespace, none of which has a label team:"),
            "{told}"
        );
        let absent =
            serde_json::json!({"matchExpressions": [{"key": "env", "operator": "DoesNotExist"}]});
        let told = message(&absent, &[("env", "prod")]);
        assert!(
            told.contains("\"!env\" selects none") && told.contains("env=prod exist"),
            "{told}"
        );
    }

    #[test]
    fn names_few_labels_of_many() {
        let values: Vec<String> = (0..1000)
            .map(|number| format!("team-{number:04}"))
            .collect();
        let labels: Vec<(&str, &str)> = values.iter().map(|value| ("team", &**value)).collect();
        let asked: Vec<String> = (0..64).map(|number| format!("{number:063}")).collect();
        let selector = serde_json::json!({"matchExpressions": [{"key": "team", "operator": "In", "values": asked}]});
        let told = message(&selector, &labels);
        assert!(told.contains("team=team-0004 and 995 more exist"), "{told}");
        assert!(told.len() < 600, "{}", told.len());
    }
}
