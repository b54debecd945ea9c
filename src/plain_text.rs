//! What is done with the plain text of secrets: written into what needs it, or compared by digest, here and in the few files that
//! `tests/layering.rs` names; everybody else holds [`SecretString`] and [`SecretSlice`]. Copies that are made on the way are wiped.

pub(crate) mod private_key;

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretSlice, SecretString};
use serde::{Deserialize as _, Deserializer, Serializer};
use sha2::{Digest as _, Sha256};

/// A login as HTTP and the kubelet have it: `user:password` in base64.
/// <https://www.rfc-editor.org/rfc/rfc7617#section-2>
pub(crate) fn basic_auth(username: &str, password: &SecretString) -> SecretString {
    let login = with_prefix(&format!("{username}:"), password);
    to_base64(&login).into()
}

/// A secret with something in front of it, such as `Bearer `.
pub(crate) fn with_prefix(prefix: &str, secret: &SecretString) -> SecretString {
    let secret = secret.expose_secret();
    // Of exactly its length, so that no part is left behind when it grows or is cut.
    let mut text = String::with_capacity(prefix.len() + secret.len());
    text.push_str(prefix);
    text.push_str(secret);
    text.into()
}

/// A secret in base64, as a Secret's `data` has it.
/// <https://kubernetes.io/docs/concepts/configuration/secret/#creating-a-secret>
pub(crate) fn to_base64<S: AsRef<[u8]> + ?Sized>(secret: &impl ExposeSecret<S>) -> String {
    STANDARD.encode(secret.expose_secret())
}

/// Reads a secret text out of a message that holds it.
///
/// # Errors
/// It is no text.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<SecretString, D::Error> {
    String::deserialize(deserializer).map(SecretString::from)
}

/// Writes a secret text into a message that has to hold it.
///
/// # Errors
/// The message cannot be written.
pub(crate) fn serialize<S: Serializer>(
    secret: &SecretString,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(secret.expose_secret())
}

/// The SHA-256 of a secret: enough to compare, nothing to learn from.
pub(crate) fn digest(secret: &SecretString) -> [u8; 32] {
    Sha256::digest(secret.expose_secret()).into()
}

/// Whether a secret is what a token can be: not empty, and printable ASCII without white space.
pub(crate) fn is_token(secret: &SecretString) -> bool {
    let text = secret.expose_secret();
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// A text without a token, nor the longer of the parts between its dots.
pub(crate) fn redact(text: &str, token: &SecretString) -> String {
    /// The shortest part that is looked for, in bytes: a shorter one is a word.
    const PART_MIN: usize = 8;
    let token = token.expose_secret();
    let parts = token.split('.').filter(|part| part.len() >= PART_MIN);
    let secrets = std::iter::once(token).chain(parts);
    secrets.fold(text.to_owned(), |text, secret| {
        text.replace(secret, "<token>")
    })
}

/// Bytes as a secret text; `None`: they are not UTF-8.
pub(crate) fn to_text(bytes: &SecretSlice<u8>) -> Option<SecretString> {
    let text = std::str::from_utf8(bytes.expose_secret());
    text.ok().map(SecretString::from)
}

/// Bytes without the white space around them, such as the newline of a file; `None`: nothing is left, or no [token](is_token).
pub(crate) fn to_token(bytes: &SecretSlice<u8>) -> Option<SecretString> {
    let text = std::str::from_utf8(bytes.expose_secret().trim_ascii()).ok()?;
    Some(SecretString::from(text)).filter(is_token)
}

/// Whether there is nothing but white space.
pub(crate) fn is_blank(bytes: &SecretSlice<u8>) -> bool {
    bytes.expose_secret().trim_ascii().is_empty()
}

/// What lies in a Secret and is none: a certificate, the id of an access key. `None`: it is not UTF-8.
pub(crate) fn read_public(bytes: &SecretSlice<u8>) -> Option<String> {
    let text = std::str::from_utf8(bytes.expose_secret());
    text.ok().map(str::to_owned)
}

/// Reads a small token file without the white space around it.
pub(crate) async fn read_file(path: &Path) -> std::io::Result<SecretString> {
    let text = Zeroizing::new(tokio::fs::read_to_string(path).await?);
    Ok(text.trim().into())
}

/// A SHA-256 of several values that differs when any of them does: each has its length in front.
#[derive(Default)]
pub(crate) struct Fingerprint(Sha256);

impl Fingerprint {
    /// With this value, too.
    #[must_use]
    pub(crate) fn add(mut self, value: impl AsRef<[u8]>) -> Self {
        let value = value.as_ref();
        self.0.update((value.len() as u64).to_be_bytes());
        self.0.update(value);
        self
    }

    /// With this secret, too.
    #[must_use]
    pub(crate) fn add_secret<S: AsRef<[u8]> + ?Sized>(self, secret: &impl ExposeSecret<S>) -> Self {
        self.add(secret.expose_secret())
    }

    /// The digest of all of them.
    pub(crate) fn finish(self) -> [u8; 32] {
        self.0.finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &[u8]) -> SecretSlice<u8> {
        text.to_vec().into()
    }

    #[test]
    fn writes_a_login_as_http_has_it() {
        let login = basic_auth("AWS", &"pass:word".into());
        assert_eq!(login.expose_secret(), "QVdTOnBhc3M6d29yZA==");
        let header = with_prefix("Basic ", &login);
        assert_eq!(header.expose_secret(), "Basic QVdTOnBhc3M6d29yZA==");
    }

    #[test]
    fn reads_tokens_without_white_space() {
        let token = to_token(&bytes(b" \ttoken=\r\n")).unwrap();
        assert_eq!(token.expose_secret(), "token=");
        for none in [&b""[..], b" \n", b"two words", b"\xff", "é".as_bytes()] {
            assert!(to_token(&bytes(none)).is_none(), "{none:?}");
        }
        assert!(is_blank(&bytes(b" \n")) && !is_blank(&bytes(b"\xff")));
    }

    #[test]
    fn fingerprints_differ_where_values_are_divided_otherwise() {
        let of = |one: &str, other: &str| {
            let other = SecretString::from(other);
            Fingerprint::default().add(one).add_secret(&other).finish()
        };
        assert_eq!(of("ab", "c"), of("ab", "c"));
        assert_ne!(of("ab", "c"), of("a", "bc"));
        assert_ne!(of("ab", ""), of("", "ab"));
    }
}
