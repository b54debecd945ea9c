//! The one HTTP client for clouds and metadata services: which authorities it trusts, how long it waits, how much it reads.

mod pinned;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_smithy_http_client::{Connector, ConnectorBuilder};
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
    SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_types::body::SdkBody;
use http_body_util::{BodyExt, Limited};
use jiff::Timestamp;
use parking_lot::Mutex;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use thiserror::Error;
use tokio::time::Instant;

use super::one_line::one_line;
use super::{MintError, retry_after};

pub use aws_smithy_http_client::proxy::ProxyConfig;

/// How long a TCP connection and its TLS handshake may take.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long the first byte of any answer may take; who asks waits no longer than its own deadline.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// The largest answer that is read: an ECR token has 2 to 3 kB.
const BODY_LIMIT: usize = 256 * 1024;

/// The HTTP client that all mints share; cheap to clone. It follows no redirects and reads at most 256 KiB of an answer.
#[derive(Clone, Debug)]
pub struct HttpClient {
    cloud: SharedHttpConnector,
    metadata: SharedHttpConnector,
}

/// Why the HTTP client cannot be built.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum HttpClientError {
    /// The extra authorities cannot be read.
    #[error(
        "certificate {number} of the extra certificate authorities cannot be read, {detail}: give certificates in PEM form"
    )]
    BadAuthority {
        /// Which one, counted from 1.
        number: usize,
        /// What is wrong with it.
        detail: String,
    },
    /// The text holds no certificate.
    #[error("the extra certificate authorities hold no certificate: give certificates in PEM form")]
    NoAuthority,
    /// The environment's proxy cannot be read.
    #[error("{variable} {problem}: write http://host:port, or take it out of the environment")]
    BadProxy {
        /// Which variable.
        variable: &'static str,
        /// What is wrong with it; repeats nothing of it.
        problem: &'static str,
    },
    /// The TLS library refuses the settings.
    #[error("TLS cannot be set up, {detail}: please report this")]
    Tls {
        /// What it said.
        detail: String,
    },
}

impl HttpClient {
    /// Builds the client. It trusts the machine's certificate authorities and, besides, those of `extra_ca` (PEM). Requests to a
    /// cloud go through `proxy`; those to metadata services and local agents never do.
    ///
    /// A machine without any certificate authority, such as an empty container image, is no error here: every request then fails
    /// with a message that says so, and fixed logins still work.
    ///
    /// # Errors
    /// [`HttpClientError`] when `extra_ca` is given and holds no certificate or a broken one.
    pub fn build(extra_ca: Option<&[u8]>, proxy: ProxyConfig) -> Result<Self, HttpClientError> {
        let mut trust = TrustStore::empty().with_native_roots(has_native_roots());
        if let Some(pem) = extra_ca {
            check_authorities(pem)?;
            trust = trust.with_pem_certificate(pem);
        }
        let tls = TlsContext::builder()
            .with_trust_store(trust)
            .build()
            .map_err(|error| HttpClientError::Tls {
                detail: root_cause(&error),
            })?;
        let build = |proxy| {
            let builder: ConnectorBuilder = Connector::builder();
            SharedHttpConnector::new(
                builder
                    .connector_settings(settings())
                    .proxy_config(proxy)
                    .tls_provider(Provider::rustls(CryptoMode::AwsLc))
                    .tls_context(tls.clone())
                    .build(),
            )
        };
        Ok(Self {
            cloud: build(proxy),
            metadata: build(ProxyConfig::disabled()),
        })
    }

    /// The client as an SDK takes it; the host of each request is noted in `asked`.
    pub(crate) fn for_sdk(&self, asked: &LastHost) -> SharedHttpClient {
        let bounded = SharedHttpConnector::new(LimitedConnector {
            inner: self.cloud.clone(),
            asked: asked.clone(),
        });
        http_client_fn(move |_, _| bounded.clone())
    }

