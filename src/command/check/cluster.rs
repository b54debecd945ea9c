//! The hops of a cluster: the API server calls pullpass.

use super::advice;
use super::context::CheckContext;
use super::report::{CheckReport, HopResult, SubjectKind};
use crate::cluster::{Kube, WEBHOOKS, WebhookTarget};
use crate::controller::missed_pods::calls::CAUSES;
use crate::provision::InjectMode;

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
    let result = match kube.fetch_webhooks().await {
        Ok(webhooks) => match check_webhooks(&webhooks, context) {
            result if lacks_validating(kube, &webhooks).await => result.or_failed(
                format!("validatingwebhookconfiguration {WEBHOOKS} not found: Registries and Pods are not validated"),
                "restore it: helm upgrade, or kubectl apply -f manifests/install.yaml",
            ),
            result => result,
        },
        Err(error) => advice::of_cluster(&error),
    };
    report.add("webhook", result)?;
    if let Some(said) = &context.not_called {
        let (message, causes) = said.split_once("; ").unwrap_or((said, CAUSES));
        report.note("webhook", HopResult::failed(message, causes))?;
    }
    Ok(())
}

/// Whether one of the two configurations that are installed together is not there.
async fn lacks_validating(kube: &Kube, webhooks: &[WebhookTarget]) -> bool {
    let mut names = webhooks.iter().map(|webhook| &webhook.configuration);
    names.any(|name| name == WEBHOOKS) && kube.has_validating().await.is_ok_and(|there| !there)
}

fn check_webhooks(webhooks: &[WebhookTarget], context: &CheckContext<'_>) -> HopResult {
    let selects = |webhook: &&WebhookTarget| match (context.labels(), &webhook.namespaces) {
        (Some(labels), Some(selector)) => selector.matches(labels),
        _ => true,
    };
    let Some(first) = webhooks.first() else {
        return HopResult::failed(
            "no webhook configuration calls pullpass",
            "apply one, as manifests/webhook.yaml has it",
        );
    };
    let Some(webhook) = webhooks.iter().find(selects) else {
        return not_called(&first.configuration, context);
    };
    let WebhookTarget {
        configuration,
        target,
        ..
    } = webhook;
    if webhook.has_ca {
        HopResult::ok(format!("{configuration} calls {target}"))
    } else {
        HopResult::failed(
            format!("{configuration} calls {target} and has no caBundle"),
            "write the CA into its caBundle, as manifests/webhook.yaml says",
        )
    }
}

/// What keeps the API server from calling pullpass for the namespace: its label, or, where that is there, that it is excluded.
fn not_called(configuration: &str, context: &CheckContext<'_>) -> HopResult {
    let name = context.args.namespace.as_deref().unwrap_or_default();
    let opted_in = |labels| InjectMode::find(labels).is_opted_in();
    if context.labels().is_some_and(opted_in) {
        return HopResult::failed(
            format!(
                "{configuration} is not called for namespace {name}: it is opted in and excluded"
            ),
            super::EXCLUDED_FIX,
        );
    }
    HopResult::failed(
        format!(
            "{configuration} is not called for namespace {name}: its namespaceSelector does not select it"
        ),
        format!("opt the namespace in: kubectl label namespace {name} pullpass.dev/inject=enabled"),
    )
}
