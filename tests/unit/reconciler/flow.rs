//! The controller's flow: what changed is reconciled and nothing else, and what waits for nothing sleeps.

mod failures;
mod logins;
mod tenants;

use std::cell::Cell;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use prometheus_client::encoding::text::encode;
use pullpass::cluster::EventNote;
use pullpass::controller::{
    CheckedLogins, Leadership, LoginCheckLoop, LoginCheckMetrics, Metrics, Reconciler, StatusWriter,
};
use pullpass::credential::{Credential, MintError};
use pullpass::provision::changes::ChangeLog;
use pullpass::provision::ports::{ClusterError, Credentials, ListedRegistry, LoginChecker};
use pullpass::provision::state::{Observed, State};
use pullpass::provision::{Namespace, PULL_SECRET, Provision as _, Provisioner};
use pullpass::registry::crd::RegistryStatus;
use pullpass::registry::source::MintSource;
use pullpass::registry::{Registries, RegistryInfo};
use serde_json::{Value, json};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::double::{self, Known, View, World};
use super::names::name;
use super::{host, pass, registries, time};

/// More than are taken out at once.
const FORGED: usize = 12;

thread_local! {
    /// How often somebody read the clock.
    static CLOCK_READS: Cell<usize> = const { Cell::new(0) };
}

fn clock() -> Timestamp {
    CLOCK_READS.set(CLOCK_READS.get() + 1);
    time::clock()
}

/// Every mint has an answer at once, unless it waits for `hold`.
#[derive(Default)]
struct Cloud {
    known: Known,
    issued: AtomicUsize,
    /// How often it was asked to mint, and whether it fails to.
    asked: AtomicUsize,
    fails: AtomicBool,
    looks: AtomicUsize,
    hold: Mutex<Option<Arc<Notify>>>,
}

impl Cloud {
    fn issue(&self, source: &MintSource, now: Timestamp) -> Arc<Credential> {
        let issued = self.issued.fetch_add(1, Ordering::SeqCst);
        self.known.issue(source, format!("canary-{issued}"), now)
    }
}

#[async_trait]
impl Credentials for Cloud {
    fn current(&self, source: &MintSource) -> Option<Arc<Credential>> {
        self.looks.fetch_add(1, Ordering::SeqCst);
        self.known.get(source)
    }

    async fn mint(
        &self,
        source: &MintSource,
        now: Timestamp,
    ) -> Result<Arc<Credential>, Arc<MintError>> {
        let hold = self.hold.lock().unwrap().clone();
        if let Some(hold) = hold {
            hold.notified().await;
        }
        let known = self.known.get(source);
        Ok(known.unwrap_or_else(|| self.issue(source, now)))
    }

    async fn renew(
        &self,
        source: &MintSource,
        now: Timestamp,
    ) -> Result<Arc<Credential>, Arc<MintError>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        if self.fails.load(Ordering::SeqCst) {
            let host = source.location().to_owned();
            return Err(Arc::new(MintError::Timeout { host }));
        }
        Ok(self.issue(source, now))
    }

    async fn refresh(&self, _: &MintSource) -> Result<(), ClusterError> {
        Ok(())
    }

    fn changes(&self) -> &ChangeLog<String> {
        &self.known.changes
    }
}

/// Keeps all statuses that were written, each of which takes a second, and all Events.
#[derive(Default)]
struct Statuses {
    written: Mutex<Vec<(String, RegistryStatus)>>,
    /// What confirms the removals that were reported as blocked.
    ids: Mutex<Vec<String>>,
    running: AtomicUsize,
    most: AtomicUsize,
    events: Mutex<Vec<EventNote>>,
}

impl Statuses {
    fn count(&self) -> usize {
        self.written.lock().unwrap().len()
    }
}

#[async_trait]
impl StatusWriter for Statuses {
    async fn apply_status(
        &self,
        listed: &RegistryInfo,
        status: &RegistryStatus,
    ) -> Result<(), ClusterError> {
        let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(running, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_secs(1)).await;
        self.running.fetch_sub(1, Ordering::SeqCst);
        let written = (listed.uid.clone(), status.clone());
        self.written.lock().unwrap().push(written);
        Ok(())
    }

