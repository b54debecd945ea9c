//! Who asked, who was served, and what a Registry says of it.

use serde_json::{Value, json};

use super::{MOVING, Scene, deliver};
use crate::support;
use support::broker::{NODE, bind_pod, pod_token};
use support::fixture::{ECR, Fixture};
use support::proxy::Fault;
use support::user::User;
use support::wait;

/// Makes a Pod that cannot pull this image, on a node.
async fn hang(scene: &Scene, name: &str, node: &str, image: &str) {
    let cluster = &scene.fixture.cluster;
    let metadata = json!({"name": name, "namespace": scene.namespace});
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": metadata,
        "spec": {"nodeName": node, "containers": [{"name": "c", "image": image}]},
    });
    cluster.create_pod(&pod, "").await.ok();
    let status = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": metadata,
        "status": {"phase": "Pending", "containerStatuses": [{
            "name": "c", "image": image, "imageID": "", "ready": false, "restartCount": 0,
            "state": {"waiting": {"reason": "ErrImagePull", "message": "401"}},
        }]},
    });
    let path = format!(
        "/api/v1/namespaces/{}/pods/{name}/status?fieldManager=kubelet&force=true",
        scene.namespace
    );
    cluster.send("PATCH", &path, Some(&status)).await.ok();
}

/// The Event of the one Pod that hangs on a node that never asked; the scan went over all of them.
async fn wait_not_asked(scene: &Scene) -> Value {
    wait::until("the Pod to be counted", async || {
        let count = scene.pullpass.count("pullpass_pods_node_not_asked", &[]);
        (count.await == 1).then_some(())
    })
    .await;
    let path = format!(
        "/api/v1/namespaces/{}/events?fieldSelector=reason%3DNodeNotAsked",
        scene.namespace
    );
    let events = scene.fixture.cluster.get(&path).await.unwrap();
    let events = events["items"].as_array().unwrap();
    assert_eq!(events.len(), 1, "{events:?}");
    events[0].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_a_pod_that_hangs_on_a_node_that_never_asked() {
    let scene = Scene::new("unasked", "Node").await;
    scene.wait_answered("first").await;
    scene.wait_ready("True", "ServedByNode", "1 node").await;
    for (name, node) in [("asks", NODE), ("cannot", "fargate-1")] {
        hang(&scene, name, node, &format!("{MOVING}/app:1")).await;
    }
    let event = wait_not_asked(&scene).await;
    assert_eq!(event["involvedObject"]["name"], "cannot");
    let said = event["message"].as_str().unwrap();
    assert!(
        said.starts_with("Node fargate-1 never asked pullpass"),
        "{said}"
    );
    assert!(
        said.contains("Registry moving") && said.contains("delivery to Both"),
        "{said}"
    );
    assert_eq!(scene.pullpass.count("pullpass_missed_pods{", &[]).await, 0);
}

/// The cloud refuses, then it does not, then it refuses again: `Ready` says so each time, in the words that it has with Secrets.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shows_in_ready_that_a_mint_fails_and_that_it_does_no_more() {
    let fixture = Fixture::alone("mints").await;
    let moto = &fixture.world.moto;
    let denied = User::add_with(moto, "denied-of-mints", Some(json!([]))).await;
    let image = format!("{ECR}/team");
    fixture.put_keys("mints", &denied).await;
    let spec = json!({"images": [image], "delivery": "Node", "ecr": fixture.ecr("mints")});
    fixture.put_registry("moving", spec).await;
    let scene = Scene::within(fixture).await;
    scene
        .wait_ready("Unknown", "NotObserved", "got its login")
        .await;

    let (reason, _) = scene.kubelet.refused(&image, &scene.token).await;
    assert_eq!(reason, "Unavailable");
    let begun = std::time::Instant::now();
    let words = "ecr:GetAuthorizationToken";
    let status = scene.wait_ready("False", "AccessDenied", words).await;
    println!("a failed mint shows after {:?}", begun.elapsed());
    assert_eq!(status["nodes"], 1, "it asked");
    let degraded = status["conditions"].as_array().unwrap().iter();
    let mut degraded = degraded.filter(|one| one["type"] == "Degraded");
    assert_eq!(degraded.next().unwrap()["reason"], "AccessDenied");

    // A node that asked in vain asked.
    for (name, node) in [("asks", NODE), ("cannot", "fargate-1")] {
        hang(&scene, name, node, &format!("{image}/app:1")).await;
    }
    let event = wait_not_asked(&scene).await;
    assert_eq!(event["involvedObject"]["name"], "cannot");

    for (user, is_good) in [(&scene.fixture.user, true), (&denied, false)] {
        scene.fixture.put_keys("mints", user).await;
        wait::until("another answer", async || {
            let (status, _) = scene.kubelet.ask(&image, &scene.token).await;
            (status.is_success() == is_good).then_some(())
        })
        .await;
        let (status, reason) = if is_good {
            ("True", "ServedByNode")
        } else {
            ("False", "AccessDenied")
        };
        scene.wait_ready(status, reason, "").await;
    }
    assert!(scene.pullpass.find_line("panicked").is_none());
}

