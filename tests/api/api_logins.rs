//! Fixed logins before a real registry: what the status and the namespaces' Events say of one that it refuses, and of one that it takes;
//! and what they do in namespaces whose label means nothing.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use crate::support;
use serde_json::{Value, json};
use support::fixture::{FIXTURE, Fixture, references};
use support::keyring::Login;
use support::oci::Oci;
use support::process::{Launch, Pullpass, make_namespace, pod};
use support::wait;

/// Status, reason and message of a condition of the Registry `logins`.
async fn condition(fixture: &Fixture, kind: &str) -> Option<[String; 3]> {
    let path = "/apis/pullpass.dev/v1alpha1/registries/logins";
    let registry = fixture.cluster.get(path).await?;
    let mut conditions = registry["status"]["conditions"].as_array()?.iter();
    let found = conditions.find(|one| one["type"] == kind)?;
    let text = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
    Some([text("status"), text("reason"), text("message")])
}

async fn wait_for(fixture: &Fixture, kind: &str, status: &str, reason: &str) -> String {
    wait::until(&format!("{kind}={status} {reason}"), async || {
        let [is, why, message] = condition(fixture, kind).await?;
        (is == status && why == reason).then_some(message)
    })
    .await
}

/// What an Event of this reason says in a namespace.
async fn event(fixture: &Fixture, namespace: &str, reason: &str) -> Value {
    let path = format!("/api/v1/namespaces/{namespace}/events?fieldSelector=reason%3D{reason}");
    wait::until(&format!("the Event {reason} in {namespace}"), async || {
        let list = fixture.cluster.get(&path).await?;
        list["items"].as_array()?.first().cloned()
    })
    .await
}

async fn put_login(fixture: &Fixture, password: &str) {
    let data = json!({"username": "robot", "password": password});
    fixture
        .put_source("robot", "kubernetes.io/basic-auth", data)
        .await;
}

/// The namespace's label has this value.
async fn label(fixture: &Fixture, name: &str, value: &str) {
    let mut labels = fixture.labels();
    labels["pullpass.dev/inject"] = json!(value);
    make_namespace(&fixture.cluster, &fixture.namespace_name(name), &labels).await;
}

