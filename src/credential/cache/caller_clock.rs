//! What time it is in a task that outlives the call it came from.

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

/// The present, counted on from the caller's: what a task that outlives the call goes by.
#[derive(Clone, Copy)]
pub(super) struct CallerClock {
    started: Instant,
    at: Timestamp,
}

impl CallerClock {
    /// Begins at the caller's present.
    pub(super) fn at(now: Timestamp) -> Self {
        let started = Instant::now();
        Self { started, at: now }
    }

    pub(super) fn now(self) -> Timestamp {
        let passed =
            SignedDuration::try_from(self.started.elapsed()).unwrap_or(SignedDuration::MAX);
        self.at.saturating_add(passed).unwrap_or(Timestamp::MAX)
    }
}