    /// Sends one request and reads the answer, whatever its status is.
    pub(crate) async fn exchange(
        &self,
        route: Route,
        request: HttpRequest,
        deadline: Instant,
    ) -> Result<Reply, FetchError> {
        let inner = match route {
            Route::Cloud => &self.cloud,
            Route::Machine => &self.metadata,
        };
        let bounded = LimitedConnector {
            inner: inner.clone(),
            asked: LastHost::default(),
        };
        let exchange = async {
            let answer = bounded.call(request).await.map_err(|error| {
                if error.is_timeout() {
                    FetchError::Timeout
                } else {
                    FetchError::Network(root_cause(&error))
                }
            })?;
            let status = answer.status().as_u16();
            let header = |name| answer.headers().get(name);
            let retry_after = retry_after::find(header, Timestamp::now());
            let headers = answer.headers().iter();
            let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned()));
            let headers: Vec<(String, String)> = headers.collect();
            let body = answer.into_body().collect().await;
            let body = body.map_err(|error| FetchError::Network(root_cause(error.as_ref())))?;
            Ok(Reply {
                status,
                retry_after,
                headers,
                body: body.to_bytes().to_vec(),
            })
        };
        tokio::time::timeout_at(deadline, exchange)
            .await
            .unwrap_or(Err(FetchError::Timeout))
    }

    /// A client whose every request goes to `connector`.
    #[cfg(test)]
    pub(crate) fn over(connector: impl HttpConnector + 'static) -> Self {
        let connector = SharedHttpConnector::new(connector);
        Self {
            cloud: connector.clone(),
            metadata: connector,
        }
    }
}

/// The way of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Route {
    /// To a cloud, through the proxy if there is one.
    Cloud,
    /// To a metadata service or local agent, never through a proxy.
    Machine,
}

/// An answer that was read. It may hold secrets: it has no Debug.
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// The header Retry-After.
    pub(crate) retry_after: Option<Duration>,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    /// The answer with at most this many bytes of its body.
    pub(crate) fn cut(mut self, bytes: usize) -> Self {
        self.body.truncate(bytes);
        self
    }

    /// An answer without headers.
    #[cfg(any(test, pullpass_fuzz))]
    pub(crate) fn of(status: u16, body: Vec<u8>) -> Self {
        Self {
            status,
            retry_after: None,
            headers: Vec::new(),
            body,
        }
    }

    /// The values of a header, whose name is given in lower case.
    pub(crate) fn headers(&self, name: &str) -> impl Iterator<Item = &str> {
        let named = self.headers.iter().filter(move |(key, _)| key == name);
        named.map(|(_, value)| value.as_str())
    }

    /// The first value of a header, whose name is given in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers(name).next()
    }
}

/// Why a request had no answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum FetchError {
    Timeout,
    Network(String),
}

/// The host (and port) that was asked last, for messages.
#[derive(Clone, Debug, Default)]
pub(crate) struct LastHost(Arc<Mutex<String>>);

impl LastHost {
    pub(crate) fn host(&self) -> String {
        self.0.lock().clone()
    }

    /// An answer of that host that cannot be used.
    pub(crate) fn bad_answer(&self, problem: impl Into<String>) -> MintError {
        MintError::BadAnswer {
            host: self.host(),
            problem: problem.into(),
        }
    }

    fn note(&self, uri: &str) {
        let after_scheme = uri.split_once("://").map_or(uri, |(_, rest)| rest);
        let host = after_scheme.split(['/', '?']).next().unwrap_or_default();
        host.clone_into(&mut self.0.lock());
    }
}

/// A connector that notes the host and limits the answer.
struct LimitedConnector {
    inner: SharedHttpConnector,
    asked: LastHost,
}

impl fmt::Debug for LimitedConnector {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Bounded")
    }
}

impl HttpConnector for LimitedConnector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        self.asked.note(request.uri());
        let answer = self.inner.call(request);
        HttpConnectorFuture::new(async move {
            let limit = |body: SdkBody| SdkBody::from_body_1_x(Limited::new(body, BODY_LIMIT));
            answer.await.map(|answer| answer.map(limit))
        })
    }
}

/// What to do about a certificate that is not trusted.
pub(crate) const TRUST_HINT: &str = "(give the certificate authority with --extra-ca)";

