//! What is under way, what is left alone for a while, and what went wrong.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::super::missed_pods::calls::UnaskedPod;
use super::super::removal_guard::RemovalGuard;
use super::super::status::{ReportedStatus, secret};
use super::blocked_report::BlockedReport;
use super::confirmations::Confirmations;
use super::crd_check::CrdCheck;
use super::drift::DriftBackoffs;
use super::index::Index;
use super::mint_retries::MintRetries;
use super::status_holdoff::StatusHoldoff;
use super::tasks::{PullSecretRemoval, PullSecretWrite, TaskResult, Tasks};
use super::workqueue::{KeyQueue, RenewalRate, WorkQueue};
use super::write_backoff::WriteBackoff;
use crate::clock::RetryTimer;
use crate::cluster::{EventNote, EventType};
use crate::log_throttle::LogThrottle;
use crate::names::NamespaceName;
use crate::provision::changes::{Cursor, PullSecretKey};
use crate::provision::decide::{CredentialState, SecretEntry, SecretState};
use crate::provision::observe::{PullSecretRef, SecretView};
use crate::provision::ports::ClusterError;
use crate::provision::prune::Removed;
use crate::provision::{EnsureOutcome, Namespace};
use crate::registry::Registries;
use crate::registry::source::MintSource;

/// When a pull secret is written again that lacks something after it was written.
const WRITE_AGAIN: SignedDuration = SignedDuration::from_secs(1);

/// When it is looked again at a removal after which nothing was gone.
const REMOVAL_RETRY: SignedDuration = SignedDuration::from_secs(5);

/// The order in which credentials are minted: those that failed after all others and in turns, the soonest to end first.
pub(super) type MintPriority = (Option<Timestamp>, Option<Timestamp>);

#[derive(Default)]
pub(super) struct ReconcilerState {
    pub(super) tasks: Tasks,
    pub(super) index: Index,
    pub(super) queue: WorkQueue<PullSecretKey>,
    /// The credentials that wait to be minted.
    pub(super) mints: KeyQueue<MintPriority, MintSource>,
    /// Since when each one waits, or is being minted.
    pub(super) minting: HashMap<MintSource, Timestamp>,
    /// How many are being minted.
    pub(super) mints_running: usize,
    /// What is being written, or something taken out of it, and from how many of these.
    pub(super) writing: HashSet<PullSecretKey>,
    pub(super) removals_running: usize,
    pub(super) mint_retries: MintRetries,
    pub(super) write_backoff: WriteBackoff,
    pub(super) remove_backoff: WriteBackoff,
    pub(super) drift: DriftBackoffs,
    pub(super) guard: RemovalGuard,
    pub(super) crd_check: CrdCheck,
    pub(super) blocked_report: BlockedReport,
    /// How many removals are blocked, and until when, if nothing changes.
    pub(super) blocked: usize,
    pub(super) blocked_until: Option<Timestamp>,
    /// What an admin had confirmed when that was decided last, and whether something was permitted.
    pub(super) confirmed: Option<String>,
    /// What was reported as blocked, and what of that was confirmed.
    pub(super) confirmations: Confirmations,
    pub(super) has_permits: bool,
    /// The Pod that shows that the API server does not call, and whether renewals are too many, when all Registries were marked last.
    pub(super) unasked: Option<Arc<UnaskedPod>>,
    pub(super) is_overloaded: bool,
    /// Further Events to publish.
    pub(super) events: Vec<EventNote>,
    /// What was published.
    pub(super) reported: ReportedStatus,
    pub(super) status_holdoff: StatusHoldoff,
    /// Those namespaces whose label is not followed.
    pub(super) unheeded: BTreeMap<NamespaceName, Arc<Namespace>>,
    /// The Registries as they were when what they concern was added to the queue last, and how many could not be read.
    pub(super) registries: Arc<Registries>,
    pub(super) unreadable: usize,
    /// How far the changes were read.
    pub(super) state_cursor: Cursor,
    pub(super) credential_cursor: Cursor,
    /// When it was looked at the clock last.
    pub(super) last: Timestamp,
    /// By the reason: whoever makes namespaces go can cause one for each.
    removal_failures: LogThrottle<&'static str>,
    /// When status is reported and orders are carried out again while keys wait to be reconciled.
    pub(super) round: Option<RetryTimer>,
    pub(super) swept: Option<RetryTimer>,
    /// Whether nothing ended since.
    pub(super) is_swept: bool,
}

