//! Provisioning over a cluster and a minter in memory: the warm check, the cold path, and races.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::unwrap_in_result,
    clippy::needless_pass_by_value,
    reason = "a test that cannot be set up has failed"
)]

#[path = "provision/double.rs"]
pub(crate) mod double;
mod image_logins;
mod races;
pub(crate) mod silent;
mod sources;
mod status;
mod tenants;
mod unlisted;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::model::time;
use crate::support::names;
use crate::support::webhook::{Answer, send, webhook};
use axum::body::Body;
use axum::http::Request;
use double::{Dice, KindState, Mints, View, World, now, show};
use jiff::{SignedDuration, Timestamp};
use names::name;
use pullpass::credential::{MintError, SourceSecret};
use pullpass::provision::ports::{Cluster, ClusterError, Credentials};
use pullpass::provision::prune::RegistriesUnconfirmed;
use pullpass::provision::state::State;
use pullpass::provision::{
    Coverage, EnsureOutcome, Namespace, PULL_SECRET, Pending, Provision, Provisioner,
};
use pullpass::registry::source::MintSource;
use pullpass::registry::{CredentialSource, Registries};
use secrecy::SecretSlice;
use serde_json::json;
use tokio::time::Instant;

const EU: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";
const US: &str = "123456789012.dkr.ecr.us-east-1.amazonaws.com";
const HARBOR: &str = "harbor.example.com";
const PUBLIC: &str = "public.ecr.aws";

/// One pullpass over the world.
struct Replica {
    state: Arc<State>,
    mints: Arc<Mints>,
    ensure: Provisioner,
}

impl Replica {
    fn new(world: &Arc<World>, dice: &Arc<Dice>) -> Self {
        Self::with_clock(world, dice, now)
    }

    fn with_clock(world: &Arc<World>, dice: &Arc<Dice>, clock: fn() -> Timestamp) -> Self {
        let state = Arc::new(State::default());
        state.set_registries(registries(), now());
        let mints = Arc::new(Mints::new(world, dice));
        let view = View::new(world, dice);
        let credentials: Arc<dyn Credentials> = mints.clone();
        let cluster: Arc<dyn Cluster> = Arc::new(view);
        let ensure = Provisioner::new(Arc::clone(&state), cluster, credentials, clock);
        Self {
            state,
            mints,
            ensure,
        }
    }

    fn covers(&self, keys: &[&str]) -> Coverage {
        self.covers_at(keys, now())
    }

    fn covers_at(&self, keys: &[&str], now: Timestamp) -> Coverage {
        self.ensure
            .covers(&namespace(), &name(PULL_SECRET), keys, now, false)
    }

    async fn ensure(&self, keys: &[&str]) -> EnsureOutcome {
        self.ensure_in("team-a", keys).await
    }

    async fn ensure_in(&self, namespace: &str, keys: &[&str]) -> EnsureOutcome {
        let labels = self::namespace().labels.clone();
        let namespace = Arc::new(Namespace::new(name(namespace), labels, false));
        let deadline = Instant::now() + Duration::from_mins(1);
        self.ensure
            .ensure(&namespace, &name(PULL_SECRET), keys, deadline)
            .await
    }

    fn give_source(&self, world: &World, password: &str) {
        let secret = world.set_source("harbor-login", "robot", password);
        let version = secret.resource_version.clone();
        self.state
            .sources
            .apply_event(&name("harbor-login"), &version, secret);
    }
}

fn registry(name: &str, spec: serde_json::Value) -> serde_json::Value {
    json!({"apiVersion": "pullpass.dev/v1alpha1", "kind": "Registry", "metadata": {"name": name}, "spec": spec})
}

fn registries() -> Registries {
    read(objects())
}

fn with_another() -> Registries {
    let other = json!({"images": ["other.example"], "namespaceSelector": {}, "static": {"secretRef": {"name": "harbor-login"}}});
    read(
        objects()
            .into_iter()
            .chain([registry("other", other)])
            .collect(),
    )
}

