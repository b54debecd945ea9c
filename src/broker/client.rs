//! The plug-in's side: one request over TLS, and the answer.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::protocol::{ANSWER_MAX, PATH, RefusalBody, is_response};

/// How long all of it may take.
pub const TIMEOUT: Duration = Duration::from_secs(2);

/// Where the broker is, and by what it is known.
#[derive(Clone, Debug)]
pub struct BrokerAddress {
    /// `HOST:PORT`.
    pub address: String,
    /// The name that its certificate is for.
    pub server_name: String,
    /// The authorities that may have signed it, PEM.
    pub authorities: Vec<u8>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// No certificate is in the file.
    #[error("the CA file holds no certificate: give the one of pullpass' CA")]
    Authorities,
    /// The name is none.
    #[error("the server name {0:?} is none: give the DNS name of pullpass' Service")]
    ServerName(String),
    /// Nobody answers there.
    #[error("cannot connect to {address}: {message}")]
    Connect {
        /// Where.
        address: String,
        /// Why.
        message: String,
    },
    /// The one who answers is not the broker.
    #[error("TLS with {address}: {message}")]
    Tls {
        /// Where.
        address: String,
        /// Why.
        message: String,
    },
    /// It is not HTTP, or it ended too early.
    #[error("{address} gave no answer: {message}")]
    Http {
        /// Where.
        address: String,
        /// Why.
        message: String,
    },
    /// It took too long.
    #[error("{address} gave no answer in {} s", TIMEOUT.as_secs())]
    Timeout {
        /// Where.
        address: String,
    },
    /// It is not the answer of a broker.
    #[error(
        "{address} answered {status} with what is no answer of pullpass' broker: check address and port"
    )]
    Answer {
        /// Where.
        address: String,
        /// The status.
        status: u16,
    },
    /// The broker refuses.
    #[error("{reason}: {message}")]
    Refused {
        /// In one word.
        reason: String,
        /// What to do.
        message: String,
    },
}

/// Hands a request to the broker; gives its answer as it came.
///
/// # Errors
/// [`AskError`].
pub async fn ask(broker: &BrokerAddress, request: Bytes) -> Result<Bytes, AskError> {
    let asked = tokio::time::timeout(TIMEOUT, ask_patiently(broker, request)).await;
    asked.unwrap_or_else(|_| {
        let address = broker.address.clone();
        Err(AskError::Timeout { address })
    })
}

async fn ask_patiently(broker: &BrokerAddress, request: Bytes) -> Result<Bytes, AskError> {
    let address = || broker.address.clone();
    let http = |error: hyper::Error| AskError::Http {
        address: address(),
        message: describe(&error),
    };
    let stream = TokioIo::new(connect(broker).await?);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream)
        .await
        .map_err(http)?;
    let request = Request::post(PATH)
        .header(HOST, &broker.server_name)
        .header(CONTENT_TYPE, "application/json")
        .body(Full::new(request))
        .map_err(|_| AskError::ServerName(broker.server_name.clone()))?;
    let answered = async {
        let response = sender.send_request(request).await.map_err(http)?;
        read(broker, response).await
    };
    // The connection works as long as it is polled, and ends before the answer where it breaks.
    let mut answered = std::pin::pin!(answered);
    tokio::select! {
        biased;
        answer = &mut answered => answer,
        _ = connection => answered.await,
    }
}

async fn connect(
    broker: &BrokerAddress,
) -> Result<tokio_rustls::client::TlsStream<TcpStream>, AskError> {
    let name = ServerName::try_from(broker.server_name.clone())
        .map_err(|_| AskError::ServerName(broker.server_name.clone()))?;
    let connector = TlsConnector::from(Arc::new(tls_of(&broker.authorities)?));
    let stream = TcpStream::connect(&broker.address).await;
    let stream = stream.map_err(|error| AskError::Connect {
        address: broker.address.clone(),
        message: error.to_string(),
    })?;
    // Three small messages each way: none waits for another.
    drop(stream.set_nodelay(true));
    connector
        .connect(name, stream)
        .await
        .map_err(|error| AskError::Tls {
            address: broker.address.clone(),
            message: error.to_string(),
        })
}

fn tls_of(authorities: &[u8]) -> Result<ClientConfig, AskError> {
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_slice_iter(authorities);
    roots.add_parsable_certificates(certificates.filter_map(Result::ok));
    if roots.is_empty() {
        return Err(AskError::Authorities);
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| AskError::Tls {
            address: String::new(),
            message: error.to_string(),
        })?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

async fn read(
    broker: &BrokerAddress,
    response: Response<hyper::body::Incoming>,
) -> Result<Bytes, AskError> {
    let status = response.status();
    let body = Limited::new(response.into_body(), ANSWER_MAX).collect();
    let body = body.await.map_err(|error| AskError::Http {
        address: broker.address.clone(),
        message: error.to_string(),
    })?;
    let body = body.to_bytes();
    if status.is_success() && is_response(&body) {
        return Ok(body);
    }
    if !status.is_success()
        && let Ok(RefusalBody { reason, message }) = serde_json::from_slice(&body)
    {
        return Err(AskError::Refused { reason, message });
    }
    Err(AskError::Answer {
        address: broker.address.clone(),
        status: status.as_u16(),
    })
}

/// An error and its cause: hyper's own says only at what it happened.
fn describe(error: &hyper::Error) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
