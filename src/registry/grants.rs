//! Which keys a namespace's secrets hold, and the credential under each.
//!
//! The kubelet offers the credential of the first key, in its own order, that matches an image, over all secrets of a Pod; of equal
//! keys those of the secret that comes first. A dockerconfigjson has no negative entry. So the keys of a secret are the patterns of
//! its Registries and, of what any Registry excludes, all that has something in common with them, so that for an image in there
//! every Registry that serves it has the very same key. All patterns that cover an image then cover its first key, too, and the
//! order of the secrets decides between the Registries ([`super::arrange`]). Of a Registry that pushes there are the hosts' own keys
//! besides ([`super::host_keys`]), and so there are in exports.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::Resolved;
use super::crd::{Access, ExportFormat};
use super::host_keys::{self, HostKey};
use super::pattern::Pattern;
use super::secret_format::SecretFormat;
use super::secret_name::PULL_SECRET;
use super::source::CredentialSource;
use super::valid::{ImagePattern, ValidExport, ValidRegistry};
use crate::image::Reference;
use crate::names::ObjectName;

/// A credential that a pull secret of a namespace holds, and its `auths` keys.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Grant {
    /// The Registry it belongs to.
    pub registry: ObjectName,
    /// The name of the pull secret.
    pub secret: ObjectName,
    /// In which form the secret holds it.
    pub format: SecretFormat,
    /// What it is for.
    pub access: Access,
    /// Where it comes from.
    pub source: CredentialSource,
    /// The keys, in the kubelet's order; those by which the login is looked for that is all that an export holds.
    pub keys: Vec<String>,
    /// What lies within the keys and is not for this credential: excluded paths, and keys of other grants. A source Secret of fixed
    /// logins may hold narrower entries than the keys; those that lie in here are left out. Empty for minted credentials.
    pub reserved: Vec<String>,
    /// The hosts' own keys, where it pushes, or is exported; of an export that holds one login the only key.
    pub host_keys: Vec<HostKey>,
}

impl Grant {
    /// All keys that it may have a login under.
    pub fn all_keys(&self) -> impl Iterator<Item = &String> {
        let of_hosts = self.host_keys.iter().map(|host| &host.key);
        let of_images: &[String] = if self.format.holds_one_login() {
            &[]
        } else {
            &self.keys
        };
        of_images.iter().chain(of_hosts)
    }

    /// Whether what reads it may have it as a file, which changes later than the Secret: one that pushes, or an export.
    pub fn is_mounted(&self) -> bool {
        !self.access.is_pull() || self.format.is_export()
    }

    /// Whether this is one of them.
    pub fn has_key(&self, key: &str) -> bool {
        self.all_keys().any(|one| one == key)
    }
}

impl ValidRegistry {
    /// One of its credentials under these keys, as a pull secret holds it that nothing else is in, whether it has one or not.
    pub fn grant<'k>(
        &self,
        source: CredentialSource,
        keys: impl IntoIterator<Item = &'k str>,
    ) -> Grant {
        let secret = self.secret.clone();
        Grant {
            registry: self.name.clone(),
            secret: secret.unwrap_or_else(|| ObjectName::constant(PULL_SECRET)),
            format: SecretFormat::PullSecret,
            access: self.access,
            source,
            keys: keys.into_iter().map(str::to_owned).collect(),
            reserved: Vec::new(),
            host_keys: Vec::new(),
        }
    }
}

impl Resolved<'_> {
    /// The credential for this image alone, for who asks for one image: its key is that of the image's own `host/path`.
    pub fn grant_of(&self, image: &Reference<'_>) -> Grant {
        let (domain, path) = image.repository();
        let source = self.registry.sources[self.grant].0.clone();
        let image = format!("{domain}/{path}");
        // As in a pull secret: the kubelet strips a first segment `v1` or `v2`.
        let key = Pattern::parse(&image).map_or(image, |pattern| pattern.key().to_owned());
        self.registry.grant(source, [key.as_str()])
    }
}

/// A pattern of a Registry that serves the namespace.
#[derive(Clone, Copy)]
struct PatternRule<'r> {
    /// The Registry's place, by rank.
    registry: usize,
    /// Whether the Registry's secret is its own.
    narrow: bool,
    image: &'r ImagePattern,
}

impl PatternRule<'_> {
    /// The credential: those of equal places are one.
    fn credential(self) -> (usize, usize) {
        (self.registry, self.image.source)
    }

    /// The order of precedence.
    fn compare(&self, other: &Self) -> Ordering {
        let by_pattern = self.image.pattern.cmp(&other.image.pattern);
        by_pattern.then(self.registry.cmp(&other.registry))
    }
}

/// All rules, by the hosts that they can cover.
struct PatternRules<'r> {
    literal: HashMap<&'r str, Vec<PatternRule<'r>>>,
    wildcards: Vec<PatternRule<'r>>,
}

/// A key of a secret, with the rule whose credential it holds.
type KeyedRule<'r> = (Pattern, PatternRule<'r>);

/// The keys of all secrets, by host.
type KeysByHost<'k, 'r> = HashMap<&'k str, Vec<&'k KeyedRule<'r>>>;

/// Plans the grants of a namespace from the Registries that fill its Secrets, given by rank. Each that pushes is by itself, and so is each
/// export: nothing is resolved among its Secret and those of others.
pub(super) fn plan(serving: &[&ValidRegistry]) -> Vec<Grant> {
    let (pulling, pushing): (Vec<_>, Vec<_>) = serving.iter().partition(|one| one.access.is_pull());
    let mut grants = plan_together(&pulling);
    grants.extend(pushing.into_iter().flat_map(plan_alone));
    for registry in serving.iter().filter(|one| !one.exports.is_empty()) {
        let alone = plan_alone(registry);
        for ValidExport { secret, format } in &registry.exports {
            let exported = |grant: &Grant| export(registry, grant.clone(), secret, *format);
            grants.extend(alone.iter().map(exported));
        }
    }
    grants
}

