//! What to inject into a Pod, or why it is admitted unchanged. Pure.

mod skip;

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};

use super::patch::Additions;
use super::review::{PodObject, Request, Spec};
use crate::image::Reference;
use crate::names::NamespaceName;
use crate::provision::namespace::INJECT_LABEL;
use crate::provision::{ExcludedNamespaces, InjectMode, Namespace};
use crate::registry::{
    PodSubject, Registries, Resolved, ValidRegistry, injected_key_problem, label_value_problem,
};

pub use skip::Skip;

/// The longest annotations that Kubernetes takes, keys and values together, in bytes.
///
/// <https://kubernetes.io/docs/concepts/overview/working-with-objects/annotations/>,
/// `TotalAnnotationSizeLimitB` in k8s.io/apimachinery/pkg/api/validation
const MAX_ANNOTATIONS: usize = 256 * 1024;

/// How much of a label's value a warning shows: the API server has not checked it yet.
const LABEL_SHOWN: usize = 63;

/// How many warnings of a Pod's images are kept: fewer are shown.
const WARNINGS_MAX: usize = 16;

/// The warning for a Pod whose namespace could not be read.
pub fn namespace_unknown_warning(namespace: &NamespaceName) -> String {
    format!(
        "pullpass: namespace {namespace} could not be read in time, the Pod is admitted unchanged: delete it and create it again"
    )
}

/// The warning for a ServiceAccount that does not list a pull secret.
pub fn mountable_secrets_warning(secret: &str) -> String {
    format!(
        "pullpass: the ServiceAccount enforces mountable secrets: list {secret} in its imagePullSecrets"
    )
}

/// The warning for a Secret that has the name of one of ours and is not managed by us.
pub fn not_managed_warning(namespace: &str, secret: &str) -> String {
    format!(
        "pullpass: Secret {namespace}/{secret} is not managed by pullpass and is not referenced: rename or delete it"
    )
}

/// What is done about a Pod.
#[derive(Debug)]
pub enum Plan<'r> {
    /// It is admitted unchanged; the warnings are for the user.
    Skip(Skip, Vec<String>),
    /// It references pull secrets.
    Inject(Injection<'r>),
}

/// What a Pod is to be given.
#[derive(Debug, Default)]
pub struct Injection<'r> {
    /// The Registries that serve the Pod's images, each key of each once, in the order of precedence.
    pub resolved: Vec<Resolved<'r>>,
    /// The key and the Registry of each of them.
    seen: HashSet<(Cow<'r, str>, &'r str)>,
    /// What to add.
    pub additions: Additions<'r>,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// Decides what can be decided from the request alone: the Pod to change, or why it is admitted unchanged.
///
/// # Errors
/// The reason.
pub fn screen<'p, 'a>(
    request: &'p Request<'a>,
    excluded: &ExcludedNamespaces,
) -> Result<(&'p PodObject<'a>, &'p NamespaceName), Skip> {
    if !request.creates_pod() {
        return Err(Skip::NotPodCreation);
    }
    if request.is_malformed() {
        return Err(Skip::MalformedObject);
    }
    let namespace = request.namespace().ok_or(Skip::NoNamespace)?;
    if excluded.contains(namespace) {
        return Err(Skip::NamespaceExcluded);
    }
    let pod = request.object().value().ok_or(Skip::MalformedObject)?;
    screen_pod(pod)?;
    Ok((pod, namespace))
}

/// Decides what can be decided from the Pod alone.
///
/// # Errors
/// Why it is admitted unchanged.
pub fn screen_pod(pod: &PodObject<'_>) -> Result<(), Skip> {
    if pod.is_malformed() {
        return Err(Skip::MalformedObject);
    }
    let metadata = pod.metadata.value().ok_or(Skip::MalformedObject)?;
    if metadata
        .annotations
        .value()
        .is_some_and(|annotations| annotations.mirror)
    {
        return Err(Skip::MirrorPod);
    }
    if opts_out(pod) {
        return Err(Skip::PodOptedOut);
    }
    Ok(())
}

/// Whether the Pod's label says that it wants nothing.
pub fn opts_out(pod: &PodObject<'_>) -> bool {
    let labels = pod
        .metadata
        .value()
        .and_then(|metadata| metadata.labels.value());
    labels.is_some_and(|labels| labels.inject.as_text() == Some("disabled"))
}

