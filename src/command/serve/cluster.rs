//! Serving a cluster: everything put together.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use jiff::Timestamp;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::Args;
use super::certificates::Own;
use super::shell::Shell;
use crate::admission::Judge;
use crate::cluster::{Connection, Kube, Minted, Store, Synced, Watches, connect};
use crate::controller::{self, Candidate, Certifier, CredentialGc, Keeper, Missed, missed};
use crate::credential::acr::{self, AcrMint};
use crate::credential::cache::Minter;
use crate::credential::ecr::EcrMint;
use crate::credential::http::{HttpClient, ProxyConfig};
use crate::credential::identity::Environment;
use crate::credential::mint::Clouds;
use crate::credential::{Metrics, SourceSecrets};
use crate::provision::Ensure;
use crate::provision::decide::Pace;
use crate::provision::state::State;
use crate::server::Phase;

/// How often it is said what readiness waits for.
pub(super) const TELL_EVERY: Duration = Duration::from_secs(10);

/// How long pull secrets that are being written when the process stops are waited for.
const SETTLE: Duration = Duration::from_secs(10);

/// Serves a cluster until the process is told to stop.
pub(super) async fn serve(args: &Args, mut shell: Shell) -> anyhow::Result<()> {
    let kube = connect(&connection(args)).await?;
    tracing::info!(
        namespace.name = kube.namespace().as_str(),
        "pullpass' own namespace"
    );
    shell.own_namespace = kube.namespace().clone();
    kube.metrics().register(&mut shell.metrics);
    let state = Arc::new(State::default());
    let store = Arc::new(Store::new(kube.clone()));
    let mut watches = Watches::new(&kube, &state, &store);
    let own = Own::prepare(args, &kube, &mut watches, &mut shell);
    let synced = watches.synced();
    let (ensure, minted) = assemble(args, &mut shell, kube.clone(), state, store)?;
    let control = (!args.no_controller).then(|| {
        let control = Control::new(args, kube, &ensure, minted, &own, &mut shell);
        control.start(synced.clone(), &mut shell)
    });
    shell.tasks.spawn(async move {
        let what = watches.run().await;
        Err(anyhow!("the watch of {what} ended: this is a bug"))
    });
    let trusted = own.start(&mut shell);
    let prepared = async {
        wait_for(synced).await;
        trusted.await;
    };
    shell.run(Arc::new(ensure.clone()), prepared).await?;
    let settle = async {
        if let Some(control) = control {
            // It was told to stop when the process was; that it panicked was logged.
            drop(control.await);
        }
        ensure.settle().await;
    };
    if tokio::time::timeout(SETTLE, settle).await.is_err() {
        tracing::warn!("pull secrets that were being written were left as they are");
    }
    Ok(())
}

fn connection(args: &Args) -> Connection {
    Connection {
        kubeconfig: args.kubeconfig.clone(),
        context: args.context.clone(),
        namespace: args.shell.namespace.clone(),
    }
}

fn assemble(
    args: &Args,
    shell: &mut Shell,
    kube: Kube,
    state: Arc<State>,
    store: Arc<Store>,
) -> anyhow::Result<(Ensure, Arc<Minted>)> {
    let extra_ca = match &args.extra_ca {
        Some(path) => {
            Some(std::fs::read(path).with_context(|| format!("--extra-ca {}", path.display()))?)
        }
        None => None,
    };
    let http = HttpClient::build(extra_ca.as_deref(), ProxyConfig::from_env())
        .context("--extra-ca, or the machine's own CA certificates")?;
    let variable = |name: &str| std::env::var(name).ok();
    let environment = Environment::find(variable);
    let secrets: Arc<dyn SourceSecrets> = state.clone();
    let tokens = Arc::new(kube.clone());
    let minter = Minter::new(
        Arc::new(Clouds {
            ecr: EcrMint::new(http.clone(), environment).with_tokens(tokens.clone()),
            acr: AcrMint::new(http, acr::Environment::find(variable)).with_tokens(tokens),
        }),
        store.clone(),
        Arc::clone(&secrets),
        Metrics::register(&mut shell.metrics),
    );
    let credentials = Arc::new(Minted::new(minter, store, secrets));
    let ensure = Ensure::new(state, Arc::new(kube), credentials.clone(), Timestamp::now);
    Ok((ensure, credentials))
}

