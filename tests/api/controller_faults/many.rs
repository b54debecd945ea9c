//! Many namespaces: how long it takes, what it costs.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::support::figure;
use super::support::fixture::{ECR, Fixture};
use super::support::metrics;
use super::support::process::Pullpass;
use super::support::wait;
use super::{auth, launch, make_namespaces, put_fixed, secret_writes, wait_all};

/// How many writes were not answered with success so far: each of them may be sent again.
async fn count_failed(pullpass: &Pullpass) -> u64 {
    let text = pullpass.metrics().await;
    let count = |labels: &[&str]| metrics::sum(&text, "pullpass_pull_secret_writes_total", labels);
    count(&[]) - count(&["written"])
}

/// One write each, and one more for each that a busy API server did not answer in time.
fn check_written_once(written: &[String], many: usize, failed: u64) {
    let paths: BTreeSet<&String> = written.iter().collect();
    assert_eq!(paths.len(), many, "each is written");
    let most = many as u64 + failed;
    assert!(
        written.len() as u64 <= most,
        "{} writes of {many}, {failed} of them in vain",
        written.len()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn namespaces_have_their_secrets_at_once() {
    const MANY: usize = 1000;
    const MORE: usize = 100;
    let fixture = Fixture::alone("thousand").await;
    let team = format!("{ECR}/team");
    fixture.serve(&[&team]).await;
    let making = Instant::now();
    make_namespaces(&fixture, MANY).await;
    println!("{MANY} namespaces made in {:.1?}", making.elapsed());
    let started = Instant::now();
    let pullpass = Pullpass::start(&launch(&fixture).await).await;
    let ready = started.elapsed();
    wait_all(&fixture, MANY, &team).await;
    let all = started.elapsed();
    let (written, stored) = secret_writes(&fixture.api.all());
    let (stored, calls) = (stored.len(), fixture.aws.all().len());
    println!(
        "{MANY} namespaces: ready after {ready:.1?}, all pull secrets after {all:.1?}, {} writes, {calls} cloud calls, {} MiB",
        written.len(),
        pullpass.memory() / 1024
    );
    check_written_once(&written, MANY, count_failed(&pullpass).await);
    // The store's are the claim and the credential.
    assert_eq!((stored, calls), (2, 1));

    put_fixed(&fixture, "one", "canary").await;
    let everywhere = wait_all(&fixture, MANY, &auth("one", "canary")).await;
    println!("another Registry in {MANY} namespaces after {everywhere:.1?}");

    let mut took = Vec::new();
    for number in 0..MORE {
        let path = format!("/api/v1/namespaces/thousand-late{number}/secrets/pullpass");
        let [namespace, _] = fixture.namespace_objects(&format!("late{number}"));
        let made = Instant::now();
        fixture.cluster.apply(&namespace).await;
        wait::until("a new namespace's pull secret", async || {
            fixture.cluster.get(&path).await
        })
        .await;
        took.push(made.elapsed());
    }
    took.sort_unstable();
    let (p50, p99) = (took[MORE / 2 - 1], took[MORE * 99 / 100 - 1]);
    println!(
        "one more beside them: p50 {p50:.1?}, p99 {p99:.1?}, longest of {MORE} {:.1?}",
        took[MORE - 1]
    );
    figure::within("one more namespace, p99", p99, Duration::from_secs(1));

    // The password changes in its source.
    fixture.api.forget();
    let failed = count_failed(&pullpass).await;
    put_fixed(&fixture, "one", "later").await;
    let everywhere = wait_all(&fixture, MANY + MORE, &auth("one", "later")).await;
    println!(
        "another password in {} namespaces after {everywhere:.1?}",
        MANY + MORE
    );
    let (written, _) = secret_writes(&fixture.api.all());
    let failed = count_failed(&pullpass).await - failed;
    check_written_once(&written, MANY + MORE, failed);

    // One opts out.
    let [mut namespace, _] = fixture.namespace_objects("n7");
    let labels = namespace["metadata"]["labels"].as_object_mut();
    labels.unwrap().remove("pullpass.dev/inject");
    let opted = Instant::now();
    fixture.cluster.apply(&namespace).await;
    wait::until("the end of a pull secret", async || {
        let there = fixture.cluster.secret("thousand-n7", "pullpass").await;
        there.is_none().then_some(())
    })
    .await;
    println!(
        "opted out: the secret is gone after {:.1?}",
        opted.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passwords_that_change_in_their_source_are_everywhere_in_five_seconds() {
    const MANY: usize = 50;
    let fixture = Fixture::alone("source").await;
    put_fixed(&fixture, "one", "first").await;
    make_namespaces(&fixture, MANY).await;
    let pullpass = Pullpass::start(&launch(&fixture).await).await;
    wait_all(&fixture, MANY, &auth("one", "first")).await;
    for password in ["second", "third"] {
        fixture.api.forget();
        let failed = count_failed(&pullpass).await;
        put_fixed(&fixture, "one", password).await;
        let everywhere = wait_all(&fixture, MANY, &auth("one", password)).await;
        figure::within(
            "another password in all namespaces",
            everywhere,
            Duration::from_secs(5),
        );
        let (written, _) = secret_writes(&fixture.api.all());
        let failed = count_failed(&pullpass).await - failed;
        check_written_once(&written, MANY, failed);
    }
}
