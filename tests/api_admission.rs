//! Which Pods get the reference, on a real API server, and whether the Secret is there when they do.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use futures::StreamExt as _;
use serde_json::{Value, json};
use support::cluster::Cluster;
use support::process::{make_namespace, pod};
use support::scene::{ECR, SCENE, Scene, references};
use support::user::User;
use support::{keyring, wait};

fn image() -> String {
    format!("{ECR}/team/hello:1")
}

/// A scene whose Registry serves [`image`].
async fn scene(name: &'static str) -> Scene {
    let scene = Scene::new(name).await;
    scene.serve(&[&format!("{ECR}/team")]).await;
    scene
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn references_secret_of_namespace_and_pod_that_come_together() {
    const TIMES: usize = 200;
    let scene = scene("together").await;
    let pullpass = scene.start().await;
    let arrivals = (0..TIMES).map(|number| arrive(&scene, number));

    let arrived: Vec<Value> = futures::stream::iter(arrivals)
        .buffer_unordered(4)
        .collect()
        .await;

    let login = scene.user.newest(&scene.world.moto).await.unwrap();
    for pod in &arrived {
        let namespace = pod["metadata"]["namespace"].as_str().unwrap();
        assert!(references(pod), "{namespace}");
    }
    let held: Vec<String> = secrets(&scene.cluster, "together").await;
    assert_eq!(held.len(), TIMES);
    for held in held {
        assert_eq!(keyring_of(&held), login.password);
    }
    assert_eq!(scene.user.minted(&scene.world.moto).await.len(), 1);
    assert_eq!(
        pullpass
            .count("pullpass_admissions", &["outcome=\"Injected\""])
            .await,
        TIMES as u64
    );
}

/// Makes a namespace, its ServiceAccount and a Pod, one right after the other, and answers the Pod; its Secret is there by then.
async fn arrive(scene: &Scene, number: usize) -> Value {
    let objects = scene.namespace_objects(&number.to_string());
    for object in &objects {
        scene.cluster.apply(object).await;
    }
    let namespace = objects[0]["metadata"]["name"].as_str().unwrap();
    let pod = scene.create(namespace, &[&image()]).await.body;
    assert!(scene.has_pull_secret(namespace).await, "{namespace}");
    pod
}

/// The contents of the pull secrets of a scene.
async fn secrets(cluster: &Cluster, scene: &str) -> Vec<String> {
    let path = "/api/v1/secrets?fieldSelector=metadata.name=pullpass";
    let all = cluster.get(path).await.unwrap();
    let prefix = format!("{scene}-");
    let of_scene = |secret: &&Value| {
        secret["metadata"]["namespace"]
            .as_str()
            .unwrap()
            .starts_with(&prefix)
    };
    let all = all["items"].as_array().unwrap().iter().filter(of_scene);
    all.map(support::scene::read_dockerconfigjson).collect()
}

/// The one password in a pull secret: the keyring's judgement of 200 Secrets, without 200 processes.
fn keyring_of(held: &str) -> String {
    use base64::Engine as _;
    let held: Value = serde_json::from_str(held).unwrap();
    let auths = held["auths"].as_object().unwrap();
    assert_eq!(auths.keys().collect::<Vec<_>>(), [&format!("{ECR}/team")]);
    let auth = auths.values().next().unwrap()["auth"].as_str().unwrap();
    let login = base64::engine::general_purpose::STANDARD
        .decode(auth)
        .unwrap();
    let login = String::from_utf8(login).unwrap();
    login.strip_prefix("AWS:").unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn references_secrets_of_one_kubectl_apply() {
    const TIMES: usize = 10;
    let scene = scene("kubectl").await;
    let _pullpass = scene.start().await;
    let file = scene.file("objects.json");
    let mut objects = Vec::new();
    for number in 0..TIMES {
        let namespace = scene.namespace_objects(&number.to_string());
        let mut pod = pod(
            namespace[0]["metadata"]["name"].as_str().unwrap(),
            &[&image()],
        );
        pod["metadata"]["name"] = "first".into();
        pod["metadata"]
            .as_object_mut()
            .unwrap()
            .remove("generateName");
        objects.extend(namespace);
        objects.push(pod);
    }
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
    std::fs::write(&file, list.to_string()).unwrap();

    let applied = scene
        .world
        .kubectl(&["apply", "-f", file.to_str().unwrap()]);

    assert_eq!(
        applied.matches("pod/first created").count(),
        TIMES,
        "{applied}"
    );
    assert!(!applied.contains("Warning"), "{applied}");
    for number in 0..TIMES {
        let namespace = scene.namespace_name(&number.to_string());
        let pod = scene
            .cluster
            .get(&format!("/api/v1/namespaces/{namespace}/pods/first"))
            .await;
        assert!(references(&pod.unwrap()), "{namespace}");
        assert!(scene.has_pull_secret(&namespace).await, "{namespace}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_and_mints_nothing_on_dry_run() {
    let scene = scene("dryrun").await;
    let namespace = scene.namespace("pods").await;
    let _pullpass = scene.start().await;
    scene.api.forget();

    let tried = scene.try_out(&namespace, &[&image()]).await;

    assert!(references(&tried.body), "{}", tried.body);
    // A later real one waits for all that is under way in this namespace, and finds nothing done yet.
    let before = scene.api.requests();
    assert!(
        before.iter().all(|request| request.method == "GET"),
        "{before:?}"
    );
    assert!(!scene.has_pull_secret(&namespace).await);
    assert!(scene.stored().await.is_empty());
    assert!(scene.aws.requests().is_empty());
    assert!(scene.user.minted(&scene.world.moto).await.is_empty());
    scene.create(&namespace, &[&image()]).await;
    assert!(scene.has_pull_secret(&namespace).await);
    assert_eq!(scene.user.minted(&scene.world.moto).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaves_alone_who_did_not_opt_in() {
    let scene = scene("optin").await;
    let enabled = scene.namespace("enabled").await;
    let everything = scene.namespace_name("everything");
    let all = json!({"pullpass.dev/inject": "all", SCENE: scene.name});
    make_namespace(&scene.cluster, &everything, &all).await;
    let plain = scene.namespace_name("plain");
    make_namespace(&scene.cluster, &plain, &json!({SCENE: scene.name})).await;
    let _pullpass = scene.start().await;
    let (image, other) = (image(), "registry.example.com/other/app:1");

    for (namespace, image, referenced) in [
        (&enabled, image.as_str(), true),
        (&enabled, other, false),
        (&everything, image.as_str(), true),
        (&everything, other, true),
        (&plain, image.as_str(), false),
    ] {
        let created = scene.create(namespace, &[image]).await;
        assert_eq!(references(&created.body), referenced, "{namespace} {image}");
        assert_eq!(created.warnings, [""; 0], "{namespace} {image}");
    }
    let mut out = pod(&enabled, &[&image]);
    out["metadata"]["labels"] = json!({"pullpass.dev/inject": "disabled"});
    assert!(!references(
        &scene.cluster.create_pod(&out, "").await.ok().body
    ));
    assert!(!scene.has_pull_secret(&plain).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn follows_registry_and_namespace_as_they_change() {
    let scene = scene("changes").await;
    let namespace = scene.namespace("pods").await;
    let late = scene.namespace_name("late");
    make_namespace(&scene.cluster, &late, &json!({SCENE: scene.name})).await;
    let _pullpass = scene.start().await;
    let (image, pattern) = (image(), format!("{ECR}/team"));
    scene.create(&namespace, &[&image]).await;
    let secret = scene.cluster.secret(&namespace, "pullpass").await.unwrap();

    // A Registry that rests, then wakes, then goes: what is in the Secret stays.
    let resting = json!({"images": [pattern], "ecr": scene.ecr("changes"), "suspend": true});
    scene.put_registry("changes", resting).await;
    wait_referenced(&scene, &namespace, false).await;
    scene.serve(&[&pattern]).await;
    wait_referenced(&scene, &namespace, true).await;
    let registry = json!({"apiVersion": "pullpass.dev/v1alpha1", "kind": "Registry", "metadata": {"name": "changes"}});
    scene.cluster.delete(&registry).await;
    wait_referenced(&scene, &namespace, false).await;
    assert_eq!(
        scene.cluster.secret(&namespace, "pullpass").await,
        Some(secret)
    );

    // A namespace that opts in later, and out again.
    scene.serve(&[&pattern]).await;
    wait_referenced(&scene, &namespace, true).await;
    assert!(!references(&scene.try_out(&late, &[&image]).await.body));
    for (labels, referenced) in [(scene.labels(), true), (json!({SCENE: scene.name}), false)] {
        make_namespace(&scene.cluster, &late, &labels).await;
        wait_referenced(&scene, &late, referenced).await;
    }
}

async fn wait_referenced(scene: &Scene, namespace: &str, referenced: bool) {
    wait::until("Pods to be treated as the Registries say", async || {
        let tried = scene.try_out(namespace, &[&image()]).await;
        (references(&tried.body) == referenced).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serves_every_place_of_an_image_and_keeps_what_is_there() {
    let scene = scene("places").await;
    let namespace = scene.namespace("pods").await;
    let spec = json!({
        "images": [format!("{ECR}/extra")], "ecr": scene.ecr("places"),
        "inject": {"labels": {"team": "registry"}, "annotations": {"example.com/role": "puller"}},
    });
    scene.put_registry("places-extra", spec).await;
    let _pullpass = scene.start().await;
    let served = format!("{ECR}/extra/hello:1");
    let mut pod = pod(&namespace, &["alpine:3"]);
    pod["metadata"]["labels"] = json!({"team": "own"});
    pod["spec"]["imagePullSecrets"] = json!([{"name": "mine"}, {"name": "also-mine"}]);
    for place in ["init", "volume"] {
        let mut pod = pod.clone();
        match place {
            "init" => pod["spec"]["initContainers"] = json!([{"name": "init", "image": served}]),
            _ => {
                pod["spec"]["volumes"] = json!([{"name": "files", "image": {"reference": served}}]);
            }
        }

        let created = scene.cluster.create_pod(&pod, "").await.ok().body;

        let expected = json!([{"name": "mine"}, {"name": "also-mine"}, {"name": "pullpass"}]);
        assert_eq!(created["spec"]["imagePullSecrets"], expected, "{place}");
        assert_eq!(created["metadata"]["labels"]["team"], "own", "{place}");
        assert_eq!(
            created["metadata"]["annotations"]["example.com/role"], "puller",
            "{place}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neither_touches_nor_references_a_secret_of_somebody_else() {
    let scene = scene("foreign").await;
    let before = scene.namespace("before").await;
    let after = scene.namespace("after").await;
    let foreign = |namespace: &str| {
        json!({
            "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/dockerconfigjson",
            "metadata": {"name": "pullpass", "namespace": namespace, "labels": {"app.kubernetes.io/managed-by": "Helm"}},
            "stringData": {".dockerconfigjson": "{\"auths\":{}}"},
        })
    };
    scene.cluster.apply(&foreign(&before)).await;
    let pullpass = scene.start().await;
    // Just made, so that no watch has shown it for sure.
    scene.cluster.apply(&foreign(&after)).await;
    for namespace in [&before, &after] {
        let secret = scene.cluster.secret(namespace, "pullpass").await;

        let created = scene.create(namespace, &[&image()]).await;

        assert!(!references(&created.body), "{namespace}");
        let warnings = created.warnings.join(" ");
        assert!(
            warnings.contains(&format!("Secret {namespace}/pullpass")),
            "{warnings}"
        );
        assert!(warnings.contains("rename or delete it"), "{warnings}");
        assert_eq!(scene.cluster.secret(namespace, "pullpass").await, secret);
    }
    assert_eq!(
        pullpass
            .count("pullpass_admissions", &["reason=\"ForeignSecret\""])
            .await,
        2
    );
    // Once it is gone, the namespace gets its own.
    scene.cluster.delete(&foreign(&before)).await;
    wait::until("a pull secret of our own", async || {
        references(&scene.create(&before, &[&image()]).await.body).then_some(())
    })
    .await;
    let own = scene.cluster.secret(&before, "pullpass").await.unwrap();
    assert_eq!(
        own["metadata"]["labels"]["app.kubernetes.io/managed-by"],
        "pullpass"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn repairs_what_somebody_did_to_the_pull_secret() {
    let scene = scene("repair").await;
    let namespace = scene.namespace("pods").await;
    let _pullpass = scene.start().await;
    scene.create(&namespace, &[&image()]).await;
    let login = scene.user.newest(&scene.world.moto).await.unwrap();
    let made = scene.cluster.secret(&namespace, "pullpass").await.unwrap();
    for content in [
        "{\"auths\":{}}",
        "{\"auths\":{\"example.com\":{\"auth\":\"!\"}}}",
        "{\"auths\":[]}",
    ] {
        let object = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "pullpass", "namespace": namespace},
            "stringData": {".dockerconfigjson": content},
        });
        scene.cluster.apply(&object).await;
        wait::until("the pull secret to be as it was", async || {
            scene.create(&namespace, &[&image()]).await;
            let held = scene.pull_secret(&namespace).await;
            (held != content).then_some(())
        })
        .await;
        let held = scene.pull_secret(&namespace).await;
        assert_eq!(
            keyring::lookup(&held, &[image()]),
            [vec![login.clone()]],
            "{content}"
        );
    }
    let repaired = scene.cluster.secret(&namespace, "pullpass").await.unwrap();
    assert_eq!(repaired["metadata"]["uid"], made["metadata"]["uid"]);
    assert_eq!(scene.user.minted(&scene.world.moto).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keeps_entries_of_others_in_the_pull_secret() {
    let scene = scene("others").await;
    let namespace = scene.namespace("pods").await;
    let _pullpass = scene.start().await;
    scene.create(&namespace, &[&image()]).await;
    let mut held: Value = serde_json::from_str(&scene.pull_secret(&namespace).await).unwrap();
    held["auths"]["registry.example.com"] = json!({"auth": "bWU6cGFzc3dvcmQ="});
    let object = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "pullpass", "namespace": namespace},
        "stringData": {".dockerconfigjson": held.to_string()},
    });
    scene.cluster.apply(&object).await;
    let next = User::add(&scene.world.moto, "next-of-others").await;
    scene.put_keys("others", &next).await;
    scene.create_until_minted(&namespace, &image(), &next).await;
    let found = keyring::lookup(
        &scene.pull_secret(&namespace).await,
        &["registry.example.com/app"],
    );
    assert_eq!(found[0][0].password, "password");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaves_alone_service_account_that_enforces_mountable_secrets() {
    let scene = scene("mountable").await;
    let namespace = scene.namespace("pods").await;
    let account = |name: &str, secrets: Value| {
        json!({
            "apiVersion": "v1", "kind": "ServiceAccount", "imagePullSecrets": secrets,
            "metadata": {"name": name, "namespace": namespace, "annotations": {"kubernetes.io/enforce-mountable-secrets": "true"}},
        })
    };
    scene.cluster.apply(&account("strict", json!([]))).await;
    scene
        .cluster
        .apply(&account("listed", json!([{"name": "pullpass"}])))
        .await;
    let _pullpass = scene.start().await;
    for (name, referenced) in [("strict", false), ("listed", true)] {
        let mut pod = pod(&namespace, &[&image()]);
        pod["spec"]["serviceAccountName"] = name.into();

        let created = scene.cluster.create_pod(&pod, "").await.ok();

        assert_eq!(references(&created.body), referenced, "{name}");
        let warned = created
            .warnings
            .iter()
            .any(|warning| warning.contains("enforces mountable secrets"));
        assert_eq!(warned, !referenced, "{name}: {:?}", created.warnings);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_nothing_into_a_namespace_that_is_being_deleted() {
    let scene = scene("terminating").await;
    let moto = &scene.world.moto;
    let namespace = scene.namespace("dying").await;
    let pullpass = scene.start().await;
    scene
        .user
        .fail(moto, json!({"delayMs": 60_000, "count": 100}))
        .await;
    let (cluster, served) = (scene.cluster.clone(), pod(&namespace, &[&image()]));
    let creating = tokio::spawn(async move { cluster.create_pod(&served, "").await });
    wait::until("the mint to begin", async || {
        let begun = scene.aws.requests();
        (!begun.is_empty()).then_some(())
    })
    .await;

    // Nobody finishes the deletion here: the namespace stays as it is.
    let path = format!("/api/v1/namespaces/{namespace}");
    scene.cluster.send("DELETE", &path, None).await.ok();
    moto.delete("faults").await;

    creating.await.unwrap();
    wait::until("pullpass to give up", async || {
        pullpass.log().contains("being deleted").then_some(())
    })
    .await;
    assert!(!scene.has_pull_secret(&namespace).await);
    assert_eq!(scene.user.minted(moto).await.len(), 1);
    scene.api.forget();
    // It does not try again by itself: other namespaces are served meanwhile.
    let other = scene.namespace("other").await;
    scene.create(&other, &[&image()]).await;
    assert!(scene.has_pull_secret(&other).await);
    let again = scene.api.requests();
    assert!(
        again
            .iter()
            .all(|request| !request.path.contains(&namespace)),
        "{again:?}"
    );
}
