//! Coverage: how good the content of a namespace's pull secret is, computed once per change and then cached.

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::account_cache::CachedAccount;
use super::desired::Desired;
use super::desired_set::{DesiredSet, DesiredSets, SecretGrants, Sources};
use super::digest::Digest;
use super::grant_coverage::{GrantCoverage, KeyCoverage};
use super::ports::Credentials;
use super::state::{Observed, State};
use super::superseded_logins::SupersededLogins;
use super::{Coverage, InjectMode, Namespace, shared_hosts, tenant_identity, unwanted_keys};
use crate::credential::Freshness;
use crate::names::ObjectName;
use crate::registry::{CredentialSource, Grant};

/// How often work in the background is begun for one namespace at most.
const RENEW_INTERVAL: Duration = Duration::from_secs(30);

/// What one pull secret of a namespace is worth, as long as nothing changed.
pub(super) struct SecretCoverage {
    namespace: Arc<Namespace>,
    observed: Option<Arc<Observed>>,
    /// What belongs into it.
    set: Arc<DesiredSet>,
    foreign: bool,
    complete: bool,
    /// Shared by all secrets that hold all of the same grants.
    covered: Arc<[GrantCoverage]>,
    /// Whether that is so.
    is_shared: bool,
    /// The entries under keys that no grant wants.
    stale: Vec<String>,
    /// The ServiceAccounts that were relied on.
    accounts: Vec<(ObjectName, Arc<CachedAccount>)>,
    checked: Mutex<Checked>,
    /// The hosts for which several logins belong into it, once somebody asked.
    shared_hosts: OnceLock<Vec<String>>,
}

/// When a coverage was found to hold, and when it was acted upon.
struct Checked {
    at: Stamp,
    last_renewal: Option<Instant>,
}

/// Numbers of which one differs whenever something changed that concerns more than one namespace.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    registries: u64,
    state: u64,
    credentials: u64,
}

impl Stamp {
    pub(super) fn of(state: &State, credentials: &dyn Credentials) -> Self {
        Self {
            registries: state.spec_count(),
            state: state.generation(),
            credentials: credentials.changes().count(),
        }
    }
}

/// What the warm check found.
pub(super) struct CoverageCheck {
    pub(super) coverage: Coverage,
    /// Whether there is something to do in the background.
    pub(super) wants_renewal: bool,
}

impl SecretCoverage {
    /// Whether it is about this namespace as it is, and this state of the Secret.
    pub(super) fn is_about(
        &self,
        namespace: &Arc<Namespace>,
        observed: Option<&Arc<Observed>>,
    ) -> bool {
        let same_secret = match (&self.observed, observed) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (one, other) => one.is_none() && other.is_none(),
        };
        let same = Arc::ptr_eq(&self.namespace, namespace)
            || (self.namespace.uid == namespace.uid && self.namespace.labels == namespace.labels);
        same_secret && same
    }

    /// Whether it still holds. Nothing changed at all, nearly always; else it is seen whether what changed concerns this secret.
    pub(super) fn holds(
        &self,
        secret: &str,
        stamp: Stamp,
        sources: Sources<'_>,
        sets: &DesiredSets,
    ) -> bool {
        let before = self.checked.lock().at;
        if before == stamp {
            return true;
        }
        sets.update(sources);
        let is_current = |covered: &GrantCoverage| covered.desired.is_current();
        let is_same = |(name, known): &(ObjectName, Arc<CachedAccount>)| {
            let now = sources.state.accounts.get(&self.namespace.name, name);
            now.is_some_and(|now| Arc::ptr_eq(&now, known))
        };
        let is_read = |covered: &GrantCoverage| {
            let name = tenant_identity::unbound(&covered.grant);
            let name = name.filter(|_| covered.desired.is_unread());
            name.is_none_or(|name| {
                let known = sources.state.accounts.get(&self.namespace.name, name);
                known.is_none()
            })
        };
        let holds = self
            .covered
            .iter()
            .all(|one| is_current(one) && is_read(one))
            && self.accounts.iter().all(is_same)
            && (before.registries == stamp.registries
                || *sources
                    .state
                    .registries()
                    .grants_of(&self.namespace.labels, secret)
                    == *self.set.grants);
        if holds {
            self.checked.lock().at = stamp;
        }
        holds
    }

    /// What identifies the grants that the secret shares with others.
    pub(super) fn group(&self) -> &SecretGrants {
        &self.set.grants
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
    pub(super) fn holds_any<'k>(&self, mut keys: impl Iterator<Item = &'k String>) -> bool {
        let observed = self.observed.as_ref();
        observed.is_some_and(|observed| keys.any(|key| observed.digests.contains_key(key)))
    }

    /// Whether the secret holds anything of a Registry, good or not.
    pub(super) fn holds_any_of(&self, registry: &str) -> bool {
        let covered = self.covered.iter();
        let mut keys = covered
            .filter(|covered| *covered.grant.registry == *registry)
            .flat_map(|covered| covered.grant.all_keys());
        let there = || self.observed.iter().flat_map(|one| one.digests.keys());
        // A fixed login may be under narrower keys of its own.
        let is_within = |key: &str, there: &str| {
            let rest = there.strip_prefix(key);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        keys.any(|key| there().any(|there| is_within(key, there)))
    }

    /// The hosts for which several logins belong into it.
    pub(super) fn shared_hosts(&self) -> &[String] {
        self.shared_hosts.get_or_init(|| {
            let covered = self.covered.iter();
            let entries = covered.filter_map(|one| one.desired.entries()).flatten();
            shared_hosts::find(entries.map(|(key, digest)| (key, digest)))
        })
    }

    /// What is known of the Secret.
    pub(super) fn observed(&self) -> Option<&Arc<Observed>> {
        self.observed.as_ref()
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
            || self.accounts.iter().any(|(_, known)| known.is_stale());
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
        let mut checked = self.checked.lock();
        if checked
            .last_renewal
            .is_some_and(|last| last.elapsed() < RENEW_INTERVAL)
        {
            return false;
        }
        checked.last_renewal = Some(Instant::now());
        true
    }
}

