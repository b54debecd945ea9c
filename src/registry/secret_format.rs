//! The form in which a Secret holds logins. Pure.

use super::crd::ExportFormat;

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

    /// Whether it holds one login and no more: what is written replaces all that is there.
    pub fn holds_one_login(self) -> bool {
        matches!(self, Self::Export(format) if format.holds_one_login())
    }
}