/// The warning for a Pod whose own label means nothing: it gets what it would get without.
fn find_unknown_label(pod: &PodObject<'_>) -> Option<String> {
    let labels = pod.metadata.value()?.labels.value()?;
    let value = labels.inject.as_text()?;
    let shown: String = value.chars().take(LABEL_SHOWN).collect();
    let is_known = matches!(value, "disabled" | "enabled" | "all");
    (!is_known).then(|| {
        format!(
            "pullpass: the Pod's label {INJECT_LABEL}={shown} means nothing and changes nothing: disabled opts a Pod out"
        )
    })
}

/// Decides what a Pod that [`screen`] let through is given in its namespace.
pub fn decide<'r>(
    pod: &PodObject<'_>,
    namespace: &Namespace,
    registries: &'r Registries,
) -> Plan<'r> {
    if namespace.excluded {
        return Plan::Skip(Skip::NamespaceExcluded, Vec::new());
    }
    if namespace.mode == InjectMode::Off {
        return Plan::Skip(Skip::NamespaceNotOptedIn, Vec::new());
    }
    if let Some(unknown) = namespace.find_unknown_inject() {
        let warning = format!("pullpass: {unknown}");
        return Plan::Skip(Skip::UnknownInjectValue, vec![warning]);
    }
    if namespace.terminating {
        return Plan::Skip(Skip::NamespaceTerminating, Vec::new());
    }
    let known = registries.known_serving();
    let pod_subject = PodSubject {
        known: Some(&known),
        ..pod_subject(pod, namespace)
    };
    let mut injection = Injection::default();
    injection.warnings.extend(find_unknown_label(pod));
    let images = pod.spec.value().into_iter().flat_map(Spec::images);
    for image in images.clone() {
        injection.add_image(image, &pod_subject, registries);
    }
    injection.add_pull_secrets(images, &pod_subject, namespace.mode, registries);
    injection.add_pod_metadata(pod, registries);
    if injection.additions.is_empty() {
        let skip = if injection.is_asked_for() {
            Skip::DeliveredByNode
        } else {
            Skip::NoRegistry
        };
        return Plan::Skip(skip, injection.warnings);
    }
    Plan::Inject(injection)
}

/// The Pod as Registries see it.
pub(super) fn pod_subject<'p>(pod: &'p PodObject<'_>, namespace: &'p Namespace) -> PodSubject<'p> {
    let of_namespace = PodSubject::from(&namespace.labels);
    let labels = pod
        .metadata
        .value()
        .and_then(|metadata| metadata.labels.value());
    PodSubject {
        service_account: pod
            .spec
            .value()
            .map_or(of_namespace.service_account, |spec| {
                Some(spec.service_account())
            }),
        labels: labels.map(|labels| labels as _).or(of_namespace.labels),
        ..of_namespace
    }
}

impl<'r> Injection<'r> {
    /// Whether there is an image whose login no Secret holds: the kubelet asks for it.
    pub fn is_asked_for(&self) -> bool {
        let mut resolved = self.resolved.iter();
        resolved.any(|resolved| !resolved.registry.delivers_by_secret())
    }

