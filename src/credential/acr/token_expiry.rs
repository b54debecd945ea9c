//! Until when a token is good, by its own claim.

use jiff::{SignedDuration, Timestamp};
use secrecy::SecretString;
use serde::Deserialize;

use crate::credential::jwt;

/// Longer than any token of Azure Container Registry holds: one that says so is not believed. Refresh tokens hold about three hours.
const LONGEST_LIFE: SignedDuration = SignedDuration::from_hours(24);

#[derive(Deserialize)]
struct ExpiryClaims {
    exp: Option<f64>,
}

/// The end of a token of a registry: its claim `exp`, as the answer itself has no other.
///
/// # Errors
/// What is wrong with the token.
pub(crate) fn find_expiry(token: &SecretString, now: Timestamp) -> Result<Timestamp, String> {
    let claims: ExpiryClaims =
        jwt::claims(token).ok_or_else(|| "its token is no JSON Web Token".to_owned())?;
    let seconds = claims
        .exp
        .ok_or_else(|| "its token does not say when it ends".to_owned())?;
    let life = seconds - as_seconds(now);
    if life.is_nan() || life <= 0.0 {
        return Err(
            "its token has expired already by the clock of this node: is that right?".to_owned(),
        );
    }
    let life = SignedDuration::try_from_secs_f64(life.floor()).unwrap_or(SignedDuration::MAX);
    if life > LONGEST_LIFE {
        return Err("its token is said to hold longer than any".to_owned());
    }
    now.checked_add(life)
        .map_err(|_| "its token ends at no date".to_owned())
}

#[expect(
    clippy::cast_precision_loss,
    reason = "seconds since 1970 are far below 2^52"
)]
fn as_seconds(time: Timestamp) -> f64 {
    time.as_second() as f64
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    use super::*;

    fn end(payload: &str) -> Result<Timestamp, String> {
        find_expiry(
            &format!("h.{}.s", URL_SAFE_NO_PAD.encode(payload)).into(),
            now(),
        )
    }

    fn now() -> Timestamp {
        "2026-11-21T10:00:00Z".parse().unwrap()
    }

    #[test]
    fn find_end_reads_the_claim() {
        let three_hours = end(r#"{"exp":1795266000,"jti":"x"}"#);
        assert_eq!(three_hours, Ok("2026-11-21T13:00:00Z".parse().unwrap()));
        let fraction = end(r#"{"exp":1795255201.9}"#);
        assert_eq!(fraction, Ok("2026-11-21T10:00:01Z".parse().unwrap()));
    }

    #[test]
    fn find_end_refuses_absurd_ends() {
        for (payload, words) in [
            ("{}", "does not say"),
            (r#"{"exp":null}"#, "does not say"),
            (r#"{"exp":"soon"}"#, "no JSON Web Token"),
            (r#"{"exp":0}"#, "expired already"),
            (r#"{"exp":-1e300}"#, "expired already"),
            (r#"{"exp":1795255200}"#, "expired already"),
            (r#"{"exp":1795341601}"#, "longer than any"),
            (r#"{"exp":9223372036854775807}"#, "longer than any"),
            (r#"{"exp":1e308}"#, "longer than any"),
            ("<html>", "no JSON Web Token"),
        ] {
            let problem = end(payload).unwrap_err();
            assert!(problem.contains(words), "{payload}: {problem}");
        }
        assert!(find_expiry(&"opaque".into(), now()).is_err());
        assert!(find_expiry(&"a.b.c.d".into(), now()).is_err());
    }
}
