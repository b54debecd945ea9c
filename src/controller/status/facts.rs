//! What is known of each Registry, for its status.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use jiff::Timestamp;

use super::write_failures::{self, WriteFailure};
use super::{StatusInput, asked, secret, shared_host};
use crate::cluster::{EventNote, EventType};
use crate::controller::conditions::{LoginState, Reason, RegistryFacts, find_reach};
use crate::controller::login_checks::LoginVersion;
use crate::controller::reconciler::index::RegistryCounts;
use crate::names::{NamespaceName, ObjectName};
use crate::provision::changes::PullSecretKey;
use crate::provision::summary::RegistrySummary;
use crate::provision::{Namespace, Pending};
use crate::registry::{Labels, Registries, RegistryInfo, ValidRegistry};

/// How many namespaces a message names, and for how many there are Events.
const MAX_NAMED: usize = 3;
const MAX_EVENTS: usize = 100;

/// In how many pull secrets it is looked for why a login is missing.
const MAX_LACKS: usize = 100;

/// How many principals a status names: Registries of namespaces' own ServiceAccounts have one in each.
const MAX_PRINCIPALS: usize = 3;

/// What all statuses of one round are worked out of.
pub(super) struct Facts<'t> {
    pub(super) input: &'t StatusInput<'t>,
    pub(super) registries: &'t Registries,
    pub(super) now: Timestamp,
    pub(super) unwritten: write_failures::Unwritten,
    drifting: BTreeMap<ObjectName, Drifting>,
    problems: HashMap<&'t str, String>,
    opted_in: OnceCell<Vec<Arc<Namespace>>>,
    tied: OnceCell<HashMap<ObjectName, String>>,
}

impl<'t> Facts<'t> {
    pub(super) fn new(
        input: &'t StatusInput<'t>,
        registries: &'t Registries,
        now: Timestamp,
    ) -> Self {
        let mut problems: HashMap<&str, String> = HashMap::new();
        for problem in registries.problems() {
            let text = format!("{} {}", problem.field, problem.message);
            let of_registry = problems.entry(&problem.registry);
            of_registry
                .and_modify(|all| *all = format!("{all}; {text}"))
                .or_insert(text);
        }
        Self {
            unwritten: write_failures::find(input.index, &input.unwritten, now),
            drifting: find_drifting(input, registries),
            input,
            registries,
            now,
            problems,
            opted_in: OnceCell::new(),
            tied: OnceCell::new(),
        }
    }

    /// What is known of a Registry.
    pub(super) fn of(&self, listed: &RegistryInfo) -> RegistryFacts {
        let counts = self.input.index.registry(&listed.name);
        let registry = self.registries.get(&listed.name);
        let reach = registry
            .filter(|_| counts.is_none())
            .map(|registry| find_reach(registry, self.opted_in()));
        let describe = WriteFailure::describe;
        let mut facts = RegistryFacts {
            problem: self.problems.get(listed.name.as_str()).cloned(),
            suspended: registry.is_some_and(|registry| registry.suspend),
            summary: counts.map(|counts| self.summarise(&listed.name, counts)),
            reach: reach.unwrap_or_default(),
            unwritten: self.unwritten.missing.get(&listed.name).map(describe),
            unrenewed: self.unwritten.renewed.get(&listed.name).map(describe),
            login: self.login(listed),
            asked: registry.and_then(|registry| asked::find(self.input, listed, registry)),
            failure: registry
                .and_then(|registry| asked::find_failure(self.input, listed, registry)),
            notes: self.notes(listed),
            ..RegistryFacts::default()
        };
        if let Some(counts) = counts {
            self.add_credentials(&mut facts, &listed.name, counts);
            let find = |is_mounted| {
                let of_registry = (registry?, counts);
                shared_host::find(self.input.index, self.registries, of_registry, is_mounted)
            };
            facts.shared_host = find(false);
            // What builders and other consumers mount is to be read the same by all of them.
            let note = |message| Reason::new("SeveralLogins", message);
            facts.notes.extend(find(true).map(note));
        }
        facts
    }

