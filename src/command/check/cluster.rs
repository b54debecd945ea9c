//! The steps of a cluster: the API server calls pullpass.

use jiff::Timestamp;

use super::context::CheckContext;
use super::report::{CheckReport, StepResult, SubjectKind};
use super::{advice, ids, opt_in};
use crate::cluster::{Kube, WebhookTarget};
use crate::command::NAME_LABEL;
use crate::command::installed::{describe_no_validating, fetch_parts};
use crate::controller::missed_pods::calls::CAUSES;

/// What brings the webhook configurations back as they were installed.
fn restore(context: &CheckContext<'_>) -> String {
    let apply = context.kubectl("apply --server-side -f manifests/install.yaml");
    format!("helm upgrade with the values that there are, or {apply}")
}

/// Checks whether the API server is configured to call pullpass.
pub(super) async fn check(
    context: &CheckContext<'_>,
    kube: &Kube,
    report: &mut CheckReport,
) -> anyhow::Result<()> {
    if !context.args.files.is_empty() {
        report.begin(SubjectKind::Cluster, kube.namespace());
    }
    report.start();
    let parts = fetch_parts(kube).await;
    let result = match &parts.webhooks {
        // The Registries say so already.
        Ok(_) if report.has_found(ids::NOT_INSTALLED) => {
            StepResult::skipped("not tried: pullpass is not installed here")
        }
        Ok(_) if !parts.is_installed(Timestamp::now()) => advice::not_installed(kube.namespace()),
        Ok(webhooks) => match check_webhooks(webhooks, context) {
            result if parts.lacks_validating() => result.or(no_validating(context)),
            result => result,
        },
        Err(error) => advice::of_cluster(error),
    };
    report.add("webhook", result)?;
    if let Some(said) = &context.not_called {
        let (message, causes) = said.split_once("; ").unwrap_or((said, CAUSES));
        let result = StepResult::failed(message, causes).id(ids::WEBHOOK_NOT_CALLED);
        report.note("webhook", result)?;
    }
    Ok(())
}

fn no_validating(context: &CheckContext<'_>) -> StepResult {
    let fix = format!("restore it: {}", restore(context));
    StepResult::failed(describe_no_validating(), fix).id(ids::VALIDATING_WEBHOOK_MISSING)
}

fn check_webhooks(webhooks: &[WebhookTarget], context: &CheckContext<'_>) -> StepResult {
    let selects = |webhook: &&WebhookTarget| match (context.labels(), &webhook.namespaces) {
        (Some(labels), Some(selector)) if !context.namespace_missing => selector.matches(labels),
        _ => true,
    };
    let Some(first) = webhooks.first() else {
        let message = "no webhook configuration calls pullpass";
        return StepResult::failed(message, format!("restore it: {}", restore(context)))
            .id(ids::WEBHOOK_MISSING);
    };
    let Some(webhook) = webhooks.iter().find(selects) else {
        return not_called(first, context);
    };
    let WebhookTarget {
        configuration,
        target,
        ..
    } = webhook;
    if webhook.has_ca {
        return StepResult::ok(format!("{configuration} calls {target}"));
    }
    StepResult::failed(
        format!("{configuration} calls {target} and has no caBundle"),
        "the leader writes it with certificates.mode self: see its log; with certificate files write the CA that signed them into caBundle, as manifests/webhook.yaml says",
    )
    .id(ids::CA_BUNDLE_MISSING)
}

/// What keeps the API server from calling pullpass for the namespace: its label, that it is excluded, or a selector that somebody changed.
fn not_called(webhook: &WebhookTarget, context: &CheckContext<'_>) -> StepResult {
    let configuration = &webhook.configuration;
    let Some(namespace) = &context.namespace else {
        return StepResult::ok(format!("{configuration} calls {}", webhook.target));
    };
    let what = format!(
        "{configuration} is not called for namespace {}",
        namespace.name
    );
    if opt_in::find_problem(context, namespace).is_some() {
        // Its step `optIn` says what and what to do.
        return StepResult::skipped(format!("not tried: {what}, see optIn"));
    }
    // Who runs this need not know what the chart excludes: the selector does, by name.
    let mut renamed = namespace.labels.clone();
    renamed.insert(NAME_LABEL.to_owned(), "another".to_owned());
    let selector = webhook.namespaces.as_ref();
    if selector.is_some_and(|selector| selector.matches(&renamed)) {
        return opt_in::excluded().about(&what);
    }
    StepResult::failed(
        format!("{what}: its namespaceSelector does not select it, though it opted in"),
        format!("put the selector back: {}", restore(context)),
    )
    .id(ids::WEBHOOK_SELECTOR_CHANGED)
}
