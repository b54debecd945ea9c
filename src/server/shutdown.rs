//! Stopping without losing an admission.
//!
//! kube-apiserver keeps using open connections to a server that has left the Endpoints (<https://github.com/kubernetes/kubernetes/issues/127335>)
//! and does not repeat a POST that was cut off. So a draining server goes on accepting and answering for a while, with
//! `Connection: close` in each response, so that callers connect to another replica. Only then it closes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;

/// Where a server is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Accepts and answers.
    Serving,
    /// Still accepts and answers, is no longer ready, and closes each connection after its response.
    Draining,
    /// Accepts no more and finishes what is in flight.
    Closing,
}

/// The phase that a process is in, shared by its listeners. Clones are the same.
#[derive(Clone, Debug)]
pub struct Drain {
    phase: Arc<watch::Sender<Phase>>,
    prepared: Arc<AtomicBool>,
    /// What keeps it from being prepared, each under the name of what waits for it.
    obstacles: Arc<Mutex<BTreeMap<&'static str, String>>>,
}

impl Default for Drain {
    fn default() -> Self {
        Self {
            phase: Arc::new(watch::Sender::new(Phase::Serving)),
            prepared: Arc::default(),
            obstacles: Arc::default(),
        }
    }
}

impl Drain {
    /// The phase now.
    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Ends when the phase is `phase` or a later one.
    pub async fn reached(&self, phase: Phase) {
        let mut phases = self.phase.subscribe();
        let _ = phases.wait_for(|now| *now >= phase).await;
    }

    /// Says that everything that answering needs is there.
    pub fn set_prepared(&self) {
        self.prepared.store(true, Ordering::Release);
    }

    /// Says what keeps `waiting` from being prepared; `None`: nothing any more.
    pub fn set_obstacle(&self, waiting: &'static str, obstacle: Option<String>) {
        let mut obstacles = self.obstacles.lock();
        match obstacle {
            Some(obstacle) => obstacles.insert(waiting, obstacle),
            None => obstacles.remove(waiting),
        };
    }

    /// Why it is not ready, in words for people; empty where nothing more is known.
    pub fn obstacles(&self) -> String {
        let obstacles = self.obstacles.lock();
        let all: Vec<&str> = obstacles.values().map(String::as_str).collect();
        all.join("; ")
    }

    /// Whether new callers are welcome: prepared, and not leaving.
    pub fn is_ready(&self) -> bool {
        self.prepared.load(Ordering::Acquire) && self.phase() == Phase::Serving
    }

    /// Goes through the phases: leaving at once, closing after `delay`.
    pub async fn run(&self, delay: Duration) {
        self.enter(Phase::Draining);
        tokio::time::sleep(delay).await;
        self.enter(Phase::Closing);
    }

    /// Enters a phase; phases never go back.
    pub fn enter(&self, phase: Phase) {
        self.phase.send_if_modified(|now| {
            let later = phase > *now;
            *now = phase.max(*now);
            later
        });
    }
}
