//! Which address families are answered.

use std::process::{Command, Stdio};

use super::support::bed;
use super::support::netns;
use super::support::patch_only::{Replica, Setup};
use tokio::net::TcpStream;

const WEBHOOK: [&str; 2] = ["127.0.0.1:8443", "[::1]:8443"];
const METRICS: [&str; 2] = ["127.0.0.1:8080", "[::1]:8080"];

/// The ports by default are free in a network namespace.
#[test]
fn listens_on_both_families_unless_it_is_told_otherwise() {
    netns::run("platforms::listen::answers_where_it_is_told");
}

async fn is_open(address: &str) -> bool {
    TcpStream::connect(address).await.is_ok()
}

/// Asserts who is answered: health and metrics by a request, the webhook by a connection.
async fn assert_answers(replica: &Replica, open: &[&str], closed: &[&str]) {
    for address in open {
        assert!(is_open(address).await, "{address}: {}", replica.log());
    }
    for address in closed {
        assert!(!is_open(address).await, "{address}: {}", replica.log());
    }
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    for address in open.iter().filter(|address| address.ends_with("80")) {
        let url = format!("http://{address}/readyz");
        let answer = client.get(url).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{address}");
    }
}

async fn stop(replica: Replica) {
    replica.terminate();
    assert!(replica.ended().await.success());
}

/// A command as on a machine whose kernel has no IPv6.
fn without_ipv6(command: &Command) -> Command {
    let mut limited = Command::new(bed::dir().join("bin/bed"));
    limited
        .args(["no-ipv6", "--"])
        .arg(command.get_program())
        .args(command.get_args())
        .env_clear()
        .stdin(Stdio::null());
    limited
}

#[tokio::test]
#[ignore = "runs in a network namespace"]
async fn answers_where_it_is_told() {
    let setup = Setup::new("localhost");
    let quick = |mut command: Command| {
        command.args(["--drain-delay", "0"]);
        command
    };
    let replica = Setup::start_command(quick(setup.plain_command())).await;
    assert_answers(&replica, &[WEBHOOK, METRICS].concat(), &[]).await;
    stop(replica).await;

    // By the environment, one family each.
    let mut told = quick(setup.plain_command());
    told.env("PULLPASS_LISTEN", "127.0.0.1:8443")
        .env("PULLPASS_METRICS_LISTEN", "[::1]:8080");
    let replica = Setup::start_command(told).await;
    let open = [WEBHOOK[0], METRICS[1]];
    assert_answers(&replica, &open, &[WEBHOOK[1], METRICS[0]]).await;
    stop(replica).await;

    // A flag comes before the environment; [::] is both families.
    let mut told = quick(setup.command_at("[::]:9443", "[::]:9080"));
    told.env("PULLPASS_LISTEN", "127.0.0.1:8443");
    let replica = Setup::start_command(told).await;
    let open = [
        "127.0.0.1:9443",
        "[::1]:9443",
        "127.0.0.1:9080",
        "[::1]:9080",
    ];
    assert_answers(&replica, &open, &WEBHOOK).await;
    stop(replica).await;

    // Without IPv6 the default is IPv4, and it says so.
    let replica = Setup::start_command(without_ipv6(&quick(setup.plain_command()))).await;
    let open = [WEBHOOK[0], METRICS[0]];
    assert_answers(&replica, &open, &[WEBHOOK[1], METRICS[1]]).await;
    replica.wait_logged(&["this machine has no IPv6"]).await;
    stop(replica).await;

    // What was asked for is not silently something else.
    for (webhook, flag) in [("[::]:9443", "--listen"), ("[::1]:9443", "--listen")] {
        let command = setup.command_at(webhook, "127.0.0.1:0");
        let output = without_ipv6(&command).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{said}");
        let expected = format!("{flag}: cannot listen on {webhook}: Address family not supported");
        assert!(said.contains(&expected), "{said}");
    }
}
