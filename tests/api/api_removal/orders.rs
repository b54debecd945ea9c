//! What is an order to take logins out of namespaces and what is not: row by row, by what an admin does to Registries or their kind.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use futures::StreamExt as _;
use serde_json::{Value, json};

use super::support::fixture::{Fixture, OWN, read_dockerconfigjson};
use super::support::process::Pullpass;
use super::support::wait;
use super::{confirm, put_fixed};

const CRD: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/registries.pullpass.dev";
const DISCOVERY: &str = "/apis/pullpass.dev/v1alpha1";

/// An order acts within seconds; on a busy machine it may take a few more.
const SECONDS: Duration = Duration::from_secs(20);

/// A cluster of so many namespaces that these Registries serve, each with a host of its own, and a leader.
async fn start(
    name: &'static str,
    namespaces: usize,
    registries: &[String],
) -> (Fixture, Pullpass) {
    let fixture = Fixture::alone(name).await;
    put_all(&fixture, registries).await;
    // One more is there to try the webhook in.
    let names: Vec<String> = (1..namespaces).map(|number| format!("n{number}")).collect();
    let made = names.iter().map(|name| fixture.namespace(name));
    let made = futures::stream::iter(made).buffered(16);
    made.collect::<Vec<_>>().await;
    let pullpass = fixture.start_controller().await;
    wait_all(&fixture, namespaces, registries).await;
    (fixture, pullpass)
}

async fn put_all(fixture: &Fixture, registries: &[String]) {
    for name in registries {
        put_fixed(fixture, name, &[&host(name)], false).await;
    }
}

