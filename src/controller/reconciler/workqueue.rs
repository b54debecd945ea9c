//! What waits to be reconciled and to be written, each key once. Pure.
//!
//! ```text
//! add ─▶ ready ─▶ reconcile ─▶ add_write ─▶ writes: what is missing at once, what is renewed by the soonest end, at a pace
//!  ▲                  │
//!  └─ waiting until ◀─┘
//! ```

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::time::Duration;

use jiff::Timestamp;

use crate::clock::token_bucket::TokenBucket;

/// How many writes of renewed credentials begin per second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RenewalRate {
    /// At least, as long as some are due.
    pub base: f64,
    /// At most, however little time is left.
    pub max: f64,
}

impl Default for RenewalRate {
    fn default() -> Self {
        Self {
            base: 20.0,
            max: 500.0,
        }
    }
}

/// Keys by priority, each once; of equal ones the first that came.
#[derive(Debug)]
pub(super) struct KeyQueue<P, K> {
    order: BTreeMap<(P, u64), K>,
    places: HashMap<K, (P, u64)>,
    count: u64,
}

impl<P, K> Default for KeyQueue<P, K> {
    fn default() -> Self {
        Self {
            order: BTreeMap::new(),
            places: HashMap::new(),
            count: 0,
        }
    }
}

impl<P: Copy + Ord, K: Clone + Eq + Hash> KeyQueue<P, K> {
    /// Puts a key in, or to its new place if its priority is another one.
    pub(super) fn push(&mut self, key: K, priority: P) {
        if self.places.get(&key).is_some_and(|(is, _)| *is == priority) {
            return;
        }
        self.remove(&key);
        self.count += 1;
        let place = (priority, self.count);
        self.places.insert(key.clone(), place);
        self.order.insert(place, key);
    }

    /// Takes a key out.
    pub(super) fn remove(&mut self, key: &K) {
        if let Some(place) = self.places.remove(key) {
            self.order.remove(&place);
        }
    }

    pub(super) fn contains(&self, key: &K) -> bool {
        self.places.contains_key(key)
    }

    /// Takes the first one out.
    pub(super) fn pop(&mut self) -> Option<K> {
        let (_, key) = self.order.pop_first()?;
        self.places.remove(&key);
        Some(key)
    }

    /// The priority of the first one.
    pub(super) fn first(&self) -> Option<P> {
        self.order
            .first_key_value()
            .map(|((priority, _), _)| *priority)
    }

    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }
}

/// Keys that wait.
#[derive(Debug)]
pub(super) struct WorkQueue<K> {
    /// To be reconciled, in the order in which they came.
    ready: KeyQueue<(), K>,
    /// To be reconciled then.
    waiting: KeyQueue<Timestamp, K>,
    /// Something is missing there.
    complete: KeyQueue<(), K>,
    /// Something is to be renewed there, soonest to end first.
    renew: KeyQueue<Timestamp, K>,
    bucket: TokenBucket,
    rate: RenewalRate,
}

impl<K> Default for WorkQueue<K> {
    fn default() -> Self {
        Self {
            ready: KeyQueue::default(),
            waiting: KeyQueue::default(),
            complete: KeyQueue::default(),
            renew: KeyQueue::default(),
            bucket: TokenBucket::default(),
            rate: RenewalRate::default(),
        }
    }
}

impl<K: Clone + Eq + Hash> WorkQueue<K> {
    pub(super) fn new(rate: RenewalRate) -> Self {
        Self {
            rate,
            ..Self::default()
        }
    }

    /// Adds a key that is to be reconciled now.
    pub(super) fn add(&mut self, key: K) {
        self.waiting.remove(&key);
        self.ready.push(key, ());
    }

    /// Adds a key that is to be reconciled then.
    pub(super) fn add_at(&mut self, key: K, at: Timestamp) {
        self.waiting.push(key, at);
    }

    /// Adds all of which the time has come.
    pub(super) fn add_due(&mut self, now: Timestamp) {
        while self.waiting.first().is_some_and(|at| at <= now) {
            if let Some(key) = self.waiting.pop() {
                self.ready.push(key, ());
            }
        }
    }

    /// Takes the next key that is to be reconciled.
    pub(super) fn pop(&mut self) -> Option<K> {
        self.ready.pop()
    }

    /// Takes a key that is to be reconciled out of its turn; whether it is.
    pub(super) fn take(&mut self, key: &K) -> bool {
        let is_ready = self.ready.contains(key);
        self.ready.remove(key);
        is_ready
    }

    /// Whether nothing is to be reconciled now.
    pub(super) fn is_settled(&self) -> bool {
        self.ready.is_empty()
    }

    /// Adds a key whose writing may begin: at once, or of a renewal that is to be done by then.
    pub(super) fn add_write(&mut self, key: K, by: Option<Timestamp>) {
        match by {
            None => {
                self.renew.remove(&key);
                self.complete.push(key, ());
            }
            Some(by) => {
                self.complete.remove(&key);
                self.renew.push(key, by);
            }
        }
    }