fn read(objects: Vec<serde_json::Value>) -> Registries {
    let parse = |object| serde_json::from_value(object).expect("it has the kind's form");
    let built = Registries::build(objects.into_iter().map(parse));
    assert!(built.problems().is_empty(), "{:?}", built.problems());
    built
}

fn objects() -> Vec<serde_json::Value> {
    let everyone = json!({});
    vec![
        registry(
            "eu",
            json!({"images": [EU], "namespaceSelector": everyone, "ecr": {"identity": {"workload": {}}}}),
        ),
        registry(
            "us",
            json!({"images": [US], "namespaceSelector": everyone, "ecr": {"identity": {"workload": {}}}}),
        ),
        registry(
            "public",
            json!({"images": [PUBLIC], "namespaceSelector": everyone, "ecr": {"identity": {"node": {}}}}),
        ),
        registry(
            "harbor",
            json!({"images": [HARBOR], "namespaceSelector": everyone, "static": {"secretRef": {"name": "harbor-login"}}}),
        ),
    ]
}

fn source_of(key: &str) -> MintSource {
    let grants = registries().grants(&BTreeMap::new());
    let grant = grants
        .iter()
        .find(|grant| grant.keys.iter().any(|other| other == key))
        .unwrap();
    match &grant.source {
        CredentialSource::Minted(source) => source.clone(),
        CredentialSource::Static(_) => panic!("{key} is a fixed login"),
    }
}

fn namespace() -> Arc<Namespace> {
    let labels = BTreeMap::from([("pullpass.dev/inject".to_owned(), "enabled".to_owned())]);
    Arc::new(Namespace::new(name("team-a"), labels, false))
}

fn alone() -> (Arc<World>, Replica) {
    let world = Arc::new(World::default());
    let replica = Replica::new(&world, &Arc::new(Dice::new(1)));
    (world, replica)
}

/// What the webhook of this replica answers.
async fn ask(replica: &Replica, path: &str, review: serde_json::Value) -> Answer {
    let (router, _) = webhook(Arc::new(replica.ensure.clone()));
    let request = Request::post(path).header("content-type", "application/json");
    let body = Body::from(review.to_string());
    send(&router, request.body(body).unwrap()).await
}

/// From now on the API server refuses everything.
fn refuse(world: &World) {
    *world.refusal.lock().unwrap() = Some(ClusterError::Unreachable {
        what: "the API server".to_owned(),
        message: "no".to_owned(),
    });
}

fn reasons(outcome: &EnsureOutcome) -> Vec<&'static str> {
    match outcome {
        EnsureOutcome::Pending(pending) => pending
            .iter()
            .map(|pending: &Pending| pending.reason)
            .collect(),
        EnsureOutcome::Covered | EnsureOutcome::Foreign => panic!("{outcome:?}"),
    }
}

fn keys_of(world: &World) -> Vec<String> {
    world.logins("team-a").into_keys().collect()
}

#[tokio::test]
async fn covers_after_the_first_pod_with_no_watch_at_all() {
    let (world, replica) = alone();
    assert_eq!(replica.covers(&[EU]), Coverage::Missing);
    assert_eq!(replica.ensure(&[EU]).await, EnsureOutcome::Covered);
    assert_eq!(replica.covers(&[EU]), Coverage::Covered);
    assert!(keys_of(&world).contains(&EU.to_owned()));
    replica.ensure.drain().await;
    let requests = (
        world.reads.load(Ordering::SeqCst),
        world.writes.load(Ordering::SeqCst),
    );
    assert_eq!(replica.ensure(&[EU]).await, EnsureOutcome::Covered);
    assert_eq!(
        (
            world.reads.load(Ordering::SeqCst),
            world.writes.load(Ordering::SeqCst)
        ),
        requests
    );
}

