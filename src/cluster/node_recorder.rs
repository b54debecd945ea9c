//! Notes which nodes' kubelets asked and what came of it, and writes it down for the leader: in the background, many at once, and seldom.
//!
//! ```text
//! note_node    ─▶ new ───────────────────▶ 5 s later ─┐
//!              └▶ known, another day ────▶ in an hour ┤
//! note_served, ─▶ it failed, it is given ▶ 1 s later ─┼▶ read, merge, write if it is another report (compare-and-swap)
//! note_failure └▶ as it was ─────────────▶ in an hour ┘
//! ```
//!
//! What other replicas wrote is looked at now and then: a login that fails there may be given here.

mod noted;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::Kube;
use crate::broker::ports::{AskedRegistry, NodeRequests};
use crate::log_throttle::{LogThrottle, MINUTE};
use crate::names::ObjectName;
use crate::provision::login_outcomes::{LoginFailure, LoginSource};
use crate::provision::node_list::day_of;
use crate::provision::node_report::NodeReport;
use crate::provision::ports::{ClusterError, Precondition};
use crate::provision::{Pending, Provision as _, Provisioner};
use crate::registry::{Registries, ValidRegistry};
use noted::Noted;

/// How often it is looked at what other replicas wrote, by those that were asked.
const LEARN: Duration = Duration::from_secs(20);

/// How long a report that could not be written is left alone.
const RETRY: Duration = Duration::from_mins(1);

/// How often a lost race is run again before it is left to the next time.
const ATTEMPTS: usize = 4;

/// Notes what one replica is asked. Clones are the same.
#[derive(Clone)]
pub struct NodeRecorder(Arc<Recorder>);

struct Recorder {
    kube: Kube,
    provisioner: Provisioner,
    clock: fn() -> Timestamp,
    registries: Mutex<BTreeMap<ObjectName, Noted>>,
    /// Something is due sooner than it was; one task waits.
    wake: Notify,
    failures: LogThrottle<&'static str>,
}

impl NodeRecorder {
    /// Notes what is asked for the Registries that `provisioner` knows; `clock` is [`Timestamp::now`] outside tests.
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
        let mut learn = interval_at(Instant::now() + LEARN, LEARN);
        learn.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let first = self.0.lock().values().filter_map(Noted::due_at).min();
            let due = async {
                match first {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.0.wake.notified() => continue,
                _ = learn.tick() => self.0.learn().await,
                () = due => {}
            }
            for (registry, uid) in self.0.take_due(Instant::now()) {
                self.0.record(&registry, &uid).await;
            }
        }
    }
}

impl NodeRequests for NodeRecorder {
    fn note_node(&self, registry: AskedRegistry<'_>, node: &ObjectName, now: Timestamp) {
        self.0
            .note(registry, |noted, at| noted.note_node(node, day_of(now), at));
    }

    fn note_served(
        &self,
        registry: AskedRegistry<'_>,
        source: Option<&LoginSource>,
        now: Timestamp,
    ) {
        self.0
            .note(registry, |noted, at| noted.note_served(source, now, at));
    }

    fn note_failure(
        &self,
        registry: AskedRegistry<'_>,
        source: &LoginSource,
        why: &Pending,
        now: Timestamp,
    ) {
        let failure = LoginFailure::new(why, now);
        self.0.note(registry, |noted, at| {
            noted.note_failure(source, failure, at)
        });
    }
}

impl Recorder {
    /// Has something noted of one Registry, and whoever waits woken where it is due sooner than anything before.
    fn note(&self, registry: AskedRegistry<'_>, note: impl FnOnce(&mut Noted, Instant) -> bool) {
        let mut registries = self.lock();
        // What was noted of another Registry of its name is none of this one's.
        let is_same = |noted: &Noted| noted.uid == registry.uid;
        if !registries.get(registry.name).is_some_and(is_same) {
            registries.insert(registry.name.clone(), Noted::new(registry.uid));
        }
        let noted = registries.get_mut(registry.name);
        if noted.is_some_and(|noted| note(noted, Instant::now())) {
            self.wake.notify_one();
        }
    }