/// Works out what a pull secret of a namespace is worth.
pub(super) fn compute_coverage(
    namespace: &Arc<Namespace>,
    secret: &ObjectName,
    observed: Option<Arc<Observed>>,
    sources: Sources<'_>,
    sets: &DesiredSets,
) -> SecretCoverage {
    let Sources { state, history, .. } = sources;
    let at = Stamp::of(state, sources.credentials);
    let grants = state.registries().grants_of(&namespace.labels, secret);
    let set = sets.find(&grants, sources);
    let find_complete = |observed: &Arc<Observed>| set.find_complete(observed);
    let good = observed.as_ref().and_then(find_complete);
    let is_shared = good.is_some();
    let mut accounts = Vec::new();
    let covered = good.map_or_else(
        || {
            let hold = |(grant, desired): (&Arc<Grant>, &Option<Arc<Desired>>)| {
                let bind = || {
                    let known = accounts.len();
                    let bound = find_bound(grant, namespace, state, &mut accounts);
                    // Else its ServiceAccount was never read, or is of no use as it was.
                    let useless = accounts.get(known);
                    let useless = || useless.map(|(_, known)| Arc::clone(known));
                    let unknown = || Arc::new(Desired::unknown(useless()));
                    bound.map_or_else(unknown, |bound| sets.find_bound(&bound, sources))
                };
                let desired = desired.as_ref().map_or_else(bind, Arc::clone);
                GrantCoverage {
                    coverage: key_coverage(grant, &desired, observed.as_deref(), history),
                    grant: Arc::clone(grant),
                    desired,
                }
            };
            set.grants.iter().zip(&set.all).map(hold).collect()
        },
        Arc::clone,
    );
    let stale = find_stale(observed.as_deref(), is_shared, &set, sources);
    let is_current = |covered: &GrantCoverage| matches!(covered.coverage, KeyCoverage::Current);
    SecretCoverage {
        namespace: Arc::clone(namespace),
        stale,
        foreign: observed.as_ref().is_some_and(|observed| !observed.ours),
        observed,
        set,
        complete: covered.iter().all(is_current),
        covered,
        is_shared,
        accounts,
        checked: Mutex::new(Checked {
            at,
            last_renewal: None,
        }),
        shared_hosts: OnceLock::new(),
    }
}

/// The keys in the secret that no grant wants: none where it holds all that is wanted, and no more.
fn find_stale(
    observed: Option<&Observed>,
    is_shared: bool,
    set: &DesiredSet,
    sources: Sources<'_>,
) -> Vec<String> {
    let holds_more = |observed: &&Observed| !is_shared || observed.digests.len() != set.entries;
    let others = observed.into_iter().filter(holds_more);
    let keys = others.flat_map(|observed| observed.digests.keys());
    unwanted_keys::find(keys, &set.grants, sources.credentials, sources.state)
}

/// The grant as it is bound to what is known of its ServiceAccount, if it is to be bound at all.
fn find_bound<'g>(
    grant: &'g Grant,
    namespace: &Namespace,
    state: &State,
    accounts: &mut Vec<(ObjectName, Arc<CachedAccount>)>,
) -> Option<Cow<'g, Grant>> {
    let Some(name) = tenant_identity::unbound(grant) else {
        return Some(Cow::Borrowed(grant));
    };
    let known = state.accounts.get(&namespace.name, name)?;
    let bound = tenant_identity::bind(grant, namespace, known.account.as_deref());
    accounts.push((name.clone(), known));
    bound.ok().map(Cow::Owned)
}

fn key_coverage(
    grant: &Grant,
    desired: &Desired,
    observed: Option<&Observed>,
    history: &SupersededLogins,
) -> KeyCoverage {
    let Some((observed, origin)) = observed
        .filter(|observed| observed.is_readable_as(grant.format))
        .zip(desired.origin())
    else {
        return KeyCoverage::Unknown;
    };
    if desired.is_in(observed) {
        return KeyCoverage::Current;
    }
    let digests: Option<Vec<_>> = grant
        .all_keys()
        .map(|key| observed.digests.get(key))
        .collect();
    let Some(digests) = digests else {
        return KeyCoverage::Unknown;
    };
    if matches!(origin, CredentialSource::Static(_)) {
        let is_earlier = |digest: &&Digest| history.held(origin, digest);
        return if digests.iter().all(is_earlier) {
            KeyCoverage::PreviousLogin
        } else {
            KeyCoverage::Unknown
        };
    }
    let earlier = digests.iter().map(|digest| history.find(origin, digest));
    let earlier: Option<Vec<_>> = earlier.collect();
    earlier
        .and_then(|credentials| {
            credentials
                .into_iter()
                .min_by_key(|credential| credential.expires_at)
        })
        .map_or(KeyCoverage::Unknown, KeyCoverage::Previous)
}
