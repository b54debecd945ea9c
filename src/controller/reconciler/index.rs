//! What was found of each pull secret when it was reconciled last, and what that adds up to. Pure.
//!
//! A pull secret that is reconciled changes its own part of each sum, so that the cost of a change is that of what changed.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::Timestamp;

use super::record::{Record, Seen};
use crate::names::{NamespaceName, ObjectName};
use crate::provision::changes::PullSecretKey;
use crate::provision::observe::SecretView;
use crate::registry::source::MintSource;

/// The pull secrets into which the same belongs.
#[derive(Default)]
struct Group {
    keys: BTreeSet<PullSecretKey>,
    /// The Registries, each once.
    registries: Vec<ObjectName>,
    /// The shared credentials, by their sources' canonical texts.
    sources: Vec<String>,
    /// The source Secrets.
    secrets: BTreeSet<ObjectName>,
}

/// Who uses the credential of a source.
#[derive(Default)]
struct SourceUse {
    groups: BTreeSet<usize>,
    keys: BTreeSet<PullSecretKey>,
}

/// The sums of one Registry.
#[derive(Default)]
pub(in crate::controller) struct RegistryCounts {
    /// How many pull secrets and exports.
    pub(in crate::controller) total: usize,
    pub(in crate::controller) lacking: BTreeSet<PullSecretKey>,
    pub(in crate::controller) foreign: BTreeSet<PullSecretKey>,
    groups: BTreeSet<usize>,
}

/// All pull secrets that there are, or are to be.
#[derive(Default)]
pub(in crate::controller) struct Index {
    records: BTreeMap<PullSecretKey, Record>,
    groups: HashMap<usize, Group>,
    sources: HashMap<String, SourceUse>,
    registries: BTreeMap<ObjectName, RegistryCounts>,
    /// How many pull secrets are to be in each namespace, and how many of them lack a login.
    namespaces: HashMap<NamespaceName, (usize, usize)>,
    incomplete: usize,
    rate: u64,
    /// How many pull secrets of ours there are.
    there: usize,
    /// Those in which something does not belong, or may not.
    stale: BTreeSet<PullSecretKey>,
    unconfirmed: BTreeSet<PullSecretKey>,
    /// The Registries of which anything changed.
    pub(in crate::controller) changed: BTreeSet<ObjectName>,
}

impl Index {
    /// Notes what was found of a pull secret; `None`: nothing is there, and nothing is to be.
    pub(super) fn put(&mut self, key: &PullSecretKey, seen: Option<Seen>, now: Timestamp) {
        let before = self.records.remove(key);
        let last_written = before.as_ref().and_then(|one| one.last_written.clone());
        let record = seen.map(|seen| Record::new(seen, last_written, now));
        let is_same = match (&before, &record) {
            (Some(before), Some(record)) => record.is_same(before),
            (before, record) => before.is_none() && record.is_none(),
        };
        if let Some(before) = before {
            self.subtract(key, &before, !is_same);
        }
        if let Some(record) = record {
            self.add(key, &record, !is_same);
            self.records.insert(key.clone(), record);
        }
    }

    fn subtract(&mut self, key: &PullSecretKey, record: &Record, is_changed: bool) {
        self.rate -= record.rate;
        self.stale.remove(key);
        self.unconfirmed.remove(key);
        self.there -= usize::from(record.is_there());
        if !is_changed {
            return;
        }
        if record.is_served() {
            self.count_namespace(&key.0, record, |count, one| *count -= one);
        }
        self.change_registries(key, record, false);
        for source in &record.own_sources {
            self.release(source, |one| {
                one.keys.remove(key);
            });
        }
        let Some(at) = record.group() else { return };
        let Some(group) = self.groups.get_mut(&at) else {
            return;
        };
        group.keys.remove(key);
        if group.keys.is_empty()
            && let Some(group) = self.groups.remove(&at)
        {
            for source in &group.sources {
                self.release(source, |one| {
                    one.groups.remove(&at);
                });
            }
            for registry in &group.registries {
                if let Some(counts) = self.registries.get_mut(registry) {
                    counts.groups.remove(&at);
                }
            }
        }
    }

