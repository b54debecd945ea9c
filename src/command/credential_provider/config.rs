//! `pullpass credential-provider config`: what the kubelets of a cluster need so that they ask pullpass for logins.

use std::path::PathBuf;
use std::process::ExitCode;

use serde::Serialize;
use serde_json::{Value, json};

use super::platform::{self, Platform};
use super::values::{parse_address, parse_node_path, parse_server_name};
use crate::broker::protocol::{API_VERSION, AUDIENCE};
use crate::command::manifest::Manifests;
use crate::registry::Registries;
use crate::registry::match_images::{is_asked_for, match_images};

/// The version of the kubelet's configuration.
pub(in crate::command) const CONFIG_VERSION: &str = "kubelet.config.k8s.io/v1";
/// The verb that a node needs on an audience to ask for tokens of it.
///
/// <https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/#noderestriction>
pub(in crate::command) const AUDIENCE_VERB: &str = "request-serviceaccounts-token-audience";
/// The name of the right, and of its binding.
pub(in crate::command) const AUDIENCE_ROLE: &str = "pullpass-node-audience";

/// Print how kubelets are set up to ask pullpass for the logins of Registries with delivery Node or Both.
///
/// Without --platform it is the kubelet's CredentialProviderConfig: the images that the kubelet asks for, and how it runs this program. With
/// --platform it is what puts the three files (program, configuration, certificate) and the two flags in their places there: user data, a
/// script for a node's image or its first start, or the platform's own kind of configuration. With --rbac it is the right that nodes need to
/// ask for tokens of pullpass' audience; apply it to the cluster once. It needs no cluster: Registries come from files.
///
/// The kubelet reads its configuration at its start alone. When a Registry's images change, print it again; `pullpass check --node` finds nodes
/// that were left behind.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  pullpass credential-provider config -f registries.yaml --address 10.96.0.80:8444
  pullpass credential-provider config -f registries.yaml --address 10.96.0.80:8444 --platform eks > user-data.txt
  kubectl get registries -o yaml | pullpass credential-provider config -f - --address 10.96.0.80:8444 --platform kubeadm
  pullpass credential-provider config --rbac | kubectl apply -f -")]
pub(in crate::command) struct Args {
    /// Files with Registries; `-` is stdin.
    #[arg(
        short = 'f',
        long = "filename",
        value_name = "FILE",
        required_unless_present = "rbac"
    )]
    files: Vec<PathBuf>,
    /// Where nodes reach the broker: the address of its Service, or of a load balancer. A name must be one that the node's own DNS knows.
    #[arg(long, value_name = "HOST:PORT", value_parser = parse_address, required_unless_present = "rbac")]
    address: Option<String>,
    /// The name that the broker's certificate is for.
    #[arg(long, value_name = "NAME", value_parser = parse_server_name, default_value = "pullpass.pullpass.svc")]
    server_name: String,
    /// Where the certificate of the CA that signs the broker's will be on the node; by default where the platform has room for it, else
    /// /etc/pullpass/ca.crt. It is `ca.crt` of the Secret pullpass-certificates.
    #[arg(long, value_name = "FILE", value_parser = parse_node_path)]
    ca_file: Option<String>,
    /// What the nodes are.
    #[arg(long, value_enum)]
    platform: Option<Platform>,
    /// Print the right that nodes need instead.
    #[arg(long, conflicts_with_all = ["platform", "files", "address"])]
    rbac: bool,
}

