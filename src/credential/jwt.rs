//! What a token says of itself, not verified: only its receiver can do that.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// The claims of a JSON Web Token; `None` when it is none, or has not these claims.
///
/// <https://www.rfc-editor.org/rfc/rfc7519>
pub(crate) fn claims<T: DeserializeOwned>(token: &SecretString) -> Option<T> {
    let mut parts = token.expose_secret().split('.');
    let (Some(_), Some(payload), Some(_), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return None;
    };
    let payload = URL_SAFE_NO_PAD.decode(payload.trim_end_matches('='));
    let payload = Zeroizing::new(payload.ok()?);
    serde_json::from_slice(&payload).ok()
}

/// Whether a text has the form of a signed JSON Web Token of at most so many bytes: three parts in base64url, none of them empty.
///
/// <https://www.rfc-editor.org/rfc/rfc7515#section-3.1>
pub(crate) fn has_form(token: &SecretString, max: usize) -> bool {
    let text = token.expose_secret();
    let is_base64url = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let is_part = |part: &str| !part.is_empty() && part.bytes().all(is_base64url);
    text.len() <= max && text.split('.').count() == 3 && text.split('.').all(is_part)
}

/// The `aud` of a token: a name, or a list of them. An empty name is nobody's.
///
/// <https://www.rfc-editor.org/rfc/rfc7519#section-4.1.3>
#[derive(Debug, Default, Deserialize)]
#[serde(from = "OneOrMany")]
pub(crate) struct Audiences(pub(crate) Vec<String>);

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl From<OneOrMany> for Audiences {
    fn from(named: OneOrMany) -> Self {
        let mut named = match named {
            OneOrMany::One(audience) => vec![audience],
            OneOrMany::Many(audiences) => audiences,
        };
        named.retain(|audience| !audience.is_empty());
        Self(named)
    }
}

/// Whom a token is for; none where it does not say so.
pub(crate) fn audiences(token: &SecretString) -> Vec<String> {
    #[derive(Deserialize)]
    struct AudienceClaim {
        aud: Audiences,
    }
    claims(token).map_or_else(Vec::new, |AudienceClaim { aud }| aud.0)
}
