//! Keeping every pull secret as it must be, as long as this replica leads.

mod crd_check;
mod drift;
mod start;
mod state;
mod status_holdoff;
mod tasks;
mod token_bucket;
mod workqueue;
mod write_backoff;

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;
use tokio::time::{Instant, Interval};

use self::state::ReconcilerState;
use self::tasks::{TaskKey, TaskResult};
use super::conditions::Reason;
use super::leadership::{Leadership, ticks};
use super::metrics::Metrics;
use super::missed_pods::calls::{UnaskedPod, WebhookCalls};
use super::status::{ReconcileErrors, StatusWriter};
use crate::names::NamespaceName;
use crate::provision::decide::{Decision, RenewalRate, Stale, decide};
use crate::provision::ports::Credentials;
use crate::provision::snapshot::Snapshot;
use crate::provision::{Provision as _, Provisioner};

/// How often to check whether something changed. Changes in between are handled together.
const TICK: Duration = Duration::from_millis(50);

/// After a resync of everything the next one waits so many times its duration; until then only changed namespaces are reconciled.
const RESYNC_PAUSE_FACTOR: u32 = 3;

/// How many credentials are minted at a time: the rest of many that are due at once waits for its turn, and no cloud is run over.
const MAX_CONCURRENT_MINTS: usize = 32;

/// How many pull secrets are written at a time.
const MAX_CONCURRENT_WRITES: usize = 32;

/// When removals are tried again from pull secrets that are being written first.
const REMOVAL_RETRY: SignedDuration = SignedDuration::from_secs(1);

/// Keeps pull secrets.
pub struct Reconciler {
    provisioner: Provisioner,
    credentials: Arc<dyn Credentials>,
    status_writer: Arc<dyn StatusWriter>,
    metrics: Metrics,
    own_namespace: NamespaceName,
    clock: fn() -> Timestamp,
    min_resync_interval: Duration,
    rate: RenewalRate,
    calls: WebhookCalls,
}

impl Reconciler {
    /// Puts it together; `clock` is [`Timestamp::now`] outside tests.
    pub fn new(
        provisioner: Provisioner,
        credentials: Arc<dyn Credentials>,
        status_writer: Arc<dyn StatusWriter>,
        metrics: Metrics,
        own_namespace: NamespaceName,
        clock: fn() -> Timestamp,
    ) -> Self {
        Self {
            provisioner,
            credentials,
            status_writer,
            metrics,
            own_namespace,
            clock,
            min_resync_interval: Duration::ZERO,
            rate: RenewalRate::default(),
            calls: WebhookCalls::default(),
        }
    }

    /// What is known of the API server's calls, which Registries' conditions say.
    #[must_use]
    pub fn with_webhook_calls(self, calls: WebhookCalls) -> Self {
        Self { calls, ..self }
    }

    /// The least time between two resyncs of everything.
    #[must_use]
    pub fn with_min_resync_interval(self, min_resync_interval: Duration) -> Self {
        Self {
            min_resync_interval,
            ..self
        }
    }

    /// How fast renewed credentials are written.
    #[must_use]
    pub fn with_renewal_rate(self, rate: RenewalRate) -> Self {
        Self { rate, ..self }
    }

    /// Reconciles pull secrets while this replica leads. Ends when the sender is gone.
    pub async fn run(self, mut leadership: watch::Receiver<Leadership>) {
        loop {
            while !leadership.borrow_and_update().leads {
                if leadership.changed().await.is_err() {
                    return;
                }
            }
            self.metrics.set_leader(true);
            // Mints, and writes of pull secrets, are tasks of their own and go on when leadership is lost: every write is a
            // compare-and-swap. Removals, status writes and Events that are under way are cancelled: the next leader repeats them.
            let finished = self.lead(&mut leadership).await;
            self.metrics.set_leader(false);
            if finished {
                return;
            }
        }
    }

