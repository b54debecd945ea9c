use std::sync::{Arc, Mutex};

use aws_smithy_runtime_api::client::http::{HttpConnector, HttpConnectorFuture};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::http::StatusCode;
use aws_smithy_types::body::SdkBody;

use super::*;

/// A host that asks for a login by this challenge, and answers one with this status. It keeps what it was asked.
#[derive(Clone, Debug)]
struct Host {
    challenge: Option<&'static str>,
    status: u16,
    /// Whether anybody may see its endpoint `/v2/`.
    is_v2_open: bool,
    /// For how long it wants to be left alone, with or without a login.
    retry_after: Option<&'static str>,
    /// What it answers where nobody asks for a login.
    open_body: &'static str,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Host {
    fn new(challenge: Option<&'static str>, status: u16, is_v2_open: bool) -> Self {
        Self {
            challenge,
            status,
            is_v2_open,
            retry_after: None,
            open_body: TAGS,
            asked: Arc::default(),
        }
    }
}

const TAGS: &str = r#"{"name":"team","tags":["1"]}"#;

impl HttpConnector for Host {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let has_login = request.headers().get("authorization").is_some();
        let with = if has_login { " with a login" } else { "" };
        let line = format!("{}{with}", request.uri());
        self.asked.lock().unwrap().push(line);
        let status = match self.challenge {
            _ if self.retry_after.is_some() => self.status,
            None => 200,
            Some(_) if self.is_v2_open && request.uri().ends_with("/v2/") => 200,
            Some(_) if has_login => self.status,
            Some(_) => 401,
        };
        let answer = r#"{"token":"t","errors":[{"code":"DENIED","message":"no"}]}"#;
        let body = self.challenge.map_or(self.open_body, |_| answer);
        let body = SdkBody::from(body);
        let mut response = HttpResponse::new(StatusCode::try_from(status).unwrap(), body);
        if let Some(challenge) = self.challenge {
            response.headers_mut().insert("www-authenticate", challenge);
        }
        if let Some(wait) = self.retry_after {
            response.headers_mut().insert("retry-after", wait);
        }
        HttpConnectorFuture::ready(Ok(response))
    }
}

