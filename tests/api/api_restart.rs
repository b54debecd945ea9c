//! The API server goes away and comes back: what pullpass knows is current again without a restart of its own.

use crate::support;
use serde_json::json;
use support::fixture::{ECR, Fixture, references};
use support::user::User;
use support::wait;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sees_changes_after_restart_of_api_server() {
    // Nobody else's API server is restarted.
    let fixture = Fixture::alone("restart").await;
    let world = &fixture.world;
    let (team, late) = (format!("{ECR}/team"), format!("{ECR}/late"));
    let (image, late_image) = (format!("{team}/hello:1"), format!("{late}/hello:1"));
    fixture.serve(&[&team]).await;
    let old = fixture.namespace("old").await;
    let pullpass = fixture.start().await;
    assert!(references(&fixture.create(&old, &[&image]).await.body));

    world.api.lock().unwrap().command("restart");
    wait_called(&fixture, &old, &image).await;

    // What was known before still counts: nothing is minted anew.
    assert!(references(&fixture.create(&old, &[&image]).await.body));
    assert_eq!(fixture.user.minted(&world.moto).await.len(), 1);
    // Each kind of object that is written after it is seen. A Registry and a namespace:
    let spec = json!({"images": [team, late], "ecr": fixture.ecr("restart")});
    fixture.put_registry("restart", spec).await;
    let new = fixture.namespace("new").await;
    fixture.wait_served(&new, &late_image).await;
    // A source Secret:
    let rotated = User::add(&world.moto, "rotated").await;
    fixture.put_keys("restart", &rotated).await;
    fixture
        .create_until_minted(&new, &late_image, &rotated)
        .await;
    // The end of a pull secret:
    let path = format!("/api/v1/namespaces/{old}/secrets/pullpass");
    fixture.cluster.send("DELETE", &path, None).await.ok();
    wait::until("the pull secret that somebody deleted", async || {
        fixture.create(&old, &[&image]).await;
        fixture.has_pull_secret(&old).await.then_some(())
    })
    .await;
    assert_eq!(rotated.minted(&world.moto).await.len(), 1);
    assert!(pullpass.is_ready().await);
}

/// Waits until the API server, which has just started, calls the webhook.
async fn wait_called(fixture: &Fixture, namespace: &str, image: &str) {
    let pod = support::process::pod(namespace, &[image]);
    let path = format!("/api/v1/namespaces/{namespace}/pods?dryRun=All");
    wait::until("the API server to call the webhook again", async || {
        let answer = fixture.cluster.try_send("POST", &path, Some(&pod)).await;
        references(&answer.ok()?.body).then_some(())
    })
    .await;
}
