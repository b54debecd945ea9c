//! What a mint that ended, or is tried again, means for the pull secrets that wait for it.

use jiff::Timestamp;

use super::mint_retries::SourceFailure;
use super::state::ReconcilerState;
use crate::controller::conditions::Reason;
use crate::registry::source::MintSource;

impl ReconcilerState {
    /// A mint ended.
    pub(super) fn take_minted(
        &mut self,
        source: &MintSource,
        failed: Option<SourceFailure>,
        now: Timestamp,
    ) {
        self.mints_running = self.mints_running.saturating_sub(1);
        self.minting.remove(source);
        let canonical = source.canonical();
        let is_first = failed.map(|failed| self.mint_retries.record_failure(source, failed, now));
        for key in self.index.keys_of(&canonical) {
            let is_concerned = match is_first {
                None => true,
                // What else is to be written there waited for it, and waits for no further try.
                Some(true) => {
                    let record = self.index.get(&key);
                    record.is_some_and(|record| !record.unwritten(now).is_empty())
                }
                Some(false) => false,
            };
            if is_concerned {
                self.queue.add(key);
            }
        }
        if is_first.is_none() {
            self.mint_retries.forget(source);
        }
        for registry in self.index.registries_of(&canonical) {
            self.reported.mark(registry);
        }
    }

    /// Adds a pull secret of each source that is to be asked for again after it failed.
    pub(super) fn add_due_mints(&mut self, now: Timestamp) {
        while let Some(source) = self.mint_retries.pop_due(now) {
            if let Some(key) = self.index.example_of(&source.canonical()) {
                self.queue.add(key.clone());
            }
        }
    }

    /// Why the credential of a source could not be minted last time.
    pub(super) fn failure(&self, source: &MintSource) -> Option<Reason> {
        self.mint_retries.why(source).cloned()
    }
}
