//! The order in which a Pod references its pull secrets.

use super::Registries;
use super::pod_subject::PodSubject;
use super::valid::ValidRegistry;
use crate::image::Reference;
use crate::names::ObjectName;

/// The pull secrets of a Pod.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Arrangement<'r> {
    /// Their names, in the order in which the Pod is to reference them: the Registries' own ones, then [`super::PULL_SECRET`].
    pub secrets: Vec<&'r ObjectName>,
    /// Two Registries, if there are such, for which no order is right: what a Registry excludes lies within patterns of both, and each
    /// comes first for one of the Pod's images there.
    pub conflict: Option<(&'r str, &'r str)>,
}

/// Arranges the secrets of `chosen`.
///
/// Where Registries have the same key, the first secret's credential is offered first: they are ordered by rank. Within what any Registry
/// excludes all of them have the same keys, those with a wider pattern, too: there the one that an image resolves to must come first.
pub(super) fn arrange<'r>(
    registries: &Registries,
    pod_subject: &PodSubject<'_>,
    images: &[Reference<'_>],
    chosen: &[&'r ValidRegistry],
) -> Arrangement<'r> {
    let mut narrow: Vec<&'r ValidRegistry> = chosen
        .iter()
        .copied()
        .filter(|registry| registry.specificity.is_narrow())
        .collect();
    narrow.sort_by(|one, other| one.compare_rank(other));
    narrow.dedup_by(|one, other| one.name == other.name);
    let before = if narrow.len() > 1 {
        find_order(registries, pod_subject, images, &narrow)
    } else {
        Vec::new()
    };
    let mut arrangement = Arrangement::default();
    let mut left: Vec<usize> = (0..narrow.len()).collect();
    while let Some(&first) = left.first() {
        let held_up = |place: usize| {
            let mut found = before.iter();
            found.find(|(earlier, later)| *later == place && left.contains(earlier))
        };
        let next = left.iter().copied().find(|place| held_up(*place).is_none());
        if let (None, Some((earlier, _))) = (next, held_up(first)) {
            arrangement.conflict = Some((&narrow[first].name, &narrow[*earlier].name));
        }
        let next = next.unwrap_or(first);
        left.retain(|place| *place != next);
        arrangement.secrets.push(&narrow[next].secret);
    }
    let mut chosen = chosen.iter();
    let common = chosen.find(|registry| !registry.specificity.is_narrow());
    arrangement
        .secrets
        .extend(common.map(|registry| &registry.secret));
    arrangement
}

/// Pairs of places of which the first must come before the second, against their rank.
fn find_order(
    registries: &Registries,
    pod_subject: &PodSubject<'_>,
    images: &[Reference<'_>],
    narrow: &[&ValidRegistry],
) -> Vec<(usize, usize)> {
    let mut pairs = Vec::new();
    for image in images {
        let Some(resolved) = registries.resolve(*pod_subject, image) else {
            continue;
        };
        let place = |registry: &&ValidRegistry| registry.name == resolved.registry.name;
        let Some(first) = narrow.iter().position(place) else {
            continue;
        };
        let (domain, path) = image.repository();
        let also = (0..first).filter(|other| narrow[*other].covers(domain, path));
        let pair = also.map(|other| (first, other));
        let serves = |registry: &&ValidRegistry| {
            pod_subject
                .namespace
                .is_none_or(|namespace| registry.serves(namespace))
        };
        let mut serving = registries.iter().filter(serves);
        let found: Vec<_> = pair.collect();
        if !found.is_empty() && serving.any(|registry| registry.exclusions(domain, path)) {
            pairs.extend(found);
        }
    }
    pairs
}
