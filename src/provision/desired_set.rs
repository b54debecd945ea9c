//! What there is to be written for all grants of one secret, worked out once for all namespaces of the same grants, and anew when its
//! credential or its source Secret changes.

use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::bounded_map::BoundedMap;
use super::changes::{Change, Cursor};
use super::desired::Desired;
use super::grant_coverage::{GrantCoverage, KeyCoverage};
use super::ports::Credentials;
use super::state::{Observed, State};
use super::superseded_logins::SupersededLogins;
use super::tenant_identity;
use crate::names::ObjectName;
use crate::registry::{CredentialSource, Grant};

/// So many sets of grants are remembered before those that nobody uses any more are forgotten: most namespaces have one of a few.
const SETS: usize = 1024;

/// The grants of one secret.
pub(super) type SecretGrants = Arc<[Arc<Grant>]>;

/// What there is for each grant of one secret.
pub(super) struct DesiredSet {
    pub(super) grants: SecretGrants,
    /// One for each grant; `None` where it is another one in each namespace.
    pub(super) all: Vec<Option<Arc<Desired>>>,
    /// The coverage of a secret that holds all of it; `None` where that differs per namespace, or something is missing.
    good: Option<Arc<[GrantCoverage]>>,
    /// How many entries there are in all.
    pub(super) entries: usize,
}

impl DesiredSet {
    fn new(grants: &SecretGrants, all: Vec<Option<Arc<Desired>>>) -> Self {
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

    /// Whether it still is what there is.
    fn is_current(&self) -> bool {
        self.all.iter().flatten().all(|one| one.is_current())
    }

    /// The coverage of a secret that holds all of it, if this one does.
    pub(super) fn find_complete(&self, observed: &Observed) -> Option<&Arc<[GrantCoverage]>> {
        let good = self.good.as_ref()?;
        let holds_all = good.iter().all(|covered| covered.desired.is_in(observed));
        let is_readable = |covered: &GrantCoverage| observed.is_readable_as(covered.grant.format);
        (observed.intact && holds_all && good.iter().all(is_readable)).then_some(good)
    }
}

/// Where to look what there is.
#[derive(Clone, Copy)]
pub(super) struct Sources<'s> {
    pub(super) state: &'s State,
    pub(super) credentials: &'s dyn Credentials,
    pub(super) history: &'s SupersededLogins,
}

/// What decides what there is to be written.
#[derive(PartialEq, Eq, Hash)]
enum Dependency {
    /// The stored credential of a source, by its canonical text.
    Credential(String),
    /// A source Secret.
    Secret(ObjectName),
}

/// What there is for all sets of grants.
#[derive(Default)]
pub(super) struct DesiredSets(Mutex<Sets>);

#[derive(Default)]
struct Sets {
    /// By the grants themselves: the same ones of other Registries are the same.
    by_grants: BoundedMap<SecretGrants, Arc<DesiredSet>>,
    /// Who depends on what. Nobody changes what is not here meanwhile: all is worked out under the lock.
    dependents: BoundedMap<Dependency, Vec<Weak<Desired>>>,
    credentials: Cursor,
    state: Cursor,
}

impl DesiredSets {
    /// Notes what is out of date by now.
    pub(super) fn update(&self, sources: Sources<'_>) {
        self.0.lock().update(sources);
    }

    /// What there is now for these grants.
    pub(super) fn find(&self, grants: &SecretGrants, sources: Sources<'_>) -> Arc<DesiredSet> {
        let mut sets = self.0.lock();
        sets.update(sources);
        let known = sets.by_grants.entries.get(grants).cloned();
        if let Some(known) = &known
            && known.is_current()
        {
            return Arc::clone(known);
        }
        let known = known.as_ref();
        let grants = known.map_or(grants, |known| &known.grants);
        let all = grants.iter().enumerate().map(|(place, grant)| {
            if tenant_identity::unbound(grant).is_some() {
                return None;
            }
            let one = known.and_then(|known| known.all[place].as_ref());
            let one = one.filter(|one| one.is_current()).map(Arc::clone);
            Some(one.unwrap_or_else(|| sets.work_out(grant, sources)))
        });
        let set = Arc::new(DesiredSet::new(grants, all.collect()));
        let is_used = |_: &SecretGrants, set: &Arc<DesiredSet>| Arc::strong_count(set) > 1;
        sets.by_grants.evict_unused(SETS, is_used);
        let grants = Arc::clone(grants);
        sets.by_grants.entries.insert(grants, Arc::clone(&set));
        set
    }

    /// What there is now for one grant that is bound to a namespace.
    pub(super) fn find_bound(&self, grant: &Grant, sources: Sources<'_>) -> Arc<Desired> {
        let mut sets = self.0.lock();
        sets.update(sources);
        sets.work_out(grant, sources)
    }
}

impl Sets {
    fn update(
        &mut self,
        Sources {
            state, credentials, ..
        }: Sources<'_>,
    ) {
        let dependents = &mut self.dependents.entries;
        let mut outdate = |dependency: &Dependency| {
            let all = dependents.remove(dependency).unwrap_or_default();
            all.iter().for_each(outdate_one);
        };
        let credentials = credentials.changes();
        let mut knows = credentials.is_at_end(self.credentials)
            || credentials.read(&mut self.credentials, |source| {
                outdate(&Dependency::Credential(source.clone()));
            });
        knows &= state.changes().read(&mut self.state, |change| {
            if let Change::Source(secret) = change {
                outdate(&Dependency::Secret(secret.clone()));
            }
        });
        if !knows {
            let all = std::mem::take(&mut self.dependents);
            all.entries.values().flatten().for_each(outdate_one);
        }
    }

    /// Works it out, and notes what it depends on.
    fn work_out(&mut self, grant: &Grant, sources: Sources<'_>) -> Arc<Desired> {
        let Sources {
            state,
            credentials,
            history,
        } = sources;
        let desired = Arc::new(Desired::of(grant, state, credentials, history));
        let depends_on = match &grant.source {
            CredentialSource::Minted(source) => {
                let secret = source.secret().cloned().map(Dependency::Secret);
                [Some(Dependency::Credential(source.canonical())), secret]
            }
            CredentialSource::Static(source) => {
                [Some(Dependency::Secret(source.secret.clone())), None]
            }
        };
        let is_used =
            |_: &Dependency, all: &Vec<Weak<Desired>>| all.iter().any(|one| one.strong_count() > 0);
        self.dependents.evict_unused(SETS, is_used);
        for dependency in depends_on.into_iter().flatten() {
            let all = self.dependents.entries.entry(dependency).or_default();
            // Twice as many as before: some may be gone.
            if all.len() == all.capacity() {
                all.retain(|one| one.strong_count() > 0);
            }
            all.push(Arc::downgrade(&desired));
        }
        desired
    }
}

fn outdate_one(one: &Weak<Desired>) {
    if let Some(one) = one.upgrade() {
        one.outdate();
    }
}
