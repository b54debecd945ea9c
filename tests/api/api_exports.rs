//! Exports on a real API server: which Secrets are there, in which form, and that they are renewed, repaired, removed and counted as pull
//! secrets are.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::support;
use support::fixture::{ECR, FIXTURE, Fixture};
use support::grant::grant_printed;
use support::keyring::Login;
use support::process::make_namespace;
use support::registries::cases;
use support::wait;

const IMAGE: &str = "localhost:9/charts";
const ARGO_CD: &str = "argocd.argoproj.io/secret-type";

/// The exports of a Registry: name and format.
const EXPORTS: [(&str, &str); 4] = [
    ("file", "DockerConfig"),
    ("user", "BasicAuth"),
    ("argo", "ArgoCDRepository"),
    ("creds", "ArgoCDRepositoryCreds"),
];

/// A Registry of a fixed login with these exports, for a scene's namespaces.
fn exporting(fixture: &Fixture, exports: &[(&str, &str)]) -> Value {
    let exports = exports.iter();
    let exports = exports.map(|(name, format)| json!({"name": name, "format": format}));
    json!({
        "apiVersion": "pullpass.dev/v1alpha1", "kind": "Registry", "metadata": {"name": "charts"},
        "spec": {
            "images": [IMAGE], "namespaceSelector": {"matchLabels": {FIXTURE: fixture.name}},
            "static": {"secretRef": {"name": "login"}}, "exports": exports.collect::<Vec<_>>(),
        },
    })
}

async fn put_login(fixture: &Fixture, password: &str) {
    let login = json!({"username": "robot", "password": password});
    fixture
        .put_source("login", "kubernetes.io/basic-auth", login)
        .await;
}

/// What a Secret is: its type, Argo CD's label, and what is under each key.
type Form = (String, Option<String>, BTreeMap<String, String>);

fn form_of(secret: &Value) -> Form {
    let data = secret["data"].as_object().into_iter().flatten();
    let read = |text: &Value| {
        let bytes = STANDARD.decode(text.as_str().unwrap()).unwrap();
        String::from_utf8(bytes).unwrap()
    };
    let label = secret["metadata"]["labels"][ARGO_CD].as_str();
    (
        secret["type"].as_str().unwrap().to_owned(),
        label.map(str::to_owned),
        data.map(|(key, text)| (key.clone(), read(text))).collect(),
    )
}

/// What a Secret of this format is, with this password.
fn expected(format: &str, password: &str) -> Form {
    let auth = STANDARD.encode(format!("robot:{password}"));
    let config =
        json!({"auths": {"localhost:9": {"auth": auth}, IMAGE: {"auth": auth}}}).to_string();
    let argo = [
        ("url", IMAGE),
        ("type", "helm"),
        ("enableOCI", "true"),
        ("username", "robot"),
        ("password", password),
    ];
    let (type_, label, data): (_, _, &[(&str, &str)]) = match format {
        "DockerConfig" => (
            "kubernetes.io/dockerconfigjson",
            None,
            &[(".dockerconfigjson", &config), ("config.json", &config)],
        ),
        "BasicAuth" => (
            "kubernetes.io/basic-auth",
            None,
            &[("username", "robot"), ("password", password)],
        ),
        "ArgoCDRepository" => ("Opaque", Some("repository"), &argo),
        _ => ("Opaque", Some("repo-creds"), &argo),
    };
    let data = data.iter();
    (
        type_.to_owned(),
        label.map(str::to_owned),
        data.map(|(key, text)| ((*key).to_owned(), (*text).to_owned()))
            .collect(),
    )
}

fn name_of(export: &str) -> String {
    format!("pullpass-charts.x-{export}")
}

/// Waits until each export is in the namespace exactly as its format says; answers the Secrets' uids.
async fn wait_for(
    fixture: &Fixture,
    namespace: &str,
    exports: &[(&str, &str)],
    password: &str,
) -> Vec<String> {
    let mut uids = Vec::new();
    for (export, format) in exports {
        let (name, expected) = (name_of(export), expected(format, password));
        let what = format!("{namespace}/{name} to be {expected:?}");
        let uid = wait::until(&what, async || {
            let secret = fixture.cluster.secret(namespace, &name).await?;
            let uid = secret["metadata"]["uid"].as_str()?.to_owned();
            (form_of(&secret) == expected).then_some(uid)
        });
        uids.push(uid.await);
    }
    uids
}

