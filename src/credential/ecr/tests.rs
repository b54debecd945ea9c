mod answers;
mod slow;
mod sts;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_smithy_runtime_api::client::http::{HttpConnector, HttpConnectorFuture};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_types::body::SdkBody;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::SignedDuration;
use secrecy::ExposeSecret;

use super::*;
use crate::credential::answers::Signer;
use crate::credential::http::HttpClient;
use crate::registry::host::partition_of;
use crate::registry::source::{EcrEndpoints, EcrIdentity, MintSource, Partition, TokenLifetime};
use crate::registry::{CredentialSource, Registries, Registry};

/// Answers every request with one answer and keeps what was asked: URI, target, and the scope of the signature.
#[derive(Clone, Debug)]
struct Recorder {
    asked: Arc<Mutex<Vec<(String, String, String)>>>,
    /// The bodies of those requests.
    forms: Arc<Mutex<Vec<String>>>,
    status: u16,
    body: String,
    header: Option<(&'static str, &'static str)>,
    /// What AWS STS answers instead, to each of its operations: bodies apart by `|`, in the order of their names.
    sts: Option<(u16, String)>,
}

impl Recorder {
    fn new(status: u16, body: impl Into<String>) -> Self {
        Self {
            asked: Arc::default(),
            forms: Arc::default(),
            status,
            body: body.into(),
            header: None,
            sts: None,
        }
    }

    /// The same with another answer of AWS STS.
    fn with_sts(self, status: u16, body: impl Into<String>) -> Self {
        let sts = Some((status, body.into()));
        Self { sts, ..self }
    }

    /// Status and body that answer this request.
    fn answer(&self, request: &HttpRequest) -> (u16, String) {
        let is_sts = request.headers().get("x-amz-target").is_none();
        let Some((status, body)) = self.sts.as_ref().filter(|_| is_sts) else {
            return (self.status, self.body.clone());
        };
        let form = request.body().bytes().unwrap_or_default();
        let form = String::from_utf8_lossy(form);
        let place = usize::from(form.contains("Action=AssumeRoleWithWebIdentity&"));
        let body = body.split('|').nth(place).unwrap_or(body);
        (*status, body.to_owned())
    }

