//! What failed, as long as it matters.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use super::state::ReconcilerState;
use crate::clock::RetryTimer;
use crate::provision::changes::PullSecretKey;
use crate::provision::decide::CredentialState;
use crate::provision::observe::SecretView;
use crate::registry::source::MintSource;

/// How often at most it is seen whether what failed still matters.
const SWEEP_INTERVAL: SignedDuration = SignedDuration::from_secs(1);

impl ReconcilerState {
    /// How many mints and writes failed and are still to be done.
    pub(super) fn count_failing(&self, now: Timestamp) -> (usize, usize) {
        // Another replica may have done it.
        let is_failing = |key: &&PullSecretKey| {
            self.index.get(key).is_some_and(|record| {
                let is_stale = record.view().is_some_and(|view| view.stale.is_some());
                (self.write_backoff.has_failed(key) && !record.unwritten(now).is_empty())
                    || (self.remove_backoff.has_failed(key) && is_stale)
            })
        };
        let keys: BTreeSet<&PullSecretKey> = self
            .write_backoff
            .keys()
            .chain(self.remove_backoff.keys())
            .collect();
        (
            self.mint_retries.len(),
            keys.iter().filter(|key| is_failing(key)).count(),
        )
    }

    /// When it is to be seen whether what failed still matters; `None`: once something ended.
    pub(super) fn next_sweep(&self, now: Timestamp) -> Option<Timestamp> {
        let is_quiet = self.mint_retries.is_empty()
            && self.write_backoff.keys().next().is_none()
            && self.remove_backoff.keys().next().is_none();
        if self.is_swept && is_quiet {
            return self.drift.next_expiry();
        }
        Some(self.swept.map_or(now, |timer| timer.at(now)))
    }

    /// Forgets what concerns no pull secret and no source any more.
    pub(super) fn sweep(&mut self, now: Timestamp) {
        self.swept = Some(RetryTimer::after(SWEEP_INTERVAL, now));
        self.is_swept = true;
        let is_fresh = |view: &SecretView, source: &MintSource| {
            let mut entries = view.entries(now).filter(|one| one.source == Some(source));
            entries.any(|entry| {
                let credential = CredentialState {
                    minted: entry.life,
                    ..CredentialState::default()
                };
                credential.is_fresh(now)
            })
        };
        // One that is fresh was minted by another replica after it failed here.
        let index = &self.index;
        self.mint_retries.retain(|source| {
            let key = index.example_of(&source.canonical());
            let view = key.and_then(|key| index.get(key)?.view());
            view.is_some_and(|view| !is_fresh(view, source))
        });
        let drifting = self.drift.persistent();
        self.drift.forget_expired(now);
        for key in &drifting {
            if !self.drift.is_drifting(key) {
                self.mark(key);
            }
        }
        let index = &self.index;
        let drift = &self.drift;
        let stays = |key: &PullSecretKey| index.get(key).is_some() || drift.is_drifting(key);
        self.write_backoff.retain(stays);
        self.remove_backoff.retain(stays);
    }
}
