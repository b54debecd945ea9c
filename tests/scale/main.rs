//! 10,000 namespaces on counting doubles: memory, start-up, writes, calls. `make scale` runs it; docs/OPERATIONS.md has the figures.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::unwrap_in_result,
    reason = "a test that cannot be set up has failed"
)]

#[path = "../unit/provision/double.rs"]
#[allow(dead_code, reason = "it is shared with other tests")]
mod double;
#[path = "../support/names.rs"]
mod names;
#[path = "../unit/provision/silent.rs"]
mod silent;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use double::{Dice, Mints, View, World, show};
use jiff::{SignedDuration, Timestamp};
use pullpass::controller::{Leadership, Metrics, Reconciler};
use pullpass::names::NamespaceName;
use pullpass::provision::observe::PullSecretView;
use pullpass::provision::ports::{Cluster, Credentials};
use pullpass::provision::state::State;
use pullpass::provision::{Namespace, Provisioner};
use pullpass::registry::Registries;
use serde_json::json;
use silent::Silent;
use tokio::sync::watch;

const NAMESPACES: usize = 10_000;

/// How many more namespaces come one after the other.
const MORE: usize = 50;

/// What an Amazon ECR token has, about.
const TOKEN_BYTES: usize = 2_700;

/// How many seconds the clock is ahead.
static AHEAD: AtomicI64 = AtomicI64::new(0);

fn now() -> Timestamp {
    Timestamp::now() + SignedDuration::from_secs(AHEAD.load(Ordering::SeqCst))
}

/// So many Registries, each with a credential of its own, by Secrets.
fn registries(count: usize) -> Registries {
    delivered(count, "Secret")
}

/// The same, delivered so.
fn delivered(count: usize, delivery: &str) -> Registries {
    let registry = |number: usize| {
        let image = format!("{:012}.dkr.ecr.eu-west-1.amazonaws.com", number + 1);
        let role = format!("arn:aws:iam::{:012}:role/pull", number + 1);
        let object = json!({
            "apiVersion": "pullpass.dev/v1alpha1", "kind": "Registry",
            "metadata": {"name": format!("registry-{number}")},
            "spec": {"images": [image], "namespaceSelector": {}, "delivery": delivery,
                "ecr": {"identity": {"workload": {}}, "assumeRoles": [{"roleArn": role}]}},
        });
        serde_json::from_value(object).unwrap()
    };
    let built = Registries::build((0..count).map(registry));
    assert!(built.problems().is_empty(), "{:?}", built.problems());
    built
}

fn namespace(number: usize) -> Namespace {
    let labels = BTreeMap::from([
        ("pullpass.dev/inject".to_owned(), "enabled".to_owned()),
        (
            "kubernetes.io/metadata.name".to_owned(),
            name(number).to_string(),
        ),
        ("team".to_owned(), format!("team-{}", number % 100)),
    ]);
    Namespace::new(name(number), labels, false).with_uid(format!("uid-of-{number}"))
}

fn name(number: usize) -> NamespaceName {
    names::name(&format!("namespace-{number:05}"))
}

/// MiB of this process that are in memory.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kib = line.unwrap().split_whitespace().nth(1).unwrap();
    kib.parse::<usize>().unwrap() / 1024
}

struct Replica {
    world: Arc<World>,
    state: Arc<State>,
    mints: Arc<Mints>,
    ensure: Provisioner,
    leadership: watch::Sender<Leadership>,
}

impl Replica {
    /// A process that starts, its watches have shown everything; it leads.
    fn start(world: &Arc<World>, count: usize) -> Self {
        Self::start_with(world, registries(count))
    }

    fn start_with(world: &Arc<World>, registries: Registries) -> Self {
        let dice = Arc::new(Dice::new(1));
        let state = Arc::new(State::default());
        state.set_registries(registries, now());
        let mints = Arc::new(Mints::new(world, &dice));
        let minted: Vec<_> = world.minted.lock().unwrap().keys().cloned().collect();
        for source in &minted {
            mints.learn(source);
        }
        let all: Vec<Namespace> = world.namespaces.lock().unwrap().values().cloned().collect();
        for namespace in all {
            if let Some(stored) = world.secret(&namespace.name) {
                show(&state, &namespace.name, &stored);
            }
            let name = namespace.name.clone();
            state.namespaces.apply_event(&name, "1", namespace);
        }
        let view = View::new(world, &dice);
        let (cluster, credentials): (Arc<dyn Cluster>, Arc<dyn Credentials>) =
            (Arc::new(view), mints.clone());
        let ensure = Provisioner::new(Arc::clone(&state), cluster, Arc::clone(&credentials), now);
        let metrics = Metrics::default();
        let reconciler = Reconciler::new(
            ensure.clone(),
            credentials,
            Arc::new(Silent),
            metrics,
            names::name("pullpass"),
            now,
        );
        let leadership = watch::Sender::new(Leadership::default());
        tokio::spawn(reconciler.run(leadership.subscribe()));
        Self {
            world: Arc::clone(world),
            state,
            mints,
            ensure,
            leadership,
        }
    }

    fn lead(&self) {
        self.leadership.send_modify(|told| told.leads = true);
    }

    fn add(&self, number: usize) {
        let namespace = namespace(number);
        let name = namespace.name.clone();
        let mut all = self.world.namespaces.lock().unwrap();
        all.insert(name.to_string(), namespace.clone());
        self.state.namespaces.apply_event(&name, "1", namespace);
    }

    fn writes(&self) -> usize {
        self.world.writes.load(Ordering::SeqCst)
    }

    fn mints(&self) -> usize {
        self.mints.minted.load(Ordering::SeqCst)
    }
}

