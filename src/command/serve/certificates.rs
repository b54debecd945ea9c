//! The certificates that pullpass makes for itself, as every replica sees them.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use rustls::pki_types::ServerName;
use tokio::sync::watch;

use super::Args;
use super::LOG_INTERVAL;
use super::manager::Manager;
use crate::certificates::decide::ValidityPeriods;
use crate::certificates::{CertificateSet, Metrics, is_trusted};
use crate::cluster::{
    CERTIFICATES, Certificates, Kube, WEBHOOKS, Watches, WebhookConfigs, WebhookKind,
};
use crate::controller::{CertRotator, WRONG_CLOCK};
use crate::server;
use crate::server::certificate::Certificate;

/// How often trust is checked when nothing rings.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// What certificates of our own are like.
#[derive(Debug, clap::Args)]
pub(super) struct CertificateArgs {
    /// Without --tls-cert: a further DNS name or IP address of the certificate, besides the Service's; may be
    /// repeated
    #[arg(long, value_name = "NAME|IP", value_parser = parse_host, conflicts_with = "tls_cert")]
    tls_host: Vec<String>,
    /// Without --tls-cert: how long a serving certificate is valid; it is replaced at two thirds of that
    #[arg(long, value_name = "DURATION", default_value = "2160h", value_parser = parse_validity, conflicts_with = "tls_cert")]
    certificate_validity: SignedDuration,
    /// Without --tls-cert: how long the CA that signs it is valid; it is replaced at two thirds of that, and trusted before it signs
    #[arg(long, value_name = "DURATION", default_value = "26280h", value_parser = parse_validity, conflicts_with = "tls_cert")]
    ca_validity: SignedDuration,
}

/// What a certificate can be checked for: <https://datatracker.ietf.org/doc/html/rfc6125#section-6.4>
fn parse_host(text: &str) -> Result<String, String> {
    let name = ServerName::try_from(text);
    name.ok()
        .filter(|_| !text.ends_with('.'))
        .map(|_| text.to_owned())
        .ok_or_else(|| {
            "give a DNS name or an IP address alone, without scheme, port or wildcard, such as webhook.example.internal".to_owned()
        })
}

fn parse_validity(text: &str) -> Result<SignedDuration, String> {
    let validity = text.parse::<SignedDuration>();
    validity
        .ok()
        .filter(|validity| (10..=20 * 365 * 86_400).contains(&validity.as_secs()))
        .ok_or_else(|| {
            "give a duration of 10 s to 20 years with its unit, such as 2160h".to_owned()
        })
}

/// Certificates of our own; nothing to do where they are files.
pub(super) struct WebhookCertificates {
    made: Option<SelfManaged>,
    metrics: Metrics,
}

struct SelfManaged {
    known: Arc<Certificates>,
    configurations: Arc<WebhookConfigs>,
    hosts: Vec<String>,
    validity: ValidityPeriods,
}

impl WebhookCertificates {
    /// Adds what is to be watched.
    pub(super) fn prepare(
        args: &Args,
        kube: &Kube,
        watches: &mut Watches,
        manager: &mut Manager,
    ) -> Self {
        let metrics = Metrics::default();
        metrics.register(&mut manager.metrics);
        if args.manager.tls_cert.is_some() {
            return Self {
                made: None,
                metrics,
            };
        }
        let configurations = Arc::<WebhookConfigs>::default();
        watches.add_webhooks(kube, &configurations);
        let known = Arc::new(Certificates::default());
        watches.add_certificates(kube, &known);
        let service = format!("pullpass.{}.svc", kube.namespace());
        let hosts = std::iter::once(service).chain(args.certificates.tls_host.iter().cloned());
        Self {
            made: Some(SelfManaged {
                known,
                configurations,
                hosts: hosts.collect(),
                validity: ValidityPeriods {
                    serving: args.certificates.certificate_validity,
                    authority: args.certificates.ca_validity,
                },
            }),
            metrics,
        }
    }

    /// What keeps them, on the leader.
    pub(super) fn cert_rotator(&self, kube: &Kube) -> Option<CertRotator> {
        let made = self.made.as_ref()?;
        Some(CertRotator::new(
            kube.clone(),
            Arc::clone(&made.known),
            Arc::clone(&made.configurations),
            made.hosts.clone(),
            made.validity,
            self.metrics.clone(),
            Timestamp::now,
        ))
    }

    /// Begins to serve with them. What is answered ends when the API server trusts them.
    pub(super) fn start(self, manager: &mut Manager) -> BoxFuture<'static, ()> {
        let Some(made) = self.made else {
            return std::future::ready(()).boxed();
        };
        let (trust_sender, trust) = watch::channel(Trust::NoCertificate);
        let follower = CertificateReloader {
            made,
            metrics: self.metrics,
            certificate: manager.certificate.clone(),
            listener: manager.listener.clone(),
            held: None,
            missing: vec![WebhookKind::Mutating, WebhookKind::Validating],
            trust_sender,
        };
        manager.tasks.spawn(async move {
            follower.run().await;
            Ok(())
        });
        wait_for(trust).boxed()
    }
}

