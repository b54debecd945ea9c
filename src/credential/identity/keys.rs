//! Static access keys out of a source Secret.

use aws_credential_types::Credentials;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

use crate::credential::{MintError, SourceSecret, SourceSecrets};

const ACCESS_KEY_ID: &str = "AWS_ACCESS_KEY_ID";
const SECRET_ACCESS_KEY: &str = "AWS_SECRET_ACCESS_KEY";
const SESSION_TOKEN: &str = "AWS_SESSION_TOKEN";

/// One set of AWS access keys.
#[derive(Clone, Debug)]
pub struct AccessKeys {
    /// The name of the Secret that they come from.
    pub secret: String,
    /// `AWS_ACCESS_KEY_ID`, for example `AKIAIOSFODNN7EXAMPLE`.
    pub access_key_id: String,
    /// `AWS_SECRET_ACCESS_KEY`.
    pub secret_access_key: SecretString,
    /// `AWS_SESSION_TOKEN`, with temporary keys only.
    pub session_token: Option<SecretString>,
}

impl AccessKeys {
    /// Finds the keys in the source Secret `name`.
    ///
    /// # Errors
    /// [`MintError::MissingSource`] when there is no such Secret, else see [`AccessKeys::parse`].
    pub fn find(name: &str, secrets: &dyn SourceSecrets) -> Result<Self, MintError> {
        Self::parse(&*secrets.require(name)?)
    }

    /// Reads the keys out of a source Secret. White space around a value, such as the newline of a file, is left out.
    ///
    /// # Errors
    /// [`MintError::MalformedSource`] when a key is missing, empty, or not printable ASCII.
    pub fn parse(secret: &SourceSecret) -> Result<Self, MintError> {
        let required = |key| {
            value(secret, key)?
                .ok_or_else(|| malformed(secret, format!("{key} is missing or empty: add it")))
        };
        Ok(Self {
            secret: secret.name.to_string(),
            access_key_id: required(ACCESS_KEY_ID)?.to_owned(),
            secret_access_key: required(SECRET_ACCESS_KEY)?.into(),
            session_token: value(secret, SESSION_TOKEN)?.map(SecretString::from),
        })
    }

    /// Which keys these are, for people: the end of the access key id, and the Secret.
    pub fn principal(&self) -> String {
        let end = self.access_key_id.len().saturating_sub(4);
        let end = self.access_key_id.get(end..).unwrap_or_default();
        format!("access key …{end} of source secret {}", self.secret)
    }

    /// The keys as the SDK signs by them.
    pub(super) fn credentials(&self) -> Credentials {
        let session_token = self.session_token.as_ref();
        Credentials::new(
            self.access_key_id.clone(),
            self.secret_access_key.expose_secret().to_owned(),
            session_token.map(|token| token.expose_secret().to_owned()),
            None,
            "keys",
        )
    }

    /// 32 bytes that differ when any of the values differs.
    pub(crate) fn fingerprint(&self) -> [u8; 32] {
        let session_token = self
            .session_token
            .as_ref()
            .map_or("", |token| token.expose_secret());
        let mut hash = Sha256::new();
        for part in [
            &self.access_key_id,
            self.secret_access_key.expose_secret(),
            session_token,
        ] {
            hash.update(part.len().to_be_bytes());
            hash.update(part);
        }
        hash.finalize().into()
    }
}

/// The value under `key` without the white space around it; `None` when there is none or it is empty.
fn value<'s>(secret: &'s SourceSecret, key: &str) -> Result<Option<&'s str>, MintError> {
    let Some(bytes) = secret.bytes(key) else {
        return Ok(None);
    };
    let text = bytes.trim_ascii();
    if text.iter().all(u8::is_ascii_graphic) {
        Ok(std::str::from_utf8(text)
            .ok()
            .filter(|text| !text.is_empty()))
    } else {
        Err(malformed(
            secret,
            format!(
                "the value of {key} has characters that no AWS key has: check how it was encoded"
            ),
        ))
    }
}

fn malformed(secret: &SourceSecret, problem: String) -> MintError {
    MintError::MalformedSource {
        secret: secret.name.to_string(),
        problem,
    }
}
