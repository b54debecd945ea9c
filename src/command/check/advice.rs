//! What failed, and what to do about it. Pure.

use super::ids;
use super::report::{Fix, HopResult};
use super::source::SecretError;
use crate::credential::MintError;
use crate::credential::registry_client::RegistryClientError;
use crate::provision::ports::ClusterError;

/// A mint, or a part of it, failed.
pub(super) fn of_mint(error: &MintError, registry: &str) -> HopResult {
    explain_mint(error, registry).id(error.reason())
}

fn explain_mint(error: &MintError, registry: &str) -> HopResult {
    let text = error.to_string();
    match error {
        MintError::AccessDenied {
            host,
            permission,
            principal,
            advice,
            answer,
        } => HopResult::failed(
            format!("{host} denied {permission} to {principal} (it said: {answer})"),
            format!("{advice}; `pullpass policy` prints what Registry {registry} needs"),
        ),
        MintError::NoIdentity { .. } => {
            let (message, fix) = split(&text);
            let place = "or run this where pullpass runs: kubectl exec -n pullpass deploy/pullpass -- pullpass check";
            HopResult::failed(message, format!("{fix}; {place}"))
        }
        MintError::Hop {
            hop,
            hops,
            role_arn,
            cause,
        } => explain_mint(cause, registry).about(&format!("role {hop} of {hops}, {role_arn}")),
        MintError::Throttled { .. } => HopResult::failed(text, "try it again in a minute"),
        MintError::Network { host, .. } => HopResult::failed(
            text.clone(),
            format!("check name resolution, proxies and certificates on the way to {host}"),
        ),
        MintError::Refused { .. } => {
            HopResult::failed(text, "do what the answer says, or try it again later")
        }
        _ => {
            let (message, fix) = split(&text);
            HopResult::failed(message, fix)
        }
    }
}

/// A source Secret of pullpass' `namespace` cannot be read; `same_cluster` is for the kubectl of the fix.
pub(super) fn of_secret(error: &SecretError, namespace: &str, same_cluster: &str) -> HopResult {
    match error {
        SecretError::NoCluster(_) => {
            HopResult::failed(error.to_string(), "name the cluster with --kubeconfig")
                .id(ids::NO_CLUSTER)
        }
        SecretError::Missing(missing @ MintError::MissingSource { secret }) => HopResult::failed(
            format!("source secret {secret} is not in namespace {namespace}"),
            "create it there with the label pullpass.dev/source=true, as `pullpass policy` says for the Registry",
        )
        .id(missing.reason()),
        SecretError::Unlabelled(missing @ MintError::MissingSource { secret }) => {
            let message =
                format!("source secret {secret} in namespace {namespace} lacks the label pullpass.dev/source=true");
            let command = format!(
                "kubectl label secret {secret} -n {namespace} pullpass.dev/source=true --overwrite{same_cluster}"
            );
            HopResult::failed(message, Fix::run("label it", command)).id(missing.reason())
        }
        SecretError::Missing(error) | SecretError::Unlabelled(error) => of_mint(error, ""),
        SecretError::Cluster(error) => of_cluster(error),
    }
}

/// A registry did not take a login, or has no such image.
pub(super) fn of_registry_client(error: &RegistryClientError, provider: &str) -> HopResult {
    let id = match error {
        RegistryClientError::Refused { .. } => ids::LOGIN_REFUSED,
        RegistryClientError::NotFound { .. } => ids::IMAGE_NOT_FOUND,
        RegistryClientError::ForeignRealm { .. } => ids::REALM_NOT_ASKED,
        RegistryClientError::BadAnswer { .. } => "InvalidResponse",
        RegistryClientError::Timeout { .. } => "Timeout",
        RegistryClientError::Network { .. } => "Network",
    };
    explain_registry_client(error, provider).id(id)
}

fn explain_registry_client(error: &RegistryClientError, provider: &str) -> HopResult {
    let fix = match error {
        RegistryClientError::Refused { status: 403, .. } | RegistryClientError::Refused { .. }
            if provider == "ecr" =>
        {
            "allow the pull to that principal: an identity policy in its own account, a repository policy too in another one (`pullpass policy` prints both)"
        }
        RegistryClientError::Refused { .. } if provider == "acr" => {
            "give the identity the role AcrPull on that registry, or Container Registry Repository Reader if it is in ABAC mode (`pullpass policy` prints both)"
        }
        RegistryClientError::Refused { .. } => {
            "check that the login is the registry's and may pull this image"
        }
        RegistryClientError::NotFound { .. } => {
            "check the image's repository, tag and, for a cloud's registry, account and region"
        }
        RegistryClientError::ForeignRealm { .. } => {
            return HopResult::skipped(error.to_string());
        }
        RegistryClientError::BadAnswer { .. } => {
            "check the image's host, and what answers there (a proxy?)"
        }
        RegistryClientError::Timeout { .. } => {
            "check the network path to it (security groups, network policies, proxies, PrivateLink)"
        }
        RegistryClientError::Network { .. } => {
            "check name resolution, proxies and certificates on the way to it"
        }
    };
    HopResult::failed(error.to_string(), fix)
}

/// A request to the cluster failed. What this account may not see is no failure of pullpass.
pub(super) fn of_cluster(error: &ClusterError) -> HopResult {
    if let ClusterError::Forbidden { what, message } = error {
        return HopResult::skipped(format!("this account may not see {what}: {message}"))
            .id(ids::FORBIDDEN);
    }
    let text = error.to_string();
    let (message, fix) = text.split_once(" -> ").unwrap_or((&text, "try it again"));
    HopResult::failed(message, fix).id(error.reason())
}

/// What happened, and what to do: an error's message has the one before the other.
fn split(text: &str) -> (String, String) {
    let (message, fix) = text.rsplit_once(": ").unwrap_or((text, "try it again"));
    (message.to_owned(), fix.to_owned())
}
