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

use super::file_reload::ReloadableFile;

/// Why authorities cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ClientCaError {
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
    #[error("{path} holds no usable CA certificate: {problem}")]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
}

/// The authorities that sign callers' certificates; they follow their file. Clones are the same.
#[derive(Clone, Debug)]
pub struct ClientCas {
    file: PathBuf,
    current: Arc<ArcSwap<LoadedCas>>,
}

#[derive(Debug)]
struct LoadedCas {
    pem: Vec<u8>,
    verifier: Arc<dyn ClientCertVerifier>,
}

impl ClientCas {
    /// Loads the authorities from a PEM file.
    ///
    /// # Errors
    /// A [`ClientCaError`] that names the file.
    pub fn load(file: impl Into<PathBuf>) -> Result<Self, ClientCaError> {
        let file = file.into();
        let trusted = LoadedCas::parse(&file, read(&file)?)?;
        Ok(Self {
            file,
            current: Arc::new(ArcSwap::from_pointee(trusted)),
        })
    }

    fn verifier(&self) -> Arc<dyn ClientCertVerifier> {
        Arc::clone(&self.current.load().verifier)
    }
}

impl ReloadableFile for ClientCas {
    type Error = ClientCaError;

    const UNUSABLE: &'static str =
        "client CA file changed and cannot be used: keeping the old CA certificates";
    const UNREADABLE: &'static str = "failed to read the client CA file";

    fn reload(&self) -> Result<bool, ClientCaError> {
        let pem = read(&self.file)?;
        if pem == self.current.load().pem {
            return Ok(false);
        }
        let trusted = LoadedCas::parse(&self.file, pem)?;
        self.current.store(Arc::new(trusted));
        Ok(true)
    }

    fn log_replaced(&self) {
        tracing::info!(tls.client_ca = %self.file.display(), "reloaded client CA certificates");
    }
}

fn read(file: &Path) -> Result<Vec<u8>, ClientCaError> {
    std::fs::read(file).map_err(|source| ClientCaError::Read {
        path: file.into(),
        source,
    })
}

impl LoadedCas {
    fn parse(file: &Path, pem: Vec<u8>) -> Result<Self, ClientCaError> {
        let unusable = |problem: String| ClientCaError::Unusable {
            path: file.into(),
            problem,
        };
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            let certificate = certificate.map_err(|source| ClientCaError::Pem {
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

/// Verifies by the current authorities. Callers do not learn their names: a caller has one certificate for us, or none.
impl ClientCertVerifier for ClientCas {
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
