//! The serving certificate, and its replacement while serving.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use secrecy::{SecretSlice, SecretString};

use super::client_auth::ClientCas;
use super::file_reload::ReloadableFile;
use super::metrics::{Metrics, Reload};
use crate::plain_text::{Fingerprint, private_key};

/// The one protocol that is offered by ALPN: kube-apiserver asks webhooks for no other
/// (<https://github.com/kubernetes/kubernetes/issues/75791>). <https://www.iana.org/assignments/tls-extensiontype-values#alpn-protocol-ids>
const ALPN_HTTP1: &[u8] = b"http/1.1";

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// A file is not what it should be.
    #[error("{path} holds no usable {what}: {source}")]
    Pem {
        /// The file.
        path: PathBuf,
        /// `certificate` or `private key`.
        what: &'static str,
        /// What is wrong.
        source: rustls::pki_types::pem::Error,
    },
    /// The two do not belong together, or are of a kind that cannot be used.
    #[error("{certificate} and {key} cannot be used together: {source}")]
    Pair {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What is wrong.
        source: rustls::Error,
    },
}

/// A serving certificate that follows its files, or is given. Clones are the same.
#[derive(Clone, Debug)]
pub struct Certificate {
    files: Option<Arc<Files>>,
    current: Arc<ArcSwapOption<Loaded>>,
}

#[derive(Debug)]
struct Files {
    certificate: PathBuf,
    key: PathBuf,
}

#[derive(Debug)]
struct Loaded {
    fingerprint: [u8; 32],
    pair: Arc<CertifiedKey>,
    /// When the first certificate of the chain ends to be valid, in seconds since 1970; `None`: it does not say so readably.
    not_after: Option<i64>,
}

impl Certificate {
    /// Loads the pair from two PEM files.
    ///
    /// # Errors
    /// A [`CertificateError`] that names the file.
    pub fn load(
        certificate: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
    ) -> Result<Self, CertificateError> {
        let (certificate, key) = (certificate.into(), key.into());
        let pem = Pem::read(&certificate, &key)?;
        let loaded = pem.parse(&certificate, &key)?;
        Ok(Self {
            files: Some(Arc::new(Files { certificate, key })),
            current: Arc::new(ArcSwapOption::from_pointee(loaded)),
        })
    }

    /// One that is given later: until then every handshake fails.
    pub fn awaited() -> Self {
        Self {
            files: None,
            current: Arc::default(),
        }
    }

    /// Takes a pair, PEM, into use: connections that are open stay as they are.
    ///
    /// # Errors
    /// It cannot be used: what was in use stays.
    pub fn take(
        &self,
        certificate: &str,
        key: &SecretString,
        metrics: &Metrics,
    ) -> Result<(), CertificateError> {
        let pem = Pem {
            certificate: certificate.as_bytes().to_vec(),
            key: private_key::to_bytes(key),
        };
        if self.serves(&pem) {
            return Ok(());
        }
        let loaded = pem.parse(Path::new("tls.crt"), Path::new("tls.key"));
        let loaded = loaded.inspect_err(|_| metrics.count_reload(Reload::Failed))?;
        metrics.set_certificate_expiry(loaded.not_after);
        if self.current.swap(Some(Arc::new(loaded))).is_some() {
            metrics.count_reload(Reload::Replaced);
        }
        tracing::info!("reloaded serving certificate");
        Ok(())
    }

    fn serves(&self, pem: &Pem) -> bool {
        let current = self.current.load();
        current
            .as_ref()
            .is_some_and(|current| current.fingerprint == pem.fingerprint())
    }

    /// The TLS side of a listener: TLS 1.2 and 1.3, HTTP/1.1, this certificate whatever name the caller asks for. For these callers
    /// alone; `None`: for everybody.
    ///
    /// # Panics
    /// Never: the provider has ciphers for both versions.
    pub fn server_config(&self, client_cas: Option<&ClientCas>) -> Arc<ServerConfig> {
        let builder = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
        let builder = builder
            .with_protocol_versions(&[&TLS13, &TLS12])
            .expect("the provider has ciphers for both versions");
        let builder = match client_cas {
            Some(client_cas) => builder.with_client_cert_verifier(Arc::new(client_cas.clone())),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(Arc::new(self.clone()));
        config.alpn_protocols = vec![ALPN_HTTP1.to_vec()];
        // kube-apiserver keeps connections and never resumes sessions: tickets would only cost.
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Arc::new(config)
    }
}

impl ReloadableFile for Certificate {
    type Error = CertificateError;

    const UNUSABLE: &'static str =
        "serving certificate files changed and cannot be used: keeping the old certificate";
    const UNREADABLE: &'static str = "failed to read the serving certificate files";

    fn reload(&self) -> Result<bool, CertificateError> {
        let Some(files) = &self.files else {
            return Ok(false);
        };
        let pem = Pem::read(&files.certificate, &files.key)?;
        if self.serves(&pem) {
            return Ok(false);
        }
        let loaded = pem.parse(&files.certificate, &files.key)?;
        self.current.store(Some(Arc::new(loaded)));
        Ok(true)
    }

    fn log_replaced(&self) {
        tracing::info!("reloaded serving certificate");
    }

