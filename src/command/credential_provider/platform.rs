//! Where nodes of each platform have what the kubelet needs, and what puts it there.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// What nodes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(in crate::command) enum Platform {
    /// Amazon EKS, nodes of Amazon Linux 2023.
    Eks,
    /// Azure Kubernetes Service.
    Aks,
    /// kubeadm.
    Kubeadm,
    /// K3s.
    K3s,
    /// kind.
    Kind,
    /// Talos Linux.
    Talos,
    /// OpenShift.
    Openshift,
}

/// Where a node has what the kubelet needs.
#[derive(Clone, Copy, Debug)]
pub(in crate::command) struct NodePlace {
    pub(in crate::command) platform: Platform,
    /// The kubelet's flag `--image-credential-provider-config`: a file, or a folder of files.
    pub(in crate::command) config: &'static str,
    /// The kubelet's flag `--image-credential-provider-bin-dir`.
    pub(in crate::command) bin_dir: &'static str,
    /// Where the platform itself has the configuration, with the same folder of programs.
    own_configs: &'static [&'static str],
    /// The authority of the broker's certificate.
    ca_file: &'static str,
    /// What puts it there.
    template: &'static str,
}

/// What is done on a node of kubeadm.
const KUBEADM_NODE: &str = include_str!("platforms/kubeadm_node.txt");
const CA_FILE: &str = "/etc/pullpass/ca.crt";

/// That of kubeadm, whose places others have, too.
pub(in crate::command) const KUBEADM: NodePlace = NodePlace {
    platform: Platform::Kubeadm,
    config: "/etc/kubernetes/credential-providers",
    bin_dir: "/usr/local/lib/kubelet/credentialproviders",
    own_configs: &[],
    ca_file: CA_FILE,
    template: include_str!("platforms/kubeadm.txt"),
};

/// Every platform. Where their makers put it:
/// - EKS: <https://awslabs.github.io/amazon-eks-ami/nodeadm/>, `/etc/eks/image-credential-provider` in
///   <https://github.com/awslabs/amazon-eks-ami/blob/main/nodeadm/internal/kubelet/image-credential-provider.go>
/// - AKS: <https://github.com/Azure/AgentBaker>, <https://cloud-provider-azure.sigs.k8s.io/topics/credential-provider/>
/// - kubeadm, kind: <https://kubernetes.io/docs/setup/production-environment/tools/kubeadm/kubelet-integration/>
/// - K3s: <https://docs.k3s.io/cli/agent>
/// - Talos: <https://docs.siderolabs.com/talos/v1.14/reference/configuration/kubernetes/kubecredentialproviderconfig>, `constants.go` there
/// - OpenShift: <https://github.com/openshift/machine-config-operator> (`credentialProviderConfigFlag`)
pub(in crate::command) const PLACES: [NodePlace; 7] = [
    NodePlace {
        platform: Platform::Eks,
        config: "/etc/pullpass/credential-providers",
        bin_dir: "/etc/eks/image-credential-provider",
        own_configs: &["/etc/eks/image-credential-provider/config.json"],
        ca_file: CA_FILE,
        template: include_str!("platforms/eks.txt"),
    },
    NodePlace {
        platform: Platform::Aks,
        config: "/var/lib/kubelet/credential-providers",
        bin_dir: "/var/lib/kubelet/credential-provider",
        own_configs: &["/var/lib/kubelet/credential-provider-config.yaml"],
        ca_file: CA_FILE,
        template: include_str!("platforms/aks.txt"),
    },
    KUBEADM,
    NodePlace {
        platform: Platform::K3s,
        config: "/var/lib/rancher/credentialprovider/config.yaml",
        bin_dir: "/var/lib/rancher/credentialprovider/bin",
        own_configs: &[],
        ca_file: CA_FILE,
        template: include_str!("platforms/k3s.txt"),
    },
    NodePlace {
        platform: Platform::Kind,
        template: include_str!("platforms/kind.txt"),
        ..KUBEADM
    },
    NodePlace {
        platform: Platform::Talos,
        config: "/etc/kubernetes/kubelet-credentialproviderconfig.yaml",
        bin_dir: "/usr/local/lib/kubelet/credentialproviders",
        own_configs: &[],
        ca_file: "/var/lib/kubelet/pullpass/ca.crt",
        template: include_str!("platforms/talos.txt"),
    },
    NodePlace {
        platform: Platform::Openshift,
        config: "/etc/kubernetes/credential-providers/generic-credential-provider.yaml",
        bin_dir: "/usr/libexec/kubelet-image-credential-provider-plugins",
        own_configs: &[
            "/etc/kubernetes/credential-providers/ecr-credential-provider.yaml",
            "/etc/kubernetes/credential-providers/acr-credential-provider.yaml",
            "/etc/kubernetes/credential-providers/gcr-credential-provider.yaml",
        ],
        ca_file: CA_FILE,
        template: include_str!("platforms/openshift.txt"),
    },
];

