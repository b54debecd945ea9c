//! The Pod that is tried as a dry run, and what it came back as. Pure.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::context::CheckContext;
use super::ids;
use super::report::{Fix, StepResult};
use crate::cluster::DryRunPod;
use crate::controller::missed_pods::calls::{CAUSES, NOT_CALLED};
use crate::names::{NamespaceName, ObjectName};
use crate::provision::namespace::INJECT_LABEL;
use crate::registry::Labels;

/// Whether a Pod came back with the references that it needs, else why not.
pub(super) fn check_pod(
    context: &CheckContext<'_>,
    namespace: &NamespaceName,
    tried: &DryRunPod,
    needed: &BTreeSet<ObjectName>,
) -> StepResult {
    let warnings = tried.warnings.iter().map(String::as_str);
    let warnings: Vec<&str> = warnings
        .filter(|warning| warning.contains("pullpass"))
        .collect();
    let said = if warnings.is_empty() {
        String::new()
    } else {
        format!(" (it is warned: {})", warnings.join("; "))
    };
    let references: Vec<&str> = tried.pull_secrets.iter().map(String::as_str).collect();
    let missing: Vec<&str> = needed
        .iter()
        .map(AsRef::as_ref)
        .filter(|name| !references.contains(name))
        .collect();
    if needed.is_empty() {
        let message = "a Pod needs no reference: its node's kubelet asks pullpass for the login";
        return StepResult::ok(format!("{message}{said}"));
    }
    if missing.is_empty() {
        return StepResult::ok(format!("a Pod references {}{said}", references.join(", ")));
    }
    let message = format!(
        "a Pod comes back without the reference {}{said}",
        missing.join(", ")
    );
    if context
        .args
        .pod_labels
        .get(INJECT_LABEL)
        .is_some_and(|value| value == "disabled")
    {
        let fix = format!("take the label {INJECT_LABEL}=disabled off the Pod");
        return StepResult::failed(message, fix).id(ids::POD_OPTED_OUT);
    }
    if said.contains("enforces mountable secrets") {
        return StepResult::failed(message, list_secrets(context, namespace, &missing))
            .id(ids::MOUNTABLE_SECRETS);
    }
    if warnings.is_empty() {
        let same_cluster = context.same_cluster();
        let list = context.own_place(&same_cluster).list_pods();
        // What the API server answers when a webhook of `failurePolicy: Ignore` does not: nothing.
        return StepResult::failed(
            format!("{message}, and without a word of pullpass: {NOT_CALLED}"),
            format!("see that pullpass runs and is ready ({list}); {CAUSES}"),
        )
        .id(ids::WEBHOOK_NOT_CALLED);
    }
    StepResult::failed(message, "do what the warning says").id(ids::PULL_SECRET_NOT_REFERENCED)
}

/// Lists the pull secrets in the ServiceAccount; kubectl merges them with those that it lists already.
fn list_secrets(context: &CheckContext<'_>, namespace: &NamespaceName, missing: &[&str]) -> Fix {
    let account = &context.args.service_account;
    let listed: Vec<Value> = missing.iter().map(|name| json!({"name": name})).collect();
    let patch = json!({"imagePullSecrets": listed});
    let command = format!("patch serviceaccount {account} -n {namespace} -p '{patch}'");
    let text = "its ServiceAccount enforces mountable secrets: list the pull secret there";
    Fix::run(text, context.kubectl(&command))
}

/// A Pod that the restricted Pod Security Standard and quotas take.
///
/// <https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted>
pub(super) fn pod(images: &[String], service_account: &str, labels: &Labels) -> Value {
    let little = json!({"cpu": "1m", "memory": "4Mi"});
    let containers: Vec<Value> = images
        .iter()
        .enumerate()
        .map(|(number, image)| {
            json!({
                "name": format!("c{number}"), "image": image,
                "resources": {"requests": little, "limits": little},
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
            })
        })
        .collect();
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"generateName": "pullpass-check-", "labels": labels},
        "spec": {
            "serviceAccountName": service_account,
            "containers": containers,
            // No fixed ids: OpenShift gives each namespace its own.
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
        },
    })
}