    /// Nothing is to be written there after all.
    pub(super) fn forget_write(&mut self, key: &K) {
        self.complete.remove(key);
        self.renew.remove(key);
    }

    /// Nothing is to be done there any more.
    pub(super) fn forget(&mut self, key: &K) {
        self.waiting.remove(key);
        self.forget_write(key);
    }

    /// Takes the next key whose writing may begin.
    pub(super) fn pop_write(&mut self, now: Timestamp) -> Option<K> {
        if let Some(key) = self.complete.pop() {
            return Some(key);
        }
        let first = self.renew.first()?;
        let pace = self.pace(first, now);
        self.bucket.refill(pace, pace.max(1.0), now);
        if !self.bucket.has_token() {
            return None;
        }
        self.bucket.take();
        self.renew.pop()
    }

    /// Whether no write waits.
    pub(super) fn has_no_writes(&self) -> bool {
        self.complete.is_empty() && self.renew.is_empty()
    }

    /// When the next renewal may begin, if one waits.
    pub(super) fn next_write(&self, now: Timestamp) -> Option<Duration> {
        let pace = self.pace(self.renew.first()?, now);
        Some(self.bucket.wait(pace))
    }

    /// When the first key is to be reconciled that waits for its time.
    pub(super) fn next(&self) -> Option<Timestamp> {
        self.waiting.first()
    }

    /// How many writes are to begin per second so that all are done in half of the time that the first of them has left.
    fn pace(&self, first_end: Timestamp, now: Timestamp) -> f64 {
        let left = first_end.duration_since(now).as_secs_f64().max(0.0) / 2.0;
        #[expect(clippy::cast_precision_loss, reason = "a pace is about")]
        let needed = self.renew.len() as f64 / left.max(0.001);
        needed.clamp(self.rate.base, self.rate.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: i64) -> Timestamp {
        Timestamp::from_millisecond(1_800_000_000_000 + milliseconds).unwrap()
    }

    fn queue() -> WorkQueue<&'static str> {
        WorkQueue::new(RenewalRate::default())
    }

    fn drain(next: impl FnMut() -> Option<&'static str>) -> String {
        std::iter::from_fn(next).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn reconciles_each_key_once_and_first_what_came_first() {
        let mut queue = queue();
        for key in ["b", "a", "b", "c"] {
            queue.add(key);
        }
        queue.add_at("a", at(1_000));
        assert!(!queue.is_settled());
        assert_eq!(drain(|| queue.pop()), "b a c");
        assert!(queue.is_settled());
        queue.add_at("c", at(500));
        queue.add_at("c", at(2_000));
        assert_eq!(queue.next(), Some(at(1_000)));
        queue.add_due(at(999));
        assert!(queue.is_settled());
        queue.add_due(at(2_000));
        assert_eq!(drain(|| queue.pop()), "a c");
        assert_eq!(queue.next(), None);
        queue.add_at("c", at(0));
        queue.add("c");
        queue.forget(&"c");
        assert_eq!(queue.next(), None, "now is sooner than then");
    }

    #[test]
    fn writes_what_is_missing_at_once_and_what_is_renewed_at_a_pace() {
        let mut queue = queue();
        let hours = |hours: i64| at(hours * 3_600_000);
        queue.add_write("late", Some(hours(3)));
        queue.add_write("soon", Some(hours(2)));
        queue.add_write("missing", Some(hours(2)));
        queue.add_write("missing", None);
        queue.add_write("never", None);
        queue.forget_write(&"never");
        assert_eq!(queue.pop_write(at(0)), Some("missing"));
        // A second's worth may begin at once.
        assert_eq!(drain(|| queue.pop_write(at(0))), "soon late");
        assert!(queue.has_no_writes());
        let names: Vec<&'static str> = (0..100)
            .map(|number| &*Box::leak(number.to_string().into_boxed_str()))
            .collect();
        for name in names {
            queue.add_write(name, Some(hours(3)));
        }
        let mut counts = Vec::new();
        for tick in 1..=40 {
            let now = at(tick * 50);
            counts.push(drain(|| queue.pop_write(now)).split(' ').count());
        }
        let began: usize = counts.iter().sum();
        assert!((50..=62).contains(&began), "20 a second: {began}");
    }

    #[test]
    fn hurries_where_little_time_is_left() {
        let cases = [
            (100, 3_600, 20.0),
            (1_000, 100, 20.0),
            (10_000, 100, 200.0),
            (10_000, 1, 500.0),
            (1, -5, 500.0),
        ];
        for (count, seconds, pace) in cases {
            let mut queue: WorkQueue<usize> = WorkQueue::new(RenewalRate::default());
            for key in 0..count {
                queue.add_write(key, Some(at(seconds * 1_000)));
            }
            let found = queue.pace(at(seconds * 1_000), at(0));
            assert!((found - pace).abs() < 1e-6, "{count} {seconds}: {found}");
        }
    }
}
