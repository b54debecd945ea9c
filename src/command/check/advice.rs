//! What failed, and what to do about it. Pure.

use super::ids;
use super::report::{Fix, HopResult};
use super::source::SecretError;
use crate::credential::registry_client::RegistryClientError;
use crate::credential::{AnswerReason, MintError, Refusal};
use crate::provision::ports::ClusterError;

/// Where pullpass runs, for the commands of an advice.
#[derive(Clone, Copy, Debug)]
pub(super) struct OwnPlace<'a> {
    /// pullpass' own namespace.
    pub(super) namespace: &'a str,
    /// The arguments by which kubectl asks the same cluster.
    pub(super) same_cluster: &'a str,
}

impl OwnPlace<'_> {
    /// Where an identity may be that is not here.
    fn describe_elsewhere(self) -> String {
        let Self {
            namespace,
            same_cluster,
        } = self;
        format!(
            "or run this where pullpass runs: kubectl exec -n {namespace} deploy/pullpass{same_cluster} -- pullpass check"
        )
    }

    /// The command that shows its Pods.
    pub(super) fn list_pods(self) -> String {
        format!(
            "kubectl get pods -n {}{}",
            self.namespace, self.same_cluster
        )
    }
}

/// A mint, or a part of it, failed.
pub(super) fn of_mint(error: &MintError, registry: &str, own: OwnPlace<'_>) -> HopResult {
    explain_mint(error, registry, own).id(error.reason())
}

fn explain_mint(error: &MintError, registry: &str, own: OwnPlace<'_>) -> HopResult {
    let text = error.to_string();
    match error {
        MintError::Refused(refusal) => of_refusal(refusal, registry, own),
        MintError::NoIdentity { .. } => {
            let (message, fix) = split(&text);
            HopResult::failed(message, format!("{fix}; {}", own.describe_elsewhere()))
        }
        MintError::Hop {
            hop,
            hops,
            role_arn,
            cause,
        } => explain_mint(cause, registry, own).about(&format!("role {hop} of {hops}, {role_arn}")),
        MintError::Network { host, .. } => HopResult::failed(
            text.clone(),
            format!("check name resolution, proxies and certificates on the way to {host}"),
        ),
        _ => {
            let (message, fix) = split(&text);
            HopResult::failed(message, fix)
        }
    }
}

/// Another side refused: its words, and what they mean.
fn of_refusal(refusal: &Refusal, registry: &str, own: OwnPlace<'_>) -> HopResult {
    let message = format!("{} ({})", refusal.what(), refusal.said());
    let advice = refusal.advice;
    let fix = match refusal.reason {
        AnswerReason::AccessDenied | AnswerReason::TrustRefused => {
            format!("{advice}; `pullpass policy` prints what Registry {registry} needs")
        }
        AnswerReason::NoIdentity => format!("{advice}; {}", own.describe_elsewhere()),
        _ => advice.to_owned(),
    };
    HopResult::failed(message, fix)
}

/// A source Secret of pullpass' own namespace cannot be read.
pub(super) fn of_secret(error: &SecretError, own: OwnPlace<'_>) -> HopResult {
    let OwnPlace {
        namespace,
        same_cluster,
    } = own;
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
        SecretError::Missing(error) | SecretError::Unlabelled(error) => of_mint(error, "", own),
        SecretError::Cluster(error) => of_cluster(error),
    }
}

/// A registry did not take a login, or has no such image.
pub(super) fn of_registry_client(error: &RegistryClientError, provider: &str) -> HopResult {
    let id = match error {
        RegistryClientError::Refused { .. }
        | RegistryClientError::TokenRefused { .. }
        | RegistryClientError::Known {
            status: 401 | 403, ..
        } => ids::LOGIN_REFUSED,
        RegistryClientError::Known { reason, .. } => reason.as_str(),
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
        RegistryClientError::Refused { .. } | RegistryClientError::TokenRefused { .. } => {
            "check that the login is the registry's and may pull this image"
        }
        RegistryClientError::NotFound { .. } => {
            "check the image's repository, tag and, for a cloud's registry, account and region"
        }
        RegistryClientError::Known { advice, .. } => advice,
        RegistryClientError::ForeignRealm { realm, .. } if provider == "static" => {
            let fix = format!(
                "try it there with --token-service {realm}, if that host may have the login; the kubelet gives it to it"
            );
            return HopResult::failed(error.to_string(), fix);
        }
        RegistryClientError::ForeignRealm { .. } => {
            "check the image's host: a cloud's registry checks logins itself"
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

/// A registry takes no push, or did not answer to one. `registry` is the Registry that the login is of.
pub(super) fn of_push(error: &RegistryClientError, provider: &str, registry: &str) -> HopResult {
    let RegistryClientError::Refused { .. } = error else {
        return of_registry_client(error, provider);
    };
    let fix = match provider {
        "ecr" => format!(
            "allow the push to that principal: an identity policy in its own account, the repository's policy too in another one (`pullpass policy` prints both for Registry {registry})"
        ),
        "acr" => format!(
            "give the identity the role AcrPush on that registry, or Container Registry Repository Writer if it is in ABAC mode (`pullpass policy` prints both for Registry {registry}); where it has acr.scopes, the repository must be among them"
        ),
        _ => "check that the login may push to this repository: the registry's own settings say so"
            .to_owned(),
    };
    HopResult::failed(error.to_string(), fix).id(ids::PUSH_REFUSED)
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Where it was asked, in whatever namespace pullpass is.
    #[test]
    fn advises_commands_of_the_same_cluster_and_namespace() {
        let own = OwnPlace {
            namespace: "registries",
            same_cluster: " --context production",
        };
        let error = MintError::NoIdentity {
            identity: "workload",
            problem: "AWS_ROLE_ARN is not set: set it".to_owned(),
        };
        let result = format!("{:?}", of_mint(&error, "eu", own));
        let expected = "set it; or run this where pullpass runs: kubectl exec -n registries deploy/pullpass --context production -- pullpass check";
        assert!(result.contains(expected), "{result}");
        let list = "kubectl get pods -n registries --context production";
        assert_eq!(own.list_pods(), list);
    }
}
