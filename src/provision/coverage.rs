//! Coverage: how good the content of a namespace's pull secret is, computed once per change and then cached.

use std::borrow::Cow;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::account_cache::CachedAccount;
use super::cache_version::CacheVersion;
use super::desired::Desired;
use super::desired_set::{DesiredCache, DesiredSet};
use super::grant_coverage::{GrantCoverage, KeyCoverage};
use super::lock::lock;
use super::ports::Credentials;
use super::state::{Observed, State};
use super::superseded_logins::SupersededLogins;
use super::{Coverage, InjectMode, Namespace, tenant_identity, unwanted_keys};
use crate::credential::Freshness;
use crate::names::ObjectName;
use crate::registry::Grant;

/// How often work in the background is begun for one namespace at most.
const RENEW_INTERVAL: Duration = Duration::from_secs(30);

/// What one pull secret of a namespace is worth, as long as nothing changed.
pub(super) struct SecretCoverage {
    namespace: Arc<Namespace>,
    observed: Option<Arc<Observed>>,
    version: CacheVersion,
    foreign: bool,
    complete: bool,
    /// Shared by all secrets that hold all of the same grants.
    covered: Arc<[GrantCoverage]>,
    /// Whether that is so.
    is_shared: bool,
    /// The entries under keys that no grant wants.
    stale: Vec<String>,
    /// The ServiceAccounts that were relied on.
    accounts: Vec<Arc<CachedAccount>>,
    last_renewal: Mutex<Option<Instant>>,
}

/// What the warm check found.
pub(super) struct CoverageCheck {
    pub(super) coverage: Coverage,
    /// Whether there is something to do in the background.
    pub(super) wants_renewal: bool,
}

impl SecretCoverage {
    pub(super) fn holds(
        &self,
        namespace: &Arc<Namespace>,
        observed: Option<&Arc<Observed>>,
        version: CacheVersion,
    ) -> bool {
        let same_secret = match (&self.observed, observed) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (one, other) => one.is_none() && other.is_none(),
        };
        let same = Arc::ptr_eq(&self.namespace, namespace)
            || (self.namespace.uid == namespace.uid && self.namespace.labels == namespace.labels);
        self.version == version && same_secret && same
    }

    /// Whether the Secret is there and not ours.
    pub(super) fn is_foreign(&self) -> bool {
        self.foreign
    }

    /// The grants that belong in the secret, and their coverage.
    pub(super) fn covered(&self) -> &Arc<[GrantCoverage]> {
        &self.covered
    }

    /// The shared coverage, if the secret holds all of its grants: the same one for all such secrets of the same grants.
    pub(super) fn shared(&self) -> Option<&Arc<[GrantCoverage]>> {
        self.is_shared.then_some(&self.covered)
    }

    /// The keys of what is in the secret and belongs to no Registry that serves the namespace.
    pub(super) fn stale(&self) -> &[String] {
        &self.stale
    }

    /// Whether the secret holds any of these keys.
    pub(super) fn holds_any(&self, keys: &[String]) -> bool {
        let observed = self.observed.as_ref();
        observed.is_some_and(|observed| keys.iter().any(|key| observed.digests.contains_key(key)))
    }

    /// What is known of the Secret.
    pub(super) fn observed(&self) -> Option<&Arc<Observed>> {
        self.observed.as_ref()
    }

    /// Whether the Secret is there and ours.
    pub(super) fn is_there(&self) -> bool {
        self.observed.as_ref().is_some_and(|observed| observed.ours)
    }

    /// Whether there is a good login under each of `keys` at `now`.
    pub(super) fn check(&self, keys: &[&str], now: Timestamp) -> CoverageCheck {
        if self.foreign {
            return CoverageCheck {
                coverage: Coverage::Foreign,
                wants_renewal: false,
            };
        }
        let mut wants_renewal = self.namespace.mode == InjectMode::All && !self.complete
            || self.accounts.iter().any(|known| known.is_stale());
        for key in keys {
            let mut covered = self.covered.iter();
            let covered =
                covered.find(|covered| covered.grant.keys.iter().any(|covered| covered == key));
            match covered.map_or(Freshness::Spent, |covered| covered.freshness(now)) {
                Freshness::Fresh => {}
                Freshness::Renewable => wants_renewal = true,
                Freshness::Spent => {
                    return CoverageCheck {
                        coverage: Coverage::Missing,
                        wants_renewal: false,
                    };
                }
            }
        }
        CoverageCheck {
            coverage: Coverage::Covered,
            wants_renewal,
        }
    }

    /// Whether work in the background may begin now.
    pub(super) fn may_renew(&self) -> bool {
        let mut last_renewal = lock(&self.last_renewal);
        if last_renewal.is_some_and(|last| last.elapsed() < RENEW_INTERVAL) {
            return false;
        }
        *last_renewal = Some(Instant::now());
        true
    }
}

