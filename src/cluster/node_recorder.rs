//! Notes which nodes' kubelets were answered, and writes it down for the leader: in the background, many at once, and seldom.
//!
//! ```text
//! note(registry, node) ─▶ new ─────────────▶ 5 s later ─┐
//!                      └▶ known, another day ▶ in an hour ┴▶ read, merge, write if it is another list (compare-and-swap)
//! ```

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::Date;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::Kube;
use crate::broker::ports::ServedNodes;
use crate::log_throttle::{LogThrottle, MINUTE};
use crate::names::ObjectName;
use crate::provision::node_list::{MAX_NODES, NodeList, day_of};
use crate::provision::ports::{ClusterError, Precondition};
use crate::provision::{Provision as _, Provisioner};
use crate::registry::ValidRegistry;

/// How long others are waited for that ask for the first time.
const GATHER: Duration = Duration::from_secs(5);

/// How long the last day of nodes that are known waits to be written, for all of them at once.
const REFRESH: Duration = Duration::from_hours(1);

/// How long a list that could not be written is left alone.
const RETRY: Duration = Duration::from_mins(1);

/// How often a lost race is run again before it is left to the next time.
const ATTEMPTS: usize = 4;

/// Notes the nodes that asked one replica. Clones are the same.
#[derive(Clone)]
pub struct NodeRecorder(Arc<Recorder>);

struct Recorder {
    kube: Kube,
    provisioner: Provisioner,
    clock: fn() -> Timestamp,
    registries: Mutex<BTreeMap<ObjectName, Noted>>,
    /// A node that is new was noted; one task waits.
    wake: Notify,
    failures: LogThrottle<&'static str>,
}

/// What was noted of one Registry.
#[derive(Default)]
struct Noted {
    /// What is written down, as far as this replica knows.
    written: HashMap<ObjectName, Date>,
    /// What is to be.
    due: HashMap<ObjectName, Date>,
    /// By when at the latest; `None`: nothing is due.
    due_at: Option<Instant>,
}

impl Noted {
    /// Notes a node; answers whether that is due sooner than anything before.
    fn note(&mut self, node: &ObjectName, day: Date, now: Instant) -> bool {
        let known = self.written.get(node).copied();
        if known >= Some(day) || self.due.get(node) >= Some(&day) || self.due.len() >= MAX_NODES {
            return false;
        }
        self.due.insert(node.clone(), day);
        let at = now + if known.is_some() { REFRESH } else { GATHER };
        let is_sooner = self.due_at.is_none_or(|due_at| at < due_at);
        if is_sooner {
            self.due_at = Some(at);
        }
        is_sooner
    }

    /// What was read or written: of nodes that are in there already, only the day is due, which can wait.
    fn take_over(&mut self, list: &NodeList, now: Instant) {
        let nodes = self.due.keys().chain(self.written.keys());
        let known: HashMap<ObjectName, Date> = nodes
            .filter_map(|node| Some((node.clone(), list.last_day(node)?)))
            .collect();
        // What there is no room for is not asked about again and again.
        let is_full = list.is_full();
        self.due.retain(|node, day| match known.get(node) {
            Some(written) => written < day,
            None => !is_full,
        });
        // Noted while others were written.
        let is_new = self.due.keys().any(|node| !known.contains_key(node));
        let wait = if is_new { GATHER } else { REFRESH };
        self.due_at = (!self.due.is_empty()).then_some(now + wait);
        self.written = known;
    }
}

impl NodeRecorder {
    /// Notes nodes for the Registries that `provisioner` knows; `clock` is [`Timestamp::now`] outside tests.
    pub fn new(kube: Kube, provisioner: Provisioner, clock: fn() -> Timestamp) -> Self {
        Self(Arc::new(Recorder {
            kube,
            provisioner,
            clock,
            registries: Mutex::default(),
            wake: Notify::new(),
            failures: LogThrottle::new(1, MINUTE),
        }))
    }

    /// Writes down what is noted, as long as the process runs.
    pub async fn run(self) {
        loop {
            let first = self
                .0
                .lock()
                .values()
                .filter_map(|noted| noted.due_at)
                .min();
            let due = async {
                match first {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.0.wake.notified() => continue,
                () = due => {}
            }
            for registry in self.0.take_due(Instant::now()) {
                self.0.record(&registry).await;
            }
        }
    }
}

impl ServedNodes for NodeRecorder {
    fn note(&self, registry: &ObjectName, node: &ObjectName, now: Timestamp) {
        let mut registries = self.0.lock();
        if !registries.contains_key(registry) {
            registries.insert(registry.clone(), Noted::default());
        }
        let noted = registries.get_mut(registry);
        if noted.is_some_and(|noted| noted.note(node, day_of(now), Instant::now())) {
            self.0.wake.notify_one();
        }
    }
}

impl Recorder {
    /// The Registries of which something is due. What was noted of others that kubelets ask for no more is forgotten.
    fn take_due(&self, now: Instant) -> Vec<ObjectName> {
        let known = self.provisioner.registries();
        let is_asked = |name: &ObjectName| {
            let registry = known.get(name);
            registry.is_some_and(ValidRegistry::delivers_by_node)
        };
        let mut registries = self.lock();
        registries.retain(|name, _| is_asked(name));
        let due = registries
            .iter()
            .filter(|(_, noted)| noted.due_at.is_some_and(|at| at <= now));
        due.map(|(name, _)| name.clone()).collect()
    }

