//! Keeping every pull secret as it must be, as long as this replica leads.

mod allowance;
mod begin;
mod failures;
mod fight;
mod jobs;
mod kind;
mod queue;
mod settle;
mod work;

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;
use tokio::time::{Instant, Interval};

use self::jobs::About;
use self::work::{Done, Work};
use super::metrics::Metrics;
use super::report::Finding;
use super::tell::{Teller, Trouble};
use super::term::{Leadership, ticks};
use crate::names::NamespaceName;
use crate::provision::access::Credentials;
use crate::provision::decide::{Decision, Pace, Surplus, decide};
use crate::provision::survey::Survey;
use crate::provision::{Ensure, Provision as _};
use crate::registry::Orders;

/// How often it is looked whether something changed. What changes in between is taken together.
const TICK: Duration = Duration::from_millis(50);

/// After everything was looked at, so many times as long as that took it is not looked at again, but at single namespaces that changed.
const REST: u32 = 3;

/// How many credentials are minted at a time: the rest of many that are due at once waits for its turn, and no cloud is run over.
const MINTS: usize = 32;

/// How many pull secrets are written at a time.
const WRITES: usize = 32;

/// When it is looked again at what is to be taken out of pull secrets that are being written first.
const LEFT_AGAIN: SignedDuration = SignedDuration::from_secs(1);

/// Keeps pull secrets.
pub struct Keeper {
    ensure: Ensure,
    credentials: Arc<dyn Credentials>,
    teller: Arc<dyn Teller>,
    metrics: Metrics,
    own_namespace: NamespaceName,
    clock: fn() -> Timestamp,
    rest: Duration,
    pace: Pace,
}

impl Keeper {
    /// Puts it together; `clock` is [`Timestamp::now`] outside tests.
    pub fn new(
        ensure: Ensure,
        credentials: Arc<dyn Credentials>,
        teller: Arc<dyn Teller>,
        metrics: Metrics,
        own_namespace: NamespaceName,
        clock: fn() -> Timestamp,
    ) -> Self {
        Self {
            ensure,
            credentials,
            teller,
            metrics,
            own_namespace,
            clock,
            rest: Duration::ZERO,
            pace: Pace::default(),
        }
    }

    /// After everything was looked at, it is not looked at again for so long at least.
    #[must_use]
    pub fn with_rest_of_at_least(self, rest: Duration) -> Self {
        Self { rest, ..self }
    }

    /// How fast renewed credentials are written.
    #[must_use]
    pub fn with_pace(self, pace: Pace) -> Self {
        Self { pace, ..self }
    }

    /// Keeps pull secrets whenever it is told that this replica leads. Ends when the sender is gone.
    pub async fn run(self, mut told: watch::Receiver<Leadership>) {
        let mut orders = Orders::default();
        loop {
            while !told.borrow_and_update().leads {
                // A replica that does not lead yet remembers all the same what admins ordered.
                orders.note(&self.ensure.registries(), (self.clock)());
                if let Ok(Err(_)) = tokio::time::timeout(TICK, told.changed()).await {
                    return;
                }
            }
            self.metrics.set_leader(true);
            // Mints, and writes of pull secrets, are tasks of their own and go on when leadership is lost: every write is a
            // compare-and-swap. Removals, status writes and Events that are under way are broken off: who leads next does them anew.
            let ended = self.lead(&mut orders, &mut told).await;
            self.metrics.set_leader(false);
            if ended {
                return;
            }
        }
    }

    /// Leads until somebody else does; whether the sender is gone.
    async fn lead(&self, orders: &mut Orders, told: &mut watch::Receiver<Leadership>) -> bool {
        let mut work = Work::default();
        let mut looked = None;
        let mut next: Option<Timestamp> = None;
        let mut rests_until = Instant::now();
        let mut ticks = ticks(TICK);
        let mut last = Timestamp::MIN;
        loop {
            self.wait_for(&mut ticks, &mut work).await;
            if told.has_changed().is_err() {
                return true;
            }
            let now = (self.clock)();
            let confirmed = {
                let told = told.borrow_and_update();
                if !told.leads {
                    return false;
                }
                told.confirmed.clone()
            };
            orders.note(&self.ensure.registries(), now);
            work.take_ended(now);
            work.queue.grow(TICK, now);
            self.begin_queued(&mut work, now);
            let seen = Some((self.ensure.change(), confirmed.clone()));
            if now < last {
                // By a clock that was put back, what is to be done next may be long due.
                next = Some(now);
            }
            last = now;
            let is_due = next.is_some_and(|next| next <= now);
            if looked == seen && !work.has_news && !is_due {
                continue;
            }
            // A name is noted before the number counts: taken before that, it would be lost.
            let changed = self.ensure.take_changed();
            let began = Instant::now();
            if began < rests_until {
                self.look_at(&changed, orders, &mut work, now);
                continue;
            }
            looked = seen;
            next = self.look(orders, confirmed.as_deref(), &mut work, now);
            rests_until = Instant::now() + (began.elapsed() * REST).max(self.rest);
        }
    }

    /// Waits for the next tick. Whenever a place becomes free meanwhile, what waits for one begins.
    async fn wait_for(&self, ticks: &mut Interval, work: &mut Work) {
        loop {
            tokio::select! {
                // A tick is waited for anew each time, and takes all that ended: neither keeps the other waiting.
                biased;
                _ = ticks.tick() => return,
                Some(ended) = work.jobs.next(), if !work.queue.is_empty() => {
                    let now = (self.clock)();
                    work.take(ended, now);
                    self.begin_queued(work, now);
                }
            }
        }
    }

