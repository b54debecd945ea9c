//! A TLS server in this process, and callers of it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use pullpass::command::certs;
use pullpass::server::certificate::Certificate;
use pullpass::server::{self, Bounds, Drain, Metrics, Phase, Server};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use secrecy::ExposeSecret as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// How long a test waits for what must happen.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A server that runs until it is told to close.
pub struct Running {
    pub address: SocketAddr,
    pub drain: Drain,
    pub ca: CertificateDer<'static>,
    pub ca_pem: String,
    server: JoinHandle<()>,
    _folder: tempfile::TempDir,
}

/// Starts a TLS server on a free port of loopback.
pub async fn start(application: Router, bounds: Bounds) -> Running {
    let folder = tempfile::tempdir().unwrap();
    let made = certs::make(
        &["localhost".into(), "127.0.0.1".into()],
        jiff::Timestamp::now(),
    )
    .unwrap();
    let (certificate, key) = (folder.path().join("tls.crt"), folder.path().join("tls.key"));
    std::fs::write(&certificate, &made.certificate).unwrap();
    std::fs::write(&key, made.key.expose_secret()).unwrap();
    let tls = Certificate::load(certificate, key)
        .unwrap()
        .server_config(None);
    let listener = server::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let drain = Drain::default();
    let server = Server {
        listener,
        tls: Some(tls),
        application,
        bounds,
        metrics: Metrics::default(),
    };
    let server = tokio::spawn(server.run(drain.clone()));
    let ca = CertificateDer::from_pem_slice(made.ca.as_bytes()).unwrap();
    Running {
        address,
        drain,
        ca,
        ca_pem: made.ca,
        server,
        _folder: folder,
    }
}

impl Running {
    /// A client's side of TLS that offers these protocols.
    pub fn client(&self, alpn: &[&[u8]]) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(self.ca.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap();
        let mut config = config.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        TlsConnector::from(Arc::new(config))
    }

    /// A TLS connection for HTTP/1.1.
    pub async fn connect(&self) -> TlsStream<TcpStream> {
        self.connect_as(&[b"http/1.1"], "localhost").await.unwrap()
    }

    /// A TLS connection that offers these protocols and asks for this name.
    pub async fn connect_as(
        &self,
        alpn: &[&[u8]],
        name: &'static str,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(self.address).await?;
        self.client(alpn)
            .connect(ServerName::try_from(name).unwrap(), stream)
            .await
    }

    /// Waits until the server has ended.
    pub async fn ended(self) {
        tokio::time::timeout(PATIENCE, self.server)
            .await
            .expect("the server ends")
            .unwrap();
    }

    /// Ends the server.
    pub async fn close(self) {
        self.drain.enter(Phase::Closing);
        self.ended().await;
    }
}

/// Sends bytes as they are.
pub async fn send(stream: &mut TlsStream<TcpStream>, text: &str) {
    stream.write_all(text.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
}

/// Reads one answer of HTTP/1.1 with a content-length: its head and its body.
pub async fn receive(stream: &mut TlsStream<TcpStream>) -> (String, String) {
    let read = async {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.expect("an answer"));
        }
        let head = String::from_utf8(head).unwrap().to_lowercase();
        let length = head
            .split("content-length: ")
            .nth(1)
            .and_then(|rest| rest.split("\r\n").next());
        let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
        stream.read_exact(&mut body).await.unwrap();
        (head, String::from_utf8(body).unwrap())
    };
    tokio::time::timeout(PATIENCE, read)
        .await
        .expect("an answer in time")
}

/// Waits until the peer has ended the connection; what it sent before is thrown away.
pub async fn closed(stream: &mut TlsStream<TcpStream>) {
    let read =
        async { while matches!(stream.read(&mut [0; 1024]).await, Ok(count) if count > 0) {} };
    tokio::time::timeout(PATIENCE, read)
        .await
        .expect("the peer ends the connection");
}
