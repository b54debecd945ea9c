//! What people are told: the leader over a cluster and clouds in memory, and what it says of Registries.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use prometheus_client::encoding::text::encode;
use pullpass::cluster::EventNote;
use pullpass::controller::{Leadership, Metrics, Reconciler, StatusWriter};
use pullpass::credential::MintError;
use pullpass::provision::decide::EntryState;
use pullpass::provision::observe::PullSecretView;
use pullpass::provision::ports::{ClusterError, Credentials};
use pullpass::provision::{Namespace, PULL_SECRET};
use pullpass::registry::RegistryInfo;
use pullpass::registry::crd::RegistryStatus;
use serde_json::json;
use tokio::sync::watch;

use super::double::{Dice, World};
use super::names::name;
use super::{EU, Replica, read, registry, time};

const REGION: &str = "eu-west-1";

/// Remembers what people are told.
#[derive(Default)]
struct Listener {
    statuses: Mutex<HashMap<String, RegistryStatus>>,
    /// The Events, as `object reason: note`.
    events: Mutex<BTreeSet<String>>,
    /// How often it was tried to write a status, and to publish an Event.
    tries: [AtomicUsize; 2],
    /// Whether no status can be written.
    refuses: AtomicBool,
}

#[async_trait]
impl StatusWriter for Listener {
    async fn apply_status(
        &self,
        listed: &RegistryInfo,
        status: &RegistryStatus,
    ) -> Result<(), ClusterError> {
        self.tries[0].fetch_add(1, Ordering::SeqCst);
        if self.refuses.load(Ordering::SeqCst) {
            return Err(refusal());
        }
        let name = listed.name.to_string();
        self.statuses.lock().unwrap().insert(name, status.clone());
        Ok(())
    }

    async fn publish(&self, notice: &EventNote, _: Timestamp) {
        self.tries[1].fetch_add(1, Ordering::SeqCst);
        let object = &notice.regarding;
        let place = [&object.namespace, &object.name].map(|part| part.as_deref().unwrap_or("-"));
        let event = format!("{} {}: {}", place.join("/"), notice.reason, notice.note);
        self.events.lock().unwrap().insert(event);
    }
}

impl Listener {
    fn tries(&self) -> [usize; 2] {
        [0, 1].map(|kind: usize| self.tries[kind].load(Ordering::SeqCst))
    }

    /// What and why, without the words.
    fn events(&self) -> Vec<String> {
        let events = self.events.lock().unwrap();
        let brief = events.iter().filter_map(|event| event.split(':').next());
        brief.map(str::to_owned).collect()
    }
}

fn refusal() -> ClusterError {
    ClusterError::Rejected {
        what: "secret team-a/pullpass".to_owned(),
        message: "exceeded quota".to_owned(),
    }
}

/// A replica that leads, with a Registry of Amazon ECR and two namespaces, and who hears what it tells.
struct Leader {
    world: Arc<World>,
    replica: Replica,
    heard: Arc<Listener>,
    shown: prometheus_client::registry::Registry,
    _leadership: watch::Sender<Leadership>,
}

impl Leader {
    fn start() -> Self {
        time::begin();
        let world = Arc::new(World::default());
        let replica = Replica::with_clock(&world, &Arc::new(Dice::new(1)), time::clock);
        let everyone = json!({});
        let eu = registry(
            "eu",
            json!({"images": [EU], "namespaceSelector": everyone, "ecr": {"identity": {"workload": {}}}}),
        );
        replica.state.set_registries(read(vec![eu]), super::now());
        for name in ["team-a", "team-b"] {
            let labels = BTreeMap::from([("pullpass.dev/inject".to_owned(), "enabled".to_owned())]);
            let namespace =
                Namespace::new(name.parse().unwrap(), labels, false).with_uid(name.to_owned());
            replica
                .state
                .namespaces
                .apply_event(&namespace.name.clone(), "1", namespace);
        }
        let (heard, metrics) = (Arc::new(Listener::default()), Metrics::default());
        let mut shown = prometheus_client::registry::Registry::default();
        metrics.register(&mut shown);
        let credentials: Arc<dyn Credentials> = replica.mints.clone();
        let teller: Arc<dyn StatusWriter> = heard.clone();
        let ensure = replica.ensure.clone();
        let reconciler = Reconciler::new(
            ensure,
            credentials,
            teller,
            metrics,
            name("pullpass"),
            time::clock,
        );
        let leadership = watch::Sender::new(Leadership::default());
        tokio::spawn(reconciler.run(leadership.subscribe()));
        leadership.send_modify(|told| told.leads = true);
        Self {
            world,
            replica,
            heard,
            shown,
            _leadership: leadership,
        }
    }

