//! How many reviews of tokens callers can cause. One whose token is accepted costs nothing: what is refused counts, so that who sends made-up
//! tokens is stopped, and kubelets are not, however many of them share an address, as behind a NodePort.
//!
//! Each address has a budget of its own. All that never showed a good token share another one: many of them together are stopped, too,
//! and in no way of those that did.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::concurrency_limit::{ConcurrencyLimit, Slot};
use crate::clock::token_bucket::TokenBucket;

/// How many reviews may be refused.
#[derive(Clone, Copy, Debug)]
struct Limit {
    /// At once, after a pause. So many go on at a time.
    burst: u32,
    /// Per second, after that.
    rate: f64,
}

/// For one address.
const ADDRESS: Limit = Limit {
    burst: 40,
    rate: 2.0,
};

/// For all addresses together of which no token was accepted.
const STRANGERS: Limit = Limit {
    burst: 64,
    rate: 50.0,
};

/// How many reviews go on at a time for addresses of which a token was accepted, and for all others.
const TURNS: usize = 64;

/// How long an address is known that no review is for: nodes ask when they pull.
const KNOWN_FOR: Duration = Duration::from_hours(24);

/// After so long without a review the budget of a stranger would be full anyhow.
const STRANGER_FOR: Duration = Duration::from_mins(1);

/// How many addresses of each kind are remembered: the ones that asked last.
const ADDRESSES_MAX: u64 = 10_000;

/// Turns to have a token reviewed.
pub(super) struct ReviewBudget {
    known: Cache<IpAddr, Arc<Budget>>,
    strangers: Cache<IpAddr, Arc<Budget>>,
    turns_of_known: Arc<ConcurrencyLimit>,
    turns_of_strangers: Arc<ConcurrencyLimit>,
    of_strangers: Arc<Budget>,
}

impl Default for ReviewBudget {
    /// Nobody is known.
    fn default() -> Self {
        let remember = |idle| {
            Cache::builder()
                .max_capacity(ADDRESSES_MAX)
                .time_to_idle(idle)
                .eviction_policy(EvictionPolicy::lru())
                .build()
        };
        Self {
            known: remember(KNOWN_FOR),
            strangers: remember(STRANGER_FOR),
            turns_of_known: ConcurrencyLimit::new(TURNS),
            turns_of_strangers: ConcurrencyLimit::new(TURNS),
            of_strangers: Arc::new(Budget::new(STRANGERS)),
        }
    }
}

impl ReviewBudget {
    /// Waits for a turn; `None`: too many tokens from there were refused.
    pub(super) async fn take_turn(&self, address: IpAddr, now: Timestamp) -> Option<ReviewTurn> {
        let known = self.known.get(&address);
        let is_known = known.is_some();
        let budget = known.unwrap_or_else(|| {
            let new = || Arc::new(Budget::new(ADDRESS));
            self.strangers.get_with(address, new)
        });
        let own = budget.reserve(now).await?;
        let (turns, shared) = if is_known {
            (&self.turns_of_known, None)
        } else {
            let shared = self.of_strangers.reserve(now).await?;
            (&self.turns_of_strangers, Some(shared))
        };
        Some(ReviewTurn {
            address,
            own,
            shared,
            slot: turns.acquire().await?,
        })
    }

    /// Gives a turn back whose token was accepted: its address is known from here on.
    pub(super) fn accept(&self, turn: ReviewTurn) {
        let (address, budget) = (turn.address, Arc::clone(&turn.own.budget));
        turn.give_back();
        self.known.get_with(address, || budget);
        self.strangers.invalidate(&address);
    }
}

/// One review that may be asked for. Once it is, it counts as refused, also where nobody waits for the answer any more, unless it is given back.
pub(super) struct ReviewTurn {
    address: IpAddr,
    own: Reserved,
    shared: Option<Reserved>,
    slot: Slot,
}

impl ReviewTurn {
    /// Counts it, as the API server is asked now.
    pub(super) fn spend(&mut self) {
        self.own.is_spent = true;
        if let Some(shared) = &mut self.shared {
            shared.is_spent = true;
        }
    }

    /// Whether the API server answered in time decides how many it is asked at once.
    pub(super) fn note_answer(&self, is_in_time: bool) {
        if is_in_time {
            self.slot.raise_limit();
        } else {
            self.slot.lower_limit();
        }
    }

    /// Counts it no more: the API server refused nothing.
    pub(super) fn give_back(mut self) {
        self.own.is_spent = false;
        if let Some(shared) = &mut self.shared {
            shared.is_spent = false;
        }
    }
}

/// How many more may be refused. As many go on at a time: all of them may be.
struct Budget {
    limit: Limit,
    left: Mutex<TokenBucket>,
    /// One for each that is left, but for those that are reserved.
    free: Arc<Semaphore>,
    /// Tells who waits that none is left.
    exhausted: Notify,
}

impl Budget {
    fn new(limit: Limit) -> Self {
        Self {
            limit,
            left: Mutex::default(),
            free: Arc::new(Semaphore::new(0)),
            exhausted: Notify::new(),
        }
    }

    /// Waits, first come first served, as long as those that are left are reserved; `None`: none is left.
    async fn reserve(self: &Arc<Self>, now: Timestamp) -> Option<Reserved> {
        let exhausted = self.exhausted.notified();
        if !self.refill(now) {
            return None;
        }
        let permit = tokio::select! {
            biased;
            permit = Arc::clone(&self.free).acquire_owned() => permit.ok()?,
            () = exhausted => return None,
        };
        Some(Reserved {
            budget: Arc::clone(self),
            permit: Some(permit),
            is_spent: false,
        })
    }

