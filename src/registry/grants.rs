//! Which keys a namespace's secret holds, and the credential under each.
//!
//! The kubelet offers the credential of the first key, in its own order, that matches an image; a dockerconfigjson has no negative
//! entry. So the keys are the patterns of the Registries that serve the namespace, what they exclude, and all that these have in
//! common with each other; each key gets the credential of the Registry that serves what it covers. All patterns that cover an
//! image then cover its first key too, so that the first key's Registry is the image's.

use std::collections::{BTreeMap, BTreeSet};
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
}

/// The places of a Registry and of a pattern within it.
type Owner = (usize, usize);

/// Plans the grants of a namespace from the Registries that serve it, given by rank.
pub(super) fn plan(serving: &[&ServedRegistry]) -> Vec<Grant> {
    let rules: Vec<(Owner, &Image)> = serving
        .iter()
        .enumerate()
        .flat_map(|(place, registry)| {
            registry
                .images
                .iter()
                .enumerate()
                .map(move |(image, rule)| ((place, image), rule))
        })
        .collect();
    let mut keys: BTreeSet<Pattern> = rules
        .iter()
        .map(|(_, image)| image.pattern.clone())
        .collect();
    keys.extend(
        rules
            .iter()
            .flat_map(|(_, image)| image.cuts.iter().cloned()),
    );
    close(&mut keys);
    let owned: BTreeMap<Pattern, Owner> = keys
        .into_iter()
        .filter_map(|key| owner(&rules, &key).map(|owner| (key, owner)))
        .collect();
    let mut grants: BTreeMap<(usize, usize), Vec<String>> = BTreeMap::new();
    for (key, (place, image)) in without_repeats(&rules, owned) {
        let source = serving[place].images[image].source;
        grants
            .entry((place, source))
            .or_default()
            .push(key.key().to_owned());
    }
    let grant = |((place, source), keys): ((usize, usize), Vec<String>)| Grant {
        registry: Arc::clone(&serving[place].name),
        source: serving[place].sources[source].0.clone(),
        keys,
    };
    grants.into_iter().map(grant).collect()
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

/// The pattern that serves what a key covers.
fn owner(rules: &[(Owner, &Image)], key: &Pattern) -> Option<Owner> {
    let serves = |image: &Image| {
        image.pattern.covers_pattern(key) && !image.cuts.iter().any(|cut| cut.covers_pattern(key))
    };
    let best = rules.iter().filter(|(_, image)| serves(image)).min_by(
        |(place, image), (other_place, other)| {
            image
                .pattern
                .cmp(&other.pattern)
                .then(place.cmp(other_place))
        },
    );
    best.map(|(owner, _)| *owner)
}

/// Leaves out keys that are neither a pattern nor excluded somewhere and change nothing: the next key that covers them has the
/// same credential.
fn without_repeats(
    rules: &[(Owner, &Image)],
    keys: BTreeMap<Pattern, Owner>,
) -> Vec<(Pattern, Owner)> {
    let is_needed = |key: &Pattern| {
        rules.iter().any(|(_, image)| {
            image.pattern == *key || image.cuts.iter().any(|cut| cut.covers_pattern(key))
        })
    };
    let mut kept: Vec<(Pattern, Owner)> = Vec::with_capacity(keys.len());
    for (key, owner) in keys.into_iter().rev() {
        let next = kept
            .iter()
            .rev()
            .find(|(next, _)| next.covers_pattern(&key));
        let repeats = next.is_some_and(|(_, (place, image))| {
            let source = |(place, image): Owner| {
                rules
                    .iter()
                    .find(|(other, _)| *other == (place, image))
                    .map(|(_, rule)| rule.source)
            };
            *place == owner.0 && source((*place, *image)) == source(owner)
        });
        if is_needed(&key) || !repeats {
            kept.push((key, owner));
        }
    }
    kept.reverse();
    kept
}