fn host(registry: &str) -> String {
    format!("{registry}.example.com")
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

/// What is in each pull secret: its uid, and its keys.
async fn held(fixture: &Fixture) -> BTreeMap<String, (String, BTreeSet<String>)> {
    let path = "/api/v1/secrets?fieldSelector=metadata.name%3Dpullpass";
    let all = fixture.cluster.get(path).await.unwrap();
    let read = |secret: &Value| {
        let content: Value = serde_json::from_str(&read_dockerconfigjson(secret)).unwrap();
        let keys = content["auths"].as_object().unwrap().keys().cloned();
        let field = |name: &str| secret["metadata"][name].as_str().unwrap().to_owned();
        (field("namespace"), (field("uid"), keys.collect()))
    };
    all["items"].as_array().unwrap().iter().map(read).collect()
}

/// Waits until each of so many namespaces has the logins of these Registries and no others; no pull secret where there are none.
async fn wait_all(fixture: &Fixture, namespaces: usize, registries: &[String]) {
    let keys: BTreeSet<String> = registries.iter().map(|name| host(name)).collect();
    let secrets = if keys.is_empty() { 0 } else { namespaces };
    wait::until(
        &format!("{keys:?} in {namespaces} namespaces"),
        async || {
            let held = held(fixture).await;
            let are_all = held.len() == secrets && held.values().all(|(_, there)| *there == keys);
            if !are_all {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            are_all.then_some(())
        },
    )
    .await;
}

async fn wait_blocked(pullpass: &Pullpass, count: usize) {
    wait::until(&format!("{count} blocked"), async || {
        (blocked(pullpass).await == count as u64).then_some(())
    })
    .await;
}

async fn blocked(pullpass: &Pullpass) -> u64 {
    pullpass.count("pullpass_removals_blocked", &[]).await
}

/// Whether any removal was ever blocked.
fn was_blocked(pullpass: &Pullpass) -> bool {
    pullpass.log().contains("confirm-removal=")
}

/// Its name, the Registries that there are, what kubectl is to delete, and whose logins stay.
type Row = (&'static str, Vec<String>, Vec<&'static str>, Vec<String>);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[allow(clippy::too_many_lines, reason = "one cluster for all rows")]
async fn takes_out_at_once_whatever_admins_order_of_however_many_namespaces() {
    const MANY: usize = 100;
    let fifty: Vec<String> = (0..50).map(|number| format!("r{number}")).collect();
    let rows: [Row; 4] = [
        (
            "one",
            names(&["a", "b", "c"]),
            vec!["a"],
            names(&["b", "c"]),
        ),
        (
            "two",
            names(&["a", "b", "c"]),
            vec!["a", "b"],
            names(&["c"]),
        ),
        ("all", names(&["a", "b", "c"]), vec!["--all"], Vec::new()),
        ("all of 50", fifty, vec!["--all"], Vec::new()),
    ];
    let (fixture, pullpass) = start("orders", MANY, &[]).await;
    for (row, there, deleted, stay) in rows {
        put_all(&fixture, &there).await;
        wait_all(&fixture, MANY, &there).await;
        let delete = [&["delete", "registry"][..], &deleted].concat();
        let began = Instant::now();
        fixture.world.kubectl(&delete);
        let kubectl_took = began.elapsed();
        wait_all(&fixture, MANY, &stay).await;
        let took = began.elapsed().saturating_sub(kubectl_took);
        println!(
            "{row}: kubectl took {kubectl_took:.1?}, done in {MANY} namespaces {took:.1?} after"
        );
        assert!(took < SECONDS, "{row}: {took:?}");
        assert!(!was_blocked(&pullpass), "{row}");
    }
    // Specs that are narrowed, two at once: other images, and other namespaces.
    put_all(&fixture, &names(&["a", "b", "c"])).await;
    wait_all(&fixture, MANY, &names(&["a", "b", "c"])).await;
    let narrow = |name: &str, images: Value, selector: Value| {
        json!({
            "apiVersion": "pullpass.dev/v1alpha1", "kind": "Registry", "metadata": {"name": name},
            "spec": {"images": images, "namespaceSelector": selector, "static": {"secretRef": {"name": name}}},
        })
    };
    let nobody = json!({"matchLabels": {"scene": "nobody"}});
    let all = json!({"matchLabels": {"scene": "orders"}});
    for registry in [
        narrow("a", json!(["d.example.com"]), all),
        narrow("b", json!([host("b")]), nobody),
    ] {
        fixture.cluster.apply(&registry).await;
    }
    let narrowed = Instant::now();
    wait_all(&fixture, MANY, &names(&["c", "d"])).await;
    let took = narrowed.elapsed();
    println!("two narrowed: done in {MANY} namespaces {took:.1?} after");
    assert!(took < SECONDS, "{took:?}");
    assert!(!was_blocked(&pullpass));
}

/// How the kind is lost.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Loss {
    /// It is deleted, and goes at once.
    Deleted,
    /// It is deleted, and kept in its going by a Registry with a finalizer.
    Going,
    /// It is deleted and made again in the same moment; the Registries come once pullpass has blocked the removals.
    Replaced,
    /// By `kubectl replace --force`.
    ReplacedByKubectl,
}

/// The verbs that discovery lists for Registries; none where the kind is not there.
async fn verbs(fixture: &Fixture) -> Vec<String> {
    let found = fixture.cluster.get(DISCOVERY).await.unwrap_or_default();
    let resources = found["resources"].as_array().cloned().unwrap_or_default();
    let registries = resources.iter().find(|one| one["name"] == "registries");
    let verbs = registries.and_then(|one| one["verbs"].as_array().cloned());
    let verbs = verbs.unwrap_or_default();
    verbs
        .iter()
        .map(|verb| verb.as_str().unwrap().to_owned())
        .collect()
}

async fn lose_kind(fixture: &Fixture, loss: Loss) {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/manifests/crd.yaml");
    match loss {
        Loss::ReplacedByKubectl => {
            fixture
                .world
                .kubectl(&["replace", "--force", "-f", manifest]);
        }
        Loss::Going => {
            let path = "/apis/pullpass.dev/v1alpha1/registries/a";
            // Its status may be written at the same time.
            wait::until("a finalizer", async || {
                let mut registry = fixture.cluster.get(path).await.unwrap();
                registry["metadata"]["finalizers"] = json!(["example.com/stays"]);
                let put = fixture.cluster.send("PUT", path, Some(&registry)).await;
                (put.status != StatusCode::CONFLICT).then(|| put.ok())
            })
            .await;
            fixture.cluster.send("DELETE", CRD, None).await.ok();
            // What the product goes by: it is still served, and nothing can be made any more.
            wait::until("a kind that goes", async || {
                let verbs = verbs(fixture).await;
                (!verbs.is_empty() && !verbs.contains(&"create".to_owned())).then_some(())
            })
            .await;
        }
        Loss::Deleted | Loss::Replaced => {
            fixture.cluster.send("DELETE", CRD, None).await.ok();
            wait::until("the kind to be gone", async || {
                fixture.cluster.get(CRD).await.is_none().then_some(())
            })
            .await;
            if loss == Loss::Replaced {
                fixture.cluster.apply_file(manifest).await;
            }
        }
    }
}

/// The kind is there again, and so are the Registries.
async fn bring_back(fixture: &Fixture, loss: Loss, registries: &[String]) {
    if loss == Loss::Going {
        let path = "/apis/pullpass.dev/v1alpha1/registries/a";
        wait::until("no finalizer", async || {
            let mut registry = fixture.cluster.get(path).await.unwrap();
            registry["metadata"]["finalizers"] = json!([]);
            let put = fixture.cluster.send("PUT", path, Some(&registry)).await;
            (put.status != StatusCode::CONFLICT).then(|| put.ok())
        })
        .await;
    }
    wait::until("the Registries", async || {
        let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/manifests/crd.yaml");
        fixture.world.kubectl(&[
            "apply",
            "--server-side",
            "--force-conflicts",
            "-f",
            manifest,
        ]);
        let has_create = verbs(fixture).await.contains(&"create".to_owned());
        has_create.then_some(())
    })
    .await;
    put_all(fixture, registries).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn takes_nothing_out_when_registries_go_with_their_kind() {
    // However few namespaces there are.
    for (number, (loss, namespaces)) in [
        (Loss::Deleted, 12),
        (Loss::Going, 12),
        (Loss::Replaced, 12),
        (Loss::ReplacedByKubectl, 12),
        (Loss::Deleted, 2),
        (Loss::Replaced, 2),
    ]
    .into_iter()
    .enumerate()
    {
        let fixture = ["kind0", "kind1", "kind2", "kind3", "kind4", "kind5"][number];
        let all = names(&["a", "b"]);
        let (fixture, pullpass) = start(fixture, namespaces, &all).await;
        let before = held(&fixture).await;
        lose_kind(&fixture, loss).await;
        let lost = Instant::now();
        // A Registry that stays there still gives its login.
        wait_blocked(&pullpass, namespaces).await;
        println!("{loss:?}: blocked {:.1?} after", lost.elapsed());
        assert_eq!(held(&fixture).await, before, "{loss:?}");
        wait_event(&fixture).await;

        bring_back(&fixture, loss, &all).await;
        wait_blocked(&pullpass, 0).await;
        assert_eq!(held(&fixture).await, before, "{loss:?}");
        // From then on an order is one again, by a watch of the new CRD.
        wait::until("a list of the new CRD", async || {
            pullpass.find_line("listed Registries of a new CRD")
        })
        .await;
        fixture.world.kubectl(&["delete", "registry", "b"]);
        wait_all(&fixture, namespaces, &names(&["a"])).await;
        assert_eq!(blocked(&pullpass).await, 0);
    }
}

/// Waits for the Event that says what is blocked: it is created after the metric is set.
async fn wait_event(fixture: &Fixture) {
    let path = format!("/apis/events.k8s.io/v1/namespaces/{OWN}/events");
    wait::until("an Event with the reason RemovalBlocked", async || {
        let events = fixture.cluster.get(&path).await.unwrap();
        let mut events = events["items"].as_array().unwrap().iter();
        let is_there = events.any(|event| event["reason"] == "RemovalBlocked");
        is_there.then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn takes_out_what_went_with_the_kind_once_an_admin_confirms_it() {
    const FEW: usize = 3;
    let all = names(&["a", "b"]);
    let (fixture, pullpass) = start("confirmed", FEW, &all).await;
    lose_kind(&fixture, Loss::Deleted).await;
    wait_blocked(&pullpass, FEW).await;
    confirm(&fixture, &pullpass).await;
    wait_all(&fixture, FEW, &[]).await;
    wait_blocked(&pullpass, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn carries_out_what_was_ordered_though_the_leader_is_killed_right_after() {
    const MANY: usize = 20;
    let all = names(&["a", "b", "c"]);
    // A replica that stood by saw it, too.
    let (fixture, first) = start("standby", MANY, &all).await;
    let second = fixture.start_controller().await;
    fixture.world.kubectl(&["delete", "registry", "a", "b"]);
    drop(first);
    let killed = Instant::now();
    wait_all(&fixture, MANY, &names(&["c"])).await;
    println!("another replica did it {:.1?} after", killed.elapsed());
    assert!(!was_blocked(&second));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn knows_of_no_order_after_a_restart() {
    // Many wait for a person, few are taken out.
    for (name, namespaces) in [("restart", 20), ("few", 3)] {
        let all = names(&["a", "b", "c"]);
        let (fixture, pullpass) = start(name, namespaces, &all).await;
        let before = held(&fixture).await;
        fixture.world.kubectl(&["delete", "registry", "a", "b"]);
        drop(pullpass);
        assert_eq!(
            held(&fixture).await,
            before,
            "it was killed before it acted"
        );
        let pullpass = fixture.start_controller().await;
        if namespaces > 10 {
            wait_blocked(&pullpass, namespaces).await;
            assert_eq!(held(&fixture).await, before);
            wait_event(&fixture).await;
            confirm(&fixture, &pullpass).await;
        }
        wait_all(&fixture, namespaces, &names(&["c"])).await;
        assert_eq!(blocked(&pullpass).await, 0);
    }
}
