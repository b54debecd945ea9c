//! Private keys of certificates, PEM: read by what signs and serves with them, written to files.

use std::io::{self, Write};

use rcgen::{KeyPair, PublicKeyData as _};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::{self, PemObject as _};
use secrecy::{ExposeSecret as _, SecretSlice, SecretString};

/// The key as certificates are signed with it.
///
/// # Errors
/// It is none.
pub(crate) fn read_pair(key: &SecretString) -> Result<KeyPair, rcgen::Error> {
    KeyPair::from_pem(key.expose_secret())
}

/// Whether the key belongs to this public key (SubjectPublicKeyInfo, DER); `None`: it is no private key.
pub(crate) fn belongs_to(key: &SecretString, public_key: &[u8]) -> Option<bool> {
    let pair = read_pair(key).ok()?;
    Some(pair.subject_public_key_info() == public_key)
}

/// The key as the TLS library takes it.
///
/// # Errors
/// It is none.
pub(crate) fn read_der(key: &SecretSlice<u8>) -> Result<PrivateKeyDer<'static>, pem::Error> {
    PrivateKeyDer::from_pem_slice(key.expose_secret())
}

/// The key as bytes.
pub(crate) fn to_bytes(key: &SecretString) -> SecretSlice<u8> {
    key.expose_secret().as_bytes().to_vec().into()
}

/// Writes the key.
///
/// # Errors
/// It cannot be written there.
pub(crate) fn write(key: &SecretString, mut file: impl Write) -> io::Result<()> {
    file.write_all(key.expose_secret().as_bytes())
}
