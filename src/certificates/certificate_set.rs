//! What the certificates' Secret holds.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use rustls::RootCertStore;
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use secrecy::{SecretSlice, SecretString};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::decide::{CertificateView, ValidityPeriods};
use super::make::BACKDATED;
use super::{Authority, MakeError, Pair, Validity};
use crate::plain_text::{self, private_key};

/// The authorities that are trusted, PEM; the first one signs.
const AUTHORITIES: &str = "ca.crt";
const AUTHORITY_KEY: &str = "ca.key";
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";

/// Why what the Secret holds cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {problem}")]
pub struct Damage {
    key: &'static str,
    problem: &'static str,
}

/// An authority, a serving pair that is signed by it or by an older one, and the older one.
#[derive(Clone, Debug)]
pub struct CertificateSet {
    authority: Authority,
    older: Option<String>,
    pair: Pair,
    view: CertificateView,
}

impl CertificateSet {
    /// Makes an authority and a serving pair for these hosts.
    ///
    /// # Errors
    /// A host is neither a DNS name nor an IP address.
    pub fn make(
        hosts: &[String],
        lives: ValidityPeriods,
        now: Timestamp,
    ) -> Result<Self, MakeError> {
        let authority = make_authority(lives, now)?;
        let validity = Validity::lasting(lives.authority, now);
        sign(authority, validity, None, hosts, lives, now)
    }

    /// Another authority, trusted beside the one that signed the serving pair, which stays.
    ///
    /// # Errors
    /// No key could be made.
    pub fn with_new_authority(
        &self,
        lives: ValidityPeriods,
        now: Timestamp,
    ) -> Result<Self, MakeError> {
        let older = match &self.older {
            Some(older) if !self.view.is_signed_by_authority => older.clone(),
            _ => self.authority.certificate.clone(),
        };
        let view = CertificateView {
            authority: Validity::lasting(lives.authority, now),
            is_signed_by_authority: false,
            trusts_old_ca: true,
            ..self.view
        };
        Ok(Self {
            authority: make_authority(lives, now)?,
            older: Some(older),
            pair: self.pair.clone(),
            view,
        })
    }

    /// Another serving pair for these hosts, signed by the authority.
    ///
    /// # Errors
    /// A host is neither a DNS name nor an IP address.
    pub fn with_new_pair(
        &self,
        hosts: &[String],
        lives: ValidityPeriods,
        now: Timestamp,
    ) -> Result<Self, MakeError> {
        let (authority, older) = (self.authority.clone(), self.older.clone());
        sign(authority, self.view.authority, older, hosts, lives, now)
    }

    /// Without the older authority.
    #[must_use]
    pub fn without_older(&self) -> Self {
        let view = CertificateView {
            trusts_old_ca: false,
            ..self.view
        };
        Self {
            older: None,
            view,
            ..self.clone()
        }
    }

    /// All that is to be trusted, PEM: what `caBundle` is to hold.
    pub fn bundle(&self) -> String {
        let older = self.older.as_deref().unwrap_or_default();
        format!("{}{older}", self.authority.certificate)
    }

    /// The pair to serve with.
    pub fn pair(&self) -> &Pair {
        &self.pair
    }

    /// Its times.
    pub fn view(&self) -> &CertificateView {
        &self.view
    }

    /// The data of the Secret.
    pub fn data(&self) -> BTreeMap<&'static str, SecretString> {
        BTreeMap::from([
            (AUTHORITIES, self.bundle().into()),
            (AUTHORITY_KEY, self.authority.key.clone()),
            (CERTIFICATE, self.pair.certificate.clone().into()),
            (KEY, self.pair.key.clone()),
        ])
    }

    /// Reads the data of the Secret. The keys must belong to their certificates, and the serving one be signed by an authority there.
    ///
    /// # Errors
    /// Something is missing, no certificate or no key, or does not belong together.
    pub fn read(
        data: &BTreeMap<String, SecretSlice<u8>>,
        hosts: &[String],
    ) -> Result<Self, Damage> {
        let bytes = |key: &'static str| data.get(key).ok_or(damage(key, "is missing"));
        let chain = |key: &'static str| {
            let text = plain_text::read_public(bytes(key)?);
            Chain::read(key, &text.ok_or(damage(key, "is no text"))?)
        };
        let private_key = |key: &'static str| {
            let text = plain_text::to_text(bytes(key)?);
            text.ok_or(damage(key, "is no text"))
        };
        let authorities = chain(AUTHORITIES)?;
        let (first, older) = match authorities.0.as_slice() {
            [first] => (first, None),
            [first, older] => (first, Some(older)),
            _ => return Err(damage(AUTHORITIES, "holds more than two authorities")),
        };
        let serving = chain(CERTIFICATE)?;
        let [serving] = serving.0.as_slice() else {
            return Err(damage(CERTIFICATE, "holds more than one certificate"));
        };
        let (authority_key, key) = (private_key(AUTHORITY_KEY)?, private_key(KEY)?);
        first.check_key(AUTHORITY_KEY, &authority_key)?;
        serving.check_key(KEY, &key)?;
        let signed_by = |authority: &One| serving.is_signed_by(authority);
        let is_signed_by_authority = signed_by(first);
        if !is_signed_by_authority && !older.is_some_and(signed_by) {
            return Err(damage(CERTIFICATE, "is signed by no authority in ca.crt"));
        }
        let view = CertificateView {
            authority: first.validity,
            serving: serving.validity,
            is_signed_by_authority,
            trusts_old_ca: older.is_some(),
            has_names: hosts.iter().all(|host| serving.is_for(host)),
        };
        Ok(Self {
            authority: Authority {
                name: first.name.clone(),
                certificate: first.pem.clone(),
                key: authority_key,
            },
            older: older.map(|older| older.pem.clone()),
            pair: Pair {
                certificate: serving.pem.clone(),
                key,
            },
            view,
        })
    }
}