/// The innermost error of a chain, one line; outer ones only repeat it ("dispatch failure", "service error").
pub(crate) fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    let text = one_line(&innermost.to_string());
    match find_hint(&text) {
        Some(hint) => format!("{text} {hint}"),
        None => text,
    }
}

/// What to do about a certificate, by what is wrong with it.
///
/// <https://docs.rs/rustls/0.23/rustls/enum.CertificateError.html>
fn find_hint(text: &str) -> Option<&'static str> {
    let has = |words: &str| text.contains(words);
    if !has("certificate") {
        None
    } else if has("not valid yet") || has("expired") {
        Some("(is this node's clock right? else the certificate there is to be renewed)")
    } else if has("not valid for name") {
        Some("(check the host's name, and what answers there: a proxy?)")
    } else {
        Some(TRUST_HINT)
    }
}

fn settings() -> HttpConnectorSettings {
    HttpConnectorSettings::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(READ_TIMEOUT)
        .build()
}

/// Whether the machine has certificate authorities; the HTTP library panics if it is configured to use them and there are none.
fn has_native_roots() -> bool {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!(error = %error, "cannot read a CA certificate of this machine, ignoring it");
    }
    let usable = RootCertStore::empty()
        .add_parsable_certificates(found.certs)
        .0
        > 0;
    if !usable {
        tracing::warn!(
            "no CA certificates on this machine: install ca-certificates or give --extra-ca"
        );
    }
    usable
}

fn check_authorities(pem: &[u8]) -> Result<(), HttpClientError> {
    let mut roots = RootCertStore::empty();
    for (at, certificate) in CertificateDer::pem_slice_iter(pem).enumerate() {
        let bad = |detail: String| HttpClientError::BadAuthority {
            number: at + 1,
            detail,
        };
        let certificate = certificate.map_err(|error| bad(error.to_string()))?;
        roots
            .add(certificate)
            .map_err(|error| bad(error.to_string()))?;
    }
    if roots.is_empty() {
        Err(HttpClientError::NoAuthority)
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advises_about_a_certificate_by_what_is_wrong_with_it() {
        for (error, words) in [
            (
                "invalid peer certificate: certificate not valid yet: verification time 1 (UNIX), but certificate is not valid before 2",
                "clock",
            ),
            (
                "invalid peer certificate: certificate expired: verification time 2 (UNIX), but certificate is not valid after 1",
                "clock",
            ),
            (
                "invalid peer certificate: certificate not valid for name \"a.example\"; certificate is only valid for DnsName(\"b.example\")",
                "check the host's name",
            ),
            ("invalid peer certificate: UnknownIssuer", "--extra-ca"),
        ] {
            let shown = root_cause(&std::io::Error::other(error));
            assert!(shown.contains(words), "{shown}");
            assert_eq!(
                shown.matches('(').count(),
                error.matches('(').count() + 1,
                "{shown}"
            );
        }
        let refused = root_cause(&std::io::Error::other("Connection refused"));
        assert_eq!(refused, "Connection refused");
    }

    #[test]
    fn build_client_accepts_generated_authority() {
        let certificate = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
        let pem = certificate.cert.pem();
        assert!(HttpClient::build(Some(pem.as_bytes()), ProxyConfig::disabled()).is_ok());
    }

    #[test]
    fn build_client_refuses_text_without_certificate() {
        let error = HttpClient::build(Some(b"hello"), ProxyConfig::disabled()).unwrap_err();
        assert_eq!(error, HttpClientError::NoAuthority);
    }

    #[test]
    fn build_client_refuses_broken_certificate() {
        let pem = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let error = HttpClient::build(Some(pem), ProxyConfig::disabled()).unwrap_err();
        assert!(
            matches!(error, HttpClientError::BadAuthority { number: 1, .. }),
            "{error}"
        );
    }

    #[test]
    fn note_host_leaves_out_path() {
        let asked = LastHost::default();
        asked.note("https://sts.eu-west-1.amazonaws.com:443/?x=1");
        assert_eq!(asked.host(), "sts.eu-west-1.amazonaws.com:443");
    }
}