    fn login(&self, listed: &RegistryInfo) -> LoginState {
        let registry = self.registries.get(&listed.name);
        let is_fixed = registry.is_some_and(ValidRegistry::has_static_login);
        let Some(logins) = self.input.logins.filter(|_| is_fixed) else {
            return LoginState::NotFixed;
        };
        let provisioner = self.input.provisioner;
        let Some(source) = provisioner.find_static_source(&listed.name) else {
            return LoginState::SourceMissing;
        };
        if registry.is_some_and(|registry| registry.suspend) {
            return LoginState::Rests;
        }
        // What was found of another login says nothing of this one.
        let version = LoginVersion::of(listed, &source.secret.resource_version);
        let checked = logins.get(&listed.name);
        match checked.filter(|checked| checked.version == version) {
            Some(checked) => LoginState::Checked(checked),
            None => LoginState::Untried(version),
        }
    }

    fn notes(&self, listed: &RegistryInfo) -> Vec<Reason> {
        let mut notes = self.input.notes.clone();
        notes.extend(self.tied().get(&listed.name).map(|other| {
            let message = format!(
                "ambiguous precedence with Registry {other}: same pattern, equally specific, equally old, so only the name decides; make one more specific"
            );
            Reason::new("AmbiguousPrecedence", message)
        }));
        notes.extend(self.drifting.get(&listed.name).map(|Drifting { secret, namespaces }| {
            let message = format!("another writer keeps changing the pull secret in {}, backing off; find it with `kubectl get secret {secret} --show-managed-fields -o yaml`, or opt the namespace out", namespaces.join(", "));
            Reason::new("ConflictingWriter", message)
        }));
        notes
    }

    fn summarise(&self, name: &ObjectName, counts: &RegistryCounts) -> RegistrySummary {
        // Where one of its Secrets is not as it is to be, the namespace counts once.
        let foreign = namespaces_of(&counts.foreign);
        let total = self.count_namespaces(name, counts);
        let bad = counts.lacking.iter().chain(&counts.foreign);
        RegistrySummary {
            total,
            ready: total - namespaces_of(bad).len(),
            kept: self.count_kept(name, counts),
            foreign: foreign.len(),
            foreign_in: foreign
                .iter()
                .take(MAX_EVENTS)
                .filter_map(|namespace| {
                    let mut keys = counts.foreign.iter();
                    keys.find(|(one, _)| one == *namespace)
                })
                .map(|(namespace, secret)| format!("{namespace}/{secret}"))
                .collect(),
            lack: self.find_lack(name, counts),
            lacking_in: counts
                .lacking
                .first()
                .map(|(namespace, _)| namespace.to_string()),
        }
    }

    /// In how many namespaces it has Secrets: one in each, but for exports.
    fn count_namespaces(&self, name: &ObjectName, counts: &RegistryCounts) -> usize {
        let registry = self.registries.get(name);
        if registry.is_some_and(|registry| registry.exports.is_empty()) {
            return counts.total;
        }
        let there = self.input.index.keys_of_registry(counts);
        namespaces_of(there.chain(&counts.foreign)).len()
    }

    /// How many of those that lack a fixed login keep the last one: its source Secret is missing, or of no use.
    fn count_kept(&self, name: &ObjectName, counts: &RegistryCounts) -> usize {
        let registry = self.registries.get(name);
        if !registry.is_some_and(ValidRegistry::has_static_login) {
            return 0;
        }
        let views = counts.lacking.iter();
        let views = views.filter_map(|key| self.input.index.get(key)?.view());
        let keeping = views.filter(|view| view.holds_any_of(name));
        let namespaces = keeping.map(|view| &view.target.namespace.name);
        namespaces.collect::<BTreeSet<_>>().len()
    }

    fn find_lack(&self, name: &ObjectName, counts: &RegistryCounts) -> Option<Pending> {
        let lacking = counts.lacking.iter().take(MAX_LACKS);
        let mut views = lacking.filter_map(|key| self.input.index.get(key)?.view());
        let provisioner = self.input.provisioner;
        views.find_map(|view| provisioner.find_lack(view, name, self.now))
    }

