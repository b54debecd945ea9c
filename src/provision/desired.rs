//! What there is to be written under the keys of each grant, worked out once for all namespaces of the same grants.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use jiff::Timestamp;

use super::coverage::{CacheVersion, GrantCoverage, KeyCoverage};
use super::lock::lock;
use super::ports::Credentials;
use super::secret::Digest;
use super::state::{Observed, State};
use super::superseded_logins::SupersededLogins;
use super::{grant_fetcher, tenant_identity};
use crate::credential::{Credential, Freshness, freshness};
use crate::registry::source::MintSource;
use crate::registry::{CredentialSource, Grant};

/// How many sets of grants are remembered: most namespaces have one of a few.
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
    /// Whether something has to be read first.
    is_unread: bool,
}

impl Desired {
    /// What memory knows of a grant that is bound, if it had to be. Its logins are remembered as those of its source.
    pub(super) fn of(
        grant: &Grant,
        state: &State,
        credentials: &dyn Credentials,
        history: &SupersededLogins,
    ) -> Self {
        let credential = match &grant.source {
            CredentialSource::Minted(source) => credentials.current(source),
            CredentialSource::Static(_) => None,
        };
        history.forget_gone(|source| grant_fetcher::is_there(source, credentials, state));
        let entries = grant_fetcher::find(grant, credentials, state).map(|entries| {
            history.note(grant, &entries, credential.as_ref());
            let digests = entries.into_iter().map(|entry| (entry.key, entry.digest));
            digests.collect()
        });
        Self {
            origin: Some(grant.source.clone()),
            credential,
            entries,
            is_unread: false,
        }
    }

    /// Nothing is known, as long as nothing was read.
    pub(super) fn unknown(is_unread: bool) -> Self {
        Self {
            origin: None,
            credential: None,
            entries: None,
            is_unread,
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
}

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
