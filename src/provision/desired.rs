//! What there is to be written under the keys of each grant, worked out once for all namespaces of the same grants, and anew when its
//! credential or its source Secret changes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};

use jiff::Timestamp;

use super::bounded_map::BoundedMap;
use super::changes::{Change, Cursor};
use super::coverage::{GrantCoverage, KeyCoverage};
use super::lock::lock;
use super::ports::Credentials;
use super::secret::Digest;
use super::state::{Observed, State};
use super::superseded_logins::SupersededLogins;
use super::{grant_fetcher, tenant_identity};
use crate::credential::{Credential, Freshness, freshness};
use crate::names::ObjectName;
use crate::registry::source::MintSource;
use crate::registry::{CredentialSource, Grant};

/// So many sets of grants are remembered before those that nobody uses any more are forgotten: most namespaces have one of a few.
const SETS: usize = 1024;

/// The grants of one secret.
pub(super) type SecretGrants = Arc<[Arc<Grant>]>;

/// What there is to be written under the keys of one grant.
pub(super) struct Desired {
    /// Where it comes from; `None` where no ServiceAccount to bind it to is known.
    origin: Option<CredentialSource>,
    credential: Option<Arc<Credential>>,
    /// What it must hold; `None`: nothing that is known.
    entries: Option<Vec<(String, Digest)>>,
    /// Its source's own number.
    jitter: u8,
    /// Whether something has to be read first.
    is_unread: bool,
    /// Whether its credential or its source Secret is another one by now.
    is_outdated: AtomicBool,
}

impl Desired {
    /// Nothing is known, as long as nothing was read.
    pub(super) fn unknown(is_unread: bool) -> Self {
        Self {
            origin: None,
            credential: None,
            entries: None,
            jitter: 0,
            is_unread,
            is_outdated: AtomicBool::new(false),
        }
    }

    /// Where it comes from.
    pub(super) fn origin(&self) -> Option<&CredentialSource> {
        self.origin.as_ref()
    }

    /// Who mints it; `None` for a fixed login, and where no ServiceAccount to bind it to is known.
    pub(super) fn source(&self) -> Option<&MintSource> {
        match self.origin.as_ref()? {
            CredentialSource::Minted(source) => Some(source),
            CredentialSource::Static(_) => None,
        }
    }

    /// What spreads its renewal from others.
    pub(super) fn jitter(&self) -> u8 {
        self.jitter
    }

    /// The minted credential.
    pub(super) fn credential(&self) -> Option<&Arc<Credential>> {
        self.credential.as_ref()
    }

    /// Whether there is something good to be written.
    pub(super) fn is_available(&self, now: Timestamp) -> bool {
        match (&self.origin, &self.credential) {
            (None, _) => self.is_unread,
            (Some(CredentialSource::Static(_)), _) => self.entries.is_some(),
            (Some(CredentialSource::Minted(_)), None) => false,
            (Some(CredentialSource::Minted(_)), Some(credential)) => {
                freshness(credential, now) != Freshness::Spent
            }
        }
    }

    /// Whether the secret holds all of it.
    pub(super) fn is_in(&self, observed: &Observed) -> bool {
        self.entries.as_ref().is_some_and(|entries| {
            let mut entries = entries.iter();
            entries.all(|(key, digest)| observed.digests.get(key) == Some(digest))
        })
    }

    /// Whether a ServiceAccount has to be read before anything is known.
    pub(super) fn is_unread(&self) -> bool {
        self.is_unread
    }

    /// Whether it still is what there is to be written.
    pub(super) fn is_current(&self) -> bool {
        !self.is_outdated.load(Ordering::Acquire)
    }
}

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
                .filter(|desired| desired.entries.is_some())?;
            Some(GrantCoverage {
                grant: Arc::clone(grant),
                desired: Arc::clone(desired),
                coverage: KeyCoverage::Current,
            })
        };
        let good = grants.iter().zip(&all).map(covered).collect();
        let entries = all.iter().flatten().filter_map(|one| one.entries.as_ref());
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
        (observed.intact && holds_all).then_some(good)
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
        lock(&self.0).update(sources);
    }

    /// What there is now for these grants.
    pub(super) fn find(&self, grants: &SecretGrants, sources: Sources<'_>) -> Arc<DesiredSet> {
        let mut sets = lock(&self.0);
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
        let mut sets = lock(&self.0);
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

    /// What memory knows of a grant that is bound, if it had to be. Its logins are remembered as those of its source.
    fn work_out(&mut self, grant: &Grant, sources: Sources<'_>) -> Arc<Desired> {
        let Sources {
            state,
            credentials,
            history,
        } = sources;
        history.forget_gone(|source| grant_fetcher::is_there(source, credentials, state));
        let (credential, entries) = grant_fetcher::find(grant, credentials, state);
        let entries = entries.map(|entries| {
            history.note(grant, &entries, credential.as_ref());
            let digests = entries.into_iter().map(|entry| (entry.key, entry.digest));
            digests.collect()
        });
        let desired = Arc::new(Desired {
            origin: Some(grant.source.clone()),
            credential,
            entries,
            jitter: match &grant.source {
                CredentialSource::Minted(source) => source.jitter(),
                CredentialSource::Static(_) => 0,
            },
            is_unread: false,
            is_outdated: AtomicBool::new(false),
        });
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
        one.is_outdated.store(true, Ordering::Release);
    }
}
