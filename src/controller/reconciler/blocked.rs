//! Which removals are blocked, and what confirms them.

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use super::blocked_report::BlockedReport;
use super::index::Index;
use super::state::ReconcilerState;
use crate::cluster::{CONFIRM_ANNOTATION, EventNote, EventType, reference};
use crate::provision::PULL_SECRET;
use crate::provision::changes::PullSecretKey;
use crate::provision::observe::SecretView;

impl ReconcilerState {
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
                self.reported_blocked = None;
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
            reason: "RemovalBlocked",
            series: Some(id.clone()),
            action: "Remove",
            note,
        });
        self.reported_blocked = Some(id);
    }
}

/// What these removals are called: the same for the very same content of the very same Secrets, so that who confirmed them says
/// nothing of later ones.
pub(super) fn blocked_removals_id(index: &Index, blocked: &[PullSecretKey]) -> String {
    let views = blocked.iter().filter_map(|key| index.get(key)?.view());
    let mut all: Vec<String> = views.map(describe_removal).collect();
    all.sort();
    let hash = Sha256::digest(all.join("\n"));
    let first = hash.first_chunk().copied().map_or(0, u32::from_be_bytes);
    format!("{first:08x}")
}

fn describe_removal(view: &SecretView) -> String {
    let keys = view.stale.iter().flat_map(|stale| &stale.keys);
    let mut keys: Vec<&String> = keys.collect();
    keys.sort();
    let observed = view.target.observed.as_ref();
    let digest = |key: &&String| observed?.digests.get(*key);
    let logins: Vec<_> = keys.iter().map(|key| (key, digest(key))).collect();
    let uid = observed.map(|observed| &observed.version.uid);
    // Of content that was not read its version is all that is known.
    let unread = observed.filter(|observed| !observed.intact);
    let version = unread.map(|observed| &observed.version.resource_version);
    format!("{:?} {uid:?} {version:?} {logins:?}", view.target.key())
}
