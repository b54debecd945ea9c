//! Configured, opted in, never asked: what the leader finds out of an API server that does not reach the webhook, by the evidence that
//! a real one shows, under pullpass' own rights. Only how long is waited is shorter than in service.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use kube::config::{KubeConfigOptions, Kubeconfig};
use prometheus_client::registry::Registry as MetricsRegistry;
use pullpass::admission::{self, PodChecker};
use pullpass::cluster::{Kube, KubeCredentialStore, Watches};
use pullpass::controller::missed_pods::calls::{CallTiming, UnaskedPod};
use pullpass::controller::missed_pods::webhook_calls::WebhookCalls;
use pullpass::controller::missed_pods::{self, MissedPodScanner};
use pullpass::controller::{self, Leadership, Reconciler, SeenNodes};
use pullpass::credential::{Credential, MintError};
use pullpass::provision::Provisioner;
use pullpass::provision::changes::ChangeLog;
use pullpass::provision::ports::{ClusterError, Credentials};
use pullpass::provision::state::State;
use pullpass::registry::source::MintSource;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::support::fixture::{Fixture, OWN};
use super::support::process::configuration;
use super::support::wait;
use super::{hang, notes, pod};

const SCANS: &str = "pullpass_missed_pod_scans_total{outcome=\"succeeded\"}";
const NOT_CALLED: &str = "pullpass_webhook_not_called";

/// Fixed logins need no mint.
#[derive(Default)]
struct NoCloud(ChangeLog<String>);

#[async_trait]
impl Credentials for NoCloud {
    fn current(&self, _: &MintSource) -> Option<Arc<Credential>> {
        None
    }

    async fn mint(&self, _: &MintSource, _: Timestamp) -> Result<Arc<Credential>, Arc<MintError>> {
        Err(Arc::new(MintError::TaskPanicked))
    }

    async fn renew(
        &self,
        source: &MintSource,
        now: Timestamp,
    ) -> Result<Arc<Credential>, Arc<MintError>> {
        self.mint(source, now).await
    }

    async fn refresh(&self, _: &MintSource) -> Result<(), ClusterError> {
        Ok(())
    }

    fn changes(&self) -> &ChangeLog<String> {
        &self.0
    }
}

/// The cluster as pullpass' own account sees it.
async fn connect(fixture: &Fixture) -> Kube {
    let launch = fixture.launch().await;
    let config = Kubeconfig::read_from(&launch.kubeconfig).unwrap();
    let options = KubeConfigOptions::default();
    let config = kube::Config::from_custom_kubeconfig(config, &options).await;
    let client = kube::Client::try_from(config.unwrap()).unwrap();
    Kube::new(client, OWN.parse().unwrap())
}

/// What the watches know, once each has shown everything.
async fn run_watches(kube: &Kube) -> Arc<State> {
    let state = Arc::new(State::default());
    let store = Arc::new(KubeCredentialStore::new(kube.clone()));
    let watches = Watches::new(kube, &state, &store);
    let mut synced = watches.synced();
    tokio::spawn(watches.run());
    synced.wait().await;
    state
}

/// A leader that was ready long ago.
struct Leader {
    calls: WebhookCalls,
    shown: MetricsRegistry,
    _leads: watch::Sender<Leadership>,
}

fn lead() -> (watch::Sender<Leadership>, watch::Receiver<Leadership>) {
    watch::channel(Leadership {
        leads: true,
        confirmed: None,
    })
}

impl Leader {
    async fn start(fixture: &Fixture) -> Self {
        let kube = connect(fixture).await;
        let state = run_watches(&kube).await;
        let clock = Timestamp::now;
        let provisioner = Provisioner::new(
            state,
            Arc::new(kube.clone()),
            Arc::new(NoCloud::default()),
            clock,
        );
        let calls = WebhookCalls::default();
        calls.set_ready(Timestamp::UNIX_EPOCH);
        let metrics = missed_pods::Metrics::default();
        let mut shown = MetricsRegistry::default();
        metrics.register(&mut shown);
        let scanner = MissedPodScanner {
            kube: kube.clone(),
            provisioner: provisioner.clone(),
            check: PodChecker::new(Arc::new(provisioner.clone())),
            nodes: SeenNodes::default(),
            admissions: admission::Metrics::default(),
            calls: calls.clone(),
            timing: CallTiming {
                settle: SignedDuration::ZERO,
                patience: SignedDuration::from_secs(2),
            },
            metrics,
            interval: SignedDuration::from_secs(1),
            clock,
        };
        let own = kube.namespace().clone();
        let reconciler = Reconciler::new(
            provisioner,
            Arc::new(NoCloud::default()),
            Arc::new(kube),
            controller::Metrics::default(),
            own,
            clock,
        );
        let reconciler = reconciler.with_webhook_calls(calls.clone());
        let (leads, leadership) = lead();
        tokio::spawn(scanner.run(leadership.clone()));
        tokio::spawn(reconciler.run(leadership));
        Self {
            calls,
            shown,
            _leads: leads,
        }
    }

