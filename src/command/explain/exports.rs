//! In which further Secrets the login for an image is, for consumers that are no Pods.

use serde::Serialize;

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
}

impl ExportedSecret {
    /// In a line.
    pub(super) fn describe(&self) -> String {
        let Self {
            registry,
            secret,
            format,
        } = self;
        format!("Secret {secret} (Registry {registry}): {}", format.name())
    }
}

/// The exports of all Registries that are for the image in the namespace, in the order of their names.
pub(super) fn find(explanation: &Explanation<'_>) -> Vec<ExportedSecret> {
    let is_for_it = |why: &Why<'_>| {
        matches!(
            why,
            Why::Serves { .. } | Why::Outranked { .. } | Why::Pushes { .. }
        )
    };
    let matches = explanation.matches.iter();
    let registries = matches
        .filter(|one| is_for_it(&one.why))
        .map(|one| one.registry);
    let mut found: Vec<ExportedSecret> = registries
        .flat_map(|registry| {
            registry
                .exports
                .iter()
                .map(move |export| (registry, export))
        })
        .map(|(registry, export)| ExportedSecret {
            registry: registry.name.to_string(),
            secret: export.secret.to_string(),
            format: export.format,
        })
        .collect();
    found.sort_by(|one, other| one.secret.cmp(&other.secret));
    found
}
