//! The one way to a minted credential: from the store if it is there, else by one mint per key, in a separate task.

mod account_throttle;
mod backoff;
mod caller_clock;
mod flight;
mod log;
mod throttles;

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use moka::Entry;
use moka::ops::compute::Op;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use tokio::time::Instant;

use super::freshness;
use super::metrics::{Metrics, Provider};
use super::mint::{Mint, MintRequest, SourceKeys};
use super::{
    CLAIM_LIFE, Claim, Credential, CredentialKey, CredentialStore, Freshness, MintError,
    SourceSecrets, Ticket,
};
use crate::api_server::ClusterError;
use crate::clock;
use crate::registry::source::MintSource;
use account_throttle::scope_of;
use backoff::{MintFailure, RememberedFailure};
use caller_clock::CallerClock;
use flight::{FlightResult, FlightState, MintFlight};
use throttles::{ThrottleTurn, Throttles};

pub use flight::MintResult;

/// How often another replica's claim, which that extends as long as its mint is under way, is waited for before this is given up.
const MAX_CLAIM_WAITS: usize = 8;
/// After this a mint is given up whatever it waits for: longer than a mint of another replica and one of its own take
/// ([`super::MintTimeouts`]).
const FLIGHT_TIMEOUT: Duration = Duration::from_secs(75);
/// When a claim is extended: two attempts before it ends.
const EXTEND_AFTER: Duration = Duration::from_secs(4);
/// How many mints under way, and failures, are known at once. Keys are few (Registries × regions × rotated key sets), but for
/// namespaces' own ServiceAccounts, of which each has its own.
const MAX_FLIGHTS: u64 = 10_000;

/// Gives out minted credentials; cheap to clone.
///
/// For each [`CredentialKey`] at most one mint is in flight in this process, however many callers ask. It runs in a separate task
/// and goes on when the callers hang up. What it minted goes through the [`CredentialStore`], where other replicas see
/// it. A failure is remembered for a while that grows from 1 second to a minute, so that a cloud that refuses is not asked again by
/// every Pod; to 4 seconds where no cloud was asked, since the store could not be reached. Nothing is ever shared between keys.
///
/// What it knows of a key may be forgotten at any time, and nothing is minted twice for that: no mint begins before the store's table
/// has no fresh credential and its claim is ours.
#[derive(Clone)]
pub struct Minter(Arc<MinterInner>);

struct MinterInner {
    mint: Arc<dyn Mint>,
    store: Arc<dyn CredentialStore>,
    secrets: Arc<dyn SourceSecrets>,
    metrics: Metrics,
    flights: Cache<CredentialKey, MintFlight>,
    throttles: Throttles,
}

impl Minter {
    /// Gives out what `store` holds and mints the rest with `mint`; static keys come from `secrets`.
    pub fn new(
        mint: Arc<dyn Mint>,
        store: Arc<dyn CredentialStore>,
        secrets: Arc<dyn SourceSecrets>,
        metrics: Metrics,
    ) -> Self {
        Self::bounded(mint, store, secrets, metrics, MAX_FLIGHTS)
    }

    /// One that knows at most this many mints under way, and failures.
    pub fn bounded(
        mint: Arc<dyn Mint>,
        store: Arc<dyn CredentialStore>,
        secrets: Arc<dyn SourceSecrets>,
        metrics: Metrics,
        max_flights: u64,
    ) -> Self {
        let flights = Cache::builder().max_capacity(max_flights);
        let flights = flights.eviction_policy(EvictionPolicy::lru()).build();
        Self(Arc::new(MinterInner {
            mint,
            store,
            secrets,
            metrics,
            flights,
            throttles: Throttles::new(),
        }))
    }

    /// The credential of `source` that is good at `now`.
    ///
    /// One in the first half of its life is answered from memory. One past it is answered at once, too, and renewed beside. Else
    /// this waits for a mint, at most [`CLAIM_LIFE`] longer for each replica that claimed it before and died. Who has less time gives up
    /// waiting, and the mint goes on.
    /// When the mint fails, a credential that is close to its end and not yet there is answered all the same.
    ///
    /// # Errors
    /// Why there is no credential, possibly from an attempt that was made shortly before.
    pub async fn credential(&self, source: &MintSource, now: Timestamp) -> MintResult {
        let MintLookup { key, keys, current } = self.find(source)?;
        let good = current.as_ref().map(|current| freshness(current, now));
        if let (Some(Freshness::Fresh), Some(current)) = (good, &current) {
            return Ok(Arc::clone(current));
        }
        let flight = self.0.start_or_join(&key, source, keys, now);
        if let (Some(Freshness::Renewable), Some(current)) = (good, &current) {
            return Ok(Arc::clone(current));
        }
        let outcome = flight.join().await;
        match (outcome, current) {
            (Err(_), Some(current)) if current.expires_at > now => Ok(current),
            (outcome, _) => outcome,
        }
    }

