//! A registry whose endpoint `/v2/` is open to anybody, and whose repositories are not.

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

/// The status of a host whose token service takes the login, and whose repositories do not take the token.
const TOKEN_REFUSED: u16 = 0;

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
            path if path.starts_with("/token") && self.status != TOKEN_REFUSED => self.status,
            path if path.starts_with("/token") => 200,
            path if path.starts_with("/v2/broken/") && has_login => 503,
            path if path.starts_with("/v2/closed/") && has_login => 403,
            _ if has_login && self.status == TOKEN_REFUSED => 401,
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
    answer
        .as_ref()
        .is_err_and(RegistryClientError::refuses_login)
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
        (BASIC, 200, &["public/a", "hidden/a"], LoginMethod::NotAsked),
        (BASIC, 200, &["hidden/a"], LoginMethod::NotAsked),
        (BASIC, 200, &[], LoginMethod::NotAsked),
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
async fn goes_on_with_the_next_repository_unless_the_login_is_refused() {
    let login = async |paths: &[&str], status: u16| {
        let login = async |client: &RegistryClient<'_>| client.login(paths.iter().copied()).await;
        with(BASIC, status, login).await
    };
    for first in ["broken/a", "closed/a"] {
        let (answer, _) = login(&[first, "team"], 200).await;
        assert_eq!(answer, Ok(LoginMethod::Basic), "{first}");
        let (answer, _) = login(&[first, "public/a", "broken/b"], 200).await;
        let error = answer.unwrap_err();
        assert_eq!(error.repository(), Some(first), "{error}");
        let place = format!("the login at repository {first} ");
        assert!(error.to_string().contains(&place), "{error}");
    }
    // It is sent once: its account may be locked.
    let (answer, asked) = login(&["team", "other"], 401).await;
    assert!(refused(&answer), "{answer:?}");
    assert_eq!(answer.unwrap_err().repository(), Some("team"));
    let sent = asked.iter().filter(|line| line.ends_with("with a login"));
    assert_eq!(sent.count(), 1, "{asked:?}");
}

/// A token that a repository does not take says nothing of the login for which it was given.
#[tokio::test]
async fn calls_a_login_neither_taken_nor_refused_whose_token_a_repository_refuses() {
    let login = async |client: &RegistryClient<'_>| client.login(["team"]).await;
    let (answer, asked) = with(TOKEN, TOKEN_REFUSED, login).await;
    assert!(!refused(&answer), "{answer:?}");
    let error = answer.unwrap_err();
    assert!(
        matches!(&error, RegistryClientError::TokenRefused { repository, .. } if repository == "team"),
        "{error}"
    );
    assert_eq!(asked.len(), 4, "{asked:?}");
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
