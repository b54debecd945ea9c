//! Which credentials a namespace's pull secret holds, judged by the kubelet's own keyring and by real pulls.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed"
)]

use std::collections::BTreeMap;

use crate::support;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};
use support::fixture::{ECR, Fixture, references};
use support::keyring::{self, Login};
use support::oci::Oci;
use support::process::Pullpass;
use support::user::User;
use support::wait;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    registries: Vec<TableRegistry>,
    images: Vec<TableImage>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TableRegistry {
    name: String,
    images: Vec<String>,
    #[serde(default, rename = "excludedImages")]
    excluded_images: Vec<String>,
    user: Option<String>,
    secret: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TableImage {
    image: String,
    login: Option<String>,
}

impl Table {
    fn load() -> Self {
        serde_saphyr::from_str(include_str!("../data/keyring.yaml")).expect("the table is YAML")
    }

    /// Makes the users, source Secrets and Registries of the table.
    async fn set_up(&self, fixture: &Fixture) -> BTreeMap<String, User> {
        let mut users = BTreeMap::new();
        for name in self
            .registries
            .iter()
            .filter_map(|registry| registry.user.as_ref())
        {
            let user = User::add(&fixture.world.moto, &format!("{name}-of-keyring")).await;
            fixture.put_keys(&format!("keyring-{name}"), &user).await;
            users.insert(name.clone(), user);
        }
        put_fixed_logins(fixture).await;
        for registry in &self.registries {
            let mut spec =
                json!({"images": registry.images, "excludedImages": registry.excluded_images});
            match (&registry.user, &registry.secret) {
                (Some(user), None) => spec["ecr"] = fixture.ecr(&format!("keyring-{user}")),
                (None, Some(secret)) => spec["static"] = json!({"secretRef": {"name": secret}}),
                _ => panic!("{}: give user or secret", registry.name),
            }
            fixture
                .put_registry(&format!("keyring-{}", registry.name), spec)
                .await;
        }
        users
    }
}

/// The source Secrets with fixed logins; the password of each user says whose it is.
async fn put_fixed_logins(fixture: &Fixture) {
    let basic = json!({"username": "basic-user", "password": "password-of-basic-user"});
    fixture
        .put_source("keyring-basic", "kubernetes.io/basic-auth", basic)
        .await;
    let entry = |user: &str| json!({"username": user, "password": format!("password-of-{user}")});
    let auths = json!({"auths": {
        "ghcr.io": entry("ghcr-user"),
        "quay.io/acme/private": {"auth": STANDARD.encode("quay-user:password-of-quay-user")},
        "https://index.docker.io/v1/": entry("hub-user"),
        "registry.gitlab.com": entry("gitlab-user"),
    }});
    put_dockerconfigjson(fixture, "keyring-docker", &auths).await;
}

async fn put_dockerconfigjson(fixture: &Fixture, name: &str, content: &Value) {
    let data = json!({".dockerconfigjson": content.to_string()});
    fixture
        .put_source(name, "kubernetes.io/dockerconfigjson", data)
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn holds_the_meant_login_first_for_every_image() {
    let fixture = Fixture::new("keyring").await;
    let table = Table::load();
    let users = table.set_up(&fixture).await;
    let namespace = fixture.namespace("pods").await;
    let _pullpass = fixture.start().await;
    let served = table.images.iter().filter(|row| row.login.is_some());
    let served: Vec<&str> = served.map(|row| row.image.as_str()).collect();

    let created = fixture.create(&namespace, &served).await;

    assert!(references(&created.body), "{}", created.body);
    assert_eq!(created.warnings, [""; 0]);
    let held = fixture.pull_secret(&namespace).await;
    let images: Vec<&str> = table.images.iter().map(|row| row.image.as_str()).collect();
    let found = keyring::lookup(&held, &images);
    for (row, found) in table.images.iter().zip(found) {
        match &row.login {
            None => assert_eq!(found, [], "{}", row.image),
            Some(login) => check_login(&row.image, found.first(), login, users.get(login)),
        }
    }
    check_form(&fixture, &namespace).await;
    check_stored(&fixture).await;
}

fn check_login(image: &str, found: Option<&Login>, login: &str, user: Option<&User>) {
    let found = found.unwrap_or_else(|| panic!("{image}: no login"));
    let Some(user) = user else {
        assert_eq!(found.username, login, "{image}");
        assert_eq!(found.password, format!("password-of-{login}"), "{image}");
        return;
    };
    // The password says who minted it, and where.
    let place = image
        .split('.')
        .nth(3)
        .filter(|_| image.contains(".dkr.ecr."));
    let minted = format!("{}|{}|", user.principal, place.unwrap_or("public"));
    assert_eq!(found.username, "AWS", "{image}");
    assert!(
        found.password.starts_with(&minted),
        "{image}: {}",
        found.password
    );
}

/// What it was written from is not backed up either.
async fn check_stored(fixture: &Fixture) {
    let stored = fixture.stored().await;
    assert!(!stored.is_empty());
    for secret in &stored {
        let labels = &secret["metadata"]["labels"];
        assert_eq!(labels["velero.io/exclude-from-backup"], "true", "{labels}");
        assert_eq!(
            labels["app.kubernetes.io/managed-by"], "pullpass",
            "{labels}"
        );
    }
}

/// What stands in a namespace is what the kubelet and people need, and nothing else.
async fn check_form(fixture: &Fixture, namespace: &str) {
    let secret = fixture.cluster.secret(namespace, "pullpass").await.unwrap();
    assert_eq!(secret["type"], "kubernetes.io/dockerconfigjson");
    assert_eq!(
        secret["metadata"]["labels"],
        json!({"app.kubernetes.io/managed-by": "pullpass", "velero.io/exclude-from-backup": "true"})
    );
    let held: Value = serde_json::from_str(&fixture.pull_secret(namespace).await).unwrap();
    assert_eq!(
        held.as_object().unwrap().keys().collect::<Vec<_>>(),
        ["auths"]
    );
    for (key, entry) in held["auths"].as_object().unwrap() {
        assert_eq!(
            entry.as_object().unwrap().keys().collect::<Vec<_>>(),
            ["auth"],
            "{key}"
        );
    }
    let annotation = |name: &str| {
        secret["metadata"]["annotations"][name]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let covers = annotation("pullpass.dev/covers");
    for (key, registry) in [
        (format!("{ECR}/payments"), "keyring-payments"),
        ("*.corp.example".to_owned(), "keyring-basic"),
    ] {
        let line = format!("{key}: Registry {registry}");
        assert!(
            covers.lines().any(|found| found.starts_with(&line)),
            "{line} is not in\n{covers}"
        );
    }
    assert!(
        covers.contains(&annotation("pullpass.dev/expiration-time")),
        "{covers}"
    );
}

/// dockerconfigjson has no negative entry, and the kubelet compares paths byte by byte.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lets_kubelet_offer_a_login_beyond_its_registry_in_two_cases_alone() {
    let fixture = Fixture::new("beyond").await;
    let pattern = |path: &str| format!("{ECR}/{path}");
    let spec = json!({"images": [pattern("pay")], "excludedImages": [pattern("pay/secret")], "ecr": fixture.ecr("beyond")});
    fixture.put_registry("beyond", spec).await;
    let namespace = fixture.namespace("pods").await;
    let _pullpass = fixture.start().await;
    let (sibling, excluded) = (pattern("payments:1"), pattern("pay/secret:1"));

    // pullpass itself serves neither.
    for image in [&sibling, &excluded] {
        let created = fixture.create(&namespace, &[image]).await;
        assert!(!references(&created.body), "{image}");
    }
    assert!(!fixture.has_pull_secret(&namespace).await);

    fixture.create(&namespace, &[&pattern("pay:1")]).await;
    let held = fixture.pull_secret(&namespace).await;
    let login = fixture.user.newest(&fixture.world.moto).await.unwrap();
    let images = [sibling, excluded, pattern("pa:1")];
    assert_eq!(
        keyring::lookup(&held, &images),
        [vec![login.clone()], vec![login], vec![]]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pulls_with_what_its_identity_minted_and_nothing_else() {
    let fixture = Fixture::new("pulls").await;
    let other = User::add(&fixture.world.moto, "other-of-pulls").await;
    fixture.put_keys("pulls-other", &other).await;
    fixture.serve(&[&format!("{ECR}/team")]).await;
    let spec = json!({"images": [format!("{ECR}/other")], "ecr": fixture.ecr("pulls-other")});
    fixture.put_registry("pulls-other", spec).await;
    let namespace = fixture.namespace("pods").await;
    let _pullpass = fixture.start().await;
    let oci = Oci::start(&["team/hello:1", "other/hello:1"]);
    let images = [
        format!("{ECR}/team/hello:1"),
        format!("{ECR}/other/hello:1"),
    ];
    for image in &images {
        fixture.create(&namespace, &[image]).await;
    }
    let held = fixture.pull_secret(&namespace).await;

    for (image, user, wrong) in [
        (&images[0], &fixture.user, &other),
        (&images[1], &other, &fixture.user),
    ] {
        oci.allow(&user.newest(&fixture.world.moto).await.unwrap());
        let pulled = oci.pull(&held, image);
        assert_eq!(pulled.unwrap()["username"], "AWS", "{image}");
        oci.allow(&wrong.newest(&fixture.world.moto).await.unwrap());
        let refused = oci.pull(&held, image).unwrap_err();
        assert!(refused.contains("UNAUTHORIZED"), "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pulls_with_fixed_login_and_takes_a_rotated_one() {
    let fixture = Fixture::new("fixed").await;
    let login = |password: &str| Login {
        username: "robot".to_owned(),
        password: password.to_owned(),
    };
    let put = async |login: &Login| {
        let data = json!({"username": login.username, "password": login.password});
        fixture
            .put_source("fixed-login", "kubernetes.io/basic-auth", data)
            .await;
    };
    put(&login("first")).await;
    let spec = json!({"images": ["registry.example.com/team"], "static": {"secretRef": {"name": "fixed-login"}}});
    fixture.put_registry("fixed", spec).await;
    let namespace = fixture.namespace("pods").await;
    let _pullpass = fixture.start().await;
    let oci = Oci::start(&["team/hello:1"]);
    let image = "registry.example.com/team/hello:1";

    fixture.create(&namespace, &[image]).await;
    oci.allow(&login("first"));
    oci.pull(&fixture.pull_secret(&namespace).await, image)
        .unwrap();

    put(&login("second")).await;
    fixture
        .create_until(&namespace, image, &login("second"))
        .await;
    oci.allow(&login("second"));
    oci.pull(&fixture.pull_secret(&namespace).await, image)
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn warns_of_a_source_that_holds_no_login() {
    let fixture = Fixture::new("nologin").await;
    let helpers = json!({"credHelpers": {"registry.example.com": "ecr-login"}});
    put_dockerconfigjson(&fixture, "nologin-helpers", &helpers).await;
    for (name, secret) in [
        ("helpers", "nologin-helpers"),
        ("missing", "nologin-missing"),
    ] {
        let images = [format!("registry.example.com/{name}")];
        let spec = json!({"images": images, "static": {"secretRef": {"name": secret}}});
        fixture.put_registry(&format!("nologin-{name}"), spec).await;
    }
    let namespace = fixture.namespace("pods").await;
    let _pullpass = fixture.start().await;

    for (name, words) in [
        // What is in it is not for who creates Pods.
        (
            "helpers",
            "(MalformedSource), so that its images cannot be pulled",
        ),
        ("missing", "create or label it"),
    ] {
        let created = fixture
            .create(&namespace, &[&format!("registry.example.com/{name}/app:1")])
            .await;
        assert!(references(&created.body));
        let warnings = unwrap_lines(&created.warnings);
        assert!(warnings.contains(words), "{warnings}");
        assert!(warnings.contains(&format!("nologin-{name}")), "{warnings}");
    }
    assert!(!fixture.has_pull_secret(&namespace).await);

    // As soon as the source holds one, the next Pod has it.
    let auths =
        json!({"auths": {"registry.example.com": {"username": "robot", "password": "late"}}});
    put_dockerconfigjson(&fixture, "nologin-missing", &auths).await;
    wait::until("the pull secret", async || {
        fixture
            .create(&namespace, &["registry.example.com/missing/app:1"])
            .await;
        fixture.has_pull_secret(&namespace).await.then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn renews_expired_token_with_the_next_pod() {
    let fixture = Fixture::new("renewal").await;
    fixture.user.set_life(&fixture.world.moto, 2).await;
    let image = format!("{ECR}/team/hello:1");
    fixture.serve(&[&format!("{ECR}/team")]).await;
    let namespace = fixture.namespace("pods").await;
    let _pullpass = fixture.start().await;
    fixture.create(&namespace, &[&image]).await;
    let before = fixture
        .cluster
        .secret(&namespace, "pullpass")
        .await
        .unwrap();
    let first = fixture.user.minted(&fixture.world.moto).await[0].clone();
    let end: jiff::Timestamp = first["expiresAt"].as_str().unwrap().parse().unwrap();
    wait::until("the token's end", async || {
        (jiff::Timestamp::now() > end).then_some(())
    })
    .await;
    fixture.user.set_life(&fixture.world.moto, 43200).await;

    let created = fixture.create(&namespace, &[&image]).await;

    assert_eq!(created.warnings, [""; 0]);
    let held = fixture.pull_secret(&namespace).await;
    let second = fixture.user.newest(&fixture.world.moto).await.unwrap();
    assert_ne!(second.password, first["password"].as_str().unwrap());
    assert_eq!(keyring::lookup(&held, &[&image]), [vec![second]]);
    // The same Secret, in place: the kubelet's records of pulled images hang on its UID.
    let after = fixture
        .cluster
        .secret(&namespace, "pullpass")
        .await
        .unwrap();
    assert_eq!(before["metadata"]["uid"], after["metadata"]["uid"]);
    assert_eq!(fixture.user.minted(&fixture.world.moto).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mints_with_rotated_keys_without_a_restart() {
    let fixture = Fixture::new("rotation").await;
    let image = format!("{ECR}/team/hello:1");
    fixture.serve(&[&format!("{ECR}/team")]).await;
    let namespace = fixture.namespace("pods").await;
    let _pullpass = fixture.start().await;
    fixture.create(&namespace, &[&image]).await;
    let next = User::add(&fixture.world.moto, "next-of-rotation").await;
    fixture.put_keys("rotation", &next).await;
    fixture.create_until_minted(&namespace, &image, &next).await;
    assert_eq!(next.minted(&fixture.world.moto).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn admits_pod_and_says_what_to_do_when_minting_fails() {
    let fixture = Fixture::new("failing").await;
    let moto = &fixture.world.moto;
    let denied = User::add_with(moto, "denied-of-failing", Some(json!([]))).await;
    let unknown = User {
        name: "unknown-of-failing".to_owned(),
        principal: String::new(),
    };
    for (name, user) in [("denied", &denied), ("unknown", &unknown)] {
        fixture.put_keys(&format!("failing-{name}"), user).await;
        let spec = json!({"images": [format!("{ECR}/{name}")], "ecr": fixture.ecr(&format!("failing-{name}"))});
        fixture.put_registry(&format!("failing-{name}"), spec).await;
    }
    fixture.serve(&[&format!("{ECR}/good")]).await;
    let namespace = fixture.namespace("pods").await;
    let pullpass = fixture.start().await;

    for (name, words, reason) in [
        ("denied", "ecr:GetAuthorizationToken", "(AccessDenied)"),
        (
            "unknown",
            "UnrecognizedClientException",
            "(UnrecognizedClient)",
        ),
    ] {
        let created = fixture
            .create(&namespace, &[&format!("{ECR}/{name}/app:1")])
            .await;
        assert!(references(&created.body), "{name}");
        check_told(&pullpass, &created.warnings, name, (words, reason)).await;
    }
    assert!(pullpass.count("pullpass_mints", &["access_denied"]).await > 0);
    // One dead Registry never holds up the others in the same Secret.
    let images = [format!("{ECR}/denied/app:1"), format!("{ECR}/good/app:1")];
    let created = fixture.create(&namespace, &[&images[0], &images[1]]).await;
    assert!(references(&created.body));
    let held = fixture.pull_secret(&namespace).await;
    let login = fixture.user.newest(moto).await.unwrap();
    assert_eq!(keyring::lookup(&held, &images), [vec![], vec![login]]);
}

/// Warnings in full: a long one comes in several lines.
fn unwrap_lines(warnings: &[String]) -> String {
    warnings.join("\n").replace("\n… ", " ")
}

/// The log says which Registry, which host, which permission; the warning, to whoever creates Pods, which Registry and why in a word. Neither
/// holds a secret.
async fn check_told(
    pullpass: &Pullpass,
    warnings: &[String],
    name: &str,
    (words, reason): (&str, &str),
) {
    let warnings = unwrap_lines(warnings);
    let registry = format!("failing-{name}");
    let log = pullpass.wait_logged(&[words, &registry]).await;
    assert!(
        warnings.contains(&format!("Registry failing-{name}")),
        "{warnings}"
    );
    assert!(warnings.contains(reason), "{warnings}");
    for of_cloud in [words, "123456789012", "it said"] {
        assert!(!warnings.contains(of_cloud), "{warnings}");
    }
    for secret in ["canary/", "Signature="] {
        assert!(
            !warnings.contains(secret) && !log.contains(secret),
            "{secret} in {warnings} or {log}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_in_time_while_minting_hangs_and_finishes_afterwards() {
    let fixture = Fixture::new("hanging").await;
    let moto = &fixture.world.moto;
    let image = format!("{ECR}/team/hello:1");
    fixture.serve(&[&format!("{ECR}/team")]).await;
    let namespace = fixture.namespace("pods").await;
    let pullpass = Pullpass::start(&fixture.launch().await).await;
    // Less time for an answer than a mint may take.
    pullpass
        .register_with(
            &fixture.cluster,
            support::fixture::FIXTURE,
            fixture.name,
            Some(2),
        )
        .await;
    fixture
        .user
        .fail(moto, json!({"delayMs": 60_000, "count": 100}))
        .await;

    let created = fixture.create(&namespace, &[&image]).await;

    // failurePolicy is Ignore: the reference is there because pullpass answered in time.
    assert!(references(&created.body));
    assert!(!created.warnings.is_empty());
    assert!(!fixture.has_pull_secret(&namespace).await);
    assert!(
        pullpass
            .count(
                "pullpass_admissions",
                &["outcome=\"pending\"", "cache=\"miss\""]
            )
            .await
            == 1
    );
    moto.delete("faults").await;
    wait::until("the mint to finish in the background", async || {
        fixture.has_pull_secret(&namespace).await.then_some(())
    })
    .await;
    let login = fixture.user.newest(moto).await.unwrap();
    let held = fixture.pull_secret(&namespace).await;
    assert_eq!(keyring::lookup(&held, &[&image]), [vec![login]]);
}
