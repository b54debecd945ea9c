//! Keeping every pull secret as it must be, as long as this replica leads: what changed is reconciled, and nothing else.
//!
//! ```text
//! watch event, mint done, ServiceAccount read, deadline ─▶ WorkQueue ─▶ reconcile(key): decide (pure, one secret)
//!                                                                        ├─▶ mint       one per credential, 32 at a time
//!                                                                        ├─▶ write      32 at a time, renewals at a pace
//!                                                                        ├─▶ remove     if RemovalGuard permits, 8 at a time
//!                                                                        └─▶ Index ─▶ status, metrics
//! ```

mod blocked;
mod blocked_report;
mod changes;
mod confirmations;
mod crd_check;
mod drift;
pub(super) mod index;
mod meanwhile;
pub(super) mod mint_retries;
mod mints;
mod record;
mod report;
mod start;
mod state;
mod status_holdoff;
mod sweep;
mod tasks;
mod workqueue;
mod write_backoff;

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;

use self::record::Seen;
use self::state::ReconcilerState;
pub use self::workqueue::RenewalRate;
use super::leadership::Leadership;
use super::login_checks::CheckedLogins;
use super::metrics::Metrics;
use super::missed_pods::webhook_calls::WebhookCalls;
use super::node_lists::SeenNodes;
use super::removal_guard::{REMOVAL_WINDOW, RemovalCause};
use super::status::StatusWriter;
use crate::clock;
use crate::names::NamespaceName;
use crate::provision::changes::PullSecretKey;
use crate::provision::decide::{Decision, Stale, decide};
use crate::provision::observe::{PullSecretView, SecretView};
use crate::provision::ports::Credentials;
use crate::provision::{Provision as _, Provisioner};

/// How many keys are reconciled before what ended meanwhile is taken.
const BATCH: usize = 256;

/// By so much a clock may be corrected without anything being overdue.
const CLOCK_SLACK: SignedDuration = SignedDuration::from_secs(1);

/// How many credentials are minted at a time: the rest of many that are due at once waits for its turn, and no cloud is run over.
const MAX_CONCURRENT_MINTS: usize = 32;

/// How many pull secrets are written at a time.
const MAX_CONCURRENT_WRITES: usize = 32;

/// From how many something is removed at a time: places of their own, since an order acts within seconds, however much is to be written.
const MAX_CONCURRENT_REMOVALS: usize = 8;

