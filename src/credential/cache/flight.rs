//! One mint, under way or ended.

use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};
use jiff::Timestamp;
use tokio::task::{JoinHandle, unconstrained};

use super::backoff::RememberedFailure;
use crate::credential::{Credential, MintError};

/// A credential, or why there is none; both shared by everybody who asked.
pub type MintResult = Result<Arc<Credential>, Arc<MintError>>;

/// How a mint ended, for the next one.
pub(super) type FlightResult = Result<Arc<Credential>, RememberedFailure>;

/// One mint that everybody waits for who asks for its key, in a task of its own; cheap to clone.
#[derive(Clone)]
pub(super) struct MintFlight(Shared<BoxFuture<'static, FlightResult>>);

/// What a flight is to the next caller.
pub(super) enum FlightState {
    /// To be joined: it is under way, or failed so shortly ago that its failure still counts.
    Joinable,
    /// Over: the next one begins, and goes by what is remembered of this one if it failed.
    Over(Option<RememberedFailure>),
}

impl MintFlight {
    pub(super) fn of(task: JoinHandle<FlightResult>) -> Self {
        let ended = task.map(|ended| {
            ended.unwrap_or_else(|_| Err(RememberedFailure::of_a_bug(MintError::TaskPanicked)))
        });
        Self(ended.boxed().shared())
    }

    pub(super) fn state(&self, now: Timestamp) -> FlightState {
        match unconstrained(self.0.clone()).now_or_never() {
            None => FlightState::Joinable,
            Some(Err(failure)) if failure.is_active(now) => FlightState::Joinable,
            Some(ended) => FlightState::Over(ended.err()),
        }
    }

    /// Waits until it ends.
    pub(super) async fn join(self) -> MintResult {
        self.0.await.map_err(|failure| failure.error)
    }
}