    fn with_token() -> Self {
        let end = now().as_second() + 12 * 3600;
        let token = STANDARD.encode("AWS:secret-password");
        let data = format!(r#"{{"authorizationToken":"{token}","expiresAt":{end}.5}}"#);
        Self::new(200, format!(r#"{{"authorizationData":[{data}]}}"#))
    }
}

impl HttpConnector for Recorder {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let header = |name| request.headers().get(name).unwrap_or_default().to_owned();
        let signed = header("authorization");
        let scope = signed
            .split(['=', ','])
            .nth(1)
            .unwrap_or_default()
            .split('/')
            .skip(2)
            .collect::<Vec<_>>();
        let row = (
            request.uri().to_owned(),
            header("x-amz-target"),
            scope.join("/"),
        );
        self.asked.lock().unwrap().push(row);
        let form = request.body().bytes().unwrap_or_default();
        let form = String::from_utf8_lossy(form).into_owned();
        self.forms.lock().unwrap().push(form);
        let (status, body) = self.answer(&request);
        let mut answer = HttpResponse::new(status.try_into().unwrap(), SdkBody::from(body));
        answer
            .headers_mut()
            .insert("content-type", "application/x-amz-json-1.1");
        if let Some((name, value)) = self.header {
            answer.headers_mut().insert(name, value);
        }
        HttpConnectorFuture::ready(Ok(answer))
    }
}

fn now() -> Timestamp {
    // The SDK signs and measures clock skew by the real clock.
    Timestamp::now()
}

fn source() -> EcrSource {
    EcrSource {
        partition: Partition::Aws,
        region: "eu-west-1".to_owned(),
        public: false,
        fips: false,
        dual_stack: false,
        identity: EcrIdentity::Keys {
            secret: "team-keys".parse().unwrap(),
        },
        session_seconds: None,
        assume_roles: Vec::new(),
        token_life: TokenLifetime::Session,
        endpoints: EcrEndpoints::default(),
    }
}

fn order(source: EcrSource) -> EcrMintRequest {
    let keys = AccessKeys {
        secret: "team-keys".parse().unwrap(),
        access_key_id: "AKIAIOSFODNN7EXAMPLE".to_owned(),
        secret_access_key: "canary-secret-access-key".into(),
        session_token: Some("canary-session-token".into()),
    };
    EcrMintRequest {
        source,
        keys: Some(keys),
        expires_at: None,
        now: now(),
    }
}

async fn mint(recorder: &Recorder, source: EcrSource) -> Result<Credential, MintError> {
    let http = HttpClient::over(recorder.clone());
    EcrMint::new(http, AwsEnvironment::default())
        .mint(order(source))
        .await
}

#[tokio::test]
async fn mint_takes_the_password_and_the_end() {
    let credential = mint(&Recorder::with_token(), source()).await.unwrap();
    assert_eq!(credential.username, "AWS");
    assert_eq!(credential.password.expose_secret(), "secret-password");
    assert_eq!(
        credential.principal,
        "access key …MPLE of source secret team-keys"
    );
    let life = credential.expires_at.duration_since(credential.minted_at);
    assert!((life - SignedDuration::from_hours(12)).abs() < SignedDuration::from_secs(2));
}

/// One row of tests/data/ecr_endpoints.json.
#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Row {
    region: String,
    #[serde(default)]
    public: bool,
    #[serde(default)]
    fips: bool,
    #[serde(default)]
    dual_stack: bool,
    endpoint: Option<String>,
    uri: String,
}

#[tokio::test]
async fn mint_asks_the_endpoint_of_each_partition() {
    let rows: Vec<Row> =
        serde_json::from_str(include_str!("../../../tests/data/ecr_endpoints.json")).unwrap();
    assert!(rows.len() > 25);
    for row in rows {
        let recorder = Recorder::with_token();
        let source = EcrSource {
            region: row.region.clone(),
            public: row.public,
            fips: row.fips,
            dual_stack: row.dual_stack,
            endpoints: EcrEndpoints {
                ecr: row.endpoint.clone().filter(|_| !row.public),
                ecr_public: row.endpoint.clone().filter(|_| row.public),
                sts: None,
            },
            ..source()
        };
        // The recorded answer has the private API's form; here only the question counts.
        drop(mint(&recorder, source).await);
        let asked = recorder.asked.lock().unwrap();
        let (uri, target, scope) = asked
            .first()
            .unwrap_or_else(|| panic!("{} asked nothing", row.uri));
        let (service, api) = if row.public {
            ("ecr-public", "SpencerFrontendService")
        } else {
            ("ecr", "AmazonEC2ContainerRegistry_V20150921")
        };
        assert_eq!(uri.trim_end_matches('/'), row.uri, "{}", row.region);
        assert_eq!(*target, format!("{api}.GetAuthorizationToken"));
        assert_eq!(*scope, format!("{}/{service}/aws4_request", row.region));
    }
}

/// One row of tests/data/hosts.json, as far as it is of Amazon ECR.
#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct HostRow {
    host: String,
    kind: Option<String>,
    #[serde(default)]
    region: Option<String>,
    #[serde(default)]
    fips: bool,
    #[serde(default)]
    dual_stack: bool,
}

/// What a Registry of this one host asks with.
fn source_of(host: &str) -> EcrSource {
    let yaml = format!(
        "{{apiVersion: pullpass.dev/v1alpha1, kind: Registry, metadata: {{name: one}}, spec: {{images: [{host}], namespaceSelector: {{}}, ecr: {{identity: {{keys: {{secretRef: {{name: team-keys}}}}}}}}}}}}"
    );
    let registry: Registry = serde_saphyr::from_str(&yaml).unwrap();
    let registries = Registries::build([registry]);
    assert_eq!(registries.problems(), [], "{host}");
    let mut sources = registries.iter().flat_map(|one| &one.sources);
    match sources.next() {
        Some((CredentialSource::Minted(MintSource::Ecr(source)), _)) => source.clone(),
        other => panic!("{host}: {other:?}"),
    }
}

