//! A client that costs as little as can be, so that it does not become what is measured.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use rustls::client::Resumption;
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use rustls::{CipherSuite, ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// What is asked, and of whom.
pub(crate) struct Target {
    address: SocketAddr,
    connector: TlsConnector,
    request: Vec<u8>,
}

/// A connection.
pub(crate) struct Connection {
    stream: TlsStream<TcpStream>,
    buffer: Vec<u8>,
}

impl Target {
    /// A review to be sent to an address.
    pub(crate) fn new(address: SocketAddr, ca: &str, body: &[u8]) -> anyhow::Result<Self> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(ca.as_bytes())?)?;
        // As Go's client does on machines with AES instructions.
        let mut provider = rustls::crypto::aws_lc_rs::default_provider();
        provider
            .cipher_suites
            .sort_by_key(|suite| suite.suite() != CipherSuite::TLS13_AES_128_GCM_SHA256);
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.resumption = Resumption::disabled();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let mut request = format!(
            "POST /mutate?timeout=10s HTTP/1.1\r\nHost: localhost:{}\r\nUser-Agent: kube-apiserver-admission\r\nContent-Length: {}\r\n\
             Accept: application/json, */*\r\nContent-Type: application/json\r\nAccept-Encoding: gzip\r\n\r\n",
            address.port(),
            body.len()
        )
        .into_bytes();
        request.extend_from_slice(body);
        Ok(Self {
            address,
            connector: TlsConnector::from(Arc::new(config)),
            request,
        })
    }

    /// Opens a connection.
    pub(crate) async fn connect(&self) -> anyhow::Result<Connection> {
        let stream = TcpStream::connect(self.address).await.context("connect")?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from("localhost")?;
        let stream = self
            .connector
            .connect(name, stream)
            .await
            .context("TLS handshake")?;
        Ok(Connection {
            stream,
            buffer: vec![0; 16 * 1024],
        })
    }
}

impl Connection {
    /// Sends the request and waits for the body of the answer.
    pub(crate) async fn ask(&mut self, target: &Target) -> anyhow::Result<Vec<u8>> {
        let body = self.exchange(target).await?;
        Ok(self.buffer[body].to_vec())
    }

    /// Sends the request and compares the body of the answer.
    pub(crate) async fn expect(&mut self, target: &Target, expected: &[u8]) -> anyhow::Result<()> {
        let body = self.exchange(target).await?;
        ensure!(&self.buffer[body] == expected, "another answer than before");
        Ok(())
    }

    async fn exchange(&mut self, target: &Target) -> anyhow::Result<std::ops::Range<usize>> {
        self.stream
            .write_all(&target.request)
            .await
            .context("send")?;
        self.stream.flush().await.context("send")?;
        let mut filled = 0;
        loop {
            ensure!(filled < self.buffer.len(), "the answer is too long");
            let read = self
                .stream
                .read(&mut self.buffer[filled..])
                .await
                .context("receive")?;
            ensure!(
                read > 0,
                "the connection was closed before the answer was complete"
            );
            filled += read;
            if let Some(body) = find_body(&self.buffer[..filled])?
                && body.end <= filled
            {
                ensure!(body.end == filled, "more than one answer");
                return Ok(body);
            }
        }
    }
}

/// Where the body is, as soon as the header is complete.
fn find_body(answer: &[u8]) -> anyhow::Result<Option<std::ops::Range<usize>>> {
    let Some(header) = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
        return Ok(None);
    };
    let text = std::str::from_utf8(&answer[..header])?;
    ensure!(
        text.starts_with("HTTP/1.1 200 "),
        "{}",
        text.lines().next().unwrap_or_default()
    );
    let length: usize = text
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .context("the answer has no content-length")?
        .parse()?;
    Ok(Some(header + 4..header + 4 + length))
}