    /// What a metric shows.
    fn metric(&self, name: &str) -> u64 {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.shown).unwrap();
        let mut lines = text.lines();
        let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.unwrap().parse().unwrap()
    }

    /// Waits until two more scans were made, the second of which saw what is there now.
    async fn scan_twice(&self) {
        let before = self.metric(SCANS);
        wait::until("two scans", async || {
            (self.metric(SCANS) >= before + 2).then_some(())
        })
        .await;
    }

    async fn wait_unasked(&self) -> Arc<UnaskedPod> {
        wait::until("a pod that nobody was asked about", async || {
            self.calls.unasked()
        })
        .await
    }
}

/// A static Registry of this name, for images of this host.
async fn serve(fixture: &Fixture, name: &str, host: &str) {
    let secret = format!("{name}-login");
    let login = json!({"username": "robot", "password": "canary"});
    fixture
        .put_source(&secret, "kubernetes.io/basic-auth", login)
        .await;
    let spec = json!({"images": [host], "static": {"secretRef": {"name": secret}}});
    fixture.put_registry(name, spec).await;
}

/// The configuration by which the API server is to call pullpass, where nobody answers.
async fn configure(fixture: &Fixture) {
    let url = "https://127.0.0.1:1/mutate";
    let mut object = configuration(url, &[], "scene", fixture.name);
    object["metadata"]["name"] = "00-pullpass".into();
    fixture.cluster.apply(&object).await;
}

/// Creates a Pod whose image cannot be pulled; answers its name and when it was created.
async fn create(
    fixture: &Fixture,
    namespace: &str,
    image: &str,
    spec: Value,
) -> (String, Timestamp) {
    let mut object = pod(namespace, &[image]);
    for (key, value) in spec.as_object().unwrap() {
        object["spec"][key] = value.clone();
    }
    let made = fixture.cluster.create_pod(&object, "").await.ok().body;
    let metadata = &made["metadata"];
    let created = metadata["creationTimestamp"].as_str().unwrap();
    let name = metadata["name"].as_str().unwrap().to_owned();
    hang(fixture, namespace, &name).await;
    (name, created.parse().unwrap())
}

/// Waits until the API server would give a later time, of whole seconds, than this one.
async fn pass(fixture: &Fixture, moment: Timestamp) {
    let probe = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "clock-", "namespace": "default"}});
    wait::until("the next second", async || {
        let path = "/api/v1/namespaces/default/configmaps?dryRun=All";
        let answer = fixture.cluster.send("POST", path, Some(&probe)).await.ok();
        let now = answer.body["metadata"]["creationTimestamp"].as_str()?;
        (now.parse::<Timestamp>().ok()? > moment).then_some(())
    })
    .await;
}

async fn degraded(fixture: &Fixture, registry: &str) -> Option<Value> {
    let path = format!("/apis/pullpass.dev/v1alpha1/registries/{registry}");
    let found = fixture.cluster.get(&path).await?;
    let conditions = found["status"]["conditions"].as_array()?.clone();
    conditions
        .into_iter()
        .find(|condition| condition["type"] == "Degraded")
}

/// What `pullpass check` prints as an administrator, and whether it found nothing wrong.
async fn check(fixture: &Fixture) -> (String, bool) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pullpass"));
    command
        .arg("check")
        .arg("--kubeconfig")
        .arg(fixture.world.kubeconfig())
        .env_clear();
    let output = tokio::task::spawn_blocking(move || command.output());
    let output = output.await.unwrap().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (text, output.status.success())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn says_that_the_api_server_does_not_reach_the_webhook_until_it_does() {
    let fixture = Fixture::alone("uncalled").await;
    serve(&fixture, "team", "registry.invalid").await;
    let shop = fixture.namespace("shop").await;
    configure(&fixture).await;
    let leader = Leader::start(&fixture).await;
    // The pull secret is there before the Pod, as it is where the leader works.
    wait::until("the pull secret", async || {
        fixture.has_pull_secret(&shop).await.then_some(())
    })
    .await;
    leader.scan_twice().await;
    assert_eq!(leader.calls.unasked(), None, "nothing was created yet");
    assert_eq!(leader.metric(NOT_CALLED), 0);

    pass(&fixture, Timestamp::now()).await;
    let (name, created) = create(&fixture, &shop, "registry.invalid/a", json!({})).await;
    let unasked = leader.wait_unasked().await;
    assert_eq!((&*unasked.name, &*unasked.namespace), (&*name, &*shop));
    assert_eq!(unasked.created, created);
    wait::until("the metric", async || {
        (leader.metric(NOT_CALLED) == 1).then_some(())
    })
    .await;
    let said = format!(
        "the API server cannot reach the webhook: no replica was asked about Pod {shop}/{name}"
    );
    assert_is_said(&fixture, &said).await;

    // A Pod that comes with its reference: another replica was asked about it.
    pass(&fixture, created).await;
    let reference = json!({"imagePullSecrets": [{"name": "pullpass"}]});
    let (_, asked) = create(&fixture, &shop, "registry.invalid/a", reference).await;
    wait::until("it to be withdrawn", async || {
        (leader.calls.unasked().is_none() && leader.metric(NOT_CALLED) == 0).then_some(())
    })
    .await;
    wait::until("the condition to be gone", async || {
        let condition = degraded(&fixture, "team").await?;
        (condition["status"] == "False").then_some(())
    })
    .await;
    let (printed, _) = check(&fixture).await;
    assert!(!printed.contains(&said), "{printed}");

    // It was called, so that one more Pod alone may be an accident: two of them, some time apart, are none.
    pass(&fixture, asked).await;
    let (_, first) = create(&fixture, &shop, "registry.invalid/a", json!({})).await;
    pass(&fixture, first + Duration::from_secs(4)).await;
    leader.scan_twice().await;
    assert_eq!(leader.calls.unasked(), None);
    let (name, _) = create(&fixture, &shop, "registry.invalid/a", json!({})).await;
    assert_eq!(leader.wait_unasked().await.name, name.as_str());
}