    /// Looks at everything, and begins what is to be done; answers when to look again if nothing changes.
    fn look(
        &self,
        orders: &Orders,
        confirmed: Option<&str>,
        work: &mut Work,
        now: Timestamp,
    ) -> Option<Timestamp> {
        work.has_news = false;
        let mut survey = self.ensure.survey(orders, now);
        survey.view.pace = self.pace;
        work.mark(&mut survey, now);
        work.mark_removals(&mut survey, confirmed, now);
        work.forget_others(&survey, now);
        let decision = decide(&survey.view, now);
        work.tell_held_back(&survey, &decision, &self.own_namespace);
        self.metrics.set_survey(&survey, &decision);
        let (mints, writes) = work.count_failing(&survey);
        self.metrics.set_failing(mints, writes);
        work.queue.fill(&survey, &decision);
        self.begin_queued(work, now);
        let left = self.remove_all(&survey, &decision, work, now);
        let tells = self.tell(&survey, &decision, work, now);
        decision.next.into_iter().chain(left).chain(tells).min()
    }

    /// Looks at a few namespaces for what is missing there, and begins that at once.
    fn look_at(
        &self,
        names: &BTreeSet<NamespaceName>,
        orders: &Orders,
        work: &mut Work,
        now: Timestamp,
    ) {
        if names.is_empty() {
            return;
        }
        let mut survey = self.ensure.survey_some(names, orders, now);
        work.mark(&mut survey, now);
        let decision = decide(&survey.view, now);
        work.queue.hurry(&survey, &decision);
        self.begin_queued(work, now);
    }

    /// Begins to mint what waits to be minted, and to write what waits to be written and is still to be.
    fn begin_queued(&self, work: &mut Work, now: Timestamp) {
        while work.minting.len() < MINTS
            && let Some(source) = work.queue.take_mint()
        {
            if work.may_mint(&source, now) {
                self.mint(&source, work, now);
            }
        }
        while work.writing.len() < WRITES
            && let Some(place) = work.queue.take()
        {
            if work.may_write(&place, now)
                && let Some(place) = self.ensure.find_lacking(&place)
            {
                self.write(place, work);
            }
        }
    }

    /// Begins to remove what is to be removed, once the API server said that Registries which are not there are truly gone; when to
    /// look again at what is left.
    fn remove_all(
        &self,
        survey: &Survey,
        decision: &Decision,
        work: &mut Work,
        now: Timestamp,
    ) -> Option<Timestamp> {
        if decision.remove.is_empty() {
            work.kind.forget();
            return None;
        }
        work.kind.see(&self.ensure.registries());
        if work.kind.is_to_be_asked(now) {
            let ensure = self.ensure.clone();
            work.jobs.begin(About::Check, async move {
                Done::Checked(ensure.check_registries().await)
            });
        }
        if !work.kind.is_known() {
            return work.kind.next();
        }
        // What takes the place of a login is written before that is taken out, unless it cannot be: then this waits no longer.
        let written: HashSet<usize> = decision.complete.iter().copied().collect();
        let mut left = false;
        for &place in &decision.remove {
            if work.writing.len() >= WRITES {
                left = true;
                break;
            }
            let holding = &survey.view.secrets[place];
            let is_written = work.writing.contains(&survey.secrets[place].name());
            if is_written || written.contains(&place) {
                left = true;
                continue;
            }
            let found = holding.surplus == Some(Surplus::Found);
            self.remove(&survey.secrets[place], &survey.surplus[place], found, work);
        }
        left.then(|| now.saturating_add(LEFT_AGAIN).unwrap_or(now))
    }

    /// Tells people what is new, unless that was done a moment ago: then, when it is time to.
    fn tell(
        &self,
        survey: &Survey,
        decision: &Decision,
        work: &mut Work,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let next = work.told.waits_until(now);
        let next = next.or_else(|| work.settles_until(decision, now));
        if next.is_some() {
            return next;
        }
        let mut told = std::mem::take(&mut work.told);
        let trouble = Trouble {
            failure: &|source| work.failure(source),
            fought: work.fights.lasting(),
            unwritten: work.write_again.lasting(),
            notes: decision
                .overload
                .map(|needed| overload(needed, self.pace.top))
                .into_iter()
                .collect(),
        };
        let registries = self.ensure.registries();
        let known = |registry: &str| self.ensure.status(registry);
        let mut news = told.find_news(survey, &registries, &trouble, known, now);
        news.notices.append(&mut work.notices);
        work.told = told;
        for (listed, status) in news.statuses {
            let teller = Arc::clone(&self.teller);
            let about = About::Report(listed.name.clone());
            work.jobs.begin(about, async move {
                let applied = teller.apply_status(&listed, &status).await;
                Done::Reported(listed.name.clone(), applied)
            });
        }
        for notice in news.notices {
            let teller = Arc::clone(&self.teller);
            work.jobs.begin(About::Notice, async move {
                teller.publish(&notice, now).await;
                Done::Told
            });
        }
        let peace = work.fights.end().filter(|peace| *peace > now);
        news.again.into_iter().chain(peace).min()
    }
}

fn overload(needed: f64, done: f64) -> Finding {
    let message = format!(
        "so many pull secrets with credentials of so short a life need {needed:.0} writes per second, more than the {done:.0} that are done: let credentials live longer, or serve fewer namespaces"
    );
    Finding::new("Overloaded", message)
}
