//! The step of a namespace that creates a Pod as a dry run: whether it gets the reference.

use std::collections::BTreeSet;

use super::context::CheckContext;
use super::image::CheckedImage;
use super::report::StepResult;
use super::{advice, dry_run, ids};
use crate::cluster::Kube;
use crate::image::Reference;
use crate::names::{NamespaceName, ObjectName};
use crate::provision::ports::ClusterError;
use crate::registry::ValidRegistry;

/// Whether a Pod gets the reference; not to a Secret that is `foreign`.
pub(super) async fn check(
    context: &CheckContext<'_>,
    kube: &Kube,
    name: &NamespaceName,
    images: &[CheckedImage<'_>],
    foreign: &BTreeSet<ObjectName>,
) -> StepResult {
    let given: Vec<String> = images
        .iter()
        .filter(|image| image.is_served())
        .map(|image| image.text.to_owned())
        .collect();
    let images = if given.is_empty() {
        any_image(context)
    } else {
        given
    };
    if images.is_empty() {
        return StepResult::skipped("not tried: name an image that a Registry serves");
    }
    let pod = dry_run::pod(
        &images,
        &context.args.service_account,
        &context.args.pod_labels,
    );
    let tried = match kube.try_pod(name, &pod).await {
        Ok(tried) => tried,
        Err(ClusterError::Forbidden { .. }) => {
            return StepResult::hidden("this account may not create Pods here");
        }
        Err(error) => return advice::of_cluster(&error),
    };
    let needed = needed(context, &images);
    if needed.iter().any(|secret| foreign.contains(secret)) {
        return StepResult::skipped(
            "not tried: a Pod references no Secret that pullpass does not manage",
        )
        .id(ids::SECRET_NOT_MANAGED);
    }
    dry_run::check_pod(context, name, &tried, &needed)
}

/// The pull secrets that a Pod with these images needs.
fn needed(context: &CheckContext<'_>, images: &[String]) -> BTreeSet<ObjectName> {
    let secret = |image: &String| {
        let reference = Reference::parse(image).ok()?;
        let resolved = context
            .registries
            .resolve(context.pod_subject(), &reference)?;
        resolved.registry.secret.clone()
    };
    images.iter().filter_map(secret).collect()
}

/// An image of some Registry that serves the Pod: nothing of it is pulled.
fn any_image(context: &CheckContext<'_>) -> Vec<String> {
    let pod_subject = context.pod_subject();
    let serving = context
        .registries
        .iter()
        .filter(|registry| registry.serves_pod(&pod_subject));
    serving
        .flat_map(ValidRegistry::patterns)
        .find(|pattern| !pattern.has_wildcard())
        .map(|pattern| match pattern.path() {
            "" => format!("{pattern}/pullpass-check"),
            _ => pattern.to_string(),
        })
        .into_iter()
        .collect()
}
