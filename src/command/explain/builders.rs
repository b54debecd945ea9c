//! What is to be said of an image to those who build and push it, and to other clients than the kubelet.

use std::collections::BTreeSet;

use serde::Serialize;

use super::ExplainContext;
use crate::registry::clients::{WantedLogin, domain_of_key};
use crate::registry::source::{EcrIdentity, MintSource, TokenLifetime};
use crate::registry::{CredentialSource, Explanation, Pattern, ValidRegistry, Why};

/// A Registry that pushes the image.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PushOption {
    /// The Registry.
    registry: String,
    /// The Secret that builders mount.
    secret: String,
    /// What a mounted file has left of its credential's life, in words.
    left: &'static str,
}

impl PushOption {
    /// In a line.
    pub(super) fn describe(&self) -> String {
        let Self {
            registry,
            secret,
            left,
        } = self;
        format!("mount Secret {secret} (Registry {registry}): {left}")
    }
}

/// The Registries that push an image, in the order of their names.
pub(super) fn find(explanation: &Explanation<'_>) -> Vec<PushOption> {
    let mut options: Vec<PushOption> = explanation
        .matches
        .iter()
        .filter_map(|one| match one.why {
            Why::Pushes { pattern } => Some(PushOption {
                registry: one.registry.name.to_string(),
                secret: one.registry.secret.as_ref()?.to_string(),
                left: describe_left(one.registry, pattern),
            }),
            _ => None,
        })
        .collect();
    options.sort_by(|one, other| one.registry.cmp(&other.registry));
    options
}

/// What a mounted file has left, by who hands out the sessions that sign for its credential.
pub(super) fn describe_left(registry: &ValidRegistry, pattern: &Pattern) -> &'static str {
    const QUARTER: &str = "the mounted file has at least a quarter of its credential's life left, as long as the cloud and the API server answer";
    let mut credentials = registry.credentials();
    let source = credentials.find(|(one, _)| *one == pattern);
    let ecr = match source.map(|(_, source)| source) {
        Some(CredentialSource::Static(_)) => {
            return "a fixed login, which does not end by itself";
        }
        Some(CredentialSource::Minted(MintSource::Ecr(ecr))) => ecr,
        Some(CredentialSource::Minted(MintSource::Acr(_))) | None => return QUARTER,
    };
    if ecr.token_life == TokenLifetime::Answer || !ecr.assume_roles.is_empty() {
        return QUARTER;
    }
    match &ecr.identity {
        EcrIdentity::Node => {
            "the mounted file may have 5 minutes left: instance metadata hands out the next session only then (with tokenLife: Answer, or a role in assumeRoles, it has at least a quarter of its credential's life)"
        }
        EcrIdentity::Workload => {
            "the mounted file has at least a quarter of its credential's life left with IAM roles for service accounts; with EKS Pod Identity what the agent leaves of its session, which it renews by itself (with tokenLife: Answer, or a role in assumeRoles, it has the quarter)"
        }
        EcrIdentity::Keys { .. }
        | EcrIdentity::ServiceAccount { .. }
        | EcrIdentity::Tenant { .. } => QUARTER,
    }
}

/// What is to be said of the Secret that a Pod with the image gets, where it has several logins for the image's host: as far as the
/// Registries say, and the namespace's labels are known.
pub(super) fn find_shared_host(
    context: &ExplainContext,
    explanation: &Explanation<'_>,
    (domain, path): (&str, &str),
) -> Option<String> {
    let registry = explanation.resolved.as_ref()?.registry;
    let secret = registry.secret.as_ref()?;
    let labels = context.namespace.as_ref()?;
    let grants = context.registries.grants(labels);
    let is_of_host = |key: &String| domain_of_key(key).as_deref() == Some(domain);
    let sources: BTreeSet<String> = grants
        .iter()
        .filter(|grant| grant.secret == *secret && grant.all_keys().any(is_of_host))
        .map(|grant| canonical(&grant.source))
        .collect();
    let (registries, wanted) = (&context.registries, WantedLogin::Image(path));
    (sources.len() > 1).then(|| registries.describe_shared_host(labels, (secret, domain), wanted))
}

fn canonical(source: &CredentialSource) -> String {
    match source {
        CredentialSource::Minted(source) => source.canonical(),
        CredentialSource::Static(source) => format!("static {}", source.secret),
    }
}
