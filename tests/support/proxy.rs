//! A TLS proxy that writes down every request that goes through it, and can answer some itself, or go silent.

use std::error::Error;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::{Either, Full};
use hyper::body::{Body, Bytes, Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// A running proxy on loopback. It ends with the value, or with the test's runtime.
pub struct Proxy {
    /// Where it listens: `https://127.0.0.1:PORT`.
    pub url: String,
    /// Its certificate, PEM: trust this one.
    pub certificate: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    faults: Faults,
    task: JoinHandle<()>,
}

/// What happens to a request instead of its being passed on.
#[derive(Clone, Debug)]
pub enum Fault {
    /// It is answered with this status, these headers and this body.
    Answer(u16, Vec<(&'static str, String)>, String),
    /// It is never answered.
    Hang,
    /// It is passed on after this time.
    Slow(Duration),
}

type Rule = dyn Fn(&Seen) -> Option<Fault> + Send + Sync;

/// What goes wrong at a proxy.
#[derive(Clone, Default)]
struct Faults {
    rule: Arc<Mutex<Option<Arc<Rule>>>>,
    /// How often all connections were silenced.
    silences: Arc<AtomicU64>,
    /// How often all connections were ended.
    cuts: watch::Sender<u64>,
    connections: Arc<AtomicU64>,
}

impl Faults {
    fn find(&self, seen: &Seen) -> Option<Fault> {
        let rule = self.rule.lock().unwrap().clone();
        rule.and_then(|rule| rule(seen))
    }

    fn is_silenced(&self, since: u64) -> bool {
        self.silences.load(Ordering::Acquire) != since
    }
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
        let faults = Faults::default();
        let relay = Relay {
            acceptor: TlsAcceptor::from(Arc::new(server)),
            connector: TlsConnector::from(Arc::new(client)),
            upstream,
            seen: Arc::clone(&seen),
            faults: faults.clone(),
        };
        Self {
            url,
            certificate: made.cert.pem(),
            seen,
            faults,
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

    /// From now on each request meets the fault that `rule` finds for it; [`Proxy::heal`] ends this.
    pub fn inject(&self, rule: impl Fn(&Seen) -> Option<Fault> + Send + Sync + 'static) {
        *self.faults.rule.lock().unwrap() = Some(Arc::new(rule));
    }

    /// Passes everything on again.
    pub fn heal(&self) {
        *self.faults.rule.lock().unwrap() = None;
    }

    /// Nothing comes through any connection that is open now, ever again, and nobody is told: they are half-open. New ones work.
    pub fn silence(&self) {
        self.faults.silences.fetch_add(1, Ordering::AcqRel);
    }

    /// Ends all connections that are open now.
    pub fn cut(&self) {
        self.faults.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// How many connections were opened so far.
    pub fn connections(&self) -> u64 {
        self.faults.connections.load(Ordering::Acquire)
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
    faults: Faults,
}

impl Relay {
    async fn run(self, listener: TcpListener) {
        while let Ok((connection, _)) = listener.accept().await {
            let relay = self.clone();
            self.faults.connections.fetch_add(1, Ordering::AcqRel);
            let mut cuts = self.faults.cuts.subscribe();
            // An error is the end of a connection, on this side as on the other.
            tokio::spawn(async move {
                tokio::select! {
                    ended = relay.relay(connection) => drop(ended),
                    _ = cuts.changed() => {}
                }
            });
        }
    }

    /// One connection here is one connection there, and ends with it.
    async fn relay(self, connection: TcpStream) -> Result<(), Box<dyn Error + Send + Sync>> {
        connection.set_nodelay(true)?;
        let began = self.faults.silences.load(Ordering::Acquire);
        let here = self.acceptor.accept(connection).await?;
        let connection = TcpStream::connect(&self.upstream).await?;
        connection.set_nodelay(true)?;
        let name = ServerName::try_from("127.0.0.1")?;
        let there = self.connector.connect(name, connection).await?;
        let (sender, there) = hyper::client::conn::http1::handshake(TokioIo::new(there)).await?;
        let sender = Arc::new(tokio::sync::Mutex::new(sender));
        let faults = self.faults.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let seen = self.note(&request);
            let (faults, sender) = (faults.clone(), Arc::clone(&sender));
            async move {
                match faults.find(&seen) {
                    Some(Fault::Answer(status, headers, body)) => {
                        return Ok(answer(status, headers, body));
                    }
                    Some(Fault::Hang) => std::future::pending().await,
                    Some(Fault::Slow(time)) => tokio::time::sleep(time).await,
                    None => {}
                }
                if faults.is_silenced(began) {
                    std::future::pending::<()>().await;
                }
                let mut sender = sender.lock().await;
                sender.ready().await?;
                let answer = sender.send_request(request).await?;
                let silent = |body| Silenced {
                    body,
                    faults,
                    began,
                };
                Ok::<_, hyper::Error>(answer.map(|body| Either::Left(silent(body))))
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

    fn note(&self, request: &Request<Incoming>) -> Seen {
        let path = request.uri().path_and_query();
        let seen = Seen {
            method: request.method().to_string(),
            path: path.map(ToString::to_string).unwrap_or_default(),
        };
        self.seen.lock().unwrap().push(seen.clone());
        seen
    }
}

fn answer(
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: String,
) -> Response<Either<Silenced, Full<Bytes>>> {
    let mut answer = Response::builder()
        .status(status)
        .header("content-type", "application/json");
    for (name, value) in headers {
        answer = answer.header(name, value);
    }
    answer.body(Either::Right(Full::from(body))).unwrap()
}

/// A body of which nothing more comes once its connection is silenced.
struct Silenced {
    body: Incoming,
    faults: Faults,
    began: u64,
}

impl Body for Silenced {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if self.faults.is_silenced(self.began) {
            return Poll::Pending;
        }
        frame
    }
}
