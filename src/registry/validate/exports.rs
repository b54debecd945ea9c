//! The rules of `spec.exports`.
//!
//! Consumers that are no Pods know no `*`, and mostly hosts alone: an export has the hosts' own keys, as the Secret of a Registry that pushes.

use std::collections::BTreeSet;

use super::Problems;
use crate::names::is_label;
use crate::registry::crd::{
    Delivery, EXPORT_NAME_MAX, EXPORTS_MAX, Export, ExportFormat, RegistrySpec,
};
use crate::registry::pattern::Pattern;

/// Checks the exports, and the images that they are for. The schema says the same in the same words.
pub(super) fn check(spec: &RegistrySpec, images: &[Pattern], findings: &mut Problems<'_>) {
    let exports = &spec.exports;
    if exports.is_empty() {
        return;
    }
    if exports.len() > EXPORTS_MAX {
        let message = format!("has more than {EXPORTS_MAX}: split it over several Registries");
        findings.add("spec.exports", message);
        return;
    }
    let mut names = BTreeSet::new();
    for (index, export) in exports.iter().enumerate() {
        let field = format!("spec.exports[{index}]");
        check_name(&field, &export.name, &mut names, findings);
        check_images(&field, export, images, findings);
    }
    if spec.delivery == Delivery::Node {
        findings.add(
            "spec.delivery",
            "must be Secret or Both with exports: an export is a Secret with its login",
        );
    }
    for image in images.iter().filter(|image| image.has_wildcard()) {
        findings.add_of_image(
            image,
            "must have no * with exports: consumers take it literally, list the hosts",
        );
    }
}

fn check_name<'e>(
    field: &str,
    name: &'e str,
    names: &mut BTreeSet<&'e str>,
    findings: &mut Problems<'_>,
) {
    let problem = if name.len() > EXPORT_NAME_MAX {
        format!("has more than {EXPORT_NAME_MAX} characters: shorten it")
    } else if !is_label(name) {
        "is no DNS label: write lower-case letters, digits and hyphens, no dots".to_owned()
    } else if !names.insert(name) {
        "is there twice: rename one".to_owned()
    } else {
        return;
    };
    findings.add(format!("{field}.name"), problem);
}

fn check_images(field: &str, export: &Export, images: &[Pattern], findings: &mut Problems<'_>) {
    let is_of_one_host = || {
        let mut pairs = images.windows(2);
        pairs.all(|pair| pair[0].domain() == pair[1].domain())
    };
    // Go takes what is before a colon for a scheme, which begins with a letter: <https://github.com/golang/go/blob/go1.25.0/src/net/url/url.go>
    // (getScheme). Argo CD finds nothing by what is no URL.
    let is_no_url = |image: &Pattern| {
        let domain = image.domain();
        domain.contains(':') && !domain.starts_with(|first: char| first.is_ascii_alphabetic())
    };
    if export.format.is_of_one_image() && images.iter().any(is_no_url) {
        findings.add(
            field,
            "of formats ArgoCDRepository and ArgoCDRepositoryCreds are no URL for Argo CD with an IP address or a leading digit and a port: name the host by a name that begins with a letter, or leave the port out",
        );
    }
    if export.format.is_of_one_image() && images.len() > 1 {
        findings.add(
            field,
            "of formats ArgoCDRepository and ArgoCDRepositoryCreds have one URL: let images name exactly one",
        );
    } else if export.format == ExportFormat::BasicAuth && !is_of_one_host() {
        findings.add(
            field,
            "of format BasicAuth hold one login: let images name one host alone",
        );
    }
}
