//! What Registries and pull secrets show, for a cluster and for a namespace alike. Pure.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::fetch::{FetchResult, ListedRegistries, Unread};
use super::reasons;
use super::view::{Finding, RegistryView, UnreadView};
use crate::cluster::OwnedSecret;
use crate::names::{NamespaceName, ObjectName};
use crate::provision::Namespace;
use crate::provision::namespace::INJECT_LABEL;
use crate::registry::crd::Access;
use crate::registry::{Registries, Registry};

/// How long after a Registry was written nobody wonders that no leader looked at it yet.
const NEW: SignedDuration = SignedDuration::from_secs(30);

/// What people type next: as whom this program was called, and in which cluster.
#[derive(Clone, Debug)]
pub(super) struct Commands {
    pub(super) program: &'static str,
    /// ` --context production`.
    pub(super) same_cluster: String,
    pub(super) own_namespace: NamespaceName,
}

impl Commands {
    /// A command of this program.
    pub(super) fn pullpass(&self, command: &str) -> String {
        format!("{} {command}{}", self.program, self.same_cluster)
    }

    /// One of kubectl.
    pub(super) fn kubectl(&self, command: &str) -> String {
        format!("kubectl {command}{}", self.same_cluster)
    }

    /// Tries each step of a namespace.
    pub(super) fn check(&self, namespace: &str) -> String {
        self.pullpass(&format!("check -n {namespace}"))
    }
}

/// A Registry, and its condition Ready where that is of its present state.
pub(super) fn view_registry(registry: &Registry) -> RegistryView {
    let ready = find_condition(registry, "Ready");
    let is_of_now = |one: &&Condition| one.observed_generation == registry.metadata.generation;
    let status = registry.status.as_ref();
    let counts = status
        .and_then(|status| status.namespaces)
        .unwrap_or_default();
    let (ready, reason) = match (ready, ready.filter(is_of_now)) {
        (_, Some(ready)) => (&*ready.status, &*ready.reason),
        (Some(_), None) if !registry.spec.suspend => ("Unknown", reasons::CHANGED),
        (Some(last), None) => (&*last.status, &*last.reason),
        (None, _) => ("Unknown", reasons::NOT_RECONCILED),
    };
    let expiration = status.and_then(|status| status.expiration_time.as_deref());
    RegistryView {
        name: name_of(registry),
        identity: registry.spec.describe_identity(),
        access: match registry.spec.access {
            Access::Pull => "Pull",
            Access::Push => "Push",
        },
        ready: ready.to_owned(),
        reason: if registry.spec.suspend {
            reasons::SUSPENDED.to_owned()
        } else {
            reason.to_owned()
        },
        suspended: registry.spec.suspend,
        namespaces_ready: counts.ready,
        namespaces_total: counts.total,
        expiration_time: expiration.and_then(|text| text.parse().ok()),
    }
}

fn name_of(registry: &Registry) -> String {
    registry.metadata.name.clone().unwrap_or_default()
}

pub(super) fn find_condition<'r>(registry: &'r Registry, kind: &str) -> Option<&'r Condition> {
    let mut conditions = registry.status.iter().flat_map(|status| &status.conditions);
    conditions.find(|one| one.type_ == kind)
}

/// What is wrong with a Registry, if anything; `lacking` is a namespace that lacks a login of it.
pub(super) fn judge_registry(
    registry: &Registry,
    lacking: Option<&NamespaceName>,
    commands: &Commands,
    now: Timestamp,
) -> Option<Finding> {
    let view = view_registry(registry);
    if view.suspended {
        return None;
    }
    let (name, about) = (&view.name, format!("Registry {}", view.name));
    let next = match &*view.reason {
        reasons::INVALID => commands.kubectl(&format!("edit ppr {name}")),
        reasons::NO_MATCHING_NAMESPACES => {
            commands.kubectl(&format!("get namespaces -l {INJECT_LABEL} --show-labels"))
        }
        _ => match lacking {
            Some(namespace) => commands.check(namespace),
            None => commands.pullpass("check"),
        },
    };
    if view.ready != "True" {
        let message = match &*view.reason {
            reasons::NOT_RECONCILED if is_new(registry, now) => "it is new, not looked at yet",
            reasons::NOT_RECONCILED => "pullpass has not said anything of it yet",
            reasons::CHANGED if is_new(registry, now) => "it was just changed, not looked at yet",
            reasons::CHANGED => "it was changed, and pullpass has not said anything of that yet",
            _ => find_condition(registry, "Ready").map_or("", |ready| &ready.message),
        };
        let is_unseen = [reasons::NOT_RECONCILED, reasons::CHANGED].contains(&&*view.reason);
        let finding = Finding::failed(about, view.reason, message, next);
        return Some(if is_unseen && is_new(registry, now) {
            finding.into_info()
        } else {
            finding
        });
    }
    let degraded = find_condition(registry, "Degraded").filter(|one| one.status == "True")?;
    let (reason, message) = (&*degraded.reason, &*degraded.message);
    Some(Finding::failed(about, reason, message, next).into_warning())
}

