//! Until when a token is good, by its own claim.

use jiff::{SignedDuration, Timestamp};
use secrecy::SecretString;
use serde::Deserialize;

use crate::credential::error::UnusableAnswer;
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
pub(crate) fn find_expiry(
    token: &SecretString,
    now: Timestamp,
) -> Result<Timestamp, UnusableAnswer> {
    let claims: ExpiryClaims = jwt::claims(token)
        .ok_or_else(|| UnusableAnswer::wrong("its token is no JSON Web Token"))?;
    let seconds = claims
        .exp
        .ok_or_else(|| UnusableAnswer::wrong("its token does not say when it ends"))?;
    let life = seconds - as_seconds(now);
    if life.is_nan() || life <= 0.0 {
        let life = SignedDuration::try_from_secs_f64(life).unwrap_or(SignedDuration::MIN);
        let ended = now.saturating_add(life).unwrap_or(Timestamp::MIN);
        return Err(UnusableAnswer::expired("its token", ended, now));
    }
    let life = SignedDuration::try_from_secs_f64(life.floor()).unwrap_or(SignedDuration::MAX);
    if life > LONGEST_LIFE {
        return Err(UnusableAnswer::wrong(
            "its token is said to hold longer than any, unless this node's clock is behind",
        ));
    }
    now.checked_add(life)
        .map_err(|_| UnusableAnswer::wrong("its token ends at no date"))
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

    fn end(payload: &str) -> Result<Timestamp, UnusableAnswer> {
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
            let problem = end(payload).unwrap_err().of("acr".to_owned()).to_string();
            assert!(problem.contains(words), "{payload}: {problem}");
            let is_past = words == "expired already";
            assert_eq!(
                problem.contains("is this node's clock right?"),
                is_past,
                "{problem}"
            );
        }
        assert!(find_expiry(&"opaque".into(), now()).is_err());
        assert!(find_expiry(&"a.b.c.d".into(), now()).is_err());
    }
}
