//! Counters of the listeners.

use std::io;
use std::sync::Arc;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::log_throttle::LogThrottle;
use crate::metric::{ByLabel, register};

/// What callers can have warned of as often as they like: each is logged once a minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Warning {
    Refused,
    Unauthenticated,
    Full,
    Accept,
}

/// What a listener counts. Clones count together.
#[derive(Clone, Debug)]
pub struct Metrics {
    connections: Gauge,
    handshakes: ByLabel<Handshake, Counter>,
    reloads: ByLabel<Reload, Counter>,
    certificate_expiry: Gauge,
    warnings: Arc<LogThrottle<Warning>>,
}

impl Default for Metrics {
    fn default() -> Self {
        let reloads = ByLabel::new("outcome", Counter::default);
        Self {
            connections: Gauge::default(),
            handshakes: ByLabel::new("reason", Counter::default).with(Handshake::ALL),
            reloads: reloads.with([Reload::Replaced, Reload::Failed]),
            certificate_expiry: Gauge::default(),
            warnings: Arc::default(),
        }
    }
}

/// Why a TLS handshake failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Handshake {
    /// Not finished in time.
    Timeout,
    /// The caller went away.
    Closed,
    /// The caller refuses, most often our certificate.
    Refused,
    /// No TLS version, cipher or protocol in common.
    Incompatible,
    /// Not TLS at all.
    NotTls,
    /// The caller shows no certificate that it may call with.
    Unauthenticated,
    /// Something else.
    Other,
}

/// How a check of the certificate's files, or of the client authorities', ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Reload {
    /// A new certificate is in use.
    Replaced,
    /// What is there cannot be used; the old one stays.
    Failed,
}

impl Handshake {
    const ALL: [Self; 7] = [
        Self::Timeout,
        Self::Closed,
        Self::Refused,
        Self::Incompatible,
        Self::NotTls,
        Self::Unauthenticated,
        Self::Other,
    ];

    pub(super) fn of(error: &io::Error) -> Self {
        match error
            .get_ref()
            .and_then(|error| error.downcast_ref::<rustls::Error>())
        {
            Some(rustls::Error::AlertReceived(_)) => Self::Refused,
            Some(rustls::Error::PeerIncompatible(_) | rustls::Error::NoApplicationProtocol) => {
                Self::Incompatible
            }
            Some(rustls::Error::InvalidMessage(_)) => Self::NotTls,
            Some(rustls::Error::NoCertificatesPresented | rustls::Error::InvalidCertificate(_)) => {
                Self::Unauthenticated
            }
            Some(_) => Self::Other,
            None => Self::Closed,
        }
    }
}

impl Metrics {
    /// Adds these counters to what the metrics endpoint shows.
    pub fn register(&self, registry: &mut Registry) {
        register(registry, "pullpass_connections", &self.connections);
        register(
            registry,
            "pullpass_tls_handshake_failures",
            &self.handshakes,
        );
        register(registry, "pullpass_certificate_reloads", &self.reloads);
        register(
            registry,
            "pullpass_certificate_expiry_timestamp_seconds",
            &self.certificate_expiry,
        );
    }

    pub(super) fn set_certificate_expiry(&self, seconds: Option<i64>) {
        self.certificate_expiry.set(seconds.unwrap_or_default());
    }

    pub(super) fn open(&self) -> Open {
        self.connections.inc();
        Open(self.connections.clone())
    }

    pub(super) fn count_reload(&self, outcome: Reload) {
        self.reloads.of(outcome).inc();
    }

    /// Counts a failed handshake. A certificate that callers do not trust is the outage that webhooks have most, so it is said
    /// aloud, once a minute.
    pub(super) fn count_handshake(&self, reason: Handshake, error: &io::Error) {
        self.handshakes.of(reason).inc();
        let warnings = &self.warnings;
        let suppressed = match reason {
            Handshake::Refused => warnings.admit(Warning::Refused),
            Handshake::Unauthenticated => warnings.admit(Warning::Unauthenticated),
            _ => None,
        };
        match (reason, suppressed) {
            (Handshake::Refused, Some(suppressed)) => {
                tracing::warn!(%error, suppressed, "TLS handshake refused by the client: check that caBundle of the webhook configurations holds pullpass' CA");
            }
            (_, Some(suppressed)) => {
                tracing::warn!(%error, suppressed, "TLS handshake failed: no client certificate signed by --client-ca; if the client is the API server, check its --admission-control-config-file");
            }
            (_, None) => tracing::debug!(%error, tls.reason = ?reason, "TLS handshake failed"),
        }
    }

    /// Says, once a minute, that idle connections make place for new ones.
    pub(super) fn warn_full(&self, connections: usize) {
        if let Some(suppressed) = self.warnings.admit(Warning::Full) {
            tracing::warn!(
                connections,
                suppressed,
                "connection limit reached: closing the longest idle connections; find out which client opens so many"
            );
        }
    }

    /// Says, once a minute, that connections cannot be accepted.
    pub(super) fn warn_accept(&self, error: &io::Error) {
        if let Some(suppressed) = self.warnings.admit(Warning::Accept) {
            tracing::warn!(%error, suppressed, "failed to accept a connection, retrying");
        }
    }
}

/// An open connection, as long as it lives.
pub(super) struct Open(Gauge);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}
