//! The view of a cluster. Pure.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::fetch::{ClusterFacts, Unread};
use super::findings::{
    Commands, Held, index_secrets, judge_namespace, judge_registry, judge_unreadable, note_unread,
    view_registry,
};
use super::reasons;
use super::view::{Finding, RegistryView, StatusView, WebhookView};
use crate::cluster::LeaderGlance;
use crate::command::installed::{INSTALL, describe_no_validating, describe_not_installed};
use crate::command::missed::{MissedPod, name_all};
use crate::controller::missed_pods::calls::NOT_CALLED;
use crate::names::NamespaceName;
use crate::quantity::{count, verb_of};
use crate::registry::{Registries, Registry};

/// How long before its end a certificate that was not renewed is a warning; it is renewed a month before.
const CERTIFICATE_SOON: SignedDuration = SignedDuration::from_hours(14 * 24);

/// What is shown of a cluster at `now`.
pub(super) fn build(facts: &ClusterFacts, commands: &Commands, now: Timestamp) -> StatusView {
    let mut view = StatusView::default();
    let listed = facts.registries.as_ref().ok();
    let registries: &[Registry] = listed.map_or(&[], |(registries, _)| registries);
    if !facts.parts.is_installed(now) {
        return not_installed(facts, registries, commands);
    }
    view.webhook = Some(judge_webhook(facts, commands, now, &mut view.findings));
    view.findings.extend(judge_kind(facts, commands));
    let known = listed.map(|(registries, _)| Registries::build(registries.iter().cloned()));
    let secrets = facts.secrets.as_ref().ok();
    let held = secrets.map(|secrets| index_secrets(secrets));
    let namespaces = facts.namespaces.as_ref().ok();
    let mut lacks = Vec::new();
    let mut lacking = Vec::new();
    for namespace in namespaces.into_iter().flatten() {
        let found = judge_namespace(namespace, known.as_ref(), held.as_ref(), commands, now);
        if found
            .iter()
            .any(|one| one.reason == reasons::SECRET_NOT_WRITTEN)
        {
            lacking.push(namespace);
        }
        lacks.extend(found);
    }
    for registry in registries {
        let name = registry.metadata.name.as_deref().unwrap_or_default();
        let serves = |labels| {
            let valid = known.as_ref().and_then(|known| known.get(name));
            valid.is_some_and(|valid| valid.serves(labels))
        };
        let lacking = lacking.iter().find(|one| serves(&one.labels));
        let lacking: Option<&NamespaceName> = lacking.map(|one| &one.name);
        view.registries.push(view_registry(registry));
        view.findings
            .extend(judge_registry(registry, lacking, commands, now));
    }
    let unreadable = listed.map(|listed| judge_unreadable(listed, commands));
    view.findings.extend(unreadable.into_iter().flatten());
    view.findings.extend(lacks);
    view.findings
        .extend(judge_missed(facts, held.as_ref(), commands));
    view.namespaces_opted_in = namespaces.map(|all| {
        let opted_in = all.iter().filter(|one| one.wants_pull_secrets());
        opted_in.count()
    });
    add_unread(facts, &mut view);
    view.judged()
}

/// Whether the API server knows the kind.
fn judge_kind(facts: &ClusterFacts, commands: &Commands) -> Option<Finding> {
    if facts.registries != Err(Unread::KindMissing) {
        return None;
    }
    let apply = commands.kubectl("apply --server-side -f -");
    let next = format!("{} crd | {apply}", commands.program);
    let message = "the API server does not know the kind Registry";
    Some(Finding::failed(
        "Cluster",
        reasons::KIND_MISSING,
        message,
        next,
    ))
}

/// All that there is to say where it is not: what Registries' status says is of a time when it was.
fn not_installed(facts: &ClusterFacts, registries: &[Registry], commands: &Commands) -> StatusView {
    let message = describe_not_installed(&commands.own_namespace);
    let next = INSTALL.to_owned();
    let finding = Finding::failed("Cluster", reasons::NOT_INSTALLED, message, next);
    let last = registries.iter().map(|registry| RegistryView {
        ready: "Unknown".to_owned(),
        reason: reasons::NOT_INSTALLED.to_owned(),
        ..view_registry(registry)
    });
    let mut view = StatusView {
        registries: last.collect(),
        findings: vec![finding],
        ..StatusView::default()
    };
    add_unread(facts, &mut view);
    view.judged()
}

/// Namespaces with Pods that were missed: it fails where an image could not be pulled. Where the Secret itself is not there, or is somebody
/// else's, that is said already, and a new Pod mends nothing.
fn judge_missed(
    facts: &ClusterFacts,
    held: Option<&Held<'_>>,
    commands: &Commands,
) -> Vec<Finding> {
    let mut by_namespace: BTreeMap<&NamespaceName, Vec<&MissedPod>> = BTreeMap::new();
    for pod in facts.missed.iter().flatten() {
        let is_there = |name: &String| {
            held.is_none_or(|held| held.contains_key(&(pod.namespace.as_str(), name.as_str())))
        };
        if pod.lacks.iter().any(is_there) {
            by_namespace.entry(&pod.namespace).or_default().push(pod);
        }
    }
    let judge = |(namespace, pods): (&NamespaceName, Vec<&MissedPod>)| {
        let number = pods.len();
        let message = format!(
            "{} {} without the pull secret that {} images need, which cannot be added: {}",
            count(number, "Pod"),
            verb_of(number, "waits", "wait"),
            verb_of(number, "its", "their"),
            name_all(pods.iter().copied()),
        );
        let next = commands.pullpass(&format!("status -n {namespace}"));
        let about = format!("Namespace {namespace}");
        let reason = reasons::PULL_SECRET_NOT_REFERENCED;
        let finding = Finding::failed(about, reason, message, next);
        if pods.iter().any(|pod| pod.is_image_pull_failing) {
            finding
        } else {
            finding.into_warning()
        }
    };
    by_namespace.into_iter().map(judge).collect()
}

