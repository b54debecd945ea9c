//! `pullpass serve --patch-only`, the real binary, as somebody who tries it out starts it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::process::Command;

use crate::support;
use serde_json::{Value, json};
use support::patch_only::{Replica, Setup, client_trusting};
use support::tls::PATIENCE;
use support::webhook::review;
use support::worst::{self, Worst};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

async fn post(client: &reqwest::Client, replica: &Replica, review: &Value) -> reqwest::Response {
    let url = format!("https://{}/mutate?timeout=5s", replica.webhook);
    client.post(url).json(review).send().await.unwrap()
}

#[tokio::test]
async fn answers_from_files_counts_and_logs_no_objects() {
    let setup = Setup::new("localhost");
    let replica = setup.start("127.0.0.1", "0").await;
    let client = client_trusting(&setup.certificate("ca.crt"));
    let mut review = review();
    review["request"]["object"]["spec"]["containers"][0]["env"] =
        json!([{"name": "A", "value": "canary-7d1f"}]);
    let answer: Value = post(&client, &replica, &review).await.json().await.unwrap();
    assert_eq!(answer["response"]["patchType"], "JSONPatch");
    review["request"]["namespace"] = json!("elsewhere");
    let answer: Value = post(&client, &replica, &review).await.json().await.unwrap();
    assert!(answer["response"].get("patch").is_none());
    review["request"]["uid"] = json!("");
    assert_eq!(post(&client, &replica, &review).await.status(), 400);
    let metrics = replica.metrics().await;
    for line in [
        "pullpass_admissions_total{outcome=\"injected\",reason=\"\",cache=\"hit\"} 1",
        "pullpass_admissions_total{outcome=\"unchanged\",reason=\"namespace_unknown\",cache=\"miss\"} 1",
        "pullpass_admissions_total{outcome=\"refused\",reason=\"\",cache=\"hit\"} 1",
        "pullpass_admission_duration_seconds_bucket{le=\"0.0001\",cache=\"hit\"}",
    ] {
        assert!(metrics.contains(line), "no {line} in {metrics}");
    }
    let line = "admitted the Pod with its pull secret";
    let log = replica.wait_logged(&[line]).await;
    assert!(
        !log.contains("canary") && !metrics.contains("canary"),
        "{log}{metrics}"
    );
}

#[tokio::test]
async fn answers_with_connection_close_after_sigterm_then_ends() {
    let setup = Setup::new("localhost");
    let replica = setup.start("127.0.0.1", "3").await;
    let ca = reqwest::Certificate::from_pem(&std::fs::read(setup.certificate("ca.crt")).unwrap())
        .unwrap();
    let client = reqwest::Client::builder()
        .no_proxy()
        .http1_only()
        .tls_certs_only([ca])
        .build()
        .unwrap();
    let review = review();
    assert!(
        post(&client, &replica, &review)
            .await
            .headers()
            .get("connection")
            .is_none()
    );
    replica.terminate();
    support::wait::until("pullpass to be no longer ready", async || {
        (!replica.is_ready().await).then_some(())
    })
    .await;
    for _ in 0..3 {
        let answer = post(&client, &replica, &review).await;
        assert_eq!(answer.headers()["connection"], "close");
        assert_eq!(
            answer.json::<Value>().await.unwrap()["response"]["patchType"],
            "JSONPatch"
        );
    }
    assert!(replica.ended().await.success());
}

/// Connections that say nothing take all file descriptors: who is connected already is served on, and everybody once they were cut
/// off.
#[tokio::test]
async fn serves_on_when_idle_connections_take_all_file_descriptors() {
    const FILES: u32 = 64;
    let setup = Setup::new("localhost");
    let replica = setup.start_with_files(FILES).await;
    let ca = setup.certificate("ca.crt");
    let (connected, late) = (client_trusting(&ca), client_trusting(&ca));
    let review = review();
    assert_eq!(post(&connected, &replica, &review).await.status(), 200);
    let mut idle = Vec::new();
    for _ in 0..2 * FILES {
        idle.push(TcpStream::connect(replica.webhook).await.unwrap());
    }
    let line = "connection limit reached";
    replica.wait_logged(&[line]).await;
    assert!(replica.is_ready().await, "files are left for probes");
    for _ in 0..10 {
        assert_eq!(post(&connected, &replica, &review).await.status(), 200);
    }
    let served = tokio::time::timeout(PATIENCE, post(&late, &replica, &review));
    assert_eq!(served.await.unwrap().status(), 200);
    assert!(replica.is_ready().await);
    assert!(!replica.log().contains("failed to accept"));
}

/// The soft limit of file descriptors is raised to the hard one: more connections than it allows are open at a time.
#[tokio::test]
async fn raises_soft_limit_of_file_descriptors() {
    const FILES: u32 = 64;
    let setup = Setup::new("localhost");
    let replica = setup.start_with_soft_limit(FILES).await;
    let mut idle = Vec::new();
    for _ in 0..2 * FILES {
        idle.push(TcpStream::connect(replica.webhook).await.unwrap());
    }
    let open = format!("pullpass_connections {}", idle.len());
    support::wait::until("all to be open", async || {
        replica.metrics().await.contains(&open).then_some(())
    })
    .await;
}