/// Starts pullpass, which trusts the registry's authority.
async fn start(fixture: &Fixture, oci: &Oci) -> Pullpass {
    let launch = fixture.launch().await;
    let mut trusted = std::fs::read(&launch.extra_ca).unwrap();
    trusted.extend(std::fs::read(oci.ca()).unwrap());
    let extra_ca = fixture.file("trusted.crt");
    std::fs::write(&extra_ca, trusted).unwrap();
    let launch = Launch {
        controller: true,
        extra_ca,
        ..launch
    };
    Pullpass::start(&launch).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn says_whether_a_real_registry_takes_a_fixed_login() {
    let fixture = Fixture::alone("logins").await;
    let oci = Oci::start(&["team/app:1"]);
    oci.allow(&Login {
        username: "robot".to_owned(),
        password: "right-canary".to_owned(),
    });
    let host = oci.url().trim_start_matches("https://").to_owned();
    put_login(&fixture, "wrong-canary").await;
    let spec = json!({"images": [host], "static": {"secretRef": {"name": "robot"}}});
    fixture.put_registry("logins", spec.clone()).await;
    // Others have the same login: it is sent once, as its account may be locked.
    for number in 0..5 {
        let name = format!("others-{number}");
        fixture.put_registry(&name, spec.clone()).await;
    }
    let shop = fixture.namespace("shop").await;
    let pullpass = start(&fixture, &oci).await;

    let message = wait_for(&fixture, "Ready", "False", "LoginRefused").await;
    assert!(message.contains(&host), "{message}");
    wait_for(&fixture, "Verified", "False", "LoginRefused").await;
    let told = event(&fixture, &shop, "LoginRefused").await;
    assert_eq!(told["type"], "Warning");
    let note = told["message"].as_str().unwrap();
    assert!(note.contains("Registry logins (LoginRefused)"), "{note}");
    assert!(!note.contains(&host), "{note}");
    wait::until("all to be refused", async || {
        (pullpass.count("pullpass_logins_refused", &[]).await == 6).then_some(())
    })
    .await;
    let tried = pullpass.count("pullpass_login_checks_total", &[]).await;
    assert_eq!(tried, 1, "once for all Registries");

    put_login(&fixture, "right-canary").await;
    wait_for(&fixture, "Ready", "True", "Provisioned").await;
    wait_for(&fixture, "Verified", "True", "LoginTaken").await;
    let told = event(&fixture, &shop, "LoginAvailable").await;
    assert_eq!(told["type"], "Normal");
    let tried = pullpass.count("pullpass_login_checks_total", &[]).await;
    assert_eq!(tried, 2, "once for each state of the Secret");

    // Another leader goes by the status.
    drop(pullpass);
    let pullpass = start(&fixture, &oci).await;
    wait::until("the other one to lead", async || {
        (pullpass.count("pullpass_leader", &[]).await == 1).then_some(())
    })
    .await;
    put_login(&fixture, "wrong-canary").await;
    wait_for(&fixture, "Ready", "False", "LoginRefused").await;
    let tried = pullpass.count("pullpass_login_checks_total", &[]).await;
    assert_eq!(tried, 1, "the new one alone");
}

/// Under the rights and policies that an admin installs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keeps_and_renews_what_is_there_where_the_label_means_nothing() {
    let fixture = Fixture::alone("odd").await;
    let oci = Oci::start(&["team/app:1"]);
    put_login(&fixture, "first-canary").await;
    let spec = json!({"images": ["a.example.com"], "static": {"secretRef": {"name": "robot"}}});
    fixture.put_registry("logins", spec).await;
    let shop = fixture.namespace("shop").await;
    let pullpass = start(&fixture, &oci).await;
    pullpass.register(&fixture.cluster, FIXTURE, "odd").await;
    wait::until("the pull secret", async || {
        fixture.cluster.secret(&shop, "pullpass").await
    })
    .await;
    let before = fixture.pull_secret(&shop).await;
    // A Pod's own label that means nothing changes nothing.
    let mut odd = pod(&shop, &["a.example.com/team/app:1"]);
    odd["metadata"]["labels"] = json!({"pullpass.dev/inject": "false"});
    let answer = fixture.cluster.create_pod(&odd, "dryRun=All").await.ok();
    assert!(references(&answer.body));
    let warning = "the Pod's label pullpass.dev/inject=false means nothing";
    let mut warnings = answer.warnings.iter();
    assert!(
        warnings.any(|one| one.contains(warning)),
        "{:?}",
        answer.warnings
    );

    label(&fixture, "shop", "true").await;
    label(&fixture, "new", "yes").await;
    let told = event(&fixture, &shop, "UnknownInjectValue").await;
    assert_eq!(told["involvedObject"]["kind"], "Namespace");
    let answered = wait::until("the warning", async || {
        let answer = fixture.try_out(&shop, &["a.example.com/team/app:1"]).await;
        let is_told = |warning: &String| warning.contains("pullpass.dev/inject=true means nothing");
        answer.warnings.iter().any(is_told).then_some(answer.body)
    })
    .await;
    assert!(!references(&answered));

    put_login(&fixture, "second-canary").await;
    wait::until("the renewed login", async || {
        (fixture.pull_secret(&shop).await != before).then_some(())
    })
    .await;
    let new = fixture.namespace_name("new");
    assert!(fixture.cluster.secret(&new, "pullpass").await.is_none());
    // `disabled` is an order.
    label(&fixture, "shop", "disabled").await;
    wait::until("the pull secret to go", async || {
        let secret = fixture.cluster.secret(&shop, "pullpass").await;
        secret.is_none().then_some(())
    })
    .await;
}
