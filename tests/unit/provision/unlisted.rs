//! A start, while pull secrets are being listed: what is not known yet is no reason to refuse a Pod, nor to reference a foreign Secret.

use serde_json::Value;

use super::*;
use crate::support::webhook::review;

/// A Pod of `team-a` that asks for this image and references nothing.
fn pod(image: &str, is_dry_run: bool) -> Value {
    let mut review = review();
    let request = &mut review["request"];
    request["namespace"] = json!("team-a");
    request["dryRun"] = json!(is_dry_run);
    request["object"]["metadata"]["namespace"] = json!("team-a");
    request["object"]["spec"]["containers"] = json!([{"name": "web", "image": image}]);
    review
}

/// A replica that knows its namespace and no pull secret yet; the cluster has one.
fn starting(inject: &str, is_ours: bool) -> (Arc<World>, Replica) {
    let (world, replica) = alone();
    let labels = BTreeMap::from([("pullpass.dev/inject".to_owned(), inject.to_owned())]);
    let namespace = Namespace::new(name("team-a"), labels, false);
    replica
        .state
        .namespaces
        .apply_event(&name("team-a"), "1", namespace);
    world.put_secret("team-a", is_ours, r#"{"auths":{}}"#);
    (world, replica)
}

/// Whether a Pod is let in that references nothing, and what is said of it.
async fn enforce(replica: &Replica) -> (bool, String) {
    let image = format!("{EU}/team/a");
    let answer = ask(replica, "/validate-pod/deny?timeout=5s", pod(&image, false)).await;
    let is_allowed = answer.response()["allowed"] == true;
    (is_allowed, answer.told().join(" "))
}

fn reads(world: &World) -> usize {
    world.reads.load(Ordering::SeqCst)
}

#[tokio::test]
async fn refuses_no_pod_for_a_foreign_secret_that_is_not_listed_yet() {
    let (world, replica) = starting("enabled", false);
    let before = reads(&world);
    for _ in 0..3 {
        assert_eq!(enforce(&replica).await, (true, String::new()));
    }
    // One read of the Secret, and one of the Pod's ServiceAccount.
    assert_eq!(reads(&world) - before, 2);
}

#[tokio::test]
async fn refuses_a_pod_that_lacks_a_secret_of_ours_that_is_not_listed_yet() {
    let (_, replica) = starting("enabled", true);
    assert!(!enforce(&replica).await.0);
    let (world, replica) = starting("enabled", true);
    world.secrets.lock().unwrap().clear();
    assert!(!enforce(&replica).await.0, "there is none");
}

#[tokio::test]
async fn warns_instead_of_refusing_where_a_secret_cannot_be_read() {
    let (world, replica) = starting("enabled", true);
    refuse(&world);
    let (is_allowed, told) = enforce(&replica).await;
    assert!(is_allowed);
    assert!(told.contains("could not be read"), "{told}");
    // Once they are listed, what memory does not hold is not there.
    replica.state.pull_secrets.replace(Vec::new());
    assert!(!enforce(&replica).await.0);
}

/// What is certain counts, whatever is not known of another Secret.
#[tokio::test]
async fn refuses_a_pod_that_lacks_one_secret_for_certain_and_one_that_could_not_be_read() {
    let own = json!({"images": ["own.example"], "namespaceSelector": {}, "serviceAccountNames": ["default"], "static": {"secretRef": {"name": "harbor-login"}}});
    let own_secret = name("pullpass-own");
    for (listed, refused_for, unread) in [
        (vec![PULL_SECRET], Some(PULL_SECRET), "pullpass-own"),
        (vec!["pullpass-own"], Some("pullpass-own"), PULL_SECRET),
        (vec![], None, ""),
    ] {
        let (world, replica) = starting("enabled", true);
        let all = objects().into_iter().chain([registry("own", own.clone())]);
        replica.state.set_registries(read(all.collect()), now());
        refuse(&world);
        for name in listed {
            let store = match name {
                PULL_SECRET => Arc::clone(&replica.state.pull_secrets),
                _ => replica.state.pull_secrets_of(&own_secret),
            };
            store.replace(Vec::new());
        }
        let mut review = pod(&format!("{EU}/team/a"), false);
        let spec = &mut review["request"]["object"]["spec"];
        spec["containers"] = json!([
            {"name": "web", "image": format!("{EU}/team/a")},
            {"name": "own", "image": "own.example/a"},
        ]);
        let answer = ask(&replica, "/validate-pod/deny?timeout=5s", review).await;
        let is_allowed = answer.response()["allowed"] == true;
        assert_eq!(is_allowed, refused_for.is_none());
        let response = answer.response().to_string();
        if let Some(refused_for) = refused_for {
            let said = format!("Secret {refused_for} of namespace");
            assert!(response.contains(&said), "{response}");
            assert!(
                !response.contains(&format!("Secret {unread} ")),
                "{response}"
            );
        }
    }
}

/// Pods that come at once share what was read, that there is none, too.
#[tokio::test(start_paused = true)]
async fn reads_a_secret_that_is_not_there_once_a_second() {
    let (world, replica) = starting("enabled", true);
    world.secrets.lock().unwrap().clear();
    let before = reads(&world);
    for _ in 0..3 {
        assert!(!enforce(&replica).await.0);
    }
    assert_eq!(reads(&world) - before, 2, "and the ServiceAccount");
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(!enforce(&replica).await.0);
    assert_eq!(reads(&world) - before, 3);
}

/// Who asks for many namespaces that nobody has takes no turn of those who read pull secrets.
#[tokio::test(start_paused = true)]
async fn reads_a_secret_however_many_wait_to_read_namespaces() {
    let (world, replica) = starting("enabled", true);
    world.secrets.lock().unwrap().clear();
    let mut waiting = tokio::task::JoinSet::new();
    for number in 0..200 {
        let ensure = replica.ensure.clone();
        waiting.spawn(async move {
            let name = name(&format!("nobody-{number}"));
            ensure.fetch_namespace(&name).await
        });
    }
    tokio::time::sleep(Duration::from_millis(1)).await;
    let (is_allowed, told) = enforce(&replica).await;
    assert!(!is_allowed, "{told}");
}

#[tokio::test]
async fn asks_nothing_of_secrets_that_are_listed_or_may_not_be() {
    for is_listed in [true, false] {
        let (world, replica) = starting("enabled", false);
        if is_listed {
            replica.state.pull_secrets.replace(Vec::new());
        } else {
            replica.state.pull_secrets.mark_list_forbidden();
        }
        let before = reads(&world);
        assert!(!enforce(&replica).await.0);
        assert_eq!(reads(&world) - before, 1, "the ServiceAccount alone");
    }
}

/// In a namespace that wants all of its Pods to have the reference, and in a dry run, nothing is written, so nobody finds out by that.
#[tokio::test]
async fn references_no_foreign_secret_that_is_not_listed_yet() {
    let served = format!("{EU}/team/a");
    for (inject, image, is_dry_run) in [
        ("all", "busybox", false),
        ("enabled", served.as_str(), true),
        ("enabled", served.as_str(), false),
    ] {
        let (_, replica) = starting(inject, false);
        let answer = ask(&replica, "/mutate?timeout=5s", pod(image, is_dry_run)).await;
        assert_eq!(answer.patch(), None, "{inject} {image} {is_dry_run}");
        let told = answer.told().join(" ");
        assert!(told.contains("not managed by pullpass"), "{told}");
    }
}
