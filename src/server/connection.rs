//! One connection, from the first byte to the last.

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderValue, Request, Response, StatusCode, header};
use axum::response::IntoResponse as _;
use futures::future::BoxFuture;
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt as _;

use super::Bounds;
use super::body::{LimitedBody, RequestBudget};
use super::metrics::{Handshake, Metrics};
use super::peer::PeerAddress;
use super::shutdown::{Drain, Phase};
use super::timeouts::{ConnectionActivity, TimeoutStream};

/// The longest header of a request, in bytes.
const MAX_HEADER: usize = 16 * 1024;

/// The most that is read from a connection ahead of what takes it, in bytes.
const MAX_READ: usize = 64 * 1024;

/// What all connections of a listener share.
pub(super) struct ConnectionContext {
    pub(super) acceptor: Option<TlsAcceptor>,
    pub(super) application: Router,
    pub(super) bounds: Bounds,
    pub(super) metrics: Metrics,
    pub(super) drain: Drain,
    pub(super) load: Arc<RequestBudget>,
}

/// Serves a connection until it ends, for whatever reason.
pub(super) async fn serve(
    shared: &ConnectionContext,
    stream: TcpStream,
    activity: &Arc<ConnectionActivity>,
) {
    let _open = shared.metrics.open();
    let (Ok(()), Ok(peer)) = (stream.set_nodelay(true), stream.peer_addr()) else {
        return; // the peer is gone already
    };
    let peer = PeerAddress::of_connection(peer);
    let Some(acceptor) = &shared.acceptor else {
        return serve_http(shared, stream, peer, activity).await;
    };
    let stream = match tokio::time::timeout(shared.bounds.handshake, acceptor.accept(stream)).await
    {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            return shared
                .metrics
                .count_handshake(Handshake::of(&error), &error);
        }
        Err(_) => {
            return shared
                .metrics
                .count_handshake(Handshake::Timeout, &io::ErrorKind::TimedOut.into());
        }
    };
    serve_http(shared, stream, peer, activity).await;
}

async fn serve_http<S>(
    shared: &ConnectionContext,
    stream: S,
    peer: PeerAddress,
    activity: &Arc<ConnectionActivity>,
) where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let stream = TimeoutStream::new(stream, shared.bounds, Arc::clone(activity));
    let mut builder = http1::Builder::new();
    // The stream has the deadlines.
    builder
        .header_read_timeout(None)
        .max_buf_size(MAX_READ)
        .max_header_size(MAX_HEADER);
    let connection = builder.serve_connection(
        TokioIo::new(stream),
        ConnectionService::new(shared, peer, activity),
    );
    let mut connection = pin!(connection);
    tokio::select! {
        _ = connection.as_mut() => return,
        () = shared.drain.reached(Phase::Closing) => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

/// The application as one connection's service: reports activity to the stream, and closes connections when the server drains.
struct ConnectionService {
    router: Router,
    peer: PeerAddress,
    activity: Arc<ConnectionActivity>,
    drain: Drain,
    bounds: Bounds,
    load: Arc<RequestBudget>,
}

impl ConnectionService {
    fn new(
        shared: &ConnectionContext,
        peer: PeerAddress,
        activity: &Arc<ConnectionActivity>,
    ) -> Self {
        Self {
            router: shared.application.clone(),
            peer,
            activity: Arc::clone(activity),
            drain: shared.drain.clone(),
            bounds: shared.bounds,
            load: Arc::clone(&shared.load),
        }
    }
}

impl hyper::service::Service<Request<Incoming>> for ConnectionService {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let in_flight = InFlight::start(&self.activity);
        let drain = self.drain.clone();
        let (limit, deadline) = (self.bounds.body_bytes, Instant::now() + self.bounds.body);
        let too_long = request.body().size_hint().lower() > limit as u64;
        let share = self.load.share();
        let body_share = Arc::clone(&share);
        let mut request =
            request.map(|body| Body::new(LimitedBody::new(body, limit, deadline, body_share)));
        request.extensions_mut().insert(self.peer);
        let answer = (!too_long).then(|| self.router.clone().oneshot(request));
        Box::pin(async move {
            let mut answer = match answer {
                Some(answer) => answer.await?,
                None => (
                    StatusCode::PAYLOAD_TOO_LARGE,
                    format!("the body is longer than {limit} bytes\n"),
                )
                    .into_response(),
            };
            if too_long || drain.phase() != Phase::Serving {
                answer
                    .headers_mut()
                    .insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            drop((in_flight, share));
            Ok(answer)
        })
    }
}

/// A request that is being answered; also one whose caller hangs up ends.
struct InFlight(Arc<ConnectionActivity>);

impl InFlight {
    fn start(activity: &Arc<ConnectionActivity>) -> Self {
        activity.start();
        Self(Arc::clone(activity))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.end();
    }
}
