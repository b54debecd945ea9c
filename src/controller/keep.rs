//! Keeping every pull secret as it must be, as long as this replica leads.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

use super::metrics::Metrics;
use crate::provision::access::Credentials;
use crate::provision::decide::{Decision, decide};
use crate::provision::survey::{Place, Survey};
use crate::provision::{Ensure, Outcome};
use crate::registry::source::MintSource;

/// How often it is looked whether something changed. What changes in between is taken together.
const TICK: Duration = Duration::from_millis(50);

/// How many pull secrets are written at a time.
const WRITES: usize = 32;

/// How long one pull secret's writing may take.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// When a mint that failed is asked for again; the minter's own back-off decides whether the cloud is.
const MINT_AGAIN: SignedDuration = SignedDuration::from_secs(5);

/// The first wait after a write that failed, and the longest; it doubles.
const WRITE_AGAIN: (SignedDuration, SignedDuration) =
    (SignedDuration::from_secs(1), SignedDuration::from_mins(1));

/// Keeps pull secrets.
pub struct Keeper {
    ensure: Ensure,
    credentials: Arc<dyn Credentials>,
    metrics: Metrics,
    clock: fn() -> Timestamp,
}

/// The names of a namespace and of a pull secret in it.
type Name = (String, Arc<str>);

/// One piece of work that ended.
enum Done {
    Minted(MintSource, bool),
    Kept(Name, Outcome),
}

/// What is under way, and what is left alone for a while.
#[derive(Default)]
struct Work {
    jobs: JoinSet<Done>,
    minting: HashSet<MintSource>,
    writing: HashSet<Name>,
    mint_again: HashMap<MintSource, Timestamp>,
    write_again: HashMap<Name, (Timestamp, SignedDuration)>,
    /// How many writes of renewed credentials may begin.
    allowance: f64,
}

impl Keeper {
    /// Puts it together; `clock` is [`Timestamp::now`] outside tests.
    pub fn new(
        ensure: Ensure,
        credentials: Arc<dyn Credentials>,
        metrics: Metrics,
        clock: fn() -> Timestamp,
    ) -> Self {
        Self {
            ensure,
            credentials,
            metrics,
            clock,
        }
    }

    /// Keeps pull secrets whenever `leads` says so. Ends when its sender is gone.
    pub async fn run(self, mut leads: watch::Receiver<bool>) {
        while leads.wait_for(|leads| *leads).await.is_ok() {
            self.metrics.set_leader(true);
            // What is under way when leadership is lost ends by itself: every write is a compare-and-swap.
            tokio::select! {
                () = self.lead() => {}
                _ = leads.wait_for(|leads| !*leads) => {}
            }
            self.metrics.set_leader(false);
        }
    }

    async fn lead(&self) {
        let mut work = Work::default();
        let mut looked = None;
        let mut next: Option<Timestamp> = None;
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let now = (self.clock)();
            let ended = work.take_ended(now);
            let change = self.ensure.change();
            let is_due = next.is_some_and(|next| next <= now);
            if looked == Some(change) && !ended && !is_due {
                continue;
            }
            looked = Some(change);
            let mut survey = self.ensure.survey(now);
            work.mark(&mut survey);
            let decision = decide(&survey.view, now);
            self.metrics.set_survey(&survey, now);
            let left = self.start(&survey, &decision, &mut work, now);
            next = if left { Some(now) } else { decision.next };
        }
    }

    /// Starts what was decided, as far as it may begin now; whether something is left.
    fn start(&self, survey: &Survey, decision: &Decision, work: &mut Work, now: Timestamp) -> bool {
        for &place in &decision.mint {
            self.mint(&survey.sources[place], work, now);
        }
        work.allowance =
            (work.allowance + decision.pace * TICK.as_secs_f64()).min(decision.pace.max(1.0));
        let mut left = false;
        for &place in &decision.complete {
            left |= !self.write(&survey.secrets[place], work);
        }
        for &place in &decision.renew {
            if work.allowance < 1.0 || !self.write(&survey.secrets[place], work) {
                left = true;
                break;
            }
            work.allowance -= 1.0;
        }
        left
    }

    fn mint(&self, source: &MintSource, work: &mut Work, now: Timestamp) {
        work.minting.insert(source.clone());
        let (credentials, source) = (Arc::clone(&self.credentials), source.clone());
        work.jobs.spawn(async move {
            let minted = credentials.renew(&source, now).await.is_ok();
            Done::Minted(source, minted)
        });
    }

    /// Begins to write a pull secret; `false`: too many are written already.
    fn write(&self, place: &Place, work: &mut Work) -> bool {
        if work.writing.len() >= WRITES {
            return false;
        }
        work.writing.insert(name(place));
        let (ensure, place) = (self.ensure.clone(), place.clone());
        work.jobs.spawn(async move {
            let deadline = Instant::now() + WRITE_TIMEOUT;
            let outcome = ensure.keep(&place, deadline).await;
            Done::Kept(name(&place), outcome)
        });
        true
    }
}

impl Work {
    /// Takes what ended, and says whether anything did.
    fn take_ended(&mut self, now: Timestamp) -> bool {
        let mut any = false;
        while let Some(ended) = self.jobs.try_join_next() {
            any = true;
            // A job that panicked is seen as under way until leadership changes: it is logged where it panicked.
            match ended {
                Ok(Done::Minted(source, minted)) => {
                    self.minting.remove(&source);
                    if minted {
                        self.mint_again.remove(&source);
                    } else {
                        self.mint_again.insert(source, later(now, MINT_AGAIN));
                    }
                }
                Ok(Done::Kept(name, outcome)) => {
                    self.writing.remove(&name);
                    self.note(name, &outcome, now);
                }
                Err(_) => {}
            }
        }
        any
    }

    fn note(&mut self, name: Name, outcome: &Outcome, now: Timestamp) {
        if matches!(outcome, Outcome::Covered | Outcome::Foreign) {
            self.write_again.remove(&name);
            return;
        }
        let before = self.write_again.get(&name).map(|(_, wait)| *wait);
        let wait = before.map_or(WRITE_AGAIN.0, |wait| (wait * 2).min(WRITE_AGAIN.1));
        self.write_again.insert(name, (later(now, wait), wait));
    }

    /// Notes in a survey what is under way and what is left alone.
    fn mark(&mut self, survey: &mut Survey) {
        for (source, life) in survey.sources.iter().zip(&mut survey.view.credentials) {
            life.is_minted = self.minting.contains(source);
            life.retry_at = self.mint_again.get(source).copied();
        }
        for (place, holding) in survey.secrets.iter().zip(&mut survey.view.secrets) {
            let name = name(place);
            holding.is_written = self.writing.contains(&name);
            holding.retry_at = self.write_again.get(&name).map(|(at, _)| *at);
        }
        let known: HashSet<&MintSource> = survey.sources.iter().collect();
        self.mint_again.retain(|source, _| known.contains(source));
    }
}

fn name(place: &Place) -> Name {
    (place.namespace.name.clone(), Arc::clone(&place.secret))
}

fn later(now: Timestamp, wait: SignedDuration) -> Timestamp {
    now.checked_add(wait).unwrap_or(Timestamp::MAX)
}
