//! How each Registry stands in all the namespaces that it serves.

use std::collections::{BTreeMap, BTreeSet};

use super::decide::{Piece, Stands};
use super::ensure::Ensure;
use super::verify::Held;
use super::{Namespace, Pending, bind, gather};
use crate::names::ObjectName;

/// How many namespaces that need a person's look are named.
const NAMED: usize = 100;

/// How one Registry stands.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// The namespaces it serves.
    pub total: usize,
    /// Those that hold a good login of it.
    pub ready: usize,
    /// The places of its minted credentials in [`super::survey::Survey::sources`].
    pub credentials: BTreeSet<usize>,
    /// In how many of them somebody else's Secret takes the place of the pull secret.
    pub foreign: usize,
    /// The first of those.
    pub foreign_in: Vec<String>,
    /// Why some namespace lacks a login, where that is not the failed minting of a credential.
    pub lack: Option<Pending>,
    /// The first namespace that lacks a login.
    pub lacking_in: Option<String>,
}

/// The tallies of all Registries that serve any namespace.
#[derive(Clone, Debug, Default)]
pub struct Tallies(BTreeMap<ObjectName, Tally>);

#[cfg(test)]
impl FromIterator<(ObjectName, Tally)> for Tallies {
    fn from_iter<I: IntoIterator<Item = (ObjectName, Tally)>>(tallies: I) -> Self {
        Self(tallies.into_iter().collect())
    }
}

impl Tallies {
    /// How a Registry stands; `None`: it serves no opted-in namespace.
    pub fn get(&self, registry: &str) -> Option<&Tally> {
        self.0.get(registry)
    }

    fn of(&mut self, registry: &ObjectName) -> &mut Tally {
        self.0.entry(registry.clone()).or_default()
    }

    /// Counts a namespace in which somebody else's Secret takes the place.
    pub(super) fn add_foreign(&mut self, registry: &ObjectName, namespace: &str) {
        let tally = self.of(registry);
        tally.total += 1;
        tally.foreign += 1;
        if tally.foreign_in.len() < NAMED {
            tally.foreign_in.push(namespace.to_owned());
        }
    }

    /// Counts so many pull secrets, of which the first is in `namespace`, for each Registry that is to be in them; each of `pieces` tells
    /// how one of `all` stands.
    pub(super) fn add(
        &mut self,
        (namespace, count): (&str, usize),
        all: &[Held],
        pieces: &[Piece],
        find_lack: impl Fn(&Held) -> Option<Pending>,
    ) {
        let mut good: BTreeMap<&ObjectName, bool> = BTreeMap::new();
        for (held, piece) in all.iter().zip(pieces) {
            let registry = &held.grant.registry;
            let is_good = matches!(piece.stands, Stands::Current | Stands::Earlier(_));
            *good.entry(registry).or_insert(true) &= is_good;
            if is_good {
                continue;
            }
            let tally = self.of(registry);
            if piece.stands == Stands::Unavailable && tally.lack.is_none() {
                tally.lack = find_lack(held);
            }
            if tally.lacking_in.is_none() {
                tally.lacking_in = Some(namespace.to_owned());
            }
        }
        for (registry, is_good) in good {
            let tally = self.of(registry);
            tally.total += count;
            tally.ready += if is_good { count } else { 0 };
        }
    }

    /// Notes that a Registry needs this credential.
    pub(super) fn add_credential(&mut self, registry: &ObjectName, place: usize) {
        self.of(registry).credentials.insert(place);
    }
}

impl Ensure {
    /// Why there is nothing to be written for a grant, where memory knows.
    pub(super) fn find_lack(&self, namespace: &Namespace, held: &Held) -> Option<Pending> {
        let state = &self.0.state;
        let grant = &held.grant;
        let Some(name) = bind::unbound(grant) else {
            return gather::find_lack(grant, state);
        };
        let known = state.accounts.get(&namespace.name, name)?;
        let bound = bind::bind(grant, namespace, known.account.as_deref());
        bound.err().map(|error| Pending {
            registry: Some(grant.registry.clone()),
            reason: error.reason(),
            message: error.to_string(),
        })
    }
}