impl ReconcilerState {
    pub(super) fn new(rate: RenewalRate) -> Self {
        Self {
            queue: WorkQueue::new(rate),
            last: Timestamp::MIN,
            ..Self::default()
        }
    }

    /// Takes all that ended.
    pub(super) fn take_finished(&mut self, now: Timestamp) {
        while let Some(finished) = self.tasks.next_finished() {
            self.take(finished, now);
        }
    }

    /// Takes what ended.
    pub(super) fn take(&mut self, finished: TaskResult, now: Timestamp) {
        self.is_swept = false;
        match finished {
            TaskResult::Minted(source, failed) => self.take_minted(&source, failed, now),
            TaskResult::Written(key, kept) => {
                self.writing.remove(&key);
                self.record_write(&key, kept, now);
                self.queue.add(key);
            }
            TaskResult::Removed(key, ended) => {
                self.writing.remove(&key);
                self.removals_running = self.removals_running.saturating_sub(1);
                self.record_removal(&key, ended, now);
                self.queue.add(key);
            }
            TaskResult::CrdChecked(answer) => {
                self.crd_check.record_answer(answer, now);
                for key in self.index.stale() {
                    self.queue.add(key.clone());
                }
            }
            TaskResult::StatusWritten(key, result) => self.reported.record_write(key, result, now),
            TaskResult::EventPublished => {}
        }
    }

    /// What is to be decided about a pull secret.
    pub(super) fn input_of(
        &self,
        key: &PullSecretKey,
        view: &SecretView,
        now: Timestamp,
    ) -> SecretState {
        let credential = |source: &MintSource, life, jitter| CredentialState {
            minted: life,
            minting_since: self.minting.get(source).copied(),
            retry_at: self.mint_retries.until(source, now),
            jitter,
        };
        let entries = view.entries(now).map(|entry| SecretEntry {
            credential: entry
                .source
                .map(|source| credential(source, entry.life, entry.jitter)),
            entry_state: entry.entry_state,
        });
        let uid = view.target.uid();
        SecretState {
            entries: entries.collect(),
            stale: view.stale.as_ref().map(|stale| stale.why),
            is_writing: self.writing.contains(key),
            retry_at: self.write_backoff.until(key, uid, now),
            remove_at: self.remove_backoff.until(key, uid, now),
            requeue_at: view.requeue_at,
        }
    }

    /// Queues a credential to be minted.
    pub(super) fn add_mint(
        &mut self,
        source: &MintSource,
        credential: CredentialState,
        now: Timestamp,
    ) {
        let until = credential.minted.map(|(_, until)| until);
        self.mints
            .push(source.clone(), (credential.retry_at, until));
        self.minting.insert(source.clone(), now);
    }

    /// How many pull secrets are being written.
    pub(super) fn writes_running(&self) -> usize {
        self.writing.len().saturating_sub(self.removals_running)
    }

    /// Whether a pull secret is neither being written nor left alone for a while.
    pub(super) fn may_write(&self, target: &PullSecretRef, now: Timestamp) -> bool {
        let key = target.key();
        let until = self.write_backoff.until(&key, target.uid(), now);
        !self.writing.contains(&key) && until.is_none_or(|until| until <= now)
    }

    /// Whether another writer changed what we wrote.
    pub(super) fn is_repair(&self, target: &PullSecretRef) -> bool {
        let record = self.index.get(&target.key());
        let wrote = record.and_then(|record| record.last_written.as_ref());
        wrote.is_some_and(|version| {
            let observed = target.observed.as_ref();
            observed.is_none_or(|observed| observed.version.resource_version != *version)
        })
    }

    fn record_write(&mut self, key: &PullSecretKey, kept: PullSecretWrite, now: Timestamp) {
        let why = match kept.outcome {
            EnsureOutcome::Covered => None,
            EnsureOutcome::Pending(why) => Some(why),
            EnsureOutcome::Foreign => Some(Vec::new()),
        };
        if let Some(why) = why {
            self.write_backoff
                .record_failure(key.clone(), kept.uid, why, now);
            self.mark(key);
            return;
        }
        if self.write_backoff.has_failed(key) {
            self.mark(key);
        }
        self.write_backoff.forget(key);
        if let (Some(record), Some(version)) = (self.index.get_mut(key), kept.version) {
            record.last_written = Some(version);
        }
        if kept.is_lacking {
            self.write_backoff.hold_off(key.clone(), WRITE_AGAIN, now);
        }
        if kept.repaired {
            self.record_drift(key, now);
        }
    }

