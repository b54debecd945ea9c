//! Finding the Registry that serves an image: two look-ups per image, whatever the number of Registries.

use std::borrow::Cow;
use std::collections::HashMap;

use super::Resolved;
use super::pattern::Pattern;
use super::pod_subject::PodSubject;
use super::valid::{ImagePattern, ValidRegistry};
use crate::image::{self, Reference};

/// The patterns of all Registries that are not suspended, by host.
#[derive(Debug, Default)]
pub(super) struct PatternIndex {
    /// Patterns with a literal host, by it; each list with the patterns' paths, the first in the kubelet's order first, then by
    /// rank.
    hosts: Hosts,
    /// Patterns with `*`, in the same way, by which labels of the host are `*`: what is looked up for an image are as many hosts as
    /// there are such shapes, however many patterns.
    wildcards: HashMap<Vec<bool>, Hosts>,
}

type Hosts = HashMap<Box<str>, Vec<(Box<str>, PatternRef)>>;

/// A pattern: the places of its Registry and of it within `images`.
#[derive(Clone, Copy, Debug)]
struct PatternRef {
    registry: usize,
    image: usize,
    /// Its place in the kubelet's order, then by rank.
    order: usize,
}

impl PatternRef {
    fn image(self, served: &[ValidRegistry]) -> &ImagePattern {
        &served[self.registry].images[self.image]
    }
}

impl PatternIndex {
    /// Indexes Registries that are ordered by rank; those that serve Pods.
    pub(super) fn build(served: &[ValidRegistry]) -> Self {
        let mut rules: Vec<PatternRef> = Vec::new();
        for (registry, served) in served
            .iter()
            .enumerate()
            .filter(|(_, served)| !served.suspend && served.access.is_pull())
        {
            rules.extend((0..served.images.len()).map(|image| PatternRef {
                registry,
                image,
                order: 0,
            }));
        }
        rules.sort_by(|one, other| {
            let pattern = |rule: &PatternRef| &rule.image(served).pattern;
            pattern(one)
                .cmp(pattern(other))
                .then(one.registry.cmp(&other.registry))
        });
        let mut index = Self::default();
        for (order, rule) in rules.into_iter().enumerate() {
            let rule = PatternRef { order, ..rule };
            let pattern = &rule.image(served).pattern;
            let hosts = if pattern.has_wildcard() {
                let shape = pattern.host().split('.').map(|label| label == "*");
                index.wildcards.entry(shape.collect()).or_default()
            } else {
                &mut index.hosts
            };
            let rules = hosts.entry(pattern.domain().into()).or_default();
            rules.push((pattern.path().into(), rule));
        }
        index
    }

    /// The first pattern that covers the image, of a Registry that serves the Pod and does not exclude the image.
    pub(super) fn resolve<'r>(
        &self,
        served: &'r [ValidRegistry],
        pod_subject: &PodSubject<'_>,
        reference: &Reference<'_>,
    ) -> Option<Resolved<'r>> {
        let (domain, path) = reference.repository();
        let mut exclusion: Option<Cow<'r, Pattern>> = None;
        for rule in self.covering_rules(domain, path) {
            let registry = &served[rule.registry];
            let decide = || registry.serves_pod(pod_subject);
            let known = pod_subject.known;
            if !known.map_or_else(decide, |known| known.serves(rule.registry, decide)) {
                continue;
            }
            let image = rule.image(served);
            if let Some(taken_away) = image.exclusion(domain, path) {
                // One without a Secret adds no keys to those of others.
                if registry.delivers_by_secret() {
                    exclusion = Some(narrow(exclusion, taken_away));
                }
                continue;
            }
            let key = match exclusion {
                None => Cow::Borrowed(image.pattern.key()),
                Some(exclusion) => {
                    Cow::Owned(narrow(Some(exclusion), &image.pattern).key().to_owned())
                }
            };
            return Some(Resolved {
                registry,
                grant: image.source,
                key,
            });
        }
        None
    }
}

impl PatternIndex {
    /// The patterns that cover a repository, in their order.
    fn covering_rules<'i>(
        &'i self,
        domain: &'i str,
        path: &'i str,
    ) -> impl Iterator<Item = PatternRef> + 'i {
        let literal = rules_of(&self.hosts, domain, path).copied();
        let wildcards = std::iter::once_with(move || self.wildcard_rules(domain, path));
        literal.chain(wildcards.flatten())
    }

    /// Those of them with `*`.
    fn wildcard_rules(&self, domain: &str, path: &str) -> Vec<PatternRef> {
        let mut found: Vec<PatternRef> = Vec::new();
        let (host, port) = image::split_port(domain);
        let labels = host.split('.').count();
        for (shape, hosts) in &self.wildcards {
            #[cfg(test)]
            super::tests::count_step();
            if shape.len() != labels {
                continue;
            }
            let label = |(label, is_any)| if is_any { "*" } else { label };
            let labels = host.split('.').zip(shape.iter().copied()).map(label);
            let mut pattern = labels.collect::<Vec<&str>>().join(".");
            pattern.extend(port.iter().flat_map(|port| [":", *port]));
            found.extend(rules_of(hosts, &pattern, path));
        }
        found.sort_unstable_by_key(|rule| rule.order);
        found
    }

    /// The patterns that cover a repository, each with its Registry.
    pub(super) fn covering<'i>(
        &'i self,
        served: &'i [ValidRegistry],
        (domain, path): (&'i str, &'i str),
    ) -> impl Iterator<Item = (&'i ValidRegistry, &'i ImagePattern)> {
        self.covering_rules(domain, path)
            .map(|rule| (&served[rule.registry], rule.image(served)))
    }
}

/// What is covered by both: the patterns have an image in common.
fn narrow<'r>(known: Option<Cow<'r, Pattern>>, pattern: &'r Pattern) -> Cow<'r, Pattern> {
    match known {
        None => Cow::Borrowed(pattern),
        Some(known) if pattern.covers_pattern(&known) => known,
        Some(known) => known.intersect(pattern).map_or(known, Cow::Owned),
    }
}

/// The rules of these hosts that cover a repository, in their order.
fn rules_of<'i>(
    hosts: &'i Hosts,
    domain: &str,
    path: &'i str,
) -> impl Iterator<Item = &'i PatternRef> + use<'i> {
    let rules = hosts.get(domain).map(Vec::as_slice);
    literal_rules(rules.unwrap_or_default(), path)
}

/// The rules of one host that cover a path, in their order. Longer paths come before their own prefixes, so each prefix of the path
/// is one binary search in what is left.
fn literal_rules<'i>(
    rules: &'i [(Box<str>, PatternRef)],
    path: &'i str,
) -> impl Iterator<Item = &'i PatternRef> {
    let prefixes = std::iter::successors(Some(path), |prefix| {
        (!prefix.is_empty()).then(|| prefix.rsplit_once('/').map_or("", |(parent, _)| parent))
    });
    let mut left = rules;
    prefixes.flat_map(move |prefix| {
        left = &left[left.partition_point(|(path, _)| **path > *prefix)..];
        left.iter()
            .take_while(move |(path, _)| **path == *prefix)
            .map(|(_, rule)| {
                #[cfg(test)]
                super::tests::count_step();
                rule
            })
    })
}
