//! The client secret of a service principal, out of a source Secret.

use secrecy::SecretString;

use crate::credential::{MintError, SourceSecrets};
use crate::plain_text;

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
        let bytes = secret.data.get(KEY);
        let Some(bytes) = bytes.filter(|bytes| !plain_text::is_blank(bytes)) else {
            return Err(malformed("is missing or empty: add it"));
        };
        let value = plain_text::to_token(bytes).ok_or_else(|| {
            malformed("has characters that no client secret has: check how it was encoded")
        })?;
        Ok(Self {
            secret: name.to_owned(),
            value,
        })
    }

    /// 32 bytes that differ when the secret differs.
    pub(crate) fn fingerprint(&self) -> [u8; 32] {
        plain_text::digest(&self.value)
    }
}
