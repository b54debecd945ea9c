//! Which nodes' kubelets asked for each Registry's login and what came of it, as all replicas wrote it down.
//!
//! The leader lists the metadata of all reports, reads those that changed of the Registries that kubelets ask for, and deletes what is left
//! of others.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use super::leadership::{Leadership, ticks};
use crate::cluster::{Kube, ListedReport};
use crate::names::ObjectName;
use crate::provision::node_report::NodeReport;
use crate::provision::ports::ClusterError;
use crate::provision::{Provision as _, Provisioner};
use crate::registry::{Registries, RegistryInfo};

/// How often to look for what changed.
const INTERVAL: Duration = Duration::from_secs(5);

const SECONDS_PER_HOUR: i64 = 60 * 60;

/// What is known of each Registry, between the loop that reads them and those who report them. Clones are the same.
#[derive(Clone, Default)]
pub struct SeenNodes(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<Seen>,
    /// Notified when something else is known; one reader waits.
    changed: Notify,
}

#[derive(Default)]
struct Seen {
    reports: BTreeMap<ObjectName, Arc<NodeReport>>,
    /// Those of which something else is known since this was taken.
    changed: BTreeSet<ObjectName>,
}

impl SeenNodes {
    /// What was asked of this very Registry; `None`: it was not read since this replica leads.
    pub(in crate::controller) fn get(&self, registry: &RegistryInfo) -> Option<Arc<NodeReport>> {
        let report = self.with(|seen| seen.reports.get(&registry.name).cloned());
        report.filter(|report| report.registry_uid == registry.uid)
    }

    /// Waits until something else is known than when this was last waited for.
    pub(in crate::controller) async fn changed(&self) {
        self.0.changed.notified().await;
    }

    /// Takes the Registries of which something else is known.
    pub(in crate::controller) fn take_changed(&self) -> BTreeSet<ObjectName> {
        self.with(|seen| std::mem::take(&mut seen.changed))
    }

    fn put(&self, registry: &ObjectName, report: NodeReport) {
        let has_changed = self.with(|seen| {
            let report = Arc::new(report);
            let before = seen.reports.insert(registry.clone(), Arc::clone(&report));
            let has_changed = before.is_none_or(|before| {
                before.nodes.len() != report.nodes.len() || before.outcomes != report.outcomes
            });
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
        self.with(|seen| seen.reports.retain(|registry, _| stays(registry)));
    }

    fn with<T>(&self, act: impl FnOnce(&mut Seen) -> T) -> T {
        act(&mut self.0.state.lock())
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
        let mut read = ReadReports::default();
        let mut last_failure = None;
        let mut ticks = ticks(INTERVAL);
        loop {
            ticks.tick().await;
            match self.read(&mut read).await {
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

    async fn read(&self, read: &mut ReadReports) -> Result<(), ClusterError> {
        let registries = self.provisioner.registries();
        let asked = registries.iter().filter(|one| one.delivers_by_node());
        let asked: BTreeSet<ObjectName> = asked.map(|one| one.name.clone()).collect();
        self.seen.retain(|registry| asked.contains(registry));
        if asked.is_empty() && !read.may_be_left {
            return Ok(());
        }
        let listed = self.kube.fetch_listed_reports().await?;
        let hour = (self.clock)().as_second() / SECONDS_PER_HOUR;
        read.versions
            .retain(|registry, _| asked.contains(registry) && listed.contains_key(registry));
        for registry in &asked {
            let Some(listed_registry) = registries.find_listed(registry) else {
                continue;
            };
            let uid = &*listed_registry.uid;
            // What is of another Registry of this name is not this one's.
            let there = listed.get(registry).filter(|one| one.registry_uid == uid);
            let version = there.map(|one| (one.resource_version.clone(), hour));
            let is_known = self.seen.get(listed_registry).is_some() && version.is_some();
            if is_known && read.versions.get(registry) == version.as_ref() {
                continue;
            }
            let report = self.fetch(registry, uid, there).await?;
            self.seen.put(registry, report);
            read.versions
                .extend(version.map(|version| (registry.clone(), version)));
        }
        self.delete_left(&registries, &asked, &listed).await?;
        read.may_be_left = !asked.is_empty();
        Ok(())
    }

    async fn fetch(
        &self,
        registry: &ObjectName,
        uid: &str,
        there: Option<&ListedReport>,
    ) -> Result<NodeReport, ClusterError> {
        let found = match there {
            Some(_) => self.kube.fetch_node_report(registry).await?,
            None => None,
        };
        let found = found.map(|(_, report)| report);
        let found = found.filter(|report| report.registry_uid == uid);
        let mut report = found.unwrap_or_else(|| NodeReport::new(uid));
        report.forget_old((self.clock)());
        Ok(report)
    }

    /// Deletes what is left of Registries that kubelets ask for no more.
    async fn delete_left(
        &self,
        registries: &Registries,
        asked: &BTreeSet<ObjectName>,
        listed: &BTreeMap<ObjectName, ListedReport>,
    ) -> Result<(), ClusterError> {
        // One that breaks a rule may be corrected.
        let is_left = |name: &&ObjectName| {
            !asked.contains(*name)
                && (registries.get(name).is_some() || registries.find_listed(name).is_none())
        };
        for registry in listed.keys().filter(is_left) {
            self.kube.delete_node_report(registry).await?;
        }
        Ok(())
    }
}

/// What the leader read.
struct ReadReports {
    /// The state of each report, and the hour in which it was read: in another one something of it may be old.
    versions: BTreeMap<ObjectName, (String, i64)>,
    /// Whether there may be reports of Registries that kubelets ask for no more: those that came while nobody led, or were just asked for.
    may_be_left: bool,
}

impl Default for ReadReports {
    fn default() -> Self {
        Self {
            versions: BTreeMap::new(),
            may_be_left: true,
        }
    }
}
