//! The images to explain: from the arguments, a list on stdin, or a Pod.

use std::path::Path;

use anyhow::Context;
use serde_json::Value;

use crate::command::manifest;
use crate::names::{Form, Name, NameError, NamespaceName, ObjectName};
use crate::registry::Labels;

/// Where images come from.
pub(super) enum Source<'a> {
    /// Images, `-` being a list on stdin.
    List(&'a [String]),
    /// A file with a Pod or a workload.
    Pod(&'a Path),
}

/// What is known of the Pod.
#[derive(Debug, Default)]
pub(super) struct Pod {
    pub(super) images: Vec<ImageArg>,
    pub(super) namespace: Option<NamespaceName>,
    pub(super) service_account: Option<ObjectName>,
    pub(super) labels: Labels,
}

/// An image to explain.
#[derive(Debug)]
pub(super) struct ImageArg {
    /// The image as it is written.
    pub(super) text: String,
    /// The field of the Pod that has the image; `None` for an image that was given by itself.
    pub(super) place: Option<String>,
}

/// Reads the images.
pub(super) fn load(source: &Source<'_>) -> anyhow::Result<Pod> {
    match source {
        Source::List(images) => {
            let mut pod = Pod::default();
            for image in *images {
                if image == "-" {
                    let list =
                        manifest::read(Path::new("-")).context("cannot read images from stdin")?;
                    pod.images.extend(
                        list.lines()
                            .map(str::trim)
                            .filter(|line| !line.is_empty())
                            .map(ImageArg::alone),
                    );
                } else {
                    pod.images.push(ImageArg::alone(image));
                }
            }
            Ok(pod)
        }
        Source::Pod(path) => {
            let file = path.display();
            let text = manifest::read(path).with_context(|| format!("cannot read {file}"))?;
            let object: Value = serde_saphyr::from_str(&text).map_err(|error| {
                anyhow::anyhow!(
                    "{file}: {}: write one Pod or workload as YAML",
                    error.without_snippet()
                )
            })?;
            read_pod(&object).with_context(|| file.to_string())
        }
    }
}

impl ImageArg {
    fn alone(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            place: None,
        }
    }
}

/// Reads a Pod, or the Pod template of a workload.
fn read_pod(object: &Value) -> anyhow::Result<Pod> {
    let kind = object["kind"].as_str().unwrap_or_default();
    if let Some(items) = object["items"].as_array() {
        let [item] = items.as_slice() else {
            anyhow::bail!("{kind} has {} items: give one Pod or workload", items.len());
        };
        return read_pod(item);
    }
    let template = match kind {
        "Pod" => Some(object),
        "CronJob" => object.pointer("/spec/jobTemplate/spec/template"),
        _ => object.pointer("/spec/template"),
    };
    let template = template.with_context(|| {
        format!("kind {kind:?} has no Pod template: give a Pod, a Deployment or the like")
    })?;
    let spec = &template["spec"];
    let mut images = Vec::new();
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        collect(spec, list, "/image", &mut images);
    }
    collect(spec, "volumes", "/image/reference", &mut images);
    anyhow::ensure!(!images.is_empty(), "spec names no image: add containers");
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let labels = template["metadata"]["labels"]
        .as_object()
        .into_iter()
        .flatten();
    Ok(Pod {
        images,
        namespace: parse_name(&object["metadata"]["namespace"]).context("metadata.namespace")?,
        service_account: parse_name(&spec["serviceAccountName"])
            .context("serviceAccountName of the Pod")?,
        labels: labels
            .filter_map(|(key, value)| Some((key.clone(), text(value)?)))
            .collect(),
    })
}

/// The name in a field, if there is one.
fn parse_name<F: Form>(value: &Value) -> Result<Option<Name<F>>, NameError> {
    value.as_str().map(Name::parse).transpose()
}

fn collect(spec: &Value, list: &str, pointer: &str, images: &mut Vec<ImageArg>) {
    for (index, entry) in spec[list].as_array().into_iter().flatten().enumerate() {
        if let Some(text) = entry.pointer(pointer).and_then(Value::as_str) {
            let place = format!("spec.{list}[{index}]{}", pointer.replace('/', "."));
            images.push(ImageArg {
                text: text.to_owned(),
                place: Some(place),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(yaml: &str) -> anyhow::Result<Pod> {
        read_pod(&serde_saphyr::from_str(yaml)?)
    }

    #[test]
    fn reads_images_of_all_four_places() {
        let pod = read(
            "{kind: Pod, metadata: {namespace: shop, labels: {a: b}}, spec: {serviceAccountName: s, containers: [{image: a}], initContainers: [{image: b}],
              ephemeralContainers: [{image: c}], volumes: [{name: x}, {image: {reference: d}}]}}",
        )
        .unwrap();
        let images: Vec<_> = pod
            .images
            .iter()
            .map(|image| (image.text.as_str(), image.place.as_deref().unwrap()))
            .collect();
        let expected = [
            ("b", "spec.initContainers[0].image"),
            ("a", "spec.containers[0].image"),
            ("c", "spec.ephemeralContainers[0].image"),
            ("d", "spec.volumes[1].image.reference"),
        ];
        assert_eq!(images, expected);
        assert_eq!(
            (pod.namespace.as_deref(), pod.service_account.as_deref()),
            (Some("shop"), Some("s"))
        );
        assert_eq!(pod.labels["a"], "b");
    }

    #[test]
    fn reads_pod_template_of_workloads() {
        for yaml in [
            "{kind: Deployment, spec: {template: {spec: {containers: [{image: a}]}}}}",
            "{kind: CronJob, spec: {jobTemplate: {spec: {template: {spec: {containers: [{image: a}]}}}}}}",
        ] {
            assert_eq!(read(yaml).unwrap().images[0].text, "a");
        }
        let list = "{kind: List, items: [{kind: Pod, spec: {containers: [{image: a}]}}]}";
        assert_eq!(read(list).unwrap().images[0].text, "a");
        assert!(read("{kind: List, items: []}").is_err());
        assert!(read("{kind: Service, spec: {}}").is_err());
        assert!(read("{kind: Pod, spec: {}}").is_err());
    }
}