/// Keeps pull secrets.
pub struct Reconciler {
    provisioner: Provisioner,
    credentials: Arc<dyn Credentials>,
    status_writer: Arc<dyn StatusWriter>,
    metrics: Metrics,
    own_namespace: NamespaceName,
    clock: fn() -> Timestamp,
    rate: RenewalRate,
    calls: WebhookCalls,
    logins: Option<CheckedLogins>,
    nodes: SeenNodes,
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
            rate: RenewalRate::default(),
            calls: WebhookCalls::default(),
            logins: None,
            nodes: SeenNodes::default(),
        }
    }

    /// What is known of the API server's calls, which Registries' conditions say.
    #[must_use]
    pub fn with_webhook_calls(self, calls: WebhookCalls) -> Self {
        Self { calls, ..self }
    }

    /// What is known of fixed logins, which conditions say; without, they say nothing of it.
    #[must_use]
    pub fn with_checked_logins(self, logins: CheckedLogins) -> Self {
        let logins = Some(logins);
        Self { logins, ..self }
    }

    /// Which nodes' kubelets asked for logins, which conditions say.
    #[must_use]
    pub fn with_seen_nodes(self, nodes: SeenNodes) -> Self {
        Self { nodes, ..self }
    }

    /// How fast renewed credentials are written.
    #[must_use]
    pub fn with_renewal_rate(self, rate: RenewalRate) -> Self {
        Self { rate, ..self }
    }

    /// Reconciles pull secrets while this replica leads. Ends when the sender is gone.
    pub async fn run(self, mut leadership: watch::Receiver<Leadership>) {
        let mut has_sender = true;
        while has_sender && Leadership::acquired(&mut leadership).await {
            self.metrics.set_leader(true);
            // Mints, and writes of pull secrets, are tasks of their own and go on when leadership is lost: every write is a
            // compare-and-swap. Removals, status writes and Events that are under way are cancelled: the next leader repeats them.
            has_sender = self.lead(&mut leadership).await;
            self.metrics.set_leader(false);
        }
    }

    /// Leads until another replica does; `false`: the sender is gone.
    async fn lead(&self, leadership: &mut watch::Receiver<Leadership>) -> bool {
        let mut state = ReconcilerState::new(self.rate);
        self.add_all(&mut state);
        loop {
            let now = (self.clock)();
            let confirmed = {
                let leadership = leadership.borrow_and_update();
                if !leadership.leads {
                    return true;
                }
                leadership.confirmed.clone()
            };
            let last = std::mem::replace(&mut state.last, now);
            if last.duration_since(now) > CLOCK_SLACK {
                // The clock was put back: what was to be done at a time may be long overdue.
                self.add_all(&mut state);
            }
            state.take_finished(now);
            self.add_changed(&mut state);
            state.queue.add_due(now);
            state.add_due_mints(now);
            for _ in 0..BATCH {
                let Some(key) = state.queue.pop() else { break };
                self.reconcile(&key, &mut state, now);
            }
            self.start_queued(&mut state, now);
            if !state.queue.is_settled() {
                self.act_meanwhile(&mut state, now);
                tokio::task::yield_now().await;
                continue;
            }
            let removals = self.remove_stale(confirmed.as_deref(), &mut state, now);
            let status = self.report_status(&mut state, now);
            let mints = state.mint_retries.next();
            let next = [removals, status, mints, state.queue.next()];
            let next = next.into_iter().flatten().min();
            if !self.wait(leadership, &mut state, next, now).await {
                return false;
            }
        }
    }

    /// Waits until something changes, or it is time; `false`: the sender is gone.
    async fn wait(
        &self,
        leadership: &mut watch::Receiver<Leadership>,
        state: &mut ReconcilerState,
        next: Option<Timestamp>,
        now: Timestamp,
    ) -> bool {
        let mut wait = next.map_or(clock::MAX_WAIT, |next| clock::find_wait(next, now));
        if state.writes_running() < MAX_CONCURRENT_WRITES {
            wait = state
                .queue
                .next_write(now)
                .map_or(wait, |next| next.min(wait));
        }
        let logins_changed = async {
            match &self.logins {
                Some(logins) => logins.changed().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            changed = leadership.changed() => return changed.is_ok(),
            Some(finished) = state.tasks.next() => state.take(finished, (self.clock)()),
            () = self.provisioner.changes().changed_since(state.state_cursor) => {}
            () = self.credentials.changes().changed_since(state.credential_cursor) => {}
            () = self.calls.changed() => {}
            () = logins_changed => {}
            () = self.nodes.changed() => {}
            () = tokio::time::sleep(wait) => {}
        }
        true
    }

    /// Reconciles one pull secret: finds how it is and how it is to be, and has done what is to be done.
    fn reconcile(&self, key: &PullSecretKey, state: &mut ReconcilerState, now: Timestamp) {
        self.metrics.count_reconcile();
        let view = match self.provisioner.view(key, now) {
            PullSecretView::Ours(view) => view,
            other => {
                let seen = match other {
                    PullSecretView::Foreign(registries) => Some(Seen::Foreign(registries)),
                    _ => None,
                };
                state.index.put(key, seen, now);
                state.guard.forget(key);
                state.queue.forget(key);
                return;
            }
        };
        decide_one(key, &view, state, now);
        state.index.put(key, Some(Seen::Ours(view)), now);
    }

    /// Begins to mint what waits to be minted, and to write what waits to be written and is still to be.
    fn start_queued(&self, state: &mut ReconcilerState, now: Timestamp) {
        while state.mints_running < MAX_CONCURRENT_MINTS
            && let Some(source) = state.mints.pop()
        {
            if state.index.uses(&source) {
                state.mints_running += 1;
                self.mint(source, state, now);
            } else {
                state.minting.remove(&source);
            }
        }
        while state.writes_running() < MAX_CONCURRENT_WRITES
            && let Some(key) = state.queue.pop_write(now)
        {
            match self.provisioner.find_incomplete(&key) {
                Some(target) if state.may_write(&target, now) => self.write(target, state),
                _ => state.queue.add(key),
            }
        }
    }

    /// Begins to remove what is to be removed and may be, once the API server said that Registries which are not there are truly gone;
    /// when to try again what is left.
    fn remove_stale(
        &self,
        confirmed: Option<&str>,
        state: &mut ReconcilerState,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let is_other = state.guard.take_changed() || state.confirmed.as_deref() != confirmed;
        let is_idle = !state.has_permits && !state.index.is_unconfirmed();
        if is_idle && !is_other && state.blocked_until.is_none_or(|until| now < until) {
            return state.blocked_until;
        }
        state.confirmed = confirmed.map(str::to_owned);
        state.confirmations.take(confirmed);
        let mut permits = state.permit_removals(now);
        state.report_blocked(&permits.blocked, &self.own_namespace, now);
        if state.end_confirmed() {
            self.provisioner.forget_lost_kind();
        }
        // What was removed lately counts no more by then.
        let again = (!permits.blocked.is_empty()).then(|| {
            let window = now.saturating_add(REMOVAL_WINDOW).unwrap_or(now);
            let report = state.blocked_report.next(now);
            report.map_or(window, |report| report.min(window))
        });
        state.blocked_until = again;
        state.has_permits = !permits.permitted.is_empty();
        if !state.has_permits && !state.index.is_unconfirmed() {
            state.crd_check.forget();
            return again;
        }
        let registries = self.provisioner.registries();
        self.check_crd(&registries, state, now);
        if !state.crd_check.is_confirmed() {
            // Who confirms it while the kind is gone means just that, and nothing else.
            let is_gone = state.crd_check.is_gone();
            permits
                .permitted
                .retain(|key| is_gone && state.is_confirmed(key));
        }
        let knows = state.crd_check.knows(&registries);
        self.remove_permitted(permits.permitted, knows, state);
        state.crd_check.next().into_iter().chain(again).min()
    }

    /// Begins to remove what is permitted; what nobody ordered only where the Registries are known.
    fn remove_permitted(
        &self,
        permitted: Vec<PullSecretKey>,
        knows: bool,
        state: &mut ReconcilerState,
    ) {
        for key in permitted {
            // What is left begins when one of those ends.
            if state.removals_running >= MAX_CONCURRENT_REMOVALS {
                break;
            }
            let cause = state.guard.cause(&key);
            let found = cause.is_none_or(|cause| cause.why != Stale::SpecChange);
            let is_known = knows || (state.crd_check.is_gone() && state.is_confirmed(&key));
            if state.writing.contains(&key) || (found && !is_known) {
                continue;
            }
            let view = state.index.get(&key).and_then(|record| record.view());
            let leftovers =
                view.and_then(|view| Some((view.target.clone(), view.stale.clone()?.keys)));
            if let Some((target, keys)) = leftovers {
                state.guard.begin(&key);
                self.remove(target, keys, found, state);
            }
        }
    }
}

