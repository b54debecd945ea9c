//! The places of a listener's connections.
//!
//! kube-apiserver, probes and scrapers must get in however many connections another client keeps open. So when all places are taken,
//! a new connection gets the place of the one that has been between requests for longest; one whose request is being answered stays.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::metrics::Metrics;
use super::timeouts::ConnectionActivity;

/// How long to wait for a free place before idle connections are closed again.
const RETRY_INTERVAL: Duration = Duration::from_millis(50);

/// The places.
#[derive(Debug)]
pub(super) struct ConnectionLimit {
    free: Arc<Semaphore>,
    count: usize,
    taken: Mutex<HashMap<u64, Arc<ConnectionActivity>>>,
    /// A counter that grows with every event: a connection's last value says since when it is idle.
    ticks: Arc<AtomicU64>,
    metrics: Metrics,
}

impl ConnectionLimit {
    pub(super) fn new(count: usize, metrics: Metrics) -> Arc<Self> {
        Arc::new(Self {
            free: Arc::new(Semaphore::new(count)),
            count,
            taken: Mutex::default(),
            ticks: Arc::default(),
            metrics,
        })
    }

    /// A place for one more connection, as soon as there is one.
    pub(super) async fn take(self: &Arc<Self>) -> ConnectionPermit {
        loop {
            if self.free.available_permits() == 0 {
                self.metrics.warn_full(self.count);
                self.close_idle();
            }
            let permit = Arc::clone(&self.free).acquire_owned();
            if let Ok(permit) = tokio::time::timeout(RETRY_INTERVAL, permit).await {
                return self.fill(permit.expect("the semaphore is never closed"));
            }
        }
    }

    fn fill(self: &Arc<Self>, permit: OwnedSemaphorePermit) -> ConnectionPermit {
        let activity = Arc::new(ConnectionActivity::counting(Arc::clone(&self.ticks)));
        let id = self.ticks.fetch_add(1, Ordering::Relaxed);
        self.lock().insert(id, Arc::clone(&activity));
        ConnectionPermit {
            limit: Arc::clone(self),
            id,
            activity,
            _permit: permit,
        }
    }

    /// Closes the connection that has been idle for longest.
    fn close_idle(&self) {
        let taken = self.lock();
        let idle = taken.values().filter(|activity| activity.is_idle());
        if let Some(longest) = idle.min_by_key(|activity| activity.last_tick()) {
            longest.close_idle();
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Arc<ConnectionActivity>>> {
        self.taken.lock()
    }
}

/// One connection's place. It is given back with the value.
#[derive(Debug)]
pub(super) struct ConnectionPermit {
    limit: Arc<ConnectionLimit>,
    id: u64,
    /// What goes on there.
    pub(super) activity: Arc<ConnectionActivity>,
    _permit: OwnedSemaphorePermit,
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.limit.lock().remove(&self.id);
    }
}
