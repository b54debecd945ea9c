//! Which removals are blocked, and what confirms them.

use std::collections::{HashSet, VecDeque};

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use super::blocked_report::BlockedReport;
use super::index::Index;
use super::state::ReconcilerState;
use crate::cluster::{CONFIRM_ANNOTATION, EventNote, EventType, reference};
use crate::controller::removal_guard::Permits;
use crate::provision::PULL_SECRET;
use crate::provision::changes::PullSecretKey;
use crate::provision::observe::SecretView;

/// So many reported sets may still be confirmed: who keeps changing one of the pull secrets makes another set each time.
const REPORTED: usize = 8;

/// The removals of one report.
struct BlockedSet {
    id: String,
    removals: HashSet<RemovalDigest>,
}

type RemovalDigest = [u8; 16];

/// What was reported as blocked, and what of that an admin confirmed: these very removals, and no later ones.
#[derive(Default)]
pub(super) struct Confirmations {
    reported: VecDeque<BlockedSet>,
    confirmed: Option<BlockedSet>,
}

impl Confirmations {
    /// The Lease says that an admin confirmed what was reported under this id.
    pub(super) fn take(&mut self, id: Option<&str>) {
        let known = self.confirmed.as_ref().map(|confirmed| &*confirmed.id);
        if known == id {
            return;
        }
        let mut reported = self.reported.iter();
        let place = reported.position(|reported| Some(&*reported.id) == id);
        let found = place.and_then(|place| self.reported.remove(place));
        let before = std::mem::replace(&mut self.confirmed, found);
        // What of an earlier set did not begin yet is confirmed all the same.
        if let (Some(confirmed), Some(before)) = (&mut self.confirmed, before) {
            confirmed.removals.extend(before.removals);
        }
    }

    fn note_report(&mut self, id: &str, removals: HashSet<RemovalDigest>) {
        self.reported.retain(|reported| reported.id != id);
        if self.reported.len() >= REPORTED {
            self.reported.pop_front();
        }
        let id = id.to_owned();
        self.reported.push_back(BlockedSet { id, removals });
    }

    fn covers(&self, index: &Index, key: &PullSecretKey) -> bool {
        let confirmed = self.confirmed.as_ref();
        confirmed.is_some_and(|confirmed| {
            let view = index.get(key).and_then(|record| record.view());
            view.is_some_and(|view| confirmed.removals.contains(&digest_removal(view)))
        })
    }
}

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
        if self.confirmations.confirmed.is_none() || !self.guard.is_idle() {
            return false;
        }
        let is_over = !self.index.stale().iter().any(|key| self.is_confirmed(key));
        if is_over {
            self.confirmations.confirmed = None;
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
                self.reported_blocked = None;
                self.confirmations.reported.clear();
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
        let views = blocked.iter().filter_map(|key| self.index.get(key)?.view());
        let removals = views.map(digest_removal).collect();
        self.confirmations.note_report(&id, removals);
        self.reported_blocked = Some(id);
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

fn digest_removal(view: &SecretView) -> RemovalDigest {
    let digest = Sha256::digest(describe_removal(view));
    *digest.first_chunk().expect("SHA-256 has 32 bytes")
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