    /// A new credential of `source`, whatever life the stored one still has; one that another replica stored in the meantime and that is
    /// in the first half of its life is as good.
    ///
    /// # Errors
    /// Why there is none, possibly from an attempt that was made shortly before.
    pub async fn renew(&self, source: &MintSource, now: Timestamp) -> MintResult {
        let MintLookup { key, keys, .. } = self.find(source)?;
        self.0.start_or_join(&key, source, keys, now).join().await
    }

    /// The credential that is there for `source`, from memory alone, expired or not; `None` also when its source Secret is missing.
    pub fn current(&self, source: &MintSource) -> Option<Arc<Credential>> {
        self.find(source).ok()?.current
    }

    fn find(&self, source: &MintSource) -> Result<MintLookup, Arc<MintError>> {
        let keys = SourceKeys::find(source, self.0.secrets.as_ref())?;
        let key = CredentialKey::derive(source, keys.as_ref());
        let current = self.0.store.current(&key);
        Ok(MintLookup { key, keys, current })
    }
}

struct MintLookup {
    key: CredentialKey,
    keys: Option<SourceKeys>,
    current: Option<Arc<Credential>>,
}

/// One mint on its way.
struct MintJob {
    key: CredentialKey,
    source: MintSource,
    keys: Option<SourceKeys>,
    clock: CallerClock,
    /// How the attempt before it failed, if it did.
    before: Option<RememberedFailure>,
}

impl MintJob {
    /// What an attempt before it minted and the store did not take.
    fn unsaved(&self) -> Option<&Credential> {
        let unsaved = self.before.as_ref()?.unsaved.as_deref();
        unsaved.filter(|unsaved| freshness(unsaved, self.clock.now()) == Freshness::Fresh)
    }
}

impl MinterInner {
    /// Joins the mint of `key` that is under way, or failed shortly ago, or starts one. Dropping what this returns does not stop it.
    fn start_or_join(
        self: &Arc<Self>,
        key: &CredentialKey,
        source: &MintSource,
        keys: Option<SourceKeys>,
        now: Timestamp,
    ) -> MintFlight {
        let job = |before| MintJob {
            key: key.clone(),
            source: source.clone(),
            keys,
            clock: CallerClock::at(now),
            before,
        };
        let entry = self.flights.entry_by_ref(key);
        let known =
            entry.and_compute_with(|known| match known.map(|known| known.value().state(now)) {
                Some(FlightState::Joinable) => Op::Nop,
                Some(FlightState::Over(before)) => Op::Put(self.start(job(before))),
                None => Op::Put(self.start(job(None))),
            });
        let known = known.into_entry().map(Entry::into_value);
        known.expect("a flight is put where there is none")
    }

    fn start(self: &Arc<Self>, job: MintJob) -> MintFlight {
        let inner = Arc::clone(self);
        MintFlight::of(tokio::spawn(async move { inner.run(&job).await }))
    }

    /// Gets the credential and remembers why there is none.
    async fn run(&self, job: &MintJob) -> FlightResult {
        let in_time = tokio::time::timeout(FLIGHT_TIMEOUT, self.mint_or_wait(job)).await;
        let ended = if let Ok(ended) = in_time {
            ended
        } else {
            // It hung somewhere: a cloud may have been asked.
            let (what, message) = ("a mint".to_owned(), "no answer in time".to_owned());
            Err(MintError::from(ClusterError::Unreachable { what, message }).into())
        };
        match ended {
            Ok(credential) => {
                // The store's table has it.
                self.flights.invalidate(&job.key);
                Ok(credential)
            }
            Err(failed) => {
                let now = job.clock.now();
                let failure = RememberedFailure::after(job.before.as_ref(), failed, now);
                log::failure(&job.source, &failure);
                Err(failure)
            }
        }
    }

