//! Why no Registry serves an image or a namespace, and what to do about each cause. Pure.

use std::collections::BTreeSet;

use super::context::CheckContext;
use super::ids;
use super::report::{Fix, StepResult};
use crate::command::explain;
use crate::provision::namespace::INJECT_LABEL;
use crate::quantity::verb_of;
use crate::registry::selector::LabelSelector;
use crate::registry::{Explanation, Host, Labels, RegistryMatch, ValidRegistry, Why};

/// How many Registries, and how many labels, a message names.
const MAX_NAMED: usize = 5;

/// No Registry serves an image, which is written like this.
pub(super) fn of_image(
    context: &CheckContext<'_>,
    image: &str,
    explanation: &Explanation<'_>,
    host: Option<Host<'_>>,
) -> StepResult {
    if context.registries_unknown {
        return unknown_registries();
    }
    if context.namespace_missing {
        return missing_namespace(context);
    }
    let reason = explain::reason(explanation, host);
    // The cause that is nearest to serving the image decides what to do.
    let nearest = explanation.matches.iter().min_by_key(|one| distance(one));
    if context.registries.iter().next().is_none() {
        let fix = format!(
            "create a Registry with a pattern for it, whose namespaceSelector selects {} (docs/REGISTRY.md)",
            context.args.namespace.as_deref().map_or_else(
                || "the namespace".to_owned(),
                |name| format!("namespace {name}")
            ),
        );
        return StepResult::failed("no Registry serves it: there is none", fix).id(ids::NO_PATTERN);
    }
    let other = || {
        let fix = format!(
            "add a pattern for it to a Registry that serves the namespace; why none serves it: {}",
            context.explain(image)
        );
        StepResult::failed(reason.clone(), fix).id(ids::NO_PATTERN)
    };
    let Some(nearest) = nearest else {
        return other();
    };
    if matches!(nearest.why, Why::NamespaceNotServed) {
        let message = format!("{reason}; {}", describe_labels(context));
        let fix = select_namespace(context, nearest.registry);
        return StepResult::failed(message, fix).id(ids::NAMESPACE_NOT_SELECTED);
    }
    match of_match(context, nearest) {
        Some((id, fix)) => StepResult::failed(reason, fix).id(id),
        None => other(),
    }
}

/// What to do so that this Registry serves an image; `None`: it has nothing to do with it.
fn of_match(
    context: &CheckContext<'_>,
    RegistryMatch { registry, why }: &RegistryMatch<'_>,
) -> Option<(&'static str, Fix)> {
    let name = &registry.name;
    Some(match why {
        Why::Suspended => (ids::SUSPENDED, resume(context, registry)),
        Why::ServiceAccountNotServed => {
            let accounts = registry.service_accounts.join(" or ");
            let fix = format!(
                "run the Pod as ServiceAccount {accounts} (--service-account tries it), or add {} to serviceAccountNames of Registry {name}",
                context.args.service_account
            );
            (ids::SERVICE_ACCOUNT_NOT_SELECTED, fix.into())
        }
        Why::PodNotServed => {
            let selector = registry.pods.as_ref();
            let selector = selector.map(ToString::to_string).unwrap_or_default();
            let fix = format!(
                "give the Pod the labels that podSelector of Registry {name} asks for, {selector} (--pod-labels tries it), or correct podSelector"
            );
            (ids::POD_NOT_SELECTED, fix.into())
        }
        Why::Excluded { exclude } => {
            let fix = format!(
                "take {exclude} out of excludedImages of Registry {name}, or leave the image alone"
            );
            (ids::IMAGE_EXCLUDED, fix.into())
        }
        Why::UppercaseHost { .. } => {
            let fix = "write the host of the image in lower case";
            (ids::UPPERCASE_HOST, fix.into())
        }
        Why::UsualPort { pattern } => {
            let host = pattern.domain();
            let fix = format!(
                "write the host of the image as {host}, the kubelet compares ports as text"
            );
            (ids::USUAL_PORT, fix.into())
        }
        Why::Pushes { .. } => {
            let fix = format!(
                "add a Registry with access Pull for it, which Pods get; builders mount the Secret of Registry {name}"
            );
            (ids::PUSH_ONLY, fix.into())
        }
        Why::NamespaceNotServed | Why::NoPattern | Why::Serves { .. } | Why::Outranked { .. } => {
            return None;
        }
    })
}

/// How far a Registry is from serving an image.
fn distance(found: &RegistryMatch<'_>) -> u8 {
    match found.why {
        Why::Serves { .. } | Why::Outranked { .. } => 0,
        Why::Suspended => 1,
        Why::PodNotServed => 2,
        Why::ServiceAccountNotServed => 3,
        Why::NamespaceNotServed => 4,
        Why::UppercaseHost { .. } | Why::UsualPort { .. } => 5,
        Why::Excluded { .. } => 6,
        Why::Pushes { .. } => 7,
        Why::NoPattern => 8,
    }
}

