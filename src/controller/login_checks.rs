//! Tries fixed logins at their registries, so that no status calls a login good that nobody tried.
//!
//! One replica does, the leader: each login once, when it is another one, however many Registries have it ([`schedule`]). It is a loop of
//! its own, a few requests at a time, each bounded: neither pull secrets nor the Lease wait for it. What it finds it leaves in
//! [`CheckedLogins`], which the reconciler writes into the Registries' status.

mod metrics;
mod results;
mod schedule;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::task::{Id, JoinError, JoinSet};

use super::leadership::{Leadership, ticks};
use crate::names::ObjectName;
use crate::provision::changes::{Change, Cursor};
use crate::provision::ports::{
    LoginChecker, LoginId, LoginOutcome, LoginTries, LoginTry, find_tries,
};
use crate::provision::{Provision as _, Provisioner};
pub use metrics::Metrics;
pub(super) use results::CheckedLogin;
pub use results::CheckedLogins;
pub(super) use schedule::LoginVersion;
use schedule::{LoginFinding, LoginSchedule};

/// How often to see whether a login is another one, or due.
const TICK: Duration = Duration::from_secs(1);

/// How long one login may take; each of its few requests has a bound of its own.
const CHECK_TIMEOUT: Duration = Duration::from_secs(30);

/// Tries fixed logins.
pub struct LoginCheckLoop {
    provisioner: Provisioner,
    checker: Arc<dyn LoginChecker>,
    results: CheckedLogins,
    metrics: Metrics,
    clock: fn() -> Timestamp,
}

/// The logins that are being tried, by their tasks.
#[derive(Default)]
struct RunningChecks {
    tasks: JoinSet<LoginOutcome>,
    logins: HashMap<Id, LoginId>,
}

impl LoginCheckLoop {
    /// Puts it together; what is found goes into `results`; `clock` is [`Timestamp::now`] outside tests.
    pub fn new(
        provisioner: Provisioner,
        checker: Arc<dyn LoginChecker>,
        results: CheckedLogins,
        metrics: Metrics,
        clock: fn() -> Timestamp,
    ) -> Self {
        Self {
            provisioner,
            checker,
            results,
            metrics,
            clock,
        }
    }

    /// Tries logins while this replica leads. Ends when the sender is gone.
    pub async fn run(self, mut leadership: watch::Receiver<Leadership>) {
        while Leadership::acquired(&mut leadership).await {
            Leadership::while_leading(&mut leadership, self.lead()).await;
            // Another leader may find something else: its status is what counts then.
            self.results.clear();
            self.metrics.set_refused(0);
        }
    }

    async fn lead(&self) {
        let mut schedule = LoginSchedule::default();
        let mut running = RunningChecks::default();
        let mut cursor = None;
        let mut ticks = ticks(TICK);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                Some(ended) = running.tasks.join_next_with_id() => {
                    self.end(ended, &mut running, &mut schedule);
                }
            }
            if self.has_changed(&mut cursor) {
                self.update(&mut schedule);
            }
            while let Some(attempt) = schedule.pop_due((self.clock)()) {
                self.start(attempt, &mut running);
            }
            self.metrics.set_refused(schedule.count_refused());
        }
    }

    fn update(&self, schedule: &mut LoginSchedule) {
        let logins = self.find_logins();
        self.results.retain(|name| logins.contains_key(name));
        let tries = |name: &ObjectName| {
            let source = self.provisioner.find_static_source(name);
            source.map_or_else(LoginTries::default, |source| {
                find_tries(&source.secret, &source.keys, &source.reserved)
            })
        };
        let status = |name: &ObjectName| self.provisioner.status(name).status;
        self.keep(schedule.update(logins, tries, status, (self.clock)()));
    }

    /// Whether Registries or source Secrets may be others than when this was asked last.
    fn has_changed(&self, cursor: &mut Option<Cursor>) -> bool {
        let changes = self.provisioner.changes();
        let Some(cursor) = cursor else {
            *cursor = Some(changes.end());
            return true;
        };
        let mut has_changed = false;
        let knows = changes.read(cursor, |change| {
            has_changed |= matches!(change, Change::Source(_) | Change::Registries);
        });
        has_changed || !knows
    }

    /// The fixed logins that there are: none of Registries that rest, and none whose source Secret is missing.
    fn find_logins(&self) -> BTreeMap<ObjectName, LoginVersion> {
        let registries = self.provisioner.registries();
        let in_use = registries.iter().filter(|registry| !registry.suspend);
        let version = |name: &ObjectName| {
            let source = self.provisioner.find_static_source(name)?;
            let listed = registries.find_listed(name)?;
            Some(LoginVersion::of(listed, &source.secret.resource_version))
        };
        in_use
            .filter_map(|registry| Some((registry.name.clone(), version(&registry.name)?)))
            .collect()
    }

    fn start(&self, attempt: Arc<LoginTry>, running: &mut RunningChecks) {
        let checker = Arc::clone(&self.checker);
        let id = attempt.id;
        let task = running.tasks.spawn(async move {
            let outcome = tokio::time::timeout(CHECK_TIMEOUT, checker.check(&attempt));
            let timed_out = |_| unknown("Timeout", "its registry does not answer in time");
            outcome.await.unwrap_or_else(timed_out)
        });
        running.logins.insert(task.id(), id);
    }

    fn end(
        &self,
        ended: Result<(Id, LoginOutcome), JoinError>,
        running: &mut RunningChecks,
        schedule: &mut LoginSchedule,
    ) {
        let (task, outcome) = ended.unwrap_or_else(|error| {
            let message = "internal error: the task that tries it panicked, retrying";
            (error.id(), unknown("InternalError", message))
        });
        if let Some(id) = running.logins.remove(&task) {
            self.metrics.count(&outcome);
            self.keep(schedule.end(id, outcome, (self.clock)()));
        }
    }

    /// Keeps what was found for those who report it.
    fn keep(&self, findings: Vec<LoginFinding>) {
        for (name, version, outcome) in findings {
            log(&name, &outcome, self.results.get(&name).as_ref());
            self.results.put(name, CheckedLogin { version, outcome });
        }
    }
}

fn unknown(reason: &'static str, message: &str) -> LoginOutcome {
    LoginOutcome::Unknown {
        reason,
        message: message.to_owned(),
        is_passing: true,
        retry_after: None,
    }
}

/// Says what is new.
fn log(name: &ObjectName, outcome: &LoginOutcome, before: Option<&CheckedLogin>) {
    if before.is_some_and(|before| before.outcome == *outcome) {
        return;
    }
    let name = name.as_str();
    match outcome {
        LoginOutcome::Taken => {
            tracing::info!(registry.name = name, "the registry takes the fixed login");
        }
        LoginOutcome::Refused { message } => tracing::warn!(
            registry.name = name,
            "the registry refuses the fixed login, correct the source Secret: {message}"
        ),
        LoginOutcome::Unknown { message, .. } => tracing::info!(
            registry.name = name,
            "the fixed login is not verified: {message}"
        ),
    }
}
