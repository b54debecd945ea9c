//! The rate limit of live reads that a caller of the webhook can cause by names that no watch knows.
//!
//! Callers of the webhook need no certificate by default, so what they name is limited here before it becomes a request: over the limit
//! each waits its turn, first come first served, until it gives up. Where very many wait, newcomers wait a moment only: what really
//! is there is shown by a watch within that moment, and the places of the listener are for others, too.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until, timeout};

use super::ports::ClusterError;
use crate::log_throttle::LogThrottle;

/// The time that one read takes up: 50 a second.
const EACH: Duration = Duration::from_millis(20);

/// How much of it may be saved up: 100 reads at once.
const SAVED: Duration = Duration::from_secs(2);

/// How many may wait for as long as they like to.
const CROWD: usize = 256;

/// How long newcomers wait beyond that, and callers that can do without.
const MOMENT: Duration = Duration::from_millis(200);

/// More wait for a turn than there will be turns soon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many live reads wait for their turn")]
pub(super) struct Crowded;

/// Turns to read. By the generic cell rate algorithm, a token bucket that is one point in time.
#[derive(Debug, Default)]
pub(super) struct LiveReads {
    /// Until when time is taken up. Who waits for a turn holds the lock, which is fair.
    taken_until: Mutex<Option<Instant>>,
    waiting: AtomicUsize,
    failures: LogThrottle<&'static str>,
}

/// Counts one who waits.
struct ReadTurn<'a>(&'a AtomicUsize);

impl Drop for ReadTurn<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl LiveReads {
    /// Waits for a turn. One that is no longer waited for is nobody's.
    ///
    /// # Errors
    /// [`Crowded`].
    pub(super) async fn turn(&self) -> Result<(), Crowded> {
        let before = self.waiting.fetch_add(1, Ordering::AcqRel);
        let waiting = ReadTurn(&self.waiting);
        let turn = self.wait();
        let answer = if before < CROWD {
            turn.await;
            Ok(())
        } else {
            timeout(MOMENT, turn).await.map_err(|_| Crowded)
        };
        drop(waiting);
        answer
    }

    /// Waits for a turn a moment only: for what a Pod can do without.
    ///
    /// # Errors
    /// [`Crowded`].
    pub(super) async fn turn_soon(&self) -> Result<(), Crowded> {
        timeout(MOMENT, self.wait()).await.map_err(|_| Crowded)
    }

    /// Whether a read that failed is to be logged, and how many were not since: a caller that can cause one can cause many.
    pub(super) fn admit_failure(&self, error: &ClusterError) -> Option<u64> {
        self.failures.admit(error.reason())
    }

    async fn wait(&self) {
        let mut taken_until = self.taken_until.lock().await;
        let now = Instant::now();
        let earliest = now.checked_sub(SAVED).unwrap_or(now);
        let until = taken_until.unwrap_or(earliest).max(earliest) + EACH;
        if until > now {
            sleep_until(until).await;
        }
        *taken_until = Some(until);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// Turns of which the burst is used up.
    async fn used_up() -> LiveReads {
        tokio::time::advance(Duration::from_mins(1)).await;
        let (reads, begun) = (LiveReads::default(), Instant::now());
        for _ in 0..100 {
            reads.turn().await.unwrap();
        }
        assert_eq!(begun.elapsed(), Duration::ZERO, "a burst waits for nothing");
        reads
    }

    #[tokio::test(start_paused = true)]
    async fn gives_turns_at_a_steady_pace_in_order_after_a_burst() {
        let (reads, begun) = (Arc::new(used_up().await), Instant::now());
        let count = Arc::new(AtomicUsize::new(0));
        let mut tasks = tokio::task::JoinSet::new();
        for target in 0..CROWD {
            let (reads, count) = (Arc::clone(&reads), Arc::clone(&count));
            tasks.spawn(async move {
                reads.turn().await.unwrap();
                assert_eq!(count.fetch_add(1, Ordering::Relaxed), target);
            });
        }
        tokio::time::sleep(Duration::from_secs(4)).await;
        let served = count.load(Ordering::Relaxed);
        assert!((195..=205).contains(&served), "{served}");
        while tasks.join_next().await.transpose().unwrap().is_some() {}
        assert_eq!(begun.elapsed().as_secs(), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn sends_newcomers_away_soon_where_very_many_wait() {
        let reads = Arc::new(used_up().await);
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..CROWD + 100 {
            let reads = Arc::clone(&reads);
            tasks.spawn(async move {
                let begun = Instant::now();
                (reads.turn().await, begun.elapsed())
            });
        }
        let mut crowded = 0;
        while let Some(ended) = tasks.join_next().await {
            let (answer, waited) = ended.unwrap();
            if answer.is_err() {
                assert!(waited <= MOMENT + EACH, "{waited:?}");
                crowded += 1;
            }
        }
        assert_eq!(crowded, 100);
    }

    #[tokio::test(start_paused = true)]
    async fn loses_no_turn_to_who_stopped_waiting() {
        let (reads, begun) = (used_up().await, Instant::now());
        for _ in 0..5 {
            let short = timeout(Duration::from_millis(1), reads.turn());
            assert!(short.await.is_err());
        }
        reads.turn().await.unwrap();
        let waited = begun.elapsed();
        assert!(waited <= EACH + Duration::from_millis(2), "{waited:?}");
    }
}
