//! `spec.exports`: the Registry's login in the forms that consumers read which are no Pods.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How many exports a Registry may have: each is a Secret in every namespace that it serves, and a watch.
pub const EXPORTS_MAX: usize = 8;
/// The longest name of an export: with `x-` in front it is a DNS label, as each part of its Secret's name.
pub const EXPORT_NAME_MAX: usize = 61;

/// A DNS label.
const LABEL: &str = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$";

/// The Registry's login in one more Secret, in a form that a consumer reads which is no Pod.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("self.format == oldSelf.format")
    .message("the format of an export cannot be changed: give the new one another name"))]
pub struct Export {
    /// Its name. Form: up to 61 lower-case letters, digits and hyphens.
    #[schemars(length(min = 1, max = 61), regex(pattern = LABEL))]
    pub name: String,
    /// What is in the Secret.
    pub format: ExportFormat,
}

/// What is in the Secret. `DockerConfig`: `.dockerconfigjson`, and the same as `config.json`, with the hosts' own keys, for clients that
/// know hosts alone. `BasicAuth`: `username` and `password`, for images of one host. `ArgoCDRepository` and `ArgoCDRepositoryCreds`: what
/// Argo CD takes for a Helm repository in an OCI registry, and for all those under a URL, for exactly one image.
// The schema takes the description of an enum from its type.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ExportFormat {
    /// `.dockerconfigjson`, and the same as `config.json`.
    DockerConfig,
    /// `username` and `password`.
    BasicAuth,
    /// A repository of Argo CD.
    /// <https://argo-cd.readthedocs.io/en/stable/operator-manual/declarative-setup/#helm-oci>
    #[serde(rename = "ArgoCDRepository")]
    ArgoCdRepository,
    /// A credential template of Argo CD.
    /// <https://argo-cd.readthedocs.io/en/stable/operator-manual/declarative-setup/#repository-credentials>
    #[serde(rename = "ArgoCDRepositoryCreds")]
    ArgoCdRepositoryCreds,
}

impl ExportFormat {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::DockerConfig => "DockerConfig",
            Self::BasicAuth => "BasicAuth",
            Self::ArgoCdRepository => "ArgoCDRepository",
            Self::ArgoCdRepositoryCreds => "ArgoCDRepositoryCreds",
        }
    }

    /// Whether it holds one login and no more.
    pub fn holds_one_login(self) -> bool {
        self != Self::DockerConfig
    }

    /// Whether it is for exactly one image, whose text is the URL.
    pub fn is_of_one_image(self) -> bool {
        matches!(self, Self::ArgoCdRepository | Self::ArgoCdRepositoryCreds)
    }
}
