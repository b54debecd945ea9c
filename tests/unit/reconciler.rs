//! The leader's loop over doubles, with time standing still where nothing waits for it.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::unwrap_in_result,
    reason = "a test that cannot be set up has failed"
)]

mod flow;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::model::time;
use crate::provision::{double, silent};
use crate::support::names;
use async_trait::async_trait;
use double::{Dice, KindState, Known, View, World};
use jiff::{SignedDuration, Timestamp};
use names::name;
use pullpass::controller::{Leadership, Metrics, Reconciler};
use pullpass::credential::{Credential, MintError};
use pullpass::provision::changes::ChangeLog;
use pullpass::provision::ports::{Cluster, ClusterError, Credentials};
use pullpass::provision::state::State;
use pullpass::provision::{Namespace, Provisioner};
use pullpass::registry::Registries;
use pullpass::registry::source::MintSource;
use serde_json::json;
use silent::Silent;
use tokio::sync::{Semaphore, watch};

/// A cloud whose mints end when they are let.
struct Cloud {
    known: Known,
    began: AtomicUsize,
    running: AtomicUsize,
    most: AtomicUsize,
    gate: Semaphore,
    /// How often it was asked what there is.
    looks: AtomicUsize,
    panics: AtomicBool,
    fails: AtomicBool,
}

impl Cloud {
    /// Lets so many mints end.
    fn letting(mints: usize) -> Arc<Self> {
        Arc::new(Self {
            known: Known::default(),
            began: AtomicUsize::new(0),
            running: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            gate: Semaphore::new(mints),
            looks: AtomicUsize::new(0),
            panics: AtomicBool::new(false),
            fails: AtomicBool::new(false),
        })
    }

    fn began(&self) -> usize {
        self.began.load(Ordering::SeqCst)
    }

    fn minted(&self) -> usize {
        self.known.all.lock().unwrap().len()
    }

    async fn issue(
        &self,
        source: &MintSource,
        now: Timestamp,
    ) -> Result<Arc<Credential>, Arc<MintError>> {
        self.began.fetch_add(1, Ordering::SeqCst);
        let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(running, Ordering::SeqCst);
        self.gate.acquire().await.unwrap().forget();
        self.running.fetch_sub(1, Ordering::SeqCst);
        assert!(!self.panics.load(Ordering::SeqCst), "a bug");
        if self.fails.load(Ordering::SeqCst) {
            let host = source.location().to_owned();
            return Err(Arc::new(MintError::Timeout { host }));
        }
        Ok(self.known.issue(source, "canary".to_owned(), now))
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
        _: Timestamp,
    ) -> Result<Arc<Credential>, Arc<MintError>> {
        let known = self.current(source);
        known.ok_or_else(|| Arc::new(MintError::TaskPanicked))
    }

    async fn renew(
        &self,
        source: &MintSource,
        now: Timestamp,
    ) -> Result<Arc<Credential>, Arc<MintError>> {
        self.issue(source, now).await
    }

    async fn refresh(&self, _: &MintSource) -> Result<(), ClusterError> {
        Ok(())
    }

    fn changes(&self) -> &ChangeLog<String> {
        &self.known.changes
    }
}

fn host(number: usize) -> String {
    format!("{number:012}.dkr.ecr.eu-west-1.amazonaws.com")
}

/// So many Registries, each with a credential of its own.
fn registries(count: usize) -> Registries {
    registries_with(count, [])
}

/// The same and these.
fn registries_with<const N: usize>(count: usize, others: [serde_json::Value; N]) -> Registries {
    let registry = |number: usize| {
        json!({
            "apiVersion": "pullpass.dev/v1alpha1", "kind": "Registry",
            "metadata": {"name": format!("registry-{number}")},
            "spec": {"images": [host(number)], "namespaceSelector": {},
                "ecr": {"identity": {"workload": {}}, "assumeRoles": [{"roleArn": format!("arn:aws:iam::{number:012}:role/pull")}]}},
        })
    };
    let objects = (1..=count).map(registry).chain(others);
    let built = Registries::build(objects.map(|one| serde_json::from_value(one).unwrap()));
    assert!(built.problems().is_empty(), "{:?}", built.problems());
    built
}