/// F12: from the host in an image to the endpoint that is asked, in each form of each partition: what the host says is where AWS is asked.
#[tokio::test]
async fn mint_asks_the_endpoint_that_the_host_says() {
    let endpoints: Vec<Row> =
        serde_json::from_str(include_str!("../../../tests/data/ecr_endpoints.json")).unwrap();
    let hosts: Vec<HostRow> =
        serde_json::from_str(include_str!("../../../tests/data/hosts.json")).unwrap();
    let mut dual_stack = std::collections::BTreeSet::new();
    for row in hosts {
        if row.kind.as_deref() != Some("ecr") {
            continue;
        }
        let region = row.region.unwrap();
        let recorder = Recorder::with_token();
        let source = source_of(&row.host);
        let partition = source.partition;
        mint(&recorder, source).await.unwrap();
        let asked = recorder.asked.lock().unwrap()[0].0.clone();
        // The row of a region of the same partition and form.
        let known = endpoints.iter().find(|known| {
            partition_of(&known.region) == Some(partition)
                && (known.public, known.fips, known.dual_stack) == (false, row.fips, row.dual_stack)
                && known.endpoint.is_none()
        });
        let known = known.unwrap_or_else(|| panic!("no endpoint is known for {}", row.host));
        let expected = known.uri.replace(&known.region, &region);
        assert_eq!(asked.trim_end_matches('/'), expected, "{}", row.host);
        if row.dual_stack {
            dual_stack.insert((partition, row.fips));
        }
    }
    assert_eq!(dual_stack.len(), 2 * 8, "{dual_stack:?}");
}

