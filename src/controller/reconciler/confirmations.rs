//! What an admin confirmed of the removals that were reported as blocked. Pure.

use std::collections::{HashSet, VecDeque};

use sha2::{Digest as _, Sha256};

use super::index::Index;
use crate::provision::changes::PullSecretKey;
use crate::provision::observe::SecretView;

/// So many reported sets may still be confirmed: who keeps changing one of the pull secrets makes another set each time.
const REPORTED: usize = 8;

/// The removals of one report.
struct BlockedSet {
    id: String,
    removals: HashSet<RemovalDigest>,
}

pub(super) type RemovalDigest = [u8; 16];

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

    pub(super) fn note_report(&mut self, id: &str, removals: HashSet<RemovalDigest>) {
        self.reported.retain(|reported| reported.id != id);
        if self.reported.len() >= REPORTED {
            self.reported.pop_front();
        }
        let id = id.to_owned();
        self.reported.push_back(BlockedSet { id, removals });
    }

    pub(super) fn covers(&self, index: &Index, key: &PullSecretKey) -> bool {
        let confirmed = self.confirmed.as_ref();
        confirmed.is_some_and(|confirmed| {
            let view = index.get(key).and_then(|record| record.view());
            view.is_some_and(|view| confirmed.removals.contains(&digest_removal(view)))
        })
    }

    /// Whether anything is confirmed.
    pub(super) fn is_any(&self) -> bool {
        self.confirmed.is_some()
    }

    /// All that was confirmed has ended.
    pub(super) fn end(&mut self) {
        self.confirmed = None;
    }

    /// Nothing is blocked any more.
    pub(super) fn forget_reports(&mut self) {
        self.reported.clear();
    }
}

/// What tells a removal from every other one.
pub(super) fn digest_removal(view: &SecretView) -> RemovalDigest {
    let digest = Sha256::digest(describe_removal(view));
    *digest.first_chunk().expect("SHA-256 has 32 bytes")
}

/// The very content of the very Secret that is to be removed.
pub(super) fn describe_removal(view: &SecretView) -> String {
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
