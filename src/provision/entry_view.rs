//! What the controller sees of one entry of a pull secret.

use jiff::Timestamp;

use super::decide::{EntryState, spread, spread_mounted};
use super::entry_state::entry_state;
use super::grant_coverage::GrantCoverage;
use crate::names::ObjectName;
use crate::registry::source::MintSource;

/// One grant of a pull secret.
pub struct EntryView<'v> {
    /// The Registry that it is of.
    pub registry: &'v ObjectName,
    /// Who mints its credential; `None` for a fixed login, and where it is not known yet whose credential it is to be.
    pub source: Option<&'v MintSource>,
    /// When that was minted, and when it ends.
    pub life: Option<(Timestamp, Timestamp)>,
    /// What spreads its renewal from others.
    pub jitter: u8,
    /// The source Secret that it is read from, or minted with.
    pub secret: Option<&'v ObjectName>,
    /// Who its principal is.
    pub principal: Option<&'v str>,
    /// What the secret holds of it.
    pub entry_state: EntryState,
}

impl<'v> EntryView<'v> {
    /// The entry as it is at `now`.
    pub(super) fn of(covered: &'v GrantCoverage, now: Timestamp) -> Self {
        let credential = covered.desired.credential();
        let spread = if covered.grant.is_mounted() {
            spread_mounted
        } else {
            spread
        };
        Self {
            registry: &covered.grant.registry,
            source: covered.desired.source(),
            life: credential.map(|one| (one.minted_at, one.expires_at)),
            jitter: credential.map_or(0, |one| spread(covered.desired.jitter(), one.minted_at)),
            secret: covered.grant.source.secret(),
            principal: credential.map(|one| one.principal.as_str()),
            entry_state: entry_state(covered, now),
        }
    }
}