    /// Status and reason of the Registry's conditions, as they were told last.
    fn conditions(&self) -> String {
        let statuses = self.heard.statuses.lock().unwrap();
        let Some(status) = statuses.get("eu") else {
            return String::new();
        };
        let words = status.conditions.iter();
        let words = words.map(|one| format!("{}={} {}", one.type_, one.status, one.reason));
        words.collect::<Vec<_>>().join(", ")
    }

    /// Waits until the conditions are these.
    async fn wait(&self, wanted: &str) {
        self.until(wanted, || self.conditions() == wanted).await;
    }

    /// Waits for what is to come within two minutes, which nobody has to wait for: time is paused.
    async fn until(&self, what: &str, is_so: impl Fn() -> bool) {
        for _ in 0..1200 {
            if is_so() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let events = self.heard.events();
        panic!("no {what}: {} and {events:?}", self.conditions());
    }

    /// Lets the cluster refuse all that is asked of it for pull secrets.
    fn refuse(&self, refused: bool) {
        *self.world.refusal.lock().unwrap() = refused.then(refusal);
    }

    /// What a gauge shows.
    fn gauge(&self, name: &str) -> String {
        let mut text = String::new();
        encode(&mut text, &self.shown).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.expect("the gauge is shown").trim().to_owned()
    }

    fn cloud_is_away(&self, away: bool) {
        let mut broken = self.replica.mints.broken.lock().unwrap();
        broken.clear();
        if away {
            let host = "api.ecr.eu-west-1.amazonaws.com".to_owned();
            broken.insert(REGION.to_owned(), MintError::Timeout { host });
        }
    }
}

const GOOD: &str = "Ready=True Provisioned, Degraded=False AsExpected";

#[tokio::test(start_paused = true)]
async fn says_that_logins_ended_which_cannot_be_renewed_and_that_they_are_good_again() {
    let leader = Leader::start();
    leader.wait(GOOD).await;
    leader.cloud_is_away(true);
    time::skip(SignedDuration::from_hours(11));
    leader
        .wait("Ready=True Provisioned, Degraded=True Timeout")
        .await;
    assert_eq!(leader.gauge("pullpass_namespaces_incomplete"), "0");

    assert_eq!(leader.gauge("pullpass_mints_failing"), "1");
    let ends = leader.gauge("pullpass_credential_expiry_timestamp_seconds");
    let minted: Vec<_> = leader
        .world
        .minted
        .lock()
        .unwrap()
        .values()
        .cloned()
        .collect();
    assert_eq!(ends, minted[0].expires_at.as_second().to_string());

    let writes = leader.world.writes.load(Ordering::SeqCst);
    time::skip(SignedDuration::from_hours(1));
    leader
        .wait("Ready=False Timeout, Degraded=True Timeout, Reconciling=True Timeout")
        .await;
    assert_eq!(leader.gauge("pullpass_namespaces_incomplete"), "2");
    let still = leader.gauge("pullpass_credential_expiry_timestamp_seconds");
    assert_eq!(still, ends, "an alert on it goes on after the end");
    let told = leader.heard.statuses.lock().unwrap()["eu"].clone();
    let message = &told.conditions[0].message;
    assert!(
        message.starts_with("2 of 2 namespaces lack a login"),
        "{message}"
    );
    let message = &told.conditions[1].message;
    assert!(message.contains("was valid until"), "{message}");
    let after = leader.world.writes.load(Ordering::SeqCst);
    assert_eq!(writes, after, "there is nothing to be written");

    leader.cloud_is_away(false);
    leader.wait(GOOD).await;
    assert_eq!(leader.gauge("pullpass_namespaces_incomplete"), "0");
    assert_eq!(leader.gauge("pullpass_mints_failing"), "0");
}

#[tokio::test(start_paused = true)]
async fn counts_logins_until_their_very_end_and_looks_again_then() {
    let leader = Leader::start();
    leader.wait(GOOD).await;
    let minted = leader.world.minted.lock().unwrap();
    let end = minted.values().next().unwrap().expires_at;
    let look = |seconds| {
        let now = end + SignedDuration::from_secs(seconds);
        let key = (name("team-a"), name(PULL_SECRET));
        let PullSecretView::Ours(view) = leader.replica.ensure.view(&key, now) else {
            panic!("it is ours");
        };
        let states: Vec<_> = view.entries(now).map(|entry| entry.entry_state).collect();
        (states, view.requeue_at)
    };
    assert_eq!(look(-1), (vec![EntryState::Current], Some(end)));
    assert_eq!(look(0), (vec![EntryState::Unavailable], None));
}

#[tokio::test(start_paused = true)]
async fn says_why_logins_cannot_be_written_and_tells_the_namespaces_that_lack_them() {
    let leader = Leader::start();
    leader.refuse(true);
    leader
        .wait("Ready=False Rejected, Degraded=True Rejected, Stalled=True Rejected")
        .await;
    let told = leader.heard.statuses.lock().unwrap()["eu"].clone();
    let message = &told.conditions[0].message;
    assert!(
        message.contains("lack a login") && message.contains("exceeded quota"),
        "{message}"
    );
    let events = [
        "-/eu Rejected",
        "team-a/pullpass Rejected",
        "team-b/pullpass Rejected",
    ];
    leader
        .until("Events", || leader.heard.events() == events)
        .await;

    assert_eq!(leader.gauge("pullpass_pull_secret_writes_failing"), "2");
    leader.refuse(false);
    leader.wait(GOOD).await;
    assert_eq!(leader.gauge("pullpass_pull_secret_writes_failing"), "0");
}

#[tokio::test(start_paused = true)]
async fn says_that_renewed_logins_cannot_be_written_while_earlier_ones_are_good() {
    let leader = Leader::start();
    leader.wait(GOOD).await;
    leader.refuse(true);
    time::skip(SignedDuration::from_hours(9));
    leader
        .wait("Ready=True Provisioned, Degraded=True Rejected")
        .await;
    leader
        .until("an Event", || leader.heard.events() == ["-/eu Rejected"])
        .await;
    time::skip(SignedDuration::from_hours(3));
    leader
        .wait("Ready=False Rejected, Degraded=True Rejected, Stalled=True Rejected")
        .await;
    leader.refuse(false);
    leader.wait(GOOD).await;
}

#[tokio::test(start_paused = true)]
async fn forgets_that_a_mint_failed_once_another_replica_minted() {
    let leader = Leader::start();
    leader.wait(GOOD).await;
    leader.cloud_is_away(true);
    time::skip(SignedDuration::from_hours(9));
    leader
        .wait("Ready=True Provisioned, Degraded=True Timeout")
        .await;
    let source = leader.world.minted.lock().unwrap().keys().next().cloned();
    let source = source.unwrap();
    leader.world.mint(&source, time::clock());
    leader.replica.mints.learn(&source);
    leader.cloud_is_away(false);
    let minted = leader.replica.mints.minted.load(Ordering::SeqCst);
    leader.wait(GOOD).await;
    assert_eq!(minted, leader.replica.mints.minted.load(Ordering::SeqCst));
}

#[tokio::test(start_paused = true)]
async fn is_calm_where_nobody_takes_what_it_tells() {
    let leader = Leader::start();
    leader.heard.refuses.store(true, Ordering::SeqCst);
    leader.refuse(true);
    tokio::time::sleep(Duration::from_mins(10)).await;
    let [statuses, events] = leader.heard.tries();
    assert!(
        (10..=20).contains(&statuses),
        "{statuses} tries of a status"
    );
    // Three of them, and they are tried again.
    assert!((30..=200).contains(&events), "{events} tries of an Event");

    leader.heard.refuses.store(false, Ordering::SeqCst);
    leader
        .wait("Ready=False Rejected, Degraded=True Rejected, Stalled=True Rejected")
        .await;
}
