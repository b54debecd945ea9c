//! Starts what takes a while, each as a task.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::Reconciler;
use super::state::ReconcilerState;
use super::tasks::{PullSecretWrite, TaskKey, TaskResult};
use crate::controller::conditions::Reason;
use crate::provision::snapshot::PullSecretRef;
use crate::registry::source::MintSource;

/// How long one pull secret's writing may take.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

impl Reconciler {
    /// Begins to take these keys out of a pull secret; `found`: nobody ordered that.
    pub(super) fn remove(
        &self,
        target: &PullSecretRef,
        keys: &[String],
        found: bool,
        state: &mut ReconcilerState,
    ) {
        state.writing.insert(target.name());
        let about = TaskKey::Remove(target.name());
        let (provisioner, target, keys) = (self.provisioner.clone(), target.clone(), keys.to_vec());
        state.tasks.spawn(about, async move {
            let removed = provisioner.remove(&target, &keys).await;
            TaskResult::Removed(target.name(), found, removed)
        });
    }

    /// Begins to mint a credential.
    pub(super) fn mint(&self, source: &MintSource, state: &mut ReconcilerState, now: Timestamp) {
        state.minting.insert(source.clone());
        let (credentials, source) = (Arc::clone(&self.credentials), source.clone());
        let provisioner = self.provisioner.clone();
        let about = TaskKey::Mint(source.clone());
        state.tasks.spawn(about, async move {
            let minted = credentials.renew(&source, now).await;
            if let (Err(error), Some(tenant)) = (&minted, source.tenant())
                && error.is_refusal()
            {
                provisioner.refresh_account(tenant).await;
            }
            let failed = minted.err();
            let finding = failed.map(|error| Reason::new(error.reason(), error.to_string()));
            TaskResult::Minted(source, finding)
        });
    }

    /// Begins to write what a pull secret lacks.
    pub(super) fn write(&self, target: PullSecretRef, state: &mut ReconcilerState) {
        state.writing.insert(target.name());
        let repaired = state.is_repair(&target);
        let provisioner = self.provisioner.clone();
        state
            .tasks
            .spawn(TaskKey::Write(target.name()), async move {
                let deadline = Instant::now() + WRITE_TIMEOUT;
                let outcome = provisioner.write_missing(&target, deadline).await;
                let kept = PullSecretWrite {
                    outcome,
                    repaired,
                    version: provisioner.version(&target),
                    uid: target.uid().map(ToOwned::to_owned),
                };
                TaskResult::Written(target.name(), kept)
            });
    }
}
