//! Why each Registry serves an image or does not.

use super::pattern::Pattern;
use super::pod_subject::{PodSubject, Specificity};
use super::valid::ValidRegistry;
use super::{Registries, Resolved};
use crate::image::{self, Reference};

/// The port of https, at which a registry is asked that names none.
const USUAL_PORT: &str = "443";

/// Which Registry serves an image, and why the others do not.
#[derive(Debug)]
pub struct Explanation<'r> {
    /// The Registry that serves it.
    pub resolved: Option<Resolved<'r>>,
    /// Each valid Registry, by rank.
    pub matches: Vec<RegistryMatch<'r>>,
}

/// One Registry's part in it.
#[derive(Debug)]
pub struct RegistryMatch<'r> {
    /// The Registry.
    pub registry: &'r ValidRegistry,
    /// Why it serves the image, or does not.
    pub why: Why<'r>,
}

/// Why a Registry serves an image, or does not.
#[derive(Clone, Copy, Debug)]
pub enum Why<'r> {
    /// It serves the image.
    Serves {
        /// The pattern that covers the image.
        pattern: &'r Pattern,
    },
    /// It would serve the image, and another Registry comes first.
    Outranked {
        /// The pattern that covers the image.
        pattern: &'r Pattern,
        /// The Registry that comes first.
        by: &'r ValidRegistry,
        /// The rule that puts it first.
        because: Precedence<'r>,
    },
    /// A pattern covers the image, but for letters that are not lower case.
    UppercaseHost {
        /// The pattern.
        pattern: &'r Pattern,
    },
    /// A pattern covers the image, but for the usual port, 443, which only one of the two names.
    UsualPort {
        /// The pattern.
        pattern: &'r Pattern,
    },
    /// No pattern covers the image.
    NoPattern,
    /// `excludedImages` takes the image away.
    Excluded {
        /// What takes it away.
        exclude: &'r Pattern,
    },
    /// It does not serve the namespace.
    NamespaceNotServed,
    /// It does not serve the ServiceAccount.
    ServiceAccountNotServed,
    /// It does not serve Pods with these labels.
    PodNotServed,
    /// It is suspended.
    Suspended,
    /// It pushes: builders mount its Secret, and no Pod is given a reference to it.
    Pushes {
        /// The pattern that covers the image.
        pattern: &'r Pattern,
    },
}

/// What puts one Registry before another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precedence<'r> {
    /// Its pattern comes first in the kubelet's order.
    Pattern(&'r Pattern),
    /// It chooses more narrowly whom it serves.
    MoreSpecific {
        /// How narrowly it chooses.
        specificity: Specificity,
        /// How the other one does.
        than: Specificity,
    },
    /// It is older.
    Older,
    /// Its name comes first.
    Name,
}

impl Registries {
    /// Each Registry, and why it serves an image of a Pod or does not.
    pub fn explain<'p>(
        &self,
        pod_subject: impl Into<PodSubject<'p>>,
        reference: &Reference<'_>,
    ) -> Explanation<'_> {
        let pod_subject = &pod_subject.into();
        let resolved = self.resolve(*pod_subject, reference);
        let (domain, path) = reference.repository();
        let winner = resolved.as_ref().map(|resolved| resolved.registry);
        let matches = self
            .served
            .iter()
            .map(|registry| RegistryMatch {
                registry,
                why: explain_one(registry, winner, pod_subject, domain, path),
            })
            .collect();
        Explanation { resolved, matches }
    }
}

fn explain_one<'r>(
    registry: &'r ValidRegistry,
    winner: Option<&'r ValidRegistry>,
    pod_subject: &PodSubject<'_>,
    domain: &str,
    path: &str,
) -> Why<'r> {
    let covering = registry
        .images
        .iter()
        .filter(|image| image.pattern.covers(domain, path));
    let Some(first) = covering.clone().min_by_key(|image| &image.pattern) else {
        return near_miss(registry, domain, path);
    };
    let Some(pattern) = registry.find_serving(domain, path) else {
        return first
            .exclusion(domain, path)
            .map_or(Why::NoPattern, |exclude| Why::Excluded { exclude });
    };
    if registry.suspend {
        return Why::Suspended;
    }
    if pod_subject
        .namespace
        .is_some_and(|labels| !registry.namespaces.matches(labels))
    {
        return Why::NamespaceNotServed;
    }
    if !registry.access.is_pull() {
        return Why::Pushes { pattern };
    }
    if !registry.serves_account(pod_subject) {
        return Why::ServiceAccountNotServed;
    }
    if !registry.serves_labels(pod_subject) {
        return Why::PodNotServed;
    }
    match winner {
        Some(by) if by.name != registry.name => Why::Outranked {
            pattern,
            by,
            because: precedence(by, registry, pattern, domain, path),
        },
        _ => Why::Serves { pattern },
    }
}

/// What comes close where no pattern covers the image.
fn near_miss<'r>(registry: &'r ValidRegistry, domain: &str, path: &str) -> Why<'r> {
    let covering = |domain: &str| {
        let mut patterns = registry.patterns();
        patterns.find(|pattern| pattern.covers(domain, path))
    };
    let lower = domain.to_ascii_lowercase();
    if let Some(pattern) = covering(&lower) {
        return Why::UppercaseHost { pattern };
    }
    let other = match image::split_port(&lower) {
        (host, Some(USUAL_PORT)) => host.to_owned(),
        (host, None) => format!("{host}:{USUAL_PORT}"),
        _ => return Why::NoPattern,
    };
    covering(&other).map_or(Why::NoPattern, |pattern| Why::UsualPort { pattern })
}

fn precedence<'r>(
    by: &'r ValidRegistry,
    registry: &ValidRegistry,
    pattern: &Pattern,
    domain: &str,
    path: &str,
) -> Precedence<'r> {
    match by.find_serving(domain, path) {
        Some(first) if first != pattern => Precedence::Pattern(first),
        _ if by.specificity != registry.specificity => Precedence::MoreSpecific {
            specificity: by.specificity,
            than: registry.specificity,
        },
        _ if by.created != registry.created => Precedence::Older,
        _ => Precedence::Name,
    }
}
