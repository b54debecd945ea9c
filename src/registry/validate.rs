//! The rules of a Registry, all of them: those that its schema says too, and those that no schema can say.

mod access;
mod acr;
mod ecr;
mod exports;

use super::crd::{
    ANNOTATION_VALUE_MAX, NAME_MAX, PATTERNS_MAX, POD_METADATA_MAX, PodMetadata, Registry,
    RegistrySpec, SERVICE_ACCOUNTS_MAX,
};
use super::labels;
use super::pattern::Pattern;
use crate::names::{is_label, is_subdomain};

/// A rule that a Registry breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The Registry's name; empty when it has none.
    pub registry: String,
    /// The field, as a path from the object's root: `spec.images[0]`.
    pub field: String,
    /// What is wrong, and what to do.
    pub message: String,
}

/// Collects the problems of one Registry.
struct Problems<'a> {
    registry: &'a str,
    images: &'a [String],
    found: Vec<Problem>,
}

impl Problems<'_> {
    fn add(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.found.push(Problem {
            registry: self.registry.to_owned(),
            field: field.into(),
            message: message.into(),
        });
    }

    /// Adds what is wrong with one of the patterns of `images` that could be read.
    fn add_of_image(&mut self, image: &Pattern, message: impl Into<String>) {
        let is_it = |text: &String| Pattern::parse(text).is_ok_and(|pattern| pattern == *image);
        let place = self.images.iter().position(is_it);
        let field = place.map_or_else(
            || "spec.images".to_owned(),
            |index| format!("spec.images[{index}]"),
        );
        self.add(field, message);
    }
}

/// The patterns of a Registry that breaks no rule.
pub(super) struct Patterns {
    pub(super) images: Vec<Pattern>,
    pub(super) excluded_images: Vec<Pattern>,
}

/// Reads a Registry's patterns and checks every rule.
///
/// # Errors
/// All rules that the Registry breaks, never an empty list.
pub(super) fn check(registry: &Registry) -> Result<Patterns, Vec<Problem>> {
    let name = registry.metadata.name.as_deref().unwrap_or_default();
    let mut findings = Problems {
        registry: name,
        images: &registry.spec.images,
        found: Vec::new(),
    };
    check_name(name, &mut findings);
    let spec = &registry.spec;
    let patterns = Patterns {
        images: parse_patterns("spec.images", &spec.images, &mut findings),
        excluded_images: parse_patterns(
            "spec.excludedImages",
            &spec.excluded_images,
            &mut findings,
        ),
    };
    if spec.images.is_empty() {
        findings.add(
            "spec.images",
            "is empty: name at least one host or host/path",
        );
    }
    check_excludes(&patterns, spec, &mut findings);
    check_selectors(spec, &mut findings);
    access::check(spec, &patterns.images, &mut findings);
    exports::check(spec, &patterns.images, &mut findings);
    check_provider(spec, &patterns.images, &mut findings);
    if let Some(pod_metadata) = &spec.pod_metadata {
        check_pod_metadata(
            pod_metadata,
            spec.namespace_selector.is_empty(),
            &mut findings,
        );
    }
    if findings.found.is_empty() {
        Ok(patterns)
    } else {
        Err(findings.found)
    }
}

fn check_name(name: &str, findings: &mut Problems<'_>) {
    if name.len() > NAME_MAX {
        findings.add(
            "metadata.name",
            format!("has more than {NAME_MAX} characters: shorten it"),
        );
    } else if !is_label(name) {
        findings.add(
            "metadata.name",
            "is no DNS label: write lower-case letters, digits and hyphens, no dots",
        );
    }
}

fn check_selectors(spec: &RegistrySpec, findings: &mut Problems<'_>) {
    for (place, message) in spec.namespace_selector.problems() {
        findings.add(format!("spec.namespaceSelector.{place}"), message);
    }
    let accounts = &spec.service_account_names;
    if accounts.len() > SERVICE_ACCOUNTS_MAX {
        findings.add(
            "spec.serviceAccountNames",
            format!("has more than {SERVICE_ACCOUNTS_MAX} names: split it over several Registries"),
        );
    }
    for (index, account) in accounts.iter().enumerate().take(SERVICE_ACCOUNTS_MAX) {
        let problem = if !is_subdomain(account) {
            "is no name of a ServiceAccount: write lower-case letters, digits, hyphens and dots"
        } else if accounts[..index].contains(account) {
            "is there twice: remove one"
        } else {
            continue;
        };
        findings.add(
            format!("spec.serviceAccountNames[{index}]"),
            format!("{account:?} {problem}"),
        );
    }
    if let Some(pods) = &spec.pod_selector {
        if pods.is_empty() {
            let message = "selects every Pod: leave it out, or select by labels";
            findings.add("spec.podSelector", message);
        }
        for (place, message) in pods.problems() {
            findings.add(format!("spec.podSelector.{place}"), message);
        }
    }
}