/// A leader in a cluster of two opted-in namespaces.
struct Leader {
    world: Arc<World>,
    state: Arc<State>,
    leads: watch::Sender<Leadership>,
}

fn opt_in(world: &World, state: &State, name: &str) {
    let enabled = ("pullpass.dev/inject".to_owned(), "enabled".to_owned());
    let namespace = Namespace::new(name.parse().unwrap(), BTreeMap::from([enabled]), false);
    let mut all = world.namespaces.lock().unwrap();
    all.insert(name.to_owned(), namespace.clone());
    state
        .namespaces
        .apply_event(&namespace.name.clone(), "1", namespace);
}

impl Leader {
    fn start(cloud: &Arc<Cloud>, count: usize) -> Self {
        time::begin();
        let (world, state) = (Arc::new(World::default()), Arc::new(State::default()));
        state.crd.begin_list(Some(&world.crd()));
        state.set_registries(registries(count), time::clock());
        world.put_registries((1..=count).map(|number| format!("registry-{number}")));
        for name in ["stays", "leaves"] {
            opt_in(&world, &state, name);
        }
        let cluster: Arc<dyn Cluster> = Arc::new(View::new(&world, &Arc::new(Dice::new(1))));
        let credentials: Arc<dyn Credentials> = cloud.clone();
        let clock = time::clock;
        let ensure = Provisioner::new(Arc::clone(&state), cluster, Arc::clone(&credentials), clock);
        let (teller, metrics) = (Arc::new(Silent), Metrics::default());
        let reconciler = Reconciler::new(
            ensure,
            credentials,
            teller,
            metrics,
            name("pullpass"),
            clock,
        );
        let (leads, told) = watch::channel(Leadership {
            leads: true,
            confirmed: None,
        });
        tokio::spawn(reconciler.run(told));
        Self {
            world,
            state,
            leads,
        }
    }
}

impl Leader {
    /// So many Registries are there, the first ones, as the API server has them.
    fn keep_first(&self, count: usize) {
        let names = (1..=count).map(|number| format!("registry-{number}"));
        self.world.put_registries(names);
    }

    /// The watch shows that the last ones are deleted, one by one, down to so many.
    fn delete_down_to(&self, count: usize, of: usize) {
        for left in (count..of).rev() {
            let name = format!("registry-{}", left + 1);
            let now = time::clock();
            self.state.apply_registry(&name, registries(left), now);
        }
    }

    /// A list shows so many of them, of the CRD that is there.
    fn list(&self, count: usize) {
        self.state.crd.begin_list(Some(&self.world.crd()));
        self.state.set_registries(registries(count), time::clock());
    }

    /// A kind that comes back is another one.
    fn set_kind(&self, kind: KindState) {
        if kind == KindState::Bare {
            self.world.kinds_made.fetch_add(1, Ordering::SeqCst);
        }
        *self.world.kind.lock().unwrap() = kind;
    }

    /// How many logins there are in all pull secrets.
    fn count_logins(&self) -> usize {
        let names: Vec<String> = self.world.secrets.lock().unwrap().keys().cloned().collect();
        let logins = names.iter().map(|name| self.world.logins(name).len());
        logins.sum()
    }

    /// A namespace opts out, and the watches show it.
    fn opt_out(&self, name: &str) {
        let stored = self.world.secret(name).unwrap();
        double::show(&self.state, name, &stored);
        self.state.namespaces.delete(name, "1000");
        let namespace = Namespace::new(name.parse().unwrap(), BTreeMap::new(), false);
        let mut all = self.world.namespaces.lock().unwrap();
        all.insert(name.to_owned(), namespace);
    }
}

