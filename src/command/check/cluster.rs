//! The hops of a cluster: the API server calls pullpass.

use super::advice;
use super::report::{Kind, Report, Verdict};
use super::scene::Scene;
use crate::cluster::{Kube, WEBHOOKS, Webhook};

/// Looks whether the API server is told to call pullpass.
pub(super) async fn check(
    scene: &Scene<'_>,
    kube: &Kube,
    report: &mut Report,
) -> anyhow::Result<()> {
    if !scene.args.files.is_empty() {
        report.begin(Kind::Cluster, kube.namespace());
    }
    report.start();
    let verdict = match kube.fetch_webhooks().await {
        Ok(webhooks) => match judge(&webhooks, scene) {
            verdict if lacks_validating(kube, &webhooks).await => verdict.or_failed(
                format!("there is no validatingwebhookconfiguration {WEBHOOKS}: Registries and Pods are not looked at before they are written"),
                "bring it back: helm upgrade, or kubectl apply of manifests/install.yaml",
            ),
            verdict => verdict,
        },
        Err(error) => advice::of_cluster(&error),
    };
    report.add("webhook", verdict)
}

/// Whether one of the two configurations that are installed together is not there.
async fn lacks_validating(kube: &Kube, webhooks: &[Webhook]) -> bool {
    let mut names = webhooks.iter().map(|webhook| &webhook.configuration);
    names.any(|name| name == WEBHOOKS) && kube.has_validating().await.is_ok_and(|there| !there)
}

fn judge(webhooks: &[Webhook], scene: &Scene<'_>) -> Verdict {
    let selects = |webhook: &&Webhook| match (scene.labels(), &webhook.namespaces) {
        (Some(labels), Some(selector)) => selector.matches(labels),
        _ => true,
    };
    let Some(first) = webhooks.first() else {
        return Verdict::failed(
            "no webhook configuration calls pullpass",
            "apply one, as manifests/webhook.yaml has it",
        );
    };
    let Some(webhook) = webhooks.iter().find(selects) else {
        let namespace = scene.args.namespace.as_deref().unwrap_or_default();
        return Verdict::failed(
            format!(
                "{} is not called for namespace {namespace}: its namespaceSelector does not select it",
                first.configuration
            ),
            format!(
                "opt the namespace in: kubectl label namespace {namespace} pullpass.dev/inject=enabled"
            ),
        );
    };
    let Webhook {
        configuration,
        target,
        ..
    } = webhook;
    if webhook.has_ca {
        Verdict::ok(format!("{configuration} calls {target}"))
    } else {
        Verdict::failed(
            format!(
                "{configuration} calls {target}, and does not say which CA signs its certificate"
            ),
            "write the CA into its caBundle, as manifests/webhook.yaml says",
        )
    }
}
