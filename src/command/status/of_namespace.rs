//! The view of a namespace, for somebody who has rights there alone. Pure.

use jiff::{SignedDuration, Timestamp};

use super::fetch::{FetchResult, NamespaceFacts};
use super::findings::{
    Commands, index_secrets, judge_namespace, judge_registry, note_unread, view_registry,
};
use super::reasons;
use super::view::{EventRow, Finding, SecretRow, StatusView};
use crate::cluster::{EventGlance, ListedPod, OwnedSecret};
use crate::controller::missed_pods::find_restart;
use crate::provision::namespace::INJECT_LABEL;
use crate::provision::{InjectMode, Namespace};
use crate::registry::Registries;

/// How old Events are that are shown.
const EVENT_AGE: SignedDuration = SignedDuration::from_hours(1);

/// What is shown of a namespace at `now`.
pub(super) fn build(facts: &NamespaceFacts, commands: &Commands, now: Timestamp) -> StatusView {
    let mut view = StatusView {
        namespace: Some(facts.name.to_string()),
        ..StatusView::default()
    };
    let namespace = facts.namespace.as_ref().ok().and_then(Option::as_ref);
    view.findings.extend(judge_opt_in(facts, commands));
    let listed = facts.registries.as_ref().ok();
    let known = listed.map(|(registries, _)| Registries::build(registries.iter().cloned()));
    let secrets = facts.secrets.as_ref().ok();
    let held = secrets.map(|secrets| index_secrets(secrets));
    if let Some(namespace) = namespace {
        let lacks = judge_namespace(namespace, known.as_ref(), held.as_ref(), commands, now);
        view.findings.extend(lacks);
    }
    for registry in listed.iter().flat_map(|(registries, _)| registries) {
        let name = registry.metadata.name.as_deref().unwrap_or_default();
        let valid = known.as_ref().and_then(|known| known.get(name));
        let serves = |namespace: &Namespace| valid.is_some_and(|one| one.serves(&namespace.labels));
        if namespace.is_some_and(serves) {
            view.registries.push(view_registry(registry));
            let finding = judge_registry(registry, Some(&facts.name), commands, now);
            view.findings.extend(finding);
        }
    }
    if known.is_none()
        && namespace.is_some_and(Namespace::wants_pull_secrets)
        && secrets.is_some_and(Vec::is_empty)
    {
        let message = "there is no pull secret here, and this account may not see for which images one is to be";
        let finding = Finding::failed(
            "Namespace",
            reasons::SECRET_NOT_WRITTEN,
            message,
            commands.check(&facts.name),
        );
        view.findings.push(finding.into_warning());
    }
    view.secrets = secrets.into_iter().flatten().map(row_of).collect();
    let events = facts.events.as_deref().unwrap_or_default();
    view.findings.extend(judge_pods(facts, events, commands));
    view.events = events
        .iter()
        .filter(|event| now.duration_since(event.at) < EVENT_AGE)
        .map(event_row)
        .collect();
    add_unread(facts, &mut view);
    view.judged()
}

fn add_unread(facts: &NamespaceFacts, view: &mut StatusView) {
    let unread = &mut view.unread;
    let namespace = "; so it is not known whether it opted in";
    note_unread(&facts.namespace, ("namespace", namespace), unread);
    let registries = ": who administers the cluster may give the ClusterRole pullpass-view";
    note_unread(&facts.registries, ("Registries", registries), unread);
    let secrets = ": the ClusterRole edit allows it";
    note_unread(&facts.secrets, ("pull secrets", secrets), unread);
    note_unread(&facts.events, ("Events", ""), unread);
    note_unread(&facts.pods, ("Pods", ""), unread);
}

fn judge_opt_in(facts: &NamespaceFacts, commands: &Commands) -> Option<Finding> {
    let about = format!("Namespace {}", facts.name);
    match &facts.namespace {
        Ok(None) => Some(Finding::failed(
            about,
            reasons::NAMESPACE_MISSING,
            "there is none",
            None,
        )),
        Ok(Some(namespace)) if namespace.mode == InjectMode::Off && !namespace.excluded => {
            let label = format!(
                "label namespace {} --overwrite {INJECT_LABEL}=enabled",
                facts.name
            );
            let message = "it has not opted in: Pods get nothing";
            Some(Finding::failed(
                about,
                reasons::NAMESPACE_NOT_OPTED_IN,
                message,
                commands.kubectl(&label),
            ))
        }
        _ => None,
    }
}

/// Pods that were created without their reference, as an Event says, or that cannot pull and have none.
fn judge_pods<'f>(
    facts: &'f NamespaceFacts,
    events: &'f [EventGlance],
    commands: &'f Commands,
) -> impl Iterator<Item = Finding> + 'f {
    let opted_in = is_opted_in(&facts.namespace);
    let pods = facts.pods.as_deref().unwrap_or_default().iter();
    pods.filter_map(move |pod: &ListedPod| {
        let object = format!("Pod {}", pod.name);
        let is_told = events.iter().any(|event| {
            event.reason == reasons::PULL_SECRET_NOT_REFERENCED && event.object == object
        });
        let is_suspect = opted_in && pod.is_image_pull_failing();
        if !is_told && !is_suspect {
            return None;
        }
        let message = if is_told {
            "it was created without the pull secret that its images need, which cannot be added"
        } else {
            "its image cannot be pulled, and it references no pull secret of pullpass"
        };
        let describe =
            || commands.kubectl(&format!("describe pod {} -n {}", pod.name, pod.namespace));
        let restart = find_restart(pod).map(|restart| restart + &commands.same_cluster);
        let next = restart.filter(|_| is_told).unwrap_or_else(describe);
        let finding = Finding::failed(object, reasons::PULL_SECRET_NOT_REFERENCED, message, next);
        // It may need none: pullpass has not said so.
        Some(if is_told {
            finding
        } else {
            finding.into_warning()
        })
    })
}

/// Where that is not known, Pods tell.
fn is_opted_in(namespace: &FetchResult<Option<Namespace>>) -> bool {
    match namespace {
        Ok(Some(namespace)) => namespace.wants_pull_secrets(),
        Ok(None) => false,
        Err(_) => true,
    }
}

fn row_of(secret: &OwnedSecret) -> SecretRow {
    SecretRow {
        name: secret.name.to_string(),
        holds: secret.holds,
        registries: secret.registries.iter().cloned().collect(),
        created: secret.created,
        expiration_time: secret.expires,
    }
}

fn event_row(event: &EventGlance) -> EventRow {
    EventRow {
        time: event.at,
        warning: event.is_warning,
        object: event.object.clone(),
        reason: event.reason.clone(),
        message: event.note.clone(),
    }
}