    fn show(&self, metrics: &Metrics) {
        let not_after = self
            .current
            .load()
            .as_ref()
            .and_then(|loaded| loaded.not_after);
        metrics.set_certificate_expiry(not_after);
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let current = self.current.load();
        current.as_ref().map(|loaded| Arc::clone(&loaded.pair))
    }
}

/// The content of the two files.
struct Pem {
    certificate: Vec<u8>,
    key: SecretSlice<u8>,
}

impl Pem {
    fn read(certificate: &Path, key: &Path) -> Result<Self, CertificateError> {
        let read = |path: &Path| {
            std::fs::read(path).map_err(|source| CertificateError::Read {
                path: path.into(),
                source,
            })
        };
        Ok(Self {
            certificate: read(certificate)?,
            key: read(key)?.into(),
        })
    }

    fn fingerprint(&self) -> [u8; 32] {
        Fingerprint::default()
            .add(&self.certificate)
            .add_secret(&self.key)
            .finish()
    }

    /// The pair as the TLS library takes it; that the two belong together is checked there.
    fn parse(&self, certificate: &Path, key: &Path) -> Result<Loaded, CertificateError> {
        let refuse = |source| CertificateError::Pem {
            path: certificate.into(),
            what: "certificate",
            source,
        };
        let chain: Vec<_> = CertificateDer::pem_slice_iter(&self.certificate)
            .collect::<Result<_, _>>()
            .map_err(refuse)?;
        if chain.is_empty() {
            return Err(refuse(rustls::pki_types::pem::Error::NoItemsFound));
        }
        let not_after = x509_parser::parse_x509_certificate(&chain[0])
            .ok()
            .map(|(_, parsed)| parsed.validity().not_after.timestamp());
        let private = private_key::read_der(&self.key);
        let private = private.map_err(|source| CertificateError::Pem {
            path: key.into(),
            what: "private key",
            source,
        })?;
        let pair = CertifiedKey::from_der(chain, private, &aws_lc_rs::default_provider());
        let pair = pair.map_err(|source| CertificateError::Pair {
            certificate: certificate.into(),
            key: key.into(),
            source,
        })?;
        Ok(Loaded {
            fingerprint: self.fingerprint(),
            pair: Arc::new(pair),
            not_after,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::time::Duration;

    use super::super::file_reload::POLL;
    use super::*;
    use crate::server::follow_file;

    /// A folder as the kubelet mounts a Secret: the files are links into `..data`, which is a link to the version.
    struct Mount(tempfile::TempDir);

    impl Mount {
        fn new() -> Self {
            let mount = Self(tempfile::tempdir().unwrap());
            mount.swap("1", &pair());
            for file in ["tls.crt", "tls.key"] {
                symlink(Path::new("..data").join(file), mount.0.path().join(file)).unwrap();
            }
            mount
        }

        fn swap(&self, version: &str, (certificate, key): &(String, String)) {
            let folder = self.0.path().join(version);
            std::fs::create_dir(&folder).unwrap();
            std::fs::write(folder.join("tls.crt"), certificate).unwrap();
            std::fs::write(folder.join("tls.key"), key).unwrap();
            symlink(version, self.0.path().join("..new")).unwrap();
            std::fs::rename(self.0.path().join("..new"), self.0.path().join("..data")).unwrap();
        }

        fn load(&self) -> Certificate {
            Certificate::load(self.0.path().join("tls.crt"), self.0.path().join("tls.key")).unwrap()
        }
    }

    fn pair() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    fn served(certificate: &Certificate) -> Vec<u8> {
        certificate.current.load().as_ref().unwrap().pair.cert[0].to_vec()
    }

    fn der(pair: &(String, String)) -> Vec<u8> {
        CertificateDer::from_pem_slice(pair.0.as_bytes())
            .unwrap()
            .to_vec()
    }

    #[tokio::test(start_paused = true)]
    async fn follows_two_swaps_of_a_mounted_secret() {
        let mount = Mount::new();
        let certificate = mount.load();
        let run = tokio::spawn(follow_file(certificate.clone(), Metrics::default()));
        for version in ["2", "3"] {
            let pair = pair();
            mount.swap(version, &pair);
            let deadline = tokio::time::Instant::now() + POLL * 3;
            while served(&certificate) != der(&pair) {
                assert!(
                    tokio::time::Instant::now() < deadline,
                    "version {version} is not in use"
                );
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
        run.abort();
    }

    #[test]
    fn keeps_old_pair_when_new_one_is_not_whole() {
        let mount = Mount::new();
        let certificate = mount.load();
        let old = served(&certificate);
        let (new, other) = (pair(), pair());
        for (version, pair) in [
            ("halves", (new.0.clone(), other.1.clone())),
            ("cut", (new.0[..new.0.len() / 2].to_owned(), new.1.clone())),
            ("empty", (String::new(), String::new())),
            ("swapped", (new.1.clone(), new.0.clone())),
        ] {
            mount.swap(version, &pair);
            let error = certificate.reload().unwrap_err().to_string();
            assert!(error.contains("tls."), "{version}: {error}");
            assert!(!error.contains("BEGIN"), "{version}: {error}");
            assert_eq!(served(&certificate), old, "{version}");
        }
        std::fs::remove_file(mount.0.path().join("..data")).unwrap();
        assert!(matches!(
            certificate.reload(),
            Err(CertificateError::Read { .. })
        ));
        mount.swap("whole", &new);
        assert!(certificate.reload().unwrap());
        assert_eq!(served(&certificate), der(&new));
        assert!(!certificate.reload().unwrap(), "nothing changed");
    }
}
