//! Registries that push, on a real API server: which Secrets are there, what clients of every kind find in them, and that no Pod is
//! given one.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;

use base64::Engine as _;
use serde_json::{Value, json};

use crate::support;
use support::fixture::{ECR, FIXTURE, Fixture, read_dockerconfigjson};
use support::grant::grant_printed;
use support::keyring::{self, Login};
use support::oci::Oci;
use support::process::make_namespace;
use support::registries::cases;
use support::user::User;
use support::wait;

const HUB: &str = "https://index.docker.io/v1/";

/// A Registry that pushes to these images from a scene's namespaces; `source` is its provider.
fn pushing(fixture: &Fixture, name: &str, images: &[&str], source: &Value) -> Value {
    let mut spec = json!({
        "images": images, "access": "Push", "namespaceSelector": {"matchLabels": {FIXTURE: fixture.name}},
    });
    let provider = source.as_object().unwrap().iter().next().unwrap();
    spec[provider.0] = provider.1.clone();
    json!({
        "apiVersion": "pullpass.dev/v1alpha1", "kind": "Registry", "metadata": {"name": name}, "spec": spec,
    })
}

/// The login under each key of a Secret; `None`: it is not there.
async fn logins(
    fixture: &Fixture,
    namespace: &str,
    name: &str,
) -> Option<BTreeMap<String, String>> {
    let secret = fixture.cluster.secret(namespace, name).await?;
    let config: Value = serde_json::from_str(&read_dockerconfigjson(&secret)).unwrap();
    let auths = config["auths"].as_object().unwrap().iter();
    let read = |auth: &Value| {
        let bytes =
            base64::engine::general_purpose::STANDARD.decode(auth["auth"].as_str().unwrap());
        String::from_utf8(bytes.unwrap()).unwrap()
    };
    Some(auths.map(|(key, auth)| (key.clone(), read(auth))).collect())
}

/// Waits until the Secret has this login under exactly these keys.
async fn wait_for(fixture: &Fixture, namespace: &str, name: &str, keys: &[&str], login: &Login) {
    let wanted = format!("{}:{}", login.username, login.password);
    let wanted: BTreeMap<String, String> = keys
        .iter()
        .map(|key| ((*key).to_owned(), wanted.clone()))
        .collect();
    wait::until(&format!("the login in {namespace}/{name}"), async || {
        (logins(fixture, namespace, name).await? == wanted).then_some(())
    })
    .await;
}

async fn wait_until_gone(fixture: &Fixture, namespace: &str, name: &str) {
    wait::until(&format!("{namespace}/{name} to go"), async || {
        let secret = fixture.cluster.secret(namespace, name).await;
        secret.is_none().then_some(())
    })
    .await;
}

async fn newest(fixture: &Fixture, user: &User) -> Login {
    wait::until("the user's token", async || {
        user.newest(&fixture.world.moto).await
    })
    .await
}

/// A Registry's status once this condition has this status and reason.
async fn wait_for_condition(fixture: &Fixture, registry: &str, wanted: [&str; 3]) -> Value {
    let path = format!("/apis/pullpass.dev/v1alpha1/registries/{registry}");
    wait::until(&format!("{registry}: {wanted:?}"), async || {
        let status = fixture.cluster.get(&path).await?["status"].clone();
        let conditions = status["conditions"].as_array()?.iter();
        let mut found = conditions.filter(|one| one["type"] == wanted[0]);
        let found = found.next()?;
        (found["status"] == wanted[1] && found["reason"] == wanted[2]).then(|| status.clone())
    })
    .await
}

fn message<'s>(status: &'s Value, kind: &str) -> &'s str {
    let mut conditions = status["conditions"].as_array().unwrap().iter();
    let found = conditions.find(|one| one["type"] == kind).unwrap();
    found["message"].as_str().unwrap()
}

fn references(pod: &Value) -> Vec<&str> {
    let secrets = pod["spec"]["imagePullSecrets"].as_array();
    let secrets = secrets.into_iter().flatten();
    secrets
        .map(|secret| secret["name"].as_str().unwrap())
        .collect()
}

/// A Registry for Pods is there for an image; answers one that is not there yet, for builders, and whose keys it has.
async fn serve_pods_and_builders(fixture: &Fixture, image: &str) -> (Value, User) {
    let builder = User::add(&fixture.world.moto, "builder").await;
    fixture.put_keys("builder", &builder).await;
    fixture.serve(&[image]).await;
    let source = json!({"ecr": fixture.ecr("builder")});
    (pushing(fixture, "builds", &[image], &source), builder)
}

