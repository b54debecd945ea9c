//! The rules of `spec.access`.
//!
//! A Secret can be mounted by every Pod of its namespace, and no Pod is patched for one that pushes: what chooses among Pods, or adds to
//! them, would only look like a protection.
//! <https://kubernetes.io/docs/concepts/configuration/secret/#restricting-secret-access>

use super::Problems;
use crate::registry::crd::RegistrySpec;
use crate::registry::pattern::Pattern;

/// Checks what does not go with `access: Push`. The schema says the same in the same words.
pub(super) fn check(spec: &RegistrySpec, images: &[Pattern], findings: &mut Problems<'_>) {
    if spec.access.is_pull() {
        return;
    }
    if spec.namespace_selector.is_empty() {
        findings.add(
            "spec.namespaceSelector",
            "must select by labels with access Push: any Pod of a served namespace can mount the credential that pushes",
        );
    }
    let choosers = [
        (
            "serviceAccountNames",
            !spec.service_account_names.is_empty(),
        ),
        ("podSelector", spec.pod_selector.is_some()),
    ];
    for (field, _) in choosers.into_iter().filter(|(_, is_given)| *is_given) {
        findings.add(
            format!("spec.{field}"),
            "must be left out with access Push: any Pod of a served namespace can mount its Secret, so remove it, and narrow namespaceSelector",
        );
    }
    if spec.pod_metadata.is_some() {
        findings.add(
            "spec.podMetadata",
            "must be left out with access Push: no Pod is patched for it, so write labels and annotations into the builder's own Pod template",
        );
    }
    if !spec.delivery.is_secret() {
        findings.add(
            "spec.delivery",
            "must be Secret with access Push: builders mount its Secret, and no kubelet asks for them",
        );
    }
    for image in images.iter().filter(|image| image.has_wildcard()) {
        findings.add_of_image(
            image,
            "must have no * with access Push: builders take it literally, list the hosts",
        );
    }
}
