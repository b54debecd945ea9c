//! Which keys a namespace's secret holds, and the credential under each.
//!
//! The kubelet offers the credential of the first key, in its own order, that matches an image; a dockerconfigjson has no negative
//! entry. So the keys are the patterns of the Registries that serve the namespace, what they exclude, and all that these have in
//! common with each other; each key gets the credential of the Registry that serves what it covers. All patterns that cover an
//! image then cover its first key too, so that the first key's Registry is the image's.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::pattern::Pattern;
use super::served::{Image, ServedRegistry};
use super::source::CredentialSource;

/// A credential that a namespace's pull secret holds, and the `auths` keys that it stands under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The Registry it belongs to.
    pub registry: Arc<str>,
    /// Where it comes from.
    pub source: CredentialSource,
    /// The keys, in the kubelet's order.
    pub keys: Vec<String>,
    /// What lies within the keys and is not for this credential: excluded paths, and keys of other grants. A source Secret of fixed
    /// logins may hold narrower entries than the keys; those that lie in here are left out. Empty for minted credentials.
    pub reserved: Vec<String>,
}

/// A pattern of a Registry that serves the namespace.
#[derive(Clone, Copy)]
struct Rule<'r> {
    /// The Registry's place, by rank.
    registry: usize,
    image: &'r Image,
}

impl Rule<'_> {
    /// The credential: those of equal places are one.
    fn credential(self) -> (usize, usize) {
        (self.registry, self.image.source)
    }
}

/// All rules, by the hosts that they can cover.
struct Rules<'r> {
    literal: HashMap<&'r str, Vec<Rule<'r>>>,
    wildcards: Vec<Rule<'r>>,
}

