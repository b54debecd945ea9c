//! What is under way, what is left alone for a while, and what went wrong.

use std::collections::{HashMap, HashSet};

use jiff::{SignedDuration, Timestamp};
use sha2::{Digest as _, Sha256};

use super::super::conditions::Reason;
use super::super::status::{ReportedStatus, secret};
use super::crd_check::CrdCheck;
use super::drift::DriftBackoffs;
use super::status_holdoff::StatusHoldoff;
use super::tasks::{PullSecretWrite, TaskResult, Tasks};
use super::workqueue::WorkQueue;
use super::write_backoff::WriteBackoff;
use crate::clock::RetryTimer;
use crate::cluster::{CONFIRM_ANNOTATION, EventNote, EventType, reference};
use crate::log_throttle::LogThrottle;
use crate::provision::decide::{Decision, REMOVAL_WINDOW};
use crate::provision::ports::ClusterError;
use crate::provision::prune::Removed;
use crate::provision::snapshot::{PullSecretKey, PullSecretRef, Snapshot};
use crate::provision::{EnsureOutcome, PULL_SECRET};
use crate::registry::source::MintSource;

/// When a mint that failed is asked for again; the minter's own back-off decides whether the cloud is.
const MINT_RETRY: SignedDuration = SignedDuration::from_secs(5);

#[derive(Default)]
pub(super) struct ReconcilerState {
    pub(super) tasks: Tasks,
    pub(super) minting: HashSet<MintSource>,
    pub(super) writing: HashSet<PullSecretKey>,
    mint_retry: HashMap<MintSource, (RetryTimer, Reason)>,
    pub(super) write_backoff: WriteBackoff,
    remove_backoff: WriteBackoff,
    /// What we wrote last.
    last_written: HashMap<PullSecretKey, String>,
    pub(super) drift: DriftBackoffs,
    /// What waits to be minted and written.
    pub(super) queue: WorkQueue,
    /// Whether anything ended since the last resync of everything.
    pub(super) has_results: bool,
    pub(super) crd_check: CrdCheck,
    /// When something was removed last that nobody ordered, from each pull secret.
    removals: HashMap<PullSecretKey, Timestamp>,
    /// Further Events to publish.
    pub(super) events: Vec<EventNote>,
    /// What was published.
    pub(super) reported: ReportedStatus,
    status_holdoff: StatusHoldoff,
    /// By the reason: whoever makes namespaces go can cause one for each.
    removal_failures: LogThrottle<&'static str>,
    /// The digest under which the blocked removals were reported.
    reported_blocked: Option<String>,
}

impl ReconcilerState {
    /// Takes all that ended.
    pub(super) fn take_finished(&mut self, now: Timestamp) {
        while let Some(finished) = self.tasks.next_finished() {
            self.take(finished, now);
        }
    }

    /// Takes what ended.
    pub(super) fn take(&mut self, finished: TaskResult, now: Timestamp) {
        // Published statuses and Events change nothing here.
        self.has_results |= !matches!(
            finished,
            TaskResult::EventPublished | TaskResult::StatusWritten(_, Ok(()))
        );
        match finished {
            TaskResult::Minted(source, failed) => {
                self.minting.remove(&source);
                match failed {
                    None => self.mint_retry.remove(&source),
                    Some(failure) => self
                        .mint_retry
                        .insert(source, (RetryTimer::after(MINT_RETRY, now), failure)),
                };
            }
            TaskResult::Written(name, kept) => {
                self.writing.remove(&name);
                self.record_write(name, kept, now);
            }
            TaskResult::Removed(name, found, removed) => {
                self.writing.remove(&name);
                self.record_removal(name, found, &removed, now);
            }
            TaskResult::CrdChecked(answer) => self.crd_check.record_answer(answer, now),
            TaskResult::StatusWritten(registry, last_written) => {
                self.reported.record_write(&registry, last_written, now);
            }
            TaskResult::EventPublished => {}
        }
    }

    /// Whether a credential is neither being minted nor left alone for a while.
    pub(super) fn may_mint(&self, source: &MintSource, now: Timestamp) -> bool {
        let timer = self.mint_retry.get(source);
        !self.minting.contains(source) && timer.is_none_or(|(timer, _)| timer.at(now) <= now)
    }

    /// Whether a pull secret is neither being written nor left alone for a while.
    pub(super) fn may_write(&self, target: &PullSecretRef, now: Timestamp) -> bool {
        let name = target.name();
        let until = self.write_backoff.until(&name, target.uid(), now);
        !self.writing.contains(&name) && until.is_none_or(|until| until <= now)
    }

    /// Whether another writer changed what we wrote.
    pub(super) fn is_repair(&self, target: &PullSecretRef) -> bool {
        let wrote = self.last_written.get(&target.name());
        wrote.is_some_and(|version| {
            let observed = target.observed.as_ref();
            observed.is_none_or(|observed| observed.version.resource_version != *version)
        })
    }

