//! The warm check: what a namespace's pull secret is worth, worked out once per change and then looked up.

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::access::Credentials;
use super::account::Known;
use super::lock::lock;
use super::secret::{Digest, Entry};
use super::state::{Seen, State};
use super::{Coverage, InjectMode, Namespace, bind, gather, surplus};
use crate::credential::{Credential, Freshness, freshness};
use crate::registry::source::MintSource;
use crate::registry::{CredentialSource, Grant};

/// How many earlier logins of one source are remembered.
const REMEMBERED: usize = 64;

/// How often work in the background is begun for one namespace at most.
const NUDGE_EVERY: Duration = Duration::from_secs(30);

/// What one pull secret of a namespace is worth, as long as nothing changed.
pub(super) struct Verified {
    namespace: Arc<Namespace>,
    seen: Option<Arc<Seen>>,
    moment: Moment,
    foreign: bool,
    complete: bool,
    keys: HashMap<String, Standing>,
    held: Vec<Held>,
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
    pub(super) registry: Arc<str>,
    pub(super) keys: Vec<String>,
    /// Who mints it; `None` for a fixed login, and where no ServiceAccount to bind it to is known.
    pub(super) source: Option<MintSource>,
    pub(super) standing: Standing,
    supply: Supply,
}

/// What there is to be written under the keys of one grant.
enum Supply {
    /// Nothing.
    None,
    /// A fixed login, or something that has to be read first.
    Ready,
    /// A minted credential.
    Minted(Arc<Credential>),
}

impl Held {
    /// Whether there is something good to be written.
    pub(super) fn is_available(&self, now: Timestamp) -> bool {
        match &self.supply {
            Supply::None => false,
            Supply::Ready => true,
            Supply::Minted(credential) => freshness(credential, now) != Freshness::Spent,
        }
    }
}

