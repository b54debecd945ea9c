//! Serving a cluster: everything put together.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use futures::FutureExt as _;
use jiff::Timestamp;
use tokio::sync::{oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};

use super::certificates::WebhookCertificates;
use super::manager::Manager;
use super::{Args, LOG_INTERVAL, user};
use crate::admission::PodChecker;
use crate::broker::{self, Broker};
use crate::cluster::{
    Connection, Kube, KubeCredentialStore, MintedCredentials, NodeRecorder, Synced, Watches,
    connect,
};
use crate::controller::missed_pods::calls::CallTiming;
use crate::controller::missed_pods::webhook_calls::WebhookCalls;
use crate::controller::{
    self, CertRotator, CheckedLogins, CredentialGc, LeaderElector, LoginCheckLoop,
    LoginCheckMetrics, MissedPodScanner, NodeListLoop, Reconciler, RenewalRate, SeenNodes,
    missed_pods,
};
use crate::credential::acr::{self, AcrMint};
use crate::credential::cache::Minter;
use crate::credential::ecr::EcrMint;
use crate::credential::http::HttpClient;
use crate::credential::identity::AwsEnvironment;
use crate::credential::mint::Clouds;
use crate::credential::proxy::find_proxy;
use crate::credential::{Metrics, SourceSecrets};
use crate::provision::Provisioner;
use crate::provision::state::State;
use crate::server::{Drain, Phase};

/// How long pull secrets that are being written when the process stops are waited for.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves a cluster until the process is stopped.
pub(super) async fn serve(args: &Args, mut manager: Manager) -> anyhow::Result<()> {
    let kube = connect(&connection(args)).await?;
    let kube = kube.reporting_as(&host_name());
    tracing::info!(
        namespace.name = kube.namespace().as_str(),
        "running in namespace"
    );
    manager.excluded = Arc::clone(kube.excluded());
    kube.metrics().register(&mut manager.metrics);
    let state = Arc::new(State::default());
    let store = Arc::new(KubeCredentialStore::new(kube.clone()));
    let mut watches = Watches::new(&kube, &state, &store);
    let certificates = WebhookCertificates::prepare(args, &kube, &mut watches, &mut manager);
    let user = confirm_user(args, &kube, &mut manager);
    let synced = watches.synced().and(user::WAITING, user);
    let http = build_http(args)?;
    let (provisioner, minted) = assemble(&http, &mut manager, kube.clone(), state, store);
    if manager.has_broker() {
        serve_broker(&kube, &provisioner, &mut manager);
    }
    let calls = WebhookCalls::default();
    let control = (!args.no_controller).then(|| {
        let (made, known) = (&certificates, &provisioner);
        let controllers = Controllers::new(args, kube, known, minted, made, &calls, &mut manager);
        let controllers = controllers.with_login_checks(known, http, &mut manager);
        controllers.start(synced.clone(), &mut manager)
    });
    manager.tasks.spawn(async move {
        let what = watches.run().await;
        Err(anyhow!(
            "the watch of {what} ended unexpectedly: this is a bug"
        ))
    });
    let trusted = certificates.start(&mut manager);
    let drain = manager.drain.clone();
    let prepared = async move {
        wait_for(synced, &drain).await;
        trusted.await;
        calls.set_ready(Timestamp::now());
    };
    manager.run(Arc::new(provisioner.clone()), prepared).await?;
    settle(control, &provisioner).await;
    Ok(())
}

/// Has kubelets answered.
fn serve_broker(kube: &Kube, provisioner: &Provisioner, manager: &mut Manager) {
    let metrics = broker::Metrics::default();
    metrics.register(&mut manager.metrics);
    let recorder = NodeRecorder::new(kube.clone(), provisioner.clone(), Timestamp::now);
    let (provisioner, cluster) = (provisioner.clone(), Arc::new(kube.clone()));
    let broker = Broker::new(provisioner, cluster, metrics, Timestamp::now);
    manager.set_broker(broker.with_node_requests(Arc::new(recorder.clone())));
    manager.tasks.spawn(recorder.run().map(Ok));
}

/// Waits for what is still being written when the process was told to stop.
async fn settle(control: Option<JoinHandle<()>>, provisioner: &Provisioner) {
    let settled = async {
        if let Some(control) = control {
            // It ends when the process is stopped; a panic of it was logged.
            drop(control.await);
        }
        provisioner.drain().await;
    };
    let settled = tokio::time::timeout(SHUTDOWN_TIMEOUT, settled).await;
    if settled.is_err() {
        tracing::warn!("shutdown timed out with pull secret writes in flight");
    }
}