    fn refill(&self, now: Timestamp) -> bool {
        let mut left = self.left.lock();
        let before = left.count();
        left.refill(self.limit.rate, self.limit.burst.into(), now);
        self.free.add_permits(left.count() - before);
        left.has_token()
    }
}

/// One of a budget.
struct Reserved {
    budget: Arc<Budget>,
    permit: Option<OwnedSemaphorePermit>,
    is_spent: bool,
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if let Some(permit) = self.permit.take_if(|_| self.is_spent) {
            permit.forget();
            let mut left = self.budget.left.lock();
            left.take();
            if !left.has_token() {
                self.budget.exhausted.notify_waiters();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use futures::FutureExt as _;

    use super::*;

    fn at(milliseconds: i64) -> Timestamp {
        Timestamp::from_millisecond(1_800_000_000_000 + milliseconds).unwrap()
    }

    fn address(number: u32) -> IpAddr {
        Ipv4Addr::from(0x0a00_0000 + number).into()
    }

    /// Has tokens refused as long as somebody may; answers how many were.
    fn refuse(budget: &ReviewBudget, from: IpAddr, most: usize, now: Timestamp) -> usize {
        let mut turns = Vec::new();
        while turns.len() < most
            && let Some(Some(mut turn)) = budget.take_turn(from, now).now_or_never()
        {
            turn.spend();
            turns.push(turn);
        }
        turns.len()
    }

    fn accept(budget: &ReviewBudget, from: IpAddr, now: Timestamp) {
        let mut turn = budget.take_turn(from, now).now_or_never().unwrap().unwrap();
        turn.spend();
        budget.accept(turn);
    }

    #[test]
    fn stops_an_address_whose_tokens_are_refused_and_no_other() {
        let budget = ReviewBudget::default();
        assert_eq!(refuse(&budget, address(1), 1000, at(0)), 40);
        let turn = budget.take_turn(address(1), at(0)).now_or_never();
        assert!(turn.unwrap().is_none(), "it is told at once");
        accept(&budget, address(2), at(0));
        // Then at a pace, whatever it does meanwhile.
        let mut refused = 0;
        for time in (0..60_000).step_by(100) {
            refused += refuse(&budget, address(1), 1000, at(time));
        }
        assert!((118..=120).contains(&refused), "{refused}");
        assert_eq!(refuse(&budget, address(1), 1000, at(80_000)), 40);
    }

    #[test]
    fn takes_nothing_for_tokens_that_are_accepted_however_many_share_an_address() {
        let budget = ReviewBudget::default();
        for _ in 0..10_000 {
            accept(&budget, address(1), at(0));
        }
        // Forty at a time; the others wait, and each that ends is for one of them.
        let mut turns: Vec<ReviewTurn> = Vec::new();
        while let Some(turn) = budget.take_turn(address(1), at(0)).now_or_never() {
            turns.push(turn.unwrap());
        }
        assert_eq!(turns.len(), 40);
        let mut waiting = std::pin::pin!(budget.take_turn(address(1), at(0)));
        assert!(waiting.as_mut().now_or_never().is_none());
        budget.accept(turns.pop().unwrap());
        let turn = waiting.now_or_never().unwrap();
        turns.extend(turn);
        assert_eq!(turns.len(), 40);
        // Who waits is told when all of them were refused.
        let mut waiting = std::pin::pin!(budget.take_turn(address(1), at(0)));
        assert!(waiting.as_mut().now_or_never().is_none());
        for mut turn in turns {
            turn.spend();
        }
        assert!(waiting.now_or_never().unwrap().is_none());
    }

    #[test]
    fn stops_many_strangers_together_and_lets_in_who_showed_a_good_token() {
        let budget = ReviewBudget::default();
        accept(&budget, address(0), at(0));
        let mut refused = 0;
        for time in (0..10_000).step_by(10) {
            for number in 1..50 {
                let from = address(u32::try_from(time).unwrap() * 50 + number);
                refused += refuse(&budget, from, 2, at(time));
            }
            accept(&budget, address(0), at(time));
        }
        assert!((560..=564).contains(&refused), "{refused}");
    }

    #[test]
    fn counts_a_review_that_nobody_waits_for_and_none_that_was_not_asked_for() {
        let budget = ReviewBudget::default();
        let take = || budget.take_turn(address(1), at(0)).now_or_never();
        for _ in 0..100 {
            drop(take().unwrap().unwrap());
        }
        for _ in 0..100 {
            let mut turn = take().unwrap().unwrap();
            turn.spend();
            // The API server did not answer.
            turn.give_back();
        }
        for _ in 0..40 {
            let mut turn = take().unwrap().unwrap();
            turn.spend();
            drop(turn);
        }
        assert!(take().unwrap().is_none());
    }

    #[test]
    fn remembers_so_many_addresses_and_no_more() {
        let budget = ReviewBudget::default();
        for number in 0..30_000 {
            let turn = budget.take_turn(address(number), at(0)).now_or_never();
            budget.accept(turn.unwrap().unwrap());
        }
        for cache in [&budget.known, &budget.strangers] {
            cache.run_pending_tasks();
            assert!(cache.entry_count() <= ADDRESSES_MAX);
        }
    }
}
