//! The other webhooks, each a process of its own: this program, started once more.

use std::convert::Infallible;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use anyhow::bail;
use axum::Router;
use axum::body::Bytes;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use pullpass::server::certificate::Certificate;
use pullpass::server::{Bounds, Drain, Metrics, Server};
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::support::{floor, namespace_labels, registries, typed};

/// The argument that makes this program a webhook; which one, and the folder with the certificate, follow.
pub(crate) const FLAG: &str = "--serve";
/// What comes before the address in the line that says where a webhook listens.
pub(crate) const ADDRESS: &str = "webhook.address=";

pub(crate) const FLOOR: &str = "floor";
pub(crate) const FLOOR_ON_OUR_SERVER: &str = "floor-on-our-server";
pub(crate) const TYPED: &str = "typed";

/// Serves until stdin ends, which it does with the program that started this one.
pub(crate) fn run(kind: &str, directory: &Path) -> anyhow::Result<()> {
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    let certificate = Certificate::load(directory.join("tls.crt"), directory.join("tls.key"))?;
    let tls = certificate.server_config(None);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        eprintln!("{ADDRESS}{}", listener.local_addr()?);
        match kind {
            FLOOR => serve_bare(listener, tls).await,
            FLOOR_ON_OUR_SERVER => {
                let answer = |body: Bytes| async move { respond(floor::answer(&body)) };
                serve_ours(listener, tls, Router::new().route("/mutate", post(answer))).await;
                Ok(())
            }
            TYPED => {
                let known = Arc::new((registries()?, namespace_labels()));
                let answer =
                    |body: Bytes| async move { respond(typed::answer(&body, &known.0, &known.1)) };
                serve_ours(listener, tls, Router::new().route("/mutate", post(answer))).await;
                Ok(())
            }
            other => bail!("no such webhook: {other}"),
        }
    })
}

/// hyper and rustls with nothing around them.
async fn serve_bare(listener: TcpListener, tls: Arc<ServerConfig>) -> anyhow::Result<()> {
    let acceptor = TlsAcceptor::from(tls);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            if let Ok(stream) = acceptor.accept(stream).await {
                let service = service_fn(answer_bare);
                let _ = http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            }
        });
    }
}

async fn answer_bare(
    request: hyper::Request<Incoming>,
) -> Result<hyper::Response<Full<Bytes>>, Infallible> {
    let answer = match request.into_body().collect().await {
        Ok(body) => floor::answer(&body.to_bytes()),
        Err(error) => Err(error.into()),
    };
    let (status, body) = match answer {
        Ok(body) => (StatusCode::OK, body),
        Err(error) => (StatusCode::BAD_REQUEST, error.to_string().into_bytes()),
    };
    let mut response = hyper::Response::new(Full::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("application/json"),
    );
    Ok(response)
}

/// pullpass' own server around an application.
async fn serve_ours(listener: TcpListener, tls: Arc<ServerConfig>, application: Router) {
    let bounds = Bounds::default();
    let server = Server {
        listener,
        tls: Some(tls),
        application,
        bounds,
        metrics: Metrics::default(),
    };
    server.run(Drain::default()).await;
}

fn respond(answer: anyhow::Result<Vec<u8>>) -> Response {
    match answer {
        Ok(body) => ([(header::CONTENT_TYPE, "application/json")], body).into_response(),
        Err(error) => (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
    }
}
