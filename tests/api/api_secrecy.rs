//! Planted secrets show up where they belong and nowhere else: no log line, metric, warning, annotation or label has one, however
//! much is logged and whatever goes wrong.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::process::Command;

use crate::support;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use support::account::allow_tokens;
use support::fixture::{ECR, FIXTURE, Fixture, OWN};
use support::keyring;
use support::moto::{key_id, secret_key};
use support::process::{Launch, Pullpass, pod};
use support::roles::add_role;
use support::user::User;
use support::wait;

/// Everything that people or programs can read without being allowed to read Secrets' data.
struct Seen(Vec<(String, String)>);

impl Seen {
    /// Fails when one of `secrets` is there, plain or in base64.
    fn check(&self, secrets: &[String]) {
        for (place, text) in &self.0 {
            for secret in secrets {
                assert!(!text.contains(secret), "{secret} is in {place}:\n{text}");
                for encoded in [STANDARD.encode(secret), URL_SAFE_NO_PAD.encode(secret)] {
                    // The end of an encoded text depends on what follows it.
                    let form = &encoded[..encoded.len() - 4];
                    assert!(
                        !text.contains(form),
                        "{secret} ({form}) is in {place}:\n{text}"
                    );
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shows_no_secret_however_much_is_logged() {
    let fixture = Fixture::new("secrecy").await;
    let mut planted = plant(&fixture).await;
    let launch = Launch {
        log: "trace",
        controller: true,
        ..fixture.launch().await
    };
    let pullpass = Pullpass::start(&launch).await;
    pullpass
        .register(&fixture.cluster, FIXTURE, fixture.name)
        .await;
    let namespace = fixture.namespace("pods").await;
    let mut seen = Seen(Vec::new());

    let names = [
        "good", "wrongkey", "unknown", "denied", "garbled", "basic", "docker", "broken", "nouser",
        "opaque", "tenant", "stranger", "hop", "session", "stale",
    ];
    for name in names {
        let mut pod = pod(&namespace, &[&format!("{ECR}/{name}/app:1")]);
        pod["spec"]["containers"][0]["env"] =
            json!([{"name": "PASSWORD", "value": "canary-of-the-pod-itself-0123456789"}]);
        pod["spec"]["containers"][0]["args"] = json!(["canary-of-the-pod-itself-0123456789"]);
        let created = fixture.cluster.create_pod(&pod, "").await.ok();
        seen.0.push((
            format!("the warnings of {name}"),
            created.warnings.join("\n"),
        ));
        seen.0.push((
            format!("the Pod of {name}"),
            without_own_canaries(created.body),
        ));
    }
    trouble(&fixture, &namespace, &pullpass).await;
    run_commands(&fixture, &namespace, &mut seen).await;

    planted.extend(minted(&fixture).await);
    look(&fixture, &pullpass, &mut seen).await;
    seen.check(&planted);
    // They are where they belong.
    let held = fixture.pull_secret(&namespace).await;
    let image = format!("{ECR}/good/app:1");
    let login = &keyring::lookup(&held, &[image])[0][0];
    assert!(planted.contains(&login.password));
    check_trace(&pullpass.log());
}

/// All tokens that AWS gave, in the forms in which they travel.
async fn minted(fixture: &Fixture) -> Vec<String> {
    let mut forms = Vec::new();
    let minted = fixture.world.moto.get("minted").await;
    let minted = minted.as_array().unwrap();
    assert!(minted.len() >= 4, "{minted:?}");
    for token in minted {
        let password = token["password"].as_str().unwrap();
        // The last part alone is random.
        let random = password.rsplit('|').next().unwrap();
        forms.extend([
            password.to_owned(),
            format!("AWS:{password}"),
            random.to_owned(),
        ]);
    }
    forms
}

/// A Pod as it was admitted, but for what its own user wrote into it.
fn without_own_canaries(mut pod: Value) -> String {
    for container in pod["spec"]["containers"].as_array_mut().unwrap() {
        for field in ["env", "args"] {
            container.as_object_mut().unwrap().remove(field);
        }
    }
    pod.to_string()
}

/// What the commands print of the same cluster, cloud and Secrets, for people and for programs.
async fn run_commands(fixture: &Fixture, namespace: &str, seen: &mut Seen) {
    let path = "/apis/pullpass.dev/v1alpha1/registries";
    let registries = fixture.cluster.get(path).await.unwrap();
    let file = fixture.file("registries.json");
    let documents: Vec<String> = registries["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| {
            let mut item = item.clone();
            item["apiVersion"] = "pullpass.dev/v1alpha1".into();
            item["kind"] = "Registry".into();
            item.to_string()
        })
        .collect();
    std::fs::write(&file, documents.join("\n---\n")).unwrap();
    let file = file.to_str().unwrap();
    let (kubeconfig, ca) = (fixture.world.kubeconfig(), fixture.file("aws.crt"));
    let (kubeconfig, ca) = (kubeconfig.to_str().unwrap(), ca.to_str().unwrap());
    let image = format!("{ECR}/good/app:1");
    let cluster = ["--kubeconfig", kubeconfig, "--extra-ca", ca];
    let rows = [
        (
            "check",
            [&cluster[..], &["--namespace", namespace]].concat(),
        ),
        ("check", [&cluster[..], &["-f", file]].concat()),
        ("policy", vec!["-f", file]),
        ("explain", vec!["-f", file, &image]),
    ];
    for (command, arguments) in rows {
        for output in ["text", "json"] {
            let mut run = Command::new(env!("CARGO_BIN_EXE_pullpass"));
            run.arg(command).args(&arguments).args(["-o", output]);
            // Nothing leaves for a real cloud.
            run.env_clear()
                .env("HTTPS_PROXY", "http://127.0.0.1:1")
                .env("NO_PROXY", "127.0.0.1");
            let printed = tokio::task::spawn_blocking(move || run.output().unwrap());
            let printed = printed.await.unwrap();
            assert_ne!(printed.status.code(), Some(2), "{command} {printed:?}");
            assert!(!printed.stdout.is_empty(), "{command} {printed:?}");
            let text = [printed.stdout, printed.stderr].concat();
            let text = String::from_utf8(text).unwrap();
            seen.0.push((format!("what {command} prints"), text));
        }
    }
}

/// The trace is one: what must not be logged was not just left out with everything else.
fn check_trace(log: &str) {
    for role in ["assumed-role/secrecy/pullpass", "role/secrecy-stranger"] {
        assert!(log.contains(role), "no {role} in\n{log}");
    }
    for level in ["\"DEBUG\"", "\"INFO\"", "\"WARN\"", "\"ERROR\""] {
        assert!(log.contains(level), "no {level} line in\n{log}");
    }
}

/// Makes sources and Registries of all kinds, good and bad, and answers their secrets.
async fn plant(fixture: &Fixture) -> Vec<String> {
    let moto = &fixture.world.moto;
    let user = |name: &str| format!("{name}-of-secrecy");
    let mut planted = vec![
        secret_key("secrecy"),
        "canary-of-the-pod-itself-0123456789".to_owned(),
    ];
    let mut ecr = Vec::new();
    let denied = User::add_with(moto, &user("denied"), Some(json!([]))).await;
    let garbled = User::add(moto, &user("garbled")).await;
    garbled.fail(moto, json!({"status": 200, "body": "<html>canary-of-a-proxy-0123456789</html>", "count": 100})).await;
    let unknown = User {
        name: user("unknown"),
        principal: String::new(),
    };
    for (name, user) in [
        ("denied", &denied),
        ("garbled", &garbled),
        ("unknown", &unknown),
    ] {
        fixture
            .put_source(&format!("secrecy-{name}"), "Opaque", user.keys())
            .await;
        planted.push(secret_key(&user.name));
        ecr.push(name);
    }
    planted.push("canary-of-a-proxy-0123456789".to_owned());
    let wrong = json!({"AWS_ACCESS_KEY_ID": key_id("secrecy"), "AWS_SECRET_ACCESS_KEY": "canary-wrong-key-0123456789"});
    fixture
        .put_source("secrecy-wrongkey", "Opaque", wrong)
        .await;
    planted.push("canary-wrong-key-0123456789".to_owned());
    ecr.push("wrongkey");
    for name in ecr {
        let spec = json!({"images": [format!("{ECR}/{name}")], "ecr": fixture.ecr(&format!("secrecy-{name}"))});
        fixture.put_registry(&format!("secrecy-{name}"), spec).await;
    }
    fixture.serve(&[&format!("{ECR}/good")]).await;
    plant_sessions(fixture).await;
    planted.extend(plant_temporary(fixture).await);
    // So begins the secret key and the token of every session of this AWS.
    planted.push("canary/".to_owned());
    // Tokens of the API server begin so, whatever they say.
    planted.push("eyJhbGciOiJSUzI1NiIs".to_owned());
    planted.extend(plant_fixed(fixture).await);
    planted
}

/// Identities that open sessions: one that may, one whose role does not trust it, a chain that breaks.
async fn plant_sessions(fixture: &Fixture) {
    let namespace = fixture.namespace_name("pods");
    allow_tokens(fixture, "default").await;
    let role = add_role(fixture, "secrecy", &namespace, "default").await;
    let stranger = add_role(fixture, "secrecy-stranger", "elsewhere", "default").await;
    let by = |role: &str| json!({"serviceAccount": {"name": "default", "roleArn": role}});
    let rows = [
        ("tenant", json!({"identity": by(&role)})),
        ("stranger", json!({"identity": by(&stranger)})),
        (
            "hop",
            json!({"identity": by(&role), "assumeRoles": [{"roleArn": stranger, "externalId": "pullpass"}]}),
        ),
    ];
    for (name, mut ecr) in rows {
        ecr["endpoints"] = json!({"ecr": fixture.aws.url, "sts": fixture.aws.url});
        let spec = json!({"images": [format!("{ECR}/{name}")], "ecr": ecr});
        fixture.put_registry(&format!("secrecy-{name}"), spec).await;
    }
}

/// Temporary keys, with the right session token and with an old one.
async fn plant_temporary(fixture: &Fixture) -> Vec<String> {
    let canary = |name: &str| format!("canary-token-of-{name}-0123456789");
    let key = json!({
        "accessKeyId": "ASIASECRECYXXXXXXXXX", "secretAccessKey": "canary-temporary-key-0123456789",
        "sessionToken": canary("session"), "principal": "arn:aws:sts::123456789012:assumed-role/secrecy-temporary/x",
    });
    fixture.world.moto.post("keys", key.clone()).await;
    for name in ["session", "stale"] {
        let secret = format!("secrecy-{name}");
        let data = json!({
            "AWS_ACCESS_KEY_ID": key["accessKeyId"], "AWS_SECRET_ACCESS_KEY": key["secretAccessKey"],
            "AWS_SESSION_TOKEN": canary(name),
        });
        fixture.put_source(&secret, "Opaque", data).await;
        let spec = json!({"images": [format!("{ECR}/{name}")], "ecr": fixture.ecr(&secret)});
        fixture.put_registry(&secret, spec).await;
    }
    vec![
        canary("session"),
        canary("stale"),
        "canary-temporary-key-0123456789".to_owned(),
    ]
}

async fn plant_fixed(fixture: &Fixture) -> Vec<String> {
    let canary = |name: &str| format!("canary-password-of-{name}-0123456789");
    let auth = |name: &str| STANDARD.encode(format!("robot:{}", canary(name)));
    let (basic, docker) = ("kubernetes.io/basic-auth", "kubernetes.io/dockerconfigjson");
    let config = |content: String| json!({".dockerconfigjson": content});
    let entry = |name: &str, auth: String| {
        json!({"auths": {format!("{ECR}/{name}"): {"auth": auth}}}).to_string()
    };
    let sources = [
        (
            "basic",
            basic,
            json!({"username": "robot", "password": canary("basic")}),
        ),
        (
            "nouser",
            basic,
            json!({"username": "", "password": canary("nouser")}),
        ),
        ("docker", docker, config(entry("docker", auth("docker")))),
        // Base64 of something that has no colon.
        (
            "broken",
            docker,
            config(entry("broken", STANDARD.encode(canary("broken")))),
        ),
        ("opaque", "Opaque", json!({"password": canary("opaque")})),
    ];
    let mut planted = Vec::new();
    for (name, type_, data) in sources {
        let secret = format!("secrecy-{name}");
        fixture.put_source(&secret, type_, data).await;
        let spec =
            json!({"images": [format!("{ECR}/{name}")], "static": {"secretRef": {"name": secret}}});
        fixture.put_registry(&secret, spec).await;
        planted.extend([canary(name), format!("robot:{}", canary(name))]);
    }
    planted
}

/// What goes wrong while a process runs: a pull secret that somebody broke, a store Secret that somebody broke, a foreign Secret,
/// an API server that cannot be reached.
async fn trouble(fixture: &Fixture, namespace: &str, pullpass: &Pullpass) {
    let image = format!("{ECR}/good/app:1");
    let broken = |name: &str, namespace: &str, data: Value| json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": namespace}, "stringData": data});
    let content = "{\"auths\":{\"x\":{\"auth\":\"canary-in-a-broken-secret-0123456789\"}}}";
    fixture
        .cluster
        .apply(&broken(
            "pullpass",
            namespace,
            json!({".dockerconfigjson": content}),
        ))
        .await;
    wait::until("the pull secret to be repaired", async || {
        fixture.create(namespace, &[&image]).await;
        (fixture.pull_secret(namespace).await != content).then_some(())
    })
    .await;
    for stored in fixture.stored().await {
        let name = stored["metadata"]["name"].as_str().unwrap();
        let data = json!({"expiresAt": "canary-in-the-store-0123456789", "password": "canary-in-the-store-0123456789"});
        fixture.cluster.apply(&broken(name, OWN, data)).await;
    }
    let foreign = fixture.namespace("foreign").await;
    fixture
        .cluster
        .apply(&broken(
            "pullpass",
            &foreign,
            json!({"canary": "canary-in-a-broken-secret-0123456789"}),
        ))
        .await;
    wait::until("the broken store to be told of", async || {
        fixture.create(&foreign, &[&image]).await;
        pullpass
            .log()
            .contains("its data is no credential")
            .then_some(())
    })
    .await;
    // Another region is another token.
    let second = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/second";
    let spec = json!({"images": [second], "ecr": fixture.ecr("secrecy")});
    fixture.put_registry("secrecy-second", spec).await;
    fixture.wait_served(namespace, second).await;
    fixture.create(namespace, &[second]).await;
}

/// Collects what can be read: the log, the metrics, and everything but the data of every Secret that pullpass wrote.
async fn look(fixture: &Fixture, pullpass: &Pullpass, seen: &mut Seen) {
    seen.0.push(("the log".to_owned(), pullpass.log()));
    seen.0
        .push(("the metrics".to_owned(), pullpass.metrics().await));
    let secrets = fixture.cluster.get("/api/v1/secrets").await.unwrap();
    for secret in secrets["items"].as_array().unwrap() {
        let mut secret = secret.clone();
        secret.as_object_mut().unwrap().remove("data");
        seen.0
            .push(("a Secret beside its data".to_owned(), secret.to_string()));
    }
    for (what, path) in [
        ("the events", "/api/v1/events"),
        ("the Registries", "/apis/pullpass.dev/v1alpha1/registries"),
        ("the Leases", "/apis/coordination.k8s.io/v1/leases"),
    ] {
        let found = fixture.cluster.get(path).await.unwrap();
        seen.0.push((what.to_owned(), found.to_string()));
    }
}
