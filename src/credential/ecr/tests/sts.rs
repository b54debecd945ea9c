//! The sessions that AWS STS opens: which endpoint is asked, and what each odd answer leads to.

use async_trait::async_trait;
use secrecy::SecretString;

use super::*;
use crate::credential::{ServiceAccountTokens, TenantError};
use crate::registry::source::{RoleHop, STS_AUDIENCE, Tenant};

const ROLE: &str = "arn:aws:iam::123456789012:role/pull";

/// Gives out one token, or fails.
struct Tokens(Result<&'static str, TenantError>);

#[async_trait]
impl ServiceAccountTokens for Tokens {
    async fn fetch_token(
        &self,
        tenant: &Tenant,
        audience: &str,
    ) -> Result<SecretString, TenantError> {
        assert_eq!(tenant.namespace, "team-a");
        let is_usual = audience == STS_AUDIENCE;
        assert!(is_usual || self.0 == Ok(audience), "{audience}");
        let token = self.0.clone();
        token.map(SecretString::from)
    }
}

/// Both ways to a session of a role: a ServiceAccount's token, and access keys.
fn ways() -> [EcrSource; 2] {
    let tenant = Tenant {
        namespace: "team-a".parse().unwrap(),
        namespace_uid: "1".to_owned(),
        service_account: "puller".parse().unwrap(),
        service_account_uid: "2".to_owned(),
    };
    let web = EcrSource {
        identity: EcrIdentity::Tenant {
            tenant: Arc::new(tenant),
            role_arn: ROLE.to_owned(),
            audience: STS_AUDIENCE.to_owned(),
        },
        ..source()
    };
    let hop = RoleHop {
        role_arn: ROLE.to_owned(),
        ..RoleHop::default()
    };
    let chain = EcrSource {
        assume_roles: vec![hop],
        ..source()
    };
    [web, chain]
}

async fn mint_by(
    recorder: &Recorder,
    source: EcrSource,
    token: Result<&'static str, TenantError>,
) -> Result<Credential, MintError> {
    EcrMint::new(
        HttpClient::over(recorder.clone()),
        AwsEnvironment::default(),
    )
    .with_tokens(Arc::new(Tokens(token)))
    .mint(order(source))
    .await
}

/// The same as `mint_by` with a good token.
async fn mint(recorder: &Recorder, source: EcrSource) -> Result<Credential, MintError> {
    mint_by(recorder, source, Ok("canary-token")).await
}

/// A session as STS answers it, for both operations.
fn opened(access_key: &str, secret: &str, session: &str, end: &str) -> String {
    let inner = format!(
        "<Credentials><AccessKeyId>{access_key}</AccessKeyId><SecretAccessKey>{secret}</SecretAccessKey>\
         <SessionToken>{session}</SessionToken><Expiration>{end}</Expiration></Credentials>\
         <AssumedRoleUser><Arn>arn:aws:sts::123456789012:assumed-role/pull/pullpass</Arn>\
         <AssumedRoleId>AROA:pullpass</AssumedRoleId></AssumedRoleUser>"
    );
    let both = ["AssumeRole", "AssumeRoleWithWebIdentity"];
    // Each operation reads the element of the operation's name.
    both.map(|name| {
        format!("<{name}Response><{name}Result>{inner}</{name}Result></{name}Response>")
    })
    .join("|")
}

#[tokio::test]
async fn mint_asks_the_sts_of_each_partition() {
    let rows: Vec<Row> =
        serde_json::from_str(include_str!("../../../../tests/data/sts_endpoints.json")).unwrap();
    assert!(rows.len() > 30);
    for row in rows {
        for way in ways() {
            let recorder = Recorder::with_token().with_sts(400, "");
            let source = EcrSource {
                region: row.region.clone(),
                fips: row.fips,
                dual_stack: row.dual_stack,
                endpoints: EcrEndpoints {
                    sts: row.endpoint.clone(),
                    ..EcrEndpoints::default()
                },
                ..way
            };
            drop(mint(&recorder, source).await);
            let asked = recorder.asked.lock().unwrap();
            let (uri, _, scope) = asked.first().unwrap();
            assert_eq!(uri.trim_end_matches('/'), row.uri, "{}", row.region);
            // Web identity is not signed.
            let signed = format!("{}/sts/aws4_request", row.region);
            assert!(scope.is_empty() || *scope == signed, "{scope}");
        }
    }
}

/// F20: a session lives as long as the Registry says, by either way; where it says nothing AWS decides.
#[tokio::test]
async fn mint_asks_for_sessions_as_long_as_the_registry_says() {
    let end = (now() + SignedDuration::from_hours(2)).to_string();
    for seconds in [None, Some(900), Some(7200), Some(43_200)] {
        let [mut web, mut chain] = ways();
        web.session_seconds = seconds;
        chain.assume_roles[0].duration_seconds = seconds;
        for way in [web, chain] {
            let recorder = Recorder::with_token().with_sts(200, opened("ASIA1", "s", "t", &end));
            mint(&recorder, way).await.unwrap();
            let forms = recorder.forms.lock().unwrap();
            let mut pairs = form_urlencoded::parse(forms[0].as_bytes());
            let asked = pairs.find(|(name, _)| name == "DurationSeconds");
            let asked = asked.map(|(_, value)| value.parse().unwrap());
            assert_eq!(asked, seconds, "{}", forms[0]);
        }
    }
}

/// F5: the token that is shown to AWS is one for the source's audience.
#[tokio::test]
async fn mint_shows_a_token_for_the_audience_of_the_source() {
    let end = (now() + SignedDuration::from_hours(1)).to_string();
    let recorder = Recorder::with_token().with_sts(200, opened("ASIA1", "s", "t", &end));
    let [mut web, _] = ways();
    if let EcrIdentity::Tenant { audience, .. } = &mut web.identity {
        "my-cloud".clone_into(audience);
    }
    // The double gives out a token that is the audience itself.
    mint_by(&recorder, web, Ok("my-cloud")).await.unwrap();
    let forms = recorder.forms.lock().unwrap();
    assert!(
        forms[0].contains("WebIdentityToken=my-cloud"),
        "{}",
        forms[0]
    );
}

#[tokio::test]
async fn mint_takes_the_sooner_end_of_session_and_token() {
    let rows = [
        (SignedDuration::from_hours(1), SignedDuration::from_hours(1)),
        // However absurd, a session's end never lengthens a token's life.
        (
            SignedDuration::from_hours(24 * 365 * 90),
            SignedDuration::from_hours(12),
        ),
    ];
    for (session, life) in rows {
        for way in ways() {
            let end = (now() + session).to_string();
            let recorder = Recorder::with_token().with_sts(200, opened("ASIA1", "s", "t", &end));
            let credential = mint(&recorder, way).await.unwrap();
            let found = credential.expires_at.duration_since(credential.minted_at);
            assert!(
                (found - life).abs() < SignedDuration::from_secs(3),
                "{found}"
            );
            assert!(credential.principal.ends_with("assumed-role/pull/pullpass"));
        }
    }
}

#[tokio::test]
async fn mint_refuses_sessions_that_cannot_be_right() {
    let soon = (now() + SignedDuration::from_hours(1)).to_string();
    let past = (now() - SignedDuration::from_mins(1)).to_string();
    let rows = [
        ("<html><body>Log in</body></html>".to_owned(), "HTTP 200"),
        (String::new(), "HTTP 200"),
        ("{}".to_owned(), "HTTP 200"),
        (opened("", "s", "t", &soon), "not complete"),
        (opened("ASIA1", "", "t", &soon), "not complete"),
        (opened("ASIA1", "s", "", &soon), "not complete"),
        (opened("ASIA1", "s", "t", "tomorrow"), "HTTP 200"),
        (
            opened("ASIA1", "s", "t", &past),
            "is this node's clock right?",
        ),
    ];
    for (body, words) in rows {
        for way in ways() {
            let recorder = Recorder::with_token().with_sts(200, body.clone());
            let error = mint(&recorder, way).await.unwrap_err();
            let is_past = words == "is this node's clock right?";
            let reason = if is_past {
                "ClockSkew"
            } else {
                "InvalidResponse"
            };
            assert_eq!(error.reason(), reason, "{error}");
            assert!(error.to_string().contains(words), "{words}: {error}");
            let asked = recorder.asked.lock().unwrap();
            assert!(
                asked.iter().all(|(uri, ..)| uri.contains("sts.")),
                "{asked:?}"
            );
        }
    }
}

/// Status, error code, message, reason of the error, and words that its text has.
const REFUSALS: [(u16, &str, &str, &str, &str); 12] = [
    (403, "AccessDenied", "no", "TrustRefused", "trust policy"),
    (
        403,
        "InvalidClientTokenId",
        "no",
        "UnrecognizedClient",
        "InvalidClientTokenId",
    ),
    (
        403,
        "SignatureDoesNotMatch",
        "no",
        "UnrecognizedClient",
        "SignatureDoesNotMatch",
    ),
    (
        400,
        "ExpiredTokenException",
        "no",
        "UnrecognizedClient",
        "ExpiredTokenException",
    ),
    (
        400,
        "ExpiredToken",
        "no",
        "UnrecognizedClient",
        "ExpiredToken",
    ),
    (
        400,
        "InvalidIdentityToken",
        "canary-token",
        "UnrecognizedClient",
        "InvalidIdentityToken",
    ),
    (
        400,
        "IDPRejectedClaim",
        "no",
        "UnrecognizedClient",
        "IDPRejectedClaim",
    ),
    (
        400,
        "IDPCommunicationError",
        "no",
        "Unavailable",
        "IDPCommunicationError",
    ),
    (
        403,
        "RegionDisabledException",
        "STS is off",
        "Refused",
        "STS is off",
    ),
    (
        400,
        "ValidationError",
        "canary-token canary-secret-access-key",
        "Refused",
        "repeats a secret",
    ),
    (400, "Throttling", "Rate exceeded", "Throttled", "retrying"),
    (503, "ServiceUnavailable", "down", "Unavailable", "down"),
];

#[tokio::test]
async fn mint_says_what_to_do_about_each_refusal_of_a_session() {
    for (status, code, message, reason, words) in REFUSALS {
        let body = format!(
            "<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error></ErrorResponse>"
        );
        // What each of them sends.
        for (way, secret) in ways().into_iter().zip(["canary-token", "canary-secret"]) {
            let mut recorder = Recorder::with_token().with_sts(status, body.clone());
            recorder.header = Some(("retry-after", "7"));
            let error = mint(&recorder, way).await.unwrap_err();
            let text = format!("{error} {error:?}");
            assert_eq!(error.reason(), reason, "{text}");
            assert!(text.contains(words), "{text}");
            assert!(!text.contains(secret), "{text}");
            assert!(error.retry_after().is_some(), "{text}");
            assert!(
                recorder
                    .asked
                    .lock()
                    .unwrap()
                    .iter()
                    .all(|(uri, ..)| uri.contains("sts."))
            );
        }
    }
}

#[tokio::test]
async fn mint_asks_nobody_without_a_token_of_the_service_account() {
    let names = || ("team-a".to_owned(), "puller".to_owned());
    let (namespace, service_account) = names();
    let missing = TenantError::MissingServiceAccount {
        namespace,
        service_account,
    };
    let (namespace, service_account) = names();
    let forbidden = TenantError::TokenForbidden {
        namespace,
        service_account,
        message: "no".to_owned(),
    };
    let [web, _] = ways();
    for error in [missing, forbidden] {
        let recorder = Recorder::with_token();
        let found = mint_by(&recorder, web.clone(), Err(error.clone())).await;
        assert_eq!(found.unwrap_err(), MintError::Tenant(error));
        assert!(recorder.asked.lock().unwrap().is_empty());
    }
    // Nothing to ask, and nobody yet to ask for.
    let recorder = Recorder::with_token();
    let unbound = EcrSource {
        identity: EcrIdentity::ServiceAccount {
            name: "puller".parse().unwrap(),
            role_arn: Some(ROLE.to_owned()),
            audience: None,
        },
        ..source()
    };
    let without = EcrMint::new(
        HttpClient::over(recorder.clone()),
        AwsEnvironment::default(),
    );
    for source in [web, unbound] {
        let error = without.mint(order(source)).await.unwrap_err();
        assert_eq!(error.reason(), "Unbound", "{error}");
    }
    assert!(recorder.asked.lock().unwrap().is_empty());
}

/// A mint by the token of a ServiceAccount.
pub(super) async fn mint_by_token(recorder: &Recorder) -> Result<Credential, MintError> {
    let [web, _] = ways();
    mint(recorder, web).await
}