    fn add_credentials(
        &self,
        facts: &mut RegistryFacts,
        name: &ObjectName,
        counts: &RegistryCounts,
    ) {
        let mut principals: BTreeSet<&str> = BTreeSet::new();
        for view in self.input.index.examples(counts) {
            for entry in view.entries(self.now).filter(|one| one.registry == name) {
                let end = entry.life.map(|(_, end)| end);
                facts.expiration_time = facts.expiration_time.into_iter().chain(end).min();
                principals.extend(entry.principal);
                if principals.len() > MAX_PRINCIPALS {
                    principals.pop_last();
                }
                if facts.failure.is_none() {
                    facts.failure = entry.source.and_then(self.input.failure);
                }
            }
        }
        facts.principals = principals.into_iter().map(str::to_owned).collect();
    }

    fn opted_in(&self) -> &[Arc<Namespace>] {
        self.opted_in.get_or_init(|| {
            let mut all = self.input.provisioner.namespaces();
            all.retain(|namespace| namespace.wants_pull_secrets());
            all
        })
    }

    /// Which other Registry each one ties with, in some namespace.
    fn tied(&self) -> &HashMap<ObjectName, String> {
        self.tied.get_or_init(|| {
            let mut tied = HashMap::new();
            // Namespaces that cannot tie are not checked one by one.
            if !self.registries.may_tie() {
                return tied;
            }
            let labels: BTreeSet<&Labels> = self.opted_in().iter().map(|one| &one.labels).collect();
            for (one, other) in labels.into_iter().flat_map(|one| self.registries.ties(one)) {
                tied.insert(one.name.clone(), other.name.to_string());
                tied.insert(other.name.clone(), one.name.to_string());
            }
            tied
        })
    }

    /// Events in namespaces in which a Secret that is not ours has the name: people there may not be allowed to read Registries.
    pub(super) fn find_foreign(&self, listed: &RegistryInfo) -> Vec<EventNote> {
        let counts = self.input.index.registry(&listed.name);
        let Some((counts, registry)) = counts.zip(self.registries.get(&listed.name)) else {
            return Vec::new();
        };
        let named = counts.foreign.iter().take(MAX_EVENTS);
        named
            .map(|(namespace, name)| EventNote {
                regarding: secret(namespace, name),
                event_type: EventType::Warning,
                reason: "SecretNotManaged".into(),
                series: None,
                action: "Provision",
                note: format!(
                    "pullpass does not manage this Secret, so {} here get no login of Registry {}: rename or delete it",
                    registry.users(name),
                    listed.name
                ),
            })
            .collect()
    }
}

/// The namespaces of these, each once.
fn namespaces_of<'k>(
    keys: impl IntoIterator<Item = &'k PullSecretKey>,
) -> BTreeSet<&'k NamespaceName> {
    keys.into_iter().map(|(namespace, _)| namespace).collect()
}

/// A Secret that another writer keeps changing.
struct Drifting {
    /// The first one's name.
    secret: ObjectName,
    /// The first few namespaces.
    namespaces: Vec<String>,
}

/// In which namespaces another writer keeps changing a Secret that holds each Registry's logins.
fn find_drifting(
    input: &StatusInput<'_>,
    registries: &Registries,
) -> BTreeMap<ObjectName, Drifting> {
    let mut found: BTreeMap<ObjectName, Drifting> = BTreeMap::new();
    for key in &input.drifting {
        let Some(view) = input.index.get(key).and_then(|record| record.view()) else {
            continue;
        };
        let serving = registries
            .serving(&view.target.namespace.labels)
            .into_iter();
        for registry in serving.filter(|registry| registry.has_secret(&key.1)) {
            let drifting = found.entry(registry.name.clone());
            let Drifting { namespaces, .. } = drifting.or_insert_with(|| Drifting {
                secret: key.1.clone(),
                namespaces: Vec::new(),
            });
            let namespace = key.0.to_string();
            if namespaces.len() < MAX_NAMED && !namespaces.contains(&namespace) {
                namespaces.push(namespace);
            }
        }
    }
    found
}
