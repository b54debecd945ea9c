//! Registries that choose among a namespace's Pods, on a real API server: which Secrets a Pod references, what the kubelet's keyring
//! finds in them, and under which rights.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::time::{Duration, Instant};

use crate::support;
use serde_json::{Value, json};
use support::account::put_account;
use support::cluster::{Answer, Cluster};
use support::fixture::{ECR, FIXTURE, Fixture, read_dockerconfigjson};
use support::grant::grant_printed;
use support::keyring::{self, Login};
use support::oci::Oci;
use support::process::{Pullpass, make_namespace, pod};
use support::roles::add_role;
use support::user::User;
use support::wait;

/// A Registry for `{ECR}/team` of a scene's namespaces, or of some of their Pods.
fn registry(fixture: &Fixture, name: &str, ecr: &Value, mut spec: Value) -> Value {
    spec["images"] = json!([format!("{ECR}/team")]);
    spec["namespaceSelector"] = json!({"matchLabels": {FIXTURE: fixture.name}});
    spec["ecr"] = ecr.clone();
    json!({
        "apiVersion": "pullpass.dev/v1alpha1", "kind": "Registry", "metadata": {"name": name}, "spec": spec,
    })
}

/// A Registry for all, one for a ServiceAccount, one for some of its Pods; each with a user of its own.
struct Levels {
    registries: Vec<Value>,
    users: [User; 3],
}

impl Levels {
    async fn new(fixture: &Fixture) -> Self {
        let names = ["", "-ci", "-release"].map(|level| format!("{}{level}", fixture.name));
        let serves = [
            json!({}),
            json!({"serviceAccountNames": ["ci"]}),
            json!({"serviceAccountNames": ["ci"], "podSelector": {"matchLabels": {"tier": "release"}}}),
        ];
        let users = [
            fixture.user.clone(),
            User::add(&fixture.world.moto, &names[1]).await,
            User::add(&fixture.world.moto, &names[2]).await,
        ];
        let mut registries = Vec::new();
        for ((name, serves), user) in names.iter().zip(serves).zip(&users) {
            fixture.put_keys(name, user).await;
            registries.push(registry(fixture, name, &fixture.ecr(name), serves));
        }
        for registry in &registries {
            fixture.cluster.apply(registry).await;
        }
        Self { registries, users }
    }

    async fn login(&self, fixture: &Fixture, level: usize) -> Option<Login> {
        self.users[level].newest(&fixture.world.moto).await
    }
}

/// An opted-in namespace with a ServiceAccount `ci`.
async fn namespace(fixture: &Fixture, name: &str) -> String {
    let namespace = fixture.namespace(name).await;
    put_account(fixture, &namespace, "ci", json!({})).await;
    namespace
}

async fn create(fixture: &Fixture, namespace: &str, account: &str, tier: &str) -> Answer {
    let mut pod = pod(namespace, &[&image()]);
    pod["spec"]["serviceAccountName"] = account.into();
    pod["metadata"]["labels"] = json!({"tier": tier});
    fixture.cluster.create_pod(&pod, "").await.ok()
}

fn image() -> String {
    format!("{ECR}/team/hello:1")
}

fn references(answer: &Answer) -> Vec<&str> {
    let secrets = answer.body["spec"]["imagePullSecrets"].as_array();
    let secrets = secrets.into_iter().flatten();
    secrets
        .map(|secret| secret["name"].as_str().unwrap())
        .collect()
}

/// What the kubelet would try first with the Pod's Secrets, those that are there, in the Pod's order.
async fn first_login(fixture: &Fixture, namespace: &str, answer: &Answer) -> Option<Login> {
    let mut held = Vec::new();
    for name in references(answer) {
        if let Some(secret) = fixture.cluster.secret(namespace, name).await {
            held.push(read_dockerconfigjson(&secret));
        }
    }
    let found = keyring::lookup_all(&held, &[image()]);
    found[0].first().cloned()
}

