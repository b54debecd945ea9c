//! The listener: TLS, bounds, draining, health and metrics.
//!
//! ```text
//! accept ─▶ place ─▶ TLS handshake (5 s) ─▶ connection (first byte → header 5 s, idle 120 s) ─▶ application
//! ```
//!
//! kube-apiserver speaks HTTP/1.1 to webhooks, keeps idle connections for 90 s, never repeats a POST that was cut off, and goes
//! on using open connections to a server that is about to stop. So an idle connection must outlive the caller's patience, and a
//! server that stops must first say so on each answer; see [`Phase`].

mod bind;
mod body;
pub mod certificate;
pub mod client_auth;
mod connection;
mod connection_limit;
mod file_reload;
pub mod health;
pub mod json_body;
mod metrics;
mod peer;
pub mod shutdown;
mod timeouts;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

pub use bind::{bind, bind_everywhere};
use connection_limit::{ConnectionLimit, ConnectionPermit};
pub use file_reload::{ReloadableFile, follow_file};
pub use metrics::Metrics;
pub use peer::PeerAddress;
pub use shutdown::{Drain, Phase};

/// How much a listener takes from its callers.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Connections at a time, so also requests; with one more the one that has been idle for longest is closed. Each may wait for a
    /// credential, so it leaves room for as many as Pods are ever created at a time.
    pub connections: usize,
    /// For the whole TLS handshake.
    pub handshake: Duration,
    /// From a connection's start until the first byte of its first request.
    pub first_request: Duration,
    /// From the first byte of a request until its header is complete.
    pub header: Duration,
    /// Between an answer and the next request. Longer than the 90 s that kube-apiserver keeps an idle connection for.
    pub idle: Duration,
    /// For a write to make progress.
    pub write: Duration,
    /// From a request's complete header until its body is there.
    pub body: Duration,
    /// The longest body, in bytes. kube-apiserver takes objects of up to 3 MiB, and a review may hold two.
    pub body_bytes: usize,
    /// The bodies of all requests that are not answered yet, in bytes.
    pub all_bodies_bytes: usize,
    /// What those of them take at most that are longer than a 64th of the longest: the rest is for ordinary ones alone.
    pub large_bodies_bytes: usize,
    /// How long such a body waits until there is place for it.
    pub large_body_wait: Duration,
    /// After the last phase began, for what is in flight.
    pub finish: Duration,
}

impl Bounds {
    /// What the webhook takes.
    pub const DEFAULT: Self = Self {
        connections: 1024,
        handshake: Duration::from_secs(5),
        first_request: Duration::from_secs(10),
        header: Duration::from_secs(5),
        idle: Duration::from_mins(2),
        write: Duration::from_secs(10),
        body: Duration::from_secs(10),
        body_bytes: 7 * 1024 * 1024,
        all_bodies_bytes: 36 * 1024 * 1024,
        large_bodies_bytes: 28 * 1024 * 1024,
        large_body_wait: Duration::from_secs(2),
        finish: Duration::from_secs(30),
    };
}

impl Default for Bounds {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// One listening socket with what it serves.
pub struct Server {
    /// The socket.
    pub listener: TcpListener,
    /// TLS, or plain HTTP where there is none.
    pub tls: Option<Arc<ServerConfig>>,
    /// What answers.
    pub application: Router,
    /// What callers may take.
    pub bounds: Bounds,
    /// Counters.
    pub metrics: Metrics,
}

impl Server {
    /// Accepts and serves until the drain is [`Phase::Closing`], then ends when what is in flight is finished, or after
    /// [`Bounds::finish`].
    pub async fn run(self, drain: Drain) {
        let slots = ConnectionLimit::new(self.bounds.connections, self.metrics.clone());
        let shared = Arc::new(connection::ConnectionContext {
            acceptor: self.tls.map(TlsAcceptor::from),
            application: self.application,
            bounds: self.bounds,
            metrics: self.metrics,
            drain: drain.clone(),
            load: body::RequestBudget::new(&self.bounds),
        });
        let mut connections = JoinSet::new();
        let mut closing = std::pin::pin!(drain.reached(Phase::Closing));
        loop {
            while connections.try_join_next().is_some() {}
            let next = async {
                (
                    accept(&self.listener, &shared.metrics).await,
                    slots.take().await,
                )
            };
            let (stream, slot) = tokio::select! {
                () = &mut closing => break,
                next = next => next,
            };
            connections.spawn(serve(Arc::clone(&shared), stream, slot));
        }
        drop(self.listener);
        let finished = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(self.bounds.finish, finished)
            .await
            .is_err()
        {
            tracing::warn!(
                connections = connections.len(),
                "drain timed out: closed connections with requests in flight"
            );
        }
    }
}

impl Server {
    /// Serves as [`Self::run`] does, on a thread of its own: it answers while all threads of this runtime are busy. What is returned
    /// ends when the server does, for whatever reason.
    ///
    /// # Errors
    /// The thread cannot be started, or the socket cannot be handed to it.
    pub fn run_on_own_thread(
        self,
        name: &str,
        drain: Drain,
    ) -> std::io::Result<impl Future<Output = ()> + Send + 'static> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let listener = self.listener.into_std()?;
        let registered = runtime.enter();
        let listener = TcpListener::from_std(listener)?;
        drop(registered);
        let server = Self { listener, ..self };
        let (ended, end) = tokio::sync::oneshot::channel::<()>();
        let thread = std::thread::Builder::new().name(name.to_owned());
        thread.spawn(move || {
            let _ended = ended;
            runtime.block_on(server.run(drain));
        })?;
        Ok(async move {
            let _ = end.await;
        })
    }
}

/// Serves a connection until it ends, or has to make place.
async fn serve(
    shared: Arc<connection::ConnectionContext>,
    stream: TcpStream,
    slot: ConnectionPermit,
) {
    tokio::select! {
        // A request that has arrived already is served first.
        biased;
        () = connection::serve(&shared, stream, &slot.activity) => {}
        () = slot.activity.closed_idle() => {}
    }
}

/// The next connection. Errors of accept are the kernel's shortage of something (file descriptors,
/// memory): they pass, so this waits a little, longer each time, and goes on.
async fn accept(listener: &TcpListener, metrics: &Metrics) -> TcpStream {
    let mut pause = Duration::from_millis(5);
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(error) => {
                metrics.warn_accept(&error);
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(1));
            }
        }
    }
}