    fn record_write(&mut self, name: PullSecretKey, kept: PullSecretWrite, now: Timestamp) {
        let why = match kept.outcome {
            EnsureOutcome::Covered => None,
            EnsureOutcome::Pending(why) => Some(why),
            EnsureOutcome::Foreign => Some(Vec::new()),
        };
        if let Some(why) = why {
            self.write_backoff.record_failure(name, kept.uid, why, now);
            return;
        }
        self.write_backoff.forget(&name);
        if let Some(version) = kept.version {
            self.last_written.insert(name.clone(), version);
        }
        if kept.repaired {
            self.record_drift(name, now);
        }
    }

    /// Another writer's change to a pull secret was reverted.
    fn record_drift(&mut self, name: PullSecretKey, now: Timestamp) {
        let Some(answer) = self.drift.record_change(&name, now) else {
            return;
        };
        if answer.is_first {
            const CONFLICTING_WRITER_NOTE: &str = "another writer keeps changing this pull secret, backing off; find it with `kubectl get secret pullpass --show-managed-fields -o yaml`, or opt the namespace out";
            tracing::warn!(
                namespace.name = name.0.as_str(),
                secret.name = &*name.1,
                "{CONFLICTING_WRITER_NOTE}"
            );
            self.events.push(EventNote {
                regarding: secret(&name.0, &name.1),
                event_type: EventType::Warning,
                reason: "ConflictingWriter",
                action: "Repair",
                note: CONFLICTING_WRITER_NOTE.to_owned(),
            });
        }
        self.write_backoff
            .min_resync_interval(name.clone(), answer.wait, now);
        self.remove_backoff
            .min_resync_interval(name, answer.wait, now);
    }

    /// Until when no status is published; `None`: it can be.
    pub(super) fn status_holdoff_until(
        &mut self,
        decision: &Decision,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let is_idle = self.minting.is_empty() && self.writing.is_empty();
        let is_busy = !is_idle || !decision.mint.is_empty() || !decision.complete.is_empty();
        self.status_holdoff.holds_until(is_busy, now)
    }

    /// How many mints and writes failed and are still to be done.
    pub(super) fn count_failing(&self, snapshot: &Snapshot) -> (usize, usize) {
        if self.write_backoff.is_empty() && self.remove_backoff.is_empty() {
            return (self.mint_retry.len(), 0);
        }
        let all = snapshot
            .secrets
            .iter()
            .zip(&snapshot.view.secrets)
            .enumerate();
        // Another replica may have done it.
        let failing = all.filter(|(at, (target, holding))| {
            let name = target.name();
            (self.write_backoff.has_failed(&name) && !snapshot.unwritten(*at).is_empty())
                || (self.remove_backoff.has_failed(&name) && holding.stale.is_some())
        });
        let writes = failing.count();
        (self.mint_retry.len(), writes)
    }

    /// Why the credential of a source could not be minted last time.
    pub(super) fn failure(&self, source: &MintSource) -> Option<Reason> {
        self.mint_retry
            .get(source)
            .map(|(_, finding)| finding.clone())
    }

    fn record_removal(
        &mut self,
        name: PullSecretKey,
        found: bool,
        removed: &Result<Removed, ClusterError>,
        now: Timestamp,
    ) {
        let (namespace, secret) = (name.0.as_str(), name.1.as_str());
        match removed {
            Ok(Removed::Secret) => tracing::info!(
                namespace.name = namespace,
                secret.name = secret,
                "deleted pull secret: no Registry serves the namespace, or it opted out"
            ),
            Ok(Removed::Entries) => tracing::info!(
                namespace.name = namespace,
                secret.name = secret,
                "removed logins from pull secret: their Registries do not serve the namespace any more"
            ),
            Ok(Removed::Nothing) => {}
            Err(error) => {
                if let Some(suppressed) = self.removal_failures.admit(error.reason()) {
                    tracing::warn!(
                        namespace.name = namespace,
                        secret.name = secret,
                        suppressed,
                        "failed to remove logins from pull secret, retrying: {error}"
                    );
                }
            }
        }
        let done = matches!(removed, Ok(Removed::Secret | Removed::Entries));
        if done {
            // There may be room now for what could not be written.
            self.write_backoff.forget(&name);
            self.remove_backoff.forget(&name);
        } else {
            self.remove_backoff
                .record_failure(name.clone(), None, Vec::new(), now);
        }
        if done && found {
            // Who keeps putting in what belongs nowhere is one pull secret, and no removal of many.
            self.removals.insert(name.clone(), now);
            self.record_drift(name, now);
        }
    }