fn connection(args: &Args) -> Connection {
    Connection {
        kubeconfigs: args.kubeconfig.iter().cloned().collect(),
        context: args.context.clone(),
        namespace: args.manager.namespace.clone(),
        excluded: args.manager.exclude.exclude_namespaces.clone(),
    }
}

/// The client of everything but the API server.
fn build_http(args: &Args) -> anyhow::Result<HttpClient> {
    let extra_ca = match &args.extra_ca {
        Some(path) => {
            Some(std::fs::read(path).with_context(|| format!("--extra-ca {}", path.display()))?)
        }
        None => None,
    };
    let variable = |name: &str| std::env::var(name).ok();
    HttpClient::build(extra_ca.as_deref(), find_proxy(variable)?)
        .context("--extra-ca, or the machine's own CA certificates")
}

fn assemble(
    http: &HttpClient,
    manager: &mut Manager,
    kube: Kube,
    state: Arc<State>,
    store: Arc<KubeCredentialStore>,
) -> (Provisioner, Arc<MintedCredentials>) {
    let variable = |name: &str| std::env::var(name).ok();
    let environment = AwsEnvironment::find(variable);
    let secrets: Arc<dyn SourceSecrets> = state.clone();
    let tokens = Arc::new(kube.clone());
    let minter = Minter::new(
        Arc::new(Clouds {
            ecr: EcrMint::new(http.clone(), environment).with_tokens(tokens.clone()),
            acr: AcrMint::new(http.clone(), acr::AzureEnvironment::find(variable))
                .with_tokens(tokens),
        }),
        store.clone(),
        Arc::clone(&secrets),
        Metrics::register(&mut manager.metrics),
    );
    let credentials = Arc::new(MintedCredentials::new(minter, store, secrets));
    let provisioner = Provisioner::new(state, Arc::new(kube), credentials.clone(), Timestamp::now);
    (provisioner, credentials)
}

/// The controller, ready to be started.
struct Controllers {
    elector: LeaderElector,
    reconciler: Reconciler,
    credential_gc: CredentialGc,
    cert_rotator: Option<CertRotator>,
    missed_pods: Option<MissedPodScanner>,
    node_lists: NodeListLoop,
    login_checks: Option<LoginCheckLoop>,
}

impl Controllers {
    fn new(
        args: &Args,
        kube: Kube,
        provisioner: &Provisioner,
        minted: Arc<MintedCredentials>,
        certificates: &WebhookCertificates,
        calls: &WebhookCalls,
        manager: &mut Manager,
    ) -> Self {
        let nodes = SeenNodes::default();
        let missed_pods = missed_pod_scanner(args, &kube, provisioner, calls, &nodes, manager);
        let metrics = controller::Metrics::default();
        metrics.register(&mut manager.metrics);
        let cert_rotator = certificates.cert_rotator(&kube);
        let own_namespace = kube.namespace().clone();
        let reconciler = Reconciler::new(
            provisioner.clone(),
            minted.clone(),
            Arc::new(kube.clone()),
            metrics,
            own_namespace,
            Timestamp::now,
        )
        .with_renewal_rate(RenewalRate {
            base: args.renewals_per_second.into(),
            max: args.max_renewals_per_second.into(),
        })
        .with_webhook_calls(calls.clone())
        .with_seen_nodes(nodes.clone());
        let node_lists = NodeListLoop {
            kube: kube.clone(),
            provisioner: provisioner.clone(),
            seen: nodes,
            clock: Timestamp::now,
        };
        let credential_gc = CredentialGc {
            provisioner: provisioner.clone(),
            kube: kube.clone(),
            minted,
            clock: Timestamp::now,
        };
        Self {
            elector: LeaderElector::new(kube, identity()),
            reconciler,
            credential_gc,
            cert_rotator,
            missed_pods,
            node_lists,
            login_checks: None,
        }
    }

    /// With fixed logins tried over `http`.
    fn with_login_checks(
        self,
        provisioner: &Provisioner,
        http: HttpClient,
        manager: &mut Manager,
    ) -> Self {
        let (logins, metrics) = (CheckedLogins::default(), LoginCheckMetrics::default());
        metrics.register(&mut manager.metrics);
        let known = provisioner.clone();
        let (checker, results) = (Arc::new(http), logins.clone());
        let login_checks = LoginCheckLoop::new(known, checker, results, metrics, Timestamp::now);
        Self {
            reconciler: self.reconciler.with_checked_logins(logins),
            login_checks: Some(login_checks),
            ..self
        }
    }