    fn add(&mut self, key: &PullSecretKey, record: &Record, is_changed: bool) {
        self.rate += record.rate;
        self.there += usize::from(record.is_there());
        if let Seen::Ours(view) = &record.seen {
            if view.stale.is_some() || view.is_unconfirmed || view.is_hidden {
                self.stale.insert(key.clone());
            }
            if view.is_unconfirmed {
                self.unconfirmed.insert(key.clone());
            }
        }
        if !is_changed {
            return;
        }
        if record.is_served() {
            self.count_namespace(&key.0, record, |count, one| *count += one);
        }
        if let (Some(at), Seen::Ours(view)) = (record.group(), &record.seen) {
            if !self.groups.contains_key(&at) {
                self.add_group(at, view);
            }
            if let Some(group) = self.groups.get_mut(&at) {
                group.keys.insert(key.clone());
            }
            for source in view.entries(Timestamp::MIN).filter_map(|one| one.source) {
                if source.tenant().is_some() {
                    self.use_of(source).keys.insert(key.clone());
                }
            }
        }
        self.change_registries(key, record, true);
    }

    fn add_group(&mut self, at: usize, view: &SecretView) {
        let mut group = Group::default();
        for entry in view.entries(Timestamp::MIN) {
            group.secrets.extend(entry.secret.cloned());
            if group.registries.last() != Some(entry.registry) {
                group.registries.push(entry.registry.clone());
            }
            if let Some(source) = entry.source.filter(|source| source.tenant().is_none()) {
                group.sources.push(source.canonical());
                self.use_of(source).groups.insert(at);
            }
        }
        for registry in &group.registries {
            let counts = self.registries.entry(registry.clone()).or_default();
            counts.groups.insert(at);
        }
        self.groups.insert(at, group);
    }

    fn use_of(&mut self, source: &MintSource) -> &mut SourceUse {
        self.sources.entry(source.canonical()).or_default()
    }

    fn release(&mut self, source: &str, change: impl FnOnce(&mut SourceUse)) {
        if let Some(one) = self.sources.get_mut(source) {
            change(one);
            if one.groups.is_empty() && one.keys.is_empty() {
                self.sources.remove(source);
            }
        }
    }

    fn count_namespace(
        &mut self,
        namespace: &NamespaceName,
        record: &Record,
        change: impl Fn(&mut usize, usize),
    ) {
        let (served, lacking) = self.namespaces.entry(namespace.clone()).or_default();
        let was_lacking = *lacking > 0;
        change(served, 1);
        change(lacking, usize::from(!record.lacking.is_empty()));
        self.incomplete -= usize::from(was_lacking);
        self.incomplete += usize::from(*lacking > 0);
        if *served == 0 {
            self.namespaces.remove(namespace);
        }
    }

    /// Adds a pull secret to the sums of its Registries, or takes it from them.
    fn change_registries(&mut self, key: &PullSecretKey, record: &Record, is_added: bool) {
        let group = record.group().and_then(|at| self.groups.get(&at));
        let (names, is_foreign) = match (&record.seen, group) {
            (Seen::Foreign(names), _) => (names, true),
            (Seen::Ours(_), Some(group)) => (&group.registries, false),
            (Seen::Ours(_), None) => return,
        };
        for name in names {
            let counts = self.registries.entry(name.clone()).or_default();
            if is_added {
                counts.total += 1;
                if is_foreign {
                    counts.foreign.insert(key.clone());
                }
                if record.lacking.contains(name) {
                    counts.lacking.insert(key.clone());
                }
            } else {
                counts.total -= 1;
                counts.foreign.remove(key);
                counts.lacking.remove(key);
            }
            let is_over = counts.total == 0;
            if is_over {
                self.registries.remove(name);
            }
            self.changed.insert(name.clone());
        }
    }

    pub(in crate::controller) fn get(&self, key: &PullSecretKey) -> Option<&Record> {
        self.records.get(key)
    }

    pub(super) fn get_mut(&mut self, key: &PullSecretKey) -> Option<&mut Record> {
        self.records.get_mut(key)
    }

    /// The pull secrets that are known in a namespace.
    pub(super) fn keys_in(&self, namespace: &NamespaceName) -> Vec<PullSecretKey> {
        let first = (namespace.clone(), ObjectName::constant("0"));
        let from = self.records.range(first..);
        let of_namespace = from.take_while(|(key, _)| key.0 == *namespace);
        of_namespace.map(|(key, _)| key.clone()).collect()
    }

    /// The pull secrets that hold, or are to hold, the credential of this source.
    pub(super) fn keys_of(&self, source: &str) -> BTreeSet<PullSecretKey> {
        let Some(one) = self.sources.get(source) else {
            return BTreeSet::new();
        };
        let groups = one.groups.iter().filter_map(|at| self.groups.get(at));
        let shared = groups.flat_map(|group| &group.keys);
        shared.chain(&one.keys).cloned().collect()
    }

