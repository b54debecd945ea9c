//! How a Registry's login is delivered, on a real API server: by pull secrets, by kubelets that ask, by both, and from one to the other.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod asked;

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support;
use support::broker::{Kubelet, bind_pod, grant_broker, pod_token};
use support::fixture::{FIXTURE, Fixture, read_dockerconfigjson, references};
use support::process::{Launch, Pullpass};
use support::wait;

/// The images of the Registry that is delivered in each way, and of one beside it that never changes.
const MOVING: &str = "localhost:9/moving";
const STAYING: &str = "localhost:9/staying";

/// A pullpass with its controller and its broker, two Registries, and a Pod on a node whose kubelet can ask.
struct Scene {
    fixture: Fixture,
    pullpass: Pullpass,
    kubelet: Kubelet,
    namespace: String,
    token: String,
}

impl Scene {
    async fn new(name: &'static str, delivery: &str) -> Self {
        let fixture = Fixture::alone(name).await;
        put_login(&fixture, "moving", "first").await;
        put_login(&fixture, "staying", "theirs").await;
        let spec = json!({"images": [STAYING], "static": {"secretRef": {"name": "staying"}}});
        fixture.put_registry("staying", spec).await;
        deliver(&fixture, delivery).await;
        Self::within(fixture).await
    }

    /// The same with these Registries.
    async fn within(fixture: Fixture) -> Self {
        let name = fixture.name;
        grant_broker(&fixture.cluster).await;
        let namespace = fixture.namespace("pods").await;
        let launch = Launch {
            controller: true,
            arguments: vec![
                "--broker-listen=127.0.0.1:0",
                "--missed-pod-scan-interval=1s",
            ],
            ..fixture.launch().await
        };
        let pullpass = Pullpass::start(&launch).await;
        pullpass.register(&fixture.cluster, FIXTURE, name).await;
        let pod = bind_pod(&fixture.cluster, &namespace, "web", &json!({})).await;
        Self {
            token: pod_token(&fixture.cluster, &pod).await,
            kubelet: Kubelet::of(&pullpass),
            fixture,
            pullpass,
            namespace,
        }
    }

    /// The Secret's uid and state once it holds the logins under just these keys.
    async fn wait_held(&self, keys: &[&str]) -> (Value, Value) {
        wait::until(&format!("the pull secret with {keys:?}"), async || {
            let secret = self.fixture.cluster.secret(&self.namespace, "pullpass");
            let secret = secret.await?;
            let held: Value = serde_json::from_str(&read_dockerconfigjson(&secret)).unwrap();
            let held = held["auths"].as_object().unwrap();
            let held: BTreeSet<&str> = held.keys().map(String::as_str).collect();
            let metadata = &secret["metadata"];
            let state = (metadata["uid"].clone(), metadata["resourceVersion"].clone());
            held.into_iter().eq(keys.iter().copied()).then_some(state)
        })
        .await
    }

    /// The Registry's status once `Ready` is so, for this reason.
    async fn wait_ready(&self, status: &str, reason: &str, words: &str) -> Value {
        let path = "/apis/pullpass.dev/v1alpha1/registries/moving";
        wait::until(&format!("Ready={status} {reason}: {words}"), async || {
            let registry = self.fixture.cluster.get(path).await?;
            let found = registry["status"].clone();
            let mut conditions = found["conditions"].as_array()?.iter();
            let ready = conditions.find(|one| one["type"] == "Ready")?;
            let is_so = ready["status"] == status
                && ready["reason"] == reason
                && ready["observedGeneration"] == registry["metadata"]["generation"]
                && ready["message"].as_str()?.contains(words);
            is_so.then_some(found)
        })
        .await
    }

    /// The password that the broker answers, once it does.
    async fn wait_answered(&self, password: &str) {
        wait::until("the broker's login", async || {
            let (status, body) = self.kubelet.ask(MOVING, &self.token).await;
            let found = &body["auth"][MOVING]["password"];
            (status.is_success() && found == password).then_some(())
        })
        .await;
    }

    /// Waits until a Pod with this image is given a reference, or none.
    async fn wait_referenced(&self, image: &str, is_given: bool) {
        wait::until(
            &format!("a reference for {image}: {is_given}"),
            async || {
                let tried = self.fixture.try_out(&self.namespace, &[image]).await;
                (references(&tried.body) == is_given).then_some(())
            },
        )
        .await;
    }

