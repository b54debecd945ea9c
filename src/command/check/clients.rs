//! Which clients can use a Secret that holds several logins for one host. Pure.

use std::collections::BTreeMap;

use super::context::CheckContext;
use super::ids;
use super::report::StepResult;
use crate::names::ObjectName;
use crate::provision::digest::Digest;
use crate::provision::shared_hosts;
use crate::registry::clients::WantedLogin;
use crate::registry::{Grant, Labels};

/// What is to be said of a Secret with these logins, of each such host. Those that builders mount are to be right for all of them; Pods'
/// own are read by the kubelet.
pub(super) fn of_secret(
    context: &CheckContext<'_>,
    labels: &Labels,
    (name, grants): (&ObjectName, &[Grant]),
    there: &BTreeMap<String, Digest>,
) -> Vec<StepResult> {
    let is_mounted = grants.iter().any(Grant::is_mounted);
    let describe = |domain: String| {
        let (registries, wanted) = (&context.registries, WantedLogin::Secret(name));
        let message = registries.describe_shared_host(labels, (name, &domain), wanted);
        let result = if is_mounted {
            let fix = "give each Registry with access Push or exports one login per host: split it";
            StepResult::warning(message, fix)
        } else {
            StepResult::ok(message)
        };
        result.id(ids::SEVERAL_LOGINS)
    };
    shared_hosts::find(there)
        .into_iter()
        .map(describe)
        .collect()
}
