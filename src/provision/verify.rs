//! The warm check: what a namespace's pull secret is worth, worked out once per change and then looked up.

use std::borrow::Cow;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::access::Credentials;
use super::account::Known;
use super::history::History;
use super::lock::lock;
use super::state::{Seen, State};
use super::supply::{Remembered, Supplies, Supply};
use super::{Coverage, InjectMode, Namespace, bind, surplus};
use crate::credential::{Credential, Freshness, freshness};
use crate::names::ObjectName;
use crate::registry::Grant;

/// How often work in the background is begun for one namespace at most.
const NUDGE_EVERY: Duration = Duration::from_secs(30);

/// What one pull secret of a namespace is worth, as long as nothing changed.
pub(super) struct Verified {
    namespace: Arc<Namespace>,
    seen: Option<Arc<Seen>>,
    moment: Moment,
    foreign: bool,
    complete: bool,
    /// The very same for each secret in which all of the same grants stands.
    held: Arc<[Held]>,
    /// Whether that is so.
    is_common: bool,
    /// What stands under keys that belong to no grant.
    surplus: Vec<String>,
    /// The ServiceAccounts that were relied on.
    followed: Vec<Arc<Known>>,
    nudged: Mutex<Option<Instant>>,
}

/// The state that something was worked out in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Moment {
    state: u64,
    credentials: u64,
}

impl Moment {
    pub(super) fn of(state: &State, credentials: &dyn Credentials) -> Self {
        Self {
            state: state.generation(),
            credentials: credentials.changes(),
        }
    }
}

/// One grant, and what stands under its keys.
pub(super) struct Held {
    /// The grant, as it was before it was bound to the namespace.
    pub(super) grant: Arc<Grant>,
    /// What there is to be written.
    pub(super) supply: Arc<Supply>,
    pub(super) standing: Standing,
}

/// What stands under the keys of one grant.
#[derive(Clone)]
pub(super) enum Standing {
    /// What must stand there.
    Good,
    /// An earlier credential of the same source.
    Earlier(Arc<Credential>),
    /// Nothing, or something that we do not know.
    Unknown,
}

/// What the warm check found.
pub(super) struct Found {
    pub(super) coverage: Coverage,
    /// Whether there is something to do in the background.
    pub(super) nudge: bool,
}

impl Verified {
    pub(super) fn holds(
        &self,
        namespace: &Arc<Namespace>,
        seen: Option<&Arc<Seen>>,
        moment: Moment,
    ) -> bool {
        let same_secret = match (&self.seen, seen) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (one, other) => one.is_none() && other.is_none(),
        };
        let same = Arc::ptr_eq(&self.namespace, namespace)
            || (self.namespace.uid == namespace.uid && self.namespace.labels == namespace.labels);
        self.moment == moment && same_secret && same
    }

    /// Whether the Secret is there and not ours.
    pub(super) fn is_foreign(&self) -> bool {
        self.foreign
    }

    /// What belongs into the secret, and how it stands.
    pub(super) fn held(&self) -> &Arc<[Held]> {
        &self.held
    }

    /// What belongs into the secret, where all of it stands there: the very same for all such secrets of the same grants.
    pub(super) fn common(&self) -> Option<&Arc<[Held]>> {
        self.is_common.then_some(&self.held)
    }

    /// The keys of what is in the secret and belongs to no Registry that serves the namespace.
    pub(super) fn surplus(&self) -> &[String] {
        &self.surplus
    }

    /// Whether anything stands under one of these keys.
    pub(super) fn holds_any(&self, keys: &[String]) -> bool {
        let seen = self.seen.as_ref();
        seen.is_some_and(|seen| keys.iter().any(|key| seen.digests.contains_key(key)))
    }

    /// What is known of the Secret.
    pub(super) fn seen(&self) -> Option<&Arc<Seen>> {
        self.seen.as_ref()
    }

    /// Whether the Secret is there and ours.
    pub(super) fn is_there(&self) -> bool {
        self.seen.as_ref().is_some_and(|seen| seen.ours)
    }

    /// Whether a good login stands under each of `keys` at `now`.
    pub(super) fn check(&self, keys: &[&str], now: Timestamp) -> Found {
        if self.foreign {
            return Found {
                coverage: Coverage::Foreign,
                nudge: false,
            };
        }
        let mut nudge = self.namespace.mode == InjectMode::All && !self.complete
            || self.followed.iter().any(|known| known.is_old());
        for key in keys {
            let mut held = self.held.iter();
            let held = held.find(|held| held.grant.keys.iter().any(|held| held == key));
            match held.map_or(Freshness::Spent, |held| held.freshness(now)) {
                Freshness::Fresh => {}
                Freshness::Renewable => nudge = true,
                Freshness::Spent => {
                    return Found {
                        coverage: Coverage::Missing,
                        nudge: false,
                    };
                }
            }
        }
        Found {
            coverage: Coverage::Covered,
            nudge,
        }
    }

    /// Whether work in the background may begin now.
    pub(super) fn may_nudge(&self) -> bool {
        let mut nudged = lock(&self.nudged);
        if nudged.is_some_and(|last| last.elapsed() < NUDGE_EVERY) {
            return false;
        }
        *nudged = Some(Instant::now());
        true
    }
}

