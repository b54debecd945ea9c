//! The API server goes away and comes back, once as it was, once as it was long ago.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::support::process::Pullpass;
use super::support::scene::{ECR, Scene};
use super::support::wait;
use super::{auth, complaints, launch, make_namespaces, put_fixed, wait_all, wait_leads, wait_one};

/// Much longer than a leader leads without its Lease, so that the way back is that of an outage of any length: what is known stays,
/// requests are tried again with pauses that have reached their longest, and leadership is had anew.
const AWAY: Duration = Duration::from_mins(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn is_current_again_after_the_api_server_was_away() {
    const MANY: usize = 50;
    let scene = Scene::alone("away").await;
    put_fixed(&scene, "one", "canary").await;
    make_namespaces(&scene, MANY).await;
    let pullpass = Pullpass::start(&launch(&scene).await).await;
    let one = auth("one", "canary");
    wait_all(&scene, MANY, &one).await;
    let before = scene.api.connections();

    scene.world.api.lock().unwrap().command("stop");
    tokio::time::sleep(AWAY).await;
    let tried = scene.api.connections() - before;
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

    scene.world.api.lock().unwrap().command("start");
    wait_answers(&scene).await;
    let back = Instant::now();
    scene.api.forget();
    let namespace = scene.namespace("after").await;
    wait_one(&scene, &namespace, &one).await;
    let took = back.elapsed();
    println!("a namespace made then has its secret {took:.1?} after the API server answers again");
    assert!(took < Duration::from_secs(5), "{took:?}");
    wait_leads(&pullpass).await;
    wait::until("every watch to go on", async || {
        (watch_age(&pullpass).await < AWAY).then_some(())
    })
    .await;
    let (written, stored) = super::secret_writes(&scene.api.all());
    assert_eq!(
        (written.len(), stored.len()),
        (1, 0),
        "{written:?} {stored:?}"
    );
}

/// How long ago the watch was granted that was granted the longest ago.
async fn watch_age(pullpass: &Pullpass) -> Duration {
    let metrics = pullpass.metrics().await;
    let mut lines = metrics.lines();
    let age = lines.find_map(|line| line.strip_prefix("pullpass_watch_age_seconds "));
    Duration::from_secs_f64(age.unwrap().parse().unwrap())
}

async fn wait_answers(scene: &Scene) {
    wait::until("the API server", async || {
        let answer = scene.cluster.try_send("GET", "/readyz", None).await;
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
    let scene = Scene::alone("back").await;
    let team = format!("{ECR}/team");
    scene.serve(&[&team]).await;
    put_fixed(&scene, "one", "canary").await;
    let old = scene.namespace("old").await;
    let pullpass = Arc::new(Pullpass::start(&launch(&scene).await).await);
    let one = auth("one", "canary");
    wait_one(&scene, &old, &one).await;
    wait_one(&scene, &old, &team).await;

    let command = |line: &str| scene.world.api.lock().unwrap().command(line);
    let folder = command("stop");
    drop(folder);
    let etcd = find_etcd(&scene.world.api.lock().unwrap().field("dir").into());
    let snapshot = scene.file("snapshot");
    copy(&etcd, &snapshot);
    command("start");
    wait_leads(&pullpass).await;

    // Much happens after the snapshot: another password, more namespaces.
    put_fixed(&scene, "one", "later").await;
    let later = auth("one", "later");
    for number in 0..100 {
        scene.namespace(&format!("lost{number}")).await;
    }
    wait_all(&scene, 101, &later).await;
    let minted = scene.user.minted(&scene.world.moto).await.len();

    let unready = tokio::spawn(until_unready(Arc::clone(&pullpass)));
    command("stop");
    copy(&snapshot, &etcd);
    command("start");
    wait_answers(&scene).await;
    // As it was then: the earlier password, one namespace. Then it goes on from there.
    let new = scene.namespace("new").await;
    let took = wait_one(&scene, &new, &one).await;
    println!("etcd put back: a new namespace has its secret {took:.1?} after");
    wait_one(&scene, &old, &one).await;
    put_fixed(&scene, "one", "again").await;
    for namespace in [&old, &new] {
        wait_one(&scene, namespace, &auth("one", "again")).await;
        wait_one(&scene, namespace, &team).await;
    }
    assert_eq!(scene.user.minted(&scene.world.moto).await.len(), minted);
    assert!(
        !unready.is_finished(),
        "it answers from memory all the time"
    );
    unready.abort();
    assert!(
        pullpass
            .find_line("the cluster was put back to an earlier state: everything is read again")
            .is_some(),
        "{}",
        pullpass.log()
    );
}

/// Ends when this one says that it is not ready.
async fn until_unready(pullpass: Arc<Pullpass>) {
    while pullpass.is_ready().await {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
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