/// The kubelet's configuration of credential providers.
///
/// <https://kubernetes.io/docs/reference/config-api/kubelet-config.v1/#kubelet-config-k8s-io-v1-CredentialProviderConfig>
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct CredentialProviderConfig {
    api_version: &'static str,
    kind: &'static str,
    providers: [CredentialProvider; 1],
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct CredentialProvider {
    name: &'static str,
    api_version: &'static str,
    match_images: Vec<String>,
    /// Never used: each answer says how long it is kept. The kubelet wants it all the same.
    default_cache_duration: &'static str,
    args: Vec<String>,
    token_attributes: ServiceAccountTokenAttributes,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ServiceAccountTokenAttributes {
    service_account_token_audience: &'static str,
    cache_type: &'static str,
    require_service_account: bool,
}

/// How the plug-in reaches the broker.
#[derive(Debug)]
struct BrokerEndpoint<'a> {
    address: &'a str,
    server_name: &'a str,
    ca_file: &'a str,
}

pub(in crate::command) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    if args.rbac {
        crate::command::print(&print_rights()?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let registries = Registries::build(Manifests::load(&args.files)?.registries);
    let ca_file = args.ca_file.as_deref();
    let ca_file = ca_file.unwrap_or_else(|| platform::ca_file(args.platform));
    if let Some(folder) = args
        .platform
        .and_then(|one| platform::folder_of(one, ca_file))
    {
        anyhow::bail!(
            "--ca-file {ca_file}: the kubelet takes what is in {folder} for a configuration or a program: name another folder"
        );
    }
    let broker = BrokerEndpoint {
        address: args.address.as_deref().unwrap_or_default(),
        server_name: &args.server_name,
        ca_file,
    };
    let Some(config) = plan(&registries, &broker) else {
        let files = args.files.iter().map(|file| file.display().to_string());
        let files = files.collect::<Vec<_>>().join(", ");
        anyhow::bail!(
            "{files}: spec.delivery: no Registry with access Pull says Node or Both, so that kubelets ask for no image: set it on those whose logins they are to ask for"
        );
    };
    let config = serde_saphyr::to_string(&config)?;
    crate::command::print(&match args.platform {
        None => config,
        Some(platform) => platform::render(platform, &config, ca_file),
    })?;
    Ok(ExitCode::SUCCESS)
}

/// The kubelet's configuration for these Registries; `None`: it would ask for no image.
fn plan(registries: &Registries, broker: &BrokerEndpoint<'_>) -> Option<CredentialProviderConfig> {
    let match_images = match_images(registries.iter());
    let by_token = registries
        .iter()
        .any(|one| is_asked_for(one) && one.pods.is_some());
    let arguments = [
        "credential-provider",
        "--address",
        broker.address,
        "--server-name",
        broker.server_name,
        "--ca-file",
        broker.ca_file,
    ];
    (!match_images.is_empty()).then(|| CredentialProviderConfig {
        api_version: CONFIG_VERSION,
        kind: "CredentialProviderConfig",
        providers: [CredentialProvider {
            name: "pullpass",
            api_version: API_VERSION,
            match_images,
            default_cache_duration: "0s",
            args: arguments.map(str::to_owned).to_vec(),
            token_attributes: ServiceAccountTokenAttributes {
                service_account_token_audience: AUDIENCE,
                // With ServiceAccount, all Pods of one share an answer: wrong where Pods of one get different ones.
                cache_type: if by_token { "Token" } else { "ServiceAccount" },
                require_service_account: true,
            },
        }],
    })
}

/// The right of all nodes to ask for tokens of our audience for any ServiceAccount: each for those of its own Pods, as NodeRestriction has it.
fn rights() -> [Value; 2] {
    let metadata = json!({"name": AUDIENCE_ROLE});
    let (api_version, group) = ("rbac.authorization.k8s.io/v1", "rbac.authorization.k8s.io");
    [
        json!({
            "apiVersion": api_version, "kind": "ClusterRole", "metadata": metadata,
            "rules": [{"apiGroups": [""], "resources": [AUDIENCE], "verbs": [AUDIENCE_VERB]}],
        }),
        json!({
            "apiVersion": api_version, "kind": "ClusterRoleBinding", "metadata": metadata,
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": AUDIENCE_ROLE},
            "subjects": [{"apiGroup": group, "kind": "Group", "name": "system:nodes"}],
        }),
    ]
}

fn print_rights() -> anyhow::Result<String> {
    let documents: Result<Vec<_>, _> = rights().iter().map(serde_saphyr::to_string).collect();
    Ok(documents?.join("---\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registry(name: &str, spec: &Value) -> crate::registry::Registry {
        let mut spec = spec.clone();
        spec["namespaceSelector"] = json!({});
        spec["static"] = json!({"secretRef": {"name": "a"}});
        let object = json!({"apiVersion": "pullpass.dev/v1alpha1", "kind": "Registry", "metadata": {"name": name}, "spec": spec});
        serde_json::from_value(object).unwrap()
    }

    fn planned(specs: &[Value]) -> Option<CredentialProviderConfig> {
        let named = specs.iter().enumerate();
        let registries =
            Registries::build(named.map(|(at, spec)| registry(&format!("r{at}"), spec)));
        assert_eq!(registries.problems(), []);
        let broker = BrokerEndpoint {
            address: "10.96.0.80:8444",
            server_name: "pullpass.pullpass.svc",
            ca_file: "/etc/pullpass/ca.crt",
        };
        plan(&registries, &broker)
    }

    #[test]
    fn asks_for_the_images_of_registries_that_nodes_deliver() {
        let config = planned(&[
            json!({"images": ["a.com/team", "a.com/team/api", "*.b.com:5000"], "delivery": "Node"}),
            json!({"images": ["x.b.com:5000/app", "a.com/v2/app"], "delivery": "Both"}),
            json!({"images": ["secret.com"]}),
        ]);
        let provider = config.unwrap().providers.into_iter().next().unwrap();
        assert_eq!(
            provider.match_images,
            ["*.b.com:5000", "a.com/team", "a.com/v2/app"]
        );
        assert_eq!(provider.token_attributes.cache_type, "ServiceAccount");
        assert!(planned(&[json!({"images": ["secret.com"]})]).is_none());
    }

    #[test]
    fn caches_by_token_where_pods_of_one_service_account_differ() {
        let narrow = json!({"images": ["a.com"], "podSelector": {"matchLabels": {"a": "b"}}});
        for (delivery, expected) in [
            ("Node", "Token"),
            ("Both", "Token"),
            ("Secret", "ServiceAccount"),
        ] {
            let mut one = narrow.clone();
            one["delivery"] = delivery.into();
            let config = planned(&[one, json!({"images": ["b.com"], "delivery": "Node"})]).unwrap();
            assert_eq!(
                config.providers[0].token_attributes.cache_type, expected,
                "{delivery}"
            );
        }
    }
}
