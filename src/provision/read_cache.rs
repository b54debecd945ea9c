//! What was read of the cluster a moment ago. Who asks while it is being read waits for the same answer; a failed read is not remembered.
//!
//! By tokio's clock, and who waits is woken by the read alone: a history of the model can be replayed. moka's own future cache goes by the
//! machine's clock, and now and then wakes who used it once more.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared, WeakShared};
use moka::sync::Cache;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::ports::ClusterError;

/// When an answer leaves memory that nobody pushed out: longer than any is relied on.
const KEPT: Duration = Duration::from_mins(10);

type Answer<V> = Result<V, Arc<ClusterError>>;
type Read<V> = BoxFuture<'static, Answer<V>>;
type Joined<'c, K, V> = (Waiter<'c, K, V>, Shared<Read<V>>);

/// The reads under way, each with its number. One that nobody waits for any more has ended: what it took up is given back.
struct Running<K, V> {
    count: u64,
    reads: HashMap<K, (u64, WeakShared<Read<V>>)>,
}

/// Answers of the cluster by key.
pub(crate) struct ReadCache<K, V> {
    known: Cache<K, (V, Instant)>,
    running: Mutex<Running<K, V>>,
    relied_on: fn(&V) -> Duration,
}

/// One who waits for a read, which is dropped before this.
struct Waiter<'c, K: Hash + Eq, V> {
    running: &'c Mutex<Running<K, V>>,
    key: K,
    number: u64,
}

impl<K: Hash + Eq, V> Drop for Waiter<'_, K, V> {
    fn drop(&mut self) {
        let mut running = self.running.lock();
        let is_over = |(number, read): &(u64, WeakShared<Read<V>>)| {
            *number == self.number && read.upgrade().is_none()
        };
        if running.reads.get(&self.key).is_some_and(is_over) {
            running.reads.remove(&self.key);
        }
    }
}