fn add_unread(facts: &ClusterFacts, view: &mut StatusView) {
    const VIEW: &str = ": the ClusterRole pullpass-view allows it";
    let unread = &mut view.unread;
    if facts.registries != Err(Unread::KindMissing) {
        note_unread(&facts.registries, ("Registries", VIEW), unread);
    }
    note_unread(&facts.parts.webhooks, ("webhooks", ""), unread);
    note_unread(&facts.parts.replicas, ("replicas", ""), unread);
    note_unread(&facts.parts.leader, ("leader", ""), unread);
    note_unread(&facts.certificate, ("certificate", ""), unread);
    let one = ": name one with -n";
    note_unread(&facts.namespaces, ("namespaces", one), unread);
    note_unread(&facts.secrets, ("pull secrets", one), unread);
    note_unread(&facts.missed, ("Pods", one), unread);
}

fn judge_webhook(
    facts: &ClusterFacts,
    commands: &Commands,
    now: Timestamp,
    findings: &mut Vec<Finding>,
) -> WebhookView {
    let mut view = WebhookView::default();
    let own = &commands.own_namespace;
    view.called = judge_calls(facts, commands, findings);
    let webhooks = facts.parts.webhooks.as_ref().ok();
    let first = webhooks.and_then(|webhooks| webhooks.first());
    view.target = first.map(|one| one.target.clone());
    if let Ok(Some(replicas)) = &facts.parts.replicas {
        view.replicas_ready = Some(replicas.ready);
        view.replicas_wanted = Some(replicas.wanted);
        let next = commands.kubectl(&format!("get pods -n {own}"));
        if replicas.ready < replicas.wanted.max(1) {
            let (ready, wanted) = (replicas.ready, replicas.wanted);
            let are = verb_of(
                usize::try_from(wanted).unwrap_or_default(),
                "replica is",
                "replicas are",
            );
            let message = format!("{ready} of {wanted} {are} ready");
            let finding = Finding::failed("Webhook", reasons::NOT_READY, message, next);
            findings.push(if ready > 0 {
                finding.into_warning()
            } else {
                finding
            });
        }
    }
    if facts.parts.leader.is_ok() {
        let leader = facts.parts.find_leader(now);
        view.leader = leader.map(|leader| name_of(leader).to_owned());
        if view.leader.is_none() {
            let message = "no replica leads: nothing is renewed but by Pods that are created";
            let next = commands.kubectl(&format!("logs -n {own} deploy/pullpass --all-pods"));
            findings.push(Finding::failed("Leader", reasons::NO_LEADER, message, next));
        }
    }
    view.certificate_expiration_time = facts.certificate.as_ref().ok().copied().flatten();
    let end = view.certificate_expiration_time;
    findings.extend(judge_certificate(end, commands, now));
    view
}

/// Whether the API server calls the webhook, as far as is known.
fn judge_calls(
    facts: &ClusterFacts,
    commands: &Commands,
    findings: &mut Vec<Finding>,
) -> Option<bool> {
    let mut fail = |reason: &str, message: String| {
        let next = commands.pullpass("check");
        findings.push(Finding::failed("Webhook", reason, message, next));
    };
    let webhooks = facts.parts.webhooks.as_ref().ok();
    if let Some(webhooks) = webhooks {
        if webhooks.is_empty() {
            let message = "no webhook configuration calls pullpass: Pods get no reference";
            fail(reasons::WEBHOOK_MISSING, message.to_owned());
        } else if let Some(one) = webhooks.iter().find(|one| !one.has_ca) {
            let message = format!("{} has no caBundle", one.configuration);
            fail(reasons::CA_BUNDLE_MISSING, message);
        }
    }
    if facts.parts.lacks_validating() {
        fail(
            reasons::VALIDATING_WEBHOOK_MISSING,
            describe_no_validating(),
        );
    }
    let mut listed = facts.registries.iter().flat_map(|(listed, _)| listed);
    if let Some(message) = listed.find_map(find_not_called) {
        fail(reasons::WEBHOOK_NOT_CALLED, message);
        return Some(false);
    }
    webhooks.map(|webhooks| !webhooks.is_empty())
}

fn judge_certificate(
    end: Option<Timestamp>,
    commands: &Commands,
    now: Timestamp,
) -> Option<Finding> {
    let end = end.filter(|end| end.duration_since(now) < CERTIFICATE_SOON)?;
    let next = commands.kubectl(&format!(
        "logs -n {} deploy/pullpass --all-pods",
        commands.own_namespace
    ));
    let (reason, message) = if end <= now {
        let message = "the serving certificate has ended: Pods are created without asking";
        (reasons::CERTIFICATE_ENDED, message)
    } else {
        (
            reasons::CERTIFICATE_EXPIRING,
            "the serving certificate was not renewed",
        )
    };
    let finding = Finding::failed("Certificate", reason, message, next);
    Some(if end <= now {
        finding
    } else {
        finding.into_warning()
    })
}

/// The Pod that holds it, whose process and start its holder names, too.
fn name_of(leader: &LeaderGlance) -> &str {
    let mut parts = leader.holder.rsplitn(3, '_');
    parts.nth(2).unwrap_or(&leader.holder)
}

/// What the leader found out of the API server's calls, if they do not come; Registries' conditions say it.
fn find_not_called(registry: &Registry) -> Option<String> {
    let mut conditions = registry.status.iter().flat_map(|status| &status.conditions);
    conditions.find_map(|condition| {
        let begin = condition.message.find(NOT_CALLED)?;
        Some(condition.message[begin..].to_owned())
    })
}
