//! What the controller asks of this room: how every pull secret stands, and to keep one as it must be.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use jiff::Timestamp;
use tokio::time::Instant;

use super::decide::{Holding, Life, Piece, Stands, Surplus, View};
use super::ensure::{Ensure, Shared};
use super::stands::{end, lacking, stands};
use super::state::Seen;
use super::supply::Supply;
use super::surplus::Judge;
use super::tally::Tallies;
use super::verify::{Held, Moment, Verified};
use super::{InjectMode, Namespace, Outcome};
use crate::names::{NamespaceName, ObjectName};
use crate::registry::Orders;
use crate::registry::source::{MintSource, Tenant};

/// How every pull secret stands, and what the places in the view stand for.
#[derive(Default)]
pub struct Survey {
    /// What to decide by.
    pub view: View,
    /// The pull secrets, by their place.
    pub secrets: Vec<Place>,
    /// What is to be taken out of each pull secret, by its place.
    pub surplus: Vec<Vec<String>>,
    /// The credentials' sources, by their place.
    pub sources: Vec<MintSource>,
    /// Who their credentials' principals are, by their place.
    pub principals: Vec<Option<String>>,
    /// How each Registry stands.
    pub tallies: Tallies,
    places: HashMap<MintSource, usize>,
    /// What each pull secret is to hold, by its place.
    held: Vec<Arc<[Held]>>,
    /// The places by the address of what was found there, which is kept so that it stays its own.
    supplied: HashMap<usize, (Arc<Supply>, Option<usize>)>,
    /// What stands in many pull secrets, by its address.
    common: HashMap<usize, Common>,
}

/// What stands in many pull secrets.
struct Common {
    /// The first of their namespaces.
    namespace: Arc<Namespace>,
    held: Arc<[Held]>,
    pieces: Arc<[Piece]>,
    /// In how many.
    count: usize,
}

/// A state of everything that a survey sees.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Change {
    moment: Moment,
    sightings: u64,
    /// How many Registries cannot be read: nothing is removed as long as there are some.
    unreadable: usize,
}

/// A pull secret of a namespace.
#[derive(Clone, Debug)]
pub struct Place {
    /// The namespace.
    pub namespace: Arc<Namespace>,
    /// The secret's name.
    pub secret: ObjectName,
    /// What is known of it; `None`: there is none.
    pub seen: Option<Arc<Seen>>,
}

/// The names of a namespace and of a pull secret in it.
pub type Name = (NamespaceName, ObjectName);

impl Place {
    /// What it is called.
    pub fn name(&self) -> Name {
        (self.namespace.name.clone(), self.secret.clone())
    }
}

impl Ensure {
    /// Numbers that differ whenever something changed that a survey sees.
    pub fn change(&self) -> Change {
        Change {
            moment: Moment::of(&self.0.state, &*self.0.credentials),
            sightings: self.0.state.sightings(),
            unreadable: self.0.state.unreadable().load(Ordering::Acquire),
        }
    }

    /// Looks at every pull secret that there is or is to be, from memory alone: those of opted-in namespaces that a Registry serves, and
    /// those of ours that belong nowhere. `orders` tells which Registries were changed lately.
    pub fn survey(&self, orders: &Orders, now: Timestamp) -> Survey {
        let registries = self.0.state.registries();
        let judge = Judge::new(&self.0.state, &registries, orders, now);
        let mut survey = Survey::default();
        for namespace in self.0.state.namespaces.all() {
            self.add_wanted(&mut survey, &judge, &namespace);
        }
        self.count_common(&mut survey);
        let named = survey.secrets.iter().map(Place::name).collect();
        self.add_unwanted(&mut survey, &judge, &named);
        survey
    }

    /// Counts for Registries what stands in many pull secrets. Always in the same order: people are told of the first one.
    fn count_common(&self, survey: &mut Survey) {
        let mut all: Vec<Common> = std::mem::take(&mut survey.common).into_values().collect();
        all.sort_by(|one, other| one.namespace.name.cmp(&other.namespace.name));
        for common in all {
            let find_lack = |held: &Held| self.find_lack(&common.namespace, held);
            let (name, pieces) = (&common.namespace.name, &common.pieces);
            let tallies = &mut survey.tallies;
            tallies.add((name, common.count), &common.held, pieces, find_lack);
        }
    }

    /// The namespaces that changed, themselves or a pull secret in them, since they were taken last; none where they are too many.
    pub fn take_changed(&self) -> BTreeSet<NamespaceName> {
        self.0.state.take_changed_namespaces().unwrap_or_default()
    }

