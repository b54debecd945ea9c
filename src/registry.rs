//! The Registry kind, its patterns, and which Registry serves an image in a namespace.
//!
//! [`Registries`] is an immutable snapshot, rebuilt on each change and shared. A Registry that breaks a rule serves nothing and
//! does not affect others; [`Registries::problems`] says why.
//!
//! Precedence, first to last: the kubelet's own order by key (a literal host before one with `*`, a longer path before a shorter
//! one), the one that chooses more narrowly whom it serves (by Pods, ServiceAccounts, namespaces, not at all), the older before the
//! younger, the name.

pub mod arn;
mod arrange;
pub(crate) mod audience;
mod candidate;
pub mod clients;
pub mod crd;
mod explain;
mod grant_cache;
mod grants;
pub mod guid;
pub mod host;
mod host_keys;
mod index;
mod labels;
pub mod match_images;
pub mod pattern;
pub mod pod_subject;
mod secret_format;
mod secret_name;
pub mod selector;
pub mod source;
mod spec_changes;
mod valid;
mod validate;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::image::Reference;
use crate::names::ObjectName;
pub use arrange::Arrangement;
pub use candidate::{Tie, ValidatedRegistry};
pub use crd::{Access, Delivery, ExportFormat, PodMetadata, Registry, RegistrySpec};
pub use explain::{Explanation, Precedence, RegistryMatch, Why};
use grant_cache::GrantCache;
pub use grants::Grant;
pub use host::Host;
pub use host_keys::HostKey;
use index::PatternIndex;
pub use labels::{injected_key_problem, label_key_problem, label_value_problem};
pub use pattern::Pattern;
pub use pod_subject::{KnownServing, PodSubject};
pub use secret_format::SecretFormat;
pub use secret_name::{
    PULL_SECRET, export_secret_name, is_export_name, is_pull_secret_name, registry_of_secret,
};
pub use source::CredentialSource;
pub use spec_changes::{SpecChangeState, SpecChanges};
pub use valid::{ValidExport, ValidRegistry};
pub use validate::Problem;
pub(crate) use validate::split_endpoint;

/// Labels of a namespace or a Pod.
pub type Labels = BTreeMap<String, String>;

/// All Registries at one time.
#[derive(Debug, Default)]
pub struct Registries {
    /// The valid ones, suspended ones too, by rank: of two whose patterns are equal the first one counts.
    served: Vec<ValidRegistry>,
    /// The place of each of those by its name.
    by_name: HashMap<ObjectName, usize>,
    index: PatternIndex,
    planned: GrantCache,
    problems: Vec<Problem>,
    listed: Vec<RegistryInfo>,
    listed_by_name: HashMap<ObjectName, usize>,
    /// The places of those of which only the name says which comes first.
    tied: Vec<(usize, usize)>,
}

/// What there is to be said of any Registry, also of one that serves nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryInfo {
    /// Its name.
    pub name: ObjectName,
    /// Its `metadata.uid`; empty for one that is read from a file.
    pub uid: String,
    /// Its `metadata.generation`.
    pub generation: Option<i64>,
    /// Its images, in one line.
    pub images: String,
    /// Which identity asks, in a few words.
    pub identity: String,
}

impl RegistryInfo {
    /// One that has no name is none of a cluster's.
    fn of(registry: &Registry) -> Option<Self> {
        let metadata = &registry.metadata;
        Some(Self {
            name: ObjectName::parse(metadata.name.as_deref()?).ok()?,
            uid: metadata.uid.clone().unwrap_or_default(),
            generation: metadata.generation,
            images: images_in_words(&registry.spec.images),
            identity: registry.spec.describe_identity(),
        })
    }
}

/// How many patterns a status names.
const IMAGES_SHOWN: usize = 3;

