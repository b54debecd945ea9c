//! What people and Prometheus are told of what was reconciled.

use jiff::Timestamp;

use super::Reconciler;
use super::state::ReconcilerState;
use crate::controller::conditions::Reason;
use crate::controller::login_checks::CheckedLogins;
use crate::controller::missed_pods::calls::UnaskedPod;
use crate::controller::status::StatusInput;

impl Reconciler {
    /// Publishes what is new of status, metrics and Events; when to again.
    pub(super) fn report_status(
        &self,
        state: &mut ReconcilerState,
        now: Timestamp,
    ) -> Option<Timestamp> {
        for registry in std::mem::take(&mut state.index.changed) {
            state.reported.mark(registry);
        }
        let tried = self.logins.iter().flat_map(CheckedLogins::take_changed);
        let asked = self.nodes.take_changed();
        tried
            .chain(asked)
            .for_each(|registry| state.reported.mark(registry));
        let sweep = self.sweep(state, now);
        let needed = state.index.needed_rate();
        let is_overload = needed > self.rate.max;
        let overload = if is_overload {
            needed - self.rate.max
        } else {
            0.0
        };
        self.metrics
            .set_index(&state.index, state.blocked, overload);
        let unasked = self.calls.unasked();
        if (&unasked, is_overload) != (&state.unasked, state.is_overloaded) {
            (state.unasked, state.is_overloaded) = (unasked, is_overload);
            // Every Registry says it.
            state.reported.mark_all();
        }
        while let Some((listed, status)) = state.reported.pop_write(&self.provisioner) {
            self.write_status(listed, status, state);
        }
        for note in std::mem::take(&mut state.events) {
            self.publish(note, state, now);
        }
        let holdoff = state.status_holdoff_until(now);
        let next = holdoff.or_else(|| state.reported.next(now));
        if holdoff.is_some() || next.is_none_or(|next| next > now) {
            return next.into_iter().chain(sweep).min();
        }
        let overload = is_overload.then(|| overload_note(needed, self.rate.max));
        let unasked = state.unasked.as_deref().map(not_called_note);
        let notes = overload.into_iter().chain(unasked).collect();
        self.report_round(notes, state, now);
        while let Some((listed, status)) = state.reported.pop_write(&self.provisioner) {
            self.write_status(listed, status, state);
        }
        state.reported.next(now).into_iter().chain(sweep).min()
    }

    /// Works out what is to be said of the Registries that changed.
    fn report_round(&self, notes: Vec<Reason>, state: &mut ReconcilerState, now: Timestamp) {
        let mut reported = std::mem::take(&mut state.reported);
        let input = StatusInput {
            provisioner: &self.provisioner,
            index: &state.index,
            failure: &|source| state.failure(source),
            drifting: state.drift.persistent(),
            unwritten: state.write_backoff.persistent(),
            logins: self.logins.as_ref(),
            nodes: &self.nodes,
            notes,
            unheeded: &state.unheeded,
            gauges: self.metrics.registries(),
        };
        let events = reported.round(&input, now);
        state.reported = reported;
        self.metrics.set_expiry(state.index.first_end());
        for note in events {
            self.publish(note, state, now);
        }
    }

    /// Forgets what failed where it does not matter any more, and counts the rest; when to again.
    fn sweep(&self, state: &mut ReconcilerState, now: Timestamp) -> Option<Timestamp> {
        let next = state.next_sweep(now)?;
        if next > now {
            return Some(next);
        }
        state.sweep(now);
        let (mints, writes) = state.count_failing(now);
        self.metrics.set_failing(mints, writes);
        None
    }
}

/// Pods get no references, however good their pull secrets are.
fn not_called_note(pod: &UnaskedPod) -> Reason {
    Reason::new("WebhookNotCalled", pod.describe())
}

fn overload_note(needed: f64, done: f64) -> Reason {
    let message = format!(
        "renewals need {needed:.0} writes per second, --max-renewals-per-second is {done:.0}: raise it, let credentials live longer, or serve fewer namespaces"
    );
    Reason::new("RenewalRateExceeded", message)
}
