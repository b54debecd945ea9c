//! An authority, and certificates that it signs, good and bad ones.

use std::ops::RangeInclusive;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, date_time_ymd,
};

/// Years that hold today.
pub const VALID: RangeInclusive<i32> = 2000..=2099;

/// Years that are over.
pub const ENDED: RangeInclusive<i32> = 2019..=2020;

/// An authority.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, PEM.
pub struct Pair {
    pub certificate: String,
    pub key: String,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    /// Its certificate, PEM.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for a server of this name.
    pub fn sign_server(&self, host: &str, years: RangeInclusive<i32>) -> Pair {
        self.sign(host, ExtendedKeyUsagePurpose::ServerAuth, years)
    }

    /// A certificate for a client.
    pub fn sign_client(&self, years: RangeInclusive<i32>) -> Pair {
        self.sign("client", ExtendedKeyUsagePurpose::ClientAuth, years)
    }

    fn sign(&self, host: &str, usage: ExtendedKeyUsagePurpose, years: RangeInclusive<i32>) -> Pair {
        let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        params.extended_key_usages = vec![usage];
        params.not_before = date_time_ymd(*years.start(), 1, 1);
        params.not_after = date_time_ymd(*years.end(), 12, 31);
        let key = KeyPair::generate().unwrap();
        Pair {
            certificate: params.signed_by(&key, &self.0).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }
}