/// The same image has a Registry for Pods: nothing ties the two.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[allow(clippy::too_many_lines, reason = "one course of events")]
async fn keeps_the_secret_of_builders_where_no_pod_comes_and_gives_it_to_none() {
    let fixture = Fixture::alone("push").await;
    let image = format!("{ECR}/team");
    let (registry, builder) = serve_pods_and_builders(&fixture, &image).await;
    fixture.cluster.apply(&registry).await;
    let enabled = fixture.namespace("enabled").await;
    let all = fixture.namespace_name("all");
    let mut labels = fixture.labels();
    labels["pullpass.dev/inject"] = "all".into();
    make_namespace(&fixture.cluster, &all, &labels).await;
    let other = "push-other";
    make_namespace(
        &fixture.cluster,
        other,
        &json!({"pullpass.dev/inject": "all"}),
    )
    .await;
    let _pullpass = fixture.start_controller().await;
    let lacks = wait_for_condition(&fixture, "builds", ["Ready", "False", "Forbidden"]).await;
    let advice = "Secrets pullpass-builds: apply what `pullpass rbac` prints";
    assert!(message(&lacks, "Ready").contains(advice), "{lacks}");

    grant_printed(&fixture, std::slice::from_ref(&registry)).await;
    let (puller, builder) = (
        newest(&fixture, &fixture.user).await,
        newest(&fixture, &builder).await,
    );
    for namespace in [&enabled, &all] {
        wait_for(
            &fixture,
            namespace,
            "pullpass-builds",
            &[&image, ECR],
            &builder,
        )
        .await;
        wait_for(&fixture, namespace, "pullpass", &[&image], &puller).await;
    }
    for registry in ["builds", "push"] {
        let status = wait_for_condition(&fixture, registry, ["Ready", "True", "Provisioned"]).await;
        // Those two, and that in which it is asked whether the webhook is called.
        assert_eq!(status["namespaces"], json!({"ready": 3, "total": 3}));
        let status =
            wait_for_condition(&fixture, registry, ["Degraded", "False", "AsExpected"]).await;
        assert!(
            !message(&status, "Ready").contains("several logins"),
            "{status}"
        );
    }
    for (namespace, expected) in [
        (&*enabled, vec![]),
        (&*all, vec!["pullpass"]),
        (other, vec![]),
    ] {
        let pod = fixture
            .create(namespace, &["docker.io/library/busybox:1"])
            .await;
        assert_eq!(references(&pod.body), expected, "{namespace}");
        assert_eq!(pod.warnings, [] as [String; 0], "{namespace}");
    }
    for namespace in [&enabled, &all] {
        let pod = fixture
            .create(namespace, &[&format!("{image}/hello:1")])
            .await;
        assert_eq!(references(&pod.body), ["pullpass"], "{namespace}");
        assert_eq!(pod.warnings, [] as [String; 0], "{namespace}");
    }
    assert!(
        fixture
            .cluster
            .secret(other, "pullpass-builds")
            .await
            .is_none()
    );
    assert_repaired(&fixture, &enabled, &image, &builder).await;
    assert_ordered(&fixture, &registry, [&enabled, &all], &image, &builder).await;
}

/// crane's library, which kaniko and ko are made with, pushes with the Secret that builders mount, and not with that of Pods.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lets_builders_push_and_pods_pull_what_was_pushed() {
    let fixture = Fixture::alone("crane").await;
    let image = format!("{ECR}/team");
    let (registry, builder) = serve_pods_and_builders(&fixture, &image).await;
    grant_printed(&fixture, std::slice::from_ref(&registry)).await;
    fixture.cluster.apply(&registry).await;
    let namespace = fixture.namespace("builds").await;
    let _pullpass = fixture.start_controller().await;
    let (puller, builder) = (
        newest(&fixture, &fixture.user).await,
        newest(&fixture, &builder).await,
    );
    let name = "pullpass-builds";
    wait_for(&fixture, &namespace, name, &[&image, ECR], &builder).await;
    wait_for(&fixture, &namespace, "pullpass", &[&image], &puller).await;
    let pods = fixture.pull_secret(&namespace).await;
    let mounted = fixture.cluster.secret(&namespace, name).await.unwrap();
    let mounted = read_dockerconfigjson(&mounted);

    let oci = Oci::start_as(&[ECR], &[]);
    oci.allow_each(&[(&puller, &["pull"]), (&builder, &["pull", "push"])]);
    let built = format!("{image}/built:1");
    let refused = oci.push(&pods, &built).unwrap_err();
    assert!(refused.contains("UNAUTHORIZED"), "{refused}");
    oci.pull(&pods, &built).unwrap_err();
    let pushed = oci.push(&mounted, &built).unwrap();
    let found = oci.pull(&pods, &built).unwrap();
    assert_eq!(found["digest"], pushed["digest"]);
}