    /// Looks at the pull secrets that are to be in a few namespaces, and at nothing else.
    pub fn survey_some(
        &self,
        names: &BTreeSet<NamespaceName>,
        orders: &Orders,
        now: Timestamp,
    ) -> Survey {
        let registries = self.0.state.registries();
        let judge = Judge::new(&self.0.state, &registries, orders, now);
        let mut survey = Survey::default();
        let namespaces = &self.0.state.namespaces;
        for namespace in names.iter().filter_map(|name| namespaces.get(name)) {
            self.add_wanted(&mut survey, &judge, &namespace);
        }
        survey
    }

    /// Adds the pull secrets that are to be in a namespace.
    fn add_wanted(&self, survey: &mut Survey, judge: &Judge<'_>, namespace: &Arc<Namespace>) {
        if !namespace.is_to_hold_secrets() {
            return;
        }
        for secret in judge.registries.secrets(&namespace.labels) {
            let verdict = self.0.verdict(namespace, secret);
            if verdict.is_foreign() {
                let serving = judge.registries.serving(&namespace.labels);
                for registry in serving.iter().filter(|one| one.secret == *secret) {
                    survey.tallies.add_foreign(&registry.name, &namespace.name);
                }
                continue;
            }
            if verdict.held().is_empty() {
                continue;
            }
            let place = Place {
                namespace: Arc::clone(namespace),
                secret: secret.clone(),
                seen: verdict.seen().cloned(),
            };
            survey.add(place, &verdict, judge, self);
        }
    }

    /// Adds the pull secrets of ours where none is to be.
    fn add_unwanted(&self, survey: &mut Survey, judge: &Judge<'_>, named: &HashSet<Name>) {
        for (secret, table) in self.0.state.all_pull_secrets() {
            for (name, seen) in table.rows() {
                let key = (name, secret.clone());
                if !seen.ours || named.contains(&key) {
                    continue;
                }
                let known = self.0.state.namespaces.get(&key.0);
                if known
                    .as_ref()
                    .is_some_and(|namespace| namespace.terminating)
                {
                    continue;
                }
                let namespace = known
                    .unwrap_or_else(|| Arc::new(Namespace::new(key.0, BTreeMap::new(), false)));
                let keys: Vec<String> = seen.digests.keys().cloned().collect();
                survey.add_surplus(
                    Place {
                        namespace,
                        secret: key.1,
                        seen: Some(seen),
                    },
                    keys,
                    judge,
                );
            }
        }
    }

    /// Writes what a pull secret lacks of what is there to be written, and waits for it, not beyond `deadline`.
    pub async fn keep(&self, place: &Place, deadline: Instant) -> Outcome {
        let Place {
            namespace, secret, ..
        } = place;
        let verdict = self.0.verdict(namespace, secret);
        let keys = lacking(&verdict, (self.0.clock)());
        if keys.is_empty() {
            return Outcome::Covered;
        }
        Shared::ensure(&self.0, namespace, secret, &keys, deadline).await
    }

    /// Reads a ServiceAccount again whose identity was refused: it may be gone, or another one by now.
    pub async fn read_again(&self, tenant: &Tenant) {
        let (namespace, name) = (&tenant.namespace, &tenant.service_account);
        self.0.accounts.forget(namespace, name).await;
        let accounts = &self.0.state.accounts;
        if let Err(error) = self.0.accounts.follow(accounts, namespace, name).await {
            tracing::debug!("what is known of a ServiceAccount stays: {error}");
        }
    }

    /// A place as it is now; `None`: nothing of what it lacks is there to be written, or it is to be no pull secret any more.
    pub fn find_lacking(&self, place: &Place) -> Option<Place> {
        let namespace = self.0.state.namespaces.get(&place.namespace.name)?;
        if !namespace.is_to_hold_secrets() {
            return None;
        }
        let verdict = self.0.verdict(&namespace, &place.secret);
        let is_lacking = !verdict.is_foreign() && !lacking(&verdict, (self.0.clock)()).is_empty();
        is_lacking.then(|| Place {
            namespace,
            secret: place.secret.clone(),
            seen: verdict.seen().cloned(),
        })
    }

    /// The resource version of a pull secret as it is known now.
    pub fn version(&self, place: &Place) -> Option<String> {
        let table = self.0.state.pull_secrets_of(&place.secret);
        let seen = table.get(&place.namespace.name)?;
        Some(seen.version.resource_version.clone())
    }

    /// The life of the credential that is there for `source`, and its principal.
    fn life(&self, source: &MintSource) -> (Life, Option<String>) {
        let credential = self.0.credentials.current(source);
        let principal = credential
            .as_ref()
            .map(|credential| credential.principal.clone());
        let life = Life {
            minted: credential.map(|credential| (credential.minted_at, credential.expires_at)),
            is_minted: false,
            retry_at: None,
            spread: spread(source),
        };
        (life, principal)
    }
}