/// The keys with their rules, by host.
type Keys<'k, 'r> = HashMap<&'k str, Vec<&'k (Pattern, Rule<'r>)>>;

/// Plans the grants of a namespace from the Registries that serve it, given by rank.
pub(super) fn plan(serving: &[&ServedRegistry]) -> Vec<Grant> {
    let rules = Rules::new(serving);
    let keys = rules.without_repeats(rules.owned_keys());
    let mut grants: BTreeMap<(usize, usize), Vec<&Pattern>> = BTreeMap::new();
    let mut by_host = Keys::new();
    for entry in &keys {
        let (key, rule) = entry;
        grants.entry(rule.credential()).or_default().push(key);
        by_host.entry(key.domain()).or_default().push(entry);
    }
    let grant = |(credential, own): ((usize, usize), Vec<&Pattern>)| {
        let registry = serving[credential.0];
        let source = registry.sources[credential.1].0.clone();
        let reserved = match source {
            CredentialSource::Static(_) => find_reserved(registry, credential, &own, &by_host),
            CredentialSource::Minted(_) => Vec::new(),
        };
        Grant {
            registry: Arc::clone(&registry.name),
            source,
            keys: own.iter().map(|key| key.key().to_owned()).collect(),
            reserved,
        }
    };
    grants.into_iter().map(grant).collect()
}

/// What lies within the keys of a Registry's credential and is not for it.
fn find_reserved(
    registry: &ServedRegistry,
    credential: (usize, usize),
    own: &[&Pattern],
    by_host: &Keys<'_, '_>,
) -> Vec<String> {
    let images = registry
        .images
        .iter()
        .filter(|image| image.source == credential.1);
    let mut reserved: BTreeSet<&str> = images
        .flat_map(|image| &image.cuts)
        .map(Pattern::key)
        .collect();
    for key in own {
        // A key with a literal host covers keys of that host alone.
        let hosts: Box<dyn Iterator<Item = _>> = if key.has_wildcard() {
            Box::new(by_host.values())
        } else {
            Box::new(by_host.get(key.domain()).into_iter())
        };
        let others = hosts
            .flatten()
            .filter(|(other, rule)| rule.credential() != credential && key.covers_pattern(other));
        reserved.extend(others.map(|(other, _)| other.key()));
    }
    reserved.into_iter().map(str::to_owned).collect()
}

impl<'r> Rules<'r> {
    fn new(serving: &[&'r ServedRegistry]) -> Self {
        let mut rules = Self {
            literal: HashMap::new(),
            wildcards: Vec::new(),
        };
        for (registry, served) in serving.iter().enumerate() {
            for image in &served.images {
                let rule = Rule { registry, image };
                if image.pattern.has_wildcard() {
                    rules.wildcards.push(rule);
                } else {
                    rules
                        .literal
                        .entry(image.pattern.domain())
                        .or_default()
                        .push(rule);
                }
            }
        }
        rules
    }

    fn iter(&self) -> impl Iterator<Item = &Rule<'r>> {
        self.literal.values().flatten().chain(&self.wildcards)
    }

    /// The rules that can cover a key.
    fn near(&self, key: &Pattern) -> impl Iterator<Item = &Rule<'r>> {
        self.literal
            .get(key.domain())
            .into_iter()
            .flatten()
            .chain(&self.wildcards)
    }

    /// All keys that some Registry serves, each with the rule that does.
    fn owned_keys(&self) -> BTreeMap<Pattern, Rule<'r>> {
        let written = self
            .iter()
            .flat_map(|rule| std::iter::once(&rule.image.pattern).chain(&rule.image.cuts));
        let mut keys: BTreeSet<Pattern> = written.cloned().collect();
        close(&mut keys);
        keys.into_iter()
            .filter_map(|key| self.owner(&key).map(|rule| (key, rule)))
            .collect()
    }

    /// The rule that serves what a key covers.
    fn owner(&self, key: &Pattern) -> Option<Rule<'r>> {
        let serves = |rule: &&Rule<'r>| {
            let image = rule.image;
            image.pattern.covers_pattern(key)
                && !image.cuts.iter().any(|cut| cut.covers_pattern(key))
        };
        let order = |one: &&Rule<'r>, other: &&Rule<'r>| {
            one.image
                .pattern
                .cmp(&other.image.pattern)
                .then(one.registry.cmp(&other.registry))
        };
        self.near(key).filter(serves).min_by(order).copied()
    }

    /// Leaves out keys that are neither a pattern nor excluded somewhere and change nothing: the next key that covers them has
    /// the same credential.
    fn without_repeats(&self, keys: BTreeMap<Pattern, Rule<'r>>) -> Vec<(Pattern, Rule<'r>)> {
        let mut kept: Vec<(Pattern, Rule<'r>)> = Vec::with_capacity(keys.len());
        for (key, rule) in keys.into_iter().rev() {
            let repeats = || {
                let next = kept
                    .iter()
                    .rev()
                    .find(|(next, _)| next.covers_pattern(&key));
                next.is_some_and(|(_, next)| next.credential() == rule.credential())
            };
            if self.is_written(&key) || !repeats() {
                kept.push((key, rule));
            }
        }
        kept.reverse();
        kept
    }

    /// Whether a key is a pattern, or lies within what a pattern has taken away.
    fn is_written(&self, key: &Pattern) -> bool {
        self.near(key).any(|rule| {
            rule.image.pattern == *key || rule.image.cuts.iter().any(|cut| cut.covers_pattern(key))
        })
    }
}

/// Adds what keys have in common until nothing is missing. Keys with literal hosts have nothing in common that is not a key.
fn close(keys: &mut BTreeSet<Pattern>) {
    let mut fresh: Vec<Pattern> = keys
        .iter()
        .filter(|key| key.has_wildcard())
        .cloned()
        .collect();
    while let Some(key) = fresh.pop() {
        let common: Vec<Pattern> = keys
            .iter()
            .filter_map(|other| key.intersect(other))
            .collect();
        fresh.extend(
            common
                .into_iter()
                .filter(|common| keys.insert(common.clone())),
        );
    }
}
