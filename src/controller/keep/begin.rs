//! What takes a while begins, as a job of its own.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::Keeper;
use super::jobs::About;
use super::work::{Done, Kept, Work};
use crate::controller::report::Finding;
use crate::provision::survey::Place;
use crate::registry::source::MintSource;

/// How long one pull secret's writing may take.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

impl Keeper {
    /// Begins to take these keys out of a pull secret; `found`: nobody ordered that.
    pub(super) fn remove(&self, place: &Place, keys: &[String], found: bool, work: &mut Work) {
        work.writing.insert(place.name());
        let about = About::Remove(place.name());
        let (ensure, place, keys) = (self.ensure.clone(), place.clone(), keys.to_vec());
        work.jobs.begin(about, async move {
            let removed = ensure.remove(&place, &keys).await;
            Done::Removed(place.name(), found, removed)
        });
    }

    /// Begins to mint a credential.
    pub(super) fn mint(&self, source: &MintSource, work: &mut Work, now: Timestamp) {
        work.minting.insert(source.clone());
        let (credentials, source) = (Arc::clone(&self.credentials), source.clone());
        let ensure = self.ensure.clone();
        let about = About::Mint(source.clone());
        work.jobs.begin(about, async move {
            let minted = credentials.renew(&source, now).await;
            if let (Err(error), Some(tenant)) = (&minted, source.tenant())
                && error.is_refusal()
            {
                ensure.read_again(tenant).await;
            }
            let failed = minted.err();
            let finding = failed.map(|error| Finding::new(error.reason(), error.to_string()));
            Done::Minted(source, finding)
        });
    }

    /// Begins to write what a pull secret lacks.
    pub(super) fn write(&self, place: Place, work: &mut Work) {
        work.writing.insert(place.name());
        let repaired = work.is_repair(&place);
        let ensure = self.ensure.clone();
        work.jobs.begin(About::Write(place.name()), async move {
            let deadline = Instant::now() + WRITE_TIMEOUT;
            let outcome = ensure.keep(&place, deadline).await;
            let kept = Kept {
                outcome,
                repaired,
                version: ensure.version(&place),
            };
            Done::Kept(place.name(), kept)
        });
    }
}