/// A number of a source's own; every replica finds the same. FNV-1a, folded.
fn spread(source: &MintSource) -> u8 {
    let text = source.canonical();
    let hash = text.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    hash.to_be_bytes()
        .into_iter()
        .fold(0, |fold, byte| fold ^ byte)
}

impl Survey {
    /// The Registries of which a pull secret, by its place, is to be written; whether a login of theirs is missing until then.
    pub fn unwritten(&self, place: usize) -> BTreeMap<&ObjectName, bool> {
        let held = self.held.get(place).into_iter().flat_map(|held| &**held);
        let holding = self.view.secrets.get(place).into_iter();
        let pieces = holding.flat_map(|holding| &*holding.entries);
        let mut found = BTreeMap::new();
        for (held, piece) in held.zip(pieces) {
            if matches!(piece.stands, Stands::Missing | Stands::Earlier(_)) {
                *found.entry(&held.grant.registry).or_default() |= piece.stands == Stands::Missing;
            }
        }
        found
    }

    fn add(&mut self, place: Place, verdict: &Verified, judge: &Judge<'_>, ensure: &Ensure) {
        let (keys, surplus) = judge.of_secret(&place.namespace.labels, &place.secret, verdict);
        self.view.removals.secrets += usize::from(verdict.is_there());
        let entries = self.pieces(&place.namespace, verdict, judge, ensure);
        self.held.push(Arc::clone(verdict.held()));
        self.view.secrets.push(Holding {
            entries,
            surplus,
            ..Holding::default()
        });
        self.secrets.push(place);
        self.surplus.push(keys);
    }

    /// What a pull secret holds, counted for its Registries.
    fn pieces(
        &mut self,
        namespace: &Arc<Namespace>,
        verdict: &Verified,
        judge: &Judge<'_>,
        ensure: &Ensure,
    ) -> Arc<[Piece]> {
        let at = verdict
            .common()
            .map(|held| (Arc::as_ptr(held).addr(), held));
        if let Some((at, _)) = at
            && let Some(common) = self.common.get_mut(&at)
        {
            common.count += 1;
            return Arc::clone(&common.pieces);
        }
        let all = verdict.held();
        let pieces: Arc<[Piece]> = all
            .iter()
            .map(|held| self.piece(held, judge, ensure))
            .collect();
        if let Some((at, held)) = at {
            let common = Common {
                namespace: Arc::clone(namespace),
                held: Arc::clone(held),
                pieces: Arc::clone(&pieces),
                count: 1,
            };
            self.common.insert(at, common);
        } else {
            let find_lack = |held: &Held| ensure.find_lack(namespace, held);
            self.tallies
                .add((&namespace.name, 1), all, &pieces, find_lack);
        }
        pieces
    }

    fn piece(&mut self, held: &Held, judge: &Judge<'_>, ensure: &Ensure) -> Piece {
        let credential = self.credential(held, ensure);
        let look_again = judge.outlives_identity(held).into_iter().chain(end(held));
        self.view.look_again = look_again
            .filter(|until| *until > judge.now)
            .chain(self.view.look_again)
            .min();
        Piece {
            credential,
            stands: stands(held, judge.now),
        }
    }

    /// The place of the credential that belongs there, which is noted for its Registry.
    fn credential(&mut self, held: &Held, ensure: &Ensure) -> Option<usize> {
        let at = Arc::as_ptr(&held.supply).addr();
        if let Some((_, place)) = self.supplied.get(&at) {
            return *place;
        }
        let place = held.supply.source().map(|source| {
            let known = self.places.get(source).copied();
            known.unwrap_or_else(|| {
                let (life, principal) = ensure.life(source);
                self.view.credentials.push(life);
                self.principals.push(principal);
                self.sources.push(source.clone());
                self.places.insert(source.clone(), self.sources.len() - 1);
                self.sources.len() - 1
            })
        });
        if let Some(place) = place {
            self.tallies.add_credential(&held.grant.registry, place);
        }
        self.supplied.insert(at, (Arc::clone(&held.supply), place));
        place
    }

    /// Adds a pull secret that holds nothing but what belongs there no more.
    fn add_surplus(&mut self, place: Place, keys: Vec<String>, judge: &Judge<'_>) {
        self.view.removals.secrets += 1;
        let (keys, why) = if place.namespace.mode == InjectMode::Off {
            // Nothing of Registries decides this: the namespace does not want it.
            (keys, Some(Surplus::Found))
        } else if keys.is_empty() {
            (keys, judge.knows_all.then_some(Surplus::Found))
        } else {
            judge.of_keys(&place.namespace.labels, &place.secret, &keys)
        };
        self.held.push(Arc::default());
        self.view.secrets.push(Holding {
            surplus: why,
            ..Holding::default()
        });
        self.secrets.push(place);
        self.surplus.push(keys);
    }
}
