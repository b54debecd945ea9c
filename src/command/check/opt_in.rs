//! Why nothing is written into a namespace, whatever Registries say: its opt-in label. Pure.

use super::context::CheckContext;
use super::ids;
use super::report::{Fix, StepResult};
use crate::provision::Namespace;
use crate::provision::namespace::{ENFORCE_LABEL, INJECT_LABEL};

/// What to do about a namespace that is opted in and excluded.
const EXCLUDED_FIX: &str = "take its label pullpass.dev/inject off, or take it out of webhook.excludeNamespaces (kube-* and pullpass' own are always excluded)";

/// What keeps a namespace out; `None`: it opted in.
pub(super) fn find_problem(
    context: &CheckContext<'_>,
    namespace: &Namespace,
) -> Option<StepResult> {
    if namespace.excluded {
        return Some(excluded());
    }
    if namespace.mode.is_opted_in() {
        return None;
    }
    // A label that is there already is changed only with --overwrite.
    let command = format!(
        "label namespace {} {INJECT_LABEL}=enabled --overwrite",
        namespace.name
    );
    let fix = Fix::run("opt it in", context.kubectl(&command));
    if let Some(unknown) = namespace.find_unknown_inject() {
        // The command is in the fix.
        let (message, _) = unknown.split_once("; write").unwrap_or((&unknown, ""));
        return Some(StepResult::failed(message, fix).id(ids::UNKNOWN_INJECT_VALUE));
    }
    let message = match namespace.labels.get(INJECT_LABEL) {
        Some(value) => format!("the namespace did not opt in: {INJECT_LABEL}={value}"),
        None => "the namespace did not opt in".to_owned(),
    };
    Some(StepResult::failed(message, fix).id(ids::NAMESPACE_NOT_OPTED_IN))
}

/// What is said of a namespace that asks for something to be enforced, by a value that means nothing.
pub(super) fn find_unknown_enforce(
    context: &CheckContext<'_>,
    namespace: &Namespace,
) -> Option<StepResult> {
    let value = namespace.labels.get(ENFORCE_LABEL)?;
    if matches!(value.as_str(), "warn" | "deny") {
        return None;
    }
    let message = format!("the label {ENFORCE_LABEL}={value} means nothing: nothing is enforced");
    let command = format!(
        "label namespace {} {ENFORCE_LABEL}=warn --overwrite",
        namespace.name
    );
    let fix = Fix::run("write warn or deny", context.kubectl(&command));
    Some(StepResult::warning(message, fix).id(ids::UNKNOWN_ENFORCE_VALUE))
}

/// It opted in and is excluded.
pub(super) fn excluded() -> StepResult {
    let why = "the namespace is opted in and excluded";
    StepResult::failed(why, EXCLUDED_FIX).id(ids::NAMESPACE_EXCLUDED)
}
