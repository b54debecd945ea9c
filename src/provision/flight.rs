//! The one piece of work under way for a namespace, and those who wait for a part of it.

use std::collections::HashMap;
use std::sync::Mutex;

use tokio::sync::{Notify, watch};

use super::lock::lock;
use super::{EnsureOutcome, Pending};

/// Work under way for one namespace.
pub(super) struct Flight {
    requests: Mutex<WaitRequests>,
    /// Rings when a caller joins.
    pub(super) requested: Notify,
    progress: watch::Sender<FlightProgress>,
}

#[derive(Default)]
struct WaitRequests {
    count: u64,
    open: Vec<WaitRequest>,
}

/// What one Pod waits for.
#[derive(Clone)]
pub(super) struct WaitRequest {
    /// Its number: only what was gathered after the question is an answer to it.
    pub(super) number: u64,
    /// The `auths` keys.
    pub(super) keys: Vec<String>,
}

/// How far the work has come.
#[derive(Clone, Default)]
pub(super) struct FlightProgress {
    /// What came of each `auths` key, and how many had asked when that began.
    resolved: HashMap<String, (u64, Result<(), Pending>)>,
    /// Whether the Secret turned out not to be ours.
    pub(super) foreign: bool,
    /// Whether the work has ended.
    pub(super) ended: bool,
    /// Whether it ended by a panic: to begin it anew would end in the next one.
    pub(super) panicked: bool,
}

impl FlightProgress {
    /// Notes what came of a key.
    pub(super) fn resolve(&mut self, key: &str, began: u64, result: Result<(), Pending>) {
        self.resolved.insert(key.to_owned(), (began, result));
    }

    /// The answer to a question; `None`: not known yet.
    pub(super) fn outcome(&self, request: &WaitRequest) -> Option<EnsureOutcome> {
        if self.foreign {
            return Some(EnsureOutcome::Foreign);
        }
        let mut pending: Vec<Pending> = Vec::new();
        for key in &request.keys {
            let (began, result) = self.resolved.get(key)?;
            if *began < request.number {
                return None;
            }
            if let Err(why) = result
                && !pending.contains(why)
            {
                pending.push(why.clone());
            }
        }
        Some(if pending.is_empty() {
            EnsureOutcome::Covered
        } else {
            EnsureOutcome::Pending(pending)
        })
    }
}

impl Flight {
    pub(super) fn new() -> Self {
        Self {
            requests: Mutex::default(),
            requested: Notify::new(),
            progress: watch::Sender::new(FlightProgress::default()),
        }
    }

    /// Asks for keys, and says how to follow the work.
    pub(super) fn request(&self, keys: &[&str]) -> (WaitRequest, watch::Receiver<FlightProgress>) {
        let mut requests = lock(&self.requests);
        requests.count += 1;
        let keys = keys.iter().map(|key| (*key).to_owned()).collect();
        let request = WaitRequest {
            number: requests.count,
            keys,
        };
        requests.open.push(request.clone());
        drop(requests);
        self.requested.notify_one();
        (request, self.progress.subscribe())
    }

    /// How many have asked so far.
    pub(super) fn count(&self) -> u64 {
        lock(&self.requests).count
    }

    /// The number of the last question about a key that has no answer yet; 0 when there is none.
    pub(super) fn last_ask_for(&self, keys: &[String]) -> u64 {
        let requests = lock(&self.requests);
        let about = requests
            .open
            .iter()
            .filter(|request| request.keys.iter().any(|key| keys.contains(key)));
        about.map(|request| request.number).max().unwrap_or(0)
    }

    /// The questions that have no answer yet.
    pub(super) fn open(&self) -> Vec<WaitRequest> {
        lock(&self.requests).open.clone()
    }

    /// Notifies the waiters.
    pub(super) fn publish(&self, change: impl FnOnce(&mut FlightProgress)) {
        self.progress.send_modify(change);
        let progress = self.progress.borrow();
        lock(&self.requests)
            .open
            .retain(|request| progress.outcome(request).is_none());
    }
}
