//! What there is to be written for all grants of one secret, worked out once for all namespaces of the same grants.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use super::cache_version::CacheVersion;
use super::desired::Desired;
use super::grant_coverage::{GrantCoverage, KeyCoverage};
use super::lock::lock;
use super::ports::Credentials;
use super::state::{Observed, State};
use super::superseded_logins::SupersededLogins;
use super::tenant_identity;
use crate::registry::Grant;

/// How many sets of grants are remembered: most namespaces have one of a few.
const SETS: usize = 1024;

/// The grants of one secret.
pub(super) type SecretGrants = Arc<[Arc<Grant>]>;

/// What there is for each grant of one secret.
pub(super) struct DesiredSet {
    /// They are what it is remembered by.
    grants: SecretGrants,
    /// One for each grant; `None` where it is another one in each namespace.
    pub(super) all: Vec<Option<Arc<Desired>>>,
    /// The coverage of a secret that holds all of it; `None` where that differs per namespace, or something is missing.
    pub(super) good: Option<Arc<[GrantCoverage]>>,
    /// How many entries there are in all.
    pub(super) entries: usize,
}

impl DesiredSet {
    /// What memory knows of these grants.
    pub(super) fn of(
        grants: &SecretGrants,
        state: &State,
        credentials: &dyn Credentials,
        history: &SupersededLogins,
    ) -> Self {
        let find = |grant: &Arc<Grant>| {
            let is_shared = tenant_identity::unbound(grant).is_none();
            is_shared.then(|| Arc::new(Desired::of(grant, state, credentials, history)))
        };
        let all: Vec<Option<Arc<Desired>>> = grants.iter().map(find).collect();
        let covered = |(grant, desired): (&Arc<Grant>, &Option<Arc<Desired>>)| {
            let desired = desired
                .as_ref()
                .filter(|desired| desired.entries().is_some())?;
            Some(GrantCoverage {
                grant: Arc::clone(grant),
                desired: Arc::clone(desired),
                coverage: KeyCoverage::Current,
            })
        };
        let good = grants.iter().zip(&all).map(covered).collect();
        let entries = all.iter().flatten().filter_map(|one| one.entries());
        Self {
            grants: Arc::clone(grants),
            entries: entries.map(Vec::len).sum(),
            all,
            good,
        }
    }

    /// The coverage of a secret that holds all of it, if this one does.
    pub(super) fn find_complete(&self, observed: &Observed) -> Option<&Arc<[GrantCoverage]>> {
        let good = self.good.as_ref()?;
        let all_stand = good.iter().all(|covered| covered.desired.is_in(observed));
        (observed.intact && all_stand).then_some(good)
    }
}

/// The supplies of all sets of grants, as long as nothing changes.
#[derive(Default)]
pub(super) struct DesiredCache(Mutex<DesiredByGrants>);

#[derive(Default)]
struct DesiredByGrants {
    version: Option<CacheVersion>,
    /// By the address of the grants, which are kept with what is known of them: so it stays theirs.
    by_grants: HashMap<usize, Arc<DesiredSet>>,
}

impl DesiredCache {
    /// The supplies of these grants at this moment, by `work` where they are not known.
    pub(super) fn get_or_insert_with(
        &self,
        version: CacheVersion,
        grants: &SecretGrants,
        work: impl FnOnce() -> DesiredSet,
    ) -> Arc<DesiredSet> {
        if grants.is_empty() {
            return Arc::new(work());
        }
        let address = Arc::as_ptr(grants).cast::<()>().addr();
        {
            let mut sets = lock(&self.0);
            if sets.version != Some(version) || sets.by_grants.len() >= SETS {
                sets.version = Some(version);
                sets.by_grants = HashMap::new();
            }
            let found = sets.by_grants.get(&address);
            if let Some(found) = found.filter(|found| Arc::ptr_eq(&found.grants, grants)) {
                return Arc::clone(found);
            }
        }
        let made = Arc::new(work());
        let mut sets = lock(&self.0);
        if sets.version == Some(version) {
            sets.by_grants.insert(address, Arc::clone(&made));
        }
        drop(sets);
        made
    }
}