impl NodePlace {
    /// Both flags of the kubelet, as they may be: pullpass' own places first.
    pub(in crate::command) fn flags(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let configs = std::iter::once(self.config).chain(self.own_configs.iter().copied());
        let bin_dir = self.bin_dir;
        configs.map(move |config| (config, bin_dir))
    }
}

fn place(platform: Platform) -> &'static NodePlace {
    let mut places = PLACES.iter();
    let found = places.find(|place| place.platform == platform);
    found.expect("PLACES has every platform")
}

/// Where the authority's certificate is by default.
pub(super) fn ca_file(platform: Option<Platform>) -> &'static str {
    platform.map_or(CA_FILE, |platform| place(platform).ca_file)
}

/// The folder that holds a file, and from which the kubelet takes configurations or programs.
pub(super) fn folder_of(platform: Platform, file: &str) -> Option<&'static str> {
    let place = place(platform);
    let mut folders = [place.config, place.bin_dir].into_iter();
    folders.find(|folder| std::path::Path::new(file).starts_with(folder))
}

/// What puts the configuration, the program and the certificate in their places, and tells the kubelet.
///
/// In a template a line that is `@CONFIG@` alone becomes the configuration, as far to the right, and `@NODE@` alone what is done on a node of
/// kubeadm; the other words stand for a place each.
pub(super) fn render(platform: Platform, config: &str, ca_file: &str) -> String {
    let place = place(platform);
    let folder = ca_file.rsplit_once('/').map_or("/", |(folder, _)| folder);
    let fill = |line: &str| {
        let indent = &line[..line.len() - line.trim_start().len()];
        if line.trim() == "@CONFIG@" {
            let lines = config.lines().map(|line| format!("{indent}{line}\n"));
            return lines.collect();
        }
        let line = line
            .replace("@CONFIG_BASE64@", &STANDARD.encode(config))
            .replace("@CONFIG_PLACE@", place.config)
            .replace("@BIN_DIR@", place.bin_dir)
            .replace("@CA_FOLDER@", folder)
            .replace("@CA_FILE@", ca_file);
        line + "\n"
    };
    let template = place.template.replace("@NODE@\n", KUBEADM_NODE);
    template.lines().map(fill).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fills_in_every_word_of_each_template() {
        use clap::ValueEnum as _;
        for platform in Platform::value_variants() {
            let text = render(*platform, "apiVersion: a\nkind: b\n", "/srv/own/ca.crt");
            let place = place(*platform);
            assert!(!text.contains('@'), "{text}");
            assert!(text.contains("/srv/own/ca.crt"), "{text}");
            assert!(text.contains(place.bin_dir), "{text}");
            let encoded = STANDARD.encode("apiVersion: a\nkind: b\n");
            assert!(
                text.contains("kind: b\n") || text.contains(&encoded),
                "{text}"
            );
        }
    }
}