async fn until(what: &str, is_so: impl Fn() -> bool) -> Duration {
    let limit = Duration::from_mins(10);
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < limit, "{what} within {limit:?}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    began.elapsed()
}

fn populate(namespaces: usize) -> Arc<World> {
    let world = Arc::new(World::default());
    let mut all = world.namespaces.lock().unwrap();
    for number in 0..namespaces {
        let namespace = namespace(number);
        all.insert(namespace.name.to_string(), namespace);
    }
    drop(all);
    world
}

/// What a pull secret has in etcd where each login is one of Amazon ECR.
fn bytes_of(world: &World, count: usize) -> usize {
    let stored = world.secret(&name(1)).unwrap();
    let annotations: usize = stored.annotations.values().map(String::len).sum();
    stored.dockerconfigjson.len() + annotations + count * TOKEN_BYTES * 4 / 3
}

/// A process starts again: what that costs, and what it has to do.
fn restart(world: &Arc<World>, count: usize) -> Replica {
    let before = resident();
    let began = Instant::now();
    let replica = Replica::start(world, count);
    let shown = began.elapsed();
    let look = || {
        let began = Instant::now();
        for key in replica.ensure.all_keys() {
            let PullSecretView::Ours(view) = replica.ensure.view(&key, now()) else {
                panic!("it is ours");
            };
            assert!(view.entries(now()).all(|entry| entry.entry_state.is_good()));
        }
        began.elapsed()
    };
    let (first, again) = (look(), look());
    let memory = resident().saturating_sub(before);
    println!(
        "start: {shown:.1?} to take in, {first:.1?} to decide, {again:.1?} to decide again, {memory} MiB more"
    );
    replica
}

async fn add_more(replica: &Replica) {
    let mut times = Vec::new();
    for number in NAMESPACES..NAMESPACES + MORE {
        replica.add(number);
        let there = || replica.world.secret(&name(number)).is_some();
        times.push(until("one more is provisioned", there).await);
    }
    times.sort_unstable();
    let (p50, p99) = (times[MORE / 2], times[MORE * 99 / 100]);
    println!("one more namespace: p50 {p50:.0?}, p99 {p99:.0?}");
    assert!(p50 <= Duration::from_millis(100) && p99 <= Duration::from_secs(1));
}

/// All credentials are to be renewed, and the earlier ones soon end.
async fn renew_all(replica: &Replica, count: usize) {
    let all = NAMESPACES + MORE;
    let before = replica.writes();
    let life = SignedDuration::from_hours(12);
    let left = SignedDuration::from_mins(6);
    AHEAD.fetch_add((life - left).as_secs(), Ordering::SeqCst);
    let took = until("all are renewed", || replica.writes() - before >= all).await;
    println!("all renewed with {left:#} left: in {took:.1?}");
    assert!(took < left.unsigned_abs());
    assert_eq!((replica.writes() - before, replica.mints()), (all, count));
}

async fn measure(count: usize) {
    let world = populate(NAMESPACES);
    let replica = Replica::start(&world, count);
    replica.lead();
    let first = until("all are provisioned", || replica.writes() >= NAMESPACES).await;
    let there = || world.secrets.lock().unwrap().len() == NAMESPACES;
    let rest = until("the last ones, too", there).await;
    let (writes, mints) = (replica.writes(), replica.mints());
    let (first, bytes) = (first + rest, bytes_of(&world, count));
    println!(
        "{NAMESPACES} namespaces x {count} Registries: in {first:.1?}, {writes} writes, {mints} mints, {bytes} bytes each"
    );
    // A few may be written before the last credential is there.
    assert!(mints == count && writes <= NAMESPACES + NAMESPACES / 100);
    drop(replica);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let writes = world.writes.load(Ordering::SeqCst);

    let replica = restart(&world, count);
    replica.lead();
    add_more(&replica).await;
    assert_eq!((replica.writes() - writes, replica.mints()), (MORE, 0));
    renew_all(&replica, count).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: make scale"]
async fn keeps_ten_thousand_namespaces_with_three_registries() {
    measure(3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: make scale"]
async fn keeps_ten_thousand_namespaces_with_thirty_registries() {
    measure(30).await;
}

/// What one rotation of all credentials writes, and how much of it etcd keeps, by how they are delivered.
async fn rotate(namespaces: usize, count: usize, delivery: &str) -> usize {
    let world = populate(namespaces);
    let replica = Replica::start_with(&world, delivered(count, delivery));
    replica.lead();
    let holders = if delivery == "Node" { 0 } else { namespaces };
    let there = || world.secrets.lock().unwrap().len() == holders;
    until("all are provisioned", there).await;
    let settled = || replica.mints() == if holders == 0 { 0 } else { count };
    until("all are minted", settled).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let before = (replica.writes(), replica.mints());
    let life = SignedDuration::from_hours(12);
    AHEAD.fetch_add(
        (life - SignedDuration::from_mins(6)).as_secs(),
        Ordering::SeqCst,
    );
    until("all are renewed", || replica.writes() - before.0 >= holders).await;
    // What is not to be written is not written later either.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (writes, mints) = (replica.writes() - before.0, replica.mints() - before.1);
    let bytes = if holders == 0 {
        0
    } else {
        bytes_of(&world, count) * writes
    };
    println!(
        "{namespaces} namespaces x {count} Registries, {delivery}: {writes} writes in tenants' namespaces, {mints} mints by the leader, {bytes} bytes into etcd"
    );
    writes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: make scale"]
async fn writes_nothing_for_a_rotation_that_nodes_ask_for() {
    for namespaces in [500, NAMESPACES] {
        assert_eq!(rotate(namespaces, 30, "Secret").await, namespaces);
        assert_eq!(rotate(namespaces, 30, "Node").await, 0);
    }
}
