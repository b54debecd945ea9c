//! The form in which a Secret holds logins. Pure.

use super::crd::ExportFormat;

/// The type of the only Secrets whose `.dockerconfigjson` the kubelet reads.
/// <https://kubernetes.io/docs/concepts/configuration/secret/#docker-config-secrets>
const DOCKERCONFIGJSON_TYPE: &str = "kubernetes.io/dockerconfigjson";

/// <https://kubernetes.io/docs/concepts/configuration/secret/#basic-authentication-secret>
const BASIC_AUTH_TYPE: &str = "kubernetes.io/basic-auth";

/// What Argo CD reads is of no type of its own.
const OPAQUE_TYPE: &str = "Opaque";

/// The form in which a Secret holds logins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SecretFormat {
    /// A pull secret, as the kubelet reads it.
    #[default]
    PullSecret,
    /// An export.
    Export(ExportFormat),
}

impl SecretFormat {
    /// Whether it is no pull secret.
    pub fn is_export(self) -> bool {
        self != Self::PullSecret
    }

    /// The `type` of the Secret. That of one that is there cannot be changed:
    /// <https://kubernetes.io/docs/concepts/configuration/secret/#secret-types>
    pub fn secret_type(self) -> &'static str {
        match self {
            Self::PullSecret | Self::Export(ExportFormat::DockerConfig) => DOCKERCONFIGJSON_TYPE,
            Self::Export(ExportFormat::BasicAuth) => BASIC_AUTH_TYPE,
            Self::Export(ExportFormat::ArgoCdRepository | ExportFormat::ArgoCdRepositoryCreds) => {
                OPAQUE_TYPE
            }
        }
    }

    /// Whether it holds one login and no more: what is written replaces all that is there.
    pub fn holds_one_login(self) -> bool {
        matches!(self, Self::Export(format) if format.holds_one_login())
    }
}