/// A host's own key is put back as any other login.
async fn assert_repaired(fixture: &Fixture, namespace: &str, image: &str, login: &Login) {
    let name = "pullpass-builds";
    let mut secret = fixture.cluster.secret(namespace, name).await.unwrap();
    let config: Value = serde_json::from_str(&read_dockerconfigjson(&secret)).unwrap();
    let less = json!({"auths": {image: config["auths"][image]}}).to_string();
    let less = base64::engine::general_purpose::STANDARD.encode(less);
    secret["data"][".dockerconfigjson"] = less.into();
    secret["metadata"]
        .as_object_mut()
        .unwrap()
        .remove("managedFields");
    let path = format!("/api/v1/namespaces/{namespace}/secrets/{name}");
    fixture.cluster.send("PUT", &path, Some(&secret)).await.ok();
    wait_for(fixture, namespace, name, &[image, ECR], login).await;
}

/// What an admin changes acts at once: other images, for Pods instead of builders, fewer namespaces, none.
async fn assert_ordered(
    fixture: &Fixture,
    registry: &Value,
    [one, other]: [&str; 2],
    image: &str,
    login: &Login,
) {
    let name = "pullpass-builds";
    let more = format!("{ECR}/more");
    let mut changed = registry.clone();
    changed["spec"]["images"] = json!([image, more]);
    fixture.cluster.apply(&changed).await;
    wait_for(fixture, one, name, &[image, &more, ECR], login).await;
    // The Secret has the same name then, and no more the host's own key.
    changed["spec"]["access"] = "Pull".into();
    changed["spec"]["serviceAccountNames"] = json!(["ci"]);
    fixture.cluster.apply(&changed).await;
    wait_for(fixture, one, name, &[image, &more], login).await;
    fixture.cluster.apply(registry).await;
    wait_for(fixture, one, name, &[image, ECR], login).await;
    let mut fewer = registry.clone();
    fewer["spec"]["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"] = one.into();
    fixture.cluster.apply(&fewer).await;
    wait_until_gone(fixture, other, name).await;
    wait_for(fixture, one, name, &[image, ECR], login).await;
    fixture.cluster.delete(registry).await;
    wait_until_gone(fixture, one, name).await;
}

/// The login moves to the Secret of builders and back: no key is left behind, and a Pod gets what is true by then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn moves_a_login_when_a_registry_pushes_and_when_it_pulls_again() {
    let fixture = Fixture::alone("moved").await;
    let login = Login {
        username: "robot".to_owned(),
        password: "secret".to_owned(),
    };
    let basic = json!({"username": login.username, "password": login.password});
    fixture
        .put_source("robot", "kubernetes.io/basic-auth", basic)
        .await;
    let source = json!({"static": {"secretRef": {"name": "robot"}}});
    let (team, other) = ("localhost:9/team", "localhost:9/other");
    let push = pushing(&fixture, "moved", &[team], &source);
    let mut pull = push.clone();
    pull["spec"]["access"] = "Pull".into();
    let mut spec = source.clone();
    spec["images"] = json!([other]);
    fixture.put_registry("stays", spec).await;
    grant_printed(&fixture, std::slice::from_ref(&push)).await;
    fixture.cluster.apply(&pull).await;
    let namespace = fixture.namespace("shop").await;
    let _pullpass = fixture.start_controller().await;
    let image = format!("{team}/app:1");
    for _ in 0..2 {
        // Whoever gets the reference finds the login there, however early the Pod comes.
        let pod = wait::until("a Pod with the reference", async || {
            let pod = fixture.create(&namespace, &[&image]).await;
            (!references(&pod.body).is_empty()).then_some(pod)
        })
        .await;
        assert_eq!(references(&pod.body), ["pullpass"]);
        let held = logins(&fixture, &namespace, "pullpass").await.unwrap();
        assert!(held.contains_key(team), "{held:?}");
        wait_for(&fixture, &namespace, "pullpass", &[team, other], &login).await;
        wait_until_gone(&fixture, &namespace, "pullpass-moved").await;

        fixture.cluster.apply(&push).await;
        let keys = [team, "localhost:9"];
        wait_for(&fixture, &namespace, "pullpass-moved", &keys, &login).await;
        wait_for(&fixture, &namespace, "pullpass", &[other], &login).await;
        let pod = fixture.create(&namespace, &[&image]).await;
        assert_eq!(references(&pod.body), [] as [&str; 0]);
        let status = wait_for_condition(&fixture, "moved", ["Ready", "True", "Provisioned"]).await;
        // The namespace, and that in which it is asked whether the webhook is called.
        assert_eq!(status["namespaces"], json!({"ready": 2, "total": 2}));

        fixture.cluster.apply(&pull).await;
    }
    wait_until_gone(&fixture, &namespace, "pullpass-moved").await;
    wait_for(&fixture, &namespace, "pullpass", &[team, other], &login).await;
}