async fn pass(milliseconds: u64) {
    tokio::time::sleep(Duration::from_millis(milliseconds)).await;
}

#[tokio::test(start_paused = true)]
async fn mints_a_few_at_a_time_and_the_next_one_as_soon_as_a_place_is_free() {
    const ALL: usize = 100;
    const AT_A_TIME: usize = 32;
    let cloud = Cloud::letting(0);
    let leader = Leader::start(&cloud, ALL);
    pass(500).await;
    assert_eq!(cloud.began(), AT_A_TIME);
    // Much sooner than it is looked again.
    for ended in 1..=10 {
        cloud.gate.add_permits(1);
        pass(1).await;
        assert_eq!(cloud.began(), AT_A_TIME + ended);
    }
    cloud.gate.add_permits(ALL);
    pass(500).await;
    assert_eq!((cloud.began(), cloud.minted()), (ALL, ALL));
    assert_eq!(cloud.most.load(Ordering::SeqCst), AT_A_TIME);
    assert_eq!(leader.world.logins("stays").len(), ALL);
}

#[tokio::test(start_paused = true)]
async fn mints_again_after_a_mint_that_panicked() {
    let cloud = Cloud::letting(2);
    cloud.panics.store(true, Ordering::SeqCst);
    let leader = Leader::start(&cloud, 1);
    pass(500).await;
    assert_eq!((cloud.began(), cloud.minted()), (1, 0));
    cloud.panics.store(false, Ordering::SeqCst);
    pass(6_000).await;
    assert_eq!((cloud.began(), cloud.minted()), (2, 1));
    assert_eq!(leader.world.logins("stays").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn tries_again_in_time_though_the_clock_was_put_back() {
    let cloud = Cloud::letting(2);
    cloud.fails.store(true, Ordering::SeqCst);
    let leader = Leader::start(&cloud, 1);
    pass(1_500).await;
    assert_eq!((cloud.began(), cloud.minted()), (1, 0));
    cloud.fails.store(false, Ordering::SeqCst);
    time::step(SignedDuration::from_mins(-10));
    pass(6_000).await;
    assert_eq!((cloud.began(), cloud.minted()), (2, 1));
    assert_eq!(leader.world.logins("stays").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn waits_calmly_where_nobody_says_whether_registries_are_gone() {
    let cloud = Cloud::letting(1);
    let leader = Leader::start(&cloud, 1);
    pass(20_000).await;
    assert_eq!(leader.world.logins("leaves").len(), 1);
    // A namespace that opts out, while the API server says nothing.
    let refusal = ClusterError::Unreachable {
        what: "list registries".to_owned(),
        message: "connection refused".to_owned(),
    };
    *leader.world.refusal.lock().unwrap() = Some(refusal);
    leader.opt_out("leaves");

    let before = leader.world.reads.load(Ordering::SeqCst);
    cloud.looks.store(0, Ordering::SeqCst);
    pass(600_000).await;
    let asked = leader.world.reads.load(Ordering::SeqCst) - before;
    let looks = cloud.looks.load(Ordering::SeqCst);
    println!("asked {asked} times, looked {looks} times in ten minutes");
    assert!((5..=20).contains(&asked), "{asked}");
    assert!(looks < 200, "{looks}");
    assert!(leader.world.secret("leaves").is_some());

    *leader.world.refusal.lock().unwrap() = None;
    pass(65_000).await;
    assert!(leader.world.secret("leaves").is_none());
}

#[tokio::test(start_paused = true)]
async fn takes_out_what_was_ordered_though_the_secret_cannot_be_completed() {
    let cloud = Cloud::letting(2);
    let leader = Leader::start(&cloud, 2);
    pass(20_000).await;
    let keys = || leader.world.logins("stays").into_keys().collect::<Vec<_>>();
    assert_eq!(keys(), [host(1), host(2)]);
    // A login that is longer than there is room for, and a while later a Registry that is deleted.
    let secret = leader
        .world
        .set_source("long", "robot", &"x".repeat(800 * 1024));
    let version = secret.resource_version.clone();
    leader
        .state
        .sources
        .apply_event(&name("long"), &version, secret);
    let long = json!({
        "apiVersion": "pullpass.dev/v1alpha1", "kind": "Registry", "metadata": {"name": "long"},
        "spec": {"images": ["long.example"], "namespaceSelector": {}, "static": {"secretRef": {"name": "long"}}},
    });
    let serve = |name, count| {
        let registries = registries_with(count, [long.clone()]);
        leader.state.apply_registry(name, registries, time::clock());
    };
    let names = ["registry-1", "long"].map(str::to_owned);
    leader.world.put_registries(names.into_iter());
    serve("long", 2);
    pass(5_000).await;
    assert_eq!(keys(), [host(1), host(2)]);
    serve("registry-2", 1);
    pass(60_000).await;
    assert_eq!(keys(), [host(1)]);
}

/// More namespaces than anything else is taken out of at once.
const MANY: usize = 30;

/// A leader of [`MANY`] namespaces and three Registries, who has done all that there is to be done.
async fn settled() -> Leader {
    let leader = Leader::start(&Cloud::letting(3), 3);
    for number in 2..MANY {
        opt_in(&leader.world, &leader.state, &format!("n{number}"));
    }
    pass(20_000).await;
    assert_eq!(leader.count_logins(), 3 * MANY);
    let all = leader.world.secrets.lock().unwrap().clone();
    for (name, stored) in &all {
        double::show(&leader.state, name, stored);
    }
    leader
}

#[tokio::test(start_paused = true)]
async fn takes_out_what_several_deletions_order_once_the_kind_is_known_to_stay() {
    for left in [2, 1, 0] {
        let leader = settled().await;
        leader.keep_first(left);
        leader.delete_down_to(left, 3);
        pass(1_900).await;
        assert_eq!(leader.count_logins(), 3 * MANY, "{left}: too early");
        pass(1_000).await;
        assert_eq!(leader.count_logins(), left * MANY, "{left}");
    }
}

#[tokio::test(start_paused = true)]
async fn takes_out_what_is_ordered_while_more_is_ordered_all_the_time() {
    let leader = settled().await;
    leader.keep_first(2);
    leader.delete_down_to(2, 3);
    // Another Registry comes and goes.
    let other = json!({
        "apiVersion": "pullpass.dev/v1alpha1", "kind": "Registry", "metadata": {"name": "other"},
        "spec": {"images": ["other.example"], "namespaceSelector": {}, "static": {"secretRef": {"name": "other"}}},
    });
    for _ in 0..5 {
        for there in [registries_with(2, [other.clone()]), registries(2)] {
            leader.state.apply_registry("other", there, time::clock());
            pass(500).await;
        }
    }
    assert_eq!(leader.count_logins(), 2 * MANY);
}

#[tokio::test(start_paused = true)]
async fn carries_out_what_was_ordered_before_it_led() {
    let leader = settled().await;
    leader.leads.send_modify(|told| told.leads = false);
    pass(1_000).await;
    leader.keep_first(1);
    leader.delete_down_to(1, 3);
    pass(600_000).await;
    assert_eq!(leader.count_logins(), 3 * MANY, "another one does it");
    leader.leads.send_modify(|told| told.leads = true);
    pass(5_000).await;
    assert_eq!(leader.count_logins(), MANY);
}

/// What may come between a deletion and its being known for an order; how many Registries' logins are left then.
type Interruption = (&'static str, fn(&Leader), usize);

#[allow(clippy::too_many_lines, reason = "a table")]
fn interruptions() -> [Interruption; 10] {
    [
        ("nothing", |_| {}, 1),
        (
            "the kind goes",
            |leader| leader.set_kind(KindState::Going),
            3,
        ),
        (
            "the kind is gone",
            |leader| leader.set_kind(KindState::Gone),
            3,
        ),
        ("a list", |leader| leader.list(1), 1),
        ("another kind", |leader| leader.set_kind(KindState::Bare), 3),
        (
            "a list of another kind",
            |leader| {
                leader.set_kind(KindState::Bare);
                leader.set_kind(KindState::Served);
                leader.list(1);
            },
            3,
        ),
        (
            "a CRD that cannot be read",
            |leader| {
                let forbidden = &leader.world.crd_is_forbidden;
                forbidden.store(true, Ordering::SeqCst);
            },
            3,
        ),
        (
            "a Registry that memory does not know",
            |leader| leader.keep_first(2),
            3,
        ),
        (
            "a Registry that memory knows as it was before",
            |leader| leader.world.registries.lock().unwrap()[0].generation = Some(2),
            3,
        ),
        (
            "the API server is away",
            |leader| {
                *leader.world.refusal.lock().unwrap() = Some(ClusterError::Unreachable {
                    what: "discovery".to_owned(),
                    message: "connection refused".to_owned(),
                });
            },
            3,
        ),
    ]
}

#[tokio::test(start_paused = true)]
async fn takes_out_nothing_when_it_may_have_been_the_kind() {
    for (what, act, left) in interruptions() {
        let leader = settled().await;
        leader.keep_first(1);
        leader.delete_down_to(1, 3);
        pass(600).await;
        act(&leader);
        pass(60_000).await;
        assert_eq!(leader.count_logins(), left * MANY, "{what}");
    }
}

/// Nobody asked while it was away: only by its CRD is it known that it was.
#[tokio::test(start_paused = true)]
async fn takes_out_nothing_when_the_kind_was_replaced_while_nobody_led() {
    for is_listed in [false, true] {
        let leader = settled().await;
        leader.leads.send_modify(|told| told.leads = false);
        pass(1_000).await;
        leader.keep_first(0);
        leader.delete_down_to(0, 3);
        leader.set_kind(KindState::Bare);
        if is_listed {
            leader.list(0);
        }
        leader.leads.send_modify(|told| told.leads = true);
        pass(60_000).await;
        assert_eq!(leader.count_logins(), 3 * MANY, "{is_listed}");
    }
}

/// As where pullpass has no right to it: all that is deleted waits for an admin, and for nothing else.
#[tokio::test(start_paused = true)]
async fn takes_out_nothing_unconfirmed_when_the_crd_was_unreadable() {
    let leader = settled().await;
    leader.state.crd.begin_list(None);
    let all = registries(3);
    leader.state.set_registries(all, time::clock());
    leader.keep_first(2);
    leader.delete_down_to(2, 3);
    pass(60_000).await;
    assert_eq!(leader.count_logins(), 3 * MANY);
    // Once it can be read that is so from the next list on.
    leader.list(2);
    leader.keep_first(1);
    leader.delete_down_to(1, 2);
    pass(60_000).await;
    assert_eq!(leader.count_logins(), 2 * MANY);
}

#[tokio::test(start_paused = true)]
async fn takes_out_nothing_when_the_kind_was_replaced_in_between() {
    // However soon, and however long the Registries take to come back.
    for (away, bare) in [
        (0, 0),
        (0, 3_000),
        (100, 1_500),
        (300, 0),
        (300, 5_000),
        (5_000, 300_000),
    ] {
        let leader = settled().await;
        leader.keep_first(0);
        leader.delete_down_to(0, 3);
        if away > 0 {
            leader.set_kind(KindState::Gone);
            pass(away).await;
        }
        leader.set_kind(KindState::Bare);
        pass(bare).await;
        leader.list(0);
        pass(bare).await;
        leader.keep_first(3);
        leader.set_kind(KindState::Served);
        leader.list(3);
        pass(60_000).await;
        assert_eq!(leader.count_logins(), 3 * MANY, "{away} {bare}");
    }
}
