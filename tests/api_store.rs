//! What becomes of minted credentials that nobody uses any more, on a real API server.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use serde_json::{Value, json};
use support::account::{allow_tokens, put_account};
use support::roles::add_role;
use support::scene::{ECR, Scene};
use support::wait;

/// The ServiceAccount that mints, in each namespace.
const ACCOUNT: &str = "stored-puller";

/// A namespace whose own ServiceAccount mints its credential.
async fn tenant(scene: &Scene, name: &str, life: u32) -> String {
    let namespace = scene.namespace(name).await;
    let role = add_role(scene, name, &namespace, ACCOUNT).await;
    let annotations = json!({"eks.amazonaws.com/role-arn": role});
    put_account(scene, &namespace, ACCOUNT, annotations).await;
    let session = format!("arn:aws:sts::123456789012:assumed-role/{name}/pullpass");
    let body = json!({"seconds": life, "principal": session});
    scene.world.moto.post("life", body).await;
    namespace
}

/// A Registry whose credential each namespace's own ServiceAccount mints.
async fn put_tenants(scene: &Scene) {
    allow_tokens(scene, ACCOUNT).await;
    let spec = json!({"images": [format!("{ECR}/own")], "ecr": {
        "identity": {"serviceAccount": {"name": ACCOUNT, "fromAnnotations": true}},
        "endpoints": {"ecr": scene.aws.url, "sts": scene.aws.url},
    }});
    scene.put_registry("tenants", spec).await;
}

/// The stored credentials that were minted in this namespace; with an empty one those that were minted in none alone.
async fn stored_of(scene: &Scene, namespace: &str) -> Vec<String> {
    let of = |secret: &Value| secret["metadata"]["labels"]["pullpass.dev/tenant-namespace"].clone();
    let stored = scene.stored().await.into_iter();
    let stored = stored.filter(|secret| secret["data"]["password"].is_string());
    stored
        .filter(|secret| of(secret).as_str().unwrap_or_default() == namespace)
        .map(|secret| secret["metadata"]["name"].as_str().unwrap().to_owned())
        .collect()
}

async fn wait_stored(scene: &Scene, namespace: &str, count: usize) {
    wait::until(&format!("{count} credentials of {namespace}"), async || {
        (stored_of(scene, namespace).await.len() == count).then_some(())
    })
    .await;
}

/// A namespace's end: no namespace controller runs here.
async fn finalize(scene: &Scene, namespace: &str) {
    let path = format!("/api/v1/namespaces/{namespace}");
    let answer = scene.cluster.send("DELETE", &path, None).await.ok();
    let mut object = answer.body;
    object["spec"]["finalizers"] = json!([]);
    let path = format!("{path}/finalize");
    let answer = scene.cluster.send("PUT", &path, Some(&object)).await;
    answer.ok();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn goes_with_its_namespace_or_service_account_at_once() {
    let scene = Scene::alone("stored").await;
    put_tenants(&scene).await;
    let gone = tenant(&scene, "gone", 3600).await;
    let orphan = tenant(&scene, "orphan", 16).await;
    let stays = tenant(&scene, "stays", 3600).await;
    scene.serve(&[&format!("{ECR}/team")]).await;
    let pullpass = scene.start_controller().await;
    for (namespace, count) in [(&gone, 1), (&orphan, 1), (&stays, 1), (&String::new(), 1)] {
        wait_stored(&scene, namespace, count).await;
    }
    let kept = [stored_of(&scene, &stays).await, stored_of(&scene, "").await];

    finalize(&scene, &gone).await;
    wait_stored(&scene, &gone, 0).await;

    // That a ServiceAccount is gone is seen when its identity is used next.
    let path = format!("/api/v1/namespaces/{orphan}/serviceaccounts/{ACCOUNT}");
    scene.cluster.send("DELETE", &path, None).await.ok();
    wait_stored(&scene, &orphan, 0).await;

    // It is not forgotten that everybody else uses theirs; nobody's is deleted before an hour has passed.
    let path = "/apis/pullpass.dev/v1alpha1/registries/stored";
    scene.cluster.send("DELETE", path, None).await.ok();
    wait::until("the pull secret without the Registry's login", async || {
        let held = scene.pull_secret(&stays).await;
        (!held.contains("/team")).then_some(())
    })
    .await;
    let left = [stored_of(&scene, &stays).await, stored_of(&scene, "").await];
    assert_eq!(left, kept);
    let log = pullpass.log();
    assert_eq!(log.matches("minted credential deleted").count(), 2);
}
