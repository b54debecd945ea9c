//! A start, while pull secrets are being listed: what is not known yet is no reason to refuse a Pod, nor to reference a foreign Secret.

use axum::body::Body;
use axum::http::Request;
use serde_json::Value;

use super::*;
use crate::support::webhook::{Answer, review, send, webhook};

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

async fn ask(replica: &Replica, path: &str, review: Value) -> Answer {
    let (router, _) = webhook(Arc::new(replica.ensure.clone()));
    let request = Request::post(path).header("content-type", "application/json");
    let body = Body::from(review.to_string());
    send(&router, request.body(body).unwrap()).await
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
    *world.refusal.lock().unwrap() = Some(ClusterError::Unreachable {
        what: "the API server".to_owned(),
        message: "no".to_owned(),
    });
    let (is_allowed, told) = enforce(&replica).await;
    assert!(is_allowed);
    assert!(told.contains("could not be read"), "{told}");
    // Once they are listed, what memory does not hold is not there.
    replica.state.pull_secrets.replace(Vec::new());
    assert!(!enforce(&replica).await.0);
}

#[tokio::test]
async fn asks_nothing_of_secrets_that_are_listed_or_may_not_be() {
    for is_listed in [true, false] {
        let (world, replica) = starting("enabled", false);
        if is_listed {
            replica.state.pull_secrets.replace(Vec::new());
        } else {
            replica.state.pull_secrets.give_up_list();
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