fn told(answer: &Answer) -> String {
    answer.warnings.join("\n").replace("\n… ", " ")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gives_each_pod_the_narrowest_login_under_the_printed_rights() {
    let fixture = Fixture::new("narrow").await;
    let levels = Levels::new(&fixture).await;
    let namespace = namespace(&fixture, "pods").await;
    // Readiness does not wait for rights that are not there.
    let pullpass = fixture.start().await;
    let advice = "pullpass needs get, list, watch, create, patch and delete on Secrets pullpass-narrow-ci: apply what `pullpass rbac` prints";
    let refused = create(&fixture, &namespace, "ci", "").await;
    assert_eq!(references(&refused), ["pullpass-narrow-ci"]);
    assert!(told(&refused).contains(advice), "{}", told(&refused));
    pullpass.wait_logged(&[advice]).await;
    let wide = create(&fixture, &namespace, "default", "").await;
    assert_eq!(
        (references(&wide), told(&wide)),
        (vec!["pullpass"], String::new())
    );
    let asked = fixture.api.all();
    let asked = asked
        .iter()
        .filter(|request| request.path.contains("metadata.name%3Dpullpass-narrow-ci"));
    assert!(asked.count() < 20, "it is asked for hotly");

    grant_printed(&fixture, &levels.registries).await;
    wait::until("the rights", async || {
        told(&create(&fixture, &namespace, "ci", "").await)
            .is_empty()
            .then_some(())
    })
    .await;
    let rows: [(&str, &str, &str, usize); 4] = [
        ("default", "", "pullpass", 0),
        ("default", "release", "pullpass", 0),
        ("ci", "", "pullpass-narrow-ci", 1),
        ("ci", "release", "pullpass-narrow-release", 2),
    ];
    for (account, tier, secret, level) in rows {
        let created = create(&fixture, &namespace, account, tier).await;
        assert_eq!(
            (references(&created), told(&created)),
            (vec![secret], String::new())
        );
        let login = first_login(&fixture, &namespace, &created).await;
        assert!(login.is_some(), "{account} {tier}");
        assert_eq!(
            login,
            levels.login(&fixture, level).await,
            "{account} {tier}"
        );
    }
    assert_rights(&fixture, &namespace).await;
    assert_pulls(&fixture, &namespace, &levels).await;
}

/// The registry takes only the narrow Registry's login: the namespace's own Secret is refused there.
async fn assert_pulls(fixture: &Fixture, namespace: &str, levels: &Levels) {
    let oci = Oci::start(&["team/hello:1"]);
    oci.allow(&levels.login(fixture, 1).await.unwrap());
    let held = async |name: &str| {
        let secret = fixture.cluster.secret(namespace, name).await;
        read_dockerconfigjson(&secret.unwrap())
    };
    oci.pull(&held("pullpass-narrow-ci").await, &image())
        .unwrap();
    let refused = oci.pull(&held("pullpass").await, &image()).unwrap_err();
    assert!(refused.contains("UNAUTHORIZED"), "{refused}");
}

/// What was printed allows these names and no others.
async fn assert_rights(fixture: &Fixture, namespace: &str) {
    let pullpass = Cluster::connect(&fixture.launch().await.kubeconfig).await;
    for (name, may) in [
        ("pullpass-narrow-ci", true),
        ("pullpass-narrow-release", true),
        ("pullpass-narrow", false),
        ("pullpass-other", false),
        ("", false),
    ] {
        for verb in ["get", "list", "watch", "create", "patch"] {
            let asked =
                json!({"verb": verb, "resource": "secrets", "namespace": namespace, "name": name});
            assert_eq!(pullpass.may(&asked).await, may, "{asked}");
        }
    }
}

/// A Pod of `ci` with a Secret of its own and two images: one that everybody may pull, and the one of these tests.
async fn create_both(fixture: &Fixture, namespace: &str) -> Answer {
    let mut pod = pod(namespace, &[&format!("{ECR}/base/os:1"), &image()]);
    pod["spec"]["serviceAccountName"] = "ci".into();
    pod["spec"]["imagePullSecrets"] = json!([{"name": "own"}]);
    fixture.cluster.create_pod(&pod, "").await.ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn references_what_is_its_own_and_asks_nobody_when_all_is_there() {
    let fixture = Fixture::new("several").await;
    let levels = Levels::new(&fixture).await;
    // An image that the narrow Registries do not serve.
    let spec = json!({"images": [format!("{ECR}/base")], "ecr": fixture.ecr("several")});
    fixture.put_registry("several-base", spec).await;
    grant_printed(&fixture, &levels.registries).await;
    let good = namespace(&fixture, "good").await;
    let foreign = namespace(&fixture, "foreign").await;
    let theirs = json!({
        "apiVersion": "v1", "kind": "Secret", "stringData": {"mine": "canary"},
        "metadata": {"name": "pullpass-several-ci", "namespace": foreign},
    });
    fixture.cluster.apply(&theirs).await;
    let pullpass = fixture.start().await;
    let both = async |namespace: &str| create_both(&fixture, namespace).await;
    let created = both(&good).await;
    assert_eq!(
        references(&created),
        ["own", "pullpass-several-ci", "pullpass"]
    );
    assert_eq!(told(&created), "");
    assert_eq!(
        first_login(&fixture, &good, &created).await,
        levels.login(&fixture, 1).await
    );

    fixture.api.forget();
    for _ in 0..20 {
        assert_eq!(references(&both(&good).await).len(), 3);
    }
    // Other scenes' Registries may have no rights yet: these are asked for again now and then.
    let mut asked = fixture.api.requests();
    asked.retain(|request| !request.path.starts_with("/api/v1/secrets?"));
    assert!(asked.is_empty(), "{asked:?}");
    let warm = ["cache=\"hit\""];
    assert!(pullpass.count("pullpass_admissions", &warm).await >= 20);

    let created = both(&foreign).await;
    assert_eq!(references(&created), ["own", "pullpass"]);
    let said = told(&created);
    assert!(
        said.contains("several-foreign/pullpass-several-ci is not managed by pullpass"),
        "{said}"
    );
    let secret = fixture
        .cluster
        .secret(&foreign, "pullpass-several-ci")
        .await
        .unwrap();
    assert_eq!(secret["data"].as_object().unwrap().len(), 1);
    assert!(secret["metadata"]["labels"].is_null());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn asks_for_tokens_of_service_accounts_under_the_printed_rights() {
    let fixture = Fixture::new("releaser").await;
    let namespace = namespace(&fixture, "pods").await;
    put_account(&fixture, &namespace, "releaser", json!({})).await;
    let role = add_role(&fixture, "releaser", &namespace, "releaser").await;
    let ecr = json!({
        "identity": {"serviceAccount": {"name": "releaser", "roleArn": role}},
        "endpoints": {"ecr": fixture.aws.url, "sts": fixture.aws.url},
    });
    let registry = registry(
        &fixture,
        "releaser",
        &ecr,
        json!({"serviceAccountNames": ["ci"]}),
    );
    fixture.cluster.apply(&registry).await;
    let _pullpass = fixture.start().await;
    let refused = create(&fixture, &namespace, "ci", "").await;
    assert_eq!(references(&refused), ["pullpass-releaser"]);
    assert!(
        told(&refused).contains("serviceaccounts/token"),
        "{}",
        told(&refused)
    );
    grant_printed(&fixture, &[registry]).await;
    wait::until("the rights", async || {
        told(&create(&fixture, &namespace, "ci", "").await)
            .is_empty()
            .then_some(())
    })
    .await;
    let created = create(&fixture, &namespace, "ci", "").await;
    let login = first_login(&fixture, &namespace, &created).await.unwrap();
    let minted = fixture.world.moto.get("minted").await;
    let mut minted = minted.as_array().unwrap().iter();
    let token = minted.find(|token| token["password"] == login.password.as_str());
    let principal = token.unwrap()["principal"].as_str().unwrap();
    assert!(principal.contains("assumed-role/releaser/"), "{principal}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keeps_narrow_secrets_where_no_pod_comes() {
    let fixture = Fixture::alone("quiet").await;
    let namespace = namespace(&fixture, "pods").await;
    let _pullpass = fixture.start_controller().await;
    let levels = Levels::new(&fixture).await;
    grant_printed(&fixture, &levels.registries).await;
    for (level, name) in ["pullpass", "pullpass-quiet-ci", "pullpass-quiet-release"]
        .into_iter()
        .enumerate()
    {
        wait::until(&format!("the login in {name}"), async || {
            let wanted = levels.login(&fixture, level).await?;
            let secret = fixture.cluster.secret(&namespace, name).await?;
            let held = read_dockerconfigjson(&secret);
            (*keyring::lookup(&held, &[image()])[0].first()? == wanted).then_some(())
        })
        .await;
    }
}

/// How often the watch on a Registry's own Secret failed.
async fn count_failures(pullpass: &Pullpass) -> Option<u32> {
    const ROW: &str = r#"pullpass_watch_failures_total{kind="registry_pull_secrets"} "#;
    let metrics = pullpass.metrics().await;
    metrics
        .lines()
        .find_map(|line| line.strip_prefix(ROW))?
        .parse()
        .ok()
}

/// Nobody applied what `pullpass rbac` prints.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn asks_ever_more_slowly_for_what_it_has_no_rights_to() {
    let fixture = Fixture::alone("norights").await;
    fixture.put_keys("ci", &fixture.user).await;
    let serves = json!({"serviceAccountNames": ["ci"]});
    let registry = registry(&fixture, "ci", &fixture.ecr("ci"), serves);
    fixture.cluster.apply(&registry).await;
    let pullpass = fixture.start_controller().await;
    let wait_for = async |failures: u32| {
        wait::until("the watch to fail", async || {
            (count_failures(&pullpass).await? >= failures).then_some(())
        })
        .await;
    };
    wait_for(1).await;
    let began = Instant::now();
    wait_for(6).await;
    let took = began.elapsed();
    println!("five more failures took {took:.1?}");
    // The pauses between them are 0.2, 0.4, 0.8, 1.6 and 3.2 seconds, or longer.
    assert!(took > Duration::from_secs(5), "{took:?}");
}

/// In a namespace with `all` every Pod has what its ServiceAccount and labels allow, also for images that it gets later.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn references_all_that_serve_the_pod_where_the_namespace_says_so() {
    let fixture = Fixture::new("every").await;
    let levels = Levels::new(&fixture).await;
    grant_printed(&fixture, &levels.registries).await;
    let namespace = namespace(&fixture, "pods").await;
    let mut labels = fixture.labels();
    labels["pullpass.dev/inject"] = "all".into();
    make_namespace(&fixture.cluster, &namespace, &labels).await;
    let _pullpass = fixture.start().await;
    let rows = [
        ("default", "release", vec!["pullpass"]),
        ("ci", "", vec!["pullpass-every-ci", "pullpass"]),
        (
            "ci",
            "release",
            vec!["pullpass-every-release", "pullpass-every-ci", "pullpass"],
        ),
    ];
    for (account, tier, expected) in rows {
        let mut pod = pod(&namespace, &["docker.io/library/busybox:1"]);
        pod["spec"]["serviceAccountName"] = account.into();
        pod["metadata"]["labels"] = json!({"tier": tier});
        let created = fixture.cluster.create_pod(&pod, "").await.ok();
        assert_eq!(
            (references(&created), told(&created)),
            (expected, String::new())
        );
        let level = references(&created).len() - 1;
        wait::until("the narrowest login", async || {
            let wanted = levels.login(&fixture, level).await?;
            let found = first_login(&fixture, &namespace, &created).await?;
            (found == wanted).then_some(())
        })
        .await;
    }
}