impl Held {
    /// How good what stands there is.
    fn freshness(&self, now: Timestamp) -> Freshness {
        match &self.standing {
            Standing::Good => match self.supply.credential() {
                None => Freshness::Fresh,
                Some(credential) => freshness(credential, now),
            },
            Standing::Earlier(credential) => match freshness(credential, now) {
                Freshness::Spent => Freshness::Spent,
                Freshness::Fresh | Freshness::Renewable => Freshness::Renewable,
            },
            Standing::Unknown => Freshness::Spent,
        }
    }
}

/// Works out what a pull secret of a namespace is worth.
pub(super) fn verify(
    namespace: &Arc<Namespace>,
    secret: &ObjectName,
    seen: Option<Arc<Seen>>,
    state: &State,
    credentials: &dyn Credentials,
    (history, remembered): (&History, &Remembered),
) -> Verified {
    let moment = Moment::of(state, credentials);
    let grants = state.registries().grants_of(&namespace.labels, secret);
    let supplies = remembered.find_or(moment, &grants, || {
        Supplies::of(&grants, state, credentials, history)
    });
    let good = seen.as_ref().and_then(|seen| supplies.find_good(seen));
    let is_common = good.is_some();
    let mut followed = Vec::new();
    let held = good.map_or_else(
        || {
            let hold = |(grant, supply): (&Arc<Grant>, &Option<Arc<Supply>>)| {
                let bind = || {
                    let unknown = followed.len();
                    let bound = find_bound(grant, namespace, state, &mut followed);
                    Arc::new(match bound {
                        Some(bound) => Supply::of(&bound, state, credentials, history),
                        // Its ServiceAccount was never read; of one that was, there is nothing to be had.
                        None => Supply::unknown(followed.len() == unknown),
                    })
                };
                let supply = supply.as_ref().map_or_else(bind, Arc::clone);
                Held {
                    standing: stand(grant, &supply, seen.as_deref(), history),
                    grant: Arc::clone(grant),
                    supply,
                }
            };
            grants.iter().zip(&supplies.all).map(hold).collect()
        },
        Arc::clone,
    );
    let there = seen.iter().flat_map(|seen| seen.digests.keys());
    let surplus = match &seen {
        Some(seen) if is_common && seen.digests.len() == supplies.entries => Vec::new(),
        _ => surplus::find(there, &grants, credentials, state),
    };
    Verified {
        namespace: Arc::clone(namespace),
        surplus,
        moment,
        foreign: seen.as_ref().is_some_and(|seen| !seen.ours),
        seen,
        complete: held
            .iter()
            .all(|held| matches!(held.standing, Standing::Good)),
        held,
        is_common,
        followed,
        nudged: Mutex::new(None),
    }
}

/// The grant as it is bound to what is known of its ServiceAccount, if it is to be bound at all.
fn find_bound<'g>(
    grant: &'g Grant,
    namespace: &Namespace,
    state: &State,
    followed: &mut Vec<Arc<Known>>,
) -> Option<Cow<'g, Grant>> {
    let Some(name) = bind::unbound(grant) else {
        return Some(Cow::Borrowed(grant));
    };
    let known = state.accounts.get(&namespace.name, name)?;
    let bound = bind::bind(grant, namespace, known.account.as_deref());
    followed.push(known);
    bound.ok().map(Cow::Owned)
}

fn stand(grant: &Grant, supply: &Supply, seen: Option<&Seen>, history: &History) -> Standing {
    let Some((seen, origin)) = seen.filter(|seen| seen.intact).zip(supply.origin()) else {
        return Standing::Unknown;
    };
    if supply.stands_in(seen) {
        return Standing::Good;
    }
    let earlier = |key: &String| history.find(origin, seen.digests.get(key)?);
    let earlier: Option<Vec<_>> = grant.keys.iter().map(earlier).collect();
    earlier
        .and_then(|credentials| {
            credentials
                .into_iter()
                .min_by_key(|credential| credential.expires_at)
        })
        .map_or(Standing::Unknown, Standing::Earlier)
}
