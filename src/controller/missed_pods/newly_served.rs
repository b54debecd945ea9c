//! Which namespaces and Registries came after Pods may have: those hang, and nobody was asked about them.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::names::NamespaceName;
use crate::provision::changes::{Change, Cursor};
use crate::provision::{Provision as _, Provisioner};
use crate::registry::Registries;

/// What was served when this was asked last.
pub(super) struct NewlyServed<'p> {
    provisioner: &'p Provisioner,
    cursor: Cursor,
    opted_in: BTreeSet<NamespaceName>,
    registries: Arc<Registries>,
}

impl<'p> NewlyServed<'p> {
    /// What is served now is not new.
    pub(super) fn new(provisioner: &'p Provisioner) -> Self {
        let cursor = provisioner.changes().end();
        Self {
            provisioner,
            cursor,
            opted_in: find_opted_in(provisioner),
            registries: provisioner.registries(),
        }
    }

    /// Whether a namespace opted in, or a Registry serves other Pods, since this was asked last.
    pub(super) fn take(&mut self) -> bool {
        let (mut namespaces, mut has_registries) = (BTreeSet::new(), false);
        let changes = self.provisioner.changes();
        let knows = changes.read(&mut self.cursor, |change| match change {
            Change::Namespace(name) => drop(namespaces.insert(name.clone())),
            Change::Registries => has_registries = true,
            Change::PullSecret(_) | Change::Source(_) | Change::Status(_) => {}
        });
        let mut is_new = false;
        if !knows {
            let before = std::mem::replace(&mut self.opted_in, find_opted_in(self.provisioner));
            is_new = !self.opted_in.is_subset(&before);
        }
        for name in namespaces {
            let namespace = self.provisioner.namespace(&name);
            if namespace.is_some_and(|namespace| namespace.wants_pull_secrets()) {
                is_new |= self.opted_in.insert(name);
            } else {
                self.opted_in.remove(&name);
            }
        }
        if has_registries || !knows {
            let registries = self.provisioner.registries();
            let before = std::mem::replace(&mut self.registries, registries);
            is_new |= self.registries.iter().any(|one| {
                let former = before.get(&one.name);
                !former.is_some_and(|former| one.serves_the_same(former))
            });
        }
        is_new
    }
}

fn find_opted_in(provisioner: &Provisioner) -> BTreeSet<NamespaceName> {
    let all = provisioner.namespaces().into_iter();
    let opted_in = all.filter(|namespace| namespace.wants_pull_secrets());
    opted_in.map(|namespace| namespace.name.clone()).collect()
}
