//! A TLS proxy that writes down every request that goes through it.

use std::error::Error;
use std::sync::{Arc, Mutex};

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// A running proxy on loopback. It ends with the value, or with the test's runtime.
pub struct Proxy {
    /// Where it listens: `https://127.0.0.1:PORT`.
    pub url: String,
    /// Its certificate, PEM: trust this one.
    pub certificate: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    task: JoinHandle<()>,
}

/// One request that went through.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: String,
    /// Path and query.
    pub path: String,
}

impl Seen {
    /// Whether this is a watch: a process keeps those open all the time, whatever happens.
    pub fn is_watch(&self) -> bool {
        self.path.contains("watch=true")
    }
}

impl Proxy {
    /// Starts a proxy in front of `upstream` (`https://127.0.0.1:PORT`), whose authority stands in the file `ca`.
    pub async fn start(upstream: &str, ca: &str) -> Self {
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        let upstream: Uri = upstream.parse().unwrap();
        let upstream = upstream.authority().unwrap().to_string();
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let mut server = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key.into())
            .unwrap();
        server.alpn_protocols = vec![b"http/1.1".to_vec()];
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(ca).unwrap() {
            roots.add(certificate.unwrap()).unwrap();
        }
        let mut client = ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        client.alpn_protocols = vec![b"http/1.1".to_vec()];
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let seen = Arc::default();
        let relay = Relay {
            acceptor: TlsAcceptor::from(Arc::new(server)),
            connector: TlsConnector::from(Arc::new(client)),
            upstream,
            seen: Arc::clone(&seen),
        };
        Self {
            url,
            certificate: made.cert.pem(),
            seen,
            task: tokio::spawn(relay.run(listener)),
        }
    }

    /// Everything that went through so far, but for watches.
    pub fn requests(&self) -> Vec<Seen> {
        let mut seen = self.all();
        seen.retain(|request| !request.is_watch());
        seen
    }

    /// Everything that went through so far.
    pub fn all(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// Forgets what went through so far.
    pub fn forget(&self) {
        self.seen.lock().unwrap().clear();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Clone)]
struct Relay {
    acceptor: TlsAcceptor,
    connector: TlsConnector,
    upstream: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Relay {
    async fn run(self, listener: TcpListener) {
        while let Ok((connection, _)) = listener.accept().await {
            let relay = self.clone();
            // An error is the end of a connection, on this side as on the other.
            tokio::spawn(async move { drop(relay.relay(connection).await) });
        }
    }

    /// One connection here is one connection there, and ends with it.
    async fn relay(self, connection: TcpStream) -> Result<(), Box<dyn Error + Send + Sync>> {
        connection.set_nodelay(true)?;
        let here = self.acceptor.accept(connection).await?;
        let connection = TcpStream::connect(&self.upstream).await?;
        connection.set_nodelay(true)?;
        let name = ServerName::try_from("127.0.0.1")?;
        let there = self.connector.connect(name, connection).await?;
        let (sender, there) = hyper::client::conn::http1::handshake(TokioIo::new(there)).await?;
        let sender = Arc::new(tokio::sync::Mutex::new(sender));
        let service = service_fn(move |request: Request<Incoming>| {
            self.note(&request);
            let sender = Arc::clone(&sender);
            async move {
                let mut sender = sender.lock().await;
                sender.ready().await?;
                sender.send_request(request).await
            }
        });
        let here = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(here), service);
        let (mut here, mut there) = (std::pin::pin!(here), std::pin::pin!(there));
        tokio::select! {
            ended = here.as_mut() => return Ok(ended?),
            ended = there.as_mut() => drop(ended),
        }
        here.as_mut().graceful_shutdown();
        Ok(here.await?)
    }

    fn note(&self, request: &Request<Incoming>) {
        let path = request.uri().path_and_query();
        self.seen.lock().unwrap().push(Seen {
            method: request.method().to_string(),
            path: path.map(ToString::to_string).unwrap_or_default(),
        });
    }
}
