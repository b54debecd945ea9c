//! In which further Secrets the login for an image is, for consumers that are no Pods.

use serde::Serialize;

use super::builders::describe_left;
use crate::registry::{Explanation, ExportFormat, Why};

/// An export of a Registry whose login is for the image.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ExportedSecret {
    /// The Registry.
    registry: String,
    /// The Secret.
    secret: String,
    /// What is in it.
    format: ExportFormat,
    /// What a mounted file has left of its login's life, in words.
    left: &'static str,
}

impl ExportedSecret {
    /// In a line.
    pub(super) fn describe(&self) -> String {
        let Self {
            registry,
            secret,
            format,
            left,
        } = self;
        format!(
            "Secret {secret} (Registry {registry}): {}, {left}",
            format.name()
        )
    }
}

/// The exports of all Registries that are for the image in the namespace, in the order of their names: whichever of its Pods a Registry
/// chooses, its exports are for the namespace.
pub(super) fn find(
    explanation: &Explanation<'_>,
    (domain, path): (&str, &str),
) -> Vec<ExportedSecret> {
    let is_for_it = |why: &Why<'_>| {
        matches!(
            why,
            Why::Serves { .. }
                | Why::Outranked { .. }
                | Why::Pushes { .. }
                | Why::ServiceAccountNotServed
                | Why::PodNotServed
        )
    };
    let matches = explanation.matches.iter();
    let registries = matches
        .filter(|one| is_for_it(&one.why))
        .map(|one| one.registry);
    let mut found = Vec::new();
    for registry in registries {
        let Some(pattern) = registry.find_serving(domain, path) else {
            continue;
        };
        found.extend(registry.exports.iter().map(|export| ExportedSecret {
            registry: registry.name.to_string(),
            secret: export.secret.to_string(),
            format: export.format,
            left: describe_left(registry, pattern),
        }));
    }
    found.sort_by(|one, other| one.secret.cmp(&other.secret));
    found
}