    async fn publish(&self, note: &EventNote, _: Timestamp) {
        self.events.lock().unwrap().push(note.clone());
        if let Some((_, id)) = note.note.split_once("confirm-removal=") {
            let id = id.split_whitespace().next().map(str::to_owned);
            self.ids.lock().unwrap().extend(id);
        }
    }
}

/// A replica over the doubles.
struct Replica {
    world: Arc<World>,
    state: Arc<State>,
    cloud: Arc<Cloud>,
    statuses: Arc<Statuses>,
    provisioner: Provisioner,
    shown: prometheus_client::registry::Registry,
    leadership: watch::Sender<Leadership>,
}

impl Replica {
    /// One whose writes of pull secrets take so long each.
    fn start(write: Duration) -> Self {
        Self::start_with(write, None)
    }

    /// One that has fixed logins tried.
    fn start_with(write: Duration, checker: Option<Arc<dyn LoginChecker>>) -> Self {
        time::begin();
        let (world, state) = (Arc::new(World::default()), Arc::new(State::default()));
        let cloud = Arc::new(Cloud::default());
        let credentials: Arc<dyn Credentials> = cloud.clone();
        let provisioner = Provisioner::new(
            Arc::clone(&state),
            Arc::new(View::slow(&world, write)),
            Arc::clone(&credentials),
            clock,
        );
        let (statuses, metrics) = (Arc::new(Statuses::default()), Metrics::default());
        let mut shown = prometheus_client::registry::Registry::default();
        metrics.register(&mut shown);
        let mut reconciler = Reconciler::new(
            provisioner.clone(),
            credentials,
            statuses.clone(),
            metrics,
            name("pullpass"),
            clock,
        );
        let leadership = watch::Sender::new(Leadership::default());
        if let Some(checker) = checker {
            let (logins, metrics) = (CheckedLogins::default(), LoginCheckMetrics::default());
            metrics.register(&mut shown);
            reconciler = reconciler.with_checked_logins(logins.clone());
            let known = provisioner.clone();
            let checks = LoginCheckLoop::new(known, checker, logins, metrics, clock);
            tokio::spawn(checks.run(leadership.subscribe()));
        }
        tokio::spawn(reconciler.run(leadership.subscribe()));
        Self {
            world,
            state,
            cloud,
            statuses,
            provisioner,
            shown,
            leadership,
        }
    }

    fn lead(&self) {
        self.leadership.send_modify(|told| told.leads = true);
    }

    fn serve(&self, registries: Registries) {
        self.put_registries(&registries);
        self.state.crd.begin_list(Some(&self.world.crd()));
        self.state.set_registries(registries, clock());
    }

    /// The watch shows another form of the Registry of a fixed login, or that it is deleted.
    fn apply_fixed(&self, registries: Registries) {
        self.put_registries(&registries);
        self.state.apply_registry("fixed", registries, clock());
    }

    fn put_registries(&self, registries: &Registries) {
        let listed = registries.listed().iter().map(|one| ListedRegistry {
            name: one.name.to_string(),
            uid: one.uid.clone(),
            generation: one.generation,
        });
        *self.world.registries.lock().unwrap() = listed.collect();
    }

    fn add_namespace(&self, name: &str, labels: &[(&str, &str)]) -> Arc<Namespace> {
        let labels = labels
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let namespace = Namespace::new(name.parse().unwrap(), labels.collect(), false);
        let mut all = self.world.namespaces.lock().unwrap();
        all.insert(name.to_owned(), namespace.clone());
        let version = self.world.next_version();
        let known = Arc::new(namespace.clone());
        self.state
            .namespaces
            .apply_event(&namespace.name.clone(), &version, namespace);
        known
    }

    fn opted_in(&self, count: usize) {
        for number in 0..count {
            self.add_namespace(
                &format!("team-{number}"),
                &[("pullpass.dev/inject", "enabled")],
            );
        }
    }

    /// The source Secret of fixed logins has this password.
    fn give_source(&self, password: &str) {
        let secret = self.world.set_source("login", "robot", password);
        let version = secret.resource_version.clone();
        self.state
            .sources
            .apply_event(&name("login"), &version, secret);
    }