    /// Marks in a snapshot what is under way, and what is backed off from.
    pub(super) fn mark(&self, snapshot: &mut Snapshot, now: Timestamp) {
        for (source, life) in snapshot.sources.iter().zip(&mut snapshot.view.credentials) {
            life.is_minting = self.minting.contains(source);
            let timer = self.mint_retry.get(source);
            life.retry_at = timer.map(|(timer, _)| timer.at(now));
        }
        let is_quiet = self.writing.is_empty()
            && self.write_backoff.is_empty()
            && self.remove_backoff.is_empty();
        let holdings = snapshot.secrets.iter().zip(&mut snapshot.view.secrets);
        for (target, holding) in holdings.filter(|_| !is_quiet) {
            let name = target.name();
            holding.is_writing = self.writing.contains(&name);
            holding.retry_at = self.write_backoff.until(&name, target.uid(), now);
            holding.remove_at = self.remove_backoff.until(&name, target.uid(), now);
        }
    }

    /// Marks in a snapshot of everything what was removed and confirmed.
    pub(super) fn mark_removals(
        &mut self,
        snapshot: &mut Snapshot,
        confirmed: Option<&str>,
        now: Timestamp,
    ) {
        self.removals
            .retain(|_, at| now.duration_since(*at).abs() < REMOVAL_WINDOW);
        snapshot.view.removals.recent = self.removals.len();
        snapshot.view.removals.confirmed =
            confirmed.is_some() && confirmed == self.reported_blocked.as_deref();
    }

    /// Forgets what a snapshot of everything no longer contains.
    pub(super) fn retain_only(&mut self, snapshot: &Snapshot, now: Timestamp) {
        // One that is fresh was minted by another replica after it failed here.
        let sources = snapshot.sources.iter().zip(&snapshot.view.credentials);
        let known: HashSet<&MintSource> = sources
            .filter(|(_, life)| !life.is_fresh(now))
            .map(|(source, _)| source)
            .collect();
        self.mint_retry.retain(|source, _| known.contains(source));
        let known: HashSet<PullSecretKey> =
            snapshot.secrets.iter().map(PullSecretRef::name).collect();
        self.drift.forget_expired(now);
        let stays = |name: &PullSecretKey| known.contains(name) || self.drift.is_drifting(name);
        self.write_backoff.retain(stays);
        self.remove_backoff.retain(stays);
        self.last_written.retain(|name, _| known.contains(name));
    }

    /// Reports, once for each set of them, which removals are blocked until an admin confirms them.
    pub(super) fn report_blocked_removals(
        &mut self,
        snapshot: &Snapshot,
        decision: &Decision,
        own_namespace: &str,
    ) {
        if decision.blocked.is_empty() {
            if decision.remove.is_empty() {
                self.reported_blocked = None;
            }
            return;
        }
        let count = decision.blocked.len();
        let id = blocked_removals_id(snapshot, &decision.blocked);
        if self.reported_blocked.as_ref() != Some(&id) {
            let note = format!(
                "blocked removal from {count} of {} pull secrets at once; if this is intended, confirm it: kubectl annotate lease --namespace {own_namespace} {PULL_SECRET} {CONFIRM_ANNOTATION}={id} --overwrite",
                snapshot.view.removals.secrets,
            );
            tracing::error!(
                secrets.blocked = count,
                secrets.total = snapshot.view.removals.secrets,
                "{note}"
            );
            self.events.push(EventNote {
                regarding: reference(
                    ["coordination.k8s.io/v1", "Lease", PULL_SECRET],
                    Some(own_namespace),
                    None,
                ),
                event_type: EventType::Warning,
                reason: "RemovalBlocked",
                action: "Remove",
                note,
            });
            self.reported_blocked = Some(id);
        }
    }
}

/// What these removals are called: the same for the very same content of the very same Secrets, so that who confirmed them says
/// nothing of later ones.
fn blocked_removals_id(snapshot: &Snapshot, places: &[usize]) -> String {
    let mut all: Vec<String> = places
        .iter()
        .map(|&at| {
            let target = &snapshot.secrets[at];
            let mut keys: Vec<&String> = snapshot.stale[at].iter().collect();
            keys.sort();
            let observed = target.observed.as_ref();
            let digest = |key: &&String| observed?.digests.get(*key);
            let logins: Vec<_> = keys.iter().map(|key| (key, digest(key))).collect();
            let uid = observed.map(|observed| &observed.version.uid);
            // Of content that was not read its version is all that is known.
            let unread = observed.filter(|observed| !observed.intact);
            let version = unread.map(|observed| &observed.version.resource_version);
            format!("{:?} {uid:?} {version:?} {logins:?}", target.name())
        })
        .collect();
    all.sort();
    let hash = Sha256::digest(all.join("\n"));
    let first = hash.first_chunk().copied().map_or(0, u32::from_be_bytes);
    format!("{first:08x}")
}

#[cfg(test)]
mod tests;
