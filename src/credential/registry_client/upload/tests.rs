use std::fmt;
use std::sync::{Arc, Mutex};

use aws_smithy_runtime_api::client::http::{HttpConnector, HttpConnectorFuture};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::http::StatusCode;
use aws_smithy_types::body::SdkBody;
use secrecy::SecretString;

use super::super::super::http::HttpClient;
use super::*;

/// The status of an answer, and its Location.
type Answer = (u16, Option<&'static str>);
type Answers = Box<dyn Fn(&str, bool) -> Answer + Send + Sync>;

/// A registry that answers so to `METHOD /path`, asked with a login or without. It keeps what it was asked with one.
#[derive(Clone)]
struct Host {
    challenge: &'static str,
    answers: Arc<Answers>,
    asked: Arc<Mutex<Vec<String>>>,
    /// What it answers to who asks for tags that are there.
    tags: &'static str,
    /// What it says of a manifest, as a header.
    shown: Option<(&'static str, &'static str)>,
}

impl fmt::Debug for Host {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Host")
    }
}

impl HttpConnector for Host {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let line = format!("{} {}", request.method(), request.uri());
        let has_login = request.headers().get("authorization").is_some();
        if has_login {
            self.asked.lock().unwrap().push(line.clone());
        }
        let (status, location) = match has_login {
            true if line.contains("/token") => (200, None),
            true => (self.answers)(&line.replace("https://a.example", ""), has_login),
            false => (401, None),
        };
        let body = if line.contains("/tags/list") && status == 200 {
            self.tags
        } else {
            r#"{"token":"t","errors":[{"code":"DENIED","message":"in its own words"}]}"#
        };
        let status = StatusCode::try_from(status).unwrap();
        let mut response = HttpResponse::new(status, SdkBody::from(body));
        response
            .headers_mut()
            .insert("www-authenticate", self.challenge);
        if let (true, Some((name, value))) = (line.starts_with("HEAD"), self.shown) {
            response.headers_mut().insert(name, value);
        }
        if let Some(location) = location {
            response.headers_mut().insert("location", location);
        }
        HttpConnectorFuture::ready(Ok(response))
    }
}

const BASIC: &str = r#"Basic realm="r""#;
const TOKEN: &str = r#"Bearer realm="https://a.example/token",service="a.example""#;
const TAGS: &str = r#"{"name":"team/app","tags":["1"]}"#;
const UPLOAD: &str = "/v2/team/app/blobs/uploads/1";

async fn push(
    challenge: &'static str,
    reference: Option<&str>,
    answers: impl Fn(&str) -> Answer + Send + Sync + 'static,
) -> (Result<PushOutcome, RegistryClientError>, Vec<String>) {
    let digest = Some(("docker-content-digest", "sha256:0"));
    push_shown((challenge, TAGS, digest), reference, answers).await
}

async fn push_shown(
    (challenge, tags, shown): (
        &'static str,
        &'static str,
        Option<(&'static str, &'static str)>,
    ),
    reference: Option<&str>,
    answers: impl Fn(&str) -> Answer + Send + Sync + 'static,
) -> (Result<PushOutcome, RegistryClientError>, Vec<String>) {
    let host = Host {
        challenge,
        answers: Arc::new(Box::new(move |line, _| answers(line))),
        asked: Arc::default(),
        tags,
        shown,
    };
    let http = HttpClient::over(host.clone());
    let password = SecretString::from("canary-password");
    let client = RegistryClient::new(&http, "a.example", "robot", &password);
    let outcome = client.try_push("team/app", reference).await;
    let asked = host.asked.lock().unwrap().clone();
    (outcome, asked)
}

/// A registry whose repository has the image, with these answers to who opens an upload and who cancels it.
fn opens(open: Answer, cancel: u16) -> impl Fn(&str) -> Answer {
    move |line| match line.split(' ').next() {
        Some("POST") => open,
        Some("DELETE") => (cancel, None),
        _ => (200, None),
    }
}

fn methods(asked: &[String]) -> Vec<&str> {
    asked
        .iter()
        .filter_map(|line| line.split(' ').next())
        .collect()
}

#[tokio::test]
async fn opens_an_upload_and_cancels_it() {
    let (outcome, asked) = push(BASIC, Some("1"), opens((202, Some(UPLOAD)), 204)).await;
    assert_eq!(outcome, Ok(PushOutcome::Cancelled));
    let expected = [
        "HEAD https://a.example/v2/team/app/manifests/1",
        "POST https://a.example/v2/team/app/blobs/uploads/",
        "DELETE https://a.example/v2/team/app/blobs/uploads/1",
    ];
    assert_eq!(asked, expected);
}

#[tokio::test]
async fn asks_for_a_token_of_what_it_does() {
    let (outcome, asked) = push(TOKEN, None, opens((202, Some(UPLOAD)), 204)).await;
    assert_eq!(outcome, Ok(PushOutcome::Cancelled));
    let scopes: Vec<&str> = asked
        .iter()
        .filter_map(|line| line.split_once("scope=repository:team/app:"))
        .map(|(_, actions)| actions)
        .collect();
    assert_eq!(scopes, ["pull", "pull,push", "pull,push"]);
}