const BASIC: Option<&str> = Some(r#"Basic realm="r""#);

fn login(password: &str) -> SourceSecret {
    let entries = [("username", "robot"), ("password", password)];
    let entry = |(key, value): (&str, &str)| (key.to_owned(), value.as_bytes().to_vec().into());
    SourceSecret {
        name: "harbor".parse().unwrap(),
        type_: "kubernetes.io/basic-auth".to_owned(),
        data: entries.map(entry).into_iter().collect(),
        resource_version: "1".to_owned(),
    }
}

async fn check(
    challenge: Option<&'static str>,
    status: u16,
    secret: &SourceSecret,
    keys: &[&str],
) -> (LoginOutcome, Vec<String>) {
    ask(Host::new(challenge, status, false), secret, keys).await
}

async fn ask(host: Host, secret: &SourceSecret, keys: &[&str]) -> (LoginOutcome, Vec<String>) {
    let keys: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
    let http = HttpClient::over(host.clone());
    let LoginTries { tries, untried } = find_tries(secret, &keys, &[]);
    let mut outcomes = Vec::new();
    for attempt in &tries {
        outcomes.push(http.check(attempt).await);
    }
    let outcome = summarise(outcomes.iter().chain(&untried));
    let asked = host.asked.lock().unwrap().clone();
    (outcome, asked)
}

/// In one word, and whether it is tried again soon.
fn read(outcome: &LoginOutcome) -> (&str, bool) {
    match outcome {
        LoginOutcome::Taken => ("Taken", false),
        LoginOutcome::Refused { .. } => ("Refused", false),
        LoginOutcome::Unknown {
            reason, is_passing, ..
        } => (reason, *is_passing),
    }
}

#[tokio::test]
async fn tells_a_refused_login_from_one_of_which_nothing_is_known() {
    let own = Some(r#"Bearer realm="https://a.example/token",service="a.example""#);
    let elsewhere = Some(r#"Bearer realm="https://auth.example/token""#);
    let unsafe_realm = Some(r#"Bearer realm="http://a.example/token""#);
    for (challenge, status, expected) in [
        (BASIC, 200, ("Taken", false)),
        (BASIC, 401, ("Refused", false)),
        (BASIC, 403, ("Forbidden", true)),
        (BASIC, 429, ("Throttled", true)),
        (BASIC, 503, ("Unavailable", true)),
        (BASIC, 307, ("InvalidResponse", true)),
        (own, 200, ("Taken", false)),
        (own, 401, ("Refused", false)),
        (elsewhere, 200, ("ForeignRealm", false)),
        (unsafe_realm, 200, ("ForeignRealm", false)),
        (Some("Negotiate"), 200, ("InvalidResponse", true)),
        (None, 200, ("LoginNotRequired", false)),
    ] {
        let (outcome, _) = check(challenge, status, &login("pw"), &["a.example/team"]).await;
        assert_eq!(read(&outcome), expected, "{challenge:?} {status}");
        assert!(!format!("{outcome:?}").contains("pw"), "{outcome:?}");
        if let LoginOutcome::Unknown {
            reason, message, ..
        } = &outcome
            && *reason != "LoginNotRequired"
        {
            let advises = ["check", "wait"].iter().any(|verb| message.contains(verb));
            assert!(advises, "what to do: {message}");
        }
    }
}

#[tokio::test]
async fn sends_a_login_to_hosts_that_the_registry_names_and_by_https_alone() {
    let realm = Some(r#"Bearer realm="https://auth.example/token""#);
    let (_, asked) = check(realm, 200, &login("pw"), &["a.example"]).await;
    assert_eq!(asked, ["https://a.example/v2/"]);
    let keys = [
        "a.example/x",
        "a.example/y",
        "b.example:5000",
        "*.c.example",
    ];
    let (outcome, asked) = check(BASIC, 200, &login("pw"), &keys).await;
    assert_eq!(
        asked,
        [
            "https://a.example/v2/",
            "https://a.example/v2/ with a login",
            "https://b.example:5000/v2/",
            "https://b.example:5000/v2/ with a login",
        ]
    );
    assert_eq!(read(&outcome), ("HostPattern", false));
    // The Secret names a host that only a pattern of the Registry covers.
    let config = r#"{"auths":{"in.c.example":{"username":"robot","password":"pw"}}}"#;
    let config = SourceSecret {
        type_: "kubernetes.io/dockerconfigjson".to_owned(),
        data: [(
            ".dockerconfigjson".to_owned(),
            config.as_bytes().to_vec().into(),
        )]
        .into(),
        ..login("pw")
    };
    let (outcome, asked) = check(BASIC, 200, &config, &["*.c.example"]).await;
    assert_eq!((asked, read(&outcome)), (vec![], ("HostPattern", false)));
}

#[tokio::test]
async fn tries_a_few_of_many_logins() {
    let keys: Vec<String> = (0..50).map(|number| format!("h{number}.example")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let (outcome, asked) = check(BASIC, 200, &login("pw"), &keys).await;
    assert_eq!(asked.len(), 2 * MAX_TRIES);
    assert_eq!(read(&outcome), ("TooManyLogins", false));
    let (outcome, asked) = check(BASIC, 401, &login("pw"), &keys).await;
    assert_eq!(asked.len(), 2 * MAX_TRIES);
    assert_eq!(read(&outcome).0, "Refused");
}

#[tokio::test]
async fn says_what_is_wrong_with_a_source_of_no_use() {
    let (outcome, asked) = check(BASIC, 200, &login(""), &["a.example"]).await;
    assert_eq!(
        (asked, read(&outcome)),
        (vec![], ("MalformedSource", false))
    );
}

/// An open endpoint `/v2/` says nothing of the repositories: the login is tried where one of the Registry's asks for one.
#[tokio::test]
async fn calls_no_login_needless_for_an_open_endpoint() {
    let own = Some(r#"Bearer realm="https://a.example/token",service="a.example""#);
    let rows = [
        (BASIC, 200, &["a.example/team"][..], ("Taken", false)),
        (BASIC, 401, &["a.example/team"], ("Refused", false)),
        (own, 200, &["a.example/team"], ("Taken", false)),
        (BASIC, 200, &["a.example"], ("NoLoginAsked", false)),
        (
            BASIC,
            401,
            &["a.example", "a.example/team"],
            ("Refused", false),
        ),
        (None, 200, &["a.example"], ("NoLoginAsked", false)),
        (None, 200, &["a.example/team"], ("LoginNotRequired", false)),
    ];
    for (challenge, status, keys, expected) in rows {
        let host = Host::new(challenge, status, true);
        let (outcome, asked) = ask(host, &login("pw"), keys).await;
        assert_eq!(read(&outcome), expected, "{challenge:?} {keys:?} {asked:?}");
        let was_sent = asked.iter().any(|line| line.ends_with("with a login"));
        assert_eq!(was_sent, matches!(expected.0, "Taken" | "Refused"));
        assert_eq!(outcome.is_unsent(), !was_sent, "{outcome:?}");
    }
}

#[tokio::test]
async fn keeps_for_how_long_a_registry_wants_to_be_left_alone() {
    for (status, header, reason, seconds) in [
        (429, "7", "Throttled", 7),
        (503, "61", "Unavailable", 61),
        (429, "86400", "Throttled", 3600),
    ] {
        let host = Host {
            retry_after: Some(header),
            ..Host::new(BASIC, status, false)
        };
        let (outcome, asked) = ask(host, &login("pw"), &["a.example"]).await;
        assert_eq!(asked, ["https://a.example/v2/"], "no login was asked for");
        assert_eq!(read(&outcome), (reason, true), "{outcome:?}");
        let LoginOutcome::Unknown { retry_after, .. } = outcome else {
            panic!("{outcome:?}");
        };
        assert_eq!(retry_after, Some(Duration::from_secs(seconds)));
    }
}

/// A page for people is no list of tags: what answers there asks for a login another time.
#[tokio::test]
async fn calls_no_login_needless_for_an_answer_that_is_no_registry_s() {
    for (open_body, expected) in [
        (TAGS, ("LoginNotRequired", false)),
        (
            r#"{"name":"team","tags":null}"#,
            ("LoginNotRequired", false),
        ),
        ("<html>log in</html>", ("NoLoginAsked", true)),
        (r#"{"name":"team"}"#, ("NoLoginAsked", true)),
        ("", ("NoLoginAsked", true)),
    ] {
        let host = Host {
            open_body,
            ..Host::new(None, 200, true)
        };
        let (outcome, _) = ask(host, &login("pw"), &["a.example/team"]).await;
        assert_eq!(read(&outcome), expected, "{open_body}");
    }
}

/// What `excludedImages` takes away is no login of the Registry: it goes nowhere.
#[test]
fn finds_no_try_for_a_login_of_what_is_excluded() {
    let auths = ["a.example/team", "a.example/team/secret"].map(|key| {
        let password = if key.ends_with("secret") {
            "two"
        } else {
            "one"
        };
        format!(r#""{key}":{{"username":"robot","password":"{password}"}}"#)
    });
    let config = format!(r#"{{"auths":{{{}}}}}"#, auths.join(","));
    let secret = SourceSecret {
        type_: "kubernetes.io/dockerconfigjson".to_owned(),
        data: [(".dockerconfigjson".to_owned(), config.into_bytes().into())].into(),
        ..login("pw")
    };
    let keys = ["a.example/team".to_owned()];
    for (reserved, expected) in [
        (&[][..], vec!["team", "team/secret"]),
        (&["a.example/team/secret".to_owned()][..], vec!["team"]),
    ] {
        let found = find_tries(&secret, &keys, reserved);
        let paths = found.tries.iter().flat_map(|attempt| &attempt.paths);
        assert_eq!(paths.collect::<Vec<_>>(), expected, "{reserved:?}");
    }
}

#[test]
fn shows_nothing_of_a_login_id() {
    let id = LoginId::of("a.example", "robot", &"pw".into());
    assert_eq!(format!("{id:?}"), "LoginId");
}

#[test]
fn knows_nothing_of_a_login_whose_token_a_repository_refuses() {
    let keys = ["a.example/team".to_owned()];
    let found = find_tries(&login("pw"), &keys, &[]);
    let error = RegistryClientError::TokenRefused {
        host: "a.example".to_owned(),
        repository: "team".to_owned(),
        answer: "no".to_owned(),
    };
    let outcome = read_answer(&found.tries[0], Err(error));
    assert_eq!(read(&outcome), ("Forbidden", true), "{outcome:?}");
    assert!(!outcome.is_unsent());
}
