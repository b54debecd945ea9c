//! The cache and the store: one mint for everybody, the same bytes everywhere, nothing shared between identities.

#![allow(
    clippy::unwrap_used,
    clippy::unwrap_in_result,
    reason = "helpers of a test may fail it"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::support;
use async_trait::async_trait;
use futures::future::join_all;
use jiff::{SignedDuration, Timestamp};
use pullpass::api_server::ClusterError;
use pullpass::credential::cache::{MintResult, Minter};
use pullpass::credential::mint::{Mint, MintRequest};
use pullpass::credential::{
    AnswerReason, Credential, CredentialKey, Metrics, MintError, Refusal, SourceSecrets,
};
use pullpass::registry::source::{EcrEndpoints, EcrIdentity, EcrSource};
use secrecy::ExposeSecret;
use support::figure;
use support::log::Log;
use support::source::Secrets;
use support::store::{Replica, Seeded, Shared};
use tokio::time::Instant;

const CANARIES: [&str; 3] = ["canary-secret-key", "canary-session", "canary-password"];

/// The cloud: counts, waits, fails as told, and makes each password different.
struct Cloud {
    mints: AtomicU64,
    delay: Duration,
    seeded: Seeded,
    fails: AtomicBool,
    panics: AtomicBool,
    life: SignedDuration,
}

impl Cloud {
    fn new(delay: u64) -> Arc<Self> {
        Self::seeded(delay, Seeded::new(0))
    }

    fn seeded(delay: u64, seeded: Seeded) -> Arc<Self> {
        Arc::new(Self {
            mints: 0.into(),
            delay: Duration::from_millis(delay),
            seeded,
            fails: false.into(),
            panics: false.into(),
            life: SignedDuration::from_hours(12),
        })
    }

    fn mints(&self) -> u64 {
        self.mints.load(Ordering::SeqCst)
    }

    fn fail(&self, fails: bool) {
        self.fails.store(fails, Ordering::SeqCst);
    }
}

#[async_trait]
impl Mint for Cloud {
    async fn mint(&self, order: MintRequest) -> Result<Credential, MintError> {
        let number = self.mints.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(self.delay).await;
        self.seeded.pause(200).await;
        assert!(
            !self.panics.load(Ordering::SeqCst),
            "the cloud's client has a bug"
        );
        if self.fails.load(Ordering::SeqCst) {
            return Err(MintError::Refused(Box::new(Refusal {
                host: "api.ecr.eu-west-1.amazonaws.com".to_owned(),
                principal: "p".to_owned(),
                code: "ServerException".to_owned(),
                permission: "",
                reason: AnswerReason::Unavailable,
                is_passing: true,
                is_recognized: true,
                advice: "wait, retrying",
                words: String::new(),
                retry_after: None,
            })));
        }
        Ok(Credential {
            username: "AWS".to_owned(),
            password: format!("canary-password {} {number}", order.source.location()).into(),
            minted_at: order.now,
            expires_at: order.now + self.life,
            principal: "role".to_owned(),
        })
    }
}

/// Sets a source Secret with temporary keys.
fn set_keys(secrets: &Secrets, name: &str, access_key_id: &str) {
    let data = [
        ("AWS_ACCESS_KEY_ID", access_key_id),
        ("AWS_SECRET_ACCESS_KEY", "canary-secret-key\n"),
        ("AWS_SESSION_TOKEN", "canary-session"),
    ];
    secrets.set(name, &data);
}

fn source(region: &str) -> EcrSource {
    support::source::ecr(region, EcrIdentity::Workload)
}

fn with_keys(secret: &str) -> EcrSource {
    EcrSource {
        identity: EcrIdentity::Keys {
            secret: secret.parse().unwrap(),
        },
        ..source("eu-west-1")
    }
}

/// The time of the test, moved by tokio's paused clock.
struct Clock(Instant);

impl Clock {
    fn now(&self) -> Timestamp {
        let start: Timestamp = "2026-11-21T10:00:00Z".parse().unwrap();
        start + SignedDuration::try_from(self.0.elapsed()).unwrap()
    }
}

