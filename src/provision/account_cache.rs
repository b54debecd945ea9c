//! What memory knows of the ServiceAccounts whose identities are used.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::SignedDuration;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::bounded_map::BoundedMap;
use super::changes::{Change, ChangeLog};
use super::live_reads::LiveReads;
use super::ports::{Cluster, ClusterError};
use super::read_cache::ReadCache;
use super::service_account::ServiceAccount;
use crate::clock::Backoff;
use crate::names::{NamespaceName, ObjectName};

/// How long what was read of a ServiceAccount is relied on.
const CACHE_TTL: Duration = Duration::from_mins(5);

/// For how long a missing ServiceAccount is cached: a caller of the webhook can name many.
const ABSENT_FOR: Duration = Duration::from_secs(30);

/// The waits before one is read again that was missing, or did not say what the Registry reads from it.
const USELESS_BACKOFF: Backoff = Backoff {
    first: SignedDuration::from_secs(30),
    longest: SignedDuration::from_mins(5),
};

/// How many ServiceAccounts are remembered before those that nobody uses any more are forgotten; then twice as many as were left.
const MAX_ENTRIES: usize = 10_000;

type AccountKey = (NamespaceName, ObjectName);
/// A ServiceAccount, or that there is none.
pub(super) type AccountLookup = Option<Arc<ServiceAccount>>;

/// What memory knows of one ServiceAccount whose identity is used; it may have been read a while ago.
pub struct CachedAccount {
    /// The ServiceAccount; `None`: there was none.
    pub account: Option<Arc<ServiceAccount>>,
    read: Mutex<LastRead>,
}

/// When a ServiceAccount was read last, and how often it had been the same before.
struct LastRead {
    at: Instant,
    repeats: u32,
}

impl CachedAccount {
    fn new(account: AccountLookup) -> Self {
        let read = LastRead {
            at: Instant::now(),
            repeats: 0,
        };
        Self {
            account,
            read: Mutex::new(read),
        }
    }

    /// Whether it is time to read it again.
    pub fn is_stale(&self) -> bool {
        self.read.lock().at.elapsed() > CACHE_TTL
    }

    /// In how long it is to be read again where it is of no use: nobody says when it comes, or says what it must.
    pub(super) fn next_read(&self) -> Duration {
        let read = self.read.lock();
        let wait = USELESS_BACKOFF.wait(read.repeats).unsigned_abs();
        wait.saturating_sub(read.at.elapsed())
    }

    fn note_read(&self) {
        let mut read = self.read.lock();
        read.at = Instant::now();
        read.repeats = read.repeats.saturating_add(1);
    }
}

/// A cache of ServiceAccounts whose identities are used, by namespace and name. An entry is used until it is read again, so that Pods
/// wait for no read once the first one did.
pub struct AccountCache {
    entries: Mutex<BoundedMap<AccountKey, Arc<CachedAccount>>>,
    generation: Arc<AtomicU64>,
    changes: Arc<ChangeLog<Change>>,
}

impl AccountCache {
    /// An empty table that counts `generation` up at each change, and notes it among `changes`.
    pub fn new(generation: Arc<AtomicU64>, changes: Arc<ChangeLog<Change>>) -> Self {
        Self {
            entries: Mutex::default(),
            generation,
            changes,
        }
    }

    /// What is known of this ServiceAccount.
    pub fn get(&self, namespace: &NamespaceName, name: &ObjectName) -> Option<Arc<CachedAccount>> {
        let key = (namespace.clone(), name.clone());
        self.entries.lock().entries.get(&key).map(Arc::clone)
    }

    /// Remembers what was just read.
    fn put(&self, key: AccountKey, account: AccountLookup) {
        let mut entries = self.entries.lock();
        if let Some(known) = entries.entries.get(&key)
            && known.account == account
        {
            known.note_read();
            return;
        }
        // Who relies on one holds it, too.
        let is_used =
            |known: &Arc<CachedAccount>| Arc::strong_count(known) > 1 || !known.is_stale();
        entries.evict_unused(MAX_ENTRIES, |_, known| is_used(known));
        let change = Change::Namespace(key.0.clone());
        entries
            .entries
            .insert(key, Arc::new(CachedAccount::new(account)));
        drop(entries);
        // Before and after: as in [`super::store::Store`].
        self.generation.fetch_add(1, Ordering::AcqRel);
        self.changes.note(change);
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    fn has(&self, key: &AccountKey) -> bool {
        self.entries.lock().entries.contains_key(key)
    }
}

/// Reads ServiceAccounts: each once in a few minutes, however many ask.
pub(super) struct AccountReader {
    cluster: Arc<dyn Cluster>,
    recent: ReadCache<AccountKey, AccountLookup>,
    live_reads: Arc<LiveReads>,
}

/// How long what was read is relied on, by what it is.
fn relied_on(found: &AccountLookup) -> Duration {
    found.as_ref().map_or(ABSENT_FOR, |_| CACHE_TTL)
}

impl AccountReader {
    pub(super) fn new(cluster: Arc<dyn Cluster>) -> Self {
        Self {
            cluster,
            recent: ReadCache::new(MAX_ENTRIES as u64, relied_on),
            live_reads: Arc::default(),
        }
    }

