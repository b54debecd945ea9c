//! What is known of fixed logins, between the loop that tries them and the reconciler that reports it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::schedule::LoginVersion;
use crate::names::ObjectName;
use crate::provision::ports::LoginOutcome;

/// A login that was tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::controller) struct CheckedLogin {
    /// Of which Registry and source Secret.
    pub(in crate::controller) version: LoginVersion,
    /// What that showed.
    pub(in crate::controller) outcome: LoginOutcome,
}

/// What is known of fixed logins, shared between those who find it out and those who report it. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct CheckedLogins(Arc<SharedChecks>);

#[derive(Debug, Default)]
struct SharedChecks {
    state: Mutex<CheckState>,
    /// Notified when something else is known; one reader waits.
    changed: Notify,
}

#[derive(Debug, Default)]
struct CheckState {
    known: BTreeMap<ObjectName, CheckedLogin>,
    /// Those of which something else is known since this was taken.
    changed: BTreeSet<ObjectName>,
}

impl CheckedLogins {
    /// What was found of a Registry's login since this replica leads.
    pub(in crate::controller) fn get(&self, name: &str) -> Option<CheckedLogin> {
        self.with(|state| state.known.get(name).cloned())
    }

    /// Waits until something else is known than when this was last waited for.
    pub(in crate::controller) async fn changed(&self) {
        self.0.changed.notified().await;
    }

    /// Takes the Registries of which something else is known.
    pub(in crate::controller) fn take_changed(&self) -> BTreeSet<ObjectName> {
        self.with(|state| std::mem::take(&mut state.changed))
    }

    pub(super) fn put(&self, name: ObjectName, checked: CheckedLogin) {
        self.with(|state| {
            state.changed.insert(name.clone());
            state.known.insert(name, checked);
        });
        self.0.changed.notify_one();
    }

    /// Forgets all but these.
    pub(super) fn retain(&self, stays: impl Fn(&ObjectName) -> bool) {
        self.with(|state| state.known.retain(|name, _| stays(name)));
    }

    pub(super) fn clear(&self) {
        self.with(|state| *state = CheckState::default());
    }

    fn with<T>(&self, act: impl FnOnce(&mut CheckState) -> T) -> T {
        act(&mut self.0.state.lock())
    }
}
