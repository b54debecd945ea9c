//! Who may call: clients that show a certificate which one of an admin's authorities signed.
//!
//! kube-apiserver shows one only where its `--admission-control-config-file` says so, which is on clusters whose control plane is
//! one's own: <https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/#authenticate-apiservers>

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, RootCertStore, SignatureScheme};

use super::follow::{Followed, follow};
use super::metrics::Metrics;

/// Why authorities cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CallersError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// The file is not what it should be.
    #[error("{path} is not a list of certificates in PEM: {source}")]
    Pem {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: rustls::pki_types::pem::Error,
    },
    /// A certificate in it is of a kind that cannot be used, or there is none.
    #[error("{path} holds no usable authority: {problem}")]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
}

/// The authorities that sign callers' certificates; they follow their file. Clones are the same.
#[derive(Clone, Debug)]
pub struct Callers {
    file: PathBuf,
    current: Arc<ArcSwap<Trusted>>,
}

#[derive(Debug)]
struct Trusted {
    pem: Vec<u8>,
    verifier: Arc<dyn ClientCertVerifier>,
}

impl Callers {
    /// Loads the authorities from a PEM file.
    ///
    /// # Errors
    /// A [`CallersError`] that names the file.
    pub fn load(file: impl Into<PathBuf>) -> Result<Self, CallersError> {
        let file = file.into();
        let trusted = Trusted::parse(&file, read(&file)?)?;
        Ok(Self {
            file,
            current: Arc::new(ArcSwap::from_pointee(trusted)),
        })
    }

    /// Looks at the file once. `true`: its content is another one, and counts from now on for every new connection.
    ///
    /// # Errors
    /// What is there cannot be used: the old authorities stay.
    pub fn reload(&self) -> Result<bool, CallersError> {
        let pem = read(&self.file)?;
        if pem == self.current.load().pem {
            return Ok(false);
        }
        let trusted = Trusted::parse(&self.file, pem)?;
        self.current.store(Arc::new(trusted));
        Ok(true)
    }

    /// Looks at the file every few seconds, for ever.
    pub async fn run(self, metrics: Metrics) {
        follow(self, metrics).await;
    }

    fn verifier(&self) -> Arc<dyn ClientCertVerifier> {
        Arc::clone(&self.current.load().verifier)
    }
}

impl Followed for Callers {
    type Error = CallersError;

    const UNUSABLE: &'static str =
        "the authorities of callers changed and cannot be used: the old ones stay";
    const UNSEEN: &'static str = "the authorities of callers could not be looked at";

    fn reload(&self) -> Result<bool, CallersError> {
        self.reload()
    }

    fn tell_replaced(&self) {
        tracing::info!(tls.callers = %self.file.display(), "callers are checked by other authorities now");
    }
}

fn read(file: &Path) -> Result<Vec<u8>, CallersError> {
    std::fs::read(file).map_err(|source| CallersError::Read {
        path: file.into(),
        source,
    })
}

impl Trusted {
    fn parse(file: &Path, pem: Vec<u8>) -> Result<Self, CallersError> {
        let unusable = |problem: String| CallersError::Unusable {
            path: file.into(),
            problem,
        };
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            let certificate = certificate.map_err(|source| CallersError::Pem {
                path: file.into(),
                source,
            })?;
            roots
                .add(certificate)
                .map_err(|error| unusable(error.to_string()))?;
        }
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        let verifier = verifier
            .build()
            .map_err(|error| unusable(error.to_string()))?;
        Ok(Self { pem, verifier })
    }
}

/// What the current authorities say. No caller is told their names: it has one certificate for us, or none.
impl ClientCertVerifier for Callers {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.verifier()
            .verify_client_cert(end_entity, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier()
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier()
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier().supported_verify_schemes()
    }
}