/// What stands under the keys of one grant.
#[derive(Clone)]
pub(super) enum Standing {
    /// What must stand there; with a minted credential's life.
    Good(Option<Arc<Credential>>),
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
    pub(super) fn held(&self) -> &[Held] {
        &self.held
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
            let fresh = match self.keys.get(*key) {
                Some(Standing::Good(None)) => Freshness::Fresh,
                Some(Standing::Good(Some(credential))) => freshness(credential, now),
                Some(Standing::Earlier(credential)) => match freshness(credential, now) {
                    Freshness::Spent => Freshness::Spent,
                    Freshness::Fresh | Freshness::Renewable => Freshness::Renewable,
                },
                Some(Standing::Unknown) | None => Freshness::Spent,
            };
            match fresh {
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

/// Works out what a pull secret of a namespace is worth.
pub(super) fn verify(
    namespace: &Arc<Namespace>,
    secret: &str,
    seen: Option<Arc<Seen>>,
    state: &State,
    credentials: &dyn Credentials,
    history: &History,
) -> Verified {
    let moment = Moment::of(state, credentials);
    let grants = state.registries().grants_of(&namespace.labels, secret);
    let mut keys = HashMap::new();
    let mut complete = true;
    let mut followed = Vec::new();
    let mut held = Vec::with_capacity(grants.len());
    for grant in &*grants {
        let unknown = followed.len();
        let bound = find_bound(grant, namespace, state, &mut followed);
        let standing = bound.as_deref().map_or(Standing::Unknown, |grant| {
            stand(grant, seen.as_deref(), state, credentials, history)
        });
        let supply = match bound.as_deref() {
            Some(grant) => find_supply(grant, state, credentials),
            // Its ServiceAccount was never read; of one that was, there is nothing to be had.
            None if followed.len() == unknown => Supply::Ready,
            None => Supply::None,
        };
        let source = match bound.as_deref().map(|grant| &grant.source) {
            Some(CredentialSource::Minted(source)) => Some(source.clone()),
            Some(CredentialSource::Static(_)) | None => None,
        };
        complete &= matches!(standing, Standing::Good(_));
        keys.extend(grant.keys.iter().map(|key| (key.clone(), standing.clone())));
        held.push(Held {
            registry: grant.registry.clone(),
            keys: grant.keys.clone(),
            source,
            standing,
            supply,
        });
    }
    let there = seen.iter().flat_map(|seen| seen.digests.keys());
    let surplus = surplus::find(there, &grants, credentials, state);
    Verified {
        namespace: Arc::clone(namespace),
        surplus,
        moment,
        foreign: seen.as_ref().is_some_and(|seen| !seen.ours),
        seen,
        complete,
        keys,
        held,
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

fn find_supply(grant: &Grant, state: &State, credentials: &dyn Credentials) -> Supply {
    match &grant.source {
        CredentialSource::Minted(source) => credentials
            .current(source)
            .map_or(Supply::None, Supply::Minted),
        CredentialSource::Static(_) if gather::find(grant, credentials, state).is_some() => {
            Supply::Ready
        }
        CredentialSource::Static(_) => Supply::None,
    }
}

fn stand(
    grant: &Grant,
    seen: Option<&Seen>,
    state: &State,
    credentials: &dyn Credentials,
    history: &History,
) -> Standing {
    let Some(seen) = seen.filter(|seen| seen.intact) else {
        return Standing::Unknown;
    };
    let there = |key: &str| seen.digests.get(key);
    let credential = match &grant.source {
        CredentialSource::Minted(source) => credentials.current(source),
        CredentialSource::Static(_) => None,
    };
    if let Some(entries) = gather::find(grant, credentials, state) {
        history.note(grant, &entries, credential.as_ref());
        if entries
            .iter()
            .all(|entry| there(&entry.key) == Some(&entry.digest))
        {
            return Standing::Good(credential);
        }
    }
    let earlier = |key: &String| history.find(&grant.source, there(key)?);
    let earlier: Option<Vec<_>> = grant.keys.iter().map(earlier).collect();
    earlier
        .and_then(|credentials| {
            credentials
                .into_iter()
                .min_by_key(|credential| credential.expires_at)
        })
        .map_or(Standing::Unknown, Standing::Earlier)
}

/// The logins that each source has had, newest last: what is known to be older may be replaced without asking.
#[derive(Default)]
pub(super) struct History(Mutex<HashMap<CredentialSource, VecDeque<Past>>>);

struct Past {
    digest: Digest,
    credential: Option<Arc<Credential>>,
}

impl History {
    /// Remembers what a grant's source holds now.
    pub(super) fn note(
        &self,
        grant: &Grant,
        entries: &[Entry],
        credential: Option<&Arc<Credential>>,
    ) {
        for entry in entries {
            self.push(&grant.source, entry.digest, credential.cloned());
        }
    }

    /// Remembers that something is known to be older than what a source holds now.
    pub(super) fn note_older(&self, source: &CredentialSource, digest: Digest) {
        self.push(source, digest, None);
    }

    /// Whether this is a login that the source has or had, as far as we remember.
    pub(super) fn knows(&self, source: &CredentialSource, digest: &Digest) -> bool {
        let all = lock(&self.0);
        all.get(source)
            .is_some_and(|past| past.iter().any(|past| past.digest == *digest))
    }

    fn find(&self, source: &CredentialSource, digest: &Digest) -> Option<Arc<Credential>> {
        let all = lock(&self.0);
        let past = all
            .get(source)?
            .iter()
            .find(|past| past.digest == *digest)?;
        past.credential.clone()
    }

    fn push(&self, source: &CredentialSource, digest: Digest, credential: Option<Arc<Credential>>) {
        let mut all = lock(&self.0);
        let past = match all.get_mut(source) {
            Some(past) => past,
            None => all.entry(source.clone()).or_default(),
        };
        if past.iter().any(|past| past.digest == digest) {
            return;
        }
        // A fixed login may have many entries at once, each with a digest of its own.
        if past.len() >= REMEMBERED {
            past.pop_front();
        }
        past.push_back(Past { digest, credential });
    }
}
