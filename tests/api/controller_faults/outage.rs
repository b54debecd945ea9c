//! The API server goes away and comes back, once as it was, once as it was long ago.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::support::figure;
use super::support::fixture::{ECR, Fixture};
use super::support::process::Pullpass;
use super::support::wait;
use super::{auth, complaints, launch, make_namespaces, put_fixed, wait_all, wait_leads, wait_one};

/// Much longer than a leader leads without its Lease, so that the way back is that of an outage of any length: what is known stays,
/// requests are tried again with pauses that have reached their longest, and leadership is had anew.
const AWAY: Duration = Duration::from_mins(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn is_current_again_after_the_api_server_was_away() {
    const MANY: usize = 50;
    let fixture = Fixture::alone("away").await;
    put_fixed(&fixture, "one", "canary").await;
    make_namespaces(&fixture, MANY).await;
    let pullpass = Pullpass::start(&launch(&fixture).await).await;
    let one = auth("one", "canary");
    wait_all(&fixture, MANY, &one).await;
    let before = fixture.api.connections();

    fixture.world.api.lock().unwrap().command("stop");
    tokio::time::sleep(AWAY).await;
    let tried = fixture.api.connections() - before;
    let told = complaints(&pullpass);
    println!(
        "API server away for {AWAY:?}: {tried} connections tried, {} warnings",
        told.len()
    );
    // By all watches and the election together; a hot loop tries thousands.
    assert!(tried < 400, "{tried}");
    assert!(told.len() <= 8, "{told:#?}");
    assert!(pullpass.is_ready().await, "the webhook answers from memory");
    let age = watch_age(&pullpass).await;
    assert!(age >= AWAY, "{age:?}");

    fixture.world.api.lock().unwrap().command("start");
    wait_answers(&fixture).await;
    let back = Instant::now();
    fixture.api.forget();
    let namespace = fixture.namespace("after").await;
    wait_one(&fixture, &namespace, &one).await;
    let took = back.elapsed();
    figure::within(
        "a namespace's secret after the API server answers again",
        took,
        Duration::from_secs(5),
    );
    wait_leads(&pullpass).await;
    wait::until("every watch to go on", async || {
        (watch_age(&pullpass).await < AWAY).then_some(())
    })
    .await;
    let (written, stored) = super::secret_writes(&fixture.api.all());
    assert_eq!(
        (written.len(), stored.len()),
        (1, 0),
        "{written:?} {stored:?}"
    );
}

/// Waits until the leader has seen a Registry that is made now, which serves nobody: from there on it misses none.
async fn wait_shown(fixture: &Fixture) {
    let spec = serde_json::json!({
        "images": ["shown.example.com"], "suspend": true, "static": {"secretRef": {"name": "one"}},
    });
    fixture.put_registry("shown", spec).await;
    wait::until("it to be shown", async || {
        let path = "/apis/pullpass.dev/v1alpha1/registries/shown";
        let conditions = fixture.cluster.get(path).await?["status"]["conditions"].take();
        conditions.is_array().then_some(())
    })
    .await;
}

/// How long ago the watch was granted that was granted the longest ago.
async fn watch_age(pullpass: &Pullpass) -> Duration {
    let metrics = pullpass.metrics().await;
    let mut lines = metrics.lines();
    let age = lines.find_map(|line| line.strip_prefix("pullpass_watch_age_seconds "));
    Duration::from_secs_f64(age.unwrap().parse().unwrap())
}

async fn wait_answers(fixture: &Fixture) {
    wait::until("the API server", async || {
        let answer = fixture.cluster.try_send("GET", "/readyz", None).await;
        answer.ok()?.status.is_success().then_some(())
    })
    .await;
}

/// Copies a folder.
fn copy(from: &Path, to: &Path) {
    drop(std::fs::remove_dir_all(to));
    let copied = Command::new("cp")
        .arg("-a")
        .arg(from)
        .arg(to)
        .status()
        .unwrap();
    assert!(copied.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_everything_again_when_etcd_was_put_back_to_an_older_snapshot() {
    let fixture = Fixture::alone("back").await;
    let team = format!("{ECR}/team");
    fixture.serve(&[&team]).await;
    put_fixed(&fixture, "one", "canary").await;
    let old = fixture.namespace("old").await;
    let pullpass = Arc::new(Pullpass::start(&launch(&fixture).await).await);
    let one = auth("one", "canary");
    wait_one(&fixture, &old, &one).await;
    wait_one(&fixture, &old, &team).await;

    let command = |line: &str| fixture.world.api.lock().unwrap().command(line);
    let folder = command("stop");
    drop(folder);
    let etcd = find_etcd(&fixture.world.api.lock().unwrap().field("dir").into());
    let snapshot = fixture.file("snapshot");
    copy(&etcd, &snapshot);
    command("start");
    wait_leads(&pullpass).await;

    // Much happens after the snapshot: another password, more namespaces.
    put_fixed(&fixture, "one", "later").await;
    let later = auth("one", "later");
    for number in 0..100 {
        fixture.namespace(&format!("lost{number}")).await;
    }
    wait_all(&fixture, 101, &later).await;
    let minted = fixture.user.minted(&fixture.world.moto).await.len();

    let unready = tokio::spawn(until_unready(Arc::clone(&pullpass)));
    command("stop");
    copy(&snapshot, &etcd);
    command("start");
    wait_answers(&fixture).await;
    // As it was then: the earlier password, one namespace. Then it goes on from there.
    let new = fixture.namespace("new").await;
    let took = wait_one(&fixture, &new, &one).await;
    println!("etcd put back: a new namespace has its secret {took:.1?} after");
    wait_one(&fixture, &old, &one).await;
    put_fixed(&fixture, "one", "again").await;
    for namespace in [&old, &new] {
        wait_one(&fixture, namespace, &auth("one", "again")).await;
        wait_one(&fixture, namespace, &team).await;
    }
    assert_eq!(fixture.user.minted(&fixture.world.moto).await.len(), minted);
    assert!(
        !unready.is_finished(),
        "it answers from memory all the time"
    );
    unready.abort();
    let backwards = "resourceVersion went backwards (etcd was restored): relisting everything";
    pullpass.wait_logged(&[backwards]).await;
}

/// Ends when this one says that it is not ready.
async fn until_unready(pullpass: Arc<Pullpass>) {
    while pullpass.is_ready().await {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Stops the API server, does this to the folder of etcd's data and another one, and starts it again.
async fn while_stopped(fixture: &Fixture, act: impl FnOnce(&Path, &Path)) {
    let command = |line: &str| drop(fixture.world.api.lock().unwrap().command(line));
    command("stop");
    let etcd = find_etcd(&fixture.world.api.lock().unwrap().field("dir").into());
    act(&etcd, &fixture.file("snapshot"));
    command("start");
    wait_answers(fixture).await;
}

/// An order of before is none against what an earlier state brings back, and what that does not have is no order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn takes_nothing_out_when_etcd_was_put_back_to_an_older_snapshot() {
    const MANY: usize = 12;
    let (one, two) = (auth("one", "canary"), auth("two", "canary"));
    let fixture = Fixture::alone("earlier").await;
    put_fixed(&fixture, "one", "canary").await;
    put_fixed(&fixture, "two", "canary").await;
    make_namespaces(&fixture, MANY).await;
    let pullpass = Pullpass::start(&launch(&fixture).await).await;
    wait_all(&fixture, MANY, &two).await;
    while_stopped(&fixture, copy).await;
    // What is deleted while no watch shows it is no order.
    wait_leads(&pullpass).await;
    wait_shown(&fixture).await;

    fixture.world.kubectl(&["delete", "registry", "two"]);
    wait::until("the order to be carried out", async || {
        let held = super::held(&fixture).await;
        let are_done = held.values().all(|text| !text.contains(&two));
        (held.len() == MANY && are_done).then_some(())
    })
    .await;
    fixture.api.forget();
    while_stopped(&fixture, |etcd, snapshot| copy(snapshot, etcd)).await;
    let new = fixture.namespace("new").await;
    wait_one(&fixture, &new, &one).await;
    wait_one(&fixture, &new, &two).await;
    let (written, _) = super::secret_writes(&fixture.api.all());
    assert!(
        written.iter().all(|write| write.contains(&new)),
        "{written:?}"
    );
    let held = super::held(&fixture).await;
    assert!(
        held.values()
            .all(|text| text.contains(&one) && text.contains(&two))
    );

    // An earlier state without a Registry, whose logins stand in all namespaces.
    drop(pullpass);
    fixture.world.kubectl(&["delete", "registry", "two"]);
    while_stopped(&fixture, copy).await;
    put_fixed(&fixture, "two", "canary").await;
    let pullpass = Pullpass::start(&launch(&fixture).await).await;
    wait_leads(&pullpass).await;
    while_stopped(&fixture, |etcd, snapshot| copy(snapshot, etcd)).await;
    wait::until("a question", async || {
        let count = pullpass.count("pullpass_removals_blocked", &[]).await;
        (count == MANY as u64 + 1).then_some(())
    })
    .await;
    let held = super::held(&fixture).await;
    assert_eq!(held.len(), MANY + 1);
    assert!(held.values().all(|text| text.contains(&two)));
}

/// The folder of etcd's data.
fn find_etcd(instance: &std::path::PathBuf) -> std::path::PathBuf {
    let found = Command::new("find")
        .arg(instance)
        .args(["-type", "d", "-name", "member"])
        .output()
        .unwrap();
    let text = String::from_utf8(found.stdout).unwrap();
    let member = text.lines().next().expect("etcd's data");
    Path::new(member).parent().unwrap().to_owned()
}