/// One replica with its cloud.
struct World {
    cloud: Arc<Cloud>,
    shared: Shared,
    replica: Arc<Replica>,
    secrets: Arc<Secrets>,
    minter: Minter,
    clock: Clock,
}

impl World {
    fn start(cloud: Arc<Cloud>) -> Self {
        Self::bounded(cloud, 1_000)
    }

    /// One whose cache keeps so few keys.
    fn bounded(cloud: Arc<Cloud>, keys: u64) -> Self {
        let shared = Shared::default();
        let replica = Replica::start(&shared, &Seeded::new(7), 1);
        let secrets = Arc::new(Secrets::default());
        let minter = Minter::bounded(
            cloud.clone(),
            replica.clone(),
            secrets.clone(),
            Metrics::default(),
            keys,
        );
        Self {
            cloud,
            shared,
            replica,
            secrets,
            minter,
            clock: Clock(Instant::now()),
        }
    }

    async fn get(&self, source: &EcrSource) -> MintResult {
        self.minter
            .credential(&source.clone().into(), self.clock.now())
            .await
    }

    async fn pass(&self, seconds: u64) {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }
}

fn password(outcome: &MintResult) -> String {
    outcome
        .as_ref()
        .unwrap()
        .password
        .expose_secret()
        .to_owned()
}

#[tokio::test(start_paused = true)]
async fn give_credential_mints_once_for_many_callers() {
    let world = World::start(Cloud::new(500));
    let source = source("eu-west-1");
    let outcomes = join_all((0..200).map(|_| world.get(&source))).await;
    assert_eq!(world.cloud.mints(), 1);
    assert!(
        outcomes
            .iter()
            .all(|outcome| password(outcome) == password(&outcomes[0]))
    );
    world.get(&source).await.unwrap();
    assert_eq!(world.cloud.mints(), 1, "a fresh one is not minted again");
}

#[tokio::test(start_paused = true)]
async fn give_credential_goes_on_when_the_callers_hang_up() {
    let world = World::start(Cloud::new(500));
    let source = source("eu-west-1");
    for _ in 0..3 {
        let call = tokio::time::timeout(Duration::from_millis(50), world.get(&source));
        assert!(call.await.is_err(), "hung up before the answer");
    }
    world.pass(5).await;
    assert_eq!(world.cloud.mints(), 1);
    assert!(world.minter.current(&source.clone().into()).is_some());
}

#[tokio::test(start_paused = true)]
async fn give_credential_shares_nothing_between_identities() {
    let world = World::start(Cloud::new(10));
    set_keys(&world.secrets, "a", "AKIAA");
    set_keys(&world.secrets, "b", "AKIAB");
    let sources = [
        source("eu-west-1"),
        source("eu-west-2"),
        EcrSource {
            identity: EcrIdentity::Node,
            ..source("eu-west-1")
        },
        with_keys("a"),
        with_keys("b"),
        EcrSource {
            public: true,
            ..source("eu-west-1")
        },
        EcrSource {
            fips: true,
            ..source("eu-west-1")
        },
        EcrSource {
            endpoints: EcrEndpoints {
                ecr: Some("https://e".into()),
                ..Default::default()
            },
            ..source("eu-west-1")
        },
        EcrSource {
            endpoints: EcrEndpoints {
                sts: Some("https://e".into()),
                ..Default::default()
            },
            ..source("eu-west-1")
        },
    ];
    let outcomes = join_all(sources.iter().map(|source| world.get(source))).await;
    let mut passwords: Vec<_> = outcomes.iter().map(password).collect();
    passwords.sort();
    passwords.dedup();
    assert_eq!(passwords.len(), sources.len());
}

#[tokio::test(start_paused = true)]
async fn give_credential_mints_anew_for_rotated_keys() {
    let world = World::start(Cloud::new(10));
    let error = world.get(&with_keys("team")).await.unwrap_err();
    assert_eq!(error.reason(), "MissingSource", "{error}");
    set_keys(&world.secrets, "team", "AKIAOLD");
    let old = password(&world.get(&with_keys("team")).await);
    set_keys(&world.secrets, "team", "AKIANEW");
    let new = password(&world.get(&with_keys("team")).await);
    assert_ne!(old, new);
    set_keys(&world.secrets, "team", "AKIAOLD");
    assert_eq!(
        password(&world.get(&with_keys("team")).await),
        old,
        "turned back: still stored"
    );
    assert_eq!(world.cloud.mints(), 2);
}