async fn wait_until_gone(fixture: &Fixture, namespace: &str, exports: &[&str]) {
    for export in exports {
        let name = name_of(export);
        wait::until(&format!("{namespace}/{name} to go"), async || {
            let secret = fixture.cluster.secret(namespace, &name).await;
            secret.is_none().then_some(())
        })
        .await;
    }
}

/// The Registry's status once it is ready or not for this reason.
async fn wait_for_reason(fixture: &Fixture, reason: &str) -> Value {
    let path = "/apis/pullpass.dev/v1alpha1/registries/charts";
    wait::until(&format!("the reason {reason}"), async || {
        let status = fixture.cluster.get(path).await?["status"].clone();
        let mut conditions = status["conditions"].as_array()?.iter();
        let ready = conditions.find(|one| one["type"] == "Ready")?;
        (ready["reason"] == reason).then(|| status.clone())
    })
    .await
}

/// Overwrites a Secret as somebody does whom no policy binds.
async fn replace(fixture: &Fixture, namespace: &str, name: &str, change: impl Fn(&mut Value)) {
    wait::until(&format!("{name} to be overwritten"), async || {
        let mut secret = fixture.cluster.secret(namespace, name).await?;
        change(&mut secret);
        let metadata = secret["metadata"].as_object_mut().unwrap();
        metadata.remove("managedFields");
        let path = format!("/api/v1/namespaces/{namespace}/secrets/{name}");
        let answer = fixture.cluster.send("PUT", &path, Some(&secret)).await;
        answer.status.is_success().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[allow(clippy::too_many_lines, reason = "one course of events")]
async fn keeps_exports_as_their_formats_say_renews_repairs_and_removes_them() {
    let fixture = Fixture::alone("exports").await;
    put_login(&fixture, "first").await;
    let registry = exporting(&fixture, &EXPORTS);
    fixture.cluster.apply(&registry).await;
    let one = fixture.namespace("one").await;
    let all = fixture.namespace_name("all");
    let mut labels = fixture.labels();
    labels["pullpass.dev/inject"] = "all".into();
    make_namespace(&fixture.cluster, &all, &labels).await;
    let other = "exports-other";
    let opted_in = json!({"pullpass.dev/inject": "all"});
    make_namespace(&fixture.cluster, other, &opted_in).await;
    let pullpass = fixture.start_controller().await;
    let lacks = wait_for_reason(&fixture, "Forbidden").await.to_string();
    let advice = "Secrets pullpass-charts.x-argo: apply what `pullpass rbac` prints";
    assert!(lacks.contains(advice), "{lacks}");

    grant_printed(&fixture, std::slice::from_ref(&registry)).await;
    let mut before = Vec::new();
    for namespace in [&one, &all] {
        before.push(wait_for(&fixture, namespace, &EXPORTS, "first").await);
    }
    // Those two, and that in which it is asked whether the webhook is called: a namespace counts once, however many Secrets it has.
    let status = wait_for_reason(&fixture, "Provisioned").await;
    assert_eq!(status["namespaces"], json!({"ready": 3, "total": 3}));
    for (export, _) in EXPORTS {
        let there = fixture.cluster.secret(other, &name_of(export)).await;
        assert!(
            there.is_none(),
            "a namespace that the Registry does not serve"
        );
    }
    for image in [
        format!("{IMAGE}/app:1"),
        "docker.io/library/busybox:1".to_owned(),
    ] {
        let pod = fixture.create(&all, &[&image]).await;
        let referenced = &pod.body["spec"]["imagePullSecrets"];
        assert_eq!(*referenced, json!([{"name": "pullpass"}]), "{image}");
    }

    // Renewed in place.
    put_login(&fixture, "second").await;
    for (namespace, before) in [&one, &all].into_iter().zip(&before) {
        let after = wait_for(&fixture, namespace, &EXPORTS, "second").await;
        assert_eq!(after, *before, "the same Secrets");
    }
    assert_repaired(&fixture, &one).await;
    assert_changed(&fixture, &one).await;

    // A namespace that opts out loses all of them; the others keep theirs.
    let labels = json!({FIXTURE: fixture.name});
    make_namespace(&fixture.cluster, &one, &labels).await;
    wait_until_gone(&fixture, &one, &EXPORTS.map(|(export, _)| export)).await;
    wait_for(&fixture, &all, &EXPORTS, "second").await;
    fixture.cluster.delete(&registry).await;
    wait_until_gone(&fixture, &all, &EXPORTS.map(|(export, _)| export)).await;
    assert!(pullpass.find_line("panicked").is_none());
}

/// What another writer changed is put back, whatever it was.
async fn assert_repaired(fixture: &Fixture, namespace: &str) {
    // The API server takes no dockerconfigjson that is no JSON.
    let theirs = STANDARD.encode(r#"{"theirs":{}}"#);
    let touched = [
        ("file", "config.json"),
        ("file", ".dockerconfigjson"),
        ("user", "username"),
        ("user", "password"),
        ("argo", "url"),
        ("argo", "type"),
        ("creds", "enableOCI"),
        ("creds", "password"),
    ];
    for (export, key) in touched {
        replace(fixture, namespace, &name_of(export), |secret| {
            secret["data"][key] = theirs.as_str().into();
        })
        .await;
        wait_for(fixture, namespace, &EXPORTS, "second").await;
    }
    replace(fixture, namespace, &name_of("argo"), |secret| {
        secret["metadata"]["labels"][ARGO_CD] = "cluster".into();
    })
    .await;
    wait_for(fixture, namespace, &EXPORTS, "second").await;
    for (export, _) in EXPORTS {
        let path = format!("/api/v1/namespaces/{namespace}/secrets/{}", name_of(export));
        fixture.cluster.send("DELETE", &path, None).await.ok();
    }
    wait_for(fixture, namespace, &EXPORTS, "second").await;
    // A Secret's type cannot be changed.
    let form = expected("ArgoCDRepository", "theirs");
    let labels = json!({"app.kubernetes.io/managed-by": "pullpass", ARGO_CD: form.1});
    let other = json!({
        "apiVersion": "v1", "kind": "Secret", "type": form.0, "stringData": form.2,
        "metadata": {"name": name_of("user"), "labels": labels},
    });
    let path = format!("/api/v1/namespaces/{namespace}/secrets");
    wait::until("a Secret of another type", async || {
        let one = format!("{path}/{}", name_of("user"));
        fixture.cluster.send("DELETE", &one, None).await;
        let made = fixture.cluster.send("POST", &path, Some(&other)).await;
        made.status.is_success().then_some(())
    })
    .await;
    wait_for(fixture, namespace, &EXPORTS, "second").await;
}

/// What an admin changes acts at once; an export's format changes only with its name.
async fn assert_changed(fixture: &Fixture, namespace: &str) {
    let path = "/apis/pullpass.dev/v1alpha1/registries/charts?fieldManager=test&force=true";
    let other = exporting(fixture, &[("file", "BasicAuth")]);
    let refused = fixture.cluster.send("PATCH", path, Some(&other)).await;
    assert_eq!(refused.status.as_u16(), 422, "{}", refused.body);
    let said = refused.body["message"].as_str().unwrap();
    assert!(
        said.contains("the format of an export cannot be changed"),
        "{said}"
    );

    let fewer = [EXPORTS[0], EXPORTS[2]];
    fixture.cluster.apply(&exporting(fixture, &fewer)).await;
    wait_until_gone(fixture, namespace, &["user", "creds"]).await;
    let kept = wait_for(fixture, namespace, &fewer, "second").await;
    // The same name with another format, since it was free in between.
    let others = [("user", "DockerConfig"), ("creds", "BasicAuth")];
    let more: Vec<_> = fewer.into_iter().chain(others).collect();
    fixture.cluster.apply(&exporting(fixture, &more)).await;
    wait_for(fixture, namespace, &others, "second").await;
    assert_eq!(kept, wait_for(fixture, namespace, &fewer, "second").await);
    // Even where what was there before is there still.
    fixture.cluster.apply(&exporting(fixture, &fewer)).await;
    fixture.cluster.apply(&exporting(fixture, &EXPORTS)).await;
    wait_for(fixture, namespace, &EXPORTS, "second").await;
    // Another image: another URL, and other keys.
    let mut moved = exporting(fixture, &EXPORTS);
    moved["spec"]["images"] = json!(["localhost:9/other"]);
    fixture.cluster.apply(&moved).await;
    for export in ["argo", "creds"] {
        wait::until("the other URL", async || {
            let secret = fixture.cluster.secret(namespace, &name_of(export)).await?;
            (form_of(&secret).2["url"] == "localhost:9/other").then_some(())
        })
        .await;
    }
    wait::until("the other key", async || {
        let secret = fixture.cluster.secret(namespace, &name_of("file")).await?;
        let config: Value = serde_json::from_str(&form_of(&secret).2["config.json"]).unwrap();
        let keys = config["auths"].as_object()?.keys();
        keys.eq(["localhost:9", "localhost:9/other"]).then_some(())
    })
    .await;
    fixture.cluster.apply(&exporting(fixture, &EXPORTS)).await;
    wait_for(fixture, namespace, &EXPORTS, "second").await;
}

/// A file is older than the Secret that it comes of: no export is ever found with little of its credential's life left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn renews_a_minted_login_while_a_quarter_of_its_life_is_left() {
    const LIFE: u32 = 24;
    let fixture = Fixture::alone("minted").await;
    let moto = &fixture.world.moto;
    fixture.user.set_life(moto, LIFE).await;
    let registry = json!({
        "apiVersion": "pullpass.dev/v1alpha1", "kind": "Registry", "metadata": {"name": "charts"},
        "spec": {
            "images": [format!("{ECR}/charts")], "namespaceSelector": {"matchLabels": {FIXTURE: fixture.name}},
            "ecr": fixture.ecr(fixture.name), "exports": [{"name": "user", "format": "BasicAuth"}],
        },
    });
    grant_printed(&fixture, std::slice::from_ref(&registry)).await;
    fixture.cluster.apply(&registry).await;
    let namespace = fixture.namespace("one").await;
    let _pullpass = fixture.start_controller().await;
    let read = async || {
        let secret = fixture.cluster.secret(&namespace, &name_of("user")).await?;
        let data = form_of(&secret).2;
        Some(Login {
            username: data["username"].clone(),
            password: data["password"].clone(),
        })
    };
    wait::until("the first login", read).await;
    let least = SignedDuration::from_secs((LIFE / 4).into());
    wait::until("two renewals", async || {
        let now = Timestamp::now();
        let login = read().await.unwrap();
        let minted = fixture.user.minted(moto).await;
        let mut tokens = minted.iter();
        let of_login = tokens.find(|one| Login::aws(one["password"].as_str().unwrap()) == login);
        let end: Timestamp = of_login.unwrap()["expiresAt"]
            .as_str()
            .unwrap()
            .parse()
            .unwrap();
        let left = end.duration_since(now);
        assert!(left >= least, "{left} left of {LIFE} s");
        let is_newest = minted.last() == of_login;
        (minted.len() >= 3 && is_newest).then_some(())
    })
    .await;
}

/// What the API server refuses it refuses in the words that files are refused with.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refuses_what_does_not_go_with_exports_in_the_words_of_files() {
    let fixture = Fixture::new("rules").await;
    let mut refused = 0;
    for case in cases() {
        if case.unreadable || case.spec["exports"].is_null() || case.fields.is_empty() {
            continue;
        }
        let registry = serde_json::from_value(case.object()).unwrap();
        let registries = pullpass::registry::Registries::build([registry]);
        let path = "/apis/pullpass.dev/v1alpha1/registries?dryRun=All";
        let object = case.object();
        let answer = fixture.cluster.send("POST", path, Some(&object)).await;
        assert_eq!(answer.status.as_u16(), 422, "{}", case.title);
        let said = answer.body["message"].as_str().unwrap();
        let problems = registries.problems().iter();
        // Of forms and lengths the API server has words of its own.
        let rules = problems.filter(|one| {
            one.message.starts_with("must have") || one.message.starts_with("of format")
        });
        for problem in rules {
            assert!(said.contains(&problem.message), "{}: {said}", case.title);
            refused += 1;
        }
    }
    assert!(refused >= 4, "{refused}");
}
