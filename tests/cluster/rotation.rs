//! Rotation in a whole cluster: a Pod that pulls at each of its many restarts while every old password is switched off soon after the
//! next one was minted. `make test-cluster` builds the parts and runs this.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::time::{Duration, Instant};

use crate::support;
use serde_json::{Value, json};
use support::place::{HOST, Place, digest, principal};
use support::process::make_namespace;
use support::wait;

const USER: &str = "puller";
/// How long a token lives, in seconds: it is renewed after half of that.
const LIFE: u32 = 30;
/// For how long the registry takes a token after the next one was minted, in seconds.
const OVERLAP: u32 = 5;
const ROTATIONS: usize = 3;

impl Place {
    /// One Registry, and a namespace that opted in.
    async fn serve_pods(&self) {
        self.add_user(USER, LIFE).await;
        self.allow(&json!([{"principal": principal(USER)}]), OVERLAP);
        self.install().await;
        let ecr = self.put_keys(USER).await;
        self.cluster
            .apply(&json!({
                "apiVersion": "pullpass.dev/v1alpha1", "kind": "Registry", "metadata": {"name": "team"},
                "spec": {"images": [format!("{HOST}/team")], "namespaceSelector": {}, "ecr": ecr},
            }))
            .await;
        let labels = json!({"pullpass.dev/inject": "enabled"});
        make_namespace(&self.cluster, "shop", &labels).await;
    }

    /// The Pod's only container: how often it was started again, and why it waits if its image could not be pulled.
    async fn look(&self) -> (u64, Option<String>) {
        let pod = self.cluster.get("/api/v1/namespaces/shop/pods/hello").await;
        let pod = pod.unwrap();
        let status = pod.pointer("/status/containerStatuses/0");
        let status = status.unwrap_or(&Value::Null);
        let reason = status["state"]["waiting"]["reason"].as_str();
        let failed = reason.filter(|reason| reason.contains("Image") || reason.contains("Pull"));
        (
            status["restartCount"].as_u64().unwrap_or(0),
            failed.map(str::to_owned),
        )
    }
}

/// A Pod that ends after a moment and pulls before each start. Its reference to the pull secret is what the webhook would add.
fn restless() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "hello", "namespace": "shop"},
        "spec": {
            "imagePullSecrets": [{"name": "pullpass"}], "restartPolicy": "Always",
            "containers": [{
                "name": "hello", "image": format!("{HOST}/team/hello:1"), "imagePullPolicy": "Always",
                "args": ["--sleep", "200ms"],
            }],
        },
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_pull_fails_across_rotations_that_switch_the_old_password_off() {
    let Some(place) = Place::start(&["--image", "team/hello:1"]).await else {
        return;
    };
    place.serve_pods().await;
    let _pullpass = place.launch().await;
    wait::until("the pull secret", async || {
        place.cluster.secret("shop", "pullpass").await
    })
    .await;
    place.cluster.create_pod(&restless(), "").await.ok();

    // Until somebody pulls with the login that the last rotation brought.
    let deadline = Instant::now() + Duration::from_mins(3);
    let minted = loop {
        let (restarts, failed) = place.look().await;
        assert_eq!(failed, None, "after {restarts} restarts");
        let minted = place.minted(USER).await;
        let last = minted.get(ROTATIONS).map(digest);
        let logins = place.logins();
        if last.is_some_and(|last| logins.iter().any(|(digest, _)| *digest == last)) {
            break minted;
        }
        assert!(Instant::now() < deadline, "{restarts} restarts, {logins:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    let (restarts, _) = place.look().await;
    let logins = place.logins();
    let refused = logins.iter().filter(|(_, allowed)| !allowed).count();
    println!(
        "{ROTATIONS} rotations, {restarts} restarts, {} requests with a login, {refused} refused",
        logins.len()
    );
    assert_eq!(refused, 0, "{logins:?}");
    for token in &minted[..=ROTATIONS] {
        let digest = digest(token);
        assert!(logins.iter().any(|(one, _)| *one == digest), "never used");
    }
    assert!(
        restarts >= 2 * ROTATIONS as u64,
        "{restarts} is no restless Pod"
    );

    // The old ones are truly off.
    let password = |token: &Value| token["password"].as_str().unwrap().to_owned();
    for token in &minted[..ROTATIONS - 1] {
        assert_eq!(place.log_in(&password(token)).await, 401);
    }
    assert_eq!(place.log_in(&password(&minted[ROTATIONS])).await, 200);
}
