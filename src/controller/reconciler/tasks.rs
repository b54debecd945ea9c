//! The tasks that run beside the reconciler, each with its key: one that panics has failed, and leaves nothing marked as under way.

use std::collections::HashMap;

use tokio::task::{Id, JoinError, JoinSet};

use super::super::conditions::Reason;
use super::super::status::StatusKey;
use super::mint_retries::SourceFailure;
use crate::provision::changes::PullSecretKey;
use crate::provision::ports::ClusterError;
use crate::provision::prune::{RegistriesUnconfirmed, Removed};
use crate::provision::{EnsureOutcome, Pending};
use crate::registry::source::MintSource;

/// Why it failed, in one word and in words for people.
const TASK_PANICKED: (&str, &str) = (
    "InternalError",
    "internal error: a task panicked, retrying; please report this with the log",
);

/// One piece of work that ended.
pub(super) enum TaskResult {
    Minted(MintSource, Option<SourceFailure>),
    Written(PullSecretKey, PullSecretWrite),
    Removed(PullSecretKey, PullSecretRemoval),
    CrdChecked(Result<(), RegistriesUnconfirmed>),
    /// A Registry's status was written, or not.
    StatusWritten(StatusKey, Result<(), ClusterError>),
    /// An Event was published.
    EventPublished,
}

/// How writing a pull secret ended.
pub(super) struct PullSecretWrite {
    pub(super) outcome: EnsureOutcome,
    /// Whether something is to be written still, as memory has it: it may have missed what was written.
    pub(super) is_lacking: bool,
    /// Whether another writer had changed or deleted it.
    pub(super) repaired: bool,
    /// The resource version after it.
    pub(super) version: Option<String>,
    /// The unique id of the Secret that was there before it, if one was.
    pub(super) uid: Option<String>,
}

/// How taking something out of a pull secret ended.
pub(super) struct PullSecretRemoval {
    /// Whether nobody ordered it.
    pub(super) found: bool,
    pub(super) removed: Result<Removed, ClusterError>,
    /// The resource version after it.
    pub(super) version: Option<String>,
}

/// What a piece is about.
pub(super) enum TaskKey {
    /// A credential is minted.
    Mint(MintSource),
    /// A pull secret is written.
    Write(PullSecretKey),
    /// Something is taken out of a pull secret.
    Remove(PullSecretKey),
    /// The API server is asked about the kind Registry.
    CheckCrd,
    /// A Registry's status is written.
    WriteStatus(StatusKey),
    /// An Event is published.
    PublishEvent,
}

impl TaskKey {
    /// How it ends where it panicked: that is logged where it did.
    fn failed(self) -> TaskResult {
        let (reason, message) = TASK_PANICKED;
        match self {
            Self::Mint(source) => {
                let failed = SourceFailure::of_a_bug(Reason::new(reason, message));
                TaskResult::Minted(source, Some(failed))
            }
            Self::Write(name) => {
                let pending = Pending {
                    is_for_admins: false,
                    registry: None,
                    reason,
                    message: message.to_owned(),
                };
                let kept = PullSecretWrite {
                    outcome: EnsureOutcome::Pending(vec![pending]),
                    is_lacking: true,
                    repaired: false,
                    version: None,
                    uid: None,
                };
                TaskResult::Written(name, kept)
            }
            Self::Remove(name) => {
                let what = format!("remove logins from secret {}/{}", name.0, name.1);
                let ended = PullSecretRemoval {
                    found: false,
                    removed: Err(panicked(&what)),
                    version: None,
                };
                TaskResult::Removed(name, ended)
            }
            Self::CheckCrd => TaskResult::CrdChecked(Err(panicked("list registries").into())),
            Self::WriteStatus(key) => {
                let what = format!("update status of registry {}", key.0);
                TaskResult::StatusWritten(key, Err(panicked(&what)))
            }
            Self::PublishEvent => TaskResult::EventPublished,
        }
    }
}

fn panicked(what: &str) -> ClusterError {
    ClusterError::Unreachable {
        what: what.to_owned(),
        message: TASK_PANICKED.1.to_owned(),
    }
}

/// All that runs. What is left is aborted when this is dropped.
#[derive(Default)]
pub(super) struct Tasks {
    running: JoinSet<TaskResult>,
    about: HashMap<Id, TaskKey>,
}

impl Tasks {
    /// Begins a piece.
    pub(super) fn spawn(
        &mut self,
        about: TaskKey,
        job: impl Future<Output = TaskResult> + Send + 'static,
    ) {
        let id = self.running.spawn(job).id();
        self.about.insert(id, about);
    }

    /// Waits for the next one that ends; `None`: nothing runs. Nothing is lost when this is dropped.
    pub(super) async fn next(&mut self) -> Option<TaskResult> {
        loop {
            let finished = self.running.join_next_with_id().await?;
            if let Some(done) = self.end(finished) {
                return Some(done);
            }
        }
    }

    /// The next one that has ended.
    pub(super) fn next_finished(&mut self) -> Option<TaskResult> {
        loop {
            let finished = self.running.try_join_next_with_id()?;
            if let Some(done) = self.end(finished) {
                return Some(done);
            }
        }
    }

    fn end(&mut self, finished: Result<(Id, TaskResult), JoinError>) -> Option<TaskResult> {
        match finished {
            Ok((id, done)) => {
                self.about.remove(&id);
                Some(done)
            }
            Err(error) => self.about.remove(&error.id()).map(TaskKey::failed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_that_panics_has_failed() {
        let mut tasks = Tasks::default();
        let name: PullSecretKey = ("team".parse().unwrap(), "pullpass".parse().unwrap());
        let about = [
            TaskKey::Write(name.clone()),
            TaskKey::Remove(name.clone()),
            TaskKey::CheckCrd,
            TaskKey::WriteStatus(("eu".parse().unwrap(), "u-1".to_owned())),
            TaskKey::PublishEvent,
        ];
        for about in about {
            tasks.spawn(about, async { panic!("a bug") });
        }
        let (mut last_written, mut others) = (Vec::new(), 0);
        while let Some(done) = tasks.next().await {
            match done {
                TaskResult::Written(name, kept) => {
                    assert_ne!(kept.outcome, EnsureOutcome::Covered);
                    last_written.push(name);
                }
                TaskResult::Removed(
                    _,
                    PullSecretRemoval {
                        found: false,
                        removed: Err(_),
                        ..
                    },
                )
                | TaskResult::CrdChecked(Err(_))
                | TaskResult::StatusWritten(_, Err(_))
                | TaskResult::EventPublished => others += 1,
                _ => panic!("taken for a success"),
            }
        }
        assert_eq!((last_written, others), (vec![name], 4));
        assert!(tasks.about.is_empty());
    }
}
