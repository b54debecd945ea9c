//! Which Secrets a Registry has, and in which form each of them holds its logins.

use super::{ValidRegistry, checked};
use crate::names::ObjectName;
use crate::registry::Labels;
use crate::registry::crd::{Delivery, ExportFormat, RegistrySpec};
use crate::registry::pod_subject::Specificity;
use crate::registry::secret_format::SecretFormat;
use crate::registry::secret_name::{PULL_SECRET, export_secret_name, own_secret_name};

/// One more Secret with a Registry's login, for consumers that are no Pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidExport {
    /// The Secret's name.
    pub secret: ObjectName,
    /// What is in it.
    pub format: ExportFormat,
}

/// The name of the Secret that holds a Registry's credentials for Pods or builders; `None`: none does.
pub(super) fn secret_of(
    registry: &str,
    spec: &RegistrySpec,
    specificity: Specificity,
) -> Option<ObjectName> {
    if spec.delivery == Delivery::Node {
        None
    } else if specificity.is_narrow() || !spec.access.is_pull() {
        Some(checked(&own_secret_name(registry)))
    } else {
        Some(ObjectName::constant(PULL_SECRET))
    }
}

pub(super) fn exports_of(registry: &str, spec: &RegistrySpec) -> Vec<ValidExport> {
    let exports = spec.exports.iter();
    exports
        .map(|export| ValidExport {
            secret: checked(&export_secret_name(registry, &export.name)),
            format: export.format,
        })
        .collect()
}

impl ValidRegistry {
    /// Whether pull secrets hold its credentials.
    pub fn delivers_by_secret(&self) -> bool {
        self.secret.is_some()
    }

    /// Whether kubelets that ask get its credentials.
    pub fn delivers_by_node(&self) -> bool {
        self.delivery != Delivery::Secret
    }

    /// Whether its Secret is its own: no other Registry's credentials are in there.
    pub fn has_own_secret(&self) -> bool {
        let mut secret = self.secret.iter();
        secret.any(|secret| **secret != *PULL_SECRET)
    }

    /// Whether a namespace with these labels is to hold Secrets with its credentials.
    pub fn fills(&self, namespace: &Labels) -> bool {
        self.delivers_by_secret() && self.serves(namespace)
    }

    /// The names of all Secrets with its credentials in each namespace that it serves.
    pub fn secrets(&self) -> impl Iterator<Item = &ObjectName> {
        let exports = self.exports.iter().map(|export| &export.secret);
        self.secret.iter().chain(exports)
    }

    /// Those of them that no other Registry's credentials are in: they need rights of their own.
    pub fn own_secrets(&self) -> impl Iterator<Item = &ObjectName> {
        self.secrets().filter(|secret| ***secret != *PULL_SECRET)
    }

    /// Whether this is one of its Secrets.
    pub fn has_secret(&self, secret: &str) -> bool {
        self.format_of(secret).is_some()
    }

    /// In which form a Secret of this name holds its logins; `None`: none does.
    pub(in crate::registry) fn format_of(&self, secret: &str) -> Option<SecretFormat> {
        if self.secret.as_deref() == Some(secret) {
            return Some(SecretFormat::PullSecret);
        }
        let mut exports = self.exports.iter();
        let export = exports.find(|export| *export.secret == *secret)?;
        Some(SecretFormat::Export(export.format))
    }

    /// Whether it rests and this secret of a namespace with these labels is one of its own: what is in there stays, even where it cannot be
    /// read.
    pub fn retains_all(&self, namespace: &Labels, secret: &str) -> bool {
        let mut own = self.own_secrets();
        self.suspend && own.any(|one| **one == *secret) && self.namespaces.matches(namespace)
    }

    /// Who uses its logins in the Secret of this name, in a word.
    pub fn users(&self, secret: &str) -> &'static str {
        match self.format_of(secret) {
            Some(SecretFormat::Export(_)) => "consumers",
            _ if self.access.is_pull() => "Pods",
            _ => "builders",
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::registry::{Labels, Registries, Registry};

    #[test]
    fn retains_what_cannot_be_read_while_the_registry_of_the_secret_rests() {
        let rows = [
            ("true", "pullpass-a.x-user", "a", true),
            ("true", "pullpass-a.x-other", "a", false),
            ("true", "pullpass-b.x-user", "a", false),
            ("true", "pullpass-a.x-user", "b", false),
            ("false", "pullpass-a.x-user", "a", false),
            // Of others, too.
            ("true", "pullpass", "a", false),
        ];
        for (suspend, secret, team, expected) in rows {
            let yaml = format!(
                "{{apiVersion: pullpass.dev/v1alpha1, kind: Registry, metadata: {{name: a}}, spec: {{suspend: {suspend}, images: [a.com], exports: [{{name: user, format: BasicAuth}}], namespaceSelector: {{matchLabels: {{team: a}}}}, static: {{secretRef: {{name: a}}}}}}}}"
            );
            let registry: Registry = serde_saphyr::from_str(&yaml).unwrap();
            let registries = Registries::build([registry]);
            let labels = Labels::from([("team".to_owned(), team.to_owned())]);
            let registry = registries.get("a").unwrap();
            let retains = registry.retains_all(&labels, secret);
            assert_eq!(retains, expected, "{suspend} {secret} {team}");
        }
    }
}
