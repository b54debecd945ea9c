//! Making certificates: ECDSA P-256, X.509 v3.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};
use secrecy::SecretString;

use crate::clock;
use crate::plain_text::private_key;

/// How long before it was made a certificate is good already, for clocks that are behind.
pub(super) const BACKDATED: SignedDuration = SignedDuration::from_hours(1);

/// Why no certificate could be made.
#[derive(Debug, thiserror::Error)]
#[error("no certificate could be made: {0}")]
pub struct MakeError(#[from] rcgen::Error);

/// From when until when a certificate is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// When it was made: an hour after it begins to be good, for clocks that are behind.
    pub made: Timestamp,
    /// When it ends.
    pub until: Timestamp,
}

impl Validity {
    /// For so long from `now` on.
    pub fn lasting(life: SignedDuration, now: Timestamp) -> Self {
        let until = now.checked_add(life).unwrap_or(Timestamp::MAX);
        Self { made: now, until }
    }

    /// Whether it was made by a clock that was wrong, or ours is.
    pub fn is_from_future(&self, now: Timestamp) -> bool {
        clock::is_from_future(self.made, now)
    }

    /// Whether TLS clients whose clocks are right refuse it still.
    pub fn is_not_yet_valid(&self, now: Timestamp) -> bool {
        self.made.duration_since(now) > BACKDATED
    }
}

/// A certificate authority.
#[derive(Clone, Debug)]
pub struct Authority {
    /// Its name, the subject's common name.
    pub name: String,
    /// Its certificate, PEM.
    pub certificate: String,
    /// Its key, PEM.
    pub key: SecretString,
}

/// A serving certificate and its key.
#[derive(Clone, Debug)]
pub struct Pair {
    /// The certificate, PEM.
    pub certificate: String,
    /// The key, PEM.
    pub key: SecretString,
}

impl Authority {
    /// Makes an authority that signs serving certificates and nothing below it. Each needs a distinct name.
    ///
    /// # Errors
    /// No key could be made.
    pub fn make(name: impl Into<String>, validity: Validity) -> Result<Self, MakeError> {
        let name = name.into();
        let mut params = named(CertificateParams::default(), &name, validity);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let certificate = params.self_signed(&key)?.pem();
        Ok(Self {
            name,
            certificate,
            key: key.serialize_pem().into(),
        })
    }

    /// Makes a serving certificate for these DNS names and IP addresses.
    ///
    /// # Errors
    /// One of them is neither.
    pub fn sign(&self, hosts: &[String], validity: Validity) -> Result<Pair, MakeError> {
        let params = CertificateParams::new(hosts)?;
        let mut params = named(params, "pullpass", validity);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let authority = named(CertificateParams::default(), &self.name, validity);
        let issuer = Issuer::new(authority, private_key::read_pair(&self.key)?);
        let certificate = params.signed_by(&key, &issuer)?.pem();
        Ok(Pair {
            certificate,
            key: key.serialize_pem().into(),
        })
    }
}

fn named(mut params: CertificateParams, name: &str, validity: Validity) -> CertificateParams {
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    let from = validity.made.checked_sub(BACKDATED);
    let from = from.unwrap_or(Timestamp::UNIX_EPOCH).as_second();
    let at = |second: i64| {
        let second = u64::try_from(second).unwrap_or_default();
        rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(second)
    };
    params.not_before = at(from);
    params.not_after = at(validity.until.as_second());
    params
}
