//! Fetching a login in time, and having noted what came of it.
//!
//! Nobody waits longer for a login than its plug-in does. What came of one that took longer is noted all the same, so that a cloud which
//! never answers shows as one that refuses does.

use std::collections::HashSet;
use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::claims::PodIdentity;
use super::ports::{AskedRegistry, NodeRequests};
use crate::names::ObjectName;
use crate::provision::image_login::ImageLogin;
use crate::provision::login_outcomes::LoginSource;
use crate::provision::{Namespace, Pending, Provisioner};
use crate::registry::Grant;

/// Fetches logins.
pub(super) struct Attempts {
    provisioner: Provisioner,
    notes: Option<Arc<dyn NodeRequests>>,
    /// The sources of which one that took too long is waited for.
    late: Arc<Mutex<HashSet<LoginSource>>>,
    clock: fn() -> Timestamp,
}

/// One login that is asked for.
pub(super) struct Attempt {
    pub(super) registry: ObjectName,
    /// The Registry's `metadata.uid`.
    pub(super) registry_uid: String,
    pub(super) namespace: Arc<Namespace>,
    pub(super) pod: Arc<PodIdentity>,
    pub(super) grant: Grant,
}

/// Notes what came of one request.
struct Outcome {
    notes: Arc<dyn NodeRequests>,
    registry: ObjectName,
    registry_uid: String,
    source: Option<LoginSource>,
    clock: fn() -> Timestamp,
}

impl Outcome {
    fn registry(&self) -> AskedRegistry<'_> {
        AskedRegistry {
            name: &self.registry,
            uid: &self.registry_uid,
        }
    }

    /// `failure`: why there is no login; `None`: there is.
    fn note(&self, failure: Option<&Pending>) {
        let (registry, now) = (self.registry(), (self.clock)());
        match (failure, &self.source) {
            (None, source) => self.notes.note_served(registry, source.as_ref(), now),
            (Some(why), Some(source)) => self.notes.note_failure(registry, source, why, now),
            (Some(_), None) => {}
        }
    }
}

impl Attempts {
    pub(super) fn new(provisioner: Provisioner, clock: fn() -> Timestamp) -> Self {
        Self {
            provisioner,
            notes: None,
            late: Arc::default(),
            clock,
        }
    }

    /// The same, and these are told what kubelets ask, and what came of it.
    pub(super) fn with_notes(self, notes: Arc<dyn NodeRequests>) -> Self {
        Self {
            notes: Some(notes),
            ..self
        }
    }

    /// The login, if it is there in time; `None`: it is not, and is fetched on.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) async fn fetch(
        &self,
        attempt: Attempt,
        deadline: Instant,
    ) -> Option<Result<ImageLogin, Pending>> {
        let outcome = self.note_node(&attempt);
        let provisioner = self.provisioner.clone();
        let mut fetch = Box::pin(async move {
            let Attempt {
                namespace,
                pod,
                grant,
                ..
            } = attempt;
            let account = (&pod.service_account, &*pod.service_account_uid);
            provisioner.fetch_login(&namespace, grant, account).await
        });
        if let Ok(login) = tokio::time::timeout_at(deadline, &mut fetch).await {
            if let Some(outcome) = outcome {
                outcome.note(login.as_ref().err());
            }
            return Some(login);
        }
        if let Some((outcome, turn)) = outcome.and_then(|outcome| self.wait_late(outcome)) {
            tokio::spawn(async move {
                let login = fetch.await;
                drop(turn);
                outcome.note(login.as_ref().err());
            });
        }
        None
    }

    /// Notes that a node asks; who is to be told what comes of it. A node of which the API server knows no uid is a name that somebody
    /// wrote into a Pod: its requests are answered, and nothing is concluded from them.
    fn note_node(&self, attempt: &Attempt) -> Option<Outcome> {
        let notes = self.notes.clone()?;
        attempt.pod.node_uid.as_ref()?;
        let outcome = Outcome {
            notes,
            registry: attempt.registry.clone(),
            registry_uid: attempt.registry_uid.clone(),
            source: LoginSource::of(&attempt.grant.source, &attempt.namespace.name),
            clock: self.clock,
        };
        let (node, now) = (&attempt.pod.node, (self.clock)());
        outcome.notes.note_node(outcome.registry(), node, now);
        Some(outcome)
    }

    /// The turn of one that is waited for longer; `None`: one of its source is already, or it has none.
    fn wait_late(&self, outcome: Outcome) -> Option<(Outcome, LateTurn)> {
        let source = outcome.source.clone()?;
        if !self.late.lock().insert(source.clone()) {
            return None;
        }
        let late = Arc::clone(&self.late);
        Some((outcome, LateTurn { late, source }))
    }
}

/// Given back when it is dropped.
struct LateTurn {
    late: Arc<Mutex<HashSet<LoginSource>>>,
    source: LoginSource,
}

impl Drop for LateTurn {
    fn drop(&mut self) {
        self.late.lock().remove(&self.source);
    }
}
