//! Watches that live: whatever the API server answers, nobody asks in a hot loop, and everything is current again afterwards.

use std::time::{Duration, Instant};

use serde_json::json;

use super::support::figure;
use super::support::fixture::Fixture;
use super::support::process::Pullpass;
use super::support::proxy::{Fault, Seen};
use super::support::wait;
use super::{auth, launch, put_fixed, wait_leads, wait_one};

/// For how long each fault lasts.
const LASTS: Duration = Duration::from_secs(3);

/// Watches and lists of one process: five kinds here.
const KINDS: usize = 5;

async fn start(fixture: &Fixture) -> Pullpass {
    put_fixed(fixture, "one", "canary").await;
    let pullpass = Pullpass::start(&launch(fixture).await).await;
    wait_leads(&pullpass).await;
    let namespace = fixture.namespace("first").await;
    wait_one(fixture, &namespace, &auth("one", "canary")).await;
    pullpass
}

fn is_collection(request: &Seen) -> bool {
    request.is_watch() || request.path.contains("limit=")
}

fn status(code: u16, reason: &str, cause: Option<&str>) -> String {
    let mut status = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason,
        "message": format!("the test says {code}"),
    });
    if let Some(cause) = cause {
        status["details"] = json!({"causes": [{"reason": cause, "message": cause}]});
    }
    status.to_string()
}

fn inline(code: u16, reason: &str) -> String {
    let object: serde_json::Value = serde_json::from_str(&status(code, reason, None)).unwrap();
    format!("{}\n", json!({"type": "ERROR", "object": object}))
}

/// Every fault that an API server is known for, one after the other: how often pullpass asks meanwhile, and how soon it is current.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn come_back_from_every_answer_without_a_hot_loop() {
    let fixture = Fixture::alone("answers").await;
    let pullpass = start(&fixture).await;
    let retry = |seconds: &str| vec![("retry-after", seconds.to_owned())];
    let faults: Vec<(&str, bool, Fault)> = vec![
        (
            "410 to a watch",
            true,
            Fault::Answer(410, vec![], status(410, "Expired", None)),
        ),
        (
            "410 in a watch",
            true,
            Fault::Answer(200, vec![], inline(410, "Expired")),
        ),
        (
            "500 in a watch",
            true,
            Fault::Answer(200, vec![], inline(500, "InternalError")),
        ),
        (
            "a watch that ends at once",
            true,
            Fault::Answer(200, vec![], String::new()),
        ),
        (
            "a watch of nonsense",
            true,
            Fault::Answer(200, vec![], "<html>\n".to_owned()),
        ),
        (
            "too large resource version",
            true,
            Fault::Answer(
                504,
                vec![],
                status(504, "Timeout", Some("ResourceVersionTooLarge")),
            ),
        ),
        (
            "429 with Retry-After",
            false,
            Fault::Answer(429, retry("2"), status(429, "TooManyRequests", None)),
        ),
        (
            "503",
            false,
            Fault::Answer(503, vec![], status(503, "ServiceUnavailable", None)),
        ),
        (
            "403",
            false,
            Fault::Answer(403, vec![], status(403, "Forbidden", None)),
        ),
    ];
    for (number, (what, watches_alone, fault)) in faults.into_iter().enumerate() {
        let is_met = move |request: &Seen| {
            if watches_alone {
                request.is_watch()
            } else {
                is_collection(request)
            }
        };
        let injected = fault.clone();
        fixture
            .api
            .inject(move |request| is_met(request).then(|| injected.clone()));
        // Watches that are open end, and begin into the fault.
        fixture.api.cut();
        fixture.api.forget();
        tokio::time::sleep(LASTS).await;
        let asked = fixture
            .api
            .all()
            .iter()
            .filter(|request| is_collection(request))
            .count();
        fixture.api.heal();
        let namespace = fixture.namespace(&format!("after{number}")).await;
        let took = wait_one(&fixture, &namespace, &auth("one", "canary")).await;
        println!("{what}: {asked} lists and watches in {LASTS:?}");
        assert!(asked <= KINDS * 12, "{what}: {asked}");
        figure::within(
            &format!("{what}: current again"),
            took,
            Duration::from_secs(20),
        );
    }
    assert!(pullpass.is_ready().await);
}

/// Writes that etcd takes its time for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waits_for_a_slow_etcd_without_writing_twice() {
    let fixture = Fixture::alone("slow").await;
    let pullpass = start(&fixture).await;
    fixture.api.inject(|request| {
        let is_pull_secret = request.method == "PATCH" && request.path.contains("/secrets/");
        is_pull_secret.then_some(Fault::Slow(Duration::from_secs(7)))
    });
    fixture.api.forget();
    let namespace = fixture.namespace("late").await;
    tokio::time::sleep(Duration::from_secs(14)).await;
    let tried = fixture.api.all();
    let tried = tried
        .iter()
        .filter(|request| request.method == "PATCH" && request.path.contains("/secrets/"));
    let tried = tried.count();
    fixture.api.heal();
    let took = wait_one(&fixture, &namespace, &auth("one", "canary")).await;
    println!("writes that take 7 s: {tried} tries in 14 s, there {took:.1?} after");
    assert!(tried <= 4, "{tried}");
    assert!(pullpass.is_ready().await);
}

/// Every connection goes silent and nobody is told: as when a firewall forgets it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn notice_within_a_minute_that_a_connection_is_half_open() {
    let fixture = Fixture::alone("silent").await;
    let pullpass = start(&fixture).await;
    fixture.api.silence();
    let silenced = Instant::now();
    let namespace = fixture.namespace("second").await;
    let path = format!("/api/v1/namespaces/{namespace}/secrets/pullpass");
    wait::until("a pull secret over new connections", async || {
        fixture.cluster.get(&path).await
    })
    .await;
    figure::within(
        "half-open connections: current again",
        silenced.elapsed(),
        Duration::from_secs(62),
    );
    assert!(pullpass.is_ready().await);
}