/// Docker Hub's login is under the key that Docker's clients look up, and a source Secret with several logins for one host is told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[allow(clippy::too_many_lines, reason = "one course of events")]
async fn gives_fixed_logins_their_hosts_keys_and_tells_hosts_with_several() {
    let fixture = Fixture::alone("fixed").await;
    let basic = json!({"username": "robot", "password": "secret"});
    fixture
        .put_source("hub", "kubernetes.io/basic-auth", basic)
        .await;
    let entry = |user: &str| json!({"username": user, "password": "secret"});
    let several = json!({"auths": {"localhost:9/b": entry("ub"), "localhost:9/z": entry("uz")}});
    let data = json!({".dockerconfigjson": several.to_string()});
    fixture
        .put_source("several", "kubernetes.io/dockerconfigjson", data)
        .await;
    let source = |name: &str| json!({"static": {"secretRef": {"name": name}}});
    let hub = pushing(&fixture, "hub", &["docker.io/team"], &source("hub"));
    let several = pushing(
        &fixture,
        "several",
        &["localhost:9/z", "localhost:9/b"],
        &source("several"),
    );
    grant_printed(&fixture, &[hub.clone(), several.clone()]).await;
    for registry in [&hub, &several] {
        fixture.cluster.apply(registry).await;
    }
    let namespace = fixture.namespace("builds").await;
    let _pullpass = fixture.start_controller().await;
    let login = Login {
        username: "robot".to_owned(),
        password: "secret".to_owned(),
    };
    let keys = ["docker.io/team", "docker.io", HUB];
    wait_for(&fixture, &namespace, "pullpass-hub", &keys, &login).await;
    let of_host = |user: &str| format!("{user}:secret");
    let wanted = BTreeMap::from([
        ("localhost:9".to_owned(), of_host("uz")),
        ("localhost:9/b".to_owned(), of_host("ub")),
        ("localhost:9/z".to_owned(), of_host("uz")),
    ]);
    wait::until("the logins of one host", async || {
        (logins(&fixture, &namespace, "pullpass-several").await? == wanted).then_some(())
    })
    .await;
    let status =
        wait_for_condition(&fixture, "several", ["Degraded", "True", "SeveralLogins"]).await;
    let said = message(&status, "Degraded");
    for part in [
        "Secret pullpass-several has several logins for localhost:9",
        "kaniko",
        "one login for that host",
    ] {
        assert!(said.contains(part), "{said}");
    }
}

