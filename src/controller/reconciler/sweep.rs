//! What failed, as long as it matters.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use super::index::Index;
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
        let index = &self.index;
        let is_failing = |key: &&PullSecretKey| {
            (self.write_backoff.has_failed(key) && is_unwritten(index, key, now))
                || (self.remove_backoff.has_failed(key) && is_stale(index, key))
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
        self.settle_backoffs(now);
    }

    /// Forgets what failed where nothing is to be done any more: the next failure is the first.
    fn settle_backoffs(&mut self, now: Timestamp) {
        let (index, drift) = (&self.index, &self.drift);
        let matters = |key: &PullSecretKey| index.get(key).is_some() || drift.is_drifting(key);
        let is_unwritten = |key: &PullSecretKey| is_unwritten(index, key, now);
        let written = self.write_backoff.settle(matters, is_unwritten, now);
        let is_stale = |key: &PullSecretKey| is_stale(index, key);
        let removed = self.remove_backoff.settle(matters, is_stale, now);
        for key in written.iter().chain(&removed) {
            self.mark(key);
        }
    }
}

/// Whether something is to be written into a pull secret.
fn is_unwritten(index: &Index, key: &PullSecretKey, now: Timestamp) -> bool {
    let record = index.get(key);
    record.is_some_and(|record| !record.unwritten(now).is_empty())
}

/// Whether something is to be taken out of it.
fn is_stale(index: &Index, key: &PullSecretKey) -> bool {
    let view = index.get(key).and_then(|record| record.view());
    view.is_some_and(|view| view.stale.is_some())
}
