//! Which nodes' kubelets asked for each Registry's login, as all replicas wrote it down.
//!
//! The leader reads it for the Registries that kubelets ask for, and deletes what is left of others.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{Notify, watch};

use super::leadership::{Leadership, ticks};
use crate::cluster::Kube;
use crate::names::ObjectName;
use crate::provision::node_list::{NodeList, day_of};
use crate::provision::ports::ClusterError;
use crate::provision::{Provision as _, Provisioner};

/// How often to read the lists.
const INTERVAL: Duration = Duration::from_secs(20);

/// The nodes of each Registry, between the loop that reads them and those who report them. Clones are the same.
#[derive(Clone, Default)]
pub struct SeenNodes(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<Seen>,
    /// Notified when another number of nodes is known; one reader waits.
    changed: Notify,
}

#[derive(Default)]
struct Seen {
    lists: BTreeMap<ObjectName, Arc<NodeList>>,
    /// Those of which something else is known since this was taken.
    changed: BTreeSet<ObjectName>,
}

impl SeenNodes {
    /// The nodes that asked for a Registry's login; `None`: they were not read since this replica leads.
    pub(in crate::controller) fn get(&self, registry: &str) -> Option<Arc<NodeList>> {
        self.with(|seen| seen.lists.get(registry).cloned())
    }

    /// Waits until something else is known than when this was last waited for.
    pub(in crate::controller) async fn changed(&self) {
        self.0.changed.notified().await;
    }

    /// Takes the Registries of which something else is known.
    pub(in crate::controller) fn take_changed(&self) -> BTreeSet<ObjectName> {
        self.with(|seen| std::mem::take(&mut seen.changed))
    }

    fn put(&self, registry: &ObjectName, list: NodeList) {
        let count = list.len();
        let has_changed = self.with(|seen| {
            let before = seen.lists.insert(registry.clone(), Arc::new(list));
            let has_changed = before.is_none_or(|before| before.len() != count);
            if has_changed {
                seen.changed.insert(registry.clone());
            }
            has_changed
        });
        if has_changed {
            self.0.changed.notify_one();
        }
    }

    fn retain(&self, stays: impl Fn(&ObjectName) -> bool) {
        self.with(|seen| seen.lists.retain(|registry, _| stays(registry)));
    }

    fn with<T>(&self, act: impl FnOnce(&mut Seen) -> T) -> T {
        let state = self.0.state.lock();
        act(&mut state.unwrap_or_else(PoisonError::into_inner))
    }
}

/// Reads which nodes asked.
pub struct NodeListLoop {
    /// Holds the lists.
    pub kube: Kube,
    /// Knows for which Registries kubelets ask.
    pub provisioner: Provisioner,
    /// Gets what is read.
    pub seen: SeenNodes,
    /// [`Timestamp::now`] outside tests.
    pub clock: fn() -> Timestamp,
}

impl NodeListLoop {
    /// Reads whenever this replica leads. Ends when the sender is gone.
    pub async fn run(self, mut leadership: watch::Receiver<Leadership>) {
        while Leadership::acquired(&mut leadership).await {
            Leadership::while_leading(&mut leadership, self.lead()).await;
            self.seen.retain(|_| false);
        }
    }

    async fn lead(&self) {
        // Of which Registries there are lists; those that came while nobody led are found once.
        let mut listed: Option<BTreeSet<ObjectName>> = None;
        let mut last_failure = None;
        let mut ticks = ticks(INTERVAL);
        loop {
            ticks.tick().await;
            match self.read(&mut listed).await {
                Ok(()) => last_failure = None,
                Err(error) if last_failure.replace(error.reason()) != Some(error.reason()) => {
                    tracing::warn!(
                        error.reason = error.reason(),
                        "failed to read which nodes asked for logins, retrying: {error}"
                    );
                }
                Err(_) => {}
            }
        }
    }

    async fn read(&self, listed: &mut Option<BTreeSet<ObjectName>>) -> Result<(), ClusterError> {
        let listed = match listed {
            Some(listed) => listed,
            None => listed.insert(self.kube.fetch_listed_nodes().await?.into_iter().collect()),
        };
        let registries = self.provisioner.registries();
        let asked = registries.iter().filter(|one| one.delivers_by_node());
        let asked: BTreeSet<ObjectName> = asked.map(|one| one.name.clone()).collect();
        self.seen.retain(|registry| asked.contains(registry));
        let today = day_of((self.clock)());
        for registry in &asked {
            let found = self.kube.fetch_node_list(registry).await?;
            let mut list = found.map(|(_, list)| list).unwrap_or_default();
            list.forget_old(today);
            self.seen.put(registry, list);
            listed.insert(registry.clone());
        }
        // One that breaks a rule may be corrected.
        let is_left = |name: &&ObjectName| {
            !asked.contains(*name)
                && (registries.get(name).is_some() || registries.find_listed(name).is_none())
        };
        for registry in listed.iter().filter(is_left).cloned().collect::<Vec<_>>() {
            self.kube.delete_node_list(&registry).await?;
            listed.remove(&registry);
        }
        Ok(())
    }
}