    fn gauge(&self, name: &str) -> String {
        let mut text = String::new();
        encode(&mut text, &self.shown).unwrap();
        let prefix = format!("{name} ");
        let line = text.lines().find_map(|line| line.strip_prefix(&prefix));
        line.expect("the gauge is shown").to_owned()
    }
}

fn fixed(uid: &str, selector: &Value) -> Registries {
    let registry = json!({
        "apiVersion": "pullpass.dev/v1alpha1", "kind": "Registry",
        "metadata": {"name": "fixed", "uid": uid, "generation": 1},
        "spec": {"images": ["harbor.example"], "namespaceSelector": selector, "static": {"secretRef": {"name": "login"}}},
    });
    let built = Registries::build([serde_json::from_value(registry).unwrap()]);
    assert!(built.problems().is_empty(), "{:?}", built.problems());
    built
}

/// A later form of it; `images` may break a rule.
fn fixed_later(generation: i64, images: &str, selector: &Value) -> Registries {
    let registry = json!({
        "apiVersion": "pullpass.dev/v1alpha1", "kind": "Registry",
        "metadata": {"name": "fixed", "uid": "u-1", "generation": generation},
        "spec": {"images": [images], "namespaceSelector": selector, "static": {"secretRef": {"name": "login"}}},
    });
    Registries::build([serde_json::from_value(registry).unwrap()])
}

/// Lines of the log at WARN and above.
#[derive(Clone, Default)]
struct Warnings(Arc<AtomicUsize>);

