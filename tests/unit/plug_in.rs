//! `pullpass credential-provider` as the kubelet runs it, where something is wrong: one line in 2 s, whatever it is.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::support;
use axum::Router;
use axum::http::StatusCode;
use serde_json::json;
use support::process::make_certificates;
use support::tls;

/// The plug-in's own 2 s, and what a busy machine needs to start it and to see its end.
const LONGEST: Duration = Duration::from_secs(5);
const TOKEN: &str = "eyJhbGciOiJSUzI1NiJ9.canarycanary.c2lnbmF0dXJl";

fn request() -> Vec<u8> {
    json!({
        "apiVersion": "credentialprovider.kubelet.k8s.io/v1", "kind": "CredentialProviderRequest",
        "image": "registry.example.com/team/api", "serviceAccountToken": TOKEN,
    })
    .to_string()
    .into_bytes()
}

/// Runs it; `closes`: stdin has an end.
fn run(arguments: &[&str], stdin: &[u8], closes: bool) -> (Output, Duration) {
    let since = Instant::now();
    let mut child = Command::new(env!("CARGO_BIN_EXE_pullpass"))
        .arg("credential-provider")
        .args(arguments)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    // It may have ended before all was written.
    drop(input.write_all(stdin));
    let held = (!closes).then_some(input);
    let output = child.wait_with_output().unwrap();
    drop(held);
    (output, since.elapsed())
}

/// The one line that it says.
fn line((output, took): (Output, Duration)) -> String {
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        !output.status.success() && output.stdout.is_empty(),
        "{said}"
    );
    assert!(took < LONGEST, "{took:?}: {said}");
    assert!(
        said.starts_with("pullpass: ") && said.ends_with('\n'),
        "{said}"
    );
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.len() < 1100 && !said.contains("canary"), "{said}");
    said
}

#[test]
fn says_what_is_wrong_with_its_arguments_in_one_line() {
    for (arguments, problem) in [
        (&[][..], "--address <HOST:PORT> --ca-file <FILE>"),
        (&["--address"], "a value is required"),
        (&["--address", "10.0.0.1", "--ca-file", "/a"], "HOST:PORT"),
        (
            &["--address", "a:1", "--ca-file", "/a", "--verbose"],
            "'--verbose'",
        ),
        (
            &["--address", "a:1", "--address", "b:1", "--ca-file", "/a"],
            "multiple times",
        ),
        (&["--address", "a:1", "--ca-file", "/a", "x"], "'x'"),
        (
            &[
                "--address",
                "a:1",
                "--ca-file",
                "/a",
                "--server-name",
                "a b",
            ],
            "DNS name",
        ),
        (&["get-credentials"], "'get-credentials'"),
    ] {
        let said = line(run(arguments, &request(), true));
        assert!(said.contains(problem), "{arguments:?}: {said}");
    }
    // People read theirs as they are.
    let (output, _) = run(&["config"], b"", true);
    assert!(
        String::from_utf8(output.stderr)
            .unwrap()
            .contains("\n\nUsage")
    );
}

#[test]
fn ends_in_time_whatever_it_waits_for() {
    let folder = tempfile::tempdir().unwrap();
    make_certificates(folder.path(), "127.0.0.1");
    let pipe = folder.path().join("pipe");
    assert!(
        Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    let good = folder.path().join("ca.crt");
    // Nobody takes a connection from its queue.
    let deaf = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let deaf = deaf.local_addr().unwrap().to_string();
    let cases: [(&Path, bool, &str); 5] = [
        (&good, false, "stdin did not end in 2 s"),
        (&pipe, true, "not read in 2 s"),
        (
            Path::new("/dev/zero"),
            true,
            "holds more than 1048576 bytes",
        ),
        (folder.path(), true, "--ca-file"),
        (&good, true, "127.0.0.1"),
    ];
    for (file, closes, problem) in cases {
        let arguments = ["--address", &deaf, "--ca-file", file.to_str().unwrap()];
        let said = line(run(&arguments, &request(), closes));
        assert!(said.contains(problem), "{said}");
    }
    let arguments = ["--address", &deaf, "--ca-file", good.to_str().unwrap()];
    let said = line(run(&arguments, &vec![b'x'; 1 << 20], true));
    assert!(said.contains("stdin holds more than"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn repeats_no_token_and_no_more_than_a_line_of_a_refusal() {
    let message = format!(
        "no\n\u{1b}[31m {TOKEN} canarycanary {}",
        "z".repeat(100_000)
    );
    let body = json!({"reason": "NotOptedIn", "message": message}).to_string();
    let application = Router::new().fallback(move || async move { (StatusCode::FORBIDDEN, body) });
    let broker = tls::start(application, pullpass::server::Bounds::default()).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.crt");
    std::fs::write(&file, &broker.ca_pem).unwrap();
    let address = broker.address.to_string();
    let said = tokio::task::spawn_blocking(move || {
        let arguments = ["--address", &address, "--ca-file", file.to_str().unwrap()];
        let arguments = [&arguments[..], &["--server-name", "127.0.0.1"]].concat();
        line(run(&arguments, &request(), true))
    });
    let said = said.await.unwrap();
    assert!(said.starts_with("pullpass: NotOptedIn: no"), "{said}");
    assert!(said.contains("<token>") && said.contains("zzz"), "{said}");
    assert!(!said.contains('\u{1b}'), "{said}");
}