/// A cloud that never answers: nobody asks again, and it is said all the same once the mint was given up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shows_in_ready_that_a_mint_takes_longer_than_a_kubelet_waits() {
    let fixture = Fixture::alone("hangs").await;
    let image = format!("{ECR}/team");
    let spec = json!({"images": [image], "delivery": "Node", "ecr": fixture.ecr("hangs")});
    fixture.put_registry("moving", spec).await;
    let scene = Scene::within(fixture).await;
    scene.wait_ready("Unknown", "NotObserved", "").await;
    scene.fixture.aws.inject(|_| Some(Fault::Hang));
    let (_, message) = scene.kubelet.refused(&image, &scene.token).await;
    assert!(message.contains("it is being minted"), "{message}");
    let status = scene.wait_ready("False", "Timeout", "no answer from").await;
    let mut conditions = status["conditions"].as_array().unwrap().iter();
    assert!(
        conditions.any(|one| one["type"] == "Reconciling"),
        "{status}"
    );
    scene.fixture.aws.heal();
    wait::until("the login", async || {
        let (status, _) = scene.kubelet.ask(&image, &scene.token).await;
        status.is_success().then_some(())
    })
    .await;
    scene.wait_ready("True", "ServedByNode", "1 node").await;
}

/// Whoever creates Pods can write any name as their node: such a one is answered, and counts for nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counts_no_node_that_somebody_made_up() {
    let scene = Scene::new("made-up", "Node").await;
    for number in 0..3 {
        let node = json!({"made-up node": format!("none-{number}")});
        let name = format!("made-up-{number}");
        let pod = bind_pod(&scene.fixture.cluster, &scene.namespace, &name, &node).await;
        let token = pod_token(&scene.fixture.cluster, &pod).await;
        wait::until("the login", async || {
            let (status, _) = scene.kubelet.ask(MOVING, &token).await;
            status.is_success().then_some(())
        })
        .await;
    }
    // What is noted of it is noted before this.
    scene.wait_answered("first").await;
    let status = scene.wait_ready("True", "ServedByNode", "1 node").await;
    assert_eq!(status["nodes"], 1);
    let nodes = scene.nodes().await.unwrap();
    let nodes = nodes.as_object().unwrap();
    assert_eq!(nodes.len(), 1, "one day: {nodes:?}");
    assert_eq!(nodes.values().next().unwrap(), "bm9kZS0xCg==", "{NODE}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn begins_anew_with_a_registry_that_is_made_anew() {
    let scene = Scene::new("anew", "Node").await;
    scene.wait_answered("first").await;
    scene.wait_ready("True", "ServedByNode", "1 node").await;
    let uid = async || {
        let path = "/api/v1/namespaces/pullpass/secrets/pullpass-nodes-moving";
        let secret = scene.fixture.cluster.get(path).await?;
        let uid = secret["metadata"]["annotations"]["pullpass.dev/registry-uid"].as_str()?;
        Some(uid.to_owned())
    };
    let before = uid().await.unwrap();
    let path = "/apis/pullpass.dev/v1alpha1/registries/moving";
    scene.fixture.cluster.send("DELETE", path, None).await.ok();
    deliver(&scene.fixture, "Node").await;
    scene
        .wait_ready("Unknown", "NotObserved", "got its login")
        .await;
    scene.wait_answered("first").await;
    let status = scene.wait_ready("True", "ServedByNode", "1 node").await;
    assert_eq!(status["nodes"], 1);
    let registry = scene.fixture.cluster.get(path).await.unwrap();
    let now = uid().await.unwrap();
    assert_ne!(now, before);
    assert_eq!(registry["metadata"]["uid"], now.as_str());
}
