//! How many requests go on at a time, by how the API server answers: one that is overloaded answers fewer in time the more it is asked at
//! once, and none in the end. Additive increase, multiplicative decrease, as TCP does: <https://www.rfc-editor.org/rfc/rfc5681#section-3.1>

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// So many always may.
const FLOOR: usize = 2;

/// A limit that follows what comes of the requests.
pub(super) struct ConcurrencyLimit {
    most: usize,
    free: Arc<Semaphore>,
    state: Mutex<LimitState>,
}

struct LimitState {
    limit: usize,
    /// How many permits are to go that requests still hold.
    surplus: usize,
    /// How many requests were answered in time since the limit changed.
    answered: usize,
    /// A request that began before says nothing of the limit that there is.
    lowered: Option<Instant>,
}

/// One request.
pub(super) struct Slot {
    limit: Arc<ConcurrencyLimit>,
    permit: Option<OwnedSemaphorePermit>,
    begun: Instant,
}

impl ConcurrencyLimit {
    /// Begins with `most`, and never has more.
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            most,
            free: Arc::new(Semaphore::new(most)),
            state: Mutex::new(LimitState {
                limit: most,
                surplus: 0,
                answered: 0,
                lowered: None,
            }),
        })
    }

    /// Waits, first come first served, until one more may go on.
    pub(super) async fn acquire(self: &Arc<Self>) -> Option<Slot> {
        let permit = Arc::clone(&self.free).acquire_owned().await.ok()?;
        Some(Slot {
            limit: Arc::clone(self),
            permit: Some(permit),
            begun: Instant::now(),
        })
    }
}

impl Slot {
    /// It was answered in time: one more may go on when as many were as there are.
    pub(super) fn raise_limit(&self) {
        let mut state = self.limit.state.lock();
        state.answered += 1;
        if state.answered < state.limit || state.limit == self.limit.most {
            return;
        }
        (state.limit, state.answered) = (state.limit + 1, 0);
        if state.surplus > 0 {
            state.surplus -= 1;
        } else {
            self.limit.free.add_permits(1);
        }
    }

    /// It was not: half as many may go on. All that go on together count once.
    pub(super) fn lower_limit(&self) {
        let mut state = self.limit.state.lock();
        if state.lowered.is_some_and(|lowered| self.begun < lowered) {
            return;
        }
        let limit = (state.limit / 2).max(FLOOR);
        let fewer = state.limit.saturating_sub(limit);
        state.surplus += fewer - self.limit.free.forget_permits(fewer);
        (state.limit, state.answered) = (limit, 0);
        state.lowered = Some(Instant::now());
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut state = self.limit.state.lock();
        if state.surplus > 0 {
            state.surplus -= 1;
            if let Some(permit) = self.permit.take() {
                permit.forget();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::FutureExt as _;

    use super::*;

    fn acquire_all(limit: &Arc<ConcurrencyLimit>) -> Vec<Slot> {
        std::iter::from_fn(|| limit.acquire().now_or_never().flatten()).collect()
    }

    async fn later() {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn halves_once_for_all_that_went_on_together_down_to_a_floor() {
        let limit = ConcurrencyLimit::new(64);
        for expected in [64, 32, 16, 8, 4, 2, 2] {
            let slots = acquire_all(&limit);
            assert_eq!(slots.len(), expected);
            later().await;
            slots.iter().for_each(Slot::lower_limit);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn grows_by_one_for_as_many_answers_as_there_are_up_to_the_most() {
        let limit = ConcurrencyLimit::new(8);
        for _ in 0..3 {
            later().await;
            acquire_all(&limit)[0].lower_limit();
        }
        for expected in [2, 3, 4, 5, 6, 7, 8, 8] {
            let slots = acquire_all(&limit);
            assert_eq!(slots.len(), expected);
            slots.iter().for_each(Slot::raise_limit);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn keeps_its_count_whatever_goes_on_while_it_changes() {
        let limit = ConcurrencyLimit::new(16);
        let held = acquire_all(&limit);
        later().await;
        held[0].lower_limit();
        // It grows again before those that it held are gone.
        held.iter().for_each(Slot::raise_limit);
        let grown = 8 + 1;
        drop(held);
        assert_eq!(acquire_all(&limit).len(), grown);
    }
}