/// A condition, an Event and `check` say it, with the usual causes.
async fn assert_is_said(fixture: &Fixture, said: &str) {
    let condition = wait::until("the condition", async || {
        let condition = degraded(fixture, "team").await?;
        (condition["status"] == "True").then_some(condition)
    })
    .await;
    assert_eq!(condition["reason"], "WebhookNotCalled");
    assert!(
        condition["message"].as_str().unwrap().starts_with(said),
        "{condition}"
    );
    let events = notes(fixture, "default", "WebhookNotCalled").await;
    assert!(events["00-pullpass"].starts_with(said), "{events:?}");
    assert!(events["00-pullpass"].contains("overlay CNI"), "{events:?}");
    let (printed, is_well) = check(fixture).await;
    assert!(!is_well && printed.contains(said), "{printed}");
    for cause in ["overlay CNI", "firewall", "NetworkPolicy", "mesh"] {
        assert!(printed.contains(cause), "{cause}: {printed}");
    }
}

/// Each of these Pods lacks its reference, and none shows that the API server does not call.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn raises_no_false_alarm_where_a_change_explains_that_nobody_was_asked() {
    let fixture = Fixture::alone("explained").await;
    for (name, host) in [("same", "same.invalid"), ("changed", "changed.invalid")] {
        serve(&fixture, name, host).await;
    }
    let shop = fixture.namespace("shop").await;
    let late = fixture.namespace_name("late");
    let labels = json!({"scene": fixture.name});
    super::make_namespace(&fixture.cluster, &late, &labels).await;
    // The pull secret is older than all that follows.
    let leader = Leader::start(&fixture).await;
    wait::until("the pull secret", async || {
        fixture.has_pull_secret(&shop).await.then_some(())
    })
    .await;
    drop(leader);
    pass(&fixture, Timestamp::now()).await;
    // Before the API server was configured.
    let (_, before) = create(&fixture, &shop, "same.invalid/a", json!({})).await;
    pass(&fixture, before).await;
    configure(&fixture).await;
    pass(&fixture, Timestamp::now()).await;
    create(&fixture, &late, "same.invalid/a", json!({})).await;
    create(&fixture, &shop, "changed.invalid/a", json!({})).await;
    let (relabelled, created) = create(&fixture, &shop, "same.invalid/a", json!({})).await;
    pass(&fixture, created + Duration::from_secs(1)).await;
    // The namespace opts in, the Registry and the Pod are changed.
    fixture.namespace("late").await;
    let spec = json!({
        "images": ["changed.invalid"], "excludedImages": ["changed.invalid/x"],
        "static": {"secretRef": {"name": "changed-login"}},
    });
    fixture.put_registry("changed", spec).await;
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": relabelled, "namespace": shop, "labels": {"tier": "web"}},
    });
    fixture.cluster.apply(&pod).await;

    let leader = Leader::start(&fixture).await;
    pass(&fixture, Timestamp::now() + Duration::from_secs(2)).await;
    leader.scan_twice().await;
    assert_eq!(leader.calls.unasked(), None);
    // And it does find one that nothing explains.
    let (name, _) = create(&fixture, &shop, "same.invalid/a", json!({})).await;
    assert_eq!(leader.wait_unasked().await.name, name.as_str());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn finds_pods_that_run_from_an_image_that_the_node_has() {
    let fixture = Fixture::alone("cached").await;
    serve(&fixture, "team", "registry.invalid").await;
    let shop = fixture.namespace("shop").await;
    configure(&fixture).await;
    let leader = Leader::start(&fixture).await;
    pass(&fixture, Timestamp::now()).await;
    let (name, _) = create(&fixture, &shop, "registry.invalid/a", json!({})).await;
    let status = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": shop},
        "status": {"phase": "Running"},
    });
    let path =
        format!("/api/v1/namespaces/{shop}/pods/{name}/status?fieldManager=kubelet&force=true");
    fixture
        .cluster
        .send("PATCH", &path, Some(&status))
        .await
        .ok();
    assert_eq!(leader.wait_unasked().await.name, name.as_str());
}