/// Whether the API server takes what is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trust {
    NoCertificate,
    NoWebhooks,
    /// What is served was made in the future.
    WrongClock,
    Distrusting,
    Trusted,
}

/// Serves with what the Secret holds, on each replica.
struct CertificateReloader {
    made: SelfManaged,
    metrics: Metrics,
    certificate: Certificate,
    listener: server::Metrics,
    /// What the Secret held when it was last usable, and in which state.
    held: Option<(String, CertificateSet)>,
    /// The configurations that were missing at the last check.
    missing: Vec<WebhookKind>,
    trust_sender: watch::Sender<Trust>,
}

impl CertificateReloader {
    async fn run(mut self) {
        let mut secret = self.made.known.subscribe();
        let mut webhooks = self.made.configurations.subscribe();
        let mut refused = String::new();
        loop {
            secret.mark_unchanged();
            webhooks.mark_unchanged();
            self.take(&mut refused);
            self.check_configurations();
            let trust = self.observe(Timestamp::now());
            self.trust_sender.send_replace(trust);
            // The senders are as long-lived as this.
            tokio::select! {
                () = tokio::time::sleep(CHECK_INTERVAL) => {}
                _ = secret.changed() => {}
                _ = webhooks.changed() => {}
            }
        }
    }

    /// Takes what the Secret holds into use. One that is gone or damaged changes nothing.
    fn take(&mut self, refused: &mut String) {
        let Some(secret) = self.made.known.secret() else {
            return;
        };
        let version = &secret.version.resource_version;
        let held = self.held.as_ref();
        if held.is_some_and(|(taken, _)| taken == version) || refused == version {
            return;
        }
        let taken = match CertificateSet::read(&secret.data, &self.made.hosts) {
            Ok(held) => {
                let pair = held.pair();
                let taken = self
                    .certificate
                    .take(&pair.certificate, &pair.key, &self.listener);
                taken.map(|()| held).map_err(|error| error.to_string())
            }
            Err(damage) => Err(damage.to_string()),
        };
        match taken {
            Ok(held) => self.held = Some((version.clone(), held)),
            Err(problem) => {
                version.clone_into(refused);
                tracing::warn!(
                    secret.name = CERTIFICATES,
                    "cannot use the certificates Secret, keeping the serving certificate in use: {problem}"
                );
            }
        }
    }

    /// Says which configurations went away. At the start none of them is known.
    fn check_configurations(&mut self) {
        let missing = self.made.configurations.missing();
        self.metrics.set_missing(missing.len());
        let gone = missing.iter().filter(|kind| !self.missing.contains(kind));
        for kind in gone {
            let price = match kind {
                WebhookKind::Mutating => "Pods are created without pull secrets",
                WebhookKind::Validating => "Registries and Pods are not validated",
            };
            tracing::warn!(
                webhook.configuration = WEBHOOKS,
                "the {} was deleted or is forbidden: {price} until it is restored (helm upgrade, or kubectl apply -f manifests/install.yaml)",
                kind.kind()
            );
        }
        self.missing = missing;
    }

    fn observe(&self, now: Timestamp) -> Trust {
        let Some((_, held)) = &self.held else {
            return Trust::NoCertificate;
        };
        let Some(webhooks) = self.made.configurations.all() else {
            return Trust::NoWebhooks;
        };
        let certificate = &held.pair().certificate;
        let trusts = |bundle: &[u8]| {
            let mut hosts = self.made.hosts.iter();
            hosts.all(|host| is_trusted(bundle, certificate, host, now))
        };
        let webhooks = webhooks.iter();
        let bundles = webhooks.flat_map(|configuration| configuration.webhooks.iter());
        let distrusting = bundles.filter(|(_, bundle)| !trusts(bundle)).count();
        self.metrics.set_distrusting(distrusting);
        if distrusting > 0 && held.view().is_from_future(now) {
            Trust::WrongClock
        } else if distrusting > 0 {
            Trust::Distrusting
        } else {
            Trust::Trusted
        }
    }
}

/// Ends when the API server trusts what is served; says now and then what is missing.
async fn wait_for(mut trust: watch::Receiver<Trust>) {
    loop {
        let trusted = trust.wait_for(|trust| *trust == Trust::Trusted);
        if tokio::time::timeout(LOG_INTERVAL, trusted).await.is_ok() {
            return;
        }
        let now = *trust.borrow();
        let missing = match now {
            Trust::Trusted => continue,
            Trust::NoCertificate => {
                format!(
                    "waiting for the leader to create the serving certificate: Secret {CERTIFICATES}"
                )
            }
            Trust::NoWebhooks => format!(
                "mutatingwebhookconfiguration {WEBHOOKS} does not exist or is forbidden: kubectl apply -f manifests/install.yaml"
            ),
            Trust::WrongClock => {
                format!("the serving certificate was made in the future: {WRONG_CLOCK}")
            }
            Trust::Distrusting => format!(
                "caBundle of mutatingwebhookconfiguration or validatingwebhookconfiguration {WEBHOOKS} does not trust the serving certificate yet"
            ),
        };
        tracing::warn!("not ready: {missing}");
    }
}