/// Connections that asked once and are kept, as many as there are places for probes: who comes next is answered all the same.
#[tokio::test]
async fn answers_probes_when_kept_connections_take_all_places() {
    let setup = Setup::new("localhost");
    let replica = setup.start("127.0.0.1", "0").await;
    let mut kept = Vec::new();
    for _ in 0..100 {
        let mut stream = TcpStream::connect(replica.health).await.unwrap();
        let request = b"GET /livez HTTP/1.1\r\nhost: a\r\n\r\n";
        stream.write_all(request).await.unwrap();
        let mut answer = [0; 12];
        let read = tokio::time::timeout(PATIENCE, stream.read_exact(&mut answer));
        read.await.unwrap().unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200");
        kept.push(stream);
    }
    let probe = tokio::time::timeout(PATIENCE, replica.is_ready());
    assert!(probe.await.unwrap());
    let line = "connection limit reached";
    let log = replica.wait_logged(&[line]).await;
    assert_eq!(log.matches(line).count(), 1, "and said once");
}

/// The first bytes of a TLS connection that names an address where a name belongs; a library warns of each.
fn hello_with_odd_name() -> Vec<u8> {
    let config = rustls::ClientConfig::builder_with_provider(std::sync::Arc::new(
        rustls::crypto::aws_lc_rs::default_provider(),
    ));
    let config = config.with_safe_default_protocol_versions().unwrap();
    let config = config
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let name = "127.0.0.1x".try_into().unwrap();
    let mut client = rustls::ClientConnection::new(std::sync::Arc::new(config), name).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    let at = hello.windows(10).position(|part| part == b"127.0.0.1x");
    hello[at.unwrap() + 9] = b'0';
    hello
}

#[tokio::test]
async fn bounds_lines_that_callers_cause_and_counts_the_rest() {
    let setup = Setup::new("localhost");
    let replica = setup.start("127.0.0.1", "0").await;
    let client = client_trusting(&setup.certificate("ca.crt"));
    let mut review = review();
    review["request"]["uid"] = json!("");
    let hello = hello_with_odd_name();
    for _ in 0..200 {
        assert_eq!(post(&client, &replica, &review).await.status(), 400);
        let mut stream = TcpStream::connect(replica.webhook).await.unwrap();
        stream.write_all(&hello).await.unwrap();
        let mut answer = [0; 1];
        let _ = tokio::time::timeout(PATIENCE, stream.read(&mut answer)).await;
    }
    let suppressed = || async {
        let metrics = replica.metrics().await;
        let line = metrics
            .lines()
            .find_map(|line| line.strip_prefix("pullpass_log_lines_suppressed_total "));
        line.unwrap().parse::<u64>().unwrap()
    };
    support::wait::until("the rest to be counted", async || {
        (suppressed().await >= 2 * (200 - 120)).then_some(())
    })
    .await;
    let log = replica.log();
    for line in ["rejected a webhook request", "Illegal SNI"] {
        let said = log.matches(line).count();
        // A minute may end in between.
        assert!((1..=120).contains(&said), "{line}: {said}");
    }
}

/// A pipe with a line for each review, which nobody reads: reviews, probes and the end do not wait for it.
#[tokio::test]
async fn goes_on_when_nobody_reads_the_log() {
    const REVIEWS: usize = 10_000;
    let setup = Setup::new("localhost");
    let (unread, stderr) = std::io::pipe().unwrap();
    let replica = setup.start_with_log(&unread, stderr).await;
    let client = client_trusting(&setup.certificate("ca.crt"));
    let review = review();
    for _ in 0..REVIEWS {
        let answered = tokio::time::timeout(PATIENCE, post(&client, &replica, &review));
        assert_eq!(answered.await.unwrap().status(), 200);
    }
    assert!(replica.is_ready().await);
    let metrics = replica.metrics().await;
    let mut lines = metrics.lines();
    let lost = lines.find_map(|line| line.strip_prefix("pullpass_log_lines_lost_total "));
    let lost: usize = lost.unwrap().parse().unwrap();
    assert!((1..REVIEWS).contains(&lost), "{lost}");
    replica.terminate();
    let ended = tokio::time::timeout(PATIENCE, replica.ended());
    assert!(ended.await.unwrap().success());
    drop(unread);
}