/// No Registry serves the namespace.
pub(super) fn of_namespace(context: &CheckContext<'_>, labels: &Labels) -> StepResult {
    if context.registries_unknown {
        return unknown_registries();
    }
    let selects = |registry: &&ValidRegistry| registry.namespaces.matches(labels);
    if let Some(registry) = context.registries.iter().find(selects) {
        return StepResult::failed(
            format!("no Registry serves it: {} is suspended", registry.name),
            resume(context, registry),
        )
        .id(ids::SUSPENDED);
    }
    let nearest = context
        .registries
        .iter()
        .min_by_key(|registry| lacking(&registry.namespaces, labels));
    let Some(nearest) = nearest else {
        let fix = "apply a Registry whose namespaceSelector selects it";
        return StepResult::failed("no Registry serves it: there is none", fix)
            .id(ids::NAMESPACE_NOT_SELECTED);
    };
    let distance = |registry: &ValidRegistry| lacking(&registry.namespaces, labels);
    let equal = context
        .registries
        .iter()
        .filter(|one| distance(one) == distance(nearest));
    // Which of several is meant, a person knows.
    let fix = if equal.count() == 1 {
        select_namespace(context, nearest)
    } else {
        "label the namespace as one of them asks, or correct its namespaceSelector; with an image of it, `pullpass check` says which".into()
    };
    let mut selectors: Vec<String> = context
        .registries
        .iter()
        .take(MAX_NAMED)
        .map(|registry| format!("{} selects {}", registry.name, registry.namespaces))
        .collect();
    let more = context.registries.iter().count() - selectors.len();
    if more > 0 {
        let does = verb_of(more, "does", "do");
        selectors.push(format!("{more} more {does} not select it either"));
    }
    let message = format!(
        "no Registry serves it: {}; {}",
        selectors.join(", "),
        describe_labels(context)
    );
    StepResult::failed(message, fix).id(ids::NAMESPACE_NOT_SELECTED)
}

/// The cluster has no namespace of that name.
pub(super) fn missing_namespace(context: &CheckContext<'_>) -> StepResult {
    let name = context.args.namespace.as_deref().unwrap_or_default();
    let command = context.kubectl(&format!("create namespace {name}"));
    let fix = Fix::run("correct the name, or create it", command);
    StepResult::failed(format!("there is no namespace {name}"), fix).id(ids::NAMESPACE_MISSING)
}

/// Who may not list Registries cannot be told which of them serve what.
fn unknown_registries() -> StepResult {
    StepResult::skipped("not tried: the Registries are not known").id(ids::REGISTRIES_FORBIDDEN)
}

/// Ends the suspension of a Registry.
pub(super) fn resume(context: &CheckContext<'_>, registry: &ValidRegistry) -> Fix {
    let command = format!(
        "patch ppr {} --type merge -p '{{\"spec\":{{\"suspend\":false}}}}'",
        registry.name
    );
    Fix::run("end its suspension", context.kubectl(&command))
}

/// Labels the namespace as the Registry asks, where that is said by labels alone.
fn select_namespace(context: &CheckContext<'_>, registry: &ValidRegistry) -> Fix {
    let (name, selector) = (&registry.name, &registry.namespaces);
    let correct = format!(
        "correct namespaceSelector \"{selector}\" of Registry {name} ({})",
        context.kubectl(&format!("edit ppr {name}"))
    );
    let Some(namespace) = context.args.namespace.as_ref() else {
        return correct.into();
    };
    let wanted: Vec<String> = selector
        .match_labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    if wanted.is_empty() || !selector.match_expressions.is_empty() {
        return format!("{correct}, or label namespace {namespace} as it asks").into();
    }
    let command = format!(
        "label namespace {namespace} {} --overwrite",
        wanted.join(" ")
    );
    Fix::run(
        format!("{correct}, or label the namespace as it asks"),
        context.kubectl(&command),
    )
}

/// How many of the labels that a selector asks for are not there so.
fn lacking(selector: &LabelSelector, labels: &Labels) -> usize {
    let has = |key: &String, value: &String| labels.get(key) == Some(value);
    let lacking = selector.match_labels.iter();
    lacking.filter(|(key, value)| !has(key, value)).count() + selector.match_expressions.len()
}

/// The labels of the namespace that a person gave it.
fn describe_labels(context: &CheckContext<'_>) -> String {
    let Some(labels) = context.labels() else {
        return "the namespace's labels are not known".to_owned();
    };
    let given: BTreeSet<String> = labels
        .iter()
        .filter(|(key, _)| *key != INJECT_LABEL && *key != crate::command::NAME_LABEL)
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    if given.is_empty() {
        return "the namespace has no labels of its own".to_owned();
    }
    let named: Vec<&str> = given.iter().take(MAX_NAMED).map(String::as_str).collect();
    let more = match given.len() - named.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("the namespace has {}{more}", named.join(", "))
}
