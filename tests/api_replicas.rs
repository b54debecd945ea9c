//! What a Pod costs, and how replicas share what was minted.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use serde_json::{Value, json};
use support::process::Pullpass;
use support::proxy::Seen;
use support::scene::{ECR, SCENE, Scene, references};
use support::{keyring, wait};

fn image() -> String {
    format!("{ECR}/team/hello:1")
}

async fn scene(name: &'static str) -> Scene {
    let scene = Scene::new(name).await;
    scene.serve(&[&format!("{ECR}/team")]).await;
    scene
}

/// The requests that went through a proxy, as `METHOD what`.
fn tell(requests: &[Seen]) -> Vec<String> {
    let what = |request: &Seen| {
        let path = request
            .path
            .split('?')
            .next()
            .unwrap_or_default()
            .to_owned();
        format!("{} {path}", request.method)
    };
    requests.iter().map(what).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn asks_neither_cluster_nor_cloud_for_a_warm_pod() {
    const PODS: usize = 50;
    let scene = scene("warm").await;
    let namespace = scene.namespace("pods").await;
    let pullpass = scene.start().await;
    scene.api.forget();
    scene.aws.forget();

    // Cold: the ServiceAccount is read, the claim and the credential are stored, the pull secret is written; one token is minted.
    scene.create(&namespace, &[&image()]).await;
    let cold = tell(&scene.api.requests());
    let secret = format!("/api/v1/namespaces/{namespace}/secrets/pullpass");
    assert_eq!(
        cold.iter()
            .filter(|request| **request == format!("PATCH {secret}"))
            .count(),
        1,
        "{cold:?}"
    );
    assert!(cold.len() <= 6, "{cold:?}");
    assert_eq!(tell(&scene.aws.requests()), ["POST /"]);
    scene.api.forget();
    scene.aws.forget();

    for _ in 0..PODS {
        assert!(references(
            &scene.create(&namespace, &[&image()]).await.body
        ));
    }

    assert_eq!(tell(&scene.api.requests()), [""; 0]);
    assert_eq!(tell(&scene.aws.requests()), [""; 0]);
    let warm = ["outcome=\"Injected\"", "path=\"Warm\""];
    assert_eq!(
        pullpass.count("pullpass_admissions", &warm).await,
        PODS as u64
    );
    let cold = ["outcome=\"Injected\"", "path=\"Cold\""];
    assert_eq!(pullpass.count("pullpass_admissions", &cold).await, 1);
    // A second namespace costs its Secret alone: nothing is minted for it.
    let second = scene.namespace("second").await;
    scene.create(&second, &[&image()]).await;
    assert_eq!(tell(&scene.aws.requests()), [""; 0]);
    assert!(scene.has_pull_secret(&second).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mints_once_for_a_burst_of_first_pods() {
    const PODS: usize = 40;
    let scene = scene("burst").await;
    let namespace = scene.namespace("pods").await;
    let _pullpass = scene.start().await;
    scene.api.forget();
    let image = image();
    let images = [image.as_str()];

    let creations = (0..PODS).map(|_| scene.create(&namespace, &images));
    let created = futures::future::join_all(creations).await;

    assert!(created.iter().all(|created| references(&created.body)));
    assert_eq!(scene.user.minted(&scene.world.moto).await.len(), 1);
    let writes = scene.api.requests();
    let writes = writes
        .iter()
        .filter(|request| request.method == "PATCH" && request.path.contains("/secrets/pullpass?"));
    assert_eq!(writes.count(), 1);
}

/// The namespaces of both replicas.
fn serve_replicas(scene: &Scene) -> Value {
    let values = ["a", "b"].map(|replica| scene.namespace_name(replica));
    let expression = json!({"key": SCENE, "operator": "In", "values": values});
    json!({"namespaces": {"matchExpressions": [expression]}})
}

/// Two replicas, each called for namespaces of its own.
async fn start_replicas(scene: &Scene) -> [Pullpass; 2] {
    let launch = scene.launch().await;
    let mut replicas = [
        Pullpass::start(&launch).await,
        Pullpass::start(&launch).await,
    ];
    for (replica, name) in replicas.iter_mut().zip(["a", "b"]) {
        let label = scene.namespace_name(name);
        replica.register(&scene.cluster, SCENE, &label).await;
    }
    replicas
}

async fn make_namespace(scene: &Scene, replica: &str, name: &str) -> String {
    let name = scene.namespace_name(name);
    let labels = json!({"pullpass.dev/inject": "enabled", SCENE: scene.namespace_name(replica)});
    support::process::make_namespace(&scene.cluster, &name, &labels).await;
    name
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shares_one_mint_between_replicas_and_across_a_restart() {
    let scene = Scene::new("replicas").await;
    let serves = serve_replicas(&scene);
    let spec =
        json!({"images": [format!("{ECR}/team")], "serves": serves, "ecr": scene.ecr("replicas")});
    scene.put_registry("replicas", spec).await;
    let replicas = start_replicas(&scene).await;
    let (a, b) = (
        make_namespace(&scene, "a", "a").await,
        make_namespace(&scene, "b", "b").await,
    );
    let image = image();
    let images = [image.as_str()];

    // At the same moment, so that both want to mint.
    let (first, second) = tokio::join!(scene.create(&a, &images), scene.create(&b, &images));

    assert!(references(&first.body) && references(&second.body));
    assert_eq!((first.warnings, second.warnings), (vec![], vec![]));
    assert_eq!(scene.pull_secret(&a).await, scene.pull_secret(&b).await);
    assert_eq!(scene.user.minted(&scene.world.moto).await.len(), 1);
    assert_eq!(scene.stored().await.len(), 1);

    drop(replicas);
    let versions = [version(&scene, &a).await, version(&scene, &b).await];
    let _replicas = start_replicas(&scene).await;
    scene.aws.forget();
    let (c, d) = (
        make_namespace(&scene, "a", "c").await,
        make_namespace(&scene, "b", "d").await,
    );
    for namespace in [&a, &b, &c, &d] {
        assert!(
            references(&scene.create(namespace, &images).await.body),
            "{namespace}"
        );
    }
    let held = scene.pull_secret(&a).await;
    for namespace in [&b, &c, &d] {
        assert_eq!(scene.pull_secret(namespace).await, held, "{namespace}");
    }
    assert_eq!(tell(&scene.aws.requests()), [""; 0]);
    assert_eq!(
        [version(&scene, &a).await, version(&scene, &b).await],
        versions
    );
}

async fn version(scene: &Scene, namespace: &str) -> Value {
    let secret = scene.cluster.secret(namespace, "pullpass").await.unwrap();
    secret["metadata"]["resourceVersion"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn takes_over_from_a_replica_that_died_while_minting() {
    let scene = Scene::new("claims").await;
    let serves = serve_replicas(&scene);
    let spec =
        json!({"images": [format!("{ECR}/claims")], "serves": serves, "ecr": scene.ecr("claims")});
    scene.put_registry("claims", spec).await;
    let image = format!("{ECR}/claims/hello:1");
    let [dying, _survivor] = start_replicas(&scene).await;
    let (a, b) = (
        make_namespace(&scene, "a", "a").await,
        make_namespace(&scene, "b", "b").await,
    );
    let fault = json!({"delayMs": 60_000, "count": 100});
    scene.user.fail(&scene.world.moto, fault).await;
    let (cluster, pod) = (scene.cluster.clone(), support::process::pod(&a, &[&image]));
    let creating = tokio::spawn(async move { cluster.create_pod(&pod, "").await });
    wait::until("the mint to begin", async || {
        (!scene.aws.requests().is_empty()).then_some(())
    })
    .await;
    drop(dying);
    creating.await.unwrap();
    scene.world.moto.delete("faults").await;

    // The claim of the dead one ends by itself.
    wait::until("the other replica to mint", async || {
        scene.create(&b, &[&image]).await;
        scene.has_pull_secret(&b).await.then_some(())
    })
    .await;

    let login = scene.user.newest(&scene.world.moto).await.unwrap();
    let held = scene.pull_secret(&b).await;
    assert_eq!(keyring::lookup(&held, &[&image]), [vec![login]]);
}
