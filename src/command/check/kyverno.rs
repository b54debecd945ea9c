//! A step of clusters with Kyverno: some of its versions do not verify images of Pods that reference a pull secret.

use super::ids;
use super::report::{CheckReport, StepResult};
use crate::cluster::Kube;
use crate::image::Reference;

/// The versions of Kyverno, 1.18.0 to 1.18.2, that ask no credential helper about a Pod with `imagePullSecrets`.
///
/// <https://github.com/kyverno/kyverno/issues/16878>
const AFFECTED: [&str; 3] = ["1.18.0", "1.18.1", "1.18.2"];

/// Reports a Kyverno of such a version; nothing where there is none, or this account may not see it.
pub(super) async fn check(kube: &Kube, report: &mut CheckReport) -> anyhow::Result<()> {
    report.start();
    let images = kube.fetch_admission_controller_images().await;
    let images = images.unwrap_or_default();
    let Some(version) = images.iter().find_map(|image| affected_version(image)) else {
        return Ok(());
    };
    let message = format!(
        "Kyverno {version} is installed: where it verifies images, a Pod with imagePullSecrets, as pullpass gives them, switches off its credential helpers"
    );
    let fix = "upgrade Kyverno beyond 1.18.2, or let its policies verify the images by the pull secret alone";
    let result = StepResult::warning(message, fix).id(ids::KYVERNO_HELPERS_OFF);
    report.add("kyverno", result)
}

/// The version in an image of Kyverno, if it is one of those.
fn affected_version(image: &str) -> Option<&'static str> {
    let reference = Reference::parse(image).ok()?;
    let tag = reference.tag()?.trim_start_matches('v');
    // A mirror has a path of its own in front; a build has a suffix behind.
    let is_kyverno = reference.path().rsplit('/').next() == Some("kyverno");
    let is = |version: &&str| tag == *version || tag.starts_with(&format!("{version}-"));
    AFFECTED.into_iter().find(is).filter(|_| is_kyverno)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_versions_of_kyverno_that_ask_no_credential_helper() {
        let digest = format!("sha256:{}", "0".repeat(64));
        for (image, expected) in [
            ("reg.kyverno.io/kyverno/kyverno:v1.18.0", Some("1.18.0")),
            ("ghcr.io/kyverno/kyverno:v1.18.2", Some("1.18.2")),
            ("mirror.example.com/a/b/kyverno:1.18.1-fips", Some("1.18.1")),
            (
                &format!("ghcr.io/kyverno/kyverno:v1.18.1@{digest}"),
                Some("1.18.1"),
            ),
            ("ghcr.io/kyverno/kyverno:v1.18.3", None),
            ("ghcr.io/kyverno/kyverno:v1.18.20", None),
            ("ghcr.io/kyverno/kyverno:v1.17.9", None),
            ("ghcr.io/kyverno/background-controller:v1.18.1", None),
            ("ghcr.io/kyverno/kyverno", None),
            ("", None),
        ] {
            assert_eq!(affected_version(image), expected, "{image}");
        }
    }
}