impl<K, V> ReadCache<K, V>
where
    K: Clone + Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Keeps at most so many answers, and relies on each one for as long as `relied_on` says.
    pub(crate) fn new(max_entries: u64, relied_on: fn(&V) -> Duration) -> Self {
        let running = Running {
            count: 0,
            reads: HashMap::new(),
        };
        Self {
            known: Cache::builder()
                .max_capacity(max_entries)
                .time_to_live(KEPT)
                .build(),
            running: Mutex::new(running),
            relied_on,
        }
    }

    /// The answer, by `read` unless it is known or being read; and whether it is new. Of all who wait one finds it new.
    pub(crate) async fn find(
        &self,
        key: K,
        read: impl Future<Output = Result<V, ClusterError>> + Send + 'static,
    ) -> Result<(V, bool), Arc<ClusterError>> {
        if let Some(value) = self.known(&key) {
            return Ok((value, false));
        }
        let (waiter, read) = match self.join(key, read) {
            Ok(joined) => joined,
            Err(value) => return Ok((value, false)),
        };
        let answer = read.await;
        let is_new = self.take_out(&waiter, answer.as_ref().ok());
        Ok((answer?, is_new))
    }

    /// Forgets an answer: the next one who asks reads.
    pub(super) fn forget(&self, key: &K) {
        self.known.invalidate(key);
    }

    fn known(&self, key: &K) -> Option<V> {
        let (value, until) = self.known.get(key)?;
        (Instant::now() < until).then_some(value)
    }

    /// Waits with those who wait for this key, or begins; an error is what one of them learnt just now.
    fn join(
        &self,
        key: K,
        read: impl Future<Output = Result<V, ClusterError>> + Send + 'static,
    ) -> Result<Joined<'_, K, V>, V> {
        let mut running = self.running.lock();
        if let Some(value) = self.known(&key) {
            return Err(value);
        }
        let known = running.reads.get(&key);
        let known = known.and_then(|(number, read)| Some((*number, read.upgrade()?)));
        let (number, read) = known.unwrap_or_else(|| {
            running.count += 1;
            let number = running.count;
            let read = read.map(|answer| answer.map_err(Arc::new)).boxed().shared();
            if let Some(weak) = read.downgrade() {
                running.reads.insert(key.clone(), (number, weak));
            }
            (number, read)
        });
        let waiter = Waiter {
            running: &self.running,
            key,
            number,
        };
        Ok((waiter, read))
    }

    /// Takes a read that ended out of those under way and remembers what it found; `false`: another one who waited did.
    fn take_out(&self, waiter: &Waiter<'_, K, V>, found: Option<&V>) -> bool {
        let mut running = self.running.lock();
        let under_way = running.reads.get(&waiter.key);
        if under_way.is_none_or(|(number, _)| *number != waiter.number) {
            return false;
        }
        running.reads.remove(&waiter.key);
        if let Some(value) = found {
            let relied_on = (self.relied_on)(value);
            if relied_on.is_zero() {
                // It would push out what is relied on.
                return true;
            }
            let until = Instant::now() + relied_on;
            self.known
                .insert(waiter.key.clone(), (value.clone(), until));
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::future::{join, pending};

    use super::*;

    const RELIED_ON: Duration = Duration::from_secs(1);

    fn cache() -> ReadCache<u8, usize> {
        ReadCache::new(10, |_| RELIED_ON)
    }

    /// Takes a moment, and answers how many reads there were before it.
    fn read(
        reads: &Arc<AtomicUsize>,
    ) -> impl Future<Output = Result<usize, ClusterError>> + Send + 'static {
        let reads = Arc::clone(reads);
        async move {
            tokio::task::yield_now().await;
            Ok(reads.fetch_add(1, Ordering::SeqCst))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn reads_once_for_all_who_ask_as_long_as_the_answer_is_relied_on() {
        let (cache, reads) = (cache(), Arc::default());
        let both = join(cache.find(1, read(&reads)), cache.find(1, read(&reads)));
        let (one, other) = both.await;
        let ((one, new_to_one), (other, new_to_other)) = (one.unwrap(), other.unwrap());
        assert_eq!((one, other), (0, 0));
        assert_ne!(new_to_one, new_to_other);
        assert_eq!(cache.find(1, read(&reads)).await.unwrap(), (0, false));
        assert_eq!(cache.find(2, read(&reads)).await.unwrap(), (1, true));

        tokio::time::advance(RELIED_ON).await;
        assert_eq!(cache.find(1, read(&reads)).await.unwrap(), (2, true));
        cache.forget(&1);
        assert_eq!(cache.find(1, read(&reads)).await.unwrap(), (3, true));
    }

    #[tokio::test]
    async fn answers_all_who_wait_by_one_failure_and_remembers_none() {
        let (cache, reads) = (cache(), Arc::default());
        let fail = || async {
            tokio::task::yield_now().await;
            Err(ClusterError::Conflict {
                what: "a".to_owned(),
            })
        };
        let (one, other) = join(cache.find(1, fail()), cache.find(1, read(&reads))).await;
        assert!(one.is_err() && other.is_err());
        assert_eq!(cache.find(1, read(&reads)).await.unwrap(), (0, true));
    }

    #[tokio::test(start_paused = true)]
    async fn goes_on_for_who_still_waits_and_ends_a_read_that_nobody_waits_for() {
        let (cache, reads) = (cache(), Arc::default());
        let moment = Duration::from_millis(1);
        let held = Arc::new(());
        let never = {
            let held = Arc::clone(&held);
            async move {
                pending::<()>().await;
                drop(held);
                Ok(0)
            }
        };
        let given_up = tokio::time::timeout(moment, cache.find(1, never)).await;
        assert!(given_up.is_err());
        assert_eq!(Arc::strong_count(&held), 1, "it ended");
        assert!(cache.running.lock().reads.is_empty());

        let first = tokio::time::timeout(Duration::ZERO, cache.find(1, read(&reads)));
        let (first, second) = join(first, cache.find(1, read(&reads))).await;
        assert!(first.is_err());
        assert_eq!(second.unwrap(), (0, true));
    }
}
