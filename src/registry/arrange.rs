//! The order in which a Pod references its pull secrets.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::Registries;
use super::pod_subject::PodSubject;
use super::secret_name::PULL_SECRET;
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

impl Registries {
    /// The order in which a Pod with these images references the Secrets of the Registries that were chosen for it, as far as they have one.
    ///
    /// Where Registries have the same key, the first secret's credential is offered first: they are ordered by rank. Within what any Registry
    /// excludes all of them have the same keys, those with a wider pattern, too: there the one that an image resolves to must come first.
    pub fn arrange<'r>(
        &self,
        pod_subject: &PodSubject<'_>,
        images: &[Reference<'_>],
        chosen: &[&'r ValidRegistry],
    ) -> Arrangement<'r> {
        let mut narrow: Vec<&'r ValidRegistry> = chosen
            .iter()
            .copied()
            .filter(|registry| registry.has_own_secret())
            .collect();
        narrow.sort_by(|one, other| one.compare_rank(other));
        narrow.dedup_by(|one, other| one.name == other.name);
        let before = if narrow.len() > 1 {
            find_order(self, pod_subject, images, &narrow)
        } else {
            BTreeSet::new()
        };
        let mut arrangement = Arrangement::default();
        let mut waiting = Waiting::new(narrow.len(), &before);
        while let Some(next) = waiting.take() {
            if let Some(earlier) = next.despite {
                arrangement.conflict = Some((&narrow[next.place].name, &narrow[earlier].name));
            }
            arrangement.secrets.extend(&narrow[next.place].secret);
        }
        let mut secrets = chosen.iter().flat_map(|registry| &registry.secret);
        let common = secrets.find(|secret| ***secret == *PULL_SECRET);
        arrangement.secrets.extend(common);
        arrangement
    }
}

/// Places that are still to be given an order.
struct Waiting {
    left: BTreeSet<usize>,
    /// Those of them that nothing holds up.
    free: BTreeSet<usize>,
    /// For each place those that must come before it and are left.
    holders: Vec<BTreeSet<usize>>,
    /// For each place those that it holds up.
    held: Vec<Vec<usize>>,
}

/// The place that comes next.
struct Next {
    place: usize,
    /// One that should have come before it, where each place that is left is held up.
    despite: Option<usize>,
}

impl Waiting {
    fn new(places: usize, before: &BTreeSet<(usize, usize)>) -> Self {
        let mut holders = vec![BTreeSet::new(); places];
        let mut held = vec![Vec::new(); places];
        for &(earlier, later) in before {
            holders[later].insert(earlier);
            held[earlier].push(later);
        }
        Self {
            left: (0..places).collect(),
            free: (0..places)
                .filter(|place| holders[*place].is_empty())
                .collect(),
            holders,
            held,
        }
    }

    /// Takes the first that nothing holds up, or the first that is left.
    fn take(&mut self) -> Option<Next> {
        let first = *self.left.first()?;
        let free = self.free.pop_first();
        let place = free.unwrap_or(first);
        self.left.remove(&place);
        for &later in &self.held[place] {
            self.holders[later].remove(&place);
            if self.holders[later].is_empty() && self.left.contains(&later) {
                self.free.insert(later);
            }
        }
        let despite = self.holders[place].first().copied();
        Some(Next { place, despite })
    }
}

/// Pairs of places of which the first must come before the second, against their rank.
fn find_order(
    registries: &Registries,
    pod_subject: &PodSubject<'_>,
    images: &[Reference<'_>],
    narrow: &[&ValidRegistry],
) -> BTreeSet<(usize, usize)> {
    let places = narrow.iter().enumerate();
    let places: HashMap<&str, usize> = places.map(|(place, one)| (&*one.name, place)).collect();
    let serves = |registry: &ValidRegistry| {
        let namespace = pod_subject.namespace;
        namespace.is_none_or(|namespace| registry.serves(namespace))
    };
    let (mut pairs, mut seen) = (BTreeSet::new(), HashSet::new());
    for image in images {
        let repository = image.repository();
        if !seen.insert(repository) {
            continue;
        }
        let Some(resolved) = registries.resolve(*pod_subject, image) else {
            continue;
        };
        let Some(&first) = places.get(&*resolved.registry.name) else {
            continue;
        };
        let (mut others, mut is_excluded) = (Vec::new(), false);
        let (domain, path) = repository;
        for (registry, pattern) in registries.covering(repository) {
            if pattern.exclusion(domain, path).is_some() {
                // One without a Secret adds no keys to those of others.
                is_excluded = is_excluded || registry.delivers_by_secret() && serves(registry);
            } else if let Some(&other) = places.get(&*registry.name) {
                others.push(other);
            }
        }
        if is_excluded {
            let earlier = others.into_iter().filter(|other| *other < first);
            pairs.extend(earlier.map(|other| (first, other)));
        }
    }
    pairs
}
