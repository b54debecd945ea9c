//! Coverage of one grant: what a pull secret holds under its keys.

use std::sync::Arc;

use jiff::Timestamp;

use super::desired::Desired;
use crate::credential::{Credential, Freshness, freshness};
use crate::registry::Grant;

/// One grant, and the coverage of its keys.
pub(super) struct GrantCoverage {
    /// The grant, as it was before it was bound to the namespace.
    pub(super) grant: Arc<Grant>,
    /// What there is to be written.
    pub(super) desired: Arc<Desired>,
    pub(super) coverage: KeyCoverage,
}

/// What a pull secret holds under the keys of one grant.
#[derive(Clone)]
pub(super) enum KeyCoverage {
    /// The current credential.
    Current,
    /// An earlier credential of the same source.
    Previous(Arc<Credential>),
    /// An earlier fixed login of the same source Secret: nobody knows for how long it works.
    PreviousLogin,
    /// Nothing, or something that we do not know.
    Unknown,
}

impl GrantCoverage {
    /// How good the secret's content is.
    pub(super) fn freshness(&self, now: Timestamp) -> Freshness {
        match &self.coverage {
            KeyCoverage::Current => match self.desired.credential() {
                None => Freshness::Fresh,
                Some(credential) => freshness(credential, now),
            },
            KeyCoverage::Previous(credential) => match freshness(credential, now) {
                Freshness::Spent => Freshness::Spent,
                Freshness::Fresh | Freshness::Renewable => Freshness::Renewable,
            },
            KeyCoverage::PreviousLogin | KeyCoverage::Unknown => Freshness::Spent,
        }
    }
}
