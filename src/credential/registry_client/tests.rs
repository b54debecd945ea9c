//! A registry whose front page is open to anybody, and whose repositories are not.

use std::fmt;
use std::sync::{Arc, Mutex};

use aws_smithy_runtime_api::client::http::{HttpConnector, HttpConnectorFuture};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::http::StatusCode;
use aws_smithy_types::body::SdkBody;

use super::super::http::HttpClient;
use super::*;

const BASIC: &str = r#"Basic realm="r""#;
const TOKEN: &str = r#"Bearer realm="https://a.example/token",service="a.example""#;
const ELSEWHERE: &str = r#"Bearer realm="https://b.example/token""#;

/// `/v2/` is open, and so is what is below `/v2/public/`; what is below `/v2/hidden/` is not shown to anybody without a login.
#[derive(Clone)]
struct Host {
    challenge: &'static str,
    /// What it answers to who has a login.
    status: u16,
    asked: Arc<Mutex<Vec<String>>>,
}

impl fmt::Debug for Host {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Host")
    }
}

impl HttpConnector for Host {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let path = request.uri().replace("https://a.example", "");
        let has_login = request.headers().get("authorization").is_some();
        let with = if has_login { " with a login" } else { "" };
        let line = format!("{} {path}{with}", request.method());
        self.asked.lock().unwrap().push(line);
        let is_upload = request.method() == "POST";
        let status = match path.as_str() {
            "/v2/" => 200,
            path if path.starts_with("/token") => self.status,
            _ if has_login && is_upload => 202,
            _ if has_login => self.status,
            path if path.starts_with("/v2/public/") && !is_upload => 200,
            path if path.starts_with("/v2/hidden/") => 404,
            _ => 401,
        };
        let body = r#"{"token":"t","tags":["1"],"errors":[{"code":"DENIED","message":"no"}]}"#;
        let status = StatusCode::try_from(status).unwrap();
        let mut response = HttpResponse::new(status, SdkBody::from(body));
        let headers = response.headers_mut();
        headers.insert("www-authenticate", self.challenge);
        headers.insert("docker-content-digest", "sha256:0");
        headers.insert("location", "/v2/team/app/blobs/uploads/1");
        HttpConnectorFuture::ready(Ok(response))
    }
}

async fn with<T>(
    challenge: &'static str,
    status: u16,
    ask: impl AsyncFnOnce(&RegistryClient<'_>) -> T,
) -> (T, Vec<String>) {
    let host = Host {
        challenge,
        status,
        asked: Arc::default(),
    };
    let http = HttpClient::over(host.clone());
    let password = SecretString::from("canary-password");
    let client = RegistryClient::new(&http, "a.example", "robot", &password);
    let answer = ask(&client).await;
    let asked = host.asked.lock().unwrap().clone();
    (answer, asked)
}

fn refused(answer: &Result<LoginMethod, RegistryClientError>) -> bool {
    matches!(
        answer,
        Err(RegistryClientError::Refused { status: 401, .. }
            | RegistryClientError::Known { status: 401, .. })
    )
}

#[tokio::test]
async fn tries_a_login_at_a_repository_that_asks_for_one() {
    let taken = [
        (BASIC, 200, &["team"][..], LoginMethod::Basic),
        (BASIC, 404, &["team"], LoginMethod::Basic),
        (BASIC, 200, &["public/a", "team"], LoginMethod::Basic),
        (BASIC, 200, &["hidden/a", "team"], LoginMethod::Basic),
        (TOKEN, 200, &["team"], LoginMethod::Token),
        (BASIC, 200, &["public/a", "public/b"], LoginMethod::Open),
        (BASIC, 200, &["public/a", "hidden/a"], LoginMethod::Untried),
        (BASIC, 200, &["hidden/a"], LoginMethod::Untried),
        (BASIC, 200, &[], LoginMethod::Untried),
    ];
    for (challenge, status, paths, expected) in taken {
        let login = async |client: &RegistryClient<'_>| client.login(paths.iter().copied()).await;
        let (answer, asked) = with(challenge, status, login).await;
        assert_eq!(answer, Ok(expected), "{challenge} {status} {paths:?}");
        let was_sent = asked.iter().any(|line| line.ends_with("with a login"));
        let is_tried = matches!(expected, LoginMethod::Basic | LoginMethod::Token);
        assert_eq!(was_sent, is_tried, "{asked:?}");
    }
    for challenge in [BASIC, TOKEN] {
        let login = async |client: &RegistryClient<'_>| client.login(["team"]).await;
        let (answer, _) = with(challenge, 401, login).await;
        assert!(refused(&answer), "{challenge} {answer:?}");
    }
    // A token service on another host gets nothing here, either.
    let login = async |client: &RegistryClient<'_>| client.login(["team"]).await;
    let (answer, asked) = with(ELSEWHERE, 200, login).await;
    assert!(
        matches!(answer, Err(RegistryClientError::ForeignRealm { .. })),
        "{answer:?}"
    );
    assert!(!asked.iter().any(|line| line.ends_with("with a login")));
}

#[tokio::test]
async fn asks_for_a_manifest_and_pushes_with_the_login_where_the_repository_asks_for_it() {
    for challenge in [BASIC, TOKEN] {
        let manifest = async |client: &RegistryClient<'_>| client.manifest("team/app", "1").await;
        let (answer, asked) = with(challenge, 200, manifest).await;
        let digest = Some("sha256:0".to_owned());
        assert_eq!(answer, Ok(Manifest { digest }), "{asked:?}");
        let push = async |client: &RegistryClient<'_>| client.try_push("team/app", Some("1")).await;
        let (answer, asked) = with(challenge, 200, push).await;
        assert_eq!(answer, Ok(PushOutcome::Cancelled), "{asked:?}");
        // Where anybody may pull and not push, too.
        let push = async |client: &RegistryClient<'_>| client.try_push("public/a", None).await;
        let (answer, asked) = with(challenge, 200, push).await;
        assert_eq!(answer, Ok(PushOutcome::Cancelled), "{asked:?}");
        assert!(asked[1].ends_with("/tags/list?n=1"), "{asked:?}");
    }
    let manifest = async |client: &RegistryClient<'_>| client.manifest("public/a", "1").await;
    let (answer, asked) = with(BASIC, 401, manifest).await;
    assert!(answer.is_ok(), "{answer:?}");
    assert_eq!(asked, ["GET /v2/", "HEAD /v2/public/a/manifests/1"]);
}
