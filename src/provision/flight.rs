//! The one piece of work under way for a namespace, and those who wait for a part of it.

use std::collections::HashMap;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{EnsureOutcome, Pending};

/// Work under way for one namespace.
pub(super) struct Flight {
    requests: Mutex<WaitRequests>,
    /// Rings when a caller joins.
    pub(super) requested: Notify,
    progress: Mutex<FlightProgress>,
    /// Rings when there is progress, first for who has waited longest. A watch channel has an order of its own for each process, in which
    /// no history of the model could be replayed.
    progressed: Notify,
}

/// What a flight has for one who asked.
pub(super) enum FlightAnswer {
    /// What came of all keys.
    Outcome(EnsureOutcome),
    /// The work ended before the question counted.
    Ended,
    /// The work ended by a panic: to begin it anew would end in the next one.
    Panicked,
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
    /// Whether it ended by a panic.
    pub(super) panicked: bool,
}

impl FlightProgress {
    /// Notes what came of a key.
    pub(super) fn resolve(&mut self, key: &str, began: u64, result: Result<(), Pending>) {
        self.resolved.insert(key.to_owned(), (began, result));
    }

    /// What there is for one who asked; `None`: nothing yet.
    fn answer(&self, request: &WaitRequest) -> Option<FlightAnswer> {
        match self.outcome(request) {
            Some(outcome) => Some(FlightAnswer::Outcome(outcome)),
            None if self.panicked => Some(FlightAnswer::Panicked),
            None => self.ended.then_some(FlightAnswer::Ended),
        }
    }

    /// The answer to a question; `None`: not known yet.
    fn outcome(&self, request: &WaitRequest) -> Option<EnsureOutcome> {
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
            progress: Mutex::default(),
            progressed: Notify::new(),
        }
    }

    /// Asks for keys.
    pub(super) fn request(&self, keys: &[&str]) -> WaitRequest {
        let mut requests = self.requests.lock();
        requests.count += 1;
        let keys = keys.iter().map(|key| (*key).to_owned()).collect();
        let request = WaitRequest {
            number: requests.count,
            keys,
        };
        requests.open.push(request.clone());
        drop(requests);
        self.requested.notify_one();
        request
    }

    /// Waits until a question is answered, or the work has ended.
    pub(super) async fn answer(&self, request: &WaitRequest) -> FlightAnswer {
        loop {
            // Whatever progress there is from here on rings it.
            let progressed = self.progressed.notified();
            let answer = self.progress.lock().answer(request);
            if let Some(answer) = answer {
                return answer;
            }
            progressed.await;
        }
    }

    /// How many have asked so far.
    pub(super) fn count(&self) -> u64 {
        self.requests.lock().count
    }

    /// The number of the last question about a key that has no answer yet; 0 when there is none.
    pub(super) fn last_ask_for(&self, keys: &[String]) -> u64 {
        let requests = self.requests.lock();
        let about = requests
            .open
            .iter()
            .filter(|request| request.keys.iter().any(|key| keys.contains(key)));
        about.map(|request| request.number).max().unwrap_or(0)
    }

    /// The questions that have no answer yet.
    pub(super) fn open(&self) -> Vec<WaitRequest> {
        self.requests.lock().open.clone()
    }

    /// Notifies the waiters.
    pub(super) fn publish(&self, change: impl FnOnce(&mut FlightProgress)) {
        let mut progress = self.progress.lock();
        change(&mut progress);
        self.requests
            .lock()
            .open
            .retain(|request| progress.outcome(request).is_none());
        drop(progress);
        self.progressed.notify_waiters();
    }
}
