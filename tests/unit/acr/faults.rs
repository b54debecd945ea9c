//! The faults of a cloud, wherever they come up on the way.

use std::time::{Duration, Instant};

use futures::future::join_all;
use pullpass::registry::source::{AcrIdentity, ManagedIdentity};
use serde_json::json;

use super::fixture::{APP, Fixture, SERVER, TENANT, WORKLOAD, principal, tenant};
use super::support::azure::RESOURCE;
use super::support::azure::token::issue;
use super::support::figure;
use super::support::internet::Reply;

/// An answer, what it is called, and what is told of it.
type Row = (Reply, &'static str, &'static str);

fn answers() -> Vec<Row> {
    let html = |status| Reply {
        status,
        body: "<html>canary</html>".to_owned(),
        ..Reply::default()
    };
    let with = |status, name, value: &str| Reply {
        headers: vec![(name, value.to_owned())],
        ..html(status)
    };
    let thief = "https://thief.example/oauth2/exchange";
    let token =
        |token: &str| Reply::json(200, &json!({"access_token": token, "refresh_token": token}));
    let no_token = "empty or not printable";
    vec![
        (html(200), "InvalidResponse", "without the JSON"),
        (with(429, "retry-after", "17"), "Throttled", "HTTP 429"),
        (with(503, "retry-after", "20"), "Unavailable", "HTTP 503"),
        (
            with(307, "location", thief),
            "InvalidResponse",
            "never followed",
        ),
        (token(""), "InvalidResponse", no_token),
        (token("a\nb"), "InvalidResponse", no_token),
    ]
}

/// The ways to each place that can fail: the URL, who asks, and the place as it is told.
fn ways() -> [(&'static str, AcrIdentity, &'static str); 5] {
    let entra = ("oauth2/v2.0/token", "login.microsoftonline.com");
    let system = AcrIdentity::Managed(ManagedIdentity::System);
    [
        (entra.0, WORKLOAD, entra.1),
        (entra.0, principal(TENANT, APP), entra.1),
        (entra.0, tenant("pullpass", TENANT, APP), entra.1),
        ("oauth2/exchange", principal(TENANT, APP), SERVER),
        ("metadata/identity", system, "127.0.0.1"),
    ]
}

async fn fixture() -> Fixture {
    let fixture = Fixture::new().await;
    fixture.azure.content().node.system = Some(APP.to_owned());
    fixture
}

#[tokio::test]
async fn tells_faults_apart_on_the_whole_way() {
    let fixture = fixture().await;
    for (url, identity, place) in ways() {
        for (reply, reason, words) in answers() {
            fixture.azure.fail(url, reply, 1);
            let error = fixture.refusal(identity.clone()).await;
            assert_eq!(error.reason(), reason, "{url}: {error}");
            assert!(error.to_string().contains(words), "{url}: {error}");
            assert!(error.to_string().contains(place), "{url}: {error}");
            let retry_after = match reason {
                "Throttled" => Some(Duration::from_secs(17)),
                "Unavailable" => Some(Duration::from_secs(20)),
                _ => None,
            };
            assert_eq!(error.retry_after(), retry_after, "{url}");
        }
        // None of this is remembered by the mint itself.
        fixture.mint(identity).await.unwrap();
    }
    assert!(fixture.azure.content().stolen.is_empty());
}

/// What Azure's SDK would do by itself: ask again, answer from its cache, add any life to the present.
#[tokio::test]
async fn asks_entra_id_once_for_each_mint_whatever_it_answers() {
    const URL: &str = "oauth2/v2.0/token";
    let fixture = fixture().await;
    let mut asked = 0;
    for identity in [
        WORKLOAD,
        principal(TENANT, APP),
        tenant("pullpass", TENANT, APP),
    ] {
        for status in [408, 429, 500, 502, 503, 504] {
            let reply = Reply {
                status,
                ..Reply::default()
            };
            fixture.azure.fail(URL, reply, 1);
            fixture.refusal(identity.clone()).await;
        }
        for _ in 0..2 {
            fixture.mint(identity.clone()).await.unwrap();
        }
        let token = issue(&mut fixture.azure.content(), TENANT, APP, RESOURCE);
        let life = 99_999_999_999_999_u64;
        let answer = json!({"access_token": token, "expires_in": life});
        fixture.azure.fail(URL, Reply::json(200, &answer), 1);
        fixture.mint(identity).await.unwrap();
        asked += 9;
        assert_eq!(fixture.azure.count(URL), asked);
    }
}

#[tokio::test]
async fn waits_for_slow_answers_and_not_for_ever() {
    let fixture = fixture().await;
    let late = |delay| Reply {
        delay,
        ..Reply::default()
    };
    let each = ways().map(async |(url, identity, _)| {
        // Faults are told apart by nothing but the URL: a scene for each.
        let fixture = self::fixture().await;
        fixture
            .azure
            .fail(url, late(Duration::from_millis(1500)), 1);
        fixture.mint(identity.clone()).await.unwrap();
        fixture.azure.fail(url, late(Duration::from_mins(1)), 1);
        let started = Instant::now();
        let error = fixture.refusal(identity).await;
        let is_late = matches!(error.reason(), "Timeout" | "NoIdentity");
        assert!(is_late, "{url}: {error}");
        figure::within(url, started.elapsed(), Duration::from_secs(10));
    });
    join_all(each).await;
    // The API server that gives the ServiceAccount's token, too.
    let started = Instant::now();
    let error = fixture.refusal(tenant("hanging", TENANT, APP)).await;
    assert!(error.to_string().contains("in time"), "{error}");
    figure::within(
        "an API server that hangs is given up",
        started.elapsed(),
        Duration::from_secs(10),
    );
}