    /// Adds the pull secrets of the Registries that serve the images; with `all` those of every Registry that serves the Pod.
    fn add_pull_secrets<'i>(
        &mut self,
        images: impl Iterator<Item = &'i str>,
        pod_subject: &PodSubject<'_>,
        mode: InjectMode,
        registries: &'r Registries,
    ) {
        let mut chosen: Vec<&'r ValidRegistry> = self
            .resolved
            .iter()
            .map(|resolved| resolved.registry)
            .collect();
        if mode == InjectMode::All {
            chosen.extend(
                registries
                    .iter()
                    .filter(|registry| registry.serves_pod(pod_subject)),
            );
        }
        chosen.retain(|registry| registry.delivers_by_secret());
        if !chosen.iter().any(|registry| registry.has_own_secret()) {
            let common = chosen.first().and_then(|registry| registry.secret.as_ref());
            self.additions.pull_secrets.extend(common);
            return;
        }
        let images: Vec<Reference<'_>> = images
            .filter_map(|image| Reference::parse(image).ok())
            .collect();
        let arrangement = registries.arrange(pod_subject, &images, &chosen);
        if let Some((one, other)) = arrangement.conflict {
            self.warnings.push(format!(
                "pullpass: conflict: no order of the pull secrets of Registries {one} and {other} is right for all images of the Pod: narrow their images or excludedImages"
            ));
        }
        self.additions.pull_secrets = arrangement.secrets;
    }

    fn add_image(&mut self, image: &str, pod_subject: &PodSubject<'_>, registries: &'r Registries) {
        let Ok(reference) = Reference::parse(image) else {
            return; // the kubelet says InvalidImageName
        };
        if let Some(resolved) = registries.resolve(*pod_subject, &reference) {
            let registry = resolved.registry.name.as_str();
            if self.seen.insert((resolved.key.clone(), registry)) {
                self.resolved.push(resolved);
            }
        } else if reference
            .domain()
            .bytes()
            .any(|byte| byte.is_ascii_uppercase())
        {
            let lower = format!("{}/{}", reference.domain().to_lowercase(), reference.path());
            let served = Reference::parse(&lower)
                .ok()
                .and_then(|lower| registries.resolve(*pod_subject, &lower));
            if served.is_some() && self.warnings.len() < WARNINGS_MAX {
                let host = reference.domain();
                self.warnings.push(format!(
                    "pullpass: write the host in lower case, the kubelet finds no credential for {host}"
                ));
            }
        }
    }

    /// Adds the labels and annotations of the Registries that serve the Pod. Where two Registries give one key, the first in the
    /// order of precedence wins.
    fn add_pod_metadata(&mut self, pod: &PodObject<'_>, registries: &'r Registries) {
        let extra = |resolved: &Resolved<'_>| {
            !resolved.registry.pod_metadata.labels.is_empty()
                || !resolved.registry.pod_metadata.annotations.is_empty()
        };
        if !self.resolved.iter().any(extra) {
            return;
        }
        self.sort_by_precedence(registries);
        let mut labels = Extras::default();
        let mut annotations = Extras::default();
        for Resolved { registry, .. } in &self.resolved {
            labels.add(registry, &registry.pod_metadata.labels, true);
            annotations.add(registry, &registry.pod_metadata.annotations, false);
        }
        let present = pod
            .metadata
            .value()
            .and_then(|metadata| metadata.annotations.value());
        let added: usize = annotations
            .entries
            .iter()
            .map(|(key, (value, _))| key.len() + value.len())
            .sum();
        if present.map_or(0, |present| present.bytes) + added > MAX_ANNOTATIONS {
            annotations.entries.clear();
            annotations.warnings.push(
                "pullpass: the Pod's annotations would exceed 256 KiB with podMetadata of its Registry: left out"
                    .to_owned(),
            );
        }
        self.warnings.append(&mut labels.warnings);
        self.warnings.append(&mut annotations.warnings);
        self.additions.labels = labels.into_entries();
        self.additions.annotations = annotations.into_entries();
    }

    /// The more specific key first: a literal host before one with `*`, a longer path before a shorter one; then the Registries' rank.
    fn sort_by_precedence(&mut self, registries: &Registries) {
        if self.resolved.len() > 1 {
            let ranks = registries.iter().enumerate();
            let ranks: HashMap<&str, usize> = ranks
                .map(|(rank, registry)| (&*registry.name, rank))
                .collect();
            let rank = |resolved: &Resolved<'_>| ranks.get(&*resolved.registry.name).copied();
            self.resolved.sort_by_cached_key(|resolved| {
                let segments = resolved.key.split('/').count();
                let is_glob = resolved.key.contains('*');
                (is_glob, Reverse(segments), rank(resolved))
            });
        }
    }
}

/// Labels or annotations to be added, with the Registry that each is of.
#[derive(Default)]
struct Extras<'r> {
    entries: BTreeMap<&'r str, (&'r str, &'r str)>,
    warnings: Vec<String>,
}

impl<'r> Extras<'r> {
    fn add(
        &mut self,
        registry: &'r ValidRegistry,
        pod_metadata: &'r BTreeMap<String, String>,
        are_labels: bool,
    ) {
        for (key, value) in pod_metadata {
            let problem = injected_key_problem(key)
                .or_else(|| label_value_problem(value).filter(|_| are_labels));
            if let Some(problem) = problem {
                self.warnings.push(format!(
                    "pullpass: {key} of Registry {} is left out: {problem}",
                    registry.name
                ));
                continue;
            }
            let entry = self.entries.entry(key).or_insert((value, &registry.name));
            if entry.0 != value {
                let (winner, loser) = (entry.1, &registry.name);
                self.warnings.push(format!("pullpass: conflict: podMetadata of Registries {winner} and {loser} set different values of {key}: the one of {winner} is used"));
            }
        }
    }

    fn into_entries(self) -> Vec<(&'r str, &'r str)> {
        self.entries
            .into_iter()
            .map(|(key, (value, _))| (key, value))
            .collect()
    }
}