/// Works out what a pull secret of a namespace is worth.
pub(super) fn compute_coverage(
    namespace: &Arc<Namespace>,
    secret: &ObjectName,
    observed: Option<Arc<Observed>>,
    state: &State,
    credentials: &dyn Credentials,
    (history, remembered): (&SupersededLogins, &DesiredCache),
) -> SecretCoverage {
    let version = CacheVersion::of(state, credentials);
    let grants = state.registries().grants_of(&namespace.labels, secret);
    let desired_set = remembered.get_or_insert_with(version, &grants, || {
        DesiredSet::of(&grants, state, credentials, history)
    });
    let find_complete = |observed: &Arc<Observed>| desired_set.find_complete(observed);
    let good = observed.as_ref().and_then(find_complete);
    let is_shared = good.is_some();
    let mut accounts = Vec::new();
    let covered = good.map_or_else(
        || {
            let hold = |(grant, desired): (&Arc<Grant>, &Option<Arc<Desired>>)| {
                let bind = || {
                    let unknown = accounts.len();
                    let bound = find_bound(grant, namespace, state, &mut accounts);
                    Arc::new(match bound {
                        Some(bound) => Desired::of(&bound, state, credentials, history),
                        // Its ServiceAccount was never read; one that was read has no credential.
                        None => Desired::unknown(accounts.len() == unknown),
                    })
                };
                let desired = desired.as_ref().map_or_else(bind, Arc::clone);
                GrantCoverage {
                    coverage: key_coverage(grant, &desired, observed.as_deref(), history),
                    grant: Arc::clone(grant),
                    desired,
                }
            };
            grants.iter().zip(&desired_set.all).map(hold).collect()
        },
        Arc::clone,
    );
    let holds_just_that =
        |observed: &Arc<Observed>| is_shared && observed.digests.len() == desired_set.entries;
    let others = observed.iter().filter(|one| !holds_just_that(one));
    let keys = others.flat_map(|observed| observed.digests.keys());
    let unwanted = unwanted_keys::find(keys, &grants, credentials, state);
    let is_current = |covered: &GrantCoverage| matches!(covered.coverage, KeyCoverage::Current);
    SecretCoverage {
        namespace: Arc::clone(namespace),
        stale: unwanted,
        version,
        foreign: observed.as_ref().is_some_and(|observed| !observed.ours),
        observed,
        complete: covered.iter().all(is_current),
        covered,
        is_shared,
        accounts,
        last_renewal: Mutex::new(None),
    }
}

/// The grant as it is bound to what is known of its ServiceAccount, if it is to be bound at all.
fn find_bound<'g>(
    grant: &'g Grant,
    namespace: &Namespace,
    state: &State,
    accounts: &mut Vec<Arc<CachedAccount>>,
) -> Option<Cow<'g, Grant>> {
    let Some(name) = tenant_identity::unbound(grant) else {
        return Some(Cow::Borrowed(grant));
    };
    let known = state.accounts.get(&namespace.name, name)?;
    let bound = tenant_identity::bind(grant, namespace, known.account.as_deref());
    accounts.push(known);
    bound.ok().map(Cow::Owned)
}

fn key_coverage(
    grant: &Grant,
    desired: &Desired,
    observed: Option<&Observed>,
    history: &SupersededLogins,
) -> KeyCoverage {
    let Some((observed, origin)) = observed
        .filter(|observed| observed.intact)
        .zip(desired.origin())
    else {
        return KeyCoverage::Unknown;
    };
    if desired.is_in(observed) {
        return KeyCoverage::Current;
    }
    let earlier = |key: &String| history.find(origin, observed.digests.get(key)?);
    let earlier: Option<Vec<_>> = grant.keys.iter().map(earlier).collect();
    earlier
        .and_then(|credentials| {
            credentials
                .into_iter()
                .min_by_key(|credential| credential.expires_at)
        })
        .map_or(KeyCoverage::Unknown, KeyCoverage::Previous)
}
