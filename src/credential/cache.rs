//! The one way to a minted credential: from the store if it is there, else by one mint per key, in a separate task.

mod backoff;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};
use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use super::freshness;
use super::metrics::{Metrics, Provider};
use super::mint::{Mint, MintRequest, SourceKeys};
use super::{
    CLAIM_LIFE, Claim, Credential, CredentialKey, CredentialStore, Freshness, MintError,
    SourceSecrets, StoreError, Ticket,
};
use crate::clock;
use crate::registry::source::MintSource;
use backoff::{MintBackoff, MintFailure};

/// How often another replica's claim is waited for before this is given up.
const MAX_CLAIM_WAITS: usize = 3;
/// After this a mint is given up whatever it waits for: longer than `MAX_CLAIM_WAITS` claims of others and a mint take.
const FLIGHT_TIMEOUT: Duration = Duration::from_secs(45);

/// A credential, or why there is none; both shared by everybody who asked.
pub type MintResult = Result<Arc<Credential>, Arc<MintError>>;

/// Gives out minted credentials; cheap to clone.
///
/// For each [`CredentialKey`] at most one mint is in flight in this process, however many callers ask. It runs in a separate task
/// and goes on when the callers hang up. What it minted goes through the [`CredentialStore`], where other replicas see
/// it. A failure is remembered for a while that grows from 1 second to a minute, so that a cloud that refuses is not asked again by
/// every Pod; to 4 seconds where no cloud was asked, since the store could not be reached. Nothing is ever shared between keys.
#[derive(Clone)]
pub struct Minter(Arc<MinterInner>);

struct MinterInner {
    mint: Arc<dyn Mint>,
    store: Arc<dyn CredentialStore>,
    secrets: Arc<dyn SourceSecrets>,
    metrics: Metrics,
    // A map of shared futures and not a cache library's single flight: those belong to the first caller, and hand over, so mint
    // twice, when it hangs up; and what they keep for a while is what the store keeps already.
    flights: Mutex<HashMap<CredentialKey, MintFlight>>,
    failures: Mutex<MintBackoff>,
}

type MintFlight = Shared<BoxFuture<'static, MintResult>>;

impl Minter {
    /// Gives out what `store` holds and mints the rest with `mint`; static keys come from `secrets`.
    pub fn new(
        mint: Arc<dyn Mint>,
        store: Arc<dyn CredentialStore>,
        secrets: Arc<dyn SourceSecrets>,
        metrics: Metrics,
    ) -> Self {
        let (flights, failures) = (Mutex::default(), Mutex::default());
        Self(Arc::new(MinterInner {
            mint,
            store,
            secrets,
            metrics,
            flights,
            failures,
        }))
    }

    /// The credential of `source` that is good at `now`.
    ///
    /// One in the first half of its life is answered from memory. One past it is answered at once, too, and renewed beside. Else
    /// this waits for a mint, at most [`CLAIM_LIFE`] longer for each replica that claimed it before and died.
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
        let remembered = self.0.failures().find(&key, now);
        if let (Some(Freshness::Renewable), Some(current)) = (good, &current) {
            if remembered.is_none() {
                drop(self.0.start_or_join(key, source, keys, now));
            }
            return Ok(Arc::clone(current));
        }
        let outcome = match remembered {
            Some(error) => Err(error),
            None => self.0.start_or_join(key, source, keys, now).await,
        };
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
        let remembered = self.0.failures().find(&key, now);
        match remembered {
            Some(error) => Err(error),
            None => self.0.start_or_join(key, source, keys, now).await,
        }
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

/// The present, counted on from the caller's: what a task that outlives the call goes by.
#[derive(Clone, Copy)]
struct CallerClock {
    started: Instant,
    at: Timestamp,
}

impl CallerClock {
    fn now(self) -> Timestamp {
        let passed =
            SignedDuration::try_from(self.started.elapsed()).unwrap_or(SignedDuration::MAX);
        self.at.saturating_add(passed).unwrap_or(Timestamp::MAX)
    }
}

/// One mint on its way.
struct MintJob {
    key: CredentialKey,
    source: MintSource,
    keys: Option<SourceKeys>,
    clock: CallerClock,
}

impl MinterInner {
    fn failures(&self) -> MutexGuard<'_, MintBackoff> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn flights(&self) -> MutexGuard<'_, HashMap<CredentialKey, MintFlight>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Joins the mint of `key` that is in flight, or starts one. Dropping what this returns does not stop it.
    fn start_or_join(
        self: &Arc<Self>,
        key: CredentialKey,
        source: &MintSource,
        keys: Option<SourceKeys>,
        now: Timestamp,
    ) -> MintFlight {
        let mut flights = self.flights();
        if let Some(flight) = flights.get(&key) {
            return flight.clone();
        }
        let landing = MintFlightGuard {
            inner: Arc::clone(self),
            key: key.clone(),
        };
        let clock = CallerClock {
            started: Instant::now(),
            at: now,
        };
        let job = MintJob {
            key: key.clone(),
            source: source.clone(),
            keys,
            clock,
        };
        let task = tokio::spawn(async move {
            let outcome = landing.inner.run(&job).await;
            drop(landing);
            outcome
        });
        let ended =
            task.map(|ended| ended.unwrap_or_else(|_| Err(Arc::new(MintError::TaskPanicked))));
        let flight = ended.boxed().shared();
        flights.insert(key, flight.clone());
        flight
    }

