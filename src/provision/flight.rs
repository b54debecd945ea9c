//! The one piece of work under way for a namespace, and those who wait for a part of it.

use std::collections::HashMap;
use std::sync::Mutex;

use tokio::sync::{Notify, watch};

use super::lock::lock;
use super::{Outcome, Pending};

/// Work under way for one namespace.
pub(super) struct Flight {
    asks: Mutex<Asks>,
    /// Rings when somebody asks.
    pub(super) asked: Notify,
    progress: watch::Sender<Progress>,
}

#[derive(Default)]
struct Asks {
    count: u64,
    open: Vec<Ask>,
}

/// What one Pod waits for.
#[derive(Clone)]
pub(super) struct Ask {
    /// Its number: only what was gathered after the question is an answer to it.
    pub(super) number: u64,
    /// The `auths` keys.
    pub(super) keys: Vec<String>,
}

/// How far the work has come.
#[derive(Clone, Default)]
pub(super) struct Progress {
    /// What came of each `auths` key, and how many had asked when that began.
    settled: HashMap<String, (u64, Result<(), Pending>)>,
    /// Whether the Secret turned out not to be ours.
    pub(super) foreign: bool,
    /// Whether the work has ended.
    pub(super) ended: bool,
}

impl Progress {
    /// Notes what came of a key.
    pub(super) fn settle(&mut self, key: &str, began: u64, result: Result<(), Pending>) {
        self.settled.insert(key.to_owned(), (began, result));
    }

    /// The answer to a question; `None`: not known yet.
    pub(super) fn outcome(&self, ask: &Ask) -> Option<Outcome> {
        if self.foreign {
            return Some(Outcome::Foreign);
        }
        let mut pending: Vec<Pending> = Vec::new();
        for key in &ask.keys {
            let (began, result) = self.settled.get(key)?;
            if *began < ask.number {
                return None;
            }
            if let Err(why) = result
                && !pending.contains(why)
            {
                pending.push(why.clone());
            }
        }
        Some(if pending.is_empty() {
            Outcome::Covered
        } else {
            Outcome::Pending(pending)
        })
    }
}

impl Flight {
    pub(super) fn new() -> Self {
        Self {
            asks: Mutex::default(),
            asked: Notify::new(),
            progress: watch::Sender::new(Progress::default()),
        }
    }

    /// Asks for keys, and says how to follow the work.
    pub(super) fn ask(&self, keys: &[&str]) -> (Ask, watch::Receiver<Progress>) {
        let mut asks = lock(&self.asks);
        asks.count += 1;
        let keys = keys.iter().map(|key| (*key).to_owned()).collect();
        let ask = Ask {
            number: asks.count,
            keys,
        };
        asks.open.push(ask.clone());
        drop(asks);
        self.asked.notify_one();
        (ask, self.progress.subscribe())
    }

    /// How many have asked so far.
    pub(super) fn count(&self) -> u64 {
        lock(&self.asks).count
    }

    /// The number of the last question about a key that has no answer yet; 0 when there is none.
    pub(super) fn last_ask_for(&self, keys: &[String]) -> u64 {
        let asks = lock(&self.asks);
        let about = asks
            .open
            .iter()
            .filter(|ask| ask.keys.iter().any(|key| keys.contains(key)));
        about.map(|ask| ask.number).max().unwrap_or(0)
    }

    /// The questions that have no answer yet.
    pub(super) fn open(&self) -> Vec<Ask> {
        lock(&self.asks).open.clone()
    }

    /// Tells those who wait.
    pub(super) fn publish(&self, change: impl FnOnce(&mut Progress)) {
        self.progress.send_modify(change);
        let progress = self.progress.borrow();
        lock(&self.asks)
            .open
            .retain(|ask| progress.outcome(ask).is_none());
    }
}
