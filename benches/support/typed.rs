//! The same webhook on kube's typed structs: the whole Pod is decoded.

use anyhow::Context as _;
use json_patch::{AddOperation, Patch, PatchOperation, jsonptr::PointerBuf};
use k8s_openapi::api::core::v1::{LocalObjectReference, Pod};
use kube::core::admission::{AdmissionRequest, AdmissionResponse, AdmissionReview};
use pullpass::image::Reference;
use pullpass::registry::{Labels, Registries};

/// Answers a review: with a reference to the pull secret, when a Registry serves one of the Pod's images.
pub(crate) fn answer(
    body: &[u8],
    registries: &Registries,
    namespace: &Labels,
) -> anyhow::Result<Vec<u8>> {
    let review: AdmissionReview<Pod> = serde_json::from_slice(body)?;
    let request: AdmissionRequest<Pod> = review.try_into()?;
    let mut response = AdmissionResponse::from(&request);
    let spec = request
        .object
        .as_ref()
        .and_then(|pod| pod.spec.as_ref())
        .context("no Pod")?;
    let containers = spec
        .containers
        .iter()
        .chain(spec.init_containers.iter().flatten());
    let mut images = containers.filter_map(|container| container.image.as_deref());
    let is_served = |image: &str| {
        Reference::parse(image)
            .is_ok_and(|reference| registries.resolve(namespace, &reference).is_some())
    };
    if images.any(is_served) {
        response = response.with_patch(Patch(vec![reference_to_secret(
            spec.image_pull_secrets.as_deref(),
        )?]))?;
    }
    Ok(serde_json::to_vec(&response.into_review())?)
}

fn reference_to_secret(present: Option<&[LocalObjectReference]>) -> anyhow::Result<PatchOperation> {
    let secret = LocalObjectReference {
        name: pullpass::provision::PULL_SECRET.into(),
    };
    let (path, value) = if present.is_none_or(<[_]>::is_empty) {
        ("/spec/imagePullSecrets", serde_json::to_value([secret])?)
    } else {
        ("/spec/imagePullSecrets/-", serde_json::to_value(secret)?)
    };
    Ok(PatchOperation::Add(AddOperation {
        path: PointerBuf::parse(path)?,
        value,
    }))
}
