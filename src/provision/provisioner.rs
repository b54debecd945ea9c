//! The composition of this room: what admission asks for, answered from memory if that will do, worked for if not.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::account_cache::AccountReader;
use super::bounded_map::BoundedMap;
use super::changes::PullSecretKey;
use super::coverage::{SecretCoverage, Stamp, compute_coverage};
use super::desired_set::{DesiredSets, SecretGrants, Sources};
use super::flight::{Flight, FlightAnswer};
use super::grant_fetcher::{FetchedGrant, GrantFetcher};
use super::grant_fetches::GrantFetches;
use super::live_reads::LiveReads;
use super::pending::{panicked, terminating, timed_out};
use super::ports::{Cluster, Credentials};
use super::read_cache::ReadCache;
use super::sources;
use super::state::{ShownStatus, State};
use super::superseded_logins::SupersededLogins;
use super::write::SecretWriter;
use super::write_log::WriteLog;
use super::{Coverage, EnsureOutcome, Namespace, Pending, Provision, SecretRead};
use crate::names::{NamespaceName, ObjectName};
use crate::registry::{Grant, Registries, ValidRegistry};

/// What so many pull secrets are worth is remembered, also of namespaces that are gone.
const COVERAGES: usize = 20_000;

/// How long a namespace that has not opted in is remembered, for webhooks that are called for every namespace.
const NOT_OPTED_IN_TTL: Duration = Duration::from_secs(1);

/// How many of them are remembered.
const NOT_OPTED_IN_MAX: u64 = 10_000;

/// How long it is remembered that a pull secret is not there, while those of its name are listed.
const UNLISTED_TTL: Duration = Duration::from_secs(1);

/// Of how many that is.
const UNLISTED_MAX: u64 = 10_000;

/// Makes sure of pull secrets.
#[derive(Clone)]
pub struct Provisioner(pub(super) Arc<ProvisionerInner>);

pub(super) struct ProvisionerInner {
    pub(super) state: Arc<State>,
    pub(super) cluster: Arc<dyn Cluster>,
    pub(super) credentials: Arc<dyn Credentials>,
    pub(super) history: SupersededLogins,
    write_log: WriteLog,
    desired_sets: DesiredSets,
    coverages: Mutex<BoundedMap<PullSecretKey, Arc<SecretCoverage>>>,
    /// By namespace and secret.
    flights: Mutex<HashMap<PullSecretKey, Arc<Flight>>>,
    /// The tasks of the flights: the process owns them, and waits for them when it ends.
    tasks: Mutex<JoinSet<()>>,
    pub(super) accounts: AccountReader,
    pub(super) namespace_reads: Arc<LiveReads>,
    pub(super) warning_reads: LiveReads,
    pub(super) not_opted_in: ReadCache<NamespaceName, Option<Arc<Namespace>>>,
    pub(super) secret_reads: Arc<LiveReads>,
    /// The pull secrets that were read while they are listed. What is there is in memory then.
    pub(super) unlisted: ReadCache<PullSecretKey, ()>,
    pub(super) clock: fn() -> Timestamp,
}

impl Provisioner {
    /// Puts it together; `clock` is [`Timestamp::now`] outside tests.
    pub fn new(
        state: Arc<State>,
        cluster: Arc<dyn Cluster>,
        credentials: Arc<dyn Credentials>,
        clock: fn() -> Timestamp,
    ) -> Self {
        let accounts = AccountReader::new(Arc::clone(&cluster));
        Self(Arc::new(ProvisionerInner {
            state,
            cluster,
            credentials,
            history: SupersededLogins::default(),
            desired_sets: DesiredSets::default(),
            write_log: WriteLog::default(),
            coverages: Mutex::default(),
            flights: Mutex::default(),
            tasks: Mutex::default(),
            accounts,
            namespace_reads: Arc::default(),
            warning_reads: LiveReads::default(),
            not_opted_in: ReadCache::new(NOT_OPTED_IN_MAX, |_| NOT_OPTED_IN_TTL),
            secret_reads: Arc::default(),
            unlisted: ReadCache::new(UNLISTED_MAX, |()| UNLISTED_TTL),
            clock,
        }))
    }

    /// The status of a Registry as the watch shows it.
    pub fn status(&self, registry: &str) -> ShownStatus {
        self.0.state.status(registry)
    }

    /// What keeps the source Secrets of a Registry from being used, as memory knows them: a line for each, with what to do.
    pub fn source_problems(&self, registry: &ValidRegistry) -> Vec<String> {
        sources::find_problems(registry, &self.0.state)
    }

    /// Waits until all work under way has ended, for a process that stops.
    pub async fn drain(&self) {
        let mut tasks = std::mem::take(&mut *self.0.tasks.lock());
        while tasks.join_next().await.is_some() {}
    }
}

