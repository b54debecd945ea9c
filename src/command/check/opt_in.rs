//! Why nothing is written into a namespace, whatever Registries say: its opt-in label. Pure.

use super::context::CheckContext;
use super::ids;
use super::report::{Fix, HopResult};
use crate::provision::namespace::INJECT_LABEL;
use crate::provision::{InjectMode, Namespace};

/// What to do about a namespace that is opted in and excluded.
const EXCLUDED_FIX: &str = "take its label pullpass.dev/inject off, or take it out of webhook.excludeNamespaces (kube-* and pullpass' own are always excluded)";

/// What keeps a namespace out; `None`: it opted in.
pub(super) fn find_problem(context: &CheckContext<'_>, namespace: &Namespace) -> Option<HopResult> {
    if namespace.excluded {
        return Some(excluded());
    }
    if namespace.mode != InjectMode::Off {
        return None;
    }
    // A label that is there already is changed only with --overwrite.
    let command = format!(
        "label namespace {} {INJECT_LABEL}=enabled --overwrite",
        namespace.name
    );
    let fix = Fix::run("opt it in", context.kubectl(&command));
    Some(match namespace.labels.get(INJECT_LABEL) {
        Some(value) if value != "disabled" => {
            let message = format!(
                "the namespace did not opt in: its label {INJECT_LABEL}={value} means nothing, known are enabled, all and disabled"
            );
            HopResult::failed(message, fix).id(ids::INJECT_LABEL_UNKNOWN)
        }
        Some(_) => {
            let message = format!("the namespace did not opt in: {INJECT_LABEL}=disabled");
            HopResult::failed(message, fix).id(ids::NAMESPACE_NOT_OPTED_IN)
        }
        None => {
            HopResult::failed("the namespace did not opt in", fix).id(ids::NAMESPACE_NOT_OPTED_IN)
        }
    })
}

/// It opted in and is excluded.
pub(super) fn excluded() -> HopResult {
    let why = "the namespace is opted in and excluded";
    HopResult::failed(why, EXCLUDED_FIX).id(ids::NAMESPACE_EXCLUDED)
}
