//! Checks what ECR answers before anybody relies on it.

use aws_sdk_ecr::operation::get_authorization_token::GetAuthorizationTokenOutput as PrivateOutput;
use aws_sdk_ecrpublic::operation::get_authorization_token::GetAuthorizationTokenOutput as PublicOutput;
use aws_smithy_types::DateTime;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use secrecy::SecretString;

use crate::credential::error::UnusableAnswer;

/// The user name of every ECR token.
pub(crate) const USERNAME: &str = "AWS";

/// The longest life that is believed: tokens live for 12 hours, so anything of this order is a mistake.
const LONGEST_LIFE: SignedDuration = SignedDuration::from_hours(7 * 24);

/// One authorization, as it came.
#[derive(Clone, Default)]
pub(crate) struct Authorization {
    token: Option<String>,
    expires_at: Option<DateTime>,
}

impl Authorization {
    /// Takes the one authorization that a request without `registryIds` is answered with. `proxyEndpoint` is not read: the token
    /// is kept under the hosts of the Registry's images.
    pub(crate) fn of_private(answer: PrivateOutput) -> Result<Self, UnusableAnswer> {
        let mut data = answer.authorization_data.unwrap_or_default();
        match (data.pop(), data.len()) {
            (Some(one), 0) => Ok(Self {
                token: one.authorization_token,
                expires_at: one.expires_at,
            }),
            (_, others) => Err(UnusableAnswer::wrong(format!(
                "authorizationData has {} entries instead of 1",
                if others == 0 { 0 } else { others + 1 }
            ))),
        }
    }

    /// Takes the authorization of an answer of ECR Public.
    pub(crate) fn of_public(answer: PublicOutput) -> Result<Self, UnusableAnswer> {
        let data = answer
            .authorization_data
            .ok_or_else(|| UnusableAnswer::wrong("it has no authorizationData"))?;
        Ok(Self {
            token: data.authorization_token,
            expires_at: data.expires_at,
        })
    }

    /// The password and until when it is good.
    pub(crate) fn check(self, now: Timestamp) -> Result<(SecretString, Timestamp), UnusableAnswer> {
        let token = self.token.filter(|token| !token.is_empty());
        let password = decode(&token.ok_or_else(|| UnusableAnswer::wrong("its token is empty"))?)?;
        let answered = self
            .expires_at
            .ok_or_else(|| UnusableAnswer::wrong("it has no expiresAt"))?;
        let expires_at = Timestamp::new(answered.secs(), 0)
            .map_err(|_| UnusableAnswer::wrong("its expiresAt is no date"))?;
        if expires_at <= now {
            return Err(UnusableAnswer::expired("its token", expires_at, now));
        }
        if expires_at.duration_since(now) > LONGEST_LIFE {
            return Err(UnusableAnswer::wrong(format!(
                "its token is said to hold until {expires_at}, longer than any"
            )));
        }
        Ok((password, expires_at))
    }
}

/// The password out of base64 of `AWS:PASSWORD`.
fn decode(token: &str) -> Result<SecretString, UnusableAnswer> {
    let unusable = |problem: &str| UnusableAnswer::wrong(problem);
    let decoded = STANDARD
        .decode(token)
        .map_err(|_| unusable("its token is not base64"))?;
    let decoded = String::from_utf8(decoded).map_err(|_| unusable("its token is not text"))?;
    let (username, password) = decoded
        .split_once(':')
        .ok_or_else(|| unusable("its token has no user name"))?;
    if username != USERNAME {
        return Err(unusable("its token is for another user name than AWS"));
    }
    if password.is_empty() || password.bytes().any(|byte| byte.is_ascii_control()) {
        return Err(unusable("its token's password is empty or not printable"));
    }
    Ok(password.into())
}

#[cfg(test)]
mod tests {
    use aws_sdk_ecr::types::AuthorizationData;
    use secrecy::ExposeSecret;

    use super::*;

    fn now() -> Timestamp {
        "2026-11-21T10:00:00Z".parse().unwrap()
    }

    fn check(
        token: Option<&str>,
        expires_at: Option<i64>,
    ) -> Result<(SecretString, Timestamp), UnusableAnswer> {
        let now = now();
        let expires_at =
            expires_at.map(|seconds| DateTime::from_secs(now.as_second().saturating_add(seconds)));
        Authorization {
            token: token.map(str::to_owned),
            expires_at,
        }
        .check(now)
    }

    fn problem(token: Option<&str>, expires_at: Option<i64>) -> String {
        match check(token, expires_at).map(|(_, end)| end).unwrap_err() {
            UnusableAnswer::Wrong(problem) => problem,
            UnusableAnswer::Expired(problem) => format!("expired: {problem}"),
        }
    }

    #[test]
    fn check_answer_takes_password_and_end() {
        let (password, end) = check(Some(&STANDARD.encode("AWS:a:b")), Some(12 * 3600)).unwrap();
        assert_eq!(password.expose_secret(), "a:b");
        assert_eq!(end, "2026-11-21T22:00:00Z".parse().unwrap());
    }

    #[test]
    fn check_answer_refuses_bad_tokens() {
        for (token, words) in [
            (None, "empty"),
            (Some(String::new()), "empty"),
            (Some("%%%".to_owned()), "not base64"),
            (Some(STANDARD.encode([0xff, 0xfe])), "not text"),
            (Some(STANDARD.encode("no colon")), "no user name"),
            (Some(STANDARD.encode("root:x")), "another user name"),
            (Some(STANDARD.encode("AWS:")), "empty or not printable"),
            (
                Some(STANDARD.encode("AWS:a\r\nb")),
                "empty or not printable",
            ),
        ] {
            let problem = problem(token.as_deref(), Some(3600));
            assert!(problem.contains(words), "{token:?}: {problem}");
        }
    }

    #[test]
    fn check_answer_refuses_absurd_expiries() {
        let token = STANDARD.encode("AWS:x");
        for (seconds, words) in [
            (None, "no expiresAt"),
            (Some(0), "expired: its token ended at"),
            (Some(-1), "expired: its token ended at"),
            (Some(-1_000_000_000), "expired: its token ended at"),
            (Some(7 * 24 * 3600 + 1), "longer than any"),
            (Some(i64::MAX), "no date"),
            (Some(i64::MIN), "no date"),
        ] {
            let problem = problem(Some(&token), seconds);
            assert!(problem.contains(words), "{seconds:?}: {problem}");
        }
        assert!(check(Some(&token), Some(7 * 24 * 3600)).is_ok());
    }

    #[test]
    fn take_authorization_wants_exactly_one() {
        let entry = || {
            AuthorizationData::builder()
                .authorization_token("x")
                .build()
        };
        let answer = |count: usize| {
            let entries = (0..count).map(|_| entry()).collect();
            PrivateOutput::builder()
                .set_authorization_data(Some(entries))
                .build()
        };
        assert!(Authorization::of_private(answer(1)).is_ok());
        for (count, words) in [(0, "0 entries"), (2, "2 entries")] {
            let problem = Authorization::of_private(answer(count)).err().unwrap();
            assert!(
                matches!(&problem, UnusableAnswer::Wrong(text) if text.contains(words)),
                "{problem:?}"
            );
        }
        assert!(Authorization::of_public(PublicOutput::builder().build()).is_err());
    }
}