fn parse_patterns(field: &str, texts: &[String], findings: &mut Problems<'_>) -> Vec<Pattern> {
    if texts.len() > PATTERNS_MAX {
        findings.add(
            field,
            format!("has more than {PATTERNS_MAX} patterns: split it over several Registries"),
        );
        // Each is compared with the others.
        return Vec::new();
    }
    let mut patterns: Vec<Pattern> = Vec::with_capacity(texts.len());
    for (index, text) in texts.iter().enumerate() {
        match Pattern::parse(text) {
            Ok(pattern) if patterns.contains(&pattern) => {
                findings.add(
                    format!("{field}[{index}]"),
                    format!("{text:?} is there twice: remove one"),
                );
            }
            Ok(pattern) => patterns.push(pattern),
            Err(error) => findings.add(format!("{field}[{index}]"), format!("{text:?} {error}")),
        }
    }
    patterns
}

fn check_excludes(patterns: &Patterns, spec: &RegistrySpec, findings: &mut Problems<'_>) {
    if patterns.images.len() != spec.images.len()
        || patterns.excluded_images.len() != spec.excluded_images.len()
    {
        return;
    }
    for (index, excluded_images) in patterns.excluded_images.iter().enumerate() {
        let field = format!("spec.excludedImages[{index}]");
        if let Some(image) = patterns
            .images
            .iter()
            .find(|image| excluded_images.covers_pattern(image))
        {
            findings.add(
                field,
                format!("\"{excluded_images}\" excludes all of \"{image}\": remove one of them"),
            );
        } else if patterns
            .images
            .iter()
            .all(|image| image.intersect(excluded_images).is_none())
        {
            findings.add(
                field,
                format!("\"{excluded_images}\" is under no pattern of images: remove it"),
            );
        }
    }
}

fn check_provider(spec: &RegistrySpec, images: &[Pattern], findings: &mut Problems<'_>) {
    match (&spec.ecr, &spec.acr, &spec.fixed) {
        (Some(ecr), None, None) => ecr::check(ecr, images, findings),
        (None, Some(acr), None) => acr::check(acr, images, findings),
        (None, None, Some(fixed)) => {
            let field = "spec.static.secretRef.name";
            check_object_name("a Secret", field, &fixed.secret_ref.name, findings);
        }
        (None, None, None) => {
            findings.add("spec", "has none of ecr, acr and static: give exactly one");
        }
        _ => findings.add(
            "spec",
            "has several of ecr, acr and static: give exactly one",
        ),
    }
}

/// A name of an object of a kind, as a message has it: "a Secret".
fn check_object_name(kind: &str, field: &str, name: &str, findings: &mut Problems<'_>) {
    if !is_subdomain(name) {
        let form = "write lower-case letters, digits, hyphens and dots";
        findings.add(field, format!("{name:?} is no name of {kind}: {form}"));
    }
}

/// The endpoints that are given below a field.
fn check_endpoints<'e>(
    field: &str,
    endpoints: impl IntoIterator<Item = (&'static str, &'e Option<String>)>,
    findings: &mut Problems<'_>,
) {
    for (name, endpoint) in endpoints {
        if endpoint.as_deref().is_some_and(|given| !is_endpoint(given)) {
            let message = "is no endpoint: write https://host, a port and a path at most";
            findings.add(format!("{field}.{name}"), message);
        }
    }
}

/// Whether this is `https://` with a host and, at most, a port and a path.
fn is_endpoint(endpoint: &str) -> bool {
    split_endpoint(endpoint).is_some()
}

/// Host, port and path of such an URL; `None`: it is of another form.
pub(crate) fn split_endpoint(endpoint: &str) -> Option<(&str, Option<&str>, &str)> {
    let rest = endpoint.strip_prefix("https://")?;
    let (domain, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let (host, port) = crate::image::split_port(domain);
    let is_path_byte =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'~' | b'/' | b'-');
    let is_one = endpoint.len() <= 512
        && crate::image::is_domain(domain)
        && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
        && path.bytes().all(is_path_byte);
    is_one.then_some((host, port, path))
}

fn check_pod_metadata(
    pod_metadata: &PodMetadata,
    serves_everyone: bool,
    findings: &mut Problems<'_>,
) {
    if serves_everyone {
        findings.add(
            "spec.podMetadata",
            "needs a namespaceSelector that selects by labels: anyone who may create Pods in a served namespace gets what it adds",
        );
    }
    for (name, map) in [
        ("labels", &pod_metadata.labels),
        ("annotations", &pod_metadata.annotations),
    ] {
        if map.len() > POD_METADATA_MAX {
            findings.add(
                format!("spec.podMetadata.{name}"),
                format!("has more than {POD_METADATA_MAX} entries: remove some"),
            );
        }
        for (key, value) in map.iter().take(POD_METADATA_MAX) {
            let value_problem = || match name {
                "labels" => labels::label_value_problem(value),
                _ if value.len() > ANNOTATION_VALUE_MAX => Some(format!(
                    "has more than {ANNOTATION_VALUE_MAX} bytes: shorten it"
                )),
                _ => None,
            };
            if let Some(problem) = labels::injected_key_problem(key).or_else(value_problem) {
                findings.add(format!("spec.podMetadata.{name}[{key}]"), problem);
            }
        }
    }
}