    /// The nodes that are written down for the Registry.
    async fn nodes(&self) -> Option<Value> {
        let name = "pullpass-nodes-moving";
        let secret = self.fixture.cluster.secret("pullpass", name).await?;
        assert_eq!(secret["type"], "Opaque");
        Some(secret["data"].clone())
    }
}

async fn put_login(fixture: &Fixture, secret: &str, password: &str) {
    let login = json!({"username": "robot", "password": password});
    let type_ = "kubernetes.io/basic-auth";
    fixture.put_source(secret, type_, login).await;
}

async fn deliver(fixture: &Fixture, delivery: &str) {
    let login = json!({"secretRef": {"name": "moving"}});
    let spec = json!({"images": [MOVING], "delivery": delivery, "static": login});
    fixture.put_registry("moving", spec).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn moves_a_registry_from_secrets_to_nodes_and_back() {
    let scene = Scene::new("delivery", "Secret").await;
    let (uid, state) = scene.wait_held(&[MOVING, STAYING]).await;
    let (reason, message) = scene.kubelet.refused(MOVING, &scene.token).await;
    assert_eq!(reason, "NotServed", "{message}");
    let status = scene.wait_ready("True", "Provisioned", "hold").await;
    assert_eq!(status["nodes"], Value::Null);

    // Both ways: the Secret stays the very same, and who asks is answered.
    deliver(&scene.fixture, "Both").await;
    scene
        .wait_ready("True", "Provisioned", "no node's kubelet asked")
        .await;
    scene.wait_answered("first").await;
    let status = scene
        .wait_ready("True", "Provisioned", "the kubelet of 1 node asked")
        .await;
    assert_eq!(status["nodes"], 1);
    assert_eq!(
        scene.wait_held(&[MOVING, STAYING]).await,
        (uid.clone(), state.clone())
    );

    // The Secret keeps what is the other Registry's.
    deliver(&scene.fixture, "Node").await;
    let (same, _) = scene.wait_held(&[STAYING]).await;
    assert_eq!(same, uid);
    scene.wait_answered("first").await;
    let status = scene.wait_ready("True", "ServedByNode", "1 node").await;
    assert_eq!(
        (&status["nodes"], &status["namespaces"]),
        (&json!(1), &Value::Null)
    );
    scene.wait_referenced(&format!("{MOVING}/app"), false).await;
    scene.wait_referenced(&format!("{STAYING}/app"), true).await;

    deliver(&scene.fixture, "Both").await;
    let (same, state) = scene.wait_held(&[MOVING, STAYING]).await;
    assert_eq!(same, uid);
    scene.wait_answered("first").await;
    scene.wait_referenced(&format!("{MOVING}/app"), true).await;

    deliver(&scene.fixture, "Secret").await;
    scene.wait_ready("True", "Provisioned", "hold").await;
    wait::until("the list of nodes to go", async || {
        scene.nodes().await.is_none().then_some(())
    })
    .await;
    assert_eq!(scene.wait_held(&[MOVING, STAYING]).await, (uid, state));
    assert!(scene.pullpass.find_line("panicked").is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_nothing_outside_its_namespace_when_logins_that_nodes_ask_for_rotate() {
    let scene = Scene::new("rotates", "Node").await;
    scene.wait_held(&[STAYING]).await;
    scene
        .wait_ready("Unknown", "NotObserved", "docs/DELIVERY.md")
        .await;
    scene.wait_answered("first").await;
    scene.wait_ready("True", "ServedByNode", "1 node").await;
    let elsewhere = || {
        let all = scene.fixture.api.all().into_iter();
        let written = all.filter(|request| {
            request.method != "GET"
                && request.path.contains("/secrets/")
                && !request.path.starts_with("/api/v1/namespaces/pullpass/")
        });
        written.count()
    };
    let before = elsewhere();
    for rotation in 0..10 {
        let password = format!("rotation-{rotation}");
        put_login(&scene.fixture, "moving", &password).await;
        scene.wait_answered(&password).await;
    }
    assert_eq!(elsewhere(), before);
    // One node, of one day: written once.
    let lists = scene.fixture.api.all().into_iter();
    let lists = lists.filter(|request| {
        request.method == "PATCH" && request.path.contains("/secrets/pullpass-nodes-moving")
    });
    assert_eq!(lists.count(), 1);
}
