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

/// Whom a token is for; none where it does not say so. An empty name is nobody's.
pub(crate) fn audiences(token: &SecretString) -> Vec<String> {
    #[derive(Deserialize)]
    struct AudienceClaim {
        aud: Audience,
    }
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Audience {
        One(String),
        Many(Vec<String>),
    }
    let mut named = match claims(token).map(|claims: AudienceClaim| claims.aud) {
        Some(Audience::One(audience)) => vec![audience],
        Some(Audience::Many(audiences)) => audiences,
        None => Vec::new(),
    };
    named.retain(|audience| !audience.is_empty());
    named
}