#[tokio::test(start_paused = true)]
async fn give_credential_renews_in_the_background_past_half_of_its_life() {
    let world = World::start(Cloud::new(500));
    let source = source("eu-west-1");
    let first = password(&world.get(&source).await);
    world.pass(7 * 3600).await;
    let before = Instant::now();
    assert_eq!(password(&world.get(&source).await), first, "still good");
    assert_eq!(
        before.elapsed(),
        Duration::ZERO,
        "nobody waits for a renewal"
    );
    world.pass(5).await;
    assert_eq!(world.cloud.mints(), 2);
    assert_ne!(password(&world.get(&source).await), first);
}

#[tokio::test(start_paused = true)]
async fn give_credential_waits_when_the_old_one_is_spent() {
    let world = World::start(Cloud::new(500));
    let source = source("eu-west-1");
    let first = password(&world.get(&source).await);
    world.pass(13 * 3600).await;
    assert_ne!(password(&world.get(&source).await), first);
    assert_eq!(world.cloud.mints(), 2);
}

#[tokio::test(start_paused = true)]
async fn give_credential_keeps_the_old_one_while_the_cloud_fails() {
    let world = World::start(Cloud::new(10));
    let source = source("eu-west-1");
    let first = password(&world.get(&source).await);
    world.cloud.fail(true);
    // Past half, close to the end: answered. Expired: not.
    for hours in [7, 4] {
        world.pass(hours * 3600).await;
        assert_eq!(password(&world.get(&source).await), first);
        world.pass(5).await;
    }
    world.pass(58 * 60).await;
    assert_eq!(
        password(&world.get(&source).await),
        first,
        "spent, not expired"
    );
    world.pass(120).await;
    assert_eq!(
        world.get(&source).await.unwrap_err().reason(),
        "Unavailable"
    );
    world.cloud.fail(false);
    world.pass(61).await;
    assert_ne!(password(&world.get(&source).await), first);
}

#[tokio::test(start_paused = true)]
async fn give_credential_remembers_a_failure_briefly() {
    let world = World::start(Cloud::new(10));
    let (failing, other) = (source("eu-west-1"), source("eu-west-2"));
    world.cloud.fail(true);
    for _ in 0..50 {
        world.get(&failing).await.unwrap_err();
    }
    assert_eq!(world.cloud.mints(), 1);
    world.cloud.fail(false);
    world.get(&other).await.unwrap();
    assert_eq!(world.cloud.mints(), 2, "another key does not wait");
    world.get(&failing).await.unwrap_err();
    world.pass(2).await;
    world.get(&failing).await.unwrap();
    assert_eq!(world.cloud.mints(), 3);
}

#[tokio::test(start_paused = true)]
async fn give_credential_asks_a_failing_cloud_ever_more_rarely() {
    let world = World::start(Cloud::new(10));
    world.cloud.fail(true);
    for _ in 0..3600 {
        world.get(&source("eu-west-1")).await.unwrap_err();
        world.pass(1).await;
    }
    assert!(
        (60..80).contains(&world.cloud.mints()),
        "{} in an hour",
        world.cloud.mints()
    );
}

#[tokio::test(start_paused = true)]
async fn give_credential_mints_nothing_when_the_store_refuses() {
    let world = World::start(Cloud::new(10));
    world.replica.refuses.store(true, Ordering::Relaxed);
    let error = world.get(&source("eu-west-1")).await.unwrap_err();
    assert!(
        matches!(*error, MintError::Store(ClusterError::Forbidden { .. })),
        "{error}"
    );
    assert_eq!(world.cloud.mints(), 0);
}