    /// One of them.
    pub(super) fn example_of(&self, source: &str) -> Option<&PullSecretKey> {
        let one = self.sources.get(source)?;
        let groups = one.groups.iter().filter_map(|at| self.groups.get(at));
        // Groups have no order of their own: the first by name is the same one in each process.
        let shared = groups.filter_map(|group| group.keys.first()).min();
        shared.or_else(|| one.keys.first())
    }

    /// The Registries of which any credential in the same pull secrets is of this source.
    pub(super) fn registries_of(&self, source: &str) -> BTreeSet<ObjectName> {
        let Some(one) = self.sources.get(source) else {
            return BTreeSet::new();
        };
        let own = one
            .keys
            .iter()
            .filter_map(|key| self.records.get(key)?.group());
        let groups = one
            .groups
            .iter()
            .copied()
            .chain(own)
            .collect::<BTreeSet<_>>();
        let groups = groups.iter().filter_map(|at| self.groups.get(at));
        groups
            .flat_map(|group| &group.registries)
            .cloned()
            .collect()
    }

    /// The pull secrets whose logins are read from this source Secret, or minted with it.
    pub(super) fn keys_with(&self, secret: &ObjectName) -> BTreeSet<PullSecretKey> {
        let groups = self.groups.values();
        let groups = groups.filter(|group| group.secrets.contains(secret));
        groups.flat_map(|group| &group.keys).cloned().collect()
    }

    /// The pull secrets in which something does not belong, or may not.
    pub(super) fn stale(&self) -> &BTreeSet<PullSecretKey> {
        &self.stale
    }

    /// Whether something stays until it was asked whether an admin ordered that it goes.
    pub(super) fn is_unconfirmed(&self) -> bool {
        !self.unconfirmed.is_empty()
    }

    /// Whether a source's credential is used.
    pub(super) fn uses(&self, source: &MintSource) -> bool {
        self.sources.contains_key(&source.canonical())
    }

    /// How many pull secrets of ours there are.
    pub(super) fn there(&self) -> usize {
        self.there
    }

    /// How many namespaces are served, and how many of them lack a login.
    pub(in crate::controller) fn namespaces(&self) -> (usize, usize) {
        (self.namespaces.len(), self.incomplete)
    }

    /// How many writes per second it takes in the long run to renew everything.
    #[expect(clippy::cast_precision_loss, reason = "a rate is about")]
    pub(in crate::controller) fn needed_rate(&self) -> f64 {
        self.rate as f64 / 1e9
    }

    /// The sums of a Registry; `None`: it serves no opted-in namespace.
    pub(in crate::controller) fn registry(&self, name: &str) -> Option<&RegistryCounts> {
        self.registries.get(name)
    }

    /// A pull secret of each set of those that hold a Registry's shared credentials alike, and each one that holds its own.
    pub(in crate::controller) fn examples<'i>(
        &'i self,
        counts: &'i RegistryCounts,
    ) -> impl Iterator<Item = &'i SecretView> {
        let groups = counts.groups.iter().filter_map(|at| self.groups.get(at));
        groups.flat_map(|group| {
            let has_own = |key: &&PullSecretKey| {
                let record = self.records.get(*key);
                record.is_some_and(|record| !record.own_sources.is_empty())
            };
            let first = group.keys.first();
            let others = group.keys.iter().skip(1).take_while(has_own);
            let all = first.into_iter().chain(others);
            all.filter_map(|key| self.records.get(key)?.view())
        })
    }

    /// The pull secrets that hold, or are to hold, a Registry's login.
    pub(in crate::controller) fn keys_of_registry<'i>(
        &'i self,
        counts: &'i RegistryCounts,
    ) -> impl Iterator<Item = &'i PullSecretKey> {
        let groups = counts.groups.iter().filter_map(|at| self.groups.get(at));
        groups.flat_map(|group| &group.keys)
    }

    /// When the first of all minted credentials that are in use ends.
    pub(in crate::controller) fn first_end(&self) -> Option<Timestamp> {
        let all = self.registries.values();
        let views = all.flat_map(|counts| self.examples(counts));
        let ends = views.flat_map(|view| view.entries(Timestamp::MIN));
        ends.filter_map(|entry| Some(entry.life?.1)).min()
    }

    pub(in crate::controller) fn records(&self) -> impl Iterator<Item = (&PullSecretKey, &Record)> {
        self.records.iter()
    }
}

#[cfg(test)]
mod tests;