/// The controller, ready to be started.
struct Control {
    candidate: Candidate,
    keeper: Keeper,
    credential_gc: CredentialGc,
    certifier: Option<Certifier>,
    missed: Option<Missed>,
}

impl Control {
    fn new(
        args: &Args,
        kube: Kube,
        ensure: &Ensure,
        minted: Arc<Minted>,
        own: &Own,
        shell: &mut Shell,
    ) -> Self {
        let missed = look_for_missed(args, &kube, ensure, shell);
        let metrics = controller::Metrics::default();
        metrics.register(&mut shell.metrics);
        let certifier = own.certifier(&kube);
        let own_namespace = kube.namespace().clone();
        let keeper = Keeper::new(
            ensure.clone(),
            minted.clone(),
            Arc::new(kube.clone()),
            metrics,
            own_namespace,
            Timestamp::now,
        )
        .with_pace(Pace {
            usual: args.renewals_per_second.into(),
            top: args.renewals_per_second_at_most.into(),
        });
        let credential_gc = CredentialGc::new(ensure.clone(), kube.clone(), minted, Timestamp::now);
        Self {
            candidate: Candidate::new(kube, identity()),
            keeper,
            credential_gc,
            certifier,
            missed,
        }
    }

    /// Stands for election once everything was read, until the process is told to stop; then leadership is given back.
    fn start(self, mut synced: Synced, shell: &mut Shell) -> JoinHandle<()> {
        let drain = shell.drain.clone();
        let (running, ended) = oneshot::channel::<()>();
        shell.tasks.spawn(async move {
            drop(ended.await);
            Err(anyhow!("the controller ended: this is a bug"))
        });
        tokio::spawn(async move {
            let _running = running;
            let stop = drain.reached(Phase::Leaving);
            tokio::select! {
                () = synced.wait() => {}
                () = stop => return,
            }
            let leadership = self.candidate.leadership();
            let stop = drain.reached(Phase::Leaving);
            let certifier = async {
                if let Some(certifier) = self.certifier {
                    certifier.run(leadership.clone()).await;
                }
            };
            let missed = async {
                if let Some(missed) = self.missed {
                    missed.run(leadership.clone()).await;
                }
            };
            tokio::join!(
                self.candidate.run(stop),
                self.keeper.run(leadership.clone()),
                self.credential_gc.run(leadership.clone()),
                certifier,
                missed
            );
        })
    }
}

/// What looks for missed Pods; `None`: it is switched off.
fn look_for_missed(args: &Args, kube: &Kube, ensure: &Ensure, shell: &mut Shell) -> Option<Missed> {
    let every = args.missed_pods_every;
    if every.is_zero() {
        return None;
    }
    let metrics = missed::Metrics::default();
    metrics.register(&mut shell.metrics);
    Some(Missed::new(
        kube.clone(),
        Judge::new(Arc::new(ensure.clone()), kube.namespace().clone()),
        shell.admissions.clone(),
        metrics,
        every,
        Timestamp::now,
    ))
}

/// A name for this process that no other replica has, nor had.
fn identity() -> String {
    let host = std::env::var("HOSTNAME").unwrap_or_else(|_| "pullpass".to_owned());
    let started = Timestamp::now().as_microsecond();
    format!("{host}_{}_{started}", std::process::id())
}

/// Waits until everything was read once, and says now and then what is missing.
async fn wait_for(mut synced: Synced) {
    while tokio::time::timeout(TELL_EVERY, synced.wait())
        .await
        .is_err()
    {
        tracing::warn!("not ready, still reading: {}", synced.missing().join(", "));
    }
}
