//! What that is worth at a moment which stands in a pull secret. Pure.

use jiff::Timestamp;

use super::decide::Stands;
use super::verify::{Held, Standing, Verified};
use crate::credential::{Freshness, freshness};

/// The keys of what a pull secret lacks and is there to be written.
pub(super) fn lacking(verdict: &Verified, now: Timestamp) -> Vec<&str> {
    let held = verdict.held().iter();
    held.filter(|held| matches!(stands(held, now), Stands::Missing | Stands::Earlier(_)))
        .flat_map(|held| held.grant.keys.iter().map(String::as_str))
        .collect()
}

/// When what stands there ends, if it is known to be good and ends.
pub(super) fn end(held: &Held) -> Option<Timestamp> {
    let credential = match &held.standing {
        Standing::Good => held.supply.credential(),
        Standing::Earlier(credential) => Some(credential),
        Standing::Unknown => None,
    };
    credential.map(|credential| credential.expires_at)
}

/// What stands there.
pub(super) fn stands(held: &Held, now: Timestamp) -> Stands {
    match &held.standing {
        // Until its very end: so long a Pod is admitted with it where no other one is to be had.
        Standing::Good if end(held).is_some_and(|end| end <= now) => Stands::Unavailable,
        Standing::Good => Stands::Current,
        Standing::Earlier(credential) if freshness(credential, now) != Freshness::Spent => {
            Stands::Earlier(credential.expires_at)
        }
        Standing::Earlier(_) | Standing::Unknown => {
            if held.supply.is_available(now) {
                Stands::Missing
            } else {
                Stands::Unavailable
            }
        }
    }
}
