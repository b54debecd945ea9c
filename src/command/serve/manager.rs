//! What every way of serving has around it: log, listeners, certificate, health, metrics, signals.

use std::net::{Ipv6Addr, SocketAddr};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use axum::Router;
use futures::FutureExt as _;
use jiff::Timestamp;
use prometheus_client::registry::Registry as MetricsRegistry;
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;

use super::ManagerArgs;
use crate::admission::{self, Webhook};
use crate::broker::protocol::REQUEST_MAX;
use crate::broker::{self, Broker};
use crate::provision::{ExcludedNamespaces, Provision};
use crate::server::certificate::Certificate;
use crate::server::client_auth::ClientCas;
use crate::server::{self, Bounds, Drain, Phase, Server, health};

/// Where the webhook is by default.
const WEBHOOK_PORT: u16 = 8443;

/// Where health and metrics are by default.
const METRICS_PORT: u16 = 8080;

/// What the broker takes: a kubelet connects anew for each image, sends a small request, and waits for two seconds in all.
const BROKER_BOUNDS: Bounds = Bounds {
    connections: 512,
    handshake: Duration::from_secs(2),
    first_request: Duration::from_secs(2),
    header: Duration::from_secs(2),
    body: Duration::from_secs(2),
    idle: Duration::from_secs(10),
    body_bytes: REQUEST_MAX,
    all_bodies_bytes: 64 * REQUEST_MAX,
    large_bodies_bytes: 64 * REQUEST_MAX,
    ..Bounds::DEFAULT
};

/// Connections of probes and scrapers at a time.
const HEALTH_CONNECTIONS: usize = 64;

/// Files besides the connections of the webhook and the broker: those of probes, watches, writes and mints.
const DESCRIPTORS_RESERVED: u64 = 256;

/// Open listeners and a loaded certificate, and everything that must not end before the process does.
pub(super) struct Manager {
    webhook: Option<TcpListener>,
    health: Option<TcpListener>,
    /// Where kubelets ask, if they may; and what answers them.
    broker: Option<TcpListener>,
    broker_application: Option<Router>,
    /// What is served with.
    pub(super) certificate: Certificate,
    callers: Option<ClientCas>,
    tls: Arc<ServerConfig>,
    /// What the webhook's listener counts.
    pub(super) listener: server::Metrics,
    /// Where the process is in its life.
    pub(super) drain: Drain,
    terminate: Signal,
    interrupt: Signal,
    drain_delay: std::time::Duration,
    /// How many files may be open, connections among them.
    descriptors: u64,
    /// The namespaces whose Pods are admitted unchanged.
    pub(super) excluded: Arc<ExcludedNamespaces>,
    /// What admission counts.
    pub(super) admissions: admission::Metrics,
    /// What the metrics endpoint shows.
    pub(super) metrics: MetricsRegistry,
    /// Tasks that run as long as the process: when one ends, the process does, with an error.
    pub(super) tasks: JoinSet<anyhow::Result<()>>,
}

impl Manager {
    /// Loads the certificate and opens the listeners: what is wrong with either is said before anything else is done.
    pub(super) async fn open(args: &ManagerArgs, descriptors: u64) -> anyhow::Result<Self> {
        let certificate = match (&args.tls_cert, &args.tls_key) {
            (Some(certificate), Some(key)) => Certificate::load(certificate, key)
                .context("--tls-cert, --tls-key (pullpass certs makes a pair for local use)")?,
            _ => Certificate::awaited(),
        };
        let callers = args.client_ca.as_ref().map(ClientCas::load).transpose();
        let callers = callers.context("--client-ca")?;
        let webhook = listen(args.listen, WEBHOOK_PORT).await;
        let webhook = webhook.context("--listen")?;
        let health = listen(args.metrics_listen, METRICS_PORT).await;
        let health = health.context("--metrics-listen")?;
        let broker = match args.broker_listen {
            Some(address) => Some(
                listen_for_kubelets(address)
                    .await
                    .context("--broker-listen")?,
            ),
            None => None,
        };
        if let Some(broker) = &broker {
            tracing::info!(broker.address = %broker.local_addr()?, "listening for kubelets");
        }
        tracing::info!(webhook.address = %webhook.local_addr()?, health.address = %health.local_addr()?, "listening");
        Ok(Self {
            webhook: Some(webhook),
            health: Some(health),
            broker,
            broker_application: None,
            tls: certificate.server_config(callers.as_ref()),
            certificate,
            callers,
            listener: server::Metrics::default(),
            drain: Drain::default(),
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            drain_delay: args.drain_delay,
            descriptors,
            excluded: Arc::new(args.exclude.build(args.namespace.as_ref())),
            admissions: admission::Metrics::default(),
            metrics: MetricsRegistry::default(),
            tasks: JoinSet::new(),
        })
    }