#[tokio::test]
async fn writes_all_credentials_at_once_when_none_is_slow() {
    let (world, replica) = alone();
    replica.give_source(&world, "s3cret");
    assert_eq!(
        replica.ensure(&[EU, US, HARBOR]).await,
        EnsureOutcome::Covered
    );
    replica.ensure.drain().await;
    assert_eq!(keys_of(&world), [EU, US, HARBOR, PUBLIC]);
    assert_eq!(world.writes.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn waits_for_the_asked_keys_alone() {
    let (world, replica) = alone();
    replica.mints.hang("us-east-1");
    assert_eq!(replica.ensure(&[EU]).await, EnsureOutcome::Covered);
    assert_eq!(keys_of(&world), [EU]);
    replica.mints.go_on("us-east-1");
    assert_eq!(replica.ensure(&[US]).await, EnsureOutcome::Covered);
    replica.ensure.drain().await;
    assert_eq!(keys_of(&world), [EU, US, PUBLIC]);
}

#[tokio::test]
async fn answers_a_pod_while_another_one_waits_for_a_dead_registry() {
    let (world, replica) = alone();
    replica.mints.hang("us-east-1");
    let mut stuck = std::pin::pin!(replica.ensure(&[US]));
    assert!(futures::poll!(&mut stuck).is_pending());
    assert_eq!(replica.ensure(&[EU]).await, EnsureOutcome::Covered);
    replica.give_source(&world, "s3cret");
    assert_eq!(replica.ensure(&[HARBOR]).await, EnsureOutcome::Covered);
    replica.mints.go_on("us-east-1");
    assert_eq!(stuck.await, EnsureOutcome::Covered);
}

#[tokio::test]
async fn serves_a_registry_that_came_while_another_one_is_stuck() {
    let (world, replica) = alone();
    replica.state.set_registries(Registries::default(), now());
    replica.mints.hang("us-east-1");
    replica.state.set_registries(registries(), now());
    let mut stuck = std::pin::pin!(replica.ensure(&[US]));
    assert!(futures::poll!(&mut stuck).is_pending());
    let outcome = replica.ensure(&["other.example"]).await;
    assert_eq!(reasons(&outcome), ["NotServed"]);
    replica.state.set_registries(with_another(), now());
    replica.give_source(&world, "s3cret");
    assert_eq!(
        replica.ensure(&["other.example"]).await,
        EnsureOutcome::Covered
    );
}

#[tokio::test]
async fn covers_the_others_when_one_registry_is_dead() {
    let (world, replica) = alone();
    let error = MintError::Timeout {
        host: "api.ecr.us-east-1.amazonaws.com".to_owned(),
    };
    replica
        .mints
        .broken
        .lock()
        .unwrap()
        .insert("us-east-1".to_owned(), error);
    let outcome = replica.ensure(&[EU, US]).await;
    assert_eq!(reasons(&outcome), ["Timeout"]);
    assert_eq!(keys_of(&world), [EU]);
    assert_eq!(replica.covers(&[EU]), Coverage::Covered);
    assert_eq!(replica.covers(&[US]), Coverage::Missing);
    replica.mints.broken.lock().unwrap().clear();
    assert_eq!(replica.ensure(&[US]).await, EnsureOutcome::Covered);
}

#[tokio::test]
async fn goes_on_when_the_deadline_passes() {
    let (world, replica) = alone();
    replica.mints.hang("eu-west-1");
    let deadline = Instant::now();
    let namespace = namespace();
    let outcome = replica
        .ensure
        .ensure(&namespace, &name(PULL_SECRET), &[EU], deadline)
        .await;
    assert_eq!(reasons(&outcome), ["Timeout"]);
    replica.mints.go_on("eu-west-1");
    replica.ensure.drain().await;
    assert!(keys_of(&world).contains(&EU.to_owned()));
}

#[tokio::test]
async fn goes_on_when_the_caller_hangs_up() {
    let (world, replica) = alone();
    replica.mints.hang("eu-west-1");
    let namespace = namespace();
    let secret = name(PULL_SECRET);
    let mut call = replica.ensure.ensure(
        &namespace,
        &secret,
        &[EU],
        Instant::now() + Duration::from_mins(1),
    );
    assert!(futures::poll!(&mut call).is_pending());
    drop(call);
    replica.mints.go_on("eu-west-1");
    replica.ensure.drain().await;
    assert!(keys_of(&world).contains(&EU.to_owned()));
}

#[tokio::test]
async fn flies_once_for_pods_that_come_together() {
    let (world, replica) = alone();
    replica.give_source(&world, "s3cret");
    let pods = (0..50).map(|_| replica.ensure(&[EU, HARBOR]));
    let outcomes = futures::future::join_all(pods).await;
    assert!(
        outcomes
            .iter()
            .all(|outcome| *outcome == EnsureOutcome::Covered)
    );
    replica.ensure.drain().await;
    assert!(
        world.writes.load(Ordering::SeqCst) <= 2,
        "one for the Pods, one for the rest"
    );
    assert_eq!(replica.mints.minted.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn merges_with_what_somebody_wrote_first() {
    let (world, replica) = alone();
    world.put_secret("team-a", true, r#"{"auths":{"x.example":{"auth":"YTpi"}}}"#);
    assert_eq!(replica.ensure(&[EU]).await, EnsureOutcome::Covered);
    assert!(keys_of(&world).contains(&"x.example".to_owned()));
}

#[tokio::test]
async fn leaves_a_foreign_secret_alone() {
    let (world, replica) = alone();
    let foreign = world.put_secret("team-a", false, r#"{"auths":{}}"#);
    assert_eq!(replica.ensure(&[EU]).await, EnsureOutcome::Foreign);
    assert_eq!(replica.covers(&[EU]), Coverage::Foreign);
    assert_eq!(world.secret("team-a").unwrap().version, foreign.version);
    assert_eq!(world.writes.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn writes_nothing_into_a_terminating_namespace() {
    let (world, replica) = alone();
    let terminating = Arc::new(Namespace::new(
        name("team-a"),
        namespace().labels.clone(),
        true,
    ));
    let outcome = replica
        .ensure
        .ensure(
            &terminating,
            &name(PULL_SECRET),
            &[EU],
            Instant::now() + Duration::from_secs(9),
        )
        .await;
    assert_eq!(reasons(&outcome), ["NamespaceTerminating"]);
    assert_eq!(replica.mints.minted.load(Ordering::SeqCst), 0);
    assert_eq!(world.writes.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn says_why_when_the_cluster_refuses() {
    let (world, replica) = alone();
    let refusal = ClusterError::Forbidden {
        what: "secret team-a/pullpass".to_owned(),
        message: "no".to_owned(),
    };
    *world.refusal.lock().unwrap() = Some(refusal);
    assert_eq!(reasons(&replica.ensure(&[EU]).await), ["Forbidden"]);
    *world.refusal.lock().unwrap() = None;
    assert_eq!(replica.ensure(&[EU]).await, EnsureOutcome::Covered);
}

#[tokio::test]
async fn names_the_source_secret_that_is_missing() {
    let (_world, replica) = alone();
    let outcome = replica.ensure(&[HARBOR]).await;
    assert_eq!(reasons(&outcome), ["MissingSource"]);
    let EnsureOutcome::Pending(pending) = outcome else {
        unreachable!()
    };
    assert_eq!(pending[0].registry.as_deref(), Some("harbor"));
    assert!(
        pending[0].message.contains("harbor-login"),
        "{}",
        pending[0].message
    );
}

/// It says what else is in a Secret of those who run pullpass.
#[tokio::test]
async fn keeps_what_is_wrong_in_a_source_secret_from_the_namespace() {
    let (_world, replica) = alone();
    let config = r#"{"auths":{"other.example.com":{"username":"u","password":"p"}}}"#;
    let secret = SourceSecret {
        name: name("harbor-login"),
        type_: "kubernetes.io/dockerconfigjson".to_owned(),
        data: BTreeMap::from([(
            ".dockerconfigjson".to_owned(),
            SecretSlice::from(config.as_bytes().to_vec()),
        )]),
        resource_version: "1".to_owned(),
    };
    let source = name("harbor-login");
    replica.state.sources.apply_event(&source, "1", secret);
    let outcome = replica.ensure(&[HARBOR]).await;
    assert_eq!(reasons(&outcome), ["MalformedSource"]);
    let EnsureOutcome::Pending(pending) = outcome else {
        unreachable!()
    };
    assert!(pending[0].is_for_admins, "{}", pending[0].message);
}

#[tokio::test]
async fn picks_up_a_rotated_source_secret() {
    let (world, replica) = alone();
    replica.give_source(&world, "old");
    assert_eq!(replica.ensure(&[HARBOR]).await, EnsureOutcome::Covered);
    replica.give_source(&world, "new");
    assert_eq!(replica.covers(&[HARBOR]), Coverage::Missing);
    assert_eq!(replica.ensure(&[HARBOR]).await, EnsureOutcome::Covered);
    assert_eq!(world.logins("team-a")[HARBOR], "new");
}

#[tokio::test]
async fn notices_a_secret_that_was_deleted_or_edited() {
    let (world, replica) = alone();
    assert_eq!(replica.ensure(&[EU]).await, EnsureOutcome::Covered);
    replica.ensure.drain().await;
    let edited = world.put_secret("team-a", true, r#"{"auths":{"x":5}}"#);
    show(&replica.state, "team-a", &edited);
    assert_eq!(replica.covers(&[EU]), Coverage::Missing);
    assert_eq!(replica.ensure(&[EU]).await, EnsureOutcome::Covered);
    replica.ensure.drain().await;
    world.secrets.lock().unwrap().clear();
    replica
        .state
        .pull_secrets
        .delete("team-a", &world.next_version());
    assert_eq!(replica.covers(&[EU]), Coverage::Missing);
    assert_eq!(replica.ensure(&[EU]).await, EnsureOutcome::Covered);
    assert!(keys_of(&world).contains(&EU.to_owned()));
}

#[tokio::test]
async fn admits_warm_with_an_earlier_credential_and_renews_beside() {
    let (world, replica) = alone();
    assert_eq!(replica.ensure(&[EU]).await, EnsureOutcome::Covered);
    replica.ensure.drain().await;
    assert_eq!(replica.covers(&[EU]), Coverage::Covered);
    world.mint(&source_of(EU), now());
    replica.mints.learn(&source_of(EU));
    let writes = world.writes.load(Ordering::SeqCst);
    assert_eq!(
        replica
            .ensure
            .covers(&namespace(), &name(PULL_SECRET), &[EU], now(), true),
        Coverage::Covered
    );
    replica.ensure.drain().await;
    assert_eq!(
        world.writes.load(Ordering::SeqCst),
        writes,
        "a dry run renews nothing"
    );
    assert_eq!(replica.covers(&[EU]), Coverage::Covered);
    replica.ensure.drain().await;
    assert_eq!(world.logins("team-a")[EU], "eu-west-1-v2");
    assert_eq!(world.writes.load(Ordering::SeqCst), writes + 1);
}

#[tokio::test]
async fn takes_a_spent_credential_for_none() {
    let (_world, replica) = alone();
    assert_eq!(replica.ensure(&[EU]).await, EnsureOutcome::Covered);
    let late = now() + SignedDuration::from_hours(12);
    assert_eq!(
        replica.covers_at(&[EU], now() + SignedDuration::from_hours(11)),
        Coverage::Covered
    );
    assert_eq!(replica.covers_at(&[EU], late), Coverage::Missing);
}

#[tokio::test]
async fn rewrites_nothing_after_a_restart() {
    let (world, before) = alone();
    assert_eq!(before.ensure(&[EU, US]).await, EnsureOutcome::Covered);
    before.ensure.drain().await;
    let writes = world.writes.load(Ordering::SeqCst);
    let after = Replica::new(&world, &Arc::new(Dice::new(2)));
    for key in [EU, US, PUBLIC] {
        after.mints.learn(&source_of(key));
    }
    show(&after.state, "team-a", &world.secret("team-a").unwrap());
    assert_eq!(after.covers(&[EU, US]), Coverage::Covered);
    assert_eq!(after.ensure(&[EU, US]).await, EnsureOutcome::Covered);
    assert_eq!(world.writes.load(Ordering::SeqCst), writes);
    assert_eq!(after.mints.minted.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn readies_the_secret_of_a_namespace_in_mode_all_beside_its_first_pod() {
    let (world, replica) = alone();
    let labels = BTreeMap::from([("pullpass.dev/inject".to_owned(), "all".to_owned())]);
    let all = Arc::new(Namespace::new(name("team-a"), labels, false));
    assert_eq!(
        replica
            .ensure
            .covers(&all, &name(PULL_SECRET), &[], now(), true),
        Coverage::Covered
    );
    replica.ensure.drain().await;
    assert_eq!(
        world.writes.load(Ordering::SeqCst),
        0,
        "a dry run writes nothing"
    );
    assert_eq!(
        replica
            .ensure
            .covers(&all, &name(PULL_SECRET), &[], now(), false),
        Coverage::Covered
    );
    replica.ensure.drain().await;
    assert!(keys_of(&world).contains(&EU.to_owned()));
}

#[tokio::test]
async fn reads_a_new_namespace_once_for_pods_that_come_together() {
    let (world, replica) = alone();
    world
        .namespaces
        .lock()
        .unwrap()
        .insert("team-a".to_owned(), (*namespace()).clone());
    assert!(replica.ensure.namespace(&name("team-a")).is_none());
    let team_a = name("team-a");
    let found =
        futures::future::join_all((0..20).map(|_| replica.ensure.fetch_namespace(&team_a))).await;
    assert!(found.iter().all(Option::is_some));
    assert_eq!(world.reads.load(Ordering::SeqCst), 1);
    assert!(replica.ensure.namespace(&name("team-a")).is_some());
    assert!(
        replica
            .ensure
            .fetch_namespace(&name("nowhere"))
            .await
            .is_none()
    );
}

#[tokio::test]
async fn remembers_whether_a_service_account_enforces_mountable_secrets() {
    let (world, replica) = alone();
    world.enforced.store(true, Ordering::SeqCst);
    for _ in 0..5 {
        assert!(
            !replica
                .ensure
                .may_reference(&name("team-a"), &name("strict"), PULL_SECRET)
                .await
        );
    }
    assert_eq!(world.reads.load(Ordering::SeqCst), 1);
    let refusal = ClusterError::Unreachable {
        what: "serviceaccount".to_owned(),
        message: "down".to_owned(),
    };
    *world.refusal.lock().unwrap() = Some(refusal);
    assert!(
        replica
            .ensure
            .may_reference(&name("team-a"), &name("other"), PULL_SECRET)
            .await,
        "one that cannot be read counts as an ordinary one"
    );
    *world.refusal.lock().unwrap() = None;
    assert!(
        !replica
            .ensure
            .may_reference(&name("team-a"), &name("other"), PULL_SECRET)
            .await,
        "a failure is not remembered"
    );
}

#[tokio::test]
async fn concludes_nothing_from_registries_that_memory_misses() {
    let (world, dice) = (Arc::new(World::default()), Arc::new(Dice::new(1)));
    let replica = Replica::new(&world, &dice);
    let there = |names: &[&str]| {
        let names = names.iter().map(|name| (*name).to_owned());
        world.put_registries(names);
    };
    there(&["eu", "us"]);
    replica.ensure.confirm_registries().await.unwrap();
    there(&["eu", "us", "late"]);
    let doubt = replica.ensure.confirm_registries().await.unwrap_err();
    assert!(doubt.to_string().contains("registry late"), "{doubt}");
    let before = replica.ensure.changes().end();
    replica.state.unreadable().set(1);
    assert!(
        !replica.ensure.changes().is_at_end(before),
        "it is a change"
    );
    let known = replica.ensure.confirm_registries().await;
    known.expect("that one is known to be unreadable");
    let set = |kind| *world.kind.lock().unwrap() = kind;
    set(KindState::Going);
    let doubt = replica.ensure.confirm_registries().await.unwrap_err();
    assert!(matches!(doubt, RegistriesUnconfirmed::KindGone), "{doubt}");
    set(KindState::Gone);
    let doubt = replica.ensure.confirm_registries().await.unwrap_err();
    assert!(matches!(doubt, RegistriesUnconfirmed::KindGone), "{doubt}");
}

#[tokio::test]
async fn renews_what_stands_where_there_is_no_room_for_the_rest() {
    let (world, replica) = alone();
    assert_eq!(replica.ensure(&[EU, US]).await, EnsureOutcome::Covered);
    replica.ensure.drain().await;
    replica.give_source(&world, &"x".repeat(800 * 1024));
    assert_eq!(
        reasons(&replica.ensure(&[HARBOR]).await),
        ["SecretTooLarge"]
    );
    for key in [EU, US] {
        world.mint(&source_of(key), now());
        replica.mints.learn(&source_of(key));
    }
    assert_eq!(
        reasons(&replica.ensure(&[EU, HARBOR]).await),
        ["SecretTooLarge"]
    );
    assert_eq!(replica.covers(&[EU, US]), Coverage::Covered);
    assert_eq!(replica.covers(&[HARBOR]), Coverage::Missing);
    let logins = world.logins("team-a");
    assert_eq!(logins[EU], "eu-west-1-v2");
    assert_eq!(logins[US], "us-east-1-v2");
    assert!(!logins.contains_key(HARBOR));
    // Nothing is written again and again.
    let writes = world.writes.load(Ordering::SeqCst);
    assert_eq!(
        reasons(&replica.ensure(&[HARBOR]).await),
        ["SecretTooLarge"]
    );
    assert_eq!(world.writes.load(Ordering::SeqCst), writes);
    replica.give_source(&world, "small");
    assert_eq!(replica.ensure(&[HARBOR]).await, EnsureOutcome::Covered);
}

/// The next one would panic, too: it was begun anew until the deadline.
#[tokio::test]
async fn begins_no_flight_anew_that_panicked() {
    let (world, replica) = alone();
    let begun = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&begun);
    let panics = move |_: &str, _: Option<&double::Stored>, _: Option<&double::Stored>| {
        count.fetch_add(1, Ordering::SeqCst);
        panic!("a bug in a write");
    };
    *world.judge.lock().unwrap() = Some(Box::new(panics));
    let outcome = replica.ensure(&[EU]).await;
    assert_eq!(reasons(&outcome), ["InternalError"]);
    assert_eq!(begun.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn says_of_an_immutable_secret_that_it_is_to_be_deleted() {
    let (world, replica) = alone();
    *world.refusal.lock().unwrap() = Some(ClusterError::Rejected {
        what: "secret team-a/pullpass".to_owned(),
        message: "Secret \"pullpass\" is invalid: data: Forbidden: field is immutable when `immutable` is set".to_owned(),
    });
    let EnsureOutcome::Pending(pending) = replica.ensure(&[EU]).await else {
        panic!("it was written");
    };
    let text = &pending.first().unwrap().message;
    assert!(
        text.contains("secret team-a/pullpass is immutable"),
        "{text}"
    );
    assert!(text.contains("delete it"), "{text}");
}