    /// The Registries of which something is due, with their `metadata.uid`.
    fn take_due(&self, now: Instant) -> Vec<(ObjectName, String)> {
        let registries = self.lock_asked();
        let due = registries
            .iter()
            .filter(|(_, noted)| noted.due_at().is_some_and(|at| at <= now));
        due.map(|(name, noted)| (name.clone(), noted.uid.clone()))
            .collect()
    }

    /// Looks at what other replicas wrote.
    async fn learn(&self) {
        if self.lock().is_empty() {
            return;
        }
        let listed = match self.kube.fetch_listed_reports().await {
            Ok(listed) => listed,
            Err(error) => {
                tracing::debug!(
                    "what other replicas noted of kubelets' requests is not known: {error}"
                );
                return;
            }
        };
        let (now, mut registries) = (Instant::now(), self.lock_asked());
        for (name, noted) in &mut *registries {
            let report = listed.get(name);
            match report.filter(|report| report.registry_uid == noted.uid) {
                Some(report) => noted.learn(&report.outcomes, now),
                None => noted.forget_written(),
            }
        }
    }

    /// Writes down what is noted of one Registry, unless others did.
    async fn record(&self, registry: &ObjectName, uid: &str) {
        let recorded = self.try_record(registry, uid).await;
        let Err(error) = recorded else {
            return;
        };
        self.with(registry, uid, |noted| noted.delay(Instant::now() + RETRY));
        if let Some(suppressed) = self.failures.admit(error.reason()) {
            tracing::warn!(
                registry.name = registry.as_str(),
                error.reason = error.reason(),
                suppressed,
                "failed to write down which nodes asked for a Registry's login, retrying: {error}"
            );
        }
    }

    async fn try_record(&self, registry: &ObjectName, uid: &str) -> Result<(), ClusterError> {
        for attempt in 1.. {
            let found = self.kube.fetch_node_report(registry).await?;
            let (precondition, mut report) = match found {
                None => (Precondition::Absent, NodeReport::new(uid)),
                Some((version, report)) if report.registry_uid == uid => {
                    (Precondition::Exactly(version), report)
                }
                // Either the Registry was made anew since that was written, or this replica does not know yet that it was.
                Some((version, _)) => {
                    if self.kube.fetch_registry_uid(registry).await?.as_deref() != Some(uid) {
                        self.forget(registry, uid);
                        return Ok(());
                    }
                    (Precondition::Exactly(version), NodeReport::new(uid))
                }
            };
            report.forget_old((self.clock)());
            let merge = |noted: &mut Noted| noted.merge(&mut report, Instant::now());
            if self.with(registry, uid, merge) != Some(true) {
                return Ok(());
            }
            let written = self
                .kube
                .apply_node_report(registry, &report, &precondition);
            match written.await {
                Ok(()) => {
                    let take = |noted: &mut Noted| noted.take_written(&report, Instant::now());
                    self.with(registry, uid, take);
                    return Ok(());
                }
                Err(ClusterError::Conflict { .. }) if attempt < ATTEMPTS => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Does something with what is noted of this very Registry; `None`: nothing is any more.
    fn with<T>(
        &self,
        registry: &ObjectName,
        uid: &str,
        act: impl FnOnce(&mut Noted) -> T,
    ) -> Option<T> {
        let mut registries = self.lock();
        let noted = registries.get_mut(registry)?;
        (noted.uid == uid).then(|| act(noted))
    }

    fn forget(&self, registry: &ObjectName, uid: &str) {
        self.lock()
            .retain(|name, noted| name != registry || noted.uid != uid);
    }

    /// Without what was noted of Registries that kubelets ask for no more.
    fn lock_asked(&self) -> MutexGuard<'_, BTreeMap<ObjectName, Noted>> {
        let known = self.provisioner.registries();
        let mut registries = self.lock();
        registries.retain(|name, noted| is_asked(&known, name, &noted.uid));
        registries
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ObjectName, Noted>> {
        self.registries.lock()
    }
}

/// Whether kubelets ask for this very Registry.
fn is_asked(registries: &Registries, name: &ObjectName, uid: &str) -> bool {
    let is_same = registries
        .find_listed(name)
        .is_some_and(|listed| listed.uid == uid);
    let registry = registries.get(name);
    is_same && registry.is_some_and(ValidRegistry::delivers_by_node)
}
