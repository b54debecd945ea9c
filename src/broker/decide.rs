//! Whether a Pod gets a login for an image, whose, and for how long the kubelet may keep it. Pure.

use jiff::{SignedDuration, Timestamp};

use super::claims::PodIdentity;
use super::ports::LivePod;
use super::refusal::{Reason, Refusal};
use crate::image::Reference;
use crate::provision::namespace::INJECT_LABEL;
use crate::provision::{InjectMode, Namespace, Pending};
use crate::registry::pod_subject::FindLabel;
use crate::registry::{Labels, PodSubject, Registries, Resolved, ValidRegistry, Why};

/// How long the kubelet may keep a login at most: as long as its token is good.
const CACHE_MAX: SignedDuration = SignedDuration::from_hours(1);

/// How long before its end a login is no longer kept: a pull that begins then has so much time.
const PULL_TIME: SignedDuration = SignedDuration::from_mins(10);

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub struct Question<'q> {
    /// The Pod's namespace, which opted in.
    pub namespace: &'q Namespace,
    /// The Pod.
    pub pod: &'q PodIdentity,
    /// Its labels, where they were read.
    pub labels: Option<&'q Labels>,
    /// The image.
    pub image: &'q Reference<'q>,
}

/// Which Registry serves it, as far as that can be said.
#[derive(Debug)]
pub enum Choice<'r> {
    /// This one does.
    Registry(Resolved<'r>),
    /// The Pod's labels decide, which were not read yet.
    ByLabels,
}

/// Whether the namespace is one whose Pods are served, as for a Pod that is created.
///
/// # Errors
/// Why it is not.
pub fn check_namespace(namespace: &Namespace) -> Result<(), Refusal> {
    let name = &namespace.name;
    let refuse = |message: String| Err(Refusal::new(Reason::NotOptedIn, message));
    if namespace.excluded {
        return refuse(format!("namespace {name} is excluded from pullpass"))
            .map_err(Refusal::silent);
    }
    if let Some(unknown) = namespace.find_unknown_inject() {
        return refuse(unknown);
    }
    if namespace.mode == InjectMode::Off {
        return refuse(format!(
            "namespace {name} has not opted in: kubectl label namespace {name} {INJECT_LABEL}=enabled"
        ));
    }
    if namespace.terminating {
        return refuse(format!("namespace {name} is being deleted"));
    }
    Ok(())
}

/// The Registry that serves the image, by the precedence among all of them; it gives its logins to kubelets.
///
/// # Errors
/// Why none does.
pub fn choose<'r>(
    registries: &'r Registries,
    question: &Question<'_>,
) -> Result<Choice<'r>, Refusal> {
    let subject = subject_of(question);
    let Some(resolved) = registries.resolve(subject, question.image) else {
        return Err(explain(registries, question, subject));
    };
    let registry = resolved.registry;
    // No label counts before this one, or it were this one.
    if registry.pods.is_some() && question.labels.is_none() {
        return Ok(Choice::ByLabels);
    }
    if !registry.delivers_by_node() {
        let message = format!(
            "Registry {} delivers by pull secrets (delivery: Secret): the Pod needs a reference to its own, which the webhook adds",
            registry.name
        );
        return Err(Refusal::new(Reason::NotServed, message));
    }
    Ok(Choice::Registry(resolved))
}

fn subject_of<'q>(question: &Question<'q>) -> PodSubject<'q> {
    PodSubject {
        namespace: Some(&question.namespace.labels),
        service_account: Some(&question.pod.service_account),
        labels: question.labels.map(|labels| labels as &dyn FindLabel),
        known: None,
    }
}

/// What to say where no Registry serves the image. Of Registries that select other namespaces nothing is said.
fn explain(registries: &Registries, question: &Question<'_>, subject: PodSubject<'_>) -> Refusal {
    let labels = &question.namespace.labels;
    let explained = registries.explain(subject, question.image);
    let mut near = explained.matches.iter();
    let near = near.find_map(|one| {
        let why = describe_near(one.registry, &one.why, question.pod)?;
        one.registry.namespaces.matches(labels).then_some(why)
    });
    if let Some(message) = near {
        return Refusal::new(Reason::NotServed, message);
    }
    let (domain, path) = question.image.repository();
    let PodIdentity {
        namespace,
        service_account,
        ..
    } = question.pod;
    Refusal::new(
        Reason::NoRegistry,
        format!(
            "no Registry serves {domain}/{path} for ServiceAccount {service_account} in namespace {namespace}: `pullpass explain -n {namespace} --service-account {service_account} {domain}/{path}` says which ones come near"
        ),
    )
}

fn describe_near(registry: &ValidRegistry, why: &Why<'_>, pod: &PodIdentity) -> Option<String> {
    let name = &registry.name;
    Some(match why {
        Why::Suspended => format!("Registry {name} is suspended: set its spec.suspend to false"),
        Why::Pushes { .. } => format!(
            "Registry {name} is for builders (access: Push), which mount its Secret: Pods pull by a Registry with access: Pull"
        ),
        Why::ServiceAccountNotServed => format!(
            "Registry {name} does not serve ServiceAccount {}: add it to serviceAccountNames",
            pod.service_account
        ),
        Why::PodNotServed => {
            format!("Registry {name} does not serve Pods with these labels: see its podSelector")
        }
        _ => return None,
    })
}

/// Whether what was read is the Pod that asks, and it did not opt out.
///
/// # Errors
/// What of it is another one's.
pub fn check_pod(pod: &PodIdentity, found: Option<&LivePod>) -> Result<(), Refusal> {
    let refuse = |message: &str| Err(Refusal::new(Reason::Unauthenticated, message));
    let Some(found) = found else {
        return refuse("the Pod of the token is gone");
    };
    if found.uid != pod.uid {
        return refuse("the Pod of the token is gone, there is another one of its name");
    }
    if *found.service_account != *pod.service_account || *found.node != *pod.node {
        return refuse("the Pod has another ServiceAccount or node than its token says");
    }
    if found
        .labels
        .get(INJECT_LABEL)
        .is_some_and(|value| value == "disabled")
    {
        let message = format!("the Pod opted out: its label {INJECT_LABEL} is disabled");
        return Err(Refusal::new(Reason::NotOptedIn, message));
    }
    Ok(())
}

/// How long the kubelet may keep a login that ends `until` then, or never; `None`: it has ended.
///
/// It keeps it for the ServiceAccount and the image: where labels decide, the next Pod may get another one, or none.
pub fn cache_duration(
    until: Option<Timestamp>,
    by_labels: bool,
    now: Timestamp,
) -> Option<SignedDuration> {
    let left = until.map_or(SignedDuration::MAX, |until| until.duration_since(now));
    if !left.is_positive() {
        return None;
    }
    if by_labels {
        return Some(SignedDuration::ZERO);
    }
    Some((left - PULL_TIME).clamp(SignedDuration::ZERO, CACHE_MAX))
}

/// What to say where there is no login yet. What is of those who run pullpass is for them.
pub fn unavailable(pending: Pending) -> Refusal {
    let registry = match &pending.registry {
        Some(name) => format!("Registry {name}"),
        None => "the Registry".to_owned(),
    };
    if !pending.is_for_admins {
        let message = format!("{registry}: {}", pending.message);
        return Refusal::new(Reason::Unavailable, message);
    }
    let message = format!(
        "{registry} has no login yet ({}): if it stays so, ask who runs pullpass, the Registry's status says why",
        pending.reason
    );
    Refusal::new(Reason::Unavailable, message).with_detail(pending.message)
}

#[cfg(test)]
mod tests;
