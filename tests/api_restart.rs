//! The API server goes away and comes back: what pullpass knows is current again without a restart of its own.

mod support;

use serde_json::json;
use support::scene::{ECR, Scene, references};
use support::user::User;
use support::wait;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sees_changes_after_restart_of_api_server() {
    // Nobody else's API server is restarted.
    let scene = Scene::alone("restart").await;
    let world = scene.world;
    let (team, late) = (format!("{ECR}/team"), format!("{ECR}/late"));
    let (image, late_image) = (format!("{team}/hello:1"), format!("{late}/hello:1"));
    scene.serve(&[&team]).await;
    let old = scene.namespace("old").await;
    let pullpass = scene.start().await;
    assert!(references(&scene.create(&old, &[&image]).await.body));

    world.api.lock().unwrap().command("restart");
    wait_called(&scene, &old, &image).await;

    // What was known before still counts: nothing is minted anew.
    assert!(references(&scene.create(&old, &[&image]).await.body));
    assert_eq!(scene.user.minted(&world.moto).await.len(), 1);
    // Each kind of object that is written after it is seen. A Registry and a namespace:
    let spec = json!({"images": [team, late], "ecr": scene.ecr("restart")});
    scene.put_registry("restart", spec).await;
    let new = scene.namespace("new").await;
    scene.wait_served(&new, &late_image).await;
    // A source Secret:
    let rotated = User::add(&world.moto, "rotated").await;
    scene.put_keys("restart", &rotated).await;
    scene.create_until_minted(&new, &late_image, &rotated).await;
    // The end of a pull secret:
    let path = format!("/api/v1/namespaces/{old}/secrets/pullpass");
    scene.cluster.send("DELETE", &path, None).await.ok();
    wait::until("the pull secret that somebody deleted", async || {
        scene.create(&old, &[&image]).await;
        scene.has_pull_secret(&old).await.then_some(())
    })
    .await;
    assert_eq!(rotated.minted(&world.moto).await.len(), 1);
    assert!(pullpass.is_ready().await);
}

/// Waits until the API server, which has just started, calls the webhook.
async fn wait_called(scene: &Scene, namespace: &str, image: &str) {
    let pod = support::process::pod(namespace, &[image]);
    let path = format!("/api/v1/namespaces/{namespace}/pods?dryRun=All");
    wait::until("the API server to call the webhook again", async || {
        let answer = scene.cluster.try_send("POST", &path, Some(&pod)).await;
        references(&answer.ok()?.body).then_some(())
    })
    .await;
}
