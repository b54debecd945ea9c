//! The composition of this room: what admission asks for, answered from memory if that will do, worked for if not.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use jiff::Timestamp;
use moka::future::Cache;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::access::{Cluster, Credentials};
use super::account::Reader;
use super::flight::Flight;
use super::gather::{Gathered, Gatherer};
use super::history::History;
use super::live_reads::LiveReads;
use super::lock::lock;
use super::sources;
use super::state::State;
use super::supply::Remembered;
use super::verdicts::Verdicts;
use super::verify::{Moment, Verified, verify};
use super::work::Work;
use super::write::{Writer, tell};
use super::{Coverage, Namespace, Outcome, Pending, Provision};
use crate::names::{NamespaceName, ObjectName};
use crate::registry::kind::RegistryStatus;
use crate::registry::source::Tenant;
use crate::registry::{Grant, Registries, ServedRegistry};

/// How long a namespace that has not opted in is remembered, for webhooks that are called for every namespace.
const STRANGERS_FOR: Duration = Duration::from_secs(1);

/// How many of them are remembered.
const STRANGERS: u64 = 10_000;

/// Makes sure of pull secrets.
#[derive(Clone)]
pub struct Ensure(pub(super) Arc<Shared>);

pub(super) struct Shared {
    pub(super) state: Arc<State>,
    pub(super) cluster: Arc<dyn Cluster>,
    pub(super) credentials: Arc<dyn Credentials>,
    history: History,
    supplies: Remembered,
    verdicts: Verdicts,
    /// By namespace and secret.
    flights: Mutex<HashMap<(NamespaceName, ObjectName), Arc<Flight>>>,
    /// The tasks of the flights: the process owns them, and waits for them when it ends.
    tasks: Mutex<JoinSet<()>>,
    pub(super) accounts: Reader,
    pub(super) namespace_reads: LiveReads,
    pub(super) strangers: Cache<NamespaceName, Option<Arc<Namespace>>>,
    pub(super) clock: fn() -> Timestamp,
}

impl Ensure {
    /// Puts it together; `clock` is [`Timestamp::now`] outside tests.
    pub fn new(
        state: Arc<State>,
        cluster: Arc<dyn Cluster>,
        credentials: Arc<dyn Credentials>,
        clock: fn() -> Timestamp,
    ) -> Self {
        let accounts = Reader::new(Arc::clone(&cluster));
        Self(Arc::new(Shared {
            state,
            cluster,
            credentials,
            history: History::default(),
            supplies: Remembered::default(),
            verdicts: Verdicts::default(),
            flights: Mutex::default(),
            tasks: Mutex::default(),
            accounts,
            namespace_reads: LiveReads::default(),
            strangers: Cache::builder()
                .max_capacity(STRANGERS)
                .time_to_live(STRANGERS_FOR)
                .build(),
            clock,
        }))
    }

    /// What was said of a Registry last, by whichever replica.
    pub fn status(&self, registry: &str) -> Option<RegistryStatus> {
        self.0.state.status(registry)
    }

    /// Whether memory knows a tenant's very ServiceAccount, read in the last minutes.
    pub fn knows_account(&self, tenant: &Tenant) -> bool {
        let (namespace, name) = (&tenant.namespace, &tenant.service_account);
        let known = self.0.state.accounts.get(namespace, name);
        known.is_some_and(|known| {
            let account = known.account.as_ref().filter(|_| !known.is_old());
            account.is_some_and(|account| account.uid == tenant.service_account_uid)
        })
    }

    /// Waits until all work under way has ended, for a process that stops.
    pub async fn settle(&self) {
        let mut tasks = std::mem::take(&mut *lock(&self.0.tasks));
        while tasks.join_next().await.is_some() {}
    }
}

impl Provision for Ensure {
    fn registries(&self) -> Arc<Registries> {
        self.0.state.registries()
    }

    fn source_problems(&self, registry: &ServedRegistry) -> Vec<String> {
        sources::find_problems(registry, &self.0.state)
    }

    fn namespace(&self, name: &NamespaceName) -> Option<Arc<Namespace>> {
        self.0.state.namespaces.get(name)
    }

    fn fetch_namespace<'a>(
        &'a self,
        name: &'a NamespaceName,
    ) -> BoxFuture<'a, Option<Arc<Namespace>>> {
        self.0.fetch_namespace(name).boxed()
    }

    fn may_reference<'a>(
        &'a self,
        namespace: &'a NamespaceName,
        service_account: &'a ObjectName,
        secret: &'a str,
    ) -> BoxFuture<'a, bool> {
        self.0
            .may_reference(namespace, service_account, secret)
            .boxed()
    }

    fn covers(
        &self,
        namespace: &Arc<Namespace>,
        secret: &ObjectName,
        keys: &[&str],
        now: Timestamp,
        dry_run: bool,
    ) -> Coverage {
        let verdict = self.0.verdict(namespace, secret);
        let found = verdict.check(keys, now);
        if found.nudge && !dry_run && !namespace.terminating && verdict.may_nudge() {
            Shared::join(&self.0, namespace, secret);
        }
        found.coverage
    }

    fn ensure<'a>(
        &'a self,
        namespace: &'a Arc<Namespace>,
        secret: &'a ObjectName,
        keys: &'a [&'a str],
        deadline: Instant,
    ) -> BoxFuture<'a, Outcome> {
        Shared::ensure(&self.0, namespace, secret, keys, deadline).boxed()
    }
}