    /// Whether kubelets may ask.
    pub(super) fn has_broker(&self) -> bool {
        self.broker.is_some()
    }

    /// Has kubelets answered by this.
    pub(super) fn set_broker(&mut self, broker: Broker) {
        self.broker_application = Some(broker::router(Arc::new(broker)));
    }

    /// Serves until the process is stopped, then drains. Ready as soon as `prepared` ends.
    pub(super) async fn run<F>(
        mut self,
        provision: Arc<dyn Provision>,
        prepared: F,
    ) -> anyhow::Result<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut servers = self.start_servers(provision)?;
        let drain = self.drain.clone();
        let prepare = tokio::spawn(async move {
            prepared.await;
            drain.set_prepared();
            tracing::info!("ready");
        });
        let ended = tokio::select! {
            _ = self.terminate.recv() => None,
            _ = self.interrupt.recv() => None,
            ended = ended(&mut self.tasks, &mut servers) => Some(ended),
        };
        prepare.abort();
        if let Some(ended) = ended {
            return Err(ended);
        }
        tracing::info!(
            drain.seconds = self.drain_delay.as_secs_f64(),
            "received SIGTERM: not ready, draining"
        );
        // A second signal is for people who will not wait.
        tokio::select! {
            () = self.drain.run(self.drain_delay) => {}
            _ = self.terminate.recv() => self.drain.enter(Phase::Closing),
            _ = self.interrupt.recv() => self.drain.enter(Phase::Closing),
        }
        while servers.join_next().await.is_some() {}
        tracing::info!("stopped");
        Ok(())
    }

    /// Has the certificate, and callers' authorities, follow their files.
    fn follow_files(&mut self, metrics: &server::Metrics) {
        let certificate = server::follow_file(self.certificate.clone(), metrics.clone());
        self.tasks.spawn(certificate.map(Ok));
        if let Some(callers) = self.callers.take() {
            let callers = server::follow_file(callers, metrics.clone());
            self.tasks.spawn(callers.map(Ok));
        }
    }

    /// Starts the webhook, the health and metrics endpoint, and the certificate's renewal.
    fn start_servers(&mut self, provision: Arc<dyn Provision>) -> anyhow::Result<Servers> {
        let webhook = Webhook {
            provision,
            excluded: Arc::clone(&self.excluded),
            metrics: self.admissions.clone(),
            clock: Timestamp::now,
        };
        let metrics = self.listener.clone();
        webhook.metrics.register(&mut self.metrics);
        metrics.register(&mut self.metrics);
        self.follow_files(&metrics);
        let shown = Arc::new(std::mem::take(&mut self.metrics));
        let mut servers = Servers::new();
        if let Some(listener) = self.health.take() {
            let health = Server {
                listener,
                tls: None,
                application: health::router(self.drain.clone(), shown),
                bounds: Bounds {
                    connections: HEALTH_CONNECTIONS,
                    ..Bounds::default()
                },
                metrics: server::Metrics::default(),
            };
            let health = health.run_on_own_thread("health", self.drain.clone());
            let health =
                health.context("cannot start the thread that answers /livez and /readyz")?;
            servers.spawn(named("/livez, /readyz and /metrics", health));
        }
        let connections = ConnectionShares::of(self.descriptors, self.has_broker());
        if let Some(listener) = self.webhook.take() {
            let webhook = Server {
                listener,
                tls: Some(Arc::clone(&self.tls)),
                application: admission::router(Arc::new(webhook)),
                bounds: Bounds {
                    connections: connections.webhook,
                    ..Bounds::default()
                },
                metrics: metrics.clone(),
            };
            servers.spawn(named("the webhook", webhook.run(self.drain.clone())));
        }
        if let Some(broker) = self.take_broker(connections.broker, metrics) {
            servers.spawn(named("the broker", broker.run(self.drain.clone())));
        }
        Ok(servers)
    }

    /// What answers kubelets, if they may ask.
    fn take_broker(&mut self, connections: usize, metrics: server::Metrics) -> Option<Server> {
        Some(Server {
            listener: self.broker.take()?,
            // No client certificate is asked for: kubelets show tokens.
            tls: Some(self.certificate.server_config(None)),
            application: self.broker_application.take()?,
            bounds: Bounds {
                connections,
                ..BROKER_BOUNDS
            },
            metrics,
        })
    }
}

