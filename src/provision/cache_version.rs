//! The state that what is cached was worked out in.

use super::ports::Credentials;
use super::state::State;

/// The state that something was worked out in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct CacheVersion {
    state: u64,
    credentials: u64,
}

impl CacheVersion {
    pub(super) fn of(state: &State, credentials: &dyn Credentials) -> Self {
        Self {
            state: state.generation(),
            credentials: credentials.changes(),
        }
    }
}
