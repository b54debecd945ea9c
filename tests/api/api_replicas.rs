//! What a Pod costs, and how replicas share what was minted.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use crate::support;
use serde_json::{Value, json};
use support::fixture::{ECR, FIXTURE, Fixture, references};
use support::process::Pullpass;
use support::proxy::Seen;
use support::{keyring, wait};

fn image() -> String {
    format!("{ECR}/team/hello:1")
}

async fn fixture(name: &'static str) -> Fixture {
    let fixture = Fixture::new(name).await;
    fixture.serve(&[&format!("{ECR}/team")]).await;
    fixture
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
    let fixture = fixture("warm").await;
    let namespace = fixture.namespace("pods").await;
    let pullpass = fixture.start().await;
    fixture.api.forget();
    fixture.aws.forget();

    // Cold: the ServiceAccount is read, the claim and the credential are stored, the pull secret is written; one token is minted.
    fixture.create(&namespace, &[&image()]).await;
    let cold = tell(&fixture.api.requests());
    let secret = format!("/api/v1/namespaces/{namespace}/secrets/pullpass");
    assert_eq!(
        cold.iter()
            .filter(|request| **request == format!("PATCH {secret}"))
            .count(),
        1,
        "{cold:?}"
    );
    assert!(cold.len() <= 6, "{cold:?}");
    assert_eq!(tell(&fixture.aws.requests()), ["POST /"]);
    fixture.api.forget();
    fixture.aws.forget();

    for _ in 0..PODS {
        assert!(references(
            &fixture.create(&namespace, &[&image()]).await.body
        ));
    }

    assert_eq!(tell(&fixture.api.requests()), [""; 0]);
    assert_eq!(tell(&fixture.aws.requests()), [""; 0]);
    let warm = ["outcome=\"injected\"", "cache=\"hit\""];
    assert_eq!(
        pullpass.count("pullpass_admissions", &warm).await,
        PODS as u64
    );
    let cold = ["outcome=\"injected\"", "cache=\"miss\""];
    assert_eq!(pullpass.count("pullpass_admissions", &cold).await, 1);
    // A second namespace costs its Secret alone: nothing is minted for it.
    let second = fixture.namespace("second").await;
    fixture.create(&second, &[&image()]).await;
    assert_eq!(tell(&fixture.aws.requests()), [""; 0]);
    assert!(fixture.has_pull_secret(&second).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mints_once_for_a_burst_of_first_pods() {
    const PODS: usize = 40;
    let fixture = fixture("burst").await;
    let namespace = fixture.namespace("pods").await;
    let _pullpass = fixture.start().await;
    fixture.api.forget();
    let image = image();
    let images = [image.as_str()];

    let creations = (0..PODS).map(|_| fixture.create(&namespace, &images));
    let created = futures::future::join_all(creations).await;

    assert!(created.iter().all(|created| references(&created.body)));
    assert_eq!(fixture.user.minted(&fixture.world.moto).await.len(), 1);
    let writes = fixture.api.requests();
    let writes = writes
        .iter()
        .filter(|request| request.method == "PATCH" && request.path.contains("/secrets/pullpass?"));
    assert_eq!(writes.count(), 1);
}

/// The namespaces of both replicas.
fn serve_replicas(fixture: &Fixture) -> Value {
    let values = ["a", "b"].map(|replica| fixture.namespace_name(replica));
    let expression = json!({"key": FIXTURE, "operator": "In", "values": values});
    json!({"matchExpressions": [expression]})
}

/// Two replicas, each called for namespaces of its own.
async fn start_replicas(fixture: &Fixture) -> [Pullpass; 2] {
    let launch = fixture.launch().await;
    let mut replicas = [
        Pullpass::start(&launch).await,
        Pullpass::start(&launch).await,
    ];
    for (replica, name) in replicas.iter_mut().zip(["a", "b"]) {
        let label = fixture.namespace_name(name);
        replica.register(&fixture.cluster, FIXTURE, &label).await;
    }
    replicas
}

async fn make_namespace(fixture: &Fixture, replica: &str, name: &str) -> String {
    let name = fixture.namespace_name(name);
    let labels =
        json!({"pullpass.dev/inject": "enabled", FIXTURE: fixture.namespace_name(replica)});
    support::process::make_namespace(&fixture.cluster, &name, &labels).await;
    name
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shares_one_mint_between_replicas_and_across_a_restart() {
    let fixture = Fixture::new("replicas").await;
    let serves = serve_replicas(&fixture);
    let spec = json!({"images": [format!("{ECR}/team")], "namespaceSelector": serves, "ecr": fixture.ecr("replicas")});
    fixture.put_registry("replicas", spec).await;
    let replicas = start_replicas(&fixture).await;
    let (a, b) = (
        make_namespace(&fixture, "a", "a").await,
        make_namespace(&fixture, "b", "b").await,
    );
    let image = image();
    let images = [image.as_str()];

    // At the same moment, so that both want to mint.
    let (first, second) = tokio::join!(fixture.create(&a, &images), fixture.create(&b, &images));

    assert!(references(&first.body) && references(&second.body));
    assert_eq!((first.warnings, second.warnings), (vec![], vec![]));
    assert_eq!(fixture.pull_secret(&a).await, fixture.pull_secret(&b).await);
    assert_eq!(fixture.user.minted(&fixture.world.moto).await.len(), 1);
    assert_eq!(fixture.stored().await.len(), 1);

    drop(replicas);
    let versions = [version(&fixture, &a).await, version(&fixture, &b).await];
    let _replicas = start_replicas(&fixture).await;
    fixture.aws.forget();
    let (c, d) = (
        make_namespace(&fixture, "a", "c").await,
        make_namespace(&fixture, "b", "d").await,
    );
    for namespace in [&a, &b, &c, &d] {
        assert!(
            references(&fixture.create(namespace, &images).await.body),
            "{namespace}"
        );
    }
    let held = fixture.pull_secret(&a).await;
    for namespace in [&b, &c, &d] {
        assert_eq!(fixture.pull_secret(namespace).await, held, "{namespace}");
    }
    assert_eq!(tell(&fixture.aws.requests()), [""; 0]);
    assert_eq!(
        [version(&fixture, &a).await, version(&fixture, &b).await],
        versions
    );
}

async fn version(fixture: &Fixture, namespace: &str) -> Value {
    let secret = fixture.cluster.secret(namespace, "pullpass").await.unwrap();
    secret["metadata"]["resourceVersion"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn takes_over_from_a_replica_that_died_while_minting() {
    let fixture = Fixture::new("claims").await;
    let serves = serve_replicas(&fixture);
    let spec = json!({"images": [format!("{ECR}/claims")], "namespaceSelector": serves, "ecr": fixture.ecr("claims")});
    fixture.put_registry("claims", spec).await;
    let image = format!("{ECR}/claims/hello:1");
    let [dying, _survivor] = start_replicas(&fixture).await;
    let (a, b) = (
        make_namespace(&fixture, "a", "a").await,
        make_namespace(&fixture, "b", "b").await,
    );
    let fault = json!({"delayMs": 60_000, "count": 100});
    fixture.user.fail(&fixture.world.moto, fault).await;
    let (cluster, pod) = (
        fixture.cluster.clone(),
        support::process::pod(&a, &[&image]),
    );
    let creating = tokio::spawn(async move { cluster.create_pod(&pod, "").await });
    wait::until("the mint to begin", async || {
        (!fixture.aws.requests().is_empty()).then_some(())
    })
    .await;
    drop(dying);
    creating.await.unwrap();
    fixture.world.moto.delete("faults").await;

    // The claim of the dead one ends by itself.
    wait::until("the other replica to mint", async || {
        fixture.create(&b, &[&image]).await;
        fixture.has_pull_secret(&b).await.then_some(())
    })
    .await;

    let login = fixture.user.newest(&fixture.world.moto).await.unwrap();
    let held = fixture.pull_secret(&b).await;
    assert_eq!(keyring::lookup(&held, &[&image]), [vec![login]]);
}