    /// Runs the leader election once every watch has synced, until the process is stopped; then releases the Lease.
    fn start(self, mut synced: Synced, manager: &mut Manager) -> JoinHandle<()> {
        let drain = manager.drain.clone();
        let (running, ended) = oneshot::channel::<()>();
        manager.tasks.spawn(async move {
            drop(ended.await);
            Err(anyhow!("the controller ended unexpectedly: this is a bug"))
        });
        tokio::spawn(async move {
            let _running = running;
            let stop = drain.reached(Phase::Draining);
            tokio::select! {
                () = synced.wait() => {}
                () = stop => return,
            }
            let leadership = self.elector.leadership();
            // A task of its own: whatever the others are busy with, the Lease is renewed in time. It is aborted where they panic.
            let mut elector = JoinSet::new();
            elector.spawn(async move { self.elector.run(drain.reached(Phase::Draining)).await });
            let elector = async {
                if let Some(Err(error)) = elector.join_next().await
                    && error.is_panic()
                {
                    std::panic::resume_unwind(error.into_panic());
                }
            };
            let cert_rotator = async {
                if let Some(cert_rotator) = self.cert_rotator {
                    cert_rotator.run(leadership.clone()).await;
                }
            };
            let missed_pods = async {
                if let Some(missed_pods) = self.missed_pods {
                    missed_pods.run(leadership.clone()).await;
                }
            };
            let login_checks = async {
                if let Some(login_checks) = self.login_checks {
                    login_checks.run(leadership.clone()).await;
                }
            };
            tokio::join!(
                elector,
                self.reconciler.run(leadership.clone()),
                self.credential_gc.run(leadership.clone()),
                cert_rotator,
                missed_pods,
                self.node_lists.run(leadership.clone()),
                login_checks
            );
        })
    }
}

/// The scanner for missed Pods; `None`: it is switched off.
fn missed_pod_scanner(
    args: &Args,
    kube: &Kube,
    provisioner: &Provisioner,
    calls: &WebhookCalls,
    nodes: &SeenNodes,
    manager: &mut Manager,
) -> Option<MissedPodScanner> {
    let interval = args.missed_pod_scan_interval;
    if interval.is_zero() {
        return None;
    }
    let metrics = missed_pods::Metrics::default();
    metrics.register(&mut manager.metrics);
    Some(MissedPodScanner {
        kube: kube.clone(),
        provisioner: provisioner.clone(),
        check: PodChecker::new(Arc::new(provisioner.clone())),
        admissions: manager.admissions.clone(),
        calls: calls.clone(),
        nodes: nodes.clone(),
        timing: CallTiming::default(),
        metrics,
        interval,
        clock: Timestamp::now,
    })
}

/// A Pod's host name is its name.
fn host_name() -> String {
    std::env::var("HOSTNAME").unwrap_or_else(|_| "pullpass".to_owned())
}

/// Has the API server asked who this process is; the answer becomes true once that is the expected user.
fn confirm_user(args: &Args, kube: &Kube, manager: &mut Manager) -> watch::Receiver<bool> {
    let own_namespace = kube.namespace();
    let expected = args.user.clone();
    let expected = expected.unwrap_or_else(|| user::default_user(own_namespace));
    let (sender, confirmed) = watch::channel(false);
    let confirm = user::confirm(kube.clone(), expected, manager.drain.clone(), sender);
    tokio::spawn(confirm);
    confirmed
}

/// A name for this process that no other replica has, nor had.
fn identity() -> String {
    let host = host_name();
    let started = Timestamp::now().as_microsecond();
    format!("{host}_{}_{started}", std::process::id())
}

/// Waits until Pods can be served, and says now and then what is missing.
async fn wait_for(mut synced: Synced, drain: &Drain) {
    while tokio::time::timeout(LOG_INTERVAL, synced.wait_servable())
        .await
        .is_err()
    {
        let mut missing = synced.missing();
        // It says itself what it is about.
        missing.retain(|what| *what != user::WAITING);
        let waiting = format!("waiting for caches to sync: {}", missing.join(", "));
        let waiting = Some(waiting).filter(|_| !missing.is_empty());
        if let Some(waiting) = &waiting {
            tracing::warn!("not ready: {waiting}");
        }
        drain.set_obstacle("caches", waiting);
    }
    let listing = synced.missing();
    if !listing.is_empty() {
        tracing::info!(
            "serving while caches sync: {}; pull secrets that are not cached yet are read as Pods need them",
            listing.join(", ")
        );
    }
    drain.set_obstacle("caches", None);
}
