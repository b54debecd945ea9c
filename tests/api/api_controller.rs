//! The controller on a real API server: every opted-in namespace has a true, fresh pull secret, with no Pod in sight.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::time::{Duration, Instant};

use crate::support;
use serde_json::json;
use support::fixture::{ECR, Fixture};
use support::grant::grant_printed;
use support::keyring::{self, Login};
use support::process::{Launch, Pullpass};
use support::user::User;
use support::wait;

/// Waits until the namespace's pull secret holds this login for an image.
async fn wait_login(
    fixture: &Fixture,
    namespace: &str,
    image: &str,
    wanted: impl AsyncFn() -> Option<Login>,
) {
    wait::until(&format!("the login in {namespace}/pullpass"), async || {
        let wanted = wanted().await?;
        fixture.cluster.secret(namespace, "pullpass").await?;
        let held = fixture.pull_secret(namespace).await;
        (*keyring::lookup(&held, &[image])[0].first()? == wanted).then_some(())
    })
    .await;
}

async fn newest(fixture: &Fixture) -> Option<Login> {
    fixture.user.newest(&fixture.world.moto).await
}

/// How often the pull secret of a namespace was written through the scene's proxy.
fn writes(fixture: &Fixture, namespace: &str) -> usize {
    let path = format!("/api/v1/namespaces/{namespace}/secrets/pullpass?");
    let all = fixture.api.all();
    let all = all.iter();
    all.filter(|request| request.method == "PATCH" && request.path.starts_with(&path))
        .count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keeps_pull_secrets_where_no_pod_comes() {
    let fixture = Fixture::alone("keep").await;
    let team = format!("{ECR}/team");
    let image = format!("{team}/hello:1");
    let before = fixture.namespace("before").await;
    let _pullpass = fixture.start_controller().await;

    // A Registry comes to a namespace, a namespace to a Registry.
    fixture.serve(&[&team]).await;
    wait_login(&fixture, &before, &image, async || newest(&fixture).await).await;
    let after = fixture.namespace("after").await;
    wait_login(&fixture, &after, &image, async || newest(&fixture).await).await;
    assert_eq!(fixture.user.minted(&fixture.world.moto).await.len(), 1);
    assert_eq!(
        (writes(&fixture, &before), writes(&fixture, &after)),
        (1, 1)
    );

    // Deleted: it is back. Emptied: it is as it was.
    let path = format!("/api/v1/namespaces/{before}/secrets/pullpass");
    fixture.cluster.send("DELETE", &path, None).await.ok();
    wait_login(&fixture, &before, &image, async || newest(&fixture).await).await;
    let emptied = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "pullpass", "namespace": after},
        "stringData": {".dockerconfigjson": "{\"auths\":{}}"},
    });
    fixture.cluster.apply(&emptied).await;
    wait_login(&fixture, &after, &image, async || newest(&fixture).await).await;
    assert_eq!(fixture.user.minted(&fixture.world.moto).await.len(), 1);

    // Somebody else's Secret of that name stays as it is.
    let foreign = fixture.namespace_name("foreign");
    let labels = json!({"scene": "keep"});
    support::process::make_namespace(&fixture.cluster, &foreign, &labels).await;
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "pullpass", "namespace": foreign},
        "stringData": {"mine": "canary"},
    });
    fixture.cluster.apply(&secret).await;
    fixture.namespace("foreign").await;

    // Other keys: other logins everywhere, no Pod needed.
    let rotated = User::add(&fixture.world.moto, "keep-rotated").await;
    fixture.put_keys("keep", &rotated).await;
    for namespace in [&before, &after] {
        wait_login(&fixture, namespace, &image, async || {
            rotated.newest(&fixture.world.moto).await
        })
        .await;
    }
    let secret = fixture.cluster.secret(&foreign, "pullpass").await.unwrap();
    assert_eq!(secret["data"].as_object().unwrap().len(), 1);
    assert_eq!(writes(&fixture, &foreign), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn renews_in_time_with_one_mint_and_one_write() {
    let fixture = Fixture::alone("renew").await;
    let team = format!("{ECR}/team");
    let image = format!("{team}/hello:1");
    fixture.user.set_life(&fixture.world.moto, 16).await;
    fixture.serve(&[&team]).await;
    let namespace = fixture.namespace("quiet").await;
    let _pullpass = fixture.start_controller().await;
    wait_login(&fixture, &namespace, &image, async || {
        newest(&fixture).await
    })
    .await;
    let first = fixture.pull_secret(&namespace).await;
    wait::until("three renewals", async || {
        let minted = fixture.user.minted(&fixture.world.moto).await.len();
        (minted >= 4).then_some(())
    })
    .await;
    wait_login(&fixture, &namespace, &image, async || {
        newest(&fixture).await
    })
    .await;
    assert_ne!(fixture.pull_secret(&namespace).await, first);
    let (minted, written) = (
        fixture.user.minted(&fixture.world.moto).await.len(),
        writes(&fixture, &namespace),
    );
    assert_eq!(minted, written, "one write for each renewal");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_replica_goes_on_when_the_leader_dies() {
    let fixture = Fixture::alone("leader").await;
    let team = format!("{ECR}/team");
    let image = format!("{team}/hello:1");
    fixture.serve(&[&team]).await;
    let first = fixture.start_controller().await;
    let one = fixture.namespace("one").await;
    wait_login(&fixture, &one, &image, async || newest(&fixture).await).await;
    let launch = Launch {
        controller: true,
        ..fixture.launch().await
    };
    let second = Pullpass::start(&launch).await;
    let two = fixture.namespace("two").await;
    wait_login(&fixture, &two, &image, async || newest(&fixture).await).await;
    assert_eq!(writes(&fixture, &two), 1, "one of two replicas writes");

    drop(first);
    let killed = Instant::now();
    let three = fixture.namespace("three").await;
    wait_login(&fixture, &three, &image, async || newest(&fixture).await).await;
    println!(
        "a namespace has its secret {:.1} s after the leader was killed",
        killed.elapsed().as_secs_f64()
    );
    assert!(
        second
            .find_line("acquired the leader lease, starting the controller")
            .is_some()
    );
    assert_eq!(fixture.user.minted(&fixture.world.moto).await.len(), 1);
    assert_eq!((writes(&fixture, &one), writes(&fixture, &three)), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn provisions_many_namespaces_with_one_mint_and_one_write_each() {
    const MANY: usize = 300;
    let fixture = Fixture::alone("many").await;
    let team = format!("{ECR}/team");
    fixture.serve(&[&team]).await;
    let names: Vec<String> = (0..MANY).map(|n| format!("n{n}")).collect();
    for name in &names {
        fixture.namespace(name).await;
    }
    let started = Instant::now();
    let _pullpass = fixture.start_controller().await;
    wait::until("all pull secrets", async || {
        let path = "/api/v1/secrets?fieldSelector=metadata.name%3Dpullpass";
        let all = fixture.cluster.get(path).await?;
        // The probe's namespace has one, too.
        let mine = all["items"].as_array()?.iter().filter(|secret| {
            let namespace = secret["metadata"]["namespace"].as_str();
            namespace.is_some_and(|name| name.starts_with("many-"))
        });
        (mine.count() == MANY).then_some(())
    })
    .await;
    println!(
        "{MANY} namespaces provisioned {:.1} s after the start of the process",
        started.elapsed().as_secs_f64()
    );
    // One more, with all the others there.
    let mut took: Vec<Duration> = Vec::new();
    for number in 0..20 {
        let namespace = fixture.namespace(&format!("late{number}")).await;
        let made = Instant::now();
        wait::until("one more pull secret", async || {
            fixture
                .cluster
                .secret(&namespace, "pullpass")
                .await
                .map(drop)
        })
        .await;
        took.push(made.elapsed());
    }
    took.sort_unstable();
    println!(
        "one more beside them: p50 {:?}, longest {:?}",
        took[10], took[19]
    );
    assert_eq!(fixture.user.minted(&fixture.world.moto).await.len(), 1);
    for name in &names {
        assert_eq!(writes(&fixture, &fixture.namespace_name(name)), 1, "{name}");
    }
}

/// Reads a Registry as `kubectl get registries.pullpass.dev` shows it: a row of cells.
async fn row(fixture: &Fixture, name: &str) -> Option<serde_json::Value> {
    let path = format!("/apis/pullpass.dev/v1alpha1/registries/{name}");
    let registry = fixture.cluster.get(&path).await?;
    let status = &registry["status"];
    let condition = |kind: &str| {
        let all = status["conditions"].as_array().into_iter().flatten();
        let found = all.into_iter().find(|condition| condition["type"] == kind);
        found.map(|condition| json!([condition["status"], condition["reason"]]))
    };
    Some(json!({
        "identity": status["identity"], "ready": condition("Ready"), "degraded": condition("Degraded"),
        "namespaces": [status["namespaces"]["ready"], status["namespaces"]["total"]],
        "current": status["observedGeneration"] == registry["metadata"]["generation"],
        "until": status["expirationTime"].is_string(),
    }))
}

async fn wait_row(fixture: &Fixture, name: &str, wanted: &serde_json::Value) {
    wait::until(&format!("{wanted} of {name}"), async || {
        (row(fixture, name).await.as_ref() == Some(wanted)).then_some(())
    })
    .await;
}

/// The reasons of the Events about an object of this name.
async fn told(fixture: &Fixture, namespace: &str, name: &str) -> Vec<String> {
    let path = format!("/apis/events.k8s.io/v1/namespaces/{namespace}/events");
    let events = fixture.cluster.get(&path).await.unwrap();
    let events = events["items"].as_array().unwrap().iter();
    events
        .filter(|event| event["regarding"]["name"] == name)
        .map(|event| event["reason"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::too_many_lines, reason = "one course of events")]
async fn says_how_each_registry_stands_and_tells_what_is_wrong() {
    let fixture = Fixture::alone("status").await;
    fixture.serve(&[&format!("{ECR}/team")]).await;
    let login = json!({"images": ["fixed.example.com"], "static": {"secretRef": {"name": "late"}}});
    fixture.put_registry("fixed", login).await;
    let _pullpass = fixture.start_controller().await;
    fixture.namespace("one").await;

    // The namespace of the start's probe is served, too.
    let good = json!({
        "identity": "ecr keys status", "ready": ["True", "Provisioned"],
        "degraded": ["False", "AsExpected"], "namespaces": [2, 2], "current": true, "until": true,
    });
    wait_row(&fixture, "status", &good).await;
    let lacks = json!({
        "identity": "static late", "ready": ["False", "MissingSource"],
        "degraded": ["True", "MissingSource"], "namespaces": [0, 2], "current": true, "until": false,
    });
    wait_row(&fixture, "fixed", &lacks).await;
    let selector = json!({"matchLabels": {"scene": "statuss"}});
    let typo = json!({"images": ["typo.example.com"], "namespaceSelector": selector, "static": {"secretRef": {"name": "late"}}});
    fixture.put_registry("typo", typo).await;
    let nowhere = json!({
        "identity": "static late", "ready": ["False", "NoMatchingNamespaces"],
        "degraded": ["False", "AsExpected"], "namespaces": [0, 0], "current": true, "until": false,
    });
    wait_row(&fixture, "typo", &nowhere).await;
    wait::until("an Event", async || {
        let told = told(&fixture, "default", "fixed").await;
        (told == ["MissingSource"]).then_some(())
    })
    .await;

    // Somebody else's Secret takes the place in one namespace: people there are told.
    let taken = fixture.namespace_name("taken");
    support::process::make_namespace(&fixture.cluster, &taken, &json!({})).await;
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "pullpass", "namespace": taken},
        "stringData": {"mine": "canary"},
    });
    fixture.cluster.apply(&secret).await;
    fixture.namespace("taken").await;
    let mut foreign = good.clone();
    foreign["degraded"] = json!(["True", "SecretNotManaged"]);
    foreign["namespaces"] = json!([2, 3]);
    wait_row(&fixture, "status", &foreign).await;
    wait::until("an Event", async || {
        let told = told(&fixture, &taken, "pullpass").await;
        (told == ["SecretNotManaged"]).then_some(())
    })
    .await;

    // The login comes: all is well.
    let login = json!({"username": "late", "password": "canary"});
    fixture
        .put_source("late", "kubernetes.io/basic-auth", login)
        .await;
    let mut well = foreign.clone();
    well["identity"] = json!("static late");
    well["until"] = json!(false);
    wait_row(&fixture, "fixed", &well).await;
    let columns = fixture.world.kubectl(&["get", "registries.pullpass.dev"]);
    println!("{columns}");
    let head: Vec<&str> = columns.lines().next().unwrap().split_whitespace().collect();
    let wanted = [
        "NAME",
        "READY",
        "IMAGES",
        "REASON",
        "DEGRADED",
        "NAMESPACES",
        "PROVISIONED",
        "EXPIRES",
        "AGE",
    ];
    assert_eq!(head, wanted, "{columns}");
    let typo = columns.lines().find(|line| line.starts_with("typo"));
    let words: Vec<&str> = typo.unwrap().split_whitespace().collect();
    let wanted = [
        "typo",
        "False",
        "typo.example.com",
        "NoMatchingNamespaces",
        "False",
    ];
    assert_eq!(words[..5], wanted, "{columns}");
    // The category is pullpass' own.
    let all = fixture.world.kubectl(&["get", "pullpass"]);
    assert!(all.contains("typo"), "{all}");
    // One that rests keeps what was seen last.
    let rest = [
        "patch",
        "ppr",
        "status",
        "--type=merge",
        "-p",
        r#"{"spec":{"suspend":true}}"#,
    ];
    fixture.world.kubectl(&rest);
    wait::until("it rests", async || {
        let row = row(&fixture, "status").await?;
        let rests = row["degraded"] == json!(["Unknown", "Suspended"]);
        (rests && row["ready"] == json!(["True", "Provisioned"])).then_some(())
    })
    .await;
}

/// An opted-in namespace in which a quota lets nobody make a Secret.
async fn full_namespace(fixture: &Fixture) -> String {
    let full = fixture.namespace_name("full");
    support::process::make_namespace(&fixture.cluster, &full, &json!({})).await;
    let quota = json!({
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none", "namespace": full},
        "spec": {"hard": {"count/secrets": "0"}},
    });
    fixture.cluster.apply(&quota).await;
    // No controller-manager runs here that would count.
    let path = format!("/api/v1/namespaces/{full}/resourcequotas/none");
    let mut counted = fixture.cluster.get(&path).await.unwrap();
    let none = json!({"count/secrets": "0"});
    counted["status"] = json!({"hard": none, "used": none});
    let status = format!("{path}/status");
    let answer = fixture.cluster.send("PUT", &status, Some(&counted)).await;
    answer.ok();
    fixture.namespace("full").await
}

/// Waits until the Registry's two conditions are these.
async fn wait_conditions(fixture: &Fixture, registry: &str, ready: [&str; 2], degraded: [&str; 2]) {
    let what = format!("{ready:?} and {degraded:?} of {registry}");
    wait::until(&what, async || {
        let row = row(fixture, registry).await?;
        (row["ready"] == json!(ready) && row["degraded"] == json!(degraded)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn says_why_logins_are_not_written_and_tells_the_namespace() {
    let fixture = Fixture::alone("unwritten").await;
    let image = format!("{ECR}/team");
    fixture.serve(&[&image]).await;
    // Nobody gave the rights to the Secrets of this one.
    let (narrow, wide) = ("unwritten-ci", "unwritten");
    let serves = json!({"matchLabels": {"scene": wide}});
    let spec = json!({"images": [image], "namespaceSelector": serves, "serviceAccountNames": ["ci"], "ecr": fixture.ecr(wide)});
    fixture.put_registry(narrow, spec.clone()).await;
    let full = full_namespace(&fixture).await;
    let _pullpass = fixture.start_controller().await;

    for (registry, secret, reason) in [
        (narrow, "pullpass-unwritten-ci", "Forbidden"),
        (wide, "pullpass", "Rejected"),
    ] {
        wait_conditions(&fixture, registry, ["False", reason], ["True", reason]).await;
        wait::until(&format!("an Event about {secret}"), async || {
            (told(&fixture, &full, secret).await == [reason]).then_some(())
        })
        .await;
    }
    let text = fixture
        .world
        .kubectl(&["get", "registries.pullpass.dev", narrow, "-o", "yaml"]);
    assert!(text.contains("pullpass rbac"), "{text}");

    let path = format!("/api/v1/namespaces/{full}/resourcequotas/none");
    fixture.cluster.send("DELETE", &path, None).await.ok();
    let registry = json!({
        "apiVersion": "pullpass.dev/v1alpha1", "kind": "Registry",
        "metadata": {"name": narrow}, "spec": spec,
    });
    grant_printed(&fixture, &[registry]).await;
    for registry in [narrow, wide] {
        let well = (["True", "Provisioned"], ["False", "AsExpected"]);
        wait_conditions(&fixture, registry, well.0, well.1).await;
    }
}