    /// Gets the credential and remembers how it went.
    async fn run(&self, job: &MintJob) -> MintResult {
        let in_time = tokio::time::timeout(FLIGHT_TIMEOUT, self.mint_or_wait(job)).await;
        // It hung somewhere: a cloud may have been asked.
        let late = || {
            MintError::from(StoreError::Unreachable {
                detail: "no answer in time".to_owned(),
            })
        };
        match in_time.unwrap_or_else(|_| Err(late().into())) {
            Ok(credential) => {
                self.failures().forget(&job.key);
                Ok(credential)
            }
            Err(failed) => {
                let (error, wait) = self.failures().remember(&job.key, failed, job.clock.now());
                log_failure(&job.source, &error, wait);
                Err(error)
            }
        }
    }

    /// Takes what another replica stored meanwhile, or claims and mints, or waits for the holder of the claim.
    async fn mint_or_wait(&self, job: &MintJob) -> Result<Arc<Credential>, MintFailure> {
        for _ in 0..MAX_CLAIM_WAITS {
            let claim = self
                .store
                .claim(&job.key, &job.source, job.clock.now())
                .await;
            match claim.map_err(MintFailure::at_claim)? {
                Claim::AlreadyStored(credential) => return Ok(credential),
                Claim::Acquired(ticket) => return Ok(self.mint(job, ticket).await?),
                Claim::Pending { until } => {
                    if let Some(credential) = self.wait_for_holder(job, until).await {
                        return Ok(credential);
                    }
                }
            }
        }
        Err(MintError::from(StoreError::Contended).into())
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

    async fn mint(&self, job: &MintJob, ticket: Ticket) -> Result<Arc<Credential>, MintError> {
        let now = job.clock.now();
        let current = self.store.current(&job.key);
        if let Some(current) = &current {
            log_future(&job.source, current, now);
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
        let minted = self.mint.mint(order).await;
        let outcome = minted.as_ref().map_or_else(MintError::reason, |_| "Minted");
        self.metrics
            .count(Provider::of(&job.source), outcome, started.elapsed());
        match minted {
            Ok(credential) => {
                log_success(&job.source, &credential);
                Ok(self.store.put(ticket, credential).await?)
            }
            Err(error) => {
                self.store.release(ticket).await;
                Err(error)
            }
        }
    }
}

/// Takes the flight off the board when its task ends, also by a panic.
struct MintFlightGuard {
    inner: Arc<MinterInner>,
    key: CredentialKey,
}

impl Drop for MintFlightGuard {
    fn drop(&mut self) {
        self.inner.flights().remove(&self.key);
    }
}

fn log_success(source: &MintSource, credential: &Credential) {
    tracing::info!(
        credential.provider = Provider::of(source).label(),
        credential.location = source.location(),
        credential.principal = credential.principal,
        credential.expires_at = %credential.expires_at,
        "minted credential"
    );
}

/// Says why one is replaced before its time.
fn log_future(source: &MintSource, current: &Credential, now: Timestamp) {
    if clock::is_from_future(current.minted_at, now) {
        tracing::warn!(
            credential.provider = Provider::of(source).label(),
            credential.location = source.location(),
            credential.minted_at = %current.minted_at,
            "stored credential was minted in the future, minting anew: the clock of this node or of another replica's is or was wrong -> check time synchronization (chrony, timesyncd) on the nodes"
        );
    }
}

/// Logs a failure where it is handled: everybody who waits gets the same one.
fn log_failure(source: &MintSource, error: &MintError, wait: Duration) {
    let provider = Provider::of(source).label();
    let (place, reason, again) = (source.location(), error.reason(), wait.as_secs());
    // The level of an event is part of its place in the code.
    macro_rules! log {
        ($level:ident, $what:literal) => {
            tracing::$level!(
                credential.provider = provider,
                credential.location = place,
                error.reason = reason,
                retry.seconds = again,
                concat!($what, "{}"),
                error
            )
        };
    }
    match error {
        MintError::SessionNotRenewed { .. } => log!(debug, ""),
        passing if passing.is_passing() => log!(warn, "failed to mint credential, retrying: "),
        _ => log!(error, "failed to mint credential, retrying: "),
    }
}