/// Whether who trusts these authorities (PEM) takes this serving certificate (PEM) for this host.
pub fn is_trusted(bundle: &[u8], certificate: &str, host: &str, now: Timestamp) -> bool {
    let authorities: Vec<_> = CertificateDer::pem_slice_iter(bundle).flatten().collect();
    let served = CertificateDer::from_pem_slice(certificate.as_bytes());
    served.is_ok_and(|served| is_signed(&served, &authorities, now) && is_for(&served, host))
}

fn damage(key: &'static str, problem: &'static str) -> Damage {
    Damage { key, problem }
}

fn make_authority(lives: ValidityPeriods, now: Timestamp) -> Result<Authority, MakeError> {
    let name = format!("pullpass CA {now}");
    Authority::make(name, Validity::lasting(lives.authority, now))
}

fn sign(
    authority: Authority,
    validity: Validity,
    older: Option<String>,
    hosts: &[String],
    lives: ValidityPeriods,
    now: Timestamp,
) -> Result<CertificateSet, MakeError> {
    let mut serving = Validity::lasting(lives.serving, now);
    serving.until = serving.until.min(validity.until);
    Ok(CertificateSet {
        pair: authority.sign(hosts, serving)?,
        authority,
        view: CertificateView {
            authority: validity,
            serving,
            is_signed_by_authority: true,
            trusts_old_ca: older.is_some(),
            has_names: true,
        },
        older,
    })
}

/// Certificates, read.
struct Chain(Vec<One>);

/// When the first of these certificates ends, PEM, which is the one that is served; `None`: it cannot be read.
pub fn find_end(pem: &[u8]) -> Option<Timestamp> {
    let served = CertificateDer::pem_slice_iter(pem).next()?.ok()?;
    Some(One::read(CERTIFICATE, served).ok()?.validity.until)
}

struct One {
    pem: String,
    der: CertificateDer<'static>,
    public_key: Vec<u8>,
    name: String,
    validity: Validity,
}

impl Chain {
    fn read(key: &'static str, text: &str) -> Result<Self, Damage> {
        let no = |_| damage(key, "is no certificate");
        let ders: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(text.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(no)?;
        if ders.is_empty() {
            return Err(damage(key, "is no certificate"));
        }
        let all = ders.into_iter().map(|der| One::read(key, der));
        all.collect::<Result<_, _>>().map(Self)
    }
}

impl One {
    fn read(key: &'static str, der: CertificateDer<'static>) -> Result<Self, Damage> {
        let no = || damage(key, "is no certificate");
        let (_, parsed) = X509Certificate::from_der(&der).map_err(|_| no())?;
        let time = |time: x509_parser::time::ASN1Time| Timestamp::from_second(time.timestamp());
        let validity = parsed.validity();
        let from = time(validity.not_before).map_err(|_| no())?;
        let until = time(validity.not_after).map_err(|_| no())?;
        let name = parsed.subject().iter_common_name().next();
        let name = name.and_then(|name| name.as_str().ok()).unwrap_or_default();
        Ok(Self {
            pem: encode(&der),
            public_key: parsed.public_key().raw.to_vec(),
            name: name.to_owned(),
            validity: Validity {
                made: from.checked_add(BACKDATED).map_err(|_| no())?,
                until,
            },
            der,
        })
    }

    fn check_key(&self, key: &'static str, text: &SecretString) -> Result<(), Damage> {
        match private_key::belongs_to(text, &self.public_key) {
            Some(true) => Ok(()),
            Some(false) => Err(damage(key, "does not belong to its certificate")),
            None => Err(damage(key, "is no private key")),
        }
    }

    /// Whether this authority signed it: asked for the moment that it was made in, so that the answer never changes.
    fn is_signed_by(&self, authority: &One) -> bool {
        let authority = std::slice::from_ref(&authority.der);
        is_signed(&self.der, authority, self.validity.made)
    }

    fn is_for(&self, host: &str) -> bool {
        is_for(&self.der, host)
    }
}

/// Checks a signature and its times as TLS clients do.
fn is_signed(
    served: &CertificateDer<'_>,
    authorities: &[CertificateDer<'static>],
    now: Timestamp,
) -> bool {
    let Ok(parsed) = ParsedCertificate::try_from(served) else {
        return false;
    };
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(authorities.iter().cloned());
    let seconds = u64::try_from(now.as_second()).unwrap_or_default();
    let now = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
    let provider = aws_lc_rs::default_provider();
    let algorithms = provider.signature_verification_algorithms.all;
    verify_server_cert_signed_by_trust_anchor(&parsed, &roots, &[], now, algorithms).is_ok()
}

/// Checks names as TLS clients do.
fn is_for(served: &CertificateDer<'_>, host: &str) -> bool {
    let (Ok(parsed), Ok(host)) = (
        ParsedCertificate::try_from(served),
        ServerName::try_from(host),
    ) else {
        return false;
    };
    verify_server_name(&parsed, &host).is_ok()
}

/// <https://www.rfc-editor.org/rfc/rfc7468#section-5>
fn encode(der: &CertificateDer<'_>) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in text.as_bytes().chunks(64) {
        pem.push_str(&String::from_utf8_lossy(line));
        pem.push('\n');
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}

#[cfg(test)]
mod tests;