/// Decides what is to be done with one pull secret, and queues it.
fn decide_one(key: &PullSecretKey, view: &SecretView, state: &mut ReconcilerState, now: Timestamp) {
    let mut input = state.input_of(key, view, now);
    let mut cause = None;
    let (write, next) = loop {
        match decide(&input, now) {
            Decision::Mint(places) => {
                let sources: Vec<_> = view.entries(now).map(|entry| entry.source).collect();
                for place in places {
                    let credential = &mut input.entries[place].credential;
                    if let (Some(source), Some(credential)) = (sources[place], credential) {
                        state.add_mint(source, *credential, now);
                        credential.minting_since = Some(now);
                    }
                }
            }
            Decision::Write => break (Some(None), None),
            Decision::Renew { until, requeue_at } => break (Some(Some(until)), requeue_at),
            Decision::Remove(why) => {
                // Whether it is carried out is decided for all of them together.
                let is_ours = view.stale.as_ref().is_none_or(|stale| stale.is_ours);
                cause = Some(RemovalCause { why, is_ours });
                input.stale = None;
            }
            Decision::Wait(next) => break (None, next),
        }
    };
    match cause {
        Some(cause) => state.guard.want(key, cause),
        None => state.guard.forget(key),
    }
    match write {
        Some(by) => state.queue.add_write(key.clone(), by),
        None => state.queue.forget_write(key),
    }
    if let Some(next) = next {
        state.queue.add_at(key.clone(), next);
    }
}