    /// Leads until another replica does; whether the sender is gone.
    async fn lead(&self, leadership: &mut watch::Receiver<Leadership>) -> bool {
        let mut state = ReconcilerState::default();
        let mut looked = None;
        let mut next: Option<Timestamp> = None;
        let mut backoff_until = Instant::now();
        let mut ticks = ticks(TICK);
        let mut last = Timestamp::MIN;
        loop {
            self.wait_for(&mut ticks, &mut state).await;
            if leadership.has_changed().is_err() {
                return true;
            }
            let now = (self.clock)();
            let confirmed = {
                let leadership = leadership.borrow_and_update();
                if !leadership.leads {
                    return false;
                }
                leadership.confirmed.clone()
            };
            state.take_finished(now);
            state.queue.refill(TICK, now);
            self.start_queued(&mut state, now);
            let calls = self.calls.unasked();
            let seen = Some((self.provisioner.change(), confirmed.clone(), calls));
            if now < last {
                // If the clock went back, the next step may be long overdue.
                next = Some(now);
            }
            last = now;
            let is_due = next.is_some_and(|next| next <= now);
            if looked == seen && !state.has_results && !is_due {
                continue;
            }
            // A name is noted before the number counts: taken before that, it would be lost.
            let changed = self.provisioner.take_changed();
            let began = Instant::now();
            if began < backoff_until {
                self.reconcile_namespaces(&changed, &mut state, now);
                continue;
            }
            looked = seen;
            next = self.resync(confirmed.as_deref(), &mut state, now);
            backoff_until = Instant::now()
                + (began.elapsed() * RESYNC_PAUSE_FACTOR).max(self.min_resync_interval);
        }
    }

    /// Waits for the next tick. Whenever a place becomes free meanwhile, what waits for one begins.
    async fn wait_for(&self, ticks: &mut Interval, state: &mut ReconcilerState) {
        loop {
            tokio::select! {
                // Each loop waits for a full tick, then takes all that ended: neither delays the other.
                biased;
                _ = ticks.tick() => return,
                Some(finished) = state.tasks.next(), if !state.queue.is_empty() => {
                    let now = (self.clock)();
                    state.take(finished, now);
                    self.start_queued(state, now);
                }
            }
        }
    }

    /// Takes a snapshot of everything, and starts what is to be done; answers when to resync if nothing changes.
    fn resync(
        &self,
        confirmed: Option<&str>,
        state: &mut ReconcilerState,
        now: Timestamp,
    ) -> Option<Timestamp> {
        state.has_results = false;
        let mut snapshot = self.provisioner.snapshot(now);
        snapshot.view.rate = self.rate;
        state.mark(&mut snapshot, now);
        state.mark_removals(&mut snapshot, confirmed, now);
        state.retain_only(&snapshot, now);
        let decision = decide(&snapshot.view, now);
        state.report_blocked_removals(&snapshot, &decision, &self.own_namespace);
        if snapshot.view.removals.confirmed && decision.has_no_removals() {
            self.provisioner.forget_lost_kind();
        }
        self.metrics.set_snapshot(&snapshot, &decision);
        let (mints, writes) = state.count_failing(&snapshot);
        self.metrics.set_failing(mints, writes);
        state.queue.replace(&snapshot, &decision);
        self.start_queued(state, now);
        let left = self.remove_stale(&snapshot, &decision, state, now);
        let tells = self.report_status(&snapshot, &decision, state, now);
        decision.next.into_iter().chain(left).chain(tells).min()
    }

    /// Takes a snapshot of a few namespaces for what is missing there, and starts that at once.
    fn reconcile_namespaces(
        &self,
        names: &BTreeSet<NamespaceName>,
        state: &mut ReconcilerState,
        now: Timestamp,
    ) {
        if names.is_empty() {
            return;
        }
        let mut snapshot = self.provisioner.snapshot_namespaces(names, now);
        state.mark(&mut snapshot, now);
        let decision = decide(&snapshot.view, now);
        state.queue.push_front(&snapshot, &decision);
        self.start_queued(state, now);
    }

    /// Begins to mint what waits to be minted, and to write what waits to be written and is still to be.
    fn start_queued(&self, state: &mut ReconcilerState, now: Timestamp) {
        while state.minting.len() < MAX_CONCURRENT_MINTS
            && let Some(source) = state.queue.pop_mint()
        {
            if state.may_mint(&source, now) {
                self.mint(&source, state, now);
            }
        }
        while state.writing.len() < MAX_CONCURRENT_WRITES
            && let Some(target) = state.queue.take()
        {
            if state.may_write(&target, now)
                && let Some(target) = self.provisioner.find_incomplete(&target)
            {
                self.write(target, state);
            }
        }
    }