impl Shared {
    pub(super) fn verdict(&self, namespace: &Arc<Namespace>, secret: &ObjectName) -> Arc<Verified> {
        let (state, credentials) = (&*self.state, &*self.credentials);
        let moment = Moment::of(state, credentials);
        let seen = state.pull_secrets_of(secret).get(&namespace.name);
        let work = || {
            let seen = seen.clone();
            let known = (&self.history, &self.supplies);
            verify(namespace, secret, seen, state, credentials, known)
        };
        let now = (moment, state.namespaces.len());
        self.verdicts
            .find_or(namespace, secret, seen.as_ref(), now, work)
    }

    pub(super) async fn ensure(
        this: &Arc<Self>,
        namespace: &Arc<Namespace>,
        secret: &ObjectName,
        keys: &[&str],
        deadline: Instant,
    ) -> Outcome {
        if namespace.terminating {
            return Outcome::Pending(vec![terminating(namespace)]);
        }
        // Who asks in the moment in which a flight ends gets no answer from it: the next one has it.
        loop {
            let (ask, mut progress) = Self::join(this, namespace, secret).ask(keys);
            let answered =
                progress.wait_for(|progress| progress.ended || progress.outcome(&ask).is_some());
            match tokio::time::timeout_at(deadline, answered).await {
                Ok(Ok(progress)) => {
                    if let Some(outcome) = progress.outcome(&ask) {
                        return outcome;
                    }
                }
                Ok(Err(_)) => return Outcome::Pending(vec![lost()]),
                Err(_) => return Outcome::Pending(vec![late()]),
            }
        }
    }

    /// The work under way for a pull secret of a namespace; begins some if there is none.
    fn join(this: &Arc<Self>, namespace: &Arc<Namespace>, secret: &ObjectName) -> Arc<Flight> {
        let place = (namespace.name.clone(), secret.clone());
        let mut flights = lock(&this.flights);
        if let Some(flight) = flights.get(&place) {
            return Arc::clone(flight);
        }
        let flight = Arc::new(Flight::new());
        flights.insert(place.clone(), Arc::clone(&flight));
        let landing = Landing {
            shared: Arc::clone(this),
            place,
            flight: Arc::clone(&flight),
        };
        let (shared, namespace) = (Arc::clone(this), Arc::clone(namespace));
        let mut tasks = lock(&this.tasks);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(async move {
            let secret = &landing.place.1;
            shared.fly(&namespace, secret, &landing.flight).await;
        });
        flight
    }

    /// Gathers all credentials of a pull secret and writes them: as soon as all that some Pod waits for is there, and once more at the
    /// end, so that one dead Registry never holds up the others.
    async fn fly(&self, namespace: &Namespace, secret: &ObjectName, flight: &Flight) {
        let mut work = Work::new();
        loop {
            let asked = flight.count();
            let grants = self.state.registries();
            let grants = grants.grants_of(&namespace.labels, secret);
            work.plan(&grants, flight, |grant| self.fetch(namespace, grant));
            tokio::select! {
                biased;
                () = flight.asked.notified() => continue,
                () = work.advance() => {}
            }
            if work.is_idle() || flight.open().iter().any(|ask| work.answers(ask)) {
                self.write(namespace, secret, flight, &mut work).await;
            }
            if work.is_idle() && asked == flight.count() {
                return;
            }
        }
    }

    fn fetch<'a>(
        &'a self,
        namespace: &'a Namespace,
        grant: Arc<Grant>,
    ) -> BoxFuture<'a, Result<Gathered, Pending>> {
        let gatherer = Gatherer {
            namespace,
            reader: &self.accounts,
            credentials: &*self.credentials,
            state: &self.state,
            now: (self.clock)(),
        };
        gatherer.gather(grant).boxed()
    }

    async fn write(
        &self,
        namespace: &Namespace,
        secret: &ObjectName,
        flight: &Flight,
        work: &mut Work<'_>,
    ) {
        let writer = Writer {
            namespace: &namespace.name,
            secret,
            cluster: &*self.cluster,
            credentials: &*self.credentials,
            state: &self.state,
            history: &self.history,
            now: (self.clock)(),
        };
        let asks = flight.open();
        let ended = writer.write(work.gathered()).await;
        tell(namespace, secret, &ended);
        flight.publish(|progress| work.settle(progress, &asks, &ended, &not_granted()));
    }
}

/// Takes a flight off the list and tells those who wait, however it ended.
struct Landing {
    shared: Arc<Shared>,
    /// The namespace and the secret.
    place: (NamespaceName, ObjectName),
    flight: Arc<Flight>,
}

impl Drop for Landing {
    fn drop(&mut self) {
        lock(&self.shared.flights).remove(&self.place);
        self.flight.publish(|progress| progress.ended = true);
    }
}

fn terminating(namespace: &Namespace) -> Pending {
    Pending {
        registry: None,
        reason: "NamespaceGone",
        message: format!(
            "namespace {} is being deleted: nothing is written into it",
            namespace.name
        ),
    }
}

fn late() -> Pending {
    Pending {
        registry: None,
        reason: "Timeout",
        message: "the credentials are not there yet: work on them goes on, the kubelet looks again"
            .to_owned(),
    }
}

fn lost() -> Pending {
    Pending {
        registry: None,
        reason: "Lost",
        message: "the work on the pull secret ended without an answer: it is tried again with the next Pod".to_owned(),
    }
}

fn not_granted() -> Pending {
    Pending {
        registry: None,
        reason: "NotServed",
        message: "the Registries changed while the Pod was looked at: it is tried again with the next Pod".to_owned(),
    }
}
