//! Which removals are blocked, and what confirms them.

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use super::blocked_report::BlockedReport;
use super::confirmations::{describe_removal, digest_removal};
use super::index::Index;
use super::state::ReconcilerState;
use crate::cluster::{CONFIRM_ANNOTATION, EventNote, EventType, reference};
use crate::controller::removal_guard::Permits;
use crate::provision::PULL_SECRET;
use crate::provision::changes::PullSecretKey;
use crate::provision::observe::SecretView;

impl ReconcilerState {
    /// Which of all that is to be removed may be.
    pub(super) fn permit_removals(&mut self, now: Timestamp) -> Permits {
        let (index, confirmations) = (&self.index, &self.confirmations);
        let is_confirmed = |key: &PullSecretKey| confirmations.covers(index, key);
        self.guard.permit(index.there(), is_confirmed, now)
    }

    /// Whether an admin confirmed what is to be removed from a pull secret.
    pub(super) fn is_confirmed(&self, key: &PullSecretKey) -> bool {
        self.confirmations.covers(&self.index, key)
    }

    /// Whether all that was confirmed has ended, which is said once: what failed is there and tried again.
    pub(super) fn end_confirmed(&mut self) -> bool {
        if !self.confirmations.is_any() || !self.guard.is_idle() {
            return false;
        }
        let is_over = !self.index.stale().iter().any(|key| self.is_confirmed(key));
        if is_over {
            self.confirmations.end();
        }
        is_over
    }

    /// Reports which removals are blocked until an admin confirms them: each set once it is whole, and again while it waits.
    pub(super) fn report_blocked(
        &mut self,
        blocked: &[PullSecretKey],
        own_namespace: &str,
        now: Timestamp,
    ) {
        self.blocked = blocked.len();
        if blocked.is_empty() {
            if self.guard.is_idle() {
                self.confirmations.forget_reports();
                self.blocked_report = BlockedReport::default();
            }
            return;
        }
        let count = blocked.len();
        let id = blocked_removals_id(&self.index, blocked);
        if !self.blocked_report.is_due(&id, now) {
            return;
        }
        let total = self.index.there();
        let note = format!(
            "blocked removal from {count} of {total} pull secrets at once; if this is intended, confirm it: kubectl annotate lease --namespace {own_namespace} {PULL_SECRET} {CONFIRM_ANNOTATION}={id} --overwrite",
        );
        tracing::error!(secrets.blocked = count, secrets.total = total, "{note}");
        self.events.push(EventNote {
            regarding: reference(
                ["coordination.k8s.io/v1", "Lease", PULL_SECRET],
                Some(own_namespace),
                None,
            ),
            event_type: EventType::Warning,
            reason: "RemovalBlocked".into(),
            series: Some(id.clone()),
            action: "Remove",
            note,
        });
        let views = blocked.iter().filter_map(|key| self.index.get(key)?.view());
        let removals = views.map(digest_removal).collect();
        self.confirmations.note_report(&id, removals);
    }
}

/// What these removals are called: the same for the very same content of the very same Secrets, so that who confirmed them says
/// nothing of later ones. What pullpass cannot have written changes nothing of it: anybody may change that each second.
pub(super) fn blocked_removals_id(index: &Index, blocked: &[PullSecretKey]) -> String {
    let views = || blocked.iter().filter_map(|key| index.get(key)?.view());
    let is_ours = |view: &&SecretView| view.stale.as_ref().is_some_and(|stale| stale.is_ours);
    let mut all: Vec<String> = views().filter(is_ours).map(describe_removal).collect();
    if all.is_empty() {
        all = views().map(describe_removal).collect();
    }
    all.sort();
    let hash = Sha256::digest(all.join("\n"));
    let first = hash.first_chunk().copied().map_or(0, u32::from_be_bytes);
    format!("{first:08x}")
}
