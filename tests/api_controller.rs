//! The controller on a real API server: every opted-in namespace has a true, fresh pull secret, with no Pod in sight.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use std::time::{Duration, Instant};

use serde_json::json;
use support::grant::grant_printed;
use support::keyring::{self, Login};
use support::process::{Launch, Pullpass};
use support::scene::{ECR, Scene};
use support::user::User;
use support::wait;

/// Waits until the namespace's pull secret holds this login for an image.
async fn wait_login(
    scene: &Scene,
    namespace: &str,
    image: &str,
    wanted: impl AsyncFn() -> Option<Login>,
) {
    wait::until(&format!("the login in {namespace}/pullpass"), async || {
        let wanted = wanted().await?;
        scene.cluster.secret(namespace, "pullpass").await?;
        let held = scene.pull_secret(namespace).await;
        (*keyring::lookup(&held, &[image])[0].first()? == wanted).then_some(())
    })
    .await;
}

async fn newest(scene: &Scene) -> Option<Login> {
    scene.user.newest(&scene.world.moto).await
}

/// How often the pull secret of a namespace was written through the scene's proxy.
fn writes(scene: &Scene, namespace: &str) -> usize {
    let path = format!("/api/v1/namespaces/{namespace}/secrets/pullpass?");
    let all = scene.api.all();
    let all = all.iter();
    all.filter(|request| request.method == "PATCH" && request.path.starts_with(&path))
        .count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keeps_pull_secrets_where_no_pod_comes() {
    let scene = Scene::alone("keep").await;
    let team = format!("{ECR}/team");
    let image = format!("{team}/hello:1");
    let before = scene.namespace("before").await;
    let _pullpass = scene.start_controller().await;

    // A Registry comes to a namespace, a namespace to a Registry.
    scene.serve(&[&team]).await;
    wait_login(&scene, &before, &image, async || newest(&scene).await).await;
    let after = scene.namespace("after").await;
    wait_login(&scene, &after, &image, async || newest(&scene).await).await;
    assert_eq!(scene.user.minted(&scene.world.moto).await.len(), 1);
    assert_eq!((writes(&scene, &before), writes(&scene, &after)), (1, 1));

    // Deleted: it is back. Emptied: it is as it was.
    let path = format!("/api/v1/namespaces/{before}/secrets/pullpass");
    scene.cluster.send("DELETE", &path, None).await.ok();
    wait_login(&scene, &before, &image, async || newest(&scene).await).await;
    let emptied = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "pullpass", "namespace": after},
        "stringData": {".dockerconfigjson": "{\"auths\":{}}"},
    });
    scene.cluster.apply(&emptied).await;
    wait_login(&scene, &after, &image, async || newest(&scene).await).await;
    assert_eq!(scene.user.minted(&scene.world.moto).await.len(), 1);

    // Somebody else's Secret of that name stays as it is.
    let foreign = scene.namespace_name("foreign");
    let labels = json!({"scene": "keep"});
    support::process::make_namespace(&scene.cluster, &foreign, &labels).await;
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "pullpass", "namespace": foreign},
        "stringData": {"mine": "canary"},
    });
    scene.cluster.apply(&secret).await;
    scene.namespace("foreign").await;

    // Other keys: other logins everywhere, no Pod needed.
    let rotated = User::add(&scene.world.moto, "keep-rotated").await;
    scene.put_keys("keep", &rotated).await;
    for namespace in [&before, &after] {
        wait_login(&scene, namespace, &image, async || {
            rotated.newest(&scene.world.moto).await
        })
        .await;
    }
    let secret = scene.cluster.secret(&foreign, "pullpass").await.unwrap();
    assert_eq!(secret["data"].as_object().unwrap().len(), 1);
    assert_eq!(writes(&scene, &foreign), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn renews_in_time_with_one_mint_and_one_write() {
    let scene = Scene::alone("renew").await;
    let team = format!("{ECR}/team");
    let image = format!("{team}/hello:1");
    scene.user.set_life(&scene.world.moto, 16).await;
    scene.serve(&[&team]).await;
    let namespace = scene.namespace("quiet").await;
    let _pullpass = scene.start_controller().await;
    wait_login(&scene, &namespace, &image, async || newest(&scene).await).await;
    let first = scene.pull_secret(&namespace).await;
    wait::until("three renewals", async || {
        let minted = scene.user.minted(&scene.world.moto).await.len();
        (minted >= 4).then_some(())
    })
    .await;
    wait_login(&scene, &namespace, &image, async || newest(&scene).await).await;
    assert_ne!(scene.pull_secret(&namespace).await, first);
    let (minted, written) = (
        scene.user.minted(&scene.world.moto).await.len(),
        writes(&scene, &namespace),
    );
    assert_eq!(minted, written, "one write for each renewal");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_replica_goes_on_when_the_leader_dies() {
    let scene = Scene::alone("leader").await;
    let team = format!("{ECR}/team");
    let image = format!("{team}/hello:1");
    scene.serve(&[&team]).await;
    let first = scene.start_controller().await;
    let one = scene.namespace("one").await;
    wait_login(&scene, &one, &image, async || newest(&scene).await).await;
    let launch = Launch {
        controller: true,
        ..scene.launch().await
    };
    let second = Pullpass::start(&launch).await;
    let two = scene.namespace("two").await;
    wait_login(&scene, &two, &image, async || newest(&scene).await).await;
    assert_eq!(writes(&scene, &two), 1, "one of two replicas writes");

    drop(first);
    let killed = Instant::now();
    let three = scene.namespace("three").await;
    wait_login(&scene, &three, &image, async || newest(&scene).await).await;
    println!(
        "a namespace has its secret {:.1} s after the leader was killed",
        killed.elapsed().as_secs_f64()
    );
    assert!(
        second
            .find_line("this replica leads: it keeps every pull secret fresh")
            .is_some()
    );
    assert_eq!(scene.user.minted(&scene.world.moto).await.len(), 1);
    assert_eq!((writes(&scene, &one), writes(&scene, &three)), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn provisions_many_namespaces_with_one_mint_and_one_write_each() {
    const MANY: usize = 300;
    let scene = Scene::alone("many").await;
    let team = format!("{ECR}/team");
    scene.serve(&[&team]).await;
    let names: Vec<String> = (0..MANY).map(|n| format!("n{n}")).collect();
    for name in &names {
        scene.namespace(name).await;
    }
    let started = Instant::now();
    let _pullpass = scene.start_controller().await;
    wait::until("all pull secrets", async || {
        let path = "/api/v1/secrets?fieldSelector=metadata.name%3Dpullpass";
        let all = scene.cluster.get(path).await?;
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
        let namespace = scene.namespace(&format!("late{number}")).await;
        let made = Instant::now();
        wait::until("one more pull secret", async || {
            scene.cluster.secret(&namespace, "pullpass").await.map(drop)
        })
        .await;
        took.push(made.elapsed());
    }
    took.sort_unstable();
    println!(
        "one more beside them: p50 {:?}, longest {:?}",
        took[10], took[19]
    );
    assert_eq!(scene.user.minted(&scene.world.moto).await.len(), 1);
    for name in &names {
        assert_eq!(writes(&scene, &scene.namespace_name(name)), 1, "{name}");
    }
}

/// Reads a Registry as `kubectl get registries.pullpass.dev` shows it: a row of cells.
async fn row(scene: &Scene, name: &str) -> Option<serde_json::Value> {
    let path = format!("/apis/pullpass.dev/v1alpha1/registries/{name}");
    let registry = scene.cluster.get(&path).await?;
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
        "until": status["expiresAt"].is_string(),
    }))
}

async fn wait_row(scene: &Scene, name: &str, wanted: &serde_json::Value) {
    wait::until(&format!("{wanted} of {name}"), async || {
        (row(scene, name).await.as_ref() == Some(wanted)).then_some(())
    })
    .await;
}

/// The reasons of the Events about an object of this name.
async fn told(scene: &Scene, namespace: &str, name: &str) -> Vec<String> {
    let path = format!("/apis/events.k8s.io/v1/namespaces/{namespace}/events");
    let events = scene.cluster.get(&path).await.unwrap();
    let events = events["items"].as_array().unwrap().iter();
    events
        .filter(|event| event["regarding"]["name"] == name)
        .map(|event| event["reason"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn says_how_each_registry_stands_and_tells_what_is_wrong() {
    let scene = Scene::alone("status").await;
    scene.serve(&[&format!("{ECR}/team")]).await;
    let login = json!({"images": ["fixed.example.com"], "static": {"secretRef": {"name": "late"}}});
    scene.put_registry("fixed", login).await;
    let _pullpass = scene.start_controller().await;
    scene.namespace("one").await;

    // The namespace of the start's probe is served, too.
    let good = json!({
        "identity": "ecr keys status", "ready": ["True", "Provisioned"],
        "degraded": ["False", "AsExpected"], "namespaces": [2, 2], "current": true, "until": true,
    });
    wait_row(&scene, "status", &good).await;
    let lacks = json!({
        "identity": "static late", "ready": ["False", "MissingSource"],
        "degraded": ["True", "MissingSource"], "namespaces": [0, 2], "current": true, "until": false,
    });
    wait_row(&scene, "fixed", &lacks).await;
    wait::until("an Event", async || {
        let told = told(&scene, "default", "fixed").await;
        (told == ["MissingSource"]).then_some(())
    })
    .await;

    // Somebody else's Secret takes the place in one namespace: people there are told.
    let taken = scene.namespace_name("taken");
    support::process::make_namespace(&scene.cluster, &taken, &json!({})).await;
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "pullpass", "namespace": taken},
        "stringData": {"mine": "canary"},
    });
    scene.cluster.apply(&secret).await;
    scene.namespace("taken").await;
    let mut foreign = good.clone();
    foreign["degraded"] = json!(["True", "ForeignSecret"]);
    foreign["namespaces"] = json!([2, 3]);
    wait_row(&scene, "status", &foreign).await;
    wait::until("an Event", async || {
        let told = told(&scene, &taken, "pullpass").await;
        (told == ["ForeignSecret"]).then_some(())
    })
    .await;

    // The login comes: all is well.
    let login = json!({"username": "late", "password": "canary"});
    scene
        .put_source("late", "kubernetes.io/basic-auth", login)
        .await;
    let mut well = foreign.clone();
    well["identity"] = json!("static late");
    well["until"] = json!(false);
    wait_row(&scene, "fixed", &well).await;
    let columns = scene.world.kubectl(&["get", "registries.pullpass.dev"]);
    println!("{columns}");
    assert!(columns.contains("Provisioned"), "{columns}");
}

/// An opted-in namespace in which a quota lets nobody make a Secret.
async fn full_namespace(scene: &Scene) -> String {
    let full = scene.namespace_name("full");
    support::process::make_namespace(&scene.cluster, &full, &json!({})).await;
    let quota = json!({
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none", "namespace": full},
        "spec": {"hard": {"count/secrets": "0"}},
    });
    scene.cluster.apply(&quota).await;
    // No controller-manager runs here that would count.
    let path = format!("/api/v1/namespaces/{full}/resourcequotas/none");
    let mut counted = scene.cluster.get(&path).await.unwrap();
    let none = json!({"count/secrets": "0"});
    counted["status"] = json!({"hard": none, "used": none});
    let status = format!("{path}/status");
    let answer = scene.cluster.send("PUT", &status, Some(&counted)).await;
    answer.ok();
    scene.namespace("full").await
}

/// Waits until the Registry's two conditions are these.
async fn wait_conditions(scene: &Scene, registry: &str, ready: [&str; 2], degraded: [&str; 2]) {
    let what = format!("{ready:?} and {degraded:?} of {registry}");
    wait::until(&what, async || {
        let row = row(scene, registry).await?;
        (row["ready"] == json!(ready) && row["degraded"] == json!(degraded)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn says_why_logins_are_not_written_and_tells_the_namespace() {
    let scene = Scene::alone("unwritten").await;
    let image = format!("{ECR}/team");
    scene.serve(&[&image]).await;
    // Nobody gave the rights to the Secrets of this one.
    let (narrow, wide) = ("unwritten-ci", "unwritten");
    let serves = json!({"namespaces": {"matchLabels": {"scene": wide}}, "serviceAccounts": ["ci"]});
    let spec = json!({"images": [image], "serves": serves, "ecr": scene.ecr(wide)});
    scene.put_registry(narrow, spec.clone()).await;
    let full = full_namespace(&scene).await;
    let _pullpass = scene.start_controller().await;

    for (registry, secret, reason) in [
        (narrow, "pullpass-unwritten-ci", "Forbidden"),
        (wide, "pullpass", "Rejected"),
    ] {
        wait_conditions(&scene, registry, ["False", reason], ["True", reason]).await;
        wait::until(&format!("an Event about {secret}"), async || {
            (told(&scene, &full, secret).await == [reason]).then_some(())
        })
        .await;
    }
    let text = scene
        .world
        .kubectl(&["get", "registries.pullpass.dev", narrow, "-o", "yaml"]);
    assert!(text.contains("pullpass rbac"), "{text}");

    let path = format!("/api/v1/namespaces/{full}/resourcequotas/none");
    scene.cluster.send("DELETE", &path, None).await.ok();
    let registry = json!({
        "apiVersion": "pullpass.dev/v1alpha1", "kind": "Registry",
        "metadata": {"name": narrow}, "spec": spec,
    });
    grant_printed(&scene, &[registry]).await;
    for registry in [narrow, wide] {
        let well = (["True", "Provisioned"], ["False", "AsExpected"]);
        wait_conditions(&scene, registry, well.0, well.1).await;
    }
}