#[tokio::test]
async fn mint_refuses_answers_that_cannot_be_right() {
    let huge = format!(
        r#"{{"authorizationData":[],"x":"{}"}}"#,
        "x".repeat(10 << 20)
    );
    for (recorder, words) in [
        (
            Recorder::new(200, "<html><body>Log in</body></html>"),
            "HTTP 200",
        ),
        (Recorder::new(200, ""), "0 entries"),
        (
            Recorder::new(200, r#"{"authorizationData":[]}"#),
            "0 entries",
        ),
        (
            Recorder::new(200, r#"{"authorizationData":{}}"#),
            "HTTP 200",
        ),
        (Recorder::new(200, huge), "length limit exceeded"),
        (
            Recorder::new(404, "not found"),
            "HTTP 404, an unrecognized answer",
        ),
    ] {
        let error = mint(&recorder, source()).await.unwrap_err();
        assert_eq!(error.reason(), "InvalidResponse", "{error}");
        assert!(error.to_string().contains(words), "{error}");
        assert!(
            error
                .to_string()
                .contains("api.ecr.eu-west-1.amazonaws.com"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn mint_follows_no_redirect() {
    let mut recorder = Recorder::new(302, "");
    recorder.header = Some(("location", "https://evil.example/"));
    let error = mint(&recorder, source()).await.unwrap_err();
    assert_eq!(error.reason(), "InvalidResponse", "{error}");
    let asked = recorder.asked.lock().unwrap();
    assert!(
        asked.iter().all(|(uri, ..)| !uri.contains("evil")),
        "{asked:?}"
    );
}

/// Status, error code, message, reason of the error, and words that its text has.
const REFUSALS: [(u16, &str, &str, &str, &str); 12] = [
    (
        400,
        "AccessDeniedException",
        "User: x is not authorized",
        "AccessDenied",
        "allow it on resource *",
    ),
    (
        400,
        "UnrecognizedClientException",
        "The token is invalid.",
        "UnrecognizedClient",
        "check AWS_ACCESS_KEY_ID",
    ),
    (
        403,
        "InvalidSignatureException",
        "signed canary-session-token",
        "UnrecognizedClient",
        "InvalidSignatureException",
    ),
    (
        400,
        "ExpiredTokenException",
        "",
        "UnrecognizedClient",
        "AWS_SESSION_TOKEN",
    ),
    (
        400,
        "ThrottlingException",
        "Rate exceeded",
        "Throttled",
        "wait, retrying",
    ),
    (
        400,
        "InvalidParameterException",
        "odd canary-secret-access-key",
        "Refused",
        "repeats a secret",
    ),
    // A part of it is one, too; also where the code should be.
    (
        400,
        "InvalidParameterException",
        "odd canary-secret-ac",
        "Refused",
        "repeats a secret",
    ),
    (400, "canary-session-t", "no", "Refused", "repeats a secret"),
    (
        500,
        "ServerException",
        "oops\n\u{1b}[31m",
        "Unavailable",
        "oops",
    ),
    // What AWS says comes first, whatever the code is.
    (
        403,
        "InvalidSignatureException",
        "Signature expired: 20261121T100000Z is now earlier than 20261121T101500Z",
        "ClockSkew",
        "20261121T100000Z is now earlier",
    ),
    (
        400,
        "AccessDeniedException",
        "no, with an explicit deny in a service control policy",
        "AccessDenied",
        "allow it to that principal, or except it",
    ),
    (
        400,
        "BrandNewException",
        "Do this",
        "Refused",
        "an unrecognized answer",
    ),
];

#[tokio::test]
async fn mint_says_what_to_do_about_each_refusal() {
    for (status, code, message, reason, words) in REFUSALS {
        let body = serde_json::json!({"__type": code, "message": message}).to_string();
        let mut recorder = Recorder::new(status, body);
        recorder.header = Some(("retry-after", "7"));
        let error = mint(&recorder, source()).await.unwrap_err();
        let text = format!("{error} {error:?}");
        assert_eq!(error.reason(), reason, "{text}");
        assert!(text.contains(words), "{text}");
        assert!(
            !text.contains("canary") && !text.contains('\u{1b}'),
            "{text}"
        );
        let seconds = error.retry_after().map(|wait| wait.as_secs());
        assert_eq!(seconds, Some(7), "{text}");
    }
}

#[tokio::test]
async fn mint_asks_no_endpoint_without_tls() {
    let recorder = Recorder::with_token();
    let http = || Some("http://api.ecr.eu-west-1.amazonaws.com".to_owned());
    for endpoints in [
        EcrEndpoints {
            ecr: http(),
            ..EcrEndpoints::default()
        },
        EcrEndpoints {
            sts: http(),
            ..EcrEndpoints::default()
        },
    ] {
        let error = mint(
            &recorder,
            EcrSource {
                endpoints,
                ..source()
            },
        )
        .await
        .unwrap_err();
        assert_eq!(error.reason(), "Configuration", "{error}");
    }
    assert!(recorder.asked.lock().unwrap().is_empty());
}

fn session(end: Option<&str>, on_demand: bool) -> Session {
    Session {
        credentials: aws_credential_types::Credentials::new("a", "b", None, None, "test"),
        expires_at: end.map(|end| end.parse().unwrap()),
        principal: "node role x".to_owned(),
        on_demand,
        signer: Signer::Node,
    }
}

#[test]
fn check_session_wants_a_later_end_where_none_can_be_had_on_demand() {
    let noon = "2026-11-21T12:00:00Z";
    let with_current = |current: Option<&str>| EcrMintRequest {
        now: "2026-11-21T10:00:00Z".parse().unwrap(),
        expires_at: current.map(|end| end.parse().unwrap()),
        ..order(source())
    };
    for (session, current, is_good) in [
        (session(None, true), Some(noon), true),
        (session(Some(noon), false), None, true),
        (session(Some(noon), false), Some(noon), false),
        (
            session(Some(noon), false),
            Some("2026-11-21T11:00:00Z"),
            true,
        ),
        (session(Some(noon), true), Some(noon), true),
        (session(Some("2026-11-21T10:00:00Z"), true), None, false),
    ] {
        let checked = check_session(&session, &with_current(current));
        assert_eq!(checked.is_ok(), is_good, "{session:?} {current:?}");
        if let Err(error) = checked {
            let wait = (!session.on_demand).then_some(Duration::from_mins(1));
            assert_eq!(error.retry_after(), wait, "{error}");
        }
    }
}
