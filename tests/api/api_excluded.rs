//! A namespace that is opted in and excluded: nothing is injected or written there, what was is removed, and that is said.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use crate::support;
use serde_json::{Value, json};
use support::fixture::{ECR, FIXTURE, Fixture, references};
use support::process::{Launch, Pullpass, make_namespace, pod};
use support::wait;

/// The Events about a namespace with this reason.
async fn count_events(fixture: &Fixture, namespace: &str, reason: &str) -> usize {
    let path = format!("/apis/events.k8s.io/v1/events?fieldSelector=reason={reason}");
    let events = fixture.cluster.get(&path).await.unwrap();
    let events = events["items"].as_array().unwrap().iter();
    let about = |event: &&Value| {
        let regarding = &event["regarding"];
        regarding["name"] == namespace || regarding["namespace"] == namespace
    };
    events.filter(about).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaves_excluded_namespaces_alone_whatever_their_labels_say() {
    let fixture = Fixture::alone("excluded").await;
    fixture.serve(&[&format!("{ECR}/team")]).await;
    let image = format!("{ECR}/team/hello:1");
    let served = fixture.namespace("served").await;
    let infra = fixture.namespace("infra").await;
    make_namespace(&fixture.cluster, "kube-public", &fixture.labels()).await;
    // It was not excluded before.
    let pullpass = fixture.start_controller().await;
    for namespace in [&served, &infra] {
        fixture.create(namespace, &[&image]).await;
        assert!(fixture.has_pull_secret(namespace).await, "{namespace}");
    }
    assert!(!fixture.has_pull_secret("kube-public").await);
    pullpass.terminate();
    // Nobody answers for these, so that none gets a reference.
    for namespace in [&served, &infra, "kube-public"] {
        let created = fixture.create(namespace, &[&image]).await;
        assert!(!references(&created.body), "{namespace}");
    }
    let launch = Launch {
        controller: true,
        arguments: vec!["--exclude-namespaces", "other,excluded-infra"],
        ..fixture.launch().await
    };
    let pullpass = Pullpass::start(&launch).await;
    pullpass
        .register(&fixture.cluster, FIXTURE, fixture.name)
        .await;
    for namespace in [&*infra, "kube-public"] {
        wait::until(&format!("the Event on {namespace}"), async || {
            let events = count_events(&fixture, namespace, "NamespaceExcluded").await;
            (events > 0).then_some(())
        })
        .await;
        // The API server asks about it here, and the caller's word is not believed either.
        let created = fixture.create(namespace, &[&image]).await;
        assert!(!references(&created.body), "{namespace}");
        let answer = pullpass.review(&pod(namespace, &[&image])).await;
        assert_eq!(answer["response"], json!({"uid": "test", "allowed": true}));
    }
    assert!(references(&fixture.create(&served, &[&image]).await.body));
    wait::until("no pull secret in the excluded namespace", async || {
        (!fixture.has_pull_secret(&infra).await).then_some(())
    })
    .await;
    assert!(fixture.has_pull_secret(&served).await);
    assert!(!fixture.has_pull_secret("kube-public").await);
    check_missed(&fixture, &pullpass, &served, &[&infra, "kube-public"]).await;
}

/// What is missed, and what is said of the namespaces that are excluded.
async fn check_missed(fixture: &Fixture, pullpass: &Pullpass, served: &str, excluded: &[&str]) {
    // Pods wait without a reference everywhere, and are missed where that is no wish: one scan sees all of them.
    wait::until("the one missed Pod", async || {
        (pullpass.count("pullpass_missed_pods", &[]).await > 0).then_some(())
    })
    .await;
    assert_eq!(pullpass.count("pullpass_missed_pods", &[]).await, 1);
    wait::until("the Event on it", async || {
        let missed = count_events(fixture, served, "PullSecretNotReferenced").await;
        (missed == 1).then_some(())
    })
    .await;
    for namespace in excluded {
        let missed = count_events(fixture, namespace, "PullSecretNotReferenced").await;
        assert_eq!(missed, 0, "{namespace}");
        let quoted = format!("\"namespace.name\":\"{namespace}\"");
        let words = [quoted.as_str(), "namespace is opted in and excluded"];
        let log = pullpass.wait_logged(&words).await;
        let said = log.lines().filter(|line| {
            line.contains(&quoted) && line.contains("namespace is opted in and excluded")
        });
        assert_eq!(said.count(), 1, "{log}");
    }
}
