//! What is done while keys wait to be reconciled, however many come all the time.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::state::ReconcilerState;
use super::tasks::{TaskKey, TaskResult};
use super::{MAX_CONCURRENT_REMOVALS, Reconciler};
use crate::clock::RetryTimer;
use crate::provision::Provision as _;
use crate::provision::changes::PullSecretKey;
use crate::provision::decide::Stale;
use crate::registry::Registries;

/// How often status is reported meanwhile.
const ROUND: SignedDuration = SignedDuration::from_secs(1);

impl Reconciler {
    /// What does not wait until all is reconciled that is to be: orders, since how much is removed in all is no matter to them, and once a
    /// second what people are told.
    pub(super) fn act_meanwhile(&self, state: &mut ReconcilerState, now: Timestamp) {
        let round = *state.round.get_or_insert(RetryTimer::after(ROUND, now));
        if round.at(now) <= now {
            state.round = Some(RetryTimer::after(ROUND, now));
            self.report_status(state, now);
        }
        let free = MAX_CONCURRENT_REMOVALS.saturating_sub(state.removals_running);
        let ordered = state.guard.ordered();
        let ordered = ordered
            .filter(|key| !state.writing.contains(*key))
            .take(free);
        let mut ordered: Vec<PullSecretKey> = ordered.cloned().collect();
        if ordered.is_empty() && !state.index.is_unconfirmed() {
            return;
        }
        let registries = self.provisioner.registries();
        self.check_crd(&registries, state, now);
        if !state.crd_check.is_confirmed() {
            return;
        }
        // Of what waits to be reconciled it is not known whether it is to be removed still.
        ordered.retain(|key| {
            if state.queue.take(key) {
                self.reconcile(key, state, now);
            }
            let cause = state.guard.cause(key);
            cause.is_some_and(|cause| cause.why == Stale::SpecChange)
        });
        self.remove_permitted(ordered, false, state);
    }

    /// Has the API server asked whether the kind of these Registries stays, if that is not known.
    pub(super) fn check_crd(
        &self,
        registries: &Arc<Registries>,
        state: &mut ReconcilerState,
        now: Timestamp,
    ) {
        if state.crd_check.should_ask(registries, now) {
            let provisioner = self.provisioner.clone();
            state.tasks.spawn(TaskKey::CheckCrd, async move {
                TaskResult::CrdChecked(provisioner.confirm_spec_changes().await)
            });
        }
    }
}
