//! Static access keys out of a source Secret.

use aws_credential_types::Credentials;
use secrecy::{SecretSlice, SecretString};

use crate::credential::outgoing::sign_with;
use crate::credential::{MintError, SourceSecret, SourceSecrets};
use crate::plain_text::{self, Fingerprint};

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
        let missing = |key| malformed(secret, format!("{key} is missing or empty: add it"));
        let (id, _) = value(secret, ACCESS_KEY_ID)?.ok_or_else(|| missing(ACCESS_KEY_ID))?;
        let id = plain_text::read_public(id).unwrap_or_default();
        let key = value(secret, SECRET_ACCESS_KEY)?;
        let session_token = value(secret, SESSION_TOKEN)?;
        Ok(Self {
            secret: secret.name.to_string(),
            access_key_id: id.trim_ascii().to_owned(),
            secret_access_key: key.ok_or_else(|| missing(SECRET_ACCESS_KEY))?.1,
            session_token: session_token.map(|(_, token)| token),
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
        sign_with(&self.access_key_id, &self.secret_access_key, session_token)
    }

    /// 32 bytes that differ when any of the values differs.
    pub(crate) fn fingerprint(&self) -> [u8; 32] {
        let values = Fingerprint::default()
            .add(&self.access_key_id)
            .add_secret(&self.secret_access_key);
        let values = match &self.session_token {
            Some(token) => values.add_secret(token),
            None => values.add(""),
        };
        values.finish()
    }
}

/// The value under `key`, and its text without the white space around it; `None` when there is none or it is empty.
fn value<'s>(
    secret: &'s SourceSecret,
    key: &str,
) -> Result<Option<(&'s SecretSlice<u8>, SecretString)>, MintError> {
    let bytes = secret.data.get(key);
    let Some(bytes) = bytes.filter(|bytes| !plain_text::is_blank(bytes)) else {
        return Ok(None);
    };
    let odd = || {
        malformed(
            secret,
            format!(
                "the value of {key} has characters that no AWS key has: check how it was encoded"
            ),
        )
    };
    let text = plain_text::to_token(bytes).ok_or_else(odd)?;
    Ok(Some((bytes, text)))
}

fn malformed(secret: &SourceSecret, problem: String) -> MintError {
    MintError::MalformedSource {
        secret: secret.name.to_string(),
        problem,
    }
}