    /// Takes what another replica stored meanwhile, or claims and mints, or waits for the holder of the claim.
    async fn mint_or_wait(&self, job: &MintJob) -> Result<Arc<Credential>, MintFailure> {
        for _ in 0..MAX_CLAIM_WAITS {
            let turn = if job.unsaved().is_none() {
                let turn = self.throttles.turn(scope_of(&job.source), job.clock);
                let turn = turn.await;
                Some(turn.map_err(|held_off| MintFailure::held_off(&held_off))?)
            } else {
                None
            };
            let claim = self
                .store
                .claim(&job.key, &job.source, job.clock.now())
                .await;
            match claim.map_err(MintFailure::at_claim)? {
                Claim::AlreadyStored(credential) => return Ok(credential),
                Claim::Acquired(ticket) => {
                    return match job.unsaved() {
                        Some(unsaved) => self.save(ticket, unsaved.clone(), false).await,
                        None => self.mint(job, ticket, turn).await,
                    };
                }
                Claim::Pending { until } => {
                    drop(turn);
                    if let Some(credential) = self.wait_for_holder(job, until).await {
                        return Ok(credential);
                    }
                }
            }
        }
        let what = "the claim on a credential".to_owned();
        Err(MintError::from(ClusterError::Conflict { what }).into())
    }

    /// Waits until the claim holder's mint is stored; `None` when it is not there at `until`.
    async fn wait_for_holder(&self, job: &MintJob, until: Timestamp) -> Option<Arc<Credential>> {
        let mut changes = self.store.changes();
        let left = until
            .duration_since(job.clock.now())
            .clamp(SignedDuration::ZERO, CLAIM_LIFE);
        let deadline = Instant::now() + left.unsigned_abs();
        loop {
            changes.borrow_and_update();
            let stored = self.store.current(&job.key);
            let fresh =
                stored.filter(|stored| freshness(stored, job.clock.now()) == Freshness::Fresh);
            if fresh.is_some() {
                return fresh;
            }
            match tokio::time::timeout_at(deadline, changes.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return None,
            }
        }
    }

    async fn mint(
        &self,
        job: &MintJob,
        ticket: Ticket,
        turn: Option<ThrottleTurn>,
    ) -> Result<Arc<Credential>, MintFailure> {
        let now = job.clock.now();
        let current = self.store.current(&job.key);
        if let Some(current) = &current {
            log::future(&job.source, current, now);
        }
        let order = MintRequest {
            source: job.source.clone(),
            keys: job.keys.clone(),
            // A session that does not outlast one that cannot be used is as good as any.
            expires_at: current
                .filter(|current| !clock::is_from_future(current.minted_at, now))
                .map(|current| current.expires_at),
            now,
        };
        let started = Instant::now();
        let mint = self.mint.mint(order);
        let (minted, ticket) = self.extend_during(mint, ticket, job.clock).await;
        if let Some(mut turn) = turn {
            turn.note(&minted);
        }
        let outcome = minted.as_ref().map_or_else(MintError::reason, |_| "Minted");
        self.metrics
            .count(Provider::of(&job.source), outcome, started.elapsed());
        match minted {
            Ok(credential) => {
                log::success(&job.source, &credential);
                self.save(ticket, credential, true).await
            }
            Err(error) => {
                self.store.release(ticket).await;
                Err(error.into())
            }
        }
    }

    /// Extends a claim as long as a mint is under way.
    async fn extend_during<T>(
        &self,
        mint: impl Future<Output = T>,
        mut ticket: Ticket,
        clock: CallerClock,
    ) -> (T, Ticket) {
        tokio::pin!(mint);
        loop {
            tokio::select! {
                biased;
                minted = &mut mint => return (minted, ticket),
                () = tokio::time::sleep(EXTEND_AFTER) => {}
            }
            let extended = self.store.extend(ticket, clock.now());
            tokio::pin!(extended);
            tokio::select! {
                biased;
                minted = &mut mint => return (minted, extended.await),
                extended = &mut extended => ticket = extended,
            }
        }
    }

    /// Puts a minted credential into the store.
    async fn save(
        &self,
        ticket: Ticket,
        credential: Credential,
        asked_cloud: bool,
    ) -> Result<Arc<Credential>, MintFailure> {
        let unsaved = Arc::new(credential.clone());
        let saved = self.store.put(ticket, credential).await;
        saved.map_err(|error| MintFailure {
            error: error.into(),
            asked_cloud,
            held_off: None,
            unsaved: Some(unsaved),
        })
    }
}

#[cfg(test)]
mod tests;