/// Connections at a time of the listeners that many may call, so that files stay for probes, the API server and clouds.
#[derive(Debug, PartialEq, Eq)]
struct ConnectionShares {
    webhook: usize,
    broker: usize,
}

impl ConnectionShares {
    /// Of so many files that may be open: the broker's are a third at the most, so that Pods are admitted whatever kubelets do.
    fn of(descriptors: u64, has_broker: bool) -> Self {
        let left = descriptors
            .saturating_sub(DESCRIPTORS_RESERVED)
            .max(descriptors / 2);
        let left = usize::try_from(left).unwrap_or(usize::MAX);
        let broker = (left / 3).min(BROKER_BOUNDS.connections);
        let broker = if has_broker { broker } else { 0 };
        Self {
            webhook: (left - broker).min(Bounds::DEFAULT.connections),
            broker,
        }
    }
}

/// Servers that run until the process closes, each ending with its name.
type Servers = JoinSet<&'static str>;

/// Serves, and says who ended, also where it panicked.
async fn named(name: &'static str, serving: impl Future<Output = ()>) -> &'static str {
    // What panicked is in the log.
    drop(AssertUnwindSafe(serving).catch_unwind().await);
    name
}

/// Waits until something ends that must not, and says what: nothing may go on half.
async fn ended(tasks: &mut JoinSet<anyhow::Result<()>>, servers: &mut Servers) -> anyhow::Error {
    tokio::select! {
        Some(ended) = tasks.join_next() => match ended {
            Ok(Ok(())) => anyhow!("a task of pullpass ended unexpectedly: this is a bug"),
            Ok(Err(error)) => error,
            Err(error) => error.into(),
        },
        Some(ended) = servers.join_next() => match ended {
            Ok(name) => anyhow!("the listener of {name} ended unexpectedly: this is a bug"),
            Err(error) => error.into(),
        },
        else => std::future::pending().await,
    }
}

/// Listens at the address that was given; `[::]` is all of both families, or those of IPv4 where there is no IPv6.
async fn listen_for_kubelets(address: SocketAddr) -> std::io::Result<TcpListener> {
    if address.ip() == Ipv6Addr::UNSPECIFIED {
        return server::bind_everywhere(address.port()).await;
    }
    server::bind(address).await
}

/// Listens at the address that was given and no other, else at all of them.
async fn listen(given: Option<SocketAddr>, port: u16) -> std::io::Result<TcpListener> {
    match given {
        Some(address) => server::bind(address).await,
        None => server::bind_everywhere(port).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves_descriptors_for_the_rest_whoever_listens() {
        for (descriptors, alone, beside, broker) in [
            (64, 32, 22, 10),
            (512, 256, 171, 85),
            (1024, 768, 512, 256),
            (1280, 1024, 683, 341),
            (1791, 1024, 1024, 511),
            (1792, 1024, 1024, 512),
            (1 << 20, 1024, 1024, 512),
            (u64::MAX, 1024, 1024, 512),
        ] {
            let shares = |webhook, broker| ConnectionShares { webhook, broker };
            let expected = shares(alone, 0);
            assert_eq!(ConnectionShares::of(descriptors, false), expected);
            let expected = shares(beside, broker);
            assert_eq!(ConnectionShares::of(descriptors, true), expected);
            let left = descriptors - DESCRIPTORS_RESERVED.min(descriptors / 2);
            assert!(beside + broker <= usize::try_from(left).unwrap());
        }
    }

    #[tokio::test]
    async fn says_which_listener_ended_and_how_a_task_did() {
        let (mut tasks, mut servers) = (JoinSet::new(), Servers::new());
        servers.spawn(named("the webhook", async { panic!("as planned") }));
        let said = ended(&mut tasks, &mut servers).await.to_string();
        assert!(
            said.starts_with("the listener of the webhook ended"),
            "{said}"
        );
        servers.spawn(named("/livez", async {}));
        let said = ended(&mut tasks, &mut servers).await.to_string();
        assert!(said.starts_with("the listener of /livez ended"), "{said}");
        servers.spawn(named("/livez", std::future::pending()));
        tasks.spawn(async { Err(anyhow!("no rights")) });
        assert_eq!(
            ended(&mut tasks, &mut servers).await.to_string(),
            "no rights"
        );
        tasks.spawn(async { Ok(()) });
        let said = ended(&mut tasks, &mut servers).await.to_string();
        assert!(said.starts_with("a task of pullpass ended"), "{said}");
    }
}