    /// Whether the failed read of a ServiceAccount that a caller named is to be logged, and how many were not since.
    pub(super) fn admit_failure(&self, error: &ClusterError) -> Option<u64> {
        self.live_reads.admit_failure(error)
    }

    /// The ServiceAccount that a caller of the webhook named, as it was in the last minutes: where it is to be read, in turn.
    pub(super) async fn find_named(
        &self,
        accounts: &AccountCache,
        namespace: &NamespaceName,
        name: &ObjectName,
    ) -> Result<AccountLookup, Arc<ClusterError>> {
        let (live_reads, what) = (
            Arc::clone(&self.live_reads),
            format!("serviceaccount {namespace}/{name}"),
        );
        let turn = async move {
            let turn = live_reads.turn_soon().await;
            turn.map_err(|crowded| ClusterError::Unreachable {
                what,
                message: crowded.to_string(),
            })
        };
        let (found, _) = self.find(accounts, namespace, name, turn).await?;
        Ok(found)
    }

    /// The ServiceAccount as it was in the last minutes, and whether it was read just now, after `turn`. Concurrent callers share one
    /// read; a failed one is not remembered.
    async fn find(
        &self,
        accounts: &AccountCache,
        namespace: &NamespaceName,
        name: &ObjectName,
        turn: impl Future<Output = Result<(), ClusterError>> + Send + 'static,
    ) -> Result<(AccountLookup, bool), Arc<ClusterError>> {
        let key = (namespace.clone(), name.clone());
        let (cluster, (namespace, name)) = (Arc::clone(&self.cluster), key.clone());
        let read = async move {
            turn.await?;
            let found = cluster.fetch_service_account(&namespace, &name).await?;
            Ok(found.map(Arc::new))
        };
        let (found, is_new) = self.recent.find(key.clone(), read).await?;
        if is_new && accounts.has(&key) {
            accounts.put(key, found.clone());
        }
        Ok((found, is_new))
    }

    /// The ServiceAccount that a Registry names, and whether it was read just now: its identity is used, it is known from now on.
    pub(super) async fn follow(
        &self,
        accounts: &AccountCache,
        namespace: &NamespaceName,
        name: &ObjectName,
    ) -> Result<(AccountLookup, bool), Arc<ClusterError>> {
        if accounts
            .get(namespace, name)
            .is_some_and(|known| known.is_stale())
        {
            self.forget(namespace, name);
        }
        let turn = std::future::ready(Ok(()));
        let (found, is_new) = self.find(accounts, namespace, name, turn).await?;
        let key = (namespace.clone(), name.clone());
        if is_new || !accounts.has(&key) {
            accounts.put(key, found.clone());
        }
        Ok((found, is_new))
    }

    /// Forgets what was read: the next one who asks reads live.
    pub(super) fn forget(&self, namespace: &NamespaceName, name: &ObjectName) {
        let key = (namespace.clone(), name.clone());
        self.recent.forget(&key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn forgets_old_ones_that_nobody_uses_where_there_are_many() {
        let accounts = AccountCache::new(Arc::default(), Arc::default());
        let key = |number: usize| {
            let namespace = NamespaceName::parse(&format!("n{number}")).unwrap();
            (namespace, ObjectName::constant("default"))
        };
        let get = |number: usize| accounts.get(&key(number).0, &key(number).1);
        for number in 0..MAX_ENTRIES {
            accounts.put(key(number), None);
        }
        let used: Vec<_> = (0..10).map(|number| get(number).unwrap()).collect();
        accounts.put(key(MAX_ENTRIES), None);
        assert!(
            (0..=MAX_ENTRIES).all(|number| get(number).is_some()),
            "none is old"
        );

        tokio::time::advance(CACHE_TTL + Duration::from_secs(1)).await;
        for number in MAX_ENTRIES..=2 * MAX_ENTRIES {
            accounts.put(key(number), None);
        }
        for (number, known) in used.iter().enumerate() {
            assert!(
                Arc::ptr_eq(known, &get(number).unwrap()),
                "{number} is in use"
            );
        }
        assert!((10..MAX_ENTRIES).all(|number| get(number).is_none()));
        assert!((MAX_ENTRIES..=2 * MAX_ENTRIES).all(|number| get(number).is_some()));
    }
}
