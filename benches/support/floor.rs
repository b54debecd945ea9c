//! The floor: the least that a webhook can do that reads a Pod's images and answers with a patch. It decides nothing.

use std::borrow::Cow;

use anyhow::ensure;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::reviews::PATCH;

#[derive(Deserialize)]
struct Review<'a> {
    #[serde(borrow)]
    request: Request<'a>,
}

#[derive(Deserialize)]
struct Request<'a> {
    uid: &'a str,
    #[serde(borrow)]
    object: Pod<'a>,
}

#[derive(Deserialize)]
struct Pod<'a> {
    #[serde(borrow)]
    spec: Spec<'a>,
}

#[derive(Deserialize)]
struct Spec<'a> {
    #[serde(borrow)]
    containers: Vec<Container<'a>>,
}

#[derive(Deserialize)]
struct Container<'a> {
    #[serde(borrow)]
    image: Cow<'a, str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer<'a> {
    api_version: &'a str,
    kind: &'a str,
    response: Response<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Response<'a> {
    uid: &'a str,
    allowed: bool,
    patch_type: &'a str,
    patch: String,
}

/// Answers a review.
pub(crate) fn answer(body: &[u8]) -> anyhow::Result<Vec<u8>> {
    let Review { request } = serde_json::from_slice(body)?;
    let mut images = request.object.spec.containers.iter();
    ensure!(
        images.all(|container| !container.image.is_empty()),
        "a container has no image"
    );
    let answer = Answer {
        api_version: "admission.k8s.io/v1",
        kind: "AdmissionReview",
        response: Response {
            uid: request.uid,
            allowed: true,
            patch_type: "JSONPatch",
            patch: STANDARD.encode(PATCH),
        },
    };
    Ok(serde_json::to_vec(&answer)?)
}
