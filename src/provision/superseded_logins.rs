//! The logins that each source has had: what is known to be older may be replaced without asking.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;

use super::bounded_map::BoundedMap;
use super::digest::Digest;
use super::login_digests::LoginDigests;
use super::secret::AuthEntry;
use crate::credential::Credential;
use crate::registry::{CredentialSource, Grant};

/// How many earlier logins of one source are remembered, by their digests.
const MAX_ENTRIES: usize = 64;

/// How many of them are kept with their credentials: an older one has ended, as each is renewed at half of its life.
const MAX_KEPT: usize = 3;

/// With so many sources, those that are gone are forgotten; then with twice as many as were left.
const SOURCES: usize = 1024;

/// The logins that each source has had, newest last.
#[derive(Default)]
pub(super) struct SupersededLogins {
    past: Mutex<BoundedMap<CredentialSource, VecDeque<PastLogin>>>,
    /// Those that a source held itself.
    own: LoginDigests,
}

struct PastLogin {
    digest: Digest,
    /// Whether the source held it; else it was found somewhere, and is older than what the source holds.
    is_own: bool,
    credential: Option<Arc<Credential>>,
}

impl PastLogin {
    fn own(&self) -> Option<Digest> {
        self.is_own.then_some(self.digest)
    }
}

impl SupersededLogins {
    /// Remembers what a grant's source holds now.
    pub(super) fn note(
        &self,
        grant: &Grant,
        entries: &[AuthEntry],
        credential: Option<&Arc<Credential>>,
    ) {
        for entry in entries {
            self.push(&grant.source, entry.digest, true, credential.cloned());
        }
    }

    /// Remembers that something is known to be older than what a source holds now.
    pub(super) fn record_older(&self, source: &CredentialSource, digest: Digest) {
        self.push(source, digest, false, None);
    }

    /// Whether this is a login that the source has or had, as far as we remember.
    pub(super) fn contains(&self, source: &CredentialSource, digest: &Digest) -> bool {
        let all = self.past.lock();
        all.entries
            .get(source)
            .is_some_and(|past| past.iter().any(|past| past.digest == *digest))
    }

    /// Whether the source itself held this login, as far as we remember.
    pub(super) fn held(&self, source: &CredentialSource, digest: &Digest) -> bool {
        let all = self.past.lock();
        all.entries.get(source).is_some_and(|past| {
            past.iter()
                .any(|past| past.is_own && past.digest == *digest)
        })
    }

    /// Whether any source held this login, as far as we remember: then it may be one that we wrote.
    pub(super) fn is_ours(&self, digest: &Digest) -> bool {
        self.own.contains(digest)
    }

    /// The credential of an earlier login.
    pub(super) fn find(
        &self,
        source: &CredentialSource,
        digest: &Digest,
    ) -> Option<Arc<Credential>> {
        let all = self.past.lock();
        let mut past = all.entries.get(source)?.iter();
        let past = past.find(|past| past.digest == *digest)?;
        past.credential.clone()
    }

    /// Forgets, where there are many, the sources that nobody has any more. A login that is forgotten so is none that we know: before
    /// it is replaced the store is read.
    pub(super) fn forget_gone(&self, is_there: impl Fn(&CredentialSource) -> bool) {
        self.past.lock().evict_unused(SOURCES, |source, past| {
            let is_used = is_there(source);
            if !is_used {
                self.own.replace(past.iter().filter_map(PastLogin::own), []);
            }
            is_used
        });
    }

    fn push(
        &self,
        source: &CredentialSource,
        digest: Digest,
        is_own: bool,
        credential: Option<Arc<Credential>>,
    ) {
        let mut all = self.past.lock();
        let past = match all.entries.get_mut(source) {
            Some(past) => past,
            None => all.entries.entry(source.clone()).or_default(),
        };
        if let Some(known) = past.iter_mut().find(|past| past.digest == digest) {
            if is_own && !known.is_own {
                known.is_own = true;
                self.own.replace([], [digest]);
            }
            return;
        }
        // A fixed login may have many entries at once, each with its own digest.
        if past.len() >= MAX_ENTRIES {
            let first = past.pop_front();
            self.own.replace(first.and_then(|past| past.own()), []);
        }
        self.own.replace([], is_own.then_some(digest));
        past.push_back(PastLogin {
            digest,
            is_own,
            credential,
        });
        let kept = past
            .iter_mut()
            .rev()
            .filter(|past| past.credential.is_some());
        for old in kept.skip(MAX_KEPT) {
            old.credential = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::{SignedDuration, Timestamp};

    use super::*;
    use crate::registry::source::StaticSource;

    fn source(name: usize) -> CredentialSource {
        CredentialSource::Static(StaticSource {
            secret: format!("login-{name}").parse().unwrap(),
        })
    }

    fn digest(name: usize) -> Digest {
        Digest::of_auth(&name.to_string())
    }

    #[test]
    fn keeps_the_digests_of_many_logins_and_the_credentials_of_the_newest() {
        let history = SupersededLogins::default();
        let minted_at: Timestamp = "2026-11-21T10:00:00Z".parse().unwrap();
        for name in 0..=MAX_ENTRIES {
            let credential = Arc::new(Credential {
                username: "AWS".to_owned(),
                password: "p".into(),
                minted_at,
                expires_at: minted_at + SignedDuration::from_hours(12),
                principal: "tester".to_owned(),
            });
            let weak = Arc::downgrade(&credential);
            history.push(&source(0), digest(name), true, Some(credential));
            assert!(weak.upgrade().is_some());
        }
        let contains = |name| history.contains(&source(0), &digest(name));
        assert!(
            !history.is_ours(&digest(0))
                && (1..=MAX_ENTRIES).all(|name| history.is_ours(&digest(name)))
        );
        let finds = |name| history.find(&source(0), &digest(name)).is_some();
        assert!(!contains(0) && (1..=MAX_ENTRIES).all(contains));
        assert!((MAX_ENTRIES - 2..=MAX_ENTRIES).all(finds));
        assert!(!(0..MAX_ENTRIES - 2).any(finds));
    }

    #[test]
    fn forgets_the_sources_that_are_gone_where_there_are_many() {
        let history = SupersededLogins::default();
        let is_there = |source_: &CredentialSource| *source_ == source(1) || *source_ == source(2);
        for name in 0..SOURCES {
            history.forget_gone(is_there);
            history.record_older(&source(name), digest(name));
            assert!(!history.is_ours(&digest(name)), "nobody held it");
            history.push(&source(name), digest(name), true, None);
        }
        let contains = |name| history.contains(&source(name), &digest(name));
        assert!((0..SOURCES).all(contains), "few are not checked");
        history.forget_gone(is_there);
        assert!(contains(1) && contains(2));
        assert!(history.is_ours(&digest(1)) && !history.is_ours(&digest(3)));
        assert_eq!(history.past.lock().entries.len(), 2);
        // While all are in use, they are not checked each time.
        for name in 0..SOURCES {
            history.record_older(&source(name), digest(name));
        }
        history.forget_gone(|_| true);
        history.forget_gone(|_| false);
        assert!((0..SOURCES).all(contains));
    }
}