    /// What is to be said of a pull secret's Registries may be something else now.
    pub(super) fn mark(&mut self, key: &PullSecretKey) {
        let view = self.index.get(key).and_then(|record| record.view());
        let entries = view
            .into_iter()
            .flat_map(|view| view.entries(Timestamp::MIN));
        for entry in entries {
            self.reported.mark(entry.registry.clone());
        }
    }

    /// Another writer's change to a pull secret was reverted.
    fn record_drift(&mut self, key: &PullSecretKey, now: Timestamp) {
        let Some(answer) = self.drift.record_change(key, now) else {
            return;
        };
        if answer.is_first {
            let note = format!(
                "another writer keeps changing this pull secret, backing off; find it with `kubectl get secret {} --show-managed-fields -o yaml`, or opt the namespace out",
                key.1
            );
            tracing::warn!(
                namespace.name = key.0.as_str(),
                secret.name = &*key.1,
                "{note}"
            );
            self.events.push(EventNote {
                regarding: secret(&key.0, &key.1),
                event_type: EventType::Warning,
                reason: "ConflictingWriter".into(),
                series: None,
                action: "Repair",
                note,
            });
            self.mark(key);
        }
        self.write_backoff.hold_off(key.clone(), answer.wait, now);
        self.remove_backoff.hold_off(key.clone(), answer.wait, now);
    }

    /// Until when no status is published; `None`: it can be.
    pub(super) fn status_holdoff_until(&mut self, now: Timestamp) -> Option<Timestamp> {
        let is_idle = self.minting.is_empty()
            && self.writing.is_empty()
            && self.queue.is_settled()
            && self.queue.has_no_writes();
        self.status_holdoff.holds_until(!is_idle, now)
    }

    fn log_removal(&mut self, key: &PullSecretKey, removed: &Result<Removed, ClusterError>) {
        let (namespace, secret) = (key.0.as_str(), key.1.as_str());
        match removed {
            Ok(Removed::Secret) => tracing::info!(
                namespace.name = namespace,
                secret.name = secret,
                "deleted Secret: nothing belongs into it any more"
            ),
            Ok(Removed::Entries) => tracing::info!(
                namespace.name = namespace,
                secret.name = secret,
                "removed logins from Secret: they do not belong into it any more"
            ),
            Ok(Removed::Nothing) => {}
            Err(error) => {
                if let Some(suppressed) = self.removal_failures.admit(error.reason()) {
                    tracing::warn!(
                        namespace.name = namespace,
                        secret.name = secret,
                        suppressed,
                        "failed to remove logins from Secret, retrying: {error}"
                    );
                }
            }
        }
    }

    fn record_removal(&mut self, key: &PullSecretKey, ended: PullSecretRemoval, now: Timestamp) {
        let PullSecretRemoval {
            found,
            removed,
            version,
        } = ended;
        self.log_removal(key, &removed);
        let whole = match removed {
            Ok(Removed::Secret) => Some(true),
            Ok(Removed::Entries) => Some(false),
            Ok(Removed::Nothing) | Err(_) => None,
        };
        self.guard.end(key, whole, now);
        match removed {
            Ok(Removed::Secret | Removed::Entries) => {
                // There may be room now for what could not be written.
                self.write_backoff.forget(key);
                self.remove_backoff.forget(key);
                if let Some(record) = self.index.get_mut(key) {
                    record.last_written = version;
                }
            }
            // What was to be removed is not there: nothing failed. It is looked at again a little later.
            Ok(Removed::Nothing) => {
                self.remove_backoff.forget(key);
                self.remove_backoff
                    .hold_off(key.clone(), REMOVAL_RETRY, now);
            }
            Err(_) => self
                .remove_backoff
                .record_failure(key.clone(), None, Vec::new(), now),
        }
        if whole.is_some() && found {
            self.record_drift(key, now);
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
