//! What people are told: the leader over a cluster and clouds in memory, and what it says of Registries.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use prometheus_client::encoding::text::encode;
use pullpass::cluster::Notice;
use pullpass::controller::{Keeper, Leadership, Metrics, Teller};
use pullpass::credential::MintError;
use pullpass::provision::Namespace;
use pullpass::provision::access::{ClusterError, Credentials};
use pullpass::provision::decide::decide;
use pullpass::registry::kind::RegistryStatus;
use pullpass::registry::{Listed, Orders};
use serde_json::json;
use tokio::sync::watch;

use super::double::{Dice, World};
use super::{EU, Replica, read, registry, time};

const REGION: &str = "eu-west-1";

/// Remembers what people are told.
#[derive(Default)]
struct Listener {
    statuses: Mutex<HashMap<String, RegistryStatus>>,
}

impl Teller for Listener {
    fn apply_status<'a>(
        &'a self,
        listed: &'a Listed,
        status: &'a RegistryStatus,
    ) -> BoxFuture<'a, Result<(), ClusterError>> {
        async {
            let name = listed.name.to_string();
            self.statuses.lock().unwrap().insert(name, status.clone());
            Ok(())
        }
        .boxed()
    }

    fn publish<'a>(&'a self, _: &'a Notice, _: Timestamp) -> BoxFuture<'a, ()> {
        async {}.boxed()
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
        let everyone = json!({"namespaces": {}});
        let eu = registry("eu", json!({"images": [EU], "serves": everyone, "ecr": {}}));
        replica.state.set_registries(read(vec![eu]));
        for name in ["team-a", "team-b"] {
            let labels = BTreeMap::from([("pullpass.dev/inject".to_owned(), "enabled".to_owned())]);
            let namespace = Namespace::new(name, labels, false).with_uid(name.to_owned());
            replica.state.namespaces.apply(name, "1", namespace);
        }
        let (heard, metrics) = (Arc::new(Listener::default()), Metrics::default());
        let mut shown = prometheus_client::registry::Registry::default();
        metrics.register(&mut shown);
        let credentials: Arc<dyn Credentials> = replica.mints.clone();
        let teller: Arc<dyn Teller> = heard.clone();
        let ensure = replica.ensure.clone();
        let keeper = Keeper::new(
            ensure,
            credentials,
            teller,
            metrics,
            "pullpass",
            time::clock,
        );
        let leadership = watch::Sender::new(Leadership::default());
        tokio::spawn(keeper.run(leadership.subscribe()));
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
        for _ in 0..1000 {
            if self.conditions() == wanted {
                return;
            }
            // Time stands still where nothing waits for it: nobody waits here.
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("{} instead of {wanted}", self.conditions());
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

    let writes = leader
        .world
        .writes
        .load(std::sync::atomic::Ordering::SeqCst);
    time::skip(SignedDuration::from_hours(1));
    leader
        .wait("Ready=False Timeout, Degraded=True Timeout")
        .await;
    assert_eq!(leader.gauge("pullpass_namespaces_incomplete"), "2");
    let told = leader.heard.statuses.lock().unwrap()["eu"].clone();
    let message = &told.conditions[0].message;
    assert!(
        message.starts_with("2 of 2 namespaces lack a login"),
        "{message}"
    );
    let message = &told.conditions[1].message;
    assert!(message.contains("was good until"), "{message}");
    let after = leader
        .world
        .writes
        .load(std::sync::atomic::Ordering::SeqCst);
    assert_eq!(writes, after, "there is nothing to be written");

    leader.cloud_is_away(false);
    leader.wait(GOOD).await;
    assert_eq!(leader.gauge("pullpass_namespaces_incomplete"), "0");
}

#[tokio::test(start_paused = true)]
async fn counts_logins_until_their_very_end_and_looks_again_then() {
    let leader = Leader::start();
    leader.wait(GOOD).await;
    let minted = leader.world.minted.lock().unwrap();
    let end = minted.values().next().unwrap().expires_at;
    let look = |seconds| {
        let now = end + SignedDuration::from_secs(seconds);
        let survey = leader.replica.ensure.survey(&Orders::default(), now);
        let ready = survey.tallies.get("eu").unwrap().ready;
        (ready, survey.view.look_again, decide(&survey.view, now))
    };
    let (ready, look_again, _) = look(-1);
    assert_eq!((ready, look_again), (2, Some(end)));
    let (ready, look_again, decision) = look(0);
    assert_eq!((ready, look_again), (0, None));
    assert_eq!(decision.mint.len(), 1);
    assert!(decision.complete.is_empty() && decision.renew.is_empty());
}