#[async_trait]
impl Provision for Provisioner {
    fn registries(&self) -> Arc<Registries> {
        self.0.state.registries()
    }

    async fn find_source_problems(&self, registry: &ValidRegistry) -> Vec<String> {
        self.0.find_source_problems(registry).await
    }

    async fn find_missing_rights(&self, secret: &ObjectName) -> Option<String> {
        self.0.find_missing_rights(secret).await
    }

    fn namespace(&self, name: &NamespaceName) -> Option<Arc<Namespace>> {
        self.0.state.namespaces.get(name)
    }

    async fn fetch_namespace(&self, name: &NamespaceName) -> Option<Arc<Namespace>> {
        self.0.fetch_namespace(name).await
    }

    async fn may_reference(
        &self,
        namespace: &NamespaceName,
        service_account: &ObjectName,
        secret: &str,
    ) -> bool {
        self.0
            .may_reference(namespace, service_account, secret)
            .await
    }

    fn covers(
        &self,
        namespace: &Arc<Namespace>,
        secret: &ObjectName,
        keys: &[&str],
        now: Timestamp,
        dry_run: bool,
    ) -> Coverage {
        let coverage = self.0.coverage(namespace, secret);
        let found = coverage.check(keys, now);
        if found.wants_renewal && !dry_run && !namespace.terminating && coverage.may_renew() {
            ProvisionerInner::join(&self.0, namespace, secret);
        }
        found.coverage
    }

    async fn read_if_unlisted(&self, namespace: &NamespaceName, secret: &ObjectName) -> SecretRead {
        self.0.read_if_unlisted(namespace, secret).await
    }

    fn find_lacks(
        &self,
        namespace: &Arc<Namespace>,
        secret: &ObjectName,
        keys: &[&str],
        now: Timestamp,
    ) -> Vec<Pending> {
        self.find_lacks_of(namespace, secret, keys, now)
    }

    async fn ensure(
        &self,
        namespace: &Arc<Namespace>,
        secret: &ObjectName,
        keys: &[&str],
        deadline: Instant,
    ) -> EnsureOutcome {
        ProvisionerInner::ensure(&self.0, namespace, secret, keys, deadline).await
    }
}

impl ProvisionerInner {
    pub(super) fn coverage(
        &self,
        namespace: &Arc<Namespace>,
        secret: &ObjectName,
    ) -> Arc<SecretCoverage> {
        let sources = self.sources();
        let stamp = Stamp::of(&self.state, &*self.credentials);
        let observed = self.state.pull_secrets_of(secret).get(&namespace.name);
        let key = (namespace.name.clone(), secret.clone());
        let known = self.coverages.lock().entries.get(&key).cloned();
        let known = known.filter(|known| known.is_about(namespace, observed.as_ref()));
        if let Some(known) = known
            && known.holds(secret, stamp, sources, &self.desired_sets)
        {
            return known;
        }
        let sets = &self.desired_sets;
        let coverage = compute_coverage(namespace, secret, observed, sources, sets);
        let coverage = Arc::new(coverage);
        let mut coverages = self.coverages.lock();
        let is_used = |(namespace, _): &PullSecretKey, _: &Arc<SecretCoverage>| {
            self.state.namespaces.get(namespace).is_some()
        };
        coverages.evict_unused(COVERAGES, is_used);
        coverages.entries.insert(key, Arc::clone(&coverage));
        coverage
    }

