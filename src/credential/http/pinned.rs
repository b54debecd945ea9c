//! A client for one server that has an authority and addresses of its own, as the token proxy of AKS has.

use std::net::IpAddr;

use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_smithy_http_client::{Connector, ConnectorBuilder};
use aws_smithy_runtime_api::client::dns::{DnsFuture, ResolveDns, ResolveDnsError};
use aws_smithy_runtime_api::client::http::SharedHttpConnector;
use tokio::net::lookup_host;

use super::{
    HttpClient, HttpClientError, ProxyConfig, check_authorities, has_native_roots, root_cause,
    settings,
};

impl HttpClient {
    /// A client that trusts the authorities `ca` (PEM) alone, or those of the machine where there is none, that finds every name at the
    /// addresses of `host`, and that goes through no proxy.
    ///
    /// # Errors
    /// [`HttpClientError`] when `ca` holds no certificate or a broken one.
    pub(crate) fn pinned(ca: Option<&[u8]>, host: &str) -> Result<Self, HttpClientError> {
        let trust = TrustStore::empty();
        let trust = if let Some(pem) = ca {
            check_authorities(pem)?;
            trust.with_pem_certificate(pem)
        } else {
            trust.with_native_roots(has_native_roots())
        };
        let tls = TlsContext::builder().with_trust_store(trust).build();
        let tls = tls.map_err(|error| HttpClientError::Tls {
            detail: root_cause(&error),
        })?;
        let builder: ConnectorBuilder = Connector::builder();
        let connector = builder
            .connector_settings(settings())
            .proxy_config(ProxyConfig::disabled())
            .tls_provider(Provider::rustls(CryptoMode::AwsLc))
            .tls_context(tls)
            .build_with_resolver(PinnedHost(host.to_owned()));
        let connector = SharedHttpConnector::new(connector);
        Ok(Self {
            cloud: connector.clone(),
            metadata: connector,
        })
    }
}

/// Finds every name at the addresses of this host, a name or an address.
#[derive(Clone, Debug)]
struct PinnedHost(String);

impl ResolveDns for PinnedHost {
    fn resolve_dns<'a>(&'a self, _: &'a str) -> DnsFuture<'a> {
        DnsFuture::new(async move {
            let found = lookup_host((self.0.as_str(), 0)).await;
            let found = found.map_err(ResolveDnsError::new)?;
            Ok(found.map(|address| address.ip()).collect::<Vec<IpAddr>>())
        })
    }
}
