//! Which pull secrets a change concerns.

use std::collections::BTreeSet;

use super::Reconciler;
use super::state::ReconcilerState;
use crate::names::{NamespaceName, ObjectName};
use crate::provision::Provision as _;
use crate::provision::changes::{Change, PullSecretKey};
use crate::registry::{Registries, ValidRegistry};

impl Reconciler {
    /// Adds every pull secret to the queue.
    pub(super) fn add_all(&self, state: &mut ReconcilerState) {
        state.state_cursor = self.provisioner.changes().end();
        state.credential_cursor = self.credentials.changes().end();
        state.registries = self.provisioner.registries();
        state.unreadable = self.provisioner.unreadable();
        let known = state.index.records().map(|(key, _)| key.clone());
        let known: Vec<PullSecretKey> = known.collect();
        for key in self.provisioner.all_keys().into_iter().chain(known) {
            state.queue.add(key);
        }
        let all = self.provisioner.namespaces().into_iter();
        let unheeded = all.filter(|namespace| namespace.is_unheeded());
        state.unheeded = unheeded.map(|one| (one.name.clone(), one)).collect();
        state.reported.mark_all();
    }

    /// Adds the pull secrets that are concerned by what changed since this was asked last.
    pub(super) fn add_changed(&self, state: &mut ReconcilerState) {
        let (mut changes, mut sources) = (Vec::new(), BTreeSet::new());
        let knows = self
            .provisioner
            .changes()
            .read(&mut state.state_cursor, |change| {
                changes.push(change.clone());
            });
        let credentials = self.credentials.changes();
        let knows_credentials = credentials.read(&mut state.credential_cursor, |source| {
            sources.insert(source.clone());
        });
        if !knows || !knows_credentials {
            self.add_all(state);
            return;
        }
        for source in sources {
            for key in state.index.keys_of(&source) {
                state.queue.add(key);
            }
        }
        let mut registries_changed = false;
        for change in changes {
            match change {
                Change::Namespace(name) => self.add_namespace(&name, state),
                Change::PullSecret(key) => state.queue.add(key),
                Change::Source(name) => self.add_with_source(&name, state),
                Change::Registries => registries_changed = true,
                Change::Status(name) => state.reported.mark(name),
            }
        }
        if registries_changed {
            self.add_of_registries(state);
        }
    }

    fn add_namespace(&self, name: &NamespaceName, state: &mut ReconcilerState) {
        let namespace = self.provisioner.namespace(name);
        let unheeded = namespace.as_ref().filter(|one| one.is_unheeded());
        let is_new = match unheeded {
            Some(one) => state.unheeded.insert(name.clone(), one.clone()).is_none(),
            None => state.unheeded.remove(name).is_some(),
        };
        let mut keys: BTreeSet<PullSecretKey> = state.index.keys_in(name).into_iter().collect();
        keys.extend(
            namespace
                .iter()
                .flat_map(|one| self.provisioner.secrets_of(one)),
        );
        keys.extend(self.provisioner.secrets_there(name));
        for key in keys {
            state.queue.add(key);
        }
        // Which namespaces a Registry selects may be others now.
        let unserved = state
            .registries
            .listed()
            .iter()
            .filter(|one| is_new || state.index.registry(&one.name).is_none());
        for one in unserved {
            state.reported.mark(one.name.clone());
        }
    }

    /// The Registries are others, or it is known why, or all can be read: adds the pull secrets of those that changed, and all in which
    /// something does not belong.
    fn add_of_registries(&self, state: &mut ReconcilerState) {
        let registries = self.provisioner.registries();
        let before = std::mem::replace(&mut state.registries, registries.clone());
        let unreadable = self.provisioner.unreadable();
        state.unreadable = unreadable;
        state.reported.mark_all();
        let changed = find_changed(&before, &registries);
        let mut keys: BTreeSet<PullSecretKey> = state.index.stale().clone();
        if !changed.is_empty() {
            for namespace in self.provisioner.namespaces() {
                let is_of = |one: &&ValidRegistry| one.namespaces.matches(&namespace.labels);
                if changed.iter().any(is_of) {
                    keys.extend(state.index.keys_in(&namespace.name));
                    keys.extend(self.provisioner.secrets_of(&namespace));
                }
            }
        }
        for key in keys {
            state.queue.add(key);
        }
    }

    fn add_with_source(&self, name: &ObjectName, state: &mut ReconcilerState) {
        state.mint_retries.hurry_with(name, (self.clock)());
        for key in state.index.keys_with(name) {
            state.queue.add(key);
        }
        state.reported.mark_all();
    }
}

/// The Registries that are given otherwise than before, as they were and as they are.
fn find_changed<'r>(before: &'r Registries, after: &'r Registries) -> Vec<&'r ValidRegistry> {
    let is_same = |one: &ValidRegistry, other: &Registries| {
        let other = other.get(&one.name);
        other.is_some_and(|other| one.serves_the_same(other))
    };
    let gone = before.iter().filter(|one| !is_same(one, after));
    let new = after.iter().filter(|one| !is_same(one, before));
    gone.chain(new).collect()
}