/// Where nothing shows that a repository is there, opening an upload may create it.
#[tokio::test]
async fn opens_nothing_where_the_repository_is_not_known_to_be_there() {
    for status in [401, 403, 404] {
        for reference in [None, Some("1")] {
            let (outcome, asked) = push(BASIC, reference, move |_| (status, None)).await;
            let words = format!("HTTP {status}: DENIED in its own words");
            assert_eq!(outcome, Ok(PushOutcome::Unknown(words)));
            assert!(!methods(&asked).contains(&"POST"), "{asked:?}");
        }
    }
    for status in [301, 429, 500] {
        let (outcome, asked) = push(BASIC, Some("1"), move |_| (status, None)).await;
        assert!(outcome.is_err(), "{outcome:?}");
        assert_eq!(methods(&asked), ["HEAD"]);
    }
    // It lists tags, though it has none of this name.
    let (outcome, _) = push(BASIC, Some("2"), |line| match line {
        "HEAD /v2/team/app/manifests/2" => (404, None),
        "GET /v2/team/app/tags/list?n=1" => (200, None),
        other => opens((202, Some(UPLOAD)), 204)(other),
    })
    .await;
    assert_eq!(outcome, Ok(PushOutcome::Cancelled));
}

/// Distribution answers 200 and no tags of a repository that is not there; others, and proxies, answer 200 to anything.
#[tokio::test]
async fn takes_an_answer_that_shows_nothing_for_no_repository() {
    let opens = || opens((202, Some(UPLOAD)), 204);
    for tags in [
        r#"{"name":"team/app","tags":null}"#,
        r#"{"name":"team/app","tags":[]}"#,
        r#"{"name":"team/app"}"#,
        "<html>Sign in</html>",
        "",
    ] {
        for shown in [None, Some(("content-type", "text/html"))] {
            for reference in [None, Some("1")] {
                let (outcome, asked) = push_shown((BASIC, tags, shown), reference, opens()).await;
                assert_eq!(
                    outcome,
                    Ok(PushOutcome::Unknown("GET shows no image of it".to_owned()))
                );
                assert!(!methods(&asked).contains(&"POST"), "{asked:?}");
            }
        }
    }
    for type_ in [
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    ] {
        let shown = Some(("content-type", type_));
        let (outcome, _) = push_shown((BASIC, "", shown), Some("1"), opens()).await;
        assert_eq!(outcome, Ok(PushOutcome::Cancelled));
    }
}

#[tokio::test]
async fn tells_a_refused_push_in_the_words_of_the_registry() {
    for status in [401, 403] {
        let (outcome, asked) = push(BASIC, Some("1"), opens((status, None), 204)).await;
        let error = outcome.unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "a.example refuses a push to team/app (HTTP {status}): DENIED in its own words"
            )
        );
        assert_eq!(methods(&asked), ["HEAD", "POST"]);
    }
    for status in [200, 201, 307, 404, 405, 500] {
        let (outcome, asked) = push(BASIC, Some("1"), opens((status, Some(UPLOAD)), 204)).await;
        assert!(outcome.is_err(), "{status}: {outcome:?}");
        assert_eq!(methods(&asked), ["HEAD", "POST"]);
    }
}

#[tokio::test]
async fn sends_no_login_to_an_upload_elsewhere() {
    for (location, words) in [
        (
            Some("https://b.example/v2/team/app/blobs/uploads/1"),
            "b.example, another host",
        ),
        (
            Some("http://a.example/v2/team/app/blobs/uploads/1"),
            "not that of an upload",
        ),
        (Some("/v2/team/app/manifests/1"), "not that of an upload"),
        (None, "does not say where"),
    ] {
        let (outcome, asked) = push(BASIC, Some("1"), opens((202, location), 204)).await;
        let Ok(PushOutcome::Left(why)) = outcome else {
            panic!("{outcome:?}");
        };
        assert!(why.contains(words), "{why}");
        assert_eq!(methods(&asked), ["HEAD", "POST"], "{location:?}");
    }
}

#[tokio::test]
async fn takes_a_refused_cancel_for_no_error() {
    let (outcome, asked) = push(BASIC, Some("1"), opens((202, Some(UPLOAD)), 405)).await;
    let why = "HTTP 405: DENIED in its own words".to_owned();
    assert_eq!(outcome, Ok(PushOutcome::Left(why.clone())));
    assert_eq!(methods(&asked), ["HEAD", "POST", "DELETE"]);
    // A token is for what it was asked for: some registries want that to be `delete`.
    let (outcome, asked) = push(TOKEN, Some("1"), opens((202, Some(UPLOAD)), 405)).await;
    assert_eq!(outcome, Ok(PushOutcome::Left(why)));
    let last = asked.iter().rev().find(|line| line.contains("/token"));
    assert!(
        last.is_some_and(|line| line.ends_with(":delete")),
        "{asked:?}"
    );
    assert_eq!(
        methods(&asked)
            .iter()
            .filter(|one| **one == "DELETE")
            .count(),
        2
    );
}
