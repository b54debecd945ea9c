//! What is logged of mints.

use jiff::{SignedDuration, Timestamp};

use super::backoff::RememberedFailure;
use crate::clock;
use crate::credential::metrics::Provider;
use crate::credential::{Credential, MintError};
use crate::registry::source::MintSource;

/// A mint that succeeded.
pub(super) fn success(source: &MintSource, credential: &Credential) {
    tracing::info!(
        credential.provider = Provider::of(source).label(),
        credential.location = source.location(),
        credential.principal = credential.principal,
        credential.expires_at = %credential.expires_at,
        "minted credential"
    );
}

/// Says why one is replaced before its time.
pub(super) fn future(source: &MintSource, current: &Credential, now: Timestamp) {
    if clock::is_from_future(current.minted_at, now) {
        tracing::warn!(
            credential.provider = Provider::of(source).label(),
            credential.location = source.location(),
            credential.minted_at = %current.minted_at,
            "stored credential was minted in the future, minting anew: the clock of this node or of another replica's is or was wrong -> check time synchronization (chrony, timesyncd) on the nodes"
        );
    }
}

/// Logs a failure where it is handled: everybody who waits gets the same one.
pub(super) fn failure(source: &MintSource, failure: &RememberedFailure) {
    let (error, wait): (&MintError, SignedDuration) = (&failure.error, failure.wait());
    let provider = Provider::of(source).label();
    let (place, reason, again) = (source.location(), error.reason(), wait.as_secs());
    // The level of an event is part of its place in the code.
    macro_rules! log {
        ($level:ident, $what:literal) => {
            tracing::$level!(
                credential.provider = provider,
                credential.location = place,
                error.reason = reason,
                retry.seconds = again,
                concat!($what, "{}"),
                error
            )
        };
    }
    match error {
        MintError::SessionNotRenewed { .. } => log!(debug, ""),
        // It was said when the account throttled.
        _ if failure.is_held_off => log!(debug, "held off: "),
        passing if passing.is_passing() => log!(warn, "failed to mint credential, retrying: "),
        _ => log!(error, "failed to mint credential, retrying: "),
    }
}
