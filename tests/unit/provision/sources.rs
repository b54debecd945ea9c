//! Secret and Registry in one `kubectl apply`: the Registry is judged before the watch shows the Secret.

use super::*;
use crate::support::webhook::review;

/// What is said of a new Registry that takes its login from `harbor-login`.
async fn warnings(replica: &Replica) -> Vec<String> {
    let spec = json!({"images": ["other.example"], "namespaceSelector": {}, "static": {"secretRef": {"name": "harbor-login"}}});
    let mut review = review();
    let kind = json!({"group": "pullpass.dev", "version": "v1alpha1", "kind": "Registry"});
    review["request"]["kind"] = kind;
    review["request"]["object"] = registry("other", spec);
    let answer = ask(replica, "/validate-registry?timeout=5s", review).await;
    assert_eq!(answer.response()["allowed"], true);
    answer.told()
}

#[tokio::test]
async fn warns_of_no_source_secret_that_is_there_and_not_shown_yet() {
    let (world, replica) = alone();
    let told = warnings(&replica).await;
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].starts_with("pullpass: source secret harbor-login not found"),
        "{told:?}"
    );
    world.set_source("harbor-login", "robot", "password");
    assert_eq!(warnings(&replica).await, [""; 0]);
}

#[tokio::test]
async fn warns_of_no_source_secret_that_was_corrected_and_not_shown_yet() {
    let (world, replica) = alone();
    replica.give_source(&world, "");
    let told = warnings(&replica).await;
    assert_eq!(told.len(), 1, "{told:?}");
    world.set_source("harbor-login", "robot", "password");
    assert_eq!(warnings(&replica).await, [""; 0]);
}

#[tokio::test]
async fn warns_by_what_memory_knows_where_a_source_secret_cannot_be_read() {
    let (world, replica) = alone();
    world.set_source("harbor-login", "robot", "password");
    refuse(&world);
    assert_eq!(warnings(&replica).await.len(), 1);
    // What memory knows well is not read.
    replica.give_source(&world, "password");
    assert_eq!(warnings(&replica).await, [""; 0]);
}