#[tokio::test(start_paused = true)]
async fn give_credential_survives_a_panic_of_the_mint() {
    let world = World::start(Cloud::new(10));
    let source = source("eu-west-1");
    world.cloud.panics.store(true, Ordering::SeqCst);
    assert_eq!(
        world.get(&source).await.unwrap_err().reason(),
        "InternalError"
    );
    world.cloud.panics.store(false, Ordering::SeqCst);
    world.get(&source).await.unwrap();
    assert_eq!(world.cloud.mints(), 2);
}

/// What the cache forgets costs nothing: who asks the second time while the first mint is under way, after it, or after its caller
/// has hung up, gets what was minted.
#[tokio::test(start_paused = true)]
async fn mints_five_thousand_keys_once_each_in_a_cache_of_a_hundred() {
    let world = World::bounded(Cloud::new(500), 100);
    let sources: Vec<_> = (0..5_000).map(|n| source(&format!("region-{n}"))).collect();
    let hung_up = sources.iter().step_by(7).map(async |source| {
        let call = tokio::time::timeout(Duration::from_millis(50), world.get(source));
        assert!(call.await.is_err(), "hung up before the answer");
    });
    join_all(hung_up).await;
    let again = sources.iter().step_by(10);
    let both = join_all(sources.iter().chain(again).map(|source| world.get(source))).await;
    assert_eq!(world.cloud.mints(), 5_000);
    let after = join_all(sources.iter().map(|source| world.get(source))).await;
    for (before, after) in both.iter().zip(&after) {
        assert_eq!(password(before), password(after));
    }
    assert_eq!(world.cloud.mints(), 5_000);
    assert_eq!(world.shared.credentials().len(), 5_000);
}