/// Plans the grants of a Registry in a Secret that nothing else is in, with the hosts' own keys.
fn plan_alone(registry: &ValidRegistry) -> Vec<Grant> {
    let own = plan_together(&[registry]).into_iter();
    own.map(|grant| Grant {
        host_keys: host_keys::find(registry, &grant.source),
        ..grant
    })
    .collect()
}

/// The same grant in an export.
fn export(
    registry: &ValidRegistry,
    grant: Grant,
    secret: &ObjectName,
    format: ExportFormat,
) -> Grant {
    let host_keys = if format.holds_one_login() {
        Vec::from_iter(host_keys::find_only(registry, format))
    } else {
        grant.host_keys
    };
    Grant {
        secret: secret.clone(),
        format: SecretFormat::Export(format),
        host_keys,
        ..grant
    }
}

/// Plans the grants of Registries of which the same Pods may need several.
fn plan_together(serving: &[&ValidRegistry]) -> Vec<Grant> {
    let rules = PatternRules::new(serving);
    let keys = rules.held();
    let mut grants: BTreeMap<(usize, usize), Vec<&KeyedRule<'_>>> = BTreeMap::new();
    let mut by_host = KeysByHost::new();
    for entry in &keys {
        let (key, rule) = entry;
        grants.entry(rule.credential()).or_default().push(entry);
        by_host.entry(key.domain()).or_default().push(entry);
    }
    let grant = |(credential, own): ((usize, usize), Vec<&KeyedRule<'_>>)| {
        let registry = serving[credential.0];
        let source = registry.sources[credential.1].0.clone();
        let reserved = match source {
            CredentialSource::Static(_) => find_reserved(registry, credential, &own, &by_host),
            CredentialSource::Minted(_) => Vec::new(),
        };
        Grant {
            registry: registry.name.clone(),
            reserved,
            ..registry.grant(source, own.iter().map(|(key, _)| key.key()))
        }
    };
    grants.into_iter().map(grant).collect()
}

/// What lies within the keys of a Registry's credential and is not for it. A key that it shares with a Registry that comes first is
/// itself reserved: nothing narrower may rise over that one's.
fn find_reserved(
    registry: &ValidRegistry,
    credential: (usize, usize),
    own: &[&KeyedRule<'_>],
    by_host: &KeysByHost<'_, '_>,
) -> Vec<String> {
    let images = registry
        .images
        .iter()
        .filter(|image| image.source == credential.1);
    let mut reserved: BTreeSet<&str> = images
        .flat_map(|image| &image.exclusions)
        .map(Pattern::key)
        .collect();
    for (key, own) in own {
        // A key with a literal host covers keys of that host alone.
        let hosts: Box<dyn Iterator<Item = _>> = if key.has_wildcard() {
            Box::new(by_host.values())
        } else {
            Box::new(by_host.get(key.domain()).into_iter())
        };
        let others = hosts.flatten().filter(|(other, rule)| {
            rule.credential() != credential
                && key.covers_pattern(other)
                && (key != other || rule.compare(own).is_lt())
        });
        reserved.extend(others.map(|(other, _)| other.key()));
    }
    reserved.into_iter().map(str::to_owned).collect()
}

impl<'r> PatternRules<'r> {
    fn new(serving: &[&'r ValidRegistry]) -> Self {
        let mut rules = Self {
            literal: HashMap::new(),
            wildcards: Vec::new(),
        };
        for (registry, served) in serving.iter().enumerate() {
            for image in &served.images {
                let rule = PatternRule {
                    registry,
                    narrow: served.has_own_secret(),
                    image,
                };
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

    fn iter(&self) -> impl Iterator<Item = &PatternRule<'r>> {
        self.literal.values().flatten().chain(&self.wildcards)
    }

    /// The rules that can cover a key.
    fn near(&self, key: &Pattern) -> impl Iterator<Item = &PatternRule<'r>> {
        self.literal
            .get(key.domain())
            .into_iter()
            .flatten()
            .chain(&self.wildcards)
    }

    /// The keys of all secrets, in the kubelet's order, each with the rule of that secret.
    ///
    /// A secret holds the patterns of its own Registries, and of what is excluded anywhere all that they serve. In a Registry's own
    /// secret nothing is held where a Registry of the common one comes first, which serves the namespace's Pods all alike: the
    /// common one is referenced last.
    fn held(&self) -> Vec<KeyedRule<'r>> {
        let written = self
            .iter()
            .flat_map(|rule| std::iter::once(&rule.image.pattern).chain(&rule.image.exclusions));
        let mut keys: BTreeSet<Pattern> = written.cloned().collect();
        close(&mut keys);
        let mut held = Vec::with_capacity(keys.len());
        for key in keys {
            let is_excluded = self.near(&key).any(|rule| rule.image.excludes(&key));
            let mut serving: Vec<PatternRule<'r>> = self
                .near(&key)
                .filter(|rule| rule.image.gives(&key))
                .copied()
                .collect();
            serving.sort_by(PatternRule::compare);
            let common = serving.iter().position(|rule| !rule.narrow);
            serving.truncate(common.map_or(serving.len(), |common| common + 1));
            for (place, rule) in serving.iter().enumerate() {
                let mut earlier = serving[..place].iter();
                let is_first = earlier.all(|earlier| earlier.registry != rule.registry);
                if is_first && (is_excluded || rule.image.pattern == key) {
                    held.push((key.clone(), *rule));
                }
            }
        }
        held
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
