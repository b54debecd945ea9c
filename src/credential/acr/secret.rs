//! The client secret of a service principal, out of a source Secret.

use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};

use crate::credential::{MintError, SourceSecrets};

const KEY: &str = "AZURE_CLIENT_SECRET";

/// A client secret and its source Secret.
#[derive(Clone, Debug)]
pub struct ClientSecret {
    /// The name of the Secret that it comes from.
    pub secret: String,
    /// `AZURE_CLIENT_SECRET`.
    pub value: SecretString,
}

impl ClientSecret {
    /// Finds the client secret in the source Secret `name`. White space around it, such as the newline of a file, is left out.
    ///
    /// # Errors
    /// [`MintError::MissingSource`] when there is no such Secret, [`MintError::MalformedSource`] when it holds no client secret.
    pub fn find(name: &str, secrets: &dyn SourceSecrets) -> Result<Self, MintError> {
        let secret = secrets.require(name)?;
        let malformed = |problem: &str| MintError::MalformedSource {
            secret: name.to_owned(),
            problem: format!("{KEY} {problem}"),
        };
        let bytes = secret.bytes(KEY).unwrap_or_default().trim_ascii();
        if bytes.is_empty() {
            return Err(malformed("is missing or empty: add it"));
        }
        let value = std::str::from_utf8(bytes)
            .ok()
            .filter(|value| value.bytes().all(|byte| byte.is_ascii_graphic()))
            .ok_or_else(|| {
                malformed("has characters that no client secret has: check how it was encoded")
            })?;
        Ok(Self {
            secret: name.to_owned(),
            value: value.into(),
        })
    }

    /// 32 bytes that differ when the secret differs.
    pub(crate) fn fingerprint(&self) -> [u8; 32] {
        Sha256::digest(self.value.expose_secret()).into()
    }
}
