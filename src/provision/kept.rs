//! Which pull secrets a namespace is to hold.

use super::Namespace;
use super::state::State;
use crate::names::ObjectName;

impl State {
    /// Whether a namespace is to hold a pull secret of this name: it wants it, or keeps the one that is there.
    pub(super) fn may_hold(&self, namespace: &Namespace, secret: &ObjectName) -> bool {
        let is_there = || {
            let observed = self.pull_secrets_of(secret).get(&namespace.name);
            observed.is_some_and(|observed| observed.ours)
        };
        namespace.wants_pull_secrets() || (namespace.keeps_pull_secrets() && is_there())
    }
}
