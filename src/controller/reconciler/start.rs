//! Starts what takes a while, each as a task.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::Reconciler;
use super::mint_retries::SourceFailure;
use super::state::ReconcilerState;
use super::tasks::{PullSecretRemoval, PullSecretWrite, TaskKey, TaskResult};
use crate::cluster::EventNote;
use crate::provision::observe::PullSecretRef;
use crate::registry::RegistryInfo;
use crate::registry::crd::RegistryStatus;
use crate::registry::source::MintSource;

/// How long one pull secret's writing may take.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

impl Reconciler {
    /// Begins to take these keys out of a pull secret; `found`: nobody ordered that.
    pub(super) fn remove(
        &self,
        target: PullSecretRef,
        keys: Vec<String>,
        found: bool,
        state: &mut ReconcilerState,
    ) {
        state.writing.insert(target.key());
        state.removals_running += 1;
        let about = TaskKey::Remove(target.key());
        let provisioner = self.provisioner.clone();
        state.tasks.spawn(about, async move {
            let removed = provisioner.remove(&target, &keys).await;
            let ended = PullSecretRemoval {
                found,
                removed,
                version: provisioner.version(&target),
            };
            TaskResult::Removed(target.key(), ended)
        });
    }

    /// Begins to mint a credential.
    pub(super) fn mint(&self, source: MintSource, state: &mut ReconcilerState, now: Timestamp) {
        let credentials = Arc::clone(&self.credentials);
        let provisioner = self.provisioner.clone();
        let about = TaskKey::Mint(source.clone());
        state.tasks.spawn(about, async move {
            let minted = credentials.renew(&source, now).await;
            if let (Err(error), Some(tenant)) = (&minted, source.tenant())
                && error.is_refusal()
            {
                provisioner.refresh_account(tenant).await;
            }
            let failed = minted.err().map(|error| SourceFailure::of(&error));
            TaskResult::Minted(source, failed)
        });
    }

    /// Begins to write what a pull secret lacks.
    pub(super) fn write(&self, target: PullSecretRef, state: &mut ReconcilerState) {
        let key = target.key();
        state.writing.insert(key.clone());
        let repaired = state.is_repair(&target);
        let provisioner = self.provisioner.clone();
        state.tasks.spawn(TaskKey::Write(key.clone()), async move {
            let deadline = Instant::now() + WRITE_TIMEOUT;
            let outcome = provisioner.write_missing(&target, deadline).await;
            let kept = PullSecretWrite {
                outcome,
                is_lacking: provisioner.find_incomplete(&key).is_some(),
                repaired,
                version: provisioner.version(&target),
                uid: target.uid().map(ToOwned::to_owned),
            };
            TaskResult::Written(key, kept)
        });
    }

    /// Begins to write the status of a Registry.
    pub(super) fn write_status(
        &self,
        listed: RegistryInfo,
        status: RegistryStatus,
        state: &mut ReconcilerState,
    ) {
        let status_writer = Arc::clone(&self.status_writer);
        let key = (listed.name.clone(), listed.uid.clone());
        let about = TaskKey::WriteStatus(key.clone());
        state.tasks.spawn(about, async move {
            let applied = status_writer.apply_status(&listed, &status).await;
            TaskResult::StatusWritten(key, applied)
        });
    }

    /// Begins to publish an Event.
    pub(super) fn publish(&self, note: EventNote, state: &mut ReconcilerState, now: Timestamp) {
        let status_writer = Arc::clone(&self.status_writer);
        state.tasks.spawn(TaskKey::PublishEvent, async move {
            status_writer.publish(&note, now).await;
            TaskResult::EventPublished
        });
    }
}