/// Whether somebody wrote it so short a time ago that a leader may not have looked at it yet; what pullpass writes is its status.
fn is_new(registry: &Registry, now: Timestamp) -> bool {
    let metadata = &registry.metadata;
    let written = metadata.managed_fields.iter().flatten();
    let written = written.filter(|entry| entry.subresource.is_none());
    let written = written.filter_map(|entry| entry.time.as_ref());
    let last = written
        .chain(&metadata.creation_timestamp)
        .map(|time| time.0)
        .max();
    last.is_some_and(|last| now.duration_since(last) < NEW)
}

/// What cannot be read of Registries, and those that serve nothing because of it.
pub(super) fn judge_unreadable<'r>(
    (_, unreadable): &'r ListedRegistries,
    commands: &'r Commands,
) -> impl Iterator<Item = Finding> + 'r {
    unreadable.iter().map(|(name, problem)| {
        let next = commands.kubectl(&format!("edit ppr {name}"));
        let message = format!("it cannot be read, and serves nothing: {problem}");
        Finding::failed(
            format!("Registry {name}"),
            reasons::UNREADABLE,
            message,
            next,
        )
    })
}

/// The Secrets that are there, by namespace and name.
pub(super) type Held<'s> = BTreeMap<(&'s str, &'s str), &'s OwnedSecret>;

pub(super) fn index_secrets(secrets: &[OwnedSecret]) -> Held<'_> {
    let keyed = secrets
        .iter()
        .map(|one| ((one.namespace.as_str(), one.name.as_str()), one));
    keyed.collect()
}

/// What a namespace that has the opt-in label lacks, as far as Registries and Secrets are known.
pub(super) fn judge_namespace(
    namespace: &Namespace,
    registries: Option<&Registries>,
    secrets: Option<&Held<'_>>,
    commands: &Commands,
    now: Timestamp,
) -> Vec<Finding> {
    let about = format!("Namespace {}", namespace.name);
    if !namespace.wants_pull_secrets() {
        return Vec::from_iter(judge_label(namespace, &about, commands));
    }
    let next = || commands.check(&namespace.name);
    let mut findings = Vec::new();
    let mut wanted: BTreeMap<ObjectName, BTreeSet<ObjectName>> = BTreeMap::new();
    if let Some(registries) = registries {
        for grant in registries.grants(&namespace.labels) {
            wanted
                .entry(grant.secret)
                .or_default()
                .insert(grant.registry);
        }
        if registries.serving(&namespace.labels).is_empty() {
            let message = "it opted in, and no Registry serves it: Pods get nothing";
            let finding = Finding::failed(&about, reasons::NAMESPACE_NOT_SELECTED, message, next());
            findings.push(finding.into_warning());
        }
    }
    let Some(secrets) = secrets else {
        return findings;
    };
    for (secret, registries) in wanted {
        if !secrets.contains_key(&(namespace.name.as_str(), secret.as_str())) {
            let registries: Vec<&str> = registries.iter().map(ObjectName::as_str).collect();
            let registries = registries.join(", ");
            let message = format!("Secret {secret} with the login of {registries} is not there");
            let reason = reasons::SECRET_NOT_WRITTEN;
            findings.push(Finding::failed(&about, reason, message, next()));
        }
    }
    let there = secrets.range((namespace.name.as_str(), "")..);
    let own = there.take_while(|((name, _), _)| namespace.name == *name);
    for (_, secret) in own {
        if secret.expires.is_some_and(|end| end <= now) {
            let message = format!("a login in Secret {} has ended", secret.name);
            findings.push(Finding::failed(
                &about,
                reasons::LOGIN_ENDED,
                message,
                next(),
            ));
        }
    }
    findings
}

/// What is wrong with a label by which nothing is to be there.
fn judge_label(namespace: &Namespace, about: &str, commands: &Commands) -> Option<Finding> {
    if namespace.excluded {
        let message = "it opted in, and is excluded: nothing is written there";
        let finding = Finding::failed(about, reasons::NAMESPACE_EXCLUDED, message, None);
        return Some(finding.into_warning());
    }
    let said = namespace.find_unknown_inject()?;
    let message = said.split_once(';').map_or(&*said, |(what, _)| what);
    let label = format!("label namespace {} --overwrite", namespace.name);
    let next = commands.kubectl(&format!("{label} {INJECT_LABEL}=enabled"));
    let reason = reasons::UNKNOWN_INJECT_VALUE;
    Some(Finding::failed(about, reason, message, next))
}

/// What could not be read, with what it is called and how to get the right to it.
pub(super) fn note_unread<T>(
    read: &FetchResult<T>,
    (what, advice): (&'static str, &str),
    unread: &mut Vec<UnreadView>,
) {
    let message = match read {
        Ok(_) => return,
        Err(Unread::Forbidden) => format!("this account may not read this{advice}"),
        Err(Unread::KindMissing) => "the API server does not know this kind".to_owned(),
        Err(Unread::Failed(message)) => message.clone(),
    };
    unread.push(UnreadView { what, message });
}
