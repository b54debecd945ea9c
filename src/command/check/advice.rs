//! What failed, and what to do about it. Pure.

use super::report::{Fix, StepResult};
use super::source::SecretError;
use super::{Args, ids};
use crate::command::cluster_args::quote;
use crate::command::installed::{INSTALL, describe_not_installed};
use crate::credential::registry_client::RegistryClientError;
use crate::credential::{AnswerReason, MintError, Refusal};
use crate::provision::ports::ClusterError;
use crate::registry::pod_subject::DEFAULT_SERVICE_ACCOUNT;

/// Where pullpass runs, for the commands of an advice.
#[derive(Clone, Copy, Debug)]
pub(super) struct OwnPlace<'a> {
    /// pullpass' own namespace.
    pub(super) namespace: &'a str,
    /// The arguments by which kubectl asks the same cluster.
    pub(super) same_cluster: &'a str,
    /// Whether this runs there.
    pub(super) is_here: bool,
}

impl OwnPlace<'_> {
    /// The same advice, and where the identity may be if this runs elsewhere.
    fn or_elsewhere(self, advice: &str) -> String {
        let Self {
            namespace,
            same_cluster,
            is_here,
        } = self;
        if is_here {
            return advice.to_owned();
        }
        format!(
            "{advice}; or run this where pullpass runs: kubectl exec -n {namespace} deploy/pullpass{same_cluster} -- pullpass check"
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

/// The command that explains an image for the Pod that is tried; in pullpass' Pod, whose namespace `own_pod` is, by kubectl.
pub(super) fn explain_command(args: &Args, own_pod: Option<&str>, image: &str) -> String {
    let within = own_pod.map(|own| format!("kubectl exec -n {own} deploy/pullpass -- "));
    let mut command = within.unwrap_or_default() + "pullpass explain";
    let mut add = |name: &str, value: &str| {
        command.push_str(name);
        command.push_str(&quote(value));
    };
    for file in &args.files {
        add(" -f ", &file.to_string_lossy());
    }
    if let Some(namespace) = &args.namespace {
        add(" -n ", namespace);
        if *args.service_account != *DEFAULT_SERVICE_ACCOUNT {
            add(" --service-account ", &args.service_account);
        }
    }
    if !args.pod_labels.is_empty() {
        let labels = args.pod_labels.iter();
        let labels: Vec<String> = labels
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        add(" --pod-labels ", &labels.join(","));
    }
    format!("{command}{} {}", args.cluster.for_kubectl(), quote(image))
}

/// A mint, or a part of it, failed.
pub(super) fn of_mint(error: &MintError, registry: &str, own: OwnPlace<'_>) -> StepResult {
    explain_mint(error, registry, own).id(error.reason())
}

fn explain_mint(error: &MintError, registry: &str, own: OwnPlace<'_>) -> StepResult {
    let text = error.to_string();
    match error {
        MintError::Refused(refusal) => of_refusal(refusal, registry, own),
        MintError::NoIdentity { .. } => {
            let (message, fix) = split(&text);
            StepResult::failed(message, own.or_elsewhere(&fix))
        }
        MintError::Hop {
            hop,
            hops,
            role_arn,
            cause,
        } => explain_mint(cause, registry, own).about(&format!("role {hop} of {hops}, {role_arn}")),
        MintError::Network { host, .. } => StepResult::failed(
            text.clone(),
            format!("check name resolution, proxies and certificates on the way to {host}"),
        ),
        _ => {
            let (message, fix) = split(&text);
            StepResult::failed(message, fix)
        }
    }
}

/// Another side refused: its words, and what they mean.
fn of_refusal(refusal: &Refusal, registry: &str, own: OwnPlace<'_>) -> StepResult {
    let message = format!("{} ({})", refusal.what(), refusal.said());
    let advice = refusal.advice;
    let fix = match refusal.reason {
        AnswerReason::AccessDenied | AnswerReason::TrustRefused => {
            format!("{advice}; `pullpass policy` prints what Registry {registry} needs")
        }
        AnswerReason::NoIdentity => own.or_elsewhere(advice),
        _ => advice.to_owned(),
    };
    StepResult::failed(message, fix)
}

/// A source Secret of pullpass' own namespace cannot be read.
pub(super) fn of_secret(error: &SecretError, own: OwnPlace<'_>) -> StepResult {
    let OwnPlace {
        namespace,
        same_cluster,
        ..
    } = own;
    match error {
        SecretError::NoCluster(_) => {
            StepResult::failed(error.to_string(), "name the cluster with --kubeconfig")
                .id(ids::NO_CLUSTER)
        }
        SecretError::Missing(missing @ MintError::MissingSource { secret }) => StepResult::failed(
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
            StepResult::failed(message, Fix::run("label it", command)).id(missing.reason())
        }
        SecretError::Missing(error) | SecretError::Unlabelled(error) => of_mint(error, "", own),
        SecretError::Cluster(error) => of_cluster(error),
    }
}

/// A registry did not take a login, or has no such image.
pub(super) fn of_registry_client(error: &RegistryClientError, provider: &str) -> StepResult {
    let id = match error {
        RegistryClientError::Refused { .. }
        | RegistryClientError::TokenRefused { .. }
        | RegistryClientError::Known {
            status: 401 | 403, ..
        } => ids::LOGIN_REFUSED,
        RegistryClientError::Known { reason, .. } => reason.as_str(),
        RegistryClientError::NotFound { .. } => ids::IMAGE_NOT_FOUND,
        RegistryClientError::ForeignRealm { .. } => ids::FOREIGN_REALM,
        RegistryClientError::BadAnswer { .. } => "InvalidResponse",
        RegistryClientError::Timeout { .. } => "Timeout",
        RegistryClientError::Network { .. } => "Network",
    };
    explain_registry_client(error, provider).id(id)
}

fn explain_registry_client(error: &RegistryClientError, provider: &str) -> StepResult {
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
            return StepResult::failed(error.to_string(), fix);
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
    StepResult::failed(error.to_string(), fix)
}

/// A registry takes no push, or did not answer to one. `registry` is the Registry that the login is of.
pub(super) fn of_push(error: &RegistryClientError, provider: &str, registry: &str) -> StepResult {
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
    StepResult::failed(error.to_string(), fix).id(ids::PUSH_REFUSED)
}

/// A request to the cluster failed. What this account may not see is no failure of pullpass.
pub(super) fn of_cluster(error: &ClusterError) -> StepResult {
    if let ClusterError::Forbidden { what, message } = error {
        return StepResult::hidden(format!("this account may not see {what}: {message}"));
    }
    let text = error.to_string();
    let (message, fix) = text.split_once(" -> ").unwrap_or((&text, "try it again"));
    StepResult::failed(message, fix).id(error.reason())
}

/// What happened, and what to do: an error's message has the one before the other.
/// Nothing of pullpass is in the cluster.
pub(super) fn not_installed(own_namespace: &str) -> StepResult {
    let fix = format!("install it, as docs/INSTALL.md says: {INSTALL}");
    StepResult::failed(describe_not_installed(own_namespace), fix).id(ids::NOT_INSTALLED)
}

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
            is_here: false,
        };
        let error = MintError::NoIdentity {
            identity: "workload",
            problem: "AWS_ROLE_ARN is not set: set it".to_owned(),
        };
        let result = format!("{:?}", of_mint(&error, "eu", own));
        let expected = "set it; or run this where pullpass runs: kubectl exec -n registries deploy/pullpass --context production -- pullpass check";
        assert!(result.contains(expected), "{result}");
        let here = OwnPlace {
            is_here: true,
            ..own
        };
        let result = format!("{:?}", of_mint(&error, "eu", here));
        let is_all = result.contains("set it") && !result.contains("kubectl exec");
        assert!(is_all, "{result}");
        let list = "kubectl get pods -n registries --context production";
        assert_eq!(own.list_pods(), list);
    }

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    /// It asks about the same Pod, Registries and cluster.
    #[test]
    fn explains_the_image_that_was_checked() {
        let table = [
            ("a.com/x:1", None, "pullpass explain a.com/x:1"),
            (
                "-n shop --service-account ci --pod-labels app=a,tier=b --context production a.com/x:1",
                None,
                "pullpass explain -n shop --service-account ci --pod-labels app=a,tier=b --context production a.com/x:1",
            ),
            (
                "-n shop -f registries.yaml -f more.yaml a.com/x:1",
                None,
                "pullpass explain -f registries.yaml -f more.yaml -n shop a.com/x:1",
            ),
            (
                "-n shop a.com/x:1",
                Some("registries"),
                "kubectl exec -n registries deploy/pullpass -- pullpass explain -n shop a.com/x:1",
            ),
        ];
        for (line, own_pod, command) in table {
            let words = std::iter::once("check").chain(line.split(' '));
            let Line { args } = clap::Parser::try_parse_from(words).expect("these are arguments");
            let image = &args.images[0];
            assert_eq!(explain_command(&args, own_pod, image), command, "{line}");
        }
    }
}
