//! Which Pods get the reference, on a real API server, and whether the Secret is there when they do.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use crate::support;
use futures::StreamExt as _;
use serde_json::{Value, json};
use support::cluster::Cluster;
use support::fixture::{ECR, FIXTURE, Fixture, references};
use support::process::{make_namespace, pod};
use support::user::User;
use support::{keyring, wait};

fn image() -> String {
    format!("{ECR}/team/hello:1")
}

/// A scene whose Registry serves [`image`].
async fn fixture(name: &'static str) -> Fixture {
    let fixture = Fixture::new(name).await;
    fixture.serve(&[&format!("{ECR}/team")]).await;
    fixture
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn references_secret_of_namespace_and_pod_that_come_together() {
    const TIMES: usize = 200;
    let fixture = fixture("together").await;
    let pullpass = fixture.start().await;
    let arrivals = (0..TIMES).map(|number| arrive(&fixture, number));

    let arrived: Vec<Value> = futures::stream::iter(arrivals)
        .buffer_unordered(4)
        .collect()
        .await;

    let login = fixture.user.newest(&fixture.world.moto).await.unwrap();
    for pod in &arrived {
        let namespace = pod["metadata"]["namespace"].as_str().unwrap();
        assert!(references(pod), "{namespace}");
    }
    let held: Vec<String> = secrets(&fixture.cluster, "together").await;
    assert_eq!(held.len(), TIMES);
    for held in held {
        assert_eq!(keyring_of(&held), login.password);
    }
    assert_eq!(fixture.user.minted(&fixture.world.moto).await.len(), 1);
    assert_eq!(
        pullpass
            .count("pullpass_admissions", &["outcome=\"injected\""])
            .await,
        TIMES as u64
    );
}

/// Makes a namespace, its ServiceAccount and a Pod, one right after the other, and answers the Pod; its Secret is there by then.
async fn arrive(fixture: &Fixture, number: usize) -> Value {
    let objects = fixture.namespace_objects(&number.to_string());
    for object in &objects {
        fixture.cluster.apply(object).await;
    }
    let namespace = objects[0]["metadata"]["name"].as_str().unwrap();
    let pod = fixture.create(namespace, &[&image()]).await.body;
    assert!(fixture.has_pull_secret(namespace).await, "{namespace}");
    pod
}

/// The contents of the pull secrets of a scene.
async fn secrets(cluster: &Cluster, fixture: &str) -> Vec<String> {
    let path = "/api/v1/secrets?fieldSelector=metadata.name=pullpass";
    let all = cluster.get(path).await.unwrap();
    let prefix = format!("{fixture}-");
    let of_scene = |secret: &&Value| {
        secret["metadata"]["namespace"]
            .as_str()
            .unwrap()
            .starts_with(&prefix)
    };
    let all = all["items"].as_array().unwrap().iter().filter(of_scene);
    all.map(support::fixture::read_dockerconfigjson).collect()
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
    let fixture = fixture("kubectl").await;
    let _pullpass = fixture.start().await;
    let file = fixture.file("objects.json");
    let mut objects = Vec::new();
    for number in 0..TIMES {
        let namespace = fixture.namespace_objects(&number.to_string());
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

    let applied = fixture
        .world
        .kubectl(&["apply", "-f", file.to_str().unwrap()]);

    assert_eq!(
        applied.matches("pod/first created").count(),
        TIMES,
        "{applied}"
    );
    assert!(!applied.contains("Warning"), "{applied}");
    for number in 0..TIMES {
        let namespace = fixture.namespace_name(&number.to_string());
        let pod = fixture
            .cluster
            .get(&format!("/api/v1/namespaces/{namespace}/pods/first"))
            .await;
        assert!(references(&pod.unwrap()), "{namespace}");
        assert!(fixture.has_pull_secret(&namespace).await, "{namespace}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_and_mints_nothing_on_dry_run() {
    let fixture = fixture("dryrun").await;
    let namespace = fixture.namespace("pods").await;
    let _pullpass = fixture.start().await;
    fixture.api.forget();

    let tried = fixture.try_out(&namespace, &[&image()]).await;

    assert!(references(&tried.body), "{}", tried.body);
    // A later real one waits for all that is under way in this namespace, and finds nothing done yet.
    let before = fixture.api.requests();
    assert!(
        before.iter().all(|request| request.method == "GET"),
        "{before:?}"
    );
    assert!(!fixture.has_pull_secret(&namespace).await);
    assert!(fixture.stored().await.is_empty());
    assert!(fixture.aws.requests().is_empty());
    assert!(fixture.user.minted(&fixture.world.moto).await.is_empty());
    fixture.create(&namespace, &[&image()]).await;
    assert!(fixture.has_pull_secret(&namespace).await);
    assert_eq!(fixture.user.minted(&fixture.world.moto).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaves_alone_who_did_not_opt_in() {
    let fixture = fixture("optin").await;
    let enabled = fixture.namespace("enabled").await;
    let everything = fixture.namespace_name("everything");
    let all = json!({"pullpass.dev/inject": "all", FIXTURE: fixture.name});
    make_namespace(&fixture.cluster, &everything, &all).await;
    let plain = fixture.namespace_name("plain");
    make_namespace(&fixture.cluster, &plain, &json!({FIXTURE: fixture.name})).await;
    let _pullpass = fixture.start().await;
    let (image, other) = (image(), "registry.example.com/other/app:1");

    for (namespace, image, referenced) in [
        (&enabled, image.as_str(), true),
        (&enabled, other, false),
        (&everything, image.as_str(), true),
        (&everything, other, true),
        (&plain, image.as_str(), false),
    ] {
        let created = fixture.create(namespace, &[image]).await;
        assert_eq!(references(&created.body), referenced, "{namespace} {image}");
        assert_eq!(created.warnings, [""; 0], "{namespace} {image}");
    }
    let mut out = pod(&enabled, &[&image]);
    out["metadata"]["labels"] = json!({"pullpass.dev/inject": "disabled"});
    assert!(!references(
        &fixture.cluster.create_pod(&out, "").await.ok().body
    ));
    assert!(!fixture.has_pull_secret(&plain).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn follows_registry_and_namespace_as_they_change() {
    let fixture = fixture("changes").await;
    let namespace = fixture.namespace("pods").await;
    let late = fixture.namespace_name("late");
    make_namespace(&fixture.cluster, &late, &json!({FIXTURE: fixture.name})).await;
    let _pullpass = fixture.start().await;
    let (image, pattern) = (image(), format!("{ECR}/team"));
    fixture.create(&namespace, &[&image]).await;
    let secret = fixture
        .cluster
        .secret(&namespace, "pullpass")
        .await
        .unwrap();

    // A Registry that rests, then wakes, then goes: what is in the Secret stays.
    let resting = json!({"images": [pattern], "ecr": fixture.ecr("changes"), "suspend": true});
    fixture.put_registry("changes", resting).await;
    wait_referenced(&fixture, &namespace, false).await;
    fixture.serve(&[&pattern]).await;
    wait_referenced(&fixture, &namespace, true).await;
    let registry = json!({"apiVersion": "pullpass.dev/v1alpha1", "kind": "Registry", "metadata": {"name": "changes"}});
    fixture.cluster.delete(&registry).await;
    wait_referenced(&fixture, &namespace, false).await;
    assert_eq!(
        fixture.cluster.secret(&namespace, "pullpass").await,
        Some(secret)
    );

    // A namespace that opts in later, and out again.
    fixture.serve(&[&pattern]).await;
    wait_referenced(&fixture, &namespace, true).await;
    assert!(!references(&fixture.try_out(&late, &[&image]).await.body));
    for (labels, referenced) in [
        (fixture.labels(), true),
        (json!({FIXTURE: fixture.name}), false),
    ] {
        make_namespace(&fixture.cluster, &late, &labels).await;
        wait_referenced(&fixture, &late, referenced).await;
    }
}

async fn wait_referenced(fixture: &Fixture, namespace: &str, referenced: bool) {
    wait::until("Pods to be treated as the Registries say", async || {
        let tried = fixture.try_out(namespace, &[&image()]).await;
        (references(&tried.body) == referenced).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serves_every_place_of_an_image_and_keeps_what_is_there() {
    let fixture = fixture("places").await;
    let namespace = fixture.namespace("pods").await;
    let spec = json!({
        "images": [format!("{ECR}/extra")], "ecr": fixture.ecr("places"),
        "podMetadata": {"labels": {"team": "registry"}, "annotations": {"example.com/role": "puller"}},
    });
    fixture.put_registry("places-extra", spec).await;
    let _pullpass = fixture.start().await;
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

        let created = fixture.cluster.create_pod(&pod, "").await.ok().body;

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
    let fixture = fixture("foreign").await;
    let before = fixture.namespace("before").await;
    let after = fixture.namespace("after").await;
    let foreign = |namespace: &str| {
        json!({
            "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/dockerconfigjson",
            "metadata": {"name": "pullpass", "namespace": namespace, "labels": {"app.kubernetes.io/managed-by": "Helm"}},
            "stringData": {".dockerconfigjson": "{\"auths\":{}}"},
        })
    };
    fixture.cluster.apply(&foreign(&before)).await;
    let pullpass = fixture.start().await;
    // Just made, so that no watch has shown it for sure.
    fixture.cluster.apply(&foreign(&after)).await;
    for namespace in [&before, &after] {
        let secret = fixture.cluster.secret(namespace, "pullpass").await;

        let created = fixture.create(namespace, &[&image()]).await;

        assert!(!references(&created.body), "{namespace}");
        let warnings = created.warnings.join("\n").replace("\n… ", " ");
        assert!(
            warnings.contains(&format!("Secret {namespace}/pullpass")),
            "{warnings}"
        );
        assert!(warnings.contains("rename or delete it"), "{warnings}");
        assert_eq!(fixture.cluster.secret(namespace, "pullpass").await, secret);
    }
    assert_eq!(
        pullpass
            .count("pullpass_admissions", &["reason=\"secret_not_managed\""])
            .await,
        2
    );
    // Once it is gone, the namespace gets its own.
    fixture.cluster.delete(&foreign(&before)).await;
    wait::until("a pull secret of our own", async || {
        references(&fixture.create(&before, &[&image()]).await.body).then_some(())
    })
    .await;
    let own = fixture.cluster.secret(&before, "pullpass").await.unwrap();
    assert_eq!(
        own["metadata"]["labels"]["app.kubernetes.io/managed-by"],
        "pullpass"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn repairs_what_somebody_did_to_the_pull_secret() {
    let fixture = fixture("repair").await;
    let namespace = fixture.namespace("pods").await;
    let _pullpass = fixture.start().await;
    fixture.create(&namespace, &[&image()]).await;
    let login = fixture.user.newest(&fixture.world.moto).await.unwrap();
    let made = fixture
        .cluster
        .secret(&namespace, "pullpass")
        .await
        .unwrap();
    for content in [
        "{\"auths\":{}}",
        "{\"auths\":{\"example.com\":{\"auth\":\"!\"}}}",
        "{\"auths\":[]}",
    ] {
        let object = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "pullpass", "namespace": namespace},
            "stringData": {".dockerconfigjson": content},
        });
        fixture.cluster.apply(&object).await;
        wait::until("the pull secret to be as it was", async || {
            fixture.create(&namespace, &[&image()]).await;
            let held = fixture.pull_secret(&namespace).await;
            (held != content).then_some(())
        })
        .await;
        let held = fixture.pull_secret(&namespace).await;
        assert_eq!(
            keyring::lookup(&held, &[image()]),
            [vec![login.clone()]],
            "{content}"
        );
    }
    let repaired = fixture
        .cluster
        .secret(&namespace, "pullpass")
        .await
        .unwrap();
    assert_eq!(repaired["metadata"]["uid"], made["metadata"]["uid"]);
    assert_eq!(fixture.user.minted(&fixture.world.moto).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keeps_entries_of_others_in_the_pull_secret() {
    let fixture = fixture("others").await;
    let namespace = fixture.namespace("pods").await;
    let _pullpass = fixture.start().await;
    fixture.create(&namespace, &[&image()]).await;
    let mut held: Value = serde_json::from_str(&fixture.pull_secret(&namespace).await).unwrap();
    held["auths"]["registry.example.com"] = json!({"auth": "bWU6cGFzc3dvcmQ="});
    let object = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "pullpass", "namespace": namespace},
        "stringData": {".dockerconfigjson": held.to_string()},
    });
    fixture.cluster.apply(&object).await;
    let next = User::add(&fixture.world.moto, "next-of-others").await;
    fixture.put_keys("others", &next).await;
    fixture
        .create_until_minted(&namespace, &image(), &next)
        .await;
    let found = keyring::lookup(
        &fixture.pull_secret(&namespace).await,
        &["registry.example.com/app"],
    );
    assert_eq!(found[0][0].password, "password");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaves_alone_service_account_that_enforces_mountable_secrets() {
    let fixture = fixture("mountable").await;
    let namespace = fixture.namespace("pods").await;
    let account = |name: &str, secrets: Value| {
        json!({
            "apiVersion": "v1", "kind": "ServiceAccount", "imagePullSecrets": secrets,
            "metadata": {"name": name, "namespace": namespace, "annotations": {"kubernetes.io/enforce-mountable-secrets": "true"}},
        })
    };
    fixture.cluster.apply(&account("strict", json!([]))).await;
    fixture
        .cluster
        .apply(&account("listed", json!([{"name": "pullpass"}])))
        .await;
    let _pullpass = fixture.start().await;
    for (name, referenced) in [("strict", false), ("listed", true)] {
        let mut pod = pod(&namespace, &[&image()]);
        pod["spec"]["serviceAccountName"] = name.into();

        let created = fixture.cluster.create_pod(&pod, "").await.ok();

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
    let fixture = fixture("terminating").await;
    let moto = &fixture.world.moto;
    let namespace = fixture.namespace("dying").await;
    let pullpass = fixture.start().await;
    fixture
        .user
        .fail(moto, json!({"delayMs": 60_000, "count": 100}))
        .await;
    let (cluster, served) = (fixture.cluster.clone(), pod(&namespace, &[&image()]));
    let creating = tokio::spawn(async move { cluster.create_pod(&served, "").await });
    wait::until("the mint to begin", async || {
        let begun = fixture.aws.requests();
        (!begun.is_empty()).then_some(())
    })
    .await;

    // Nobody finishes the deletion here: the namespace stays as it is.
    let path = format!("/api/v1/namespaces/{namespace}");
    fixture.cluster.send("DELETE", &path, None).await.ok();
    moto.delete("faults").await;

    creating.await.unwrap();
    pullpass.wait_logged(&["is terminating"]).await;
    assert!(!fixture.has_pull_secret(&namespace).await);
    assert_eq!(fixture.user.minted(moto).await.len(), 1);
    fixture.api.forget();
    // It does not try again by itself: other namespaces are served meanwhile.
    let other = fixture.namespace("other").await;
    fixture.create(&other, &[&image()]).await;
    assert!(fixture.has_pull_secret(&other).await);
    let again = fixture.api.requests();
    assert!(
        again
            .iter()
            .all(|request| !request.path.contains(&namespace)),
        "{again:?}"
    );
}