impl io::Write for Warnings {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let lines = bytes.split(|byte| *byte == b'\n').count() - 1;
        self.0.fetch_add(lines, Ordering::SeqCst);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A job per status took the leader's descriptors and the Lease's requests.
#[tokio::test(start_paused = true)]
async fn writes_sixteen_statuses_at_a_time_at_most() {
    let replica = Replica::start(Duration::ZERO);
    replica.serve(registries(100));
    replica.opted_in(2);
    replica.lead();
    pass(60_000).await;
    let most = replica.statuses.most.load(Ordering::SeqCst);
    assert!(replica.statuses.count() >= 100);
    assert!((1..=16).contains(&most), "{most} at a time");
}

/// Failures of one cause are logged so often a minute, however many namespaces have it and however often it is tried again.
#[tokio::test(start_paused = true)]
async fn logs_a_bounded_number_of_failures_of_one_cause() {
    let warnings = Warnings::default();
    let writer = warnings.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::WARN)
        .with_writer(move || writer.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let replica = Replica::start(Duration::ZERO);
    replica.serve(registries(1));
    replica.opted_in(100);
    *replica.world.refusal.lock().unwrap() = Some(ClusterError::Rejected {
        what: "secret".to_owned(),
        message: "exceeded quota".to_owned(),
    });
    replica.lead();
    pass(120_000).await;
    let lines = warnings.0.load(Ordering::SeqCst);
    // Twenty in each minute that was begun.
    assert!((20..=60).contains(&lines), "{lines} lines");
}

/// What is there is good while the renewed login is being written.
#[tokio::test(start_paused = true)]
async fn stays_ready_while_a_good_login_is_renewed() {
    let replica = Replica::start(Duration::from_secs(3));
    replica.serve(fixed("u-1", &json!({})));
    replica.give_source("first");
    replica.opted_in(300);
    replica.lead();
    pass(120_000).await;
    let ready = |status: &RegistryStatus| {
        let mut conditions = status.conditions.iter();
        let ready = conditions.find(|one| one.type_ == "Ready").unwrap();
        format!("{} {}", ready.status, ready.reason)
    };
    let before = replica.statuses.count();
    let last = replica.statuses.written.lock().unwrap().last().cloned();
    assert_eq!(ready(&last.unwrap().1), "True Provisioned");
    replica.give_source("second");
    pass(120_000).await;
    let written = replica.statuses.written.lock().unwrap();
    let said: Vec<String> = written
        .iter()
        .skip(before)
        .map(|(_, status)| ready(status))
        .collect();
    assert!(
        said.iter().all(|ready| ready.starts_with("True")),
        "{said:?}"
    );
}

/// Labelled Secrets where nobody ever opted in are none that pullpass wrote, whether they can be read or not; nor do they count once they
/// are removed.
#[tokio::test(start_paused = true)]
async fn forged_secrets_elsewhere_hold_no_removal_back() {
    let junk = |count: usize| {
        let entry = |number| format!(r#""forged-{number}.example":{{"auth":"YTpi"}}"#);
        let entries: Vec<String> = (0..count).map(entry).collect();
        format!(r#"{{"auths":{{{}}}}}"#, entries.join(","))
    };
    for forged in [junk(1), junk(17), "{".to_owned()] {
        for wait in [0, 20_000] {
            let replica = Replica::start(Duration::ZERO);
            replica.serve(registries(1));
            replica.opted_in(2);
            replica.lead();
            pass(20_000).await;
            let written = replica.world.secret("team-0").unwrap();
            double::show(&replica.state, "team-0", &written);
            for number in 0..FORGED {
                let name = format!("tenant-{number}");
                replica.add_namespace(&name, &[]);
                let stored = replica.world.put_secret(&name, true, &forged);
                let observed = Observed::of_unwanted(&stored.read());
                let version = &stored.version.resource_version;
                let name = name.parse().unwrap();
                let store = &replica.state.pull_secrets;
                store.apply_event(&name, version, observed);
            }
            pass(wait).await;
            replica.add_namespace("team-0", &[]);
            pass(20_000).await;
            let stays = replica.world.secret("team-0").is_some();
            assert!(!stays, "after {wait} ms: {forged}");
        }
    }
}

/// Who confirms what was reported has not seen what came later.
#[tokio::test(start_paused = true)]
async fn confirms_what_was_reported_and_nothing_that_came_later() {
    let replica = Replica::start(Duration::ZERO);
    replica.serve(registries(1));
    replica.opted_in(20);
    replica.lead();
    pass(60_000).await;
    let opt_out = |numbers: std::ops::Range<usize>| {
        for number in numbers {
            replica.add_namespace(&format!("team-{number}"), &[]);
        }
    };
    let confirm_last = || {
        let id = replica.statuses.ids.lock().unwrap().last().cloned();
        assert!(id.is_some());
        replica.leadership.send_modify(|told| told.confirmed = id);
    };
    let there = || replica.world.secrets.lock().unwrap().len();
    opt_out(0..12);
    pass(20_000).await;
    assert_eq!(there(), 20, "it is much");
    confirm_last();
    opt_out(12..18);
    pass(30_000).await;
    assert_eq!(there(), 8, "the later ones, too");
    confirm_last();
    pass(30_000).await;
    assert_eq!(there(), 2);
}

/// A namespace that opts out while its credential is minted gets no login.
#[tokio::test(start_paused = true)]
async fn writes_by_the_labels_of_the_moment_of_the_write() {
    let replica = Replica::start(Duration::ZERO);
    replica.serve(registries(1));
    let namespace = replica.add_namespace("team-0", &[("pullpass.dev/inject", "enabled")]);
    let hold = Arc::new(Notify::new());
    *replica.cloud.hold.lock().unwrap() = Some(Arc::clone(&hold));
    let (provisioner, secret, key) = (replica.provisioner.clone(), name(PULL_SECRET), host(1));
    let deadline = Instant::now() + Duration::from_secs(10);
    let pod = tokio::spawn(async move {
        let keys = [key.as_str()];
        provisioner
            .ensure(&namespace, &secret, &keys, deadline)
            .await
    });
    pass(1_000).await;
    replica.add_namespace("team-0", &[]);
    hold.notify_waiters();
    pod.await.unwrap();
    assert!(replica.world.secret("team-0").is_none(), "it was written");
}

/// `kubectl replace --force`: another Registry of the same name has no conditions yet.
#[tokio::test(start_paused = true)]
async fn tells_a_registry_that_was_made_anew_its_status() {
    let replica = Replica::start(Duration::ZERO);
    replica.serve(fixed("u-1", &json!({})));
    replica.give_source("first");
    replica.opted_in(1);
    replica.lead();
    pass(20_000).await;
    assert!(replica.statuses.count() > 0);
    replica.serve(fixed("u-2", &json!({})));
    pass(60_000).await;
    let written = replica.statuses.written.lock().unwrap();
    assert!(
        written.iter().any(|(uid, _)| uid == "u-2"),
        "only of the old one"
    );
}

/// What the watch shows counts, not what was written once.
#[tokio::test(start_paused = true)]
async fn writes_a_status_again_that_another_writer_wiped() {
    let replica = Replica::start(Duration::ZERO);
    replica.serve(fixed("u-1", &json!({})));
    replica.give_source("first");
    replica.opted_in(1);
    replica.lead();
    pass(20_000).await;
    let show = |status| {
        replica.state.record_status(&name("fixed"), status);
        // As after each event of the watch.
        replica.serve(fixed("u-1", &json!({})));
    };
    let last = replica.statuses.written.lock().unwrap().last().cloned();
    show(last.map(|(_, status)| status));
    pass(20_000).await;
    let before = replica.statuses.count();
    show(None);
    pass(60_000).await;
    assert!(replica.statuses.count() > before, "it stays wiped");
}

/// Twice the Registries cost twice as much: eight times as many, far less than 64 times.
#[test]
fn finds_each_registry_by_name_in_linear_time() {
    let cost = |all: &Registries| {
        let names: Vec<String> = all.iter().map(|one| one.name.to_string()).collect();
        let began = std::time::Instant::now();
        assert!(names.iter().all(|name| all.get(name).is_some()));
        began.elapsed()
    };
    let (few, many) = (registries(250), registries(2_000));
    // The least of each: nothing else takes the processor in all rounds.
    let rounds: Vec<_> = (0..100).map(|_| (cost(&few), cost(&many))).collect();
    let few = rounds.iter().map(|round| round.0).min().unwrap();
    let many = rounds.iter().map(|round| round.1).min().unwrap();
    assert!(many < few * 24, "{few:?} and {many:?}");
}

/// The cost of a change is that of what changed.
#[tokio::test(start_paused = true)]
async fn looks_at_one_credential_when_one_was_renewed() {
    let replica = Replica::start(Duration::ZERO);
    replica.serve(registries(100));
    replica.opted_in(2);
    replica.lead();
    pass(60_000).await;
    let source = replica
        .cloud
        .known
        .all
        .lock()
        .unwrap()
        .keys()
        .next()
        .cloned();
    replica.cloud.looks.store(0, Ordering::SeqCst);
    replica.cloud.issue(&source.unwrap(), time::clock());
    pass(5_000).await;
    let looks = replica.cloud.looks.load(Ordering::SeqCst);
    assert!((1..=20).contains(&looks), "{looks} looks");
}

/// Nothing happens, so nobody wakes up.
#[tokio::test(start_paused = true)]
async fn a_follower_sleeps_while_nothing_changes() {
    let replica = Replica::start(Duration::ZERO);
    replica.serve(registries(1));
    replica.opted_in(1);
    pass(1_000).await;
    CLOCK_READS.set(0);
    pass(60_000).await;
    let reads = CLOCK_READS.get();
    assert!(reads <= 60, "{reads} times a minute");
}

/// `pullpass_namespaces`: those that a Registry serves, also where the Secret is another writer's.
#[tokio::test(start_paused = true)]
async fn counts_served_namespaces_and_no_others() {
    let replica = Replica::start(Duration::ZERO);
    replica.give_source("first");
    replica.serve(fixed("u-1", &json!({"matchLabels": {"team": "a"}})));
    let enabled = ("pullpass.dev/inject", "enabled");
    replica.add_namespace("served", &[enabled, ("team", "a")]);
    replica.add_namespace("foreign", &[enabled, ("team", "a")]);
    let foreign = replica.world.put_secret("foreign", false, "{}");
    double::show(&replica.state, "foreign", &foreign);
    for number in 0..3 {
        let name = format!("unserved-{number}");
        replica.add_namespace(&name, &[enabled]);
        // A login that was left there.
        let left = r#"{"auths":{"harbor.example":{"auth":"YTpi"}}}"#;
        let stored = replica.world.put_secret(&name, true, left);
        double::show(&replica.state, &name, &stored);
    }
    *replica.world.refusal.lock().unwrap() = Some(ClusterError::Unreachable {
        what: "secret".to_owned(),
        message: "no".to_owned(),
    });
    replica.lead();
    pass(10_000).await;
    assert_eq!(replica.gauge("pullpass_namespaces"), "2");
}

/// Registries of the namespaces' own ServiceAccounts, and one of a fixed login for one team.
fn own_and_fixed(images: &[&str]) -> Registries {
    let own = json!({
        "apiVersion": "pullpass.dev/v1alpha1", "kind": "Registry",
        "metadata": {"name": "own", "uid": "u-1", "generation": 1},
        "spec": {"images": [host(1)], "namespaceSelector": {},
            "ecr": {"identity": {"serviceAccount": {"name": "puller", "roleArn": "arn:aws:iam::210987654321:role/pull"}}}},
    });
    let fixed = json!({
        "apiVersion": "pullpass.dev/v1alpha1", "kind": "Registry",
        "metadata": {"name": "fixed", "uid": "u-2", "generation": images.len()},
        "spec": {"images": images, "namespaceSelector": {"matchLabels": {"team": "a"}}, "static": {"secretRef": {"name": "login"}}},
    });
    let objects = [own, fixed].map(|one| serde_json::from_value(one).unwrap());
    let built = Registries::build(objects);
    assert!(built.problems().is_empty(), "{:?}", built.problems());
    built
}

/// How often anything was reconciled meanwhile, and each pull secret that is concerned a few times: found, and written.
async fn count_reconciles(replica: &Replica, change: impl FnOnce(&Replica)) -> usize {
    let count = || -> usize { replica.gauge("pullpass_reconciles_total").parse().unwrap() };
    let before = count();
    change(replica);
    pass(20_000).await;
    count() - before
}

#[tokio::test(start_paused = true)]
async fn reconciles_the_pull_secrets_that_a_change_concerns_and_no_others() {
    const TEAM: usize = 5;
    let replica = Replica::start(Duration::ZERO);
    replica.give_source("first");
    replica.serve(own_and_fixed(&["harbor.example"]));
    let enabled = ("pullpass.dev/inject", "enabled");
    for number in 0..100 {
        let team = if number < TEAM { "a" } else { "b" };
        replica.add_namespace(&format!("team-{number}"), &[enabled, ("team", team)]);
    }
    replica.lead();
    pass(60_000).await;
    assert_eq!(replica.gauge("pullpass_namespaces"), "100");
    assert_eq!(replica.gauge("pullpass_namespaces_incomplete"), "0");
    let idle = count_reconciles(&replica, |_| {}).await;
    assert_eq!(idle, 0, "nothing changed");
    let renewed = count_reconciles(&replica, |replica| {
        let known = replica
            .cloud
            .known
            .all
            .lock()
            .unwrap()
            .keys()
            .next()
            .cloned();
        replica.cloud.issue(&known.unwrap(), time::clock());
    });
    let renewed = renewed.await;
    let changed = count_reconciles(&replica, |replica| {
        let both = own_and_fixed(&["harbor.example", "quay.example"]);
        replica.state.apply_registry("fixed", both, time::clock());
    });
    let changed = changed.await;
    let rotated = count_reconciles(&replica, |replica| replica.give_source("second")).await;
    println!(
        "reconciles: {renewed} for a tenant's credential, {changed} for a Registry of {TEAM}, {rotated} for its source Secret"
    );
    assert!((1..=4).contains(&renewed), "{renewed}");
    assert!((TEAM..=4 * TEAM).contains(&changed), "{changed}");
    assert!((TEAM..=4 * TEAM).contains(&rotated), "{rotated}");
    assert_eq!(replica.world.logins("team-0").len(), 3);
    assert_eq!(replica.world.logins("team-9").len(), 1);
}

/// What happens while a Registry breaks a rule, and after it; the namespaces that hold its login at last.
type Hidden = (
    &'static str,
    fn(&Replica),
    fn(&Replica),
    &'static [&'static str],
);

/// Nothing is removed while a Registry breaks a rule, and all that is to be removed afterwards.
#[tokio::test(start_paused = true)]
#[allow(clippy::too_many_lines, reason = "one course of events for all rows")]
async fn takes_out_what_a_registry_hid_that_broke_a_rule_once_it_breaks_none() {
    fn team(team: &str) -> Value {
        json!({"matchLabels": {"team": team}})
    }
    fn delete(replica: &Replica) {
        replica.apply_fixed(Registries::build([]));
    }
    fn mend(replica: &Replica, selected: &str) {
        replica.apply_fixed(fixed_later(3, "harbor.example", &team(selected)));
    }
    fn relabel(replica: &Replica) {
        replica.add_namespace("team-1", &[("pullpass.dev/inject", "enabled")]);
    }
    let rows: [Hidden; 4] = [
        ("deleted", |_| {}, delete, &[]),
        ("relabelled, deleted", relabel, delete, &[]),
        (
            "relabelled, mended",
            relabel,
            |replica| mend(replica, "a"),
            &["team-0"],
        ),
        (
            "mended for others",
            |_| {},
            |replica| mend(replica, "z"),
            &[],
        ),
    ];
    for (what, meanwhile, after, holds) in rows {
        let replica = Replica::start(Duration::ZERO);
        replica.serve(fixed("u-1", &team("a")));
        replica.give_source("first");
        let names = ["team-0", "team-1"];
        for name in names {
            replica.add_namespace(name, &[("pullpass.dev/inject", "enabled"), ("team", "a")]);
        }
        replica.lead();
        pass(20_000).await;
        replica.apply_fixed(fixed_later(2, "not an image", &team("a")));
        pass(20_000).await;
        meanwhile(&replica);
        pass(20_000).await;
        let holders = || {
            let mut names = names.to_vec();
            names.retain(|name| !replica.world.logins(name).is_empty());
            names
        };
        assert_eq!(holders(), names, "{what}: too early");
        after(&replica);
        pass(60_000).await;
        assert_eq!(holders(), holds, "{what}");
    }
}

/// One for all namespaces, and one for those of a team.
fn logins_for_all_and_team() -> [Value; 2] {
    let team = json!({"matchLabels": {"team": "a"}});
    [
        login_for("all", "harbor.example", &json!({})),
        login_for("team", "quay.example", &team),
    ]
}

/// A Registry of the fixed login for the namespaces that a selector matches, as the API server has it without uid and generation.
fn login_for(name: &str, image: &str, selector: &Value) -> Value {
    json!({
        "apiVersion": "pullpass.dev/v1alpha1", "kind": "Registry", "metadata": {"name": name},
        "spec": {"images": [image], "namespaceSelector": selector, "static": {"secretRef": {"name": "login"}}},
    })
}

fn build<const N: usize>(objects: [Value; N]) -> Registries {
    let objects = objects.map(|one| serde_json::from_value(one).unwrap());
    let built = Registries::build(objects);
    assert!(built.problems().is_empty(), "{:?}", built.problems());
    built
}

impl Replica {
    /// The watch shows that a Registry was deleted: these are left.
    fn delete_registry(&self, name: &str, left: Registries) {
        let names = left.iter().map(|registry| registry.name.to_string());
        self.world.put_registries(names);
        self.state.apply_registry(name, left, clock());
    }
}

/// However many writes are due at once, also of the very pull secrets that it is about.
#[tokio::test(start_paused = true)]
async fn carries_out_an_order_within_seconds_while_writes_are_due_at_once() {
    const TEAM: usize = 5;
    let replica = Replica::start(Duration::from_secs(3));
    replica.give_source("first");
    let [all, team] = logins_for_all_and_team();
    replica.serve(build([all.clone(), team]));
    replica.opted_in(300);
    let enabled = ("pullpass.dev/inject", "enabled");
    // They are written last.
    let names: Vec<String> = (0..TEAM).map(|number| format!("z-{number}")).collect();
    for name in &names {
        replica.add_namespace(name, &[enabled, ("team", "a")]);
    }
    replica.lead();
    pass(60_000).await;
    let left = || names.iter().map(|name| replica.world.logins(name));
    assert!(left().all(|logins| logins.len() == 2));
    replica.give_source("second");
    pass(500).await;
    replica.delete_registry("team", build([all]));
    pass(8_000).await;
    assert!(left().all(|logins| !logins.contains_key("quay.example")));
    assert!(left().all(|logins| logins["harbor.example"] == "first"));
    pass(60_000).await;
    assert!(left().all(|logins| logins["harbor.example"] == "second"));
}
