//! The internet as a process sees it through a proxy: every name leads here, with a certificate of the test's own authority.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::http::{HeaderMap, Method, Uri};
use futures::future::BoxFuture;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::server::Acceptor;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::{LazyConfigAcceptor, TlsAcceptor};

/// A request that reached a host.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The name and port that the client wanted: `login.microsoftonline.com:443`.
    pub target: String,
    pub method: Method,
    pub uri: Uri,
    pub headers: HeaderMap,
    pub body: String,
}

impl Asked {
    /// A form's fields; the last one of a name counts.
    pub fn form(&self) -> BTreeMap<String, String> {
        self.fields().into_iter().collect()
    }

    /// A form's fields in order.
    pub fn fields(&self) -> Vec<(String, String)> {
        parse_form(&self.body)
    }
}

/// Reads `a=b&c=d`.
pub fn parse_form(text: &str) -> Vec<(String, String)> {
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (decode(name), decode(value)))
        .collect()
}

/// Reads a percent-encoded text.
pub fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digits = [rest.next().unwrap(), rest.next().unwrap()];
                u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
            }
            b'+' => b' ',
            other => other,
        });
    }
    String::from_utf8(bytes).unwrap()
}

/// What a host answers.
#[derive(Clone, Debug, Default)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: String,
    /// How long it takes.
    pub delay: Duration,
}

impl Reply {
    pub fn json(status: u16, body: &serde_json::Value) -> Self {
        Self {
            status,
            headers: vec![("content-type", "application/json".to_owned())],
            body: body.to_string(),
            delay: Duration::ZERO,
        }
    }
}

/// Answers for all hosts; `None`: there is no such host.
pub type Hosts = Arc<dyn Fn(Asked) -> BoxFuture<'static, Option<Reply>> + Send + Sync>;

/// A proxy behind which every name is served by [`Hosts`], also to those who come without asking for a proxy, by the name that they ask for
/// in TLS. It ends with the value, or with the test's runtime.
pub struct Internet {
    /// For `HTTPS_PROXY`.
    pub proxy: String,
    /// The authority of all certificates, PEM.
    pub ca: String,
    reached: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Internet {
    pub async fn start(hosts: Hosts) -> Self {
        Self::start_at("127.0.0.1", hosts).await
    }

    /// The same at another address of this machine, as Pods reach it.
    pub async fn start_at(address: &str, hosts: Hosts) -> Self {
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        let mut parameters = CertificateParams::new(Vec::new()).unwrap();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // A name that its certificates do not have: OpenSSL would take them for self-signed.
        parameters
            .distinguished_name
            .push(DnType::CommonName, "everybody's authority");
        let issuer =
            CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap();
        let listener = TcpListener::bind((address, 0)).await.unwrap();
        let proxy = format!("http://{}", listener.local_addr().unwrap());
        let (ca, reached) = (issuer.pem(), Arc::default());
        let relay = Relay {
            issuer: Arc::new(issuer),
            hosts,
            reached: Arc::clone(&reached),
        };
        Self {
            proxy,
            ca,
            reached,
            task: tokio::spawn(relay.run(listener)),
        }
    }

    /// All that anybody wanted to reach so far: `NAME:PORT`, or what came instead of a name.
    pub fn reached(&self) -> Vec<String> {
        self.reached.lock().unwrap().clone()
    }
}

impl Drop for Internet {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Clone)]
struct Relay {
    issuer: Arc<CertifiedIssuer<'static, KeyPair>>,
    hosts: Hosts,
    reached: Arc<Mutex<Vec<String>>>,
}

impl Relay {
    async fn run(self, listener: TcpListener) {
        while let Ok((connection, _)) = listener.accept().await {
            let relay = self.clone();
            // An error is the end of a connection.
            tokio::spawn(async move { relay.relay(connection).await });
        }
    }

    async fn relay(self, connection: TcpStream) -> Option<()> {
        /// What a TLS record begins with that holds a ClientHello.
        const HANDSHAKE: u8 = 0x16;
        let mut first = [0];
        connection.peek(&mut first).await.ok()?;
        if first == [HANDSHAKE] {
            return self.serve_by_sni(connection).await;
        }
        let mut connection = BufReader::new(connection);
        let mut first = String::new();
        connection.read_line(&mut first).await.ok()?;
        let target = first
            .strip_prefix("CONNECT ")
            .and_then(|rest| rest.split(' ').next());
        let target = target.unwrap_or(first.trim()).to_owned();
        self.reached.lock().unwrap().push(target.clone());
        let mut line = String::new();
        while !line.trim().is_empty() || line.is_empty() {
            line.clear();
            if connection.read_line(&mut line).await.ok()? == 0 {
                return None;
            }
        }
        let mut connection = connection.into_inner();
        connection
            .write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
            .await
            .ok()?;
        let (name, _) = target.rsplit_once(':')?;
        let connection = self.acceptor(name)?.accept(connection).await.ok()?;
        self.serve(connection, target).await
    }

    /// Who comes without a proxy is served by the name that it asks for in TLS.
    async fn serve_by_sni(self, connection: TcpStream) -> Option<()> {
        let start = LazyConfigAcceptor::new(Acceptor::default(), connection).await;
        let start = start.ok()?;
        let name = start.client_hello().server_name()?.to_owned();
        let target = format!("{name}:443");
        self.reached.lock().unwrap().push(target.clone());
        let config = Arc::clone(self.acceptor(&name)?.config());
        let connection = start.into_stream(config).await.ok()?;
        self.serve(connection, target).await
    }

    async fn serve(
        self,
        connection: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        target: String,
    ) -> Option<()> {
        let service = service_fn(move |request| {
            let (hosts, target) = (Arc::clone(&self.hosts), target.clone());
            async move { answer(&hosts, target, request).await }
        });
        hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(connection), service)
            .await
            .ok()
    }

    fn acceptor(&self, name: &str) -> Option<TlsAcceptor> {
        let name = name.trim_matches(['[', ']']);
        let key = KeyPair::generate().ok()?;
        let certificate = CertificateParams::new([name.to_owned()])
            .ok()?
            .signed_by(&key, &*self.issuer)
            .ok()?;
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        let config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key.into());
        Some(TlsAcceptor::from(Arc::new(config.ok()?)))
    }
}

async fn answer(
    hosts: &Hosts,
    target: String,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, String> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map_err(|error| error.to_string())?;
    let asked = Asked {
        target,
        method: parts.method,
        uri: parts.uri,
        headers: parts.headers,
        body: String::from_utf8_lossy(&body.to_bytes()).into_owned(),
    };
    // The end of the connection is what a host that is not there has to say.
    let reply = hosts(asked).await.ok_or("no such host")?;
    tokio::time::sleep(reply.delay).await;
    let mut response = Response::builder().status(reply.status);
    for (name, value) in &reply.headers {
        response = response.header(*name, value);
    }
    response
        .body(Full::from(reply.body))
        .map_err(|error| error.to_string())
}