    /// Writes down what is noted of one Registry, unless others did.
    async fn record(&self, registry: &ObjectName) {
        let recorded = self.try_record(registry).await;
        let Err(error) = recorded else {
            return;
        };
        if let Some(noted) = self.lock().get_mut(registry) {
            noted.due_at = Some(Instant::now() + RETRY);
        }
        if let Some(suppressed) = self.failures.admit(error.reason()) {
            tracing::warn!(
                registry.name = registry.as_str(),
                error.reason = error.reason(),
                suppressed,
                "failed to write down which nodes asked for a Registry's login, retrying: {error}"
            );
        }
    }

    async fn try_record(&self, registry: &ObjectName) -> Result<(), ClusterError> {
        for attempt in 1.. {
            let found = self.kube.fetch_node_list(registry).await?;
            let (precondition, mut list) = match found {
                Some((version, list)) => (Precondition::Exactly(version), list),
                None => (Precondition::Absent, NodeList::default()),
            };
            list.forget_old(day_of((self.clock)()));
            if !self.merge(registry, &mut list) {
                return Ok(());
            }
            let written = self.kube.apply_node_list(registry, &list, &precondition);
            match written.await {
                Ok(()) => {
                    self.take_over(registry, &list);
                    return Ok(());
                }
                Err(ClusterError::Conflict { .. }) if attempt < ATTEMPTS => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Adds what is due to a list that was read; answers whether it is to be written: a node is new, or days waited for their time.
    fn merge(&self, registry: &ObjectName, list: &mut NodeList) -> bool {
        let mut registries = self.lock();
        let Some(noted) = registries.get_mut(registry) else {
            return false;
        };
        let before = list.clone();
        let mut is_due = false;
        for (node, day) in &noted.due {
            let is_later = list.note(node, *day);
            // A day that this replica did not know of waits for its time, too: after a restart it knows of none.
            let has_waited = noted.written.contains_key(node);
            is_due |= is_later && (before.last_day(node).is_none() || has_waited);
        }
        if !is_due {
            noted.take_over(&before, Instant::now());
        }
        is_due
    }

    fn take_over(&self, registry: &ObjectName, list: &NodeList) {
        if let Some(noted) = self.lock().get_mut(registry) {
            noted.take_over(list, Instant::now());
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ObjectName, Noted>> {
        let registries = self.registries.lock();
        registries.unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use jiff::ToSpan as _;

    use super::*;

    const FIRST: Date = Date::constant(2026, 11, 1);

    fn node(number: usize) -> ObjectName {
        format!("node-{number}").parse().unwrap()
    }

    fn list(nodes: &[(usize, Date)]) -> NodeList {
        let mut list = NodeList::default();
        for (number, day) in nodes {
            list.note(&node(*number), *day);
        }
        list
    }

    #[tokio::test(start_paused = true)]
    async fn waits_for_others_of_many_nodes_and_longer_for_those_that_are_known() {
        let mut noted = Noted::default();
        let begun = Instant::now();
        assert!(noted.note(&node(1), FIRST, begun));
        assert!(!noted.note(&node(1), FIRST, begun), "it is due already");
        let later = begun + Duration::from_secs(1);
        assert!(
            !noted.note(&node(2), FIRST, later),
            "it goes with the first"
        );
        assert_eq!(noted.due_at, Some(begun + GATHER));
        let written = list(&[(1, FIRST), (2, FIRST)]);
        noted.take_over(&written, later);
        assert_eq!((noted.due.len(), noted.due_at), (0, None));
        assert!(!noted.note(&node(1), FIRST, later), "it is written");

        let next = FIRST.checked_add(1.days()).unwrap();
        assert!(noted.note(&node(1), next, later));
        assert_eq!(noted.due_at, Some(later + REFRESH));
        // One that is new does not wait so long.
        assert!(noted.note(&node(3), next, later));
        assert_eq!(noted.due_at, Some(later + GATHER));
    }

    #[tokio::test(start_paused = true)]
    async fn asks_again_soon_for_what_was_noted_while_others_were_written() {
        let mut noted = Noted::default();
        let begun = Instant::now();
        noted.note(&node(1), FIRST, begun);
        noted.note(&node(2), FIRST, begun);
        noted.take_over(&list(&[(1, FIRST)]), begun);
        assert_eq!(noted.due_at, Some(begun + GATHER));
        // After a restart: it was written on an earlier day.
        let earlier = FIRST.checked_sub(1.days()).unwrap();
        noted.take_over(&list(&[(2, earlier)]), begun);
        assert_eq!(noted.due_at, Some(begun + REFRESH));
        assert_eq!(noted.due.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn gives_up_what_there_is_no_room_for() {
        let mut full = NodeList::default();
        for number in 0..MAX_NODES {
            full.note(&node(number), FIRST);
        }
        let mut noted = Noted::default();
        let begun = Instant::now();
        noted.note(&node(MAX_NODES), FIRST, begun);
        noted.take_over(&full, begun);
        assert_eq!((noted.due.len(), noted.due_at), (0, None));
    }
}