    fn sources(&self) -> Sources<'_> {
        Sources {
            state: &self.state,
            credentials: &*self.credentials,
            history: &self.history,
        }
    }

    pub(super) async fn ensure(
        this: &Arc<Self>,
        namespace: &Arc<Namespace>,
        secret: &ObjectName,
        keys: &[&str],
        deadline: Instant,
    ) -> EnsureOutcome {
        if namespace.terminating {
            return EnsureOutcome::Pending(vec![terminating(namespace)]);
        }
        // Who asks in the moment in which a flight ends gets no answer from it: the next one has it.
        loop {
            let flight = Self::join(this, namespace, secret);
            let request = flight.request(keys);
            match tokio::time::timeout_at(deadline, flight.answer(&request)).await {
                Ok(FlightAnswer::Outcome(outcome)) => return outcome,
                Ok(FlightAnswer::Ended) => {}
                Ok(FlightAnswer::Panicked) => return EnsureOutcome::Pending(vec![panicked()]),
                Err(_) => return EnsureOutcome::Pending(vec![timed_out()]),
            }
        }
    }

    /// The work under way for a pull secret of a namespace; begins some if there is none.
    fn join(this: &Arc<Self>, namespace: &Arc<Namespace>, secret: &ObjectName) -> Arc<Flight> {
        let key = (namespace.name.clone(), secret.clone());
        let mut flights = this.flights.lock();
        if let Some(flight) = flights.get(&key) {
            return Arc::clone(flight);
        }
        let flight = Arc::new(Flight::new());
        flights.insert(key.clone(), Arc::clone(&flight));
        let guard = FlightGuard {
            shared: Arc::clone(this),
            key,
            flight: Arc::clone(&flight),
        };
        let (shared, namespace) = (Arc::clone(this), Arc::clone(namespace));
        let mut tasks = this.tasks.lock();
        while tasks.try_join_next().is_some() {}
        tasks.spawn(async move {
            let secret = &guard.key.1;
            shared.run_flight(&namespace, secret, &guard.flight).await;
        });
        flight
    }

    /// Gathers all credentials of a pull secret and writes them: as soon as all that some Pod waits for is there, and once more at the
    /// end, so that one dead Registry never holds up the others.
    async fn run_flight(&self, namespace: &Namespace, secret: &ObjectName, flight: &Flight) {
        let is_watched = self.state.namespaces.get(&namespace.name).is_some();
        let mut work = GrantFetches::new();
        loop {
            let requested = flight.count();
            let grants = self.grants_now(namespace, is_watched, secret);
            work.plan(&grants, flight, |grant| self.fetch(namespace, grant));
            tokio::select! {
                biased;
                () = flight.requested.notified() => continue,
                () = work.advance() => {}
            }
            if work.is_idle() || flight.open().iter().any(|request| work.answers(request)) {
                // Minting takes a while: what is written goes by the labels and Registries of this moment.
                let grants = self.grants_now(namespace, is_watched, secret);
                work.retain(&grants);
                self.write(namespace, secret, flight, &mut work).await;
            }
            if work.is_idle() && requested == flight.count() {
                return;
            }
        }
    }

    /// What belongs into a pull secret now. A namespace that the watch had shown and shows no more, or another one of its name, wants
    /// nothing; one that came with its first Pod was read live.
    fn grants_now(
        &self,
        namespace: &Namespace,
        is_watched: bool,
        secret: &ObjectName,
    ) -> SecretGrants {
        let registries = self.state.registries();
        match self.state.namespaces.get(&namespace.name) {
            Some(now) if now.uid == namespace.uid && self.state.may_hold(&now, secret) => {
                registries.grants_of(&now.labels, secret)
            }
            None if !is_watched => registries.grants_of(&namespace.labels, secret),
            _ => SecretGrants::default(),
        }
    }

    pub(super) fn fetch<'a>(
        &'a self,
        namespace: &'a Namespace,
        grant: Arc<Grant>,
    ) -> BoxFuture<'a, Result<FetchedGrant, Pending>> {
        let fetcher = GrantFetcher {
            namespace,
            reader: &self.accounts,
            credentials: &*self.credentials,
            state: &self.state,
            now: (self.clock)(),
        };
        fetcher.fetch_entries(grant).boxed()
    }

    async fn write(
        &self,
        namespace: &Namespace,
        secret: &ObjectName,
        flight: &Flight,
        work: &mut GrantFetches<'_>,
    ) {
        let writer = SecretWriter {
            namespace: &namespace.name,
            secret,
            cluster: &*self.cluster,
            credentials: &*self.credentials,
            state: &self.state,
            history: &self.history,
            now: (self.clock)(),
        };
        let requests = flight.open();
        let ended = writer.write(work.fetched()).await;
        self.write_log.log(namespace, secret, &ended);
        let not_granted = not_granted(namespace, &self.state);
        flight.publish(|progress| work.resolve(progress, &requests, &ended, &not_granted));
    }
}

/// Takes a flight off the list and notifies its waiters, however it ended.
struct FlightGuard {
    shared: Arc<ProvisionerInner>,
    /// The namespace and the secret.
    key: PullSecretKey,
    flight: Arc<Flight>,
}

impl Drop for FlightGuard {
    fn drop(&mut self) {
        self.shared.flights.lock().remove(&self.key);
        self.flight.publish(|progress| {
            progress.ended = true;
            progress.panicked = std::thread::panicking();
        });
    }
}

/// What is said of keys that nothing gives any more.
fn not_granted(namespace: &Namespace, state: &State) -> Pending {
    if let Some(now) = state.namespaces.get(&namespace.name)
        && now.terminating
    {
        return terminating(&now);
    }
    Pending {
        is_for_admins: false,
        registry: None,
        reason: "NotServed",
        message: "Registries or the namespace's labels changed during the review: retried with the next Pod".to_owned(),
    }
}