/// Pods' own Secret may have several logins for a host: it is said who cannot use it, and what instead.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tells_which_secret_clients_can_use_that_know_hosts_alone() {
    let fixture = Fixture::alone("clients").await;
    let users = ["one", "other", "builder"];
    for name in users {
        let user = User::add(&fixture.world.moto, name).await;
        fixture.put_keys(name, &user).await;
    }
    for name in ["one", "other"] {
        let spec = json!({"images": [format!("{ECR}/{name}")], "ecr": fixture.ecr(name)});
        fixture.put_registry(name, spec).await;
    }
    let namespace = fixture.namespace("pods").await;
    let _pullpass = fixture.start_controller().await;
    for name in ["one", "other"] {
        let status = wait_for_condition(&fixture, name, ["Ready", "True", "Provisioned"]).await;
        let said = message(&status, "Ready").to_owned();
        let several =
            format!("in namespace {namespace} Secret pullpass has several logins for {ECR}");
        assert!(said.contains(&several), "{said}");
        assert!(
            said.contains("with access Push and one login for that host"),
            "{said}"
        );
        wait_for_condition(&fixture, name, ["Degraded", "False", "AsExpected"]).await;
    }
    let source = json!({"ecr": fixture.ecr("builder")});
    // One that is for a part of it alone is not offered.
    let images = ["one", "other"].map(|name| format!("{ECR}/{name}"));
    let builds = pushing(&fixture, "builds", &[&images[0], &images[1]], &source);
    grant_printed(&fixture, std::slice::from_ref(&builds)).await;
    fixture.cluster.apply(&builds).await;
    wait::until("the Secret that they can use", async || {
        let status = wait_for_condition(&fixture, "one", ["Ready", "True", "Provisioned"]).await;
        message(&status, "Ready")
            .ends_with("let them mount Secret pullpass-builds (Registry builds)")
            .then_some(())
    })
    .await;
    let status = wait_for_condition(&fixture, "builds", ["Ready", "True", "Provisioned"]).await;
    assert!(
        !message(&status, "Ready").contains("several logins"),
        "{status}"
    );
    let held = fixture.pull_secret(&namespace).await;
    let found = keyring::lookup(&held, &[format!("{ECR}/unknown:1")]);
    assert!(found[0].is_empty(), "a host's own key is in pullpass");
    assert_checked(&fixture, &namespace);
}

/// `check` says the same of the Secrets that are there, and of an image that Registries for builders alone are for.
fn assert_checked(fixture: &Fixture, namespace: &str) {
    let only = json!({
        "apiVersion": "pullpass.dev/v1alpha1", "kind": "Registry", "metadata": {"name": "only"},
        "spec": {
            "images": ["localhost:9/only"], "access": "Push", "namespaceSelector": {"matchLabels": {FIXTURE: fixture.name}},
            "static": {"secretRef": {"name": "one"}},
        },
    });
    let file = fixture.file("only.json");
    std::fs::write(&file, only.to_string()).unwrap();
    let check = |arguments: &[&str]| -> Vec<Value> {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_pullpass"))
            .args(["check", "-o", "json", "-n", namespace, "--kubeconfig"])
            .arg(fixture.world.kubeconfig())
            .args(arguments)
            .output()
            .unwrap();
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        report["checks"].as_array().unwrap().clone()
    };
    let found = check(&[]);
    let several: Vec<&Value> = found
        .iter()
        .filter(|one| one["id"] == "SeveralLogins")
        .collect();
    assert_eq!(several.len(), 1, "{found:?}");
    let message = several[0]["message"].as_str().unwrap();
    assert_eq!(several[0]["status"], "ok", "Pods are well");
    assert!(
        message.contains("let them mount Secret pullpass-builds"),
        "{message}"
    );
    let served = found.iter().find(|one| one["step"] == "serves").unwrap();
    let message = served["message"].as_str().unwrap();
    assert!(message.contains("builds (access Push)"), "{message}");
    let found = check(&["-f", file.to_str().unwrap(), "localhost:9/only/x:1"]);
    let served = found.iter().find(|one| one["id"] == "PushOnly").unwrap();
    let fix = served["fix"].as_str().unwrap();
    assert!(
        fix.contains("builders mount the Secret of Registry only"),
        "{fix}"
    );
}

/// What the API server refuses it refuses in the words that files are refused with.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refuses_what_does_not_go_with_push_in_the_words_of_files() {
    let fixture = Fixture::new("rules").await;
    let mut refused = 0;
    for case in cases() {
        if case.spec["access"] != "Push" || case.fields.is_empty() {
            continue;
        }
        let registry = serde_json::from_value(case.object()).unwrap();
        let registries = pullpass::registry::Registries::build([registry]);
        let path = "/apis/pullpass.dev/v1alpha1/registries?dryRun=All";
        let answer = fixture
            .cluster
            .send("POST", path, Some(&case.object()))
            .await;
        assert_eq!(answer.status.as_u16(), 422, "{}", case.title);
        let said = answer.body["message"].as_str().unwrap();
        for problem in registries.problems() {
            assert!(said.contains(&problem.message), "{}: {said}", case.title);
            refused += 1;
        }
    }
    assert!(refused >= 7, "{refused}");
}
