//! What changed, in order: whoever works something out remembers how far it has read, and asks for the rest.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::names::{NamespaceName, ObjectName};

/// So many changes are kept: who missed more takes it that everything changed.
const KEPT: usize = 4_096;

/// The names of a namespace and of a pull secret in it.
pub type PullSecretKey = (NamespaceName, ObjectName);

/// What may change of [`super::state::State`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A namespace, or the ServiceAccounts that are known in it.
    Namespace(NamespaceName),
    /// A pull secret, as the watch or our own write shows it.
    PullSecret(PullSecretKey),
    /// A source Secret.
    Source(ObjectName),
    /// The Registries, or what is known of why they changed.
    Registries,
    /// What the cluster has of a Registry's status.
    Status(ObjectName),
}

/// The changes of something, for any number of readers.
#[derive(Debug)]
pub struct ChangeLog<T> {
    kept: Mutex<VecDeque<T>>,
    count: AtomicU64,
    changed: Notify,
}

/// How far a reader has read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor(u64);

impl<T> Default for ChangeLog<T> {
    fn default() -> Self {
        Self {
            kept: Mutex::default(),
            count: AtomicU64::new(0),
            changed: Notify::new(),
        }
    }
}

impl<T> ChangeLog<T> {
    /// Notes a change.
    pub fn note(&self, change: T) {
        let mut kept = self.kept.lock();
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(change);
        self.count.fetch_add(1, Ordering::AcqRel);
        drop(kept);
        self.changed.notify_waiters();
    }

    /// How many changes there were.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }

    /// Where a reader begins who wants what changes from now on.
    pub fn end(&self) -> Cursor {
        Cursor(self.count())
    }

    /// Whether a reader has read everything.
    pub fn is_at_end(&self, cursor: Cursor) -> bool {
        cursor == self.end()
    }

    /// Shows what changed since the reader asked last; `false`: that is not known any more.
    pub fn read(&self, cursor: &mut Cursor, mut see: impl FnMut(&T)) -> bool {
        let kept = self.kept.lock();
        let count = self.count();
        let missed = count - std::mem::replace(&mut cursor.0, count).min(count);
        let missed = usize::try_from(missed).unwrap_or(usize::MAX);
        if missed > kept.len() {
            return false;
        }
        for change in kept.iter().skip(kept.len() - missed) {
            see(change);
        }
        true
    }

    /// Waits until a reader has not read everything.
    pub async fn changed_since(&self, cursor: Cursor) {
        loop {
            // What is noted from here on wakes it, also before it is waited for.
            let changed = self.changed.notified();
            if !self.is_at_end(cursor) {
                return;
            }
            changed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn shows_each_reader_what_it_has_not_seen() {
        let log = ChangeLog::default();
        let (mut one, mut other) = (log.end(), log.end());
        let read = |cursor: &mut Cursor| {
            let mut seen = Vec::new();
            log.read(cursor, |number| seen.push(*number))
                .then_some(seen)
        };
        assert_eq!(read(&mut one), Some(vec![]));
        log.note(1);
        log.note(2);
        log.changed_since(one).await;
        assert_eq!(read(&mut one), Some(vec![1, 2]));
        log.note(3);
        assert_eq!(read(&mut one), Some(vec![3]));
        assert!(log.is_at_end(one) && !log.is_at_end(other));
        for number in 4..=KEPT {
            log.note(number);
        }
        assert_eq!(read(&mut other).map(|seen| seen.len()), Some(KEPT));
        assert_eq!(read(&mut one).map(|seen| seen.len()), Some(KEPT - 3));
        for number in 0..=KEPT {
            log.note(number);
        }
        assert_eq!(read(&mut one), None, "too much to be known");
        assert_eq!(read(&mut one), Some(vec![]));
        assert_eq!(log.count(), 2 * KEPT as u64 + 1);
    }

    #[tokio::test]
    async fn wakes_each_reader_that_waits() {
        let log = std::sync::Arc::new(ChangeLog::default());
        let seen = log.end();
        let waiters: Vec<_> = (0..2)
            .map(|_| {
                let log = std::sync::Arc::clone(&log);
                tokio::spawn(async move { log.changed_since(seen).await })
            })
            .collect();
        tokio::task::yield_now().await;
        assert!(waiters.iter().all(|waiter| !waiter.is_finished()));
        log.note(());
        for waiter in waiters {
            waiter.await.unwrap();
        }
        log.changed_since(seen).await;
    }
}
