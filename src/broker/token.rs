//! What a token says of itself, by which it is refused before anybody is asked, and never accepted. Pure.
//!
//! Only the API server can say that a token is good. But one that is none, that has expired or that is for somebody else is not, whoever
//! signed it: the API server is not to be asked about what anybody can make up.

use jiff::Timestamp;
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::Value;

use super::claims::ClaimError;
use crate::clock::MAX_SKEW;
use crate::credential::jwt::{self, Audiences};

/// The longest token, in bytes: the API server's have some 1,200.
const TOKEN_MAX: usize = 16 * 1024;

/// Why a token cannot be good.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum TokenError {
    /// It is no JSON Web Token, or a longer one than any API server makes.
    #[error(
        "the token has not the form of a ServiceAccount's: use a token that the kubelet requested for a Pod"
    )]
    Malformed,
    /// Its time is over.
    #[error("the token has expired: the kubelet requests another one")]
    Expired,
    /// It is for somebody else.
    #[error(transparent)]
    Audience(ClaimError),
}

/// The few claims that are looked at. What is missing or odd here is the API server's to judge.
#[derive(Deserialize)]
struct UnverifiedClaims {
    #[serde(default)]
    aud: Audiences,
    /// A number, with a fraction or without: <https://www.rfc-editor.org/rfc/rfc7519#section-2>
    #[serde(default)]
    exp: Value,
}

/// Whether the API server may be asked about a token for this audience.
///
/// # Errors
/// [`TokenError`].
pub(super) fn check(
    token: &SecretString,
    audience: &str,
    now: Timestamp,
) -> Result<(), TokenError> {
    if !jwt::has_form(token, TOKEN_MAX) {
        return Err(TokenError::Malformed);
    }
    let claims: Option<UnverifiedClaims> = jwt::claims(token);
    let claims = claims.ok_or(TokenError::Malformed)?;
    if !claims.aud.0.iter().any(|one| one == audience) {
        return Err(TokenError::Audience(ClaimError::Audience(
            audience.to_owned(),
        )));
    }
    let latest = now.duration_since(Timestamp::UNIX_EPOCH) - MAX_SKEW;
    match claims.exp.as_f64() {
        Some(expires) if expires < latest.as_secs_f64() => Err(TokenError::Expired),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use jiff::SignedDuration;

    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn check_payload(payload: &str) -> Result<(), TokenError> {
        let token = format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(payload));
        let now = Timestamp::UNIX_EPOCH + SignedDuration::from_secs(NOW);
        check(&token.into(), "pullpass.dev", now)
    }

    fn other_audience() -> Result<(), TokenError> {
        let audience = ClaimError::Audience("pullpass.dev".to_owned());
        Err(TokenError::Audience(audience))
    }

    #[test]
    fn refuses_what_no_api_server_can_accept_and_leaves_it_the_rest() {
        let (malformed, expired) = (Err(TokenError::Malformed), Err(TokenError::Expired));
        let ours = |exp: &str| format!(r#"{{"aud": ["pullpass.dev"], "exp": {exp}}}"#);
        let deep = format!(
            r#"{{"aud": "pullpass.dev", "exp": {}{}}}"#,
            "[".repeat(200),
            "]".repeat(200)
        );
        for (payload, expected) in [
            (r#"{"aud": "pullpass.dev"}"#, Ok(())),
            (r#"{"aud": ["a", "pullpass.dev"]}"#, Ok(())),
            (&ours("1800000001"), Ok(())),
            (&ours("1800000001.5"), Ok(())),
            (&ours("1.8e9"), Ok(())),
            // Clocks differ.
            (&ours("1799999400"), Ok(())),
            (&ours("1799999399"), expired.clone()),
            (&ours("1799999399.5"), expired.clone()),
            (&ours("0"), expired.clone()),
            (&ours("-1e300"), expired),
            // Odd ones are the API server's to judge.
            (&ours("1e300"), Ok(())),
            (&ours("null"), Ok(())),
            (&ours(r#""0""#), Ok(())),
            (&ours("1e999"), malformed.clone()),
            ("{}", other_audience()),
            (r#"{"aud": []}"#, other_audience()),
            (r#"{"aud": ""}"#, other_audience()),
            (r#"{"aud": "pullpass.dev.example"}"#, other_audience()),
            (r#"{"aud": "Pullpass.dev"}"#, other_audience()),
            (r#"{"aud": {"pullpass.dev": 1}}"#, malformed.clone()),
            (r#"{"aud": [1, "pullpass.dev"]}"#, malformed.clone()),
            (r#"{"aud": "a", "aud": "pullpass.dev"}"#, malformed.clone()),
            (&deep, malformed.clone()),
            ("[]", other_audience()),
            ("pullpass.dev", malformed.clone()),
            ("", malformed),
        ] {
            assert_eq!(check_payload(payload), expected, "{payload}");
        }
    }

    #[test]
    fn refuses_what_has_not_the_form_of_a_token() {
        let payload = URL_SAFE_NO_PAD.encode(r#"{"aud": "pullpass.dev"}"#);
        for token in [
            String::new(),
            payload.clone(),
            format!("e30.{payload}."),
            format!("e30.{payload}.c2ln.c2ln"),
            format!("e30.{payload}.c2ln "),
            format!("e30.{payload}.{}", "a".repeat(TOKEN_MAX)),
        ] {
            let checked = check(&token.clone().into(), "pullpass.dev", Timestamp::UNIX_EPOCH);
            assert_eq!(checked, Err(TokenError::Malformed), "{token}");
        }
    }
}