/// What a start that fails prints.
fn refused(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn says_what_to_do_when_there_is_no_certificate() {
    let setup = Setup::new("localhost");
    std::fs::remove_file(setup.certificate("tls.key")).unwrap();
    let said = refused(&mut setup.command("127.0.0.1"));
    assert!(
        said.contains("tls.key") && said.contains("pullpass certs"),
        "{said}"
    );
}

#[test]
fn names_file_line_and_field_of_a_registry_that_breaks_a_rule() {
    let setup = Setup::new("localhost");
    let text = std::fs::read_to_string(setup.registries()).unwrap();
    std::fs::write(
        setup.registries(),
        text.replace(
            "ecr: {identity: {workload: {}}}",
            "ecr: {identity: {workload: {}}, regin: eu-west-1}",
        ),
    )
    .unwrap();
    let said = refused(&mut setup.command("127.0.0.1"));
    assert!(
        said.contains("registries.yaml:7") && said.contains("regin"),
        "{said}"
    );
}

#[test]
fn names_the_flag_when_an_address_is_taken() {
    let setup = Setup::new("localhost");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let said = refused(&mut setup.command_at(&address, "127.0.0.1:0"));
    assert!(said.contains("--listen: cannot listen on"), "{said}");
}

/// The statuses of so many posts at once, each on a connection of its own; 0 where the connection ended first.
async fn post_at_once(
    client: &reqwest::Client,
    replica: &Replica,
    posts: impl Iterator<Item = &Worst>,
) -> Vec<u16> {
    let mut sent = tokio::task::JoinSet::new();
    for Worst { path, body, .. } in posts {
        let post = client.post(format!("https://{}{path}", replica.webhook));
        let post = post.header("content-type", "application/json");
        let post = post.body(body.clone()).send();
        sent.spawn(async move {
            let Ok(answer) = post.await else { return 0 };
            let says_when = answer.headers().contains_key("retry-after");
            let status = answer.status().as_u16();
            assert!(status != 429 || says_when, "429 says when to try again");
            status
        });
    }
    sent.join_all().await
}

/// What the worst reviews came to, at so many at once: how many were answered, shed, and cut off, and the KiB beyond rest.
async fn measure_memory<'w>(posts: impl Iterator<Item = &'w Worst>) -> [u64; 4] {
    let setup = Setup::new("localhost");
    let replica = setup.start_with_threads(8).await;
    let client = client_trusting(&setup.certificate("ca.crt"));
    assert_eq!(post(&client, &replica, &review()).await.status(), 200);
    let rest = replica.peak_memory();
    let statuses = post_at_once(&client, &replica, posts).await;
    let count = |one: &[u16]| {
        statuses
            .iter()
            .filter(|status| one.contains(status))
            .count() as u64
    };
    let (answered, shed) = (count(&[200, 400]), count(&[429]));
    assert_eq!(post(&client, &replica, &review()).await.status(), 200);
    let rest = replica.peak_memory() - rest;
    [
        answered,
        shed,
        statuses.len() as u64 - answered - shed,
        rest,
    ]
}

/// The bound of memory, 64 MiB, beyond what a process at rest has.
const MEMORY: u64 = 64 * 1024;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bounds_memory_of_the_worst_reviews_at_once() {
    let worst = worst::reviews();
    let measured = measure_memory(worst.iter().cycle().take(64)).await;
    let [answered, _, _, beyond] = measured;
    assert!(answered >= 4 && beyond <= MEMORY, "{measured:?}");
}

/// The same for each by itself, as a table.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "figures of the release build"]
async fn prints_memory_of_the_worst_reviews() {
    let mut failed = Vec::new();
    println!("| review | answered | 429 | cut off | MiB beyond rest |\n|---|---|---|---|---|");
    for worst in worst::reviews() {
        let posts = std::iter::repeat_n(&worst, 64);
        let measured = measure_memory(posts).await;
        let [answered, shed, cut_off, beyond] = measured;
        let mib = beyond.div_ceil(1024);
        println!(
            "| {} | {answered} | {shed} | {cut_off} | {mib} |",
            worst.name
        );
        if answered < 4 || cut_off > 0 || beyond > MEMORY {
            failed.push((worst.name, measured));
        }
    }
    assert!(failed.is_empty(), "{failed:?}");
}

/// How long each takes alone, as a table.
#[tokio::test]
#[ignore = "figures of the release build"]
async fn prints_time_of_the_worst_reviews() {
    let setup = Setup::new("localhost");
    let mut registries = std::fs::read_to_string(setup.registries()).unwrap();
    registries.push_str(&worst::registries(200));
    std::fs::write(setup.registries(), registries).unwrap();
    let replica = setup.start_as(&[]).await;
    let client = client_trusting(&setup.certificate("ca.crt"));
    println!("| review | ms of processor time |\n|---|---|");
    for worst in worst::reviews() {
        const ROUNDS: u64 = 5;
        let before = replica.processor_time();
        for _ in 0..ROUNDS {
            let statuses = post_at_once(&client, &replica, std::iter::once(&worst)).await;
            assert_eq!(statuses, [worst.status], "{}", worst.name);
        }
        let spent =
            replica.processor_time().saturating_sub(before).as_millis() / u128::from(ROUNDS);
        println!("| {} | {spent} |", worst.name);
    }
}

/// As many as a large rollout creates at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sheds_none_of_six_hundred_ordinary_reviews_at_once() {
    let setup = Setup::new("localhost");
    let replica = setup.start_as(&[]).await;
    let client = client_trusting(&setup.certificate("ca.crt"));
    let ordinary = Worst {
        name: "ordinary",
        path: "/mutate?timeout=30s",
        body: review().to_string(),
        status: 200,
    };
    let posts = std::iter::repeat_n(&ordinary, 600);
    let statuses = post_at_once(&client, &replica, posts).await;
    assert_eq!(statuses, vec![200; 600]);
}