/// A Registry's images in one line: the first few, and how many more there are.
fn images_in_words(images: &[String]) -> String {
    let shown = images[..images.len().min(IMAGES_SHOWN)].join(", ");
    match images.len().saturating_sub(IMAGES_SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// The Registry that serves an image in a namespace.
#[derive(Clone, Debug)]
pub struct Resolved<'r> {
    /// The Registry.
    pub registry: &'r ValidRegistry,
    /// The place of the image's credential in the Registry's `sources`.
    pub grant: usize,
    /// The key under which the namespace's secret holds the credential for this image: one of [`Registries::grants`]' keys. It is
    /// owned only where another Registry excludes the image from a pattern that ranks before. Where no Secret holds it, the key that it would have.
    pub key: Cow<'r, str>,
}

impl Registries {
    /// Builds a snapshot. Registries that break a rule, and the second and further ones of a name, serve nothing and are listed in
    /// [`Registries::problems`].
    pub fn build(registries: impl IntoIterator<Item = Registry>) -> Self {
        let mut names = BTreeSet::new();
        let mut served = Vec::new();
        let mut problems = Vec::new();
        let mut listed = Vec::new();
        for registry in registries {
            listed.extend(RegistryInfo::of(&registry));
            match ValidRegistry::new(&registry) {
                Ok(registry) if names.insert(registry.name.clone()) => served.push(registry),
                Ok(registry) => problems.push(Problem {
                    registry: registry.name.to_string(),
                    field: "metadata.name".to_owned(),
                    message: "another Registry has this name: rename one".to_owned(),
                }),
                Err(found) => problems.extend(found),
            }
        }
        served.sort_by(ValidRegistry::compare_rank);
        let index = PatternIndex::build(&served);
        let names = served.iter().map(|registry| registry.name.clone());
        Self {
            tied: find_ties(&served),
            by_name: names.zip(0..).collect(),
            // Of several of a name the first one counts.
            listed_by_name: listed
                .iter()
                .enumerate()
                .rev()
                .map(|(place, registry)| (registry.name.clone(), place))
                .collect(),
            served,
            index,
            planned: GrantCache::default(),
            problems,
            listed,
        }
    }

    /// All Registries, also those that serve nothing.
    pub fn listed(&self) -> &[RegistryInfo] {
        &self.listed
    }

    /// What there is to be said of the Registry of this name.
    pub fn find_listed(&self, name: &str) -> Option<&RegistryInfo> {
        let place = self.listed_by_name.get(name)?;
        self.listed.get(*place)
    }

    /// Registries of which only the name says which comes first: equal patterns, equally narrow, equally old, and serving a namespace
    /// with these labels both.
    pub fn ties(&self, namespace: &Labels) -> Vec<(&ValidRegistry, &ValidRegistry)> {
        let pairs = self.tied.iter();
        pairs
            .map(|&(one, other)| (&self.served[one], &self.served[other]))
            .filter(|(one, other)| one.serves(namespace) && other.serves(namespace))
            .collect()
    }

    /// Whether there are any in some namespace.
    pub fn may_tie(&self) -> bool {
        !self.tied.is_empty()
    }

    /// The rules that Registries break; those Registries serve nothing.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// The valid Registry of this name, suspended or not.
    pub fn get(&self, name: &str) -> Option<&ValidRegistry> {
        let place = self.by_name.get(name)?;
        self.served.get(*place)
    }

    /// All valid Registries, suspended ones too, by rank.
    pub fn iter(&self) -> impl Iterator<Item = &ValidRegistry> {
        self.served.iter()
    }

    /// The Registry that serves an image of a Pod; a namespace's labels alone mean a Pod of ServiceAccount `default` without
    /// labels. Suspended ones serve nothing, and those that push no Pod.
    pub fn resolve<'p>(
        &self,
        pod_subject: impl Into<PodSubject<'p>>,
        reference: &Reference<'_>,
    ) -> Option<Resolved<'_>> {
        self.index
            .resolve(&self.served, &pod_subject.into(), reference)
    }

    /// Where to keep what is found out about one Pod ([`PodSubject::known`]).
    pub fn known_serving(&self) -> KnownServing {
        KnownServing::new(self.served.len())
    }

    /// The patterns that cover a repository, each with its Registry; none of suspended ones, and of those that push.
    fn covering<'i>(
        &'i self,
        repository: (&'i str, &'i str),
    ) -> impl Iterator<Item = (&'i ValidRegistry, &'i valid::ImagePattern)> {
        self.index.covering(&self.served, repository)
    }

    /// The names of the pull secrets and exports that a namespace with these labels is to have, in their order.
    pub fn secrets(&self, namespace: &Labels) -> Vec<&ObjectName> {
        let serving = self.served.iter().filter(|one| one.fills(namespace));
        let secrets: BTreeSet<&ObjectName> = serving.flat_map(ValidRegistry::secrets).collect();
        secrets.into_iter().collect()
    }

    /// The valid Registries that serve a namespace with these labels and are not suspended, by rank.
    pub fn serving(&self, namespace: &Labels) -> Vec<&ValidRegistry> {
        self.served
            .iter()
            .filter(|registry| registry.serves(namespace))
            .collect()
    }

    /// All credentials that a namespace with these labels holds, and their keys: of each Registry that serves it and delivers by Secrets,
    /// as if there were no others. No key is twice in one Secret; a Pod that references
    /// the Secrets of the Registries that its images resolve to, in the order of [`Registries::arrange`], is for each of them first
    /// offered the credential of the Registry that [`Registries::resolve`] gives.
    pub fn grants(&self, namespace: &Labels) -> Vec<Grant> {
        let serving = self.served.iter().filter(|one| one.fills(namespace));
        grants::plan(&serving.collect::<Vec<_>>())
    }

    /// The credentials of one Secret of a namespace with these labels; planned once for all namespaces that the same Registries serve.
    pub fn grants_of(&self, namespace: &Labels, secret: &str) -> Arc<[Arc<Grant>]> {
        let all = self.served.iter().enumerate();
        let places = all.filter(|(_, registry)| registry.fills(namespace));
        let places = places.map(|(place, _)| place).collect();
        self.planned.find(&self.served, places, secret)
    }
}

fn find_ties(served: &[ValidRegistry]) -> Vec<(usize, usize)> {
    let is_tied = |one: &ValidRegistry, other: &ValidRegistry| {
        // No image resolves to one that pushes.
        one.access.is_pull()
            && other.access.is_pull()
            && one.specificity == other.specificity
            && one.created == other.created
            && one
                .patterns()
                .any(|pattern| other.patterns().any(|same| same == pattern))
    };
    let mut tied = Vec::new();
    for (one, first) in served.iter().enumerate() {
        let later = served.iter().enumerate().skip(one + 1);
        let later = later.filter(|(_, second)| is_tied(first, second));
        tied.extend(later.map(|(other, _)| (one, other)));
    }
    tied
}

#[cfg(test)]
mod tests;