    /// Begins to remove what is to be removed, once the API server said that Registries which are not there are truly gone; when to
    /// try what is left again.
    fn remove_stale(
        &self,
        snapshot: &Snapshot,
        decision: &Decision,
        state: &mut ReconcilerState,
        now: Timestamp,
    ) -> Option<Timestamp> {
        if decision.remove.is_empty() && !snapshot.is_unconfirmed {
            state.crd_check.forget();
            return None;
        }
        let registries = self.provisioner.registries();
        if state.crd_check.should_ask(&registries, now) {
            let provisioner = self.provisioner.clone();
            state.tasks.spawn(TaskKey::CheckCrd, async move {
                TaskResult::CrdChecked(provisioner.confirm_spec_changes().await)
            });
        }
        // Who confirms it while the kind is gone means just that.
        let is_confirmed = snapshot.view.removals.confirmed && state.crd_check.is_gone();
        if !state.crd_check.is_confirmed() && !is_confirmed {
            return state.crd_check.next();
        }
        // What takes the place of a login is written before that is taken out, unless it cannot be: then this waits no longer.
        let last_written: HashSet<usize> = decision.complete.iter().copied().collect();
        let mut left = false;
        for &index in &decision.remove {
            if state.writing.len() >= MAX_CONCURRENT_WRITES {
                left = true;
                break;
            }
            let holding = &snapshot.view.secrets[index];
            let is_written = state.writing.contains(&snapshot.secrets[index].name());
            if is_written || last_written.contains(&index) {
                left = true;
                continue;
            }
            let found = holding.stale != Some(Stale::SpecChange);
            if found && !state.crd_check.knows(&registries) && !is_confirmed {
                continue;
            }
            self.remove(
                &snapshot.secrets[index],
                &snapshot.stale[index],
                found,
                state,
            );
        }
        left.then(|| now.saturating_add(REMOVAL_RETRY).unwrap_or(now))
    }

    /// Publishes status updates, unless that was done a moment ago: then answers when to.
    fn report_status(
        &self,
        snapshot: &Snapshot,
        decision: &Decision,
        state: &mut ReconcilerState,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let next = state.reported.holds_until(now);
        let next = next.or_else(|| state.status_holdoff_until(decision, now));
        if next.is_some() {
            return next;
        }
        let mut leadership = std::mem::take(&mut state.reported);
        let trouble = ReconcileErrors {
            failure: &|source| state.failure(source),
            drifting: state.drift.persistent(),
            unwritten: state.write_backoff.persistent(),
            notes: decision
                .overload
                .map(|needed| overload(needed, self.rate.max))
                .into_iter()
                .chain(self.calls.unasked().map(|pod| not_called(&pod)))
                .collect(),
        };
        let registries = self.provisioner.registries();
        let known = |registry: &str| self.provisioner.status(registry);
        let mut news = leadership.find_updates(snapshot, &registries, &trouble, known, now);
        news.events.append(&mut state.events);
        state.reported = leadership;
        for (listed, status) in news.statuses {
            let status_writer = Arc::clone(&self.status_writer);
            let about = TaskKey::WriteStatus(listed.name.clone());
            state.tasks.spawn(about, async move {
                let applied = status_writer.apply_status(&listed, &status).await;
                TaskResult::StatusWritten(listed.name.clone(), applied)
            });
        }
        for notice in news.events {
            let status_writer = Arc::clone(&self.status_writer);
            state.tasks.spawn(TaskKey::PublishEvent, async move {
                status_writer.publish(&notice, now).await;
                TaskResult::EventPublished
            });
        }
        let peace = state.drift.next_expiry().filter(|peace| *peace > now);
        news.requeue_at.into_iter().chain(peace).min()
    }
}

/// Pods get no references, however good their pull secrets are.
fn not_called(pod: &UnaskedPod) -> Reason {
    Reason::new("WebhookNotCalled", pod.describe())
}

fn overload(needed: f64, done: f64) -> Reason {
    let message = format!(
        "renewals need {needed:.0} writes per second, --max-renewals-per-second is {done:.0}: raise it, let credentials live longer, or serve fewer namespaces"
    );
    Reason::new("RenewalRateExceeded", message)
}