#[tokio::test(start_paused = true)]
async fn mints_nothing_anew_when_the_store_could_not_take_it() {
    let world = World::start(Cloud::new(10));
    world.replica.takes_nothing.store(true, Ordering::Relaxed);
    let source = source("eu-west-1");
    for _ in 0..60 {
        let error = world.get(&source).await.unwrap_err();
        assert!(
            matches!(*error, MintError::Store(ClusterError::Unreachable { .. })),
            "{error}"
        );
        world.pass(1).await;
    }
    assert_eq!(world.cloud.mints(), 1);
    world.replica.takes_nothing.store(false, Ordering::Relaxed);
    world.pass(60).await;
    world.get(&source).await.unwrap();
    assert_eq!(world.cloud.mints(), 1, "what was minted is stored at last");
    assert_eq!(world.shared.credentials().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn restart_mints_nothing() {
    let world = World::start(Cloud::new(10));
    set_keys(&world.secrets, "team", "AKIA");
    let sources = [source("eu-west-1"), with_keys("team")];
    let before = join_all(sources.iter().map(|source| world.get(source))).await;
    let replica = Replica::start(&world.shared, &Seeded::new(1), 1);
    let secrets = world.secrets.clone();
    let minter = Minter::new(world.cloud.clone(), replica, secrets, Metrics::default());
    for (source, before) in sources.iter().zip(&before) {
        let after = minter
            .credential(&source.clone().into(), world.clock.now())
            .await;
        assert_eq!(password(&after), password(before));
    }
    assert_eq!(world.cloud.mints(), 2);
}

/// Two replicas with slow memories and slow writes ask for two credentials at once, in an order that the seed decides.
async fn interleave(seed: u64) {
    let seeded = Seeded::new(seed);
    let (shared, cloud) = (
        Shared::default(),
        Cloud::seeded(seeded.below(300), seeded.clone()),
    );
    let clock = Arc::new(Clock(Instant::now()));
    let minters = [(); 2].map(|()| {
        let replica = Replica::start(&shared, &seeded, 40);
        Minter::new(
            cloud.clone(),
            replica,
            Arc::new(Secrets::default()),
            Metrics::default(),
        )
    });
    for round in 0..2 {
        let calls = minters.iter().flat_map(|minter| {
            ["eu-west-1", "eu-west-2", "eu-west-1"].map(|region| (minter, region))
        });
        let calls = calls.map(|(minter, region)| {
            let (seeded, clock) = (&seeded, &clock);
            async move {
                seeded.pause(400).await;
                (
                    region,
                    password(&minter.credential(&source(region).into(), clock.now()).await),
                )
            }
        });
        let mut answers = join_all(calls).await;
        answers.sort();
        answers.dedup();
        assert_eq!(answers.len(), 2, "seed {seed}: {answers:?}");
        assert_eq!(cloud.mints(), 2 * (round + 1), "seed {seed}");
        assert_eq!(shared.credentials().len(), 2, "seed {seed}");
        tokio::time::sleep(Duration::from_hours(13)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn two_replicas_mint_once_and_agree_in_a_thousand_interleavings() {
    for seed in 0..1000 {
        interleave(seed).await;
    }
}

/// Two replicas over one store, whose clocks differ by so much.
struct Apart {
    cloud: Arc<Cloud>,
    minters: [Minter; 2],
    ahead: [SignedDuration; 2],
    began: Instant,
}

impl Apart {
    fn start(cloud: &Arc<Cloud>, ahead: SignedDuration) -> Self {
        let (shared, seeded) = (Shared::default(), Seeded::new(7));
        let minter = || {
            Minter::new(
                cloud.clone(),
                Replica::start(&shared, &seeded, 5),
                Arc::new(Secrets::default()),
                Metrics::default(),
            )
        };
        Self {
            cloud: cloud.clone(),
            minters: [minter(), minter()],
            ahead: [SignedDuration::ZERO, ahead],
            began: Instant::now(),
        }
    }

    /// Both ask at once, each by its own clock.
    async fn ask(&self, source: &EcrSource) {
        let passed = SignedDuration::try_from(self.began.elapsed()).unwrap();
        let start: Timestamp = "2026-11-21T10:00:00Z".parse().unwrap();
        let asks = self.minters.iter().zip(self.ahead).map(|(minter, ahead)| {
            let (source, now) = (source.clone().into(), start + passed + ahead);
            async move { minter.credential(&source, now).await.unwrap() }
        });
        join_all(asks).await;
    }
}

#[tokio::test(start_paused = true)]
async fn two_replicas_nine_minutes_apart_mint_once_in_an_hour() {
    for ahead in [-9, 9] {
        let cloud = Cloud::new(4_000);
        let apart = Apart::start(&cloud, SignedDuration::from_mins(ahead));
        for _ in 0..60 {
            apart.ask(&source("eu-west-1")).await;
            tokio::time::sleep(Duration::from_mins(1)).await;
        }
        assert_eq!(cloud.mints(), 1, "{ahead}");
    }
}

#[tokio::test(start_paused = true)]
async fn mints_once_anew_what_a_clock_hours_ahead_minted_and_says_clock() {
    let log = Log::begin();
    let cloud = Cloud::new(10);
    let mut apart = Apart::start(&cloud, SignedDuration::ZERO);
    apart.ahead = [SignedDuration::from_hours(3); 2];
    apart.ask(&source("eu-west-1")).await;
    assert_eq!(apart.cloud.mints(), 1);
    // The clock is right again.
    apart.ahead = [SignedDuration::ZERO; 2];
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_mins(1)).await;
        apart.ask(&source("eu-west-1")).await;
    }
    assert_eq!(apart.cloud.mints(), 2);
    let log = log.end();
    assert!(log.contains("clock"), "{log}");
}

#[tokio::test(start_paused = true)]
async fn other_replica_takes_over_when_one_dies_in_a_mint() {
    let (shared, seeded) = (Shared::default(), Seeded::new(3));
    let clock = Clock(Instant::now());
    let dying = Cloud::new(60_000);
    // It cannot write any more once it minted, and does not extend its claim: it is gone.
    let gone = Replica::start(&shared, &seeded, 1);
    gone.takes_nothing.store(true, Ordering::Relaxed);
    let first = Minter::new(
        dying.clone(),
        gone,
        Arc::new(Secrets::default()),
        Metrics::default(),
    );
    let hung = tokio::time::timeout(
        Duration::from_secs(1),
        first.credential(&source("eu-west-1").into(), clock.now()),
    )
    .await;
    assert!(hung.is_err());
    assert_eq!(dying.mints(), 1);
    let cloud = Cloud::new(10);
    let second = Minter::new(
        cloud.clone(),
        Replica::start(&shared, &seeded, 1),
        Arc::new(Secrets::default()),
        Metrics::default(),
    );
    let before = Instant::now();
    second
        .credential(&source("eu-west-1").into(), clock.now())
        .await
        .unwrap();
    assert_eq!(cloud.mints(), 1);
    figure::within(
        "a mint after a claim whose maker died",
        before.elapsed(),
        Duration::from_secs(11),
    );
}

#[test]
fn derive_key_is_the_same_for_the_same_source_alone() {
    let secrets = Secrets::default();
    set_keys(&secrets, "team", "AKIA1");
    let key = |source: &EcrSource| CredentialKey::of(&source.clone().into(), &secrets).unwrap();
    assert_eq!(key(&source("eu-west-1")), key(&source("eu-west-1")));
    assert_ne!(key(&source("eu-west-1")), key(&source("eu-west-2")));
    let before = key(&with_keys("team"));
    set_keys(&secrets, "team", "AKIA2");
    assert_ne!(before, key(&with_keys("team")));
    assert_eq!(CredentialKey::parse(before.as_str()), Some(before.clone()));
    for bad in [
        "",
        "a",
        &before.as_str().to_uppercase(),
        "../../../../etc/passwd",
    ] {
        assert_eq!(CredentialKey::parse(bad), None);
    }
}

#[tokio::test(start_paused = true)]
async fn no_secret_reaches_a_log_a_message_or_a_metric() {
    let log = Log::begin();
    let mut registry = prometheus_client::registry::Registry::default();
    let metrics = Metrics::register(&mut registry);
    let world = World::start(Cloud::new(10));
    let minter = Minter::new(
        world.cloud.clone(),
        world.replica.clone(),
        world.secrets.clone(),
        metrics,
    );
    set_keys(&world.secrets, "team", "AKIA");
    let credential = minter
        .credential(&with_keys("team").into(), world.clock.now())
        .await
        .unwrap();
    world.cloud.fail(true);
    let error = minter
        .credential(&source("eu-west-2").into(), world.clock.now())
        .await
        .unwrap_err();
    let mut text = format!(
        "{credential:?} {error} {error:?} {:?}",
        world.secrets.source("team")
    );
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    let log = log.end();
    assert!(
        log.contains("minted credential") && log.contains("failed to mint credential"),
        "{log}"
    );
    assert!(
        text.contains(r#"pullpass_mints_total{provider="ecr",outcome="unavailable"} 1"#),
        "{text}"
    );
    for canary in CANARIES {
        assert!(
            !text.contains(canary) && !log.contains(canary),
            "{canary}: {text} {log}"
        );
    }
}

/// F9: an agent that takes longer than a claim holds, and than any admission waits. Its mint goes on, other replicas wait for it as long as
/// it does, and whoever asks then has it.
#[tokio::test(start_paused = true)]
async fn mint_that_outlives_a_claim_and_whoever_waited_is_made_once_and_there_for_the_next() {
    let (shared, seeded) = (Shared::default(), Seeded::new(5));
    let clock = Clock(Instant::now());
    let cloud = Cloud::new(25_000);
    let minter = || {
        Minter::new(
            cloud.clone(),
            Replica::start(&shared, &seeded, 5),
            Arc::new(Secrets::default()),
            Metrics::default(),
        )
    };
    let (first, second) = (minter(), minter());
    let source = source("eu-west-1").into();
    // As an admission does, both give up waiting.
    for minter in [&first, &second] {
        let wait = Duration::from_secs(8);
        let asked = tokio::time::timeout(wait, minter.credential(&source, clock.now()));
        assert!(asked.await.is_err());
    }
    tokio::time::sleep(Duration::from_secs(12)).await;
    for minter in [&first, &second] {
        let found = minter.credential(&source, clock.now()).await;
        assert!(found.is_ok(), "{found:?}");
    }
    assert_eq!(cloud.mints(), 1);
}
