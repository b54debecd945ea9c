//! `pullpass check`, as it is run: before a real API server, AWS as moto speaks it, and a real registry under its own name.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};

use crate::support;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::FutureExt as _;
use serde_json::{Value, json};
use support::account::{allow_tokens, connect_tenant};
use support::cluster::read_yaml;
use support::fixture::{ECR, FIXTURE, Fixture, World, world};
use support::internet::{Asked, Hosts, Internet, Reply};
use support::keyring::Login;
use support::moto::{key_id, secret_key};
use support::oci::Oci;
use support::process::Pullpass;
use support::roles::add_role;
use support::user::User;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

const IMAGE: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/team/app:1";

/// What the registry behind the images' host takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Door {
    /// The scene's user's newest token.
    Open,
    /// The same, for other repositories.
    Elsewhere,
    /// The same, for pulling alone.
    ReadOnly,
    /// The same, for pulling and pushing; who cancels an upload deletes.
    NoDelete,
    /// Nothing.
    Shut,
}

impl Door {
    /// Lets this login in so.
    fn set(self, oci: &Oci, login: &Login) {
        match self {
            Self::Elsewhere => oci.allow_to(login, Some(&["elsewhere/"])),
            Self::ReadOnly => oci.allow_actions(login, &["pull"]),
            Self::NoDelete => oci.allow_actions(login, &["pull", "push"]),
            Self::Open | Self::Shut => oci.allow(login),
        }
    }
}

/// A scene with a registry that answers under the images' own host.
struct Place {
    fixture: Fixture,
    internet: Internet,
    oci: Arc<Oci>,
    door: Arc<Mutex<Door>>,
    ca: PathBuf,
}

/// What it printed.
struct Told {
    code: Option<i32>,
    checks: Vec<Value>,
    /// All of it.
    output: String,
    stdout: String,
    stderr: String,
}

impl Place {
    async fn new(name: &'static str) -> Self {
        Self::within(world().await, name).await
    }

    async fn within(world: Arc<World>, name: &'static str) -> Self {
        let fixture = Fixture::within(Arc::clone(&world), name).await;
        let door = Arc::new(Mutex::new(Door::Open));
        let oci = Arc::new(Oci::start(&["team/app:1"]));
        let hosts = hosts(
            world,
            fixture.user.clone(),
            Arc::clone(&door),
            Arc::clone(&oci),
        );
        let internet = Internet::start(hosts).await;
        let ca = fixture.file("all.crt");
        std::fs::write(&ca, format!("{}{}", internet.ca, fixture.aws.certificate)).unwrap();
        let place = Self {
            fixture,
            internet,
            oci,
            door,
            ca,
        };
        let spec = json!({"images": [format!("{ECR}/team")], "ecr": place.ecr(name)});
        place.fixture.put_registry(name, spec).await;
        place.put_webhook().await;
        place
    }

    /// A webhook configuration that is for no namespace.
    async fn put_webhook(&self) {
        let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/manifests/webhook.yaml");
        let mut configuration = read_yaml(manifest).remove(0);
        configuration["metadata"]["name"] = format!("00-idle-{}", self.fixture.name).into();
        let ca = STANDARD.encode(&self.internet.ca);
        for webhook in configuration["webhooks"].as_array_mut().unwrap() {
            webhook["clientConfig"]["caBundle"] = ca.as_str().into();
            webhook["namespaceSelector"] = json!({"matchLabels": {"idle": "yes"}});
        }
        self.fixture.cluster.apply(&configuration).await;
    }

    /// A file with one Registry of this `spec`, which serves every namespace.
    fn write(&self, mut spec: Value) -> String {
        spec["namespaceSelector"] = json!({});
        let registry = json!({
            "apiVersion": "pullpass.dev/v1alpha1", "kind": "Registry", "metadata": {"name": "one"}, "spec": spec,
        });
        let file = self.fixture.file("registries.yaml");
        std::fs::write(&file, registry.to_string()).unwrap();
        file.to_str().unwrap().to_owned()
    }

    /// Tries this `ecr` for the scene's images.
    async fn check_ecr(&self, ecr: Value) -> Told {
        let file = self.write(json!({"images": [format!("{ECR}/team")], "ecr": ecr}));
        self.check(&["-f", &file]).await
    }

    fn ecr(&self, secret: &str) -> Value {
        let mut ecr = self.fixture.ecr(secret);
        ecr["endpoints"]["sts"] = self.fixture.aws.url.as_str().into();
        ecr
    }

    fn set_door(&self, door: Door) {
        *self.door.lock().unwrap() = door;
    }

    /// A namespace of this scene with a Pod, after which the pull secret is there.
    async fn serve(&self) -> (Pullpass, String) {
        let pullpass = self.fixture.start().await;
        let namespace = self.fixture.namespace("pods").await;
        self.fixture.wait_served(&namespace, IMAGE).await;
        self.fixture.create(&namespace, &[IMAGE]).await;
        assert!(self.fixture.has_pull_secret(&namespace).await);
        (pullpass, namespace)
    }

    /// Runs it for the namespaces of this scene, as an administrator.
    async fn check(&self, arguments: &[&str]) -> Told {
        let kubeconfig = self.fixture.world.kubeconfig();
        let kubeconfig = ["--kubeconfig", kubeconfig.to_str().unwrap()];
        self.run(&[&kubeconfig, arguments].concat(), &[]).await
    }

    async fn run(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Told {
        self.run_as("json", arguments, environment).await
    }

    /// Runs it with this `-o`; only JSON is read.
    async fn run_as(&self, output: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Told {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pullpass"));
        command
            .args(["check", "-o", output])
            .args(arguments)
            .env_clear()
            .env("PULLPASS_EXTRA_CA", &self.ca)
            .env("HTTPS_PROXY", &self.internet.proxy)
            .env("NO_PROXY", "127.0.0.1")
            .envs(environment.iter().copied());
        let output = tokio::task::spawn_blocking(move || command.output().unwrap());
        let output = output.await.unwrap();
        let stdout = String::from_utf8(output.stdout).unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        let report: Value = serde_json::from_str(&stdout).unwrap_or_default();
        let told = Told {
            code: output.status.code(),
            checks: report["checks"].as_array().cloned().unwrap_or_default(),
            output: format!("{stdout}{stderr}"),
            stdout,
            stderr,
        };
        self.assert_no_secret(&told.output).await;
        told
    }

    /// Whatever happens, no secret of the scene is in what is printed.
    async fn assert_no_secret(&self, output: &str) {
        assert!(!output.contains("canary"), "{output}");
        for minted in self.fixture.user.minted(&self.fixture.world.moto).await {
            let password = minted["password"].as_str().unwrap();
            assert!(!output.contains(password), "{output}");
        }
    }
}

impl Told {
    /// The steps with their marks: `+` fine, `!` failed, `.` of no consequence, `?` not for this account, `-` not tried.
    fn steps(&self) -> Vec<String> {
        let step = |check: &Value| {
            let mark = match check["status"].as_str() {
                Some("ok") => '+',
                Some("failed") => '!',
                Some("info") => '.',
                Some("hidden") => '?',
                _ => '-',
            };
            format!("{mark}{}", check["step"].as_str().unwrap())
        };
        self.checks.iter().map(step).collect()
    }

    fn find(&self, step: &str) -> &Value {
        let found = self.checks.iter().find(|check| check["step"] == step);
        assert!(found.is_some(), "no {step} in {}", self.output);
        found.unwrap()
    }

    /// How pushing went, in these words.
    fn assert_push(&self, status: &str, id: &str, words: &str) {
        let push = self.find("push");
        let told = (&push["status"], &push["id"]);
        assert_eq!(told, (&json!(status), &json!(id)), "{push}");
        let message = push["message"].as_str().unwrap();
        assert!(message.contains(words), "{message}");
    }

    /// The first step that failed is this one, and says what happened and what to do in these words.
    fn assert_fails(&self, step: &str, message: &str, fix: &str) {
        assert_eq!(self.code, Some(1), "{}", self.output);
        let failed = self.checks.iter().find(|check| check["status"] == "failed");
        assert!(failed.is_some(), "{}", self.output);
        let failed = failed.unwrap();
        let said = |field: &str| failed[field].as_str().unwrap_or_default();
        assert_eq!(said("step"), step, "{failed}");
        assert!(said("message").contains(message), "{failed}");
        assert!(said("fix").contains(fix), "{failed}");
    }
}

/// The registry under the host of Amazon ECR's images.
fn hosts(world: Arc<World>, user: User, door: Arc<Mutex<Door>>, oci: Arc<Oci>) -> Hosts {
    let ca = std::fs::read(oci.ca()).unwrap();
    let ca = reqwest::Certificate::from_pem(&ca).unwrap();
    let client = reqwest::Client::builder()
        .no_proxy()
        .tls_certs_only([ca])
        .build()
        .unwrap();
    Arc::new(move |asked: Asked| {
        let (oci, client, user) = (Arc::clone(&oci), client.clone(), user.clone());
        let world = Arc::clone(&world);
        let door = *door.lock().unwrap();
        async move {
            if asked.target != format!("{ECR}:443") {
                return None;
            }
            let login = user.newest(&world.moto).await;
            let login = login.filter(|_| door != Door::Shut).unwrap_or(Login {
                username: "nobody".to_owned(),
                password: "nothing".to_owned(),
            });
            door.set(&oci, &login);
            let url = format!("{}{}", oci.url(), asked.uri);
            let request = client
                .request(asked.method.clone(), url)
                .headers(asked.headers);
            let answer = request.send().await.ok()?;
            let mut reply = Reply {
                status: answer.status().as_u16(),
                ..Reply::default()
            };
            for name in [
                "www-authenticate",
                "docker-content-digest",
                "content-type",
                "location",
            ] {
                if let Some(value) = answer.headers().get(name) {
                    reply
                        .headers
                        .push((name, value.to_str().unwrap().to_owned()));
                }
            }
            reply.body = answer.text().await.ok()?;
            Some(reply)
        }
        .boxed()
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn tells_every_hop_of_what_works() {
    let place = Place::new("check-green").await;
    let (_pullpass, namespace) = place.serve().await;
    let told = place.check(&["--namespace", &namespace, IMAGE]).await;
    assert_eq!(told.code, Some(0), "{}", told.output);
    let expected = [
        "+registries",
        "+webhook",
        "+identity",
        "+caller",
        "+token",
        "+life",
        "+served",
        "+login",
        "+manifest",
        "+optIn",
        "+serves",
        "+pullSecret",
        "+dryRun",
        "+pods",
        // The namespace's ServiceAccount lists nothing, and Pods do without.
        ".accounts",
    ];
    let steps: Vec<String> = told.steps();
    assert_eq!(steps, expected, "{}", told.output);
    assert_eq!(told.find("caller")["message"], place.fixture.user.principal);
    let digest = told.find("manifest")["message"].as_str().unwrap();
    assert!(digest.starts_with("sha256:"), "{digest}");
    assert!(told.find("token")["millis"].is_u64());
    let pods = told.find("dryRun")["message"].as_str().unwrap();
    assert_eq!(pods, "a Pod references pullpass");
}

/// A Registry whose login is for builders, for these images, in a file.
fn write_push(place: &Place, images: &[&str]) -> String {
    let registry = json!({
        "apiVersion": "pullpass.dev/v1alpha1", "kind": "Registry", "metadata": {"name": "builders"},
        "spec": {
            "access": "Push", "images": images, "namespaceSelector": {"matchLabels": {"builds": "yes"}},
            "ecr": place.ecr(place.fixture.name),
        },
    });
    let file = place.fixture.file("builders.yaml");
    std::fs::write(&file, registry.to_string()).unwrap();
    file.to_str().unwrap().to_owned()
}

/// A real registry keeps a file for each upload until it ends or is cancelled.
#[tokio::test(flavor = "multi_thread")]
async fn opens_an_upload_where_a_registry_pushes_and_cancels_it() {
    let place = Place::new("check-push").await;
    let team = format!("{ECR}/team");
    let file = write_push(&place, &[&team]);
    let check = async |image: &str| place.check(&["-f", &file, "--push", image]).await;
    let uploads = || {
        let files = place.oci.files().into_iter();
        let is_open = |file: &String| file.contains("/_uploads/") && file.ends_with("/startedat");
        files.filter(is_open).count()
    };

    let told = check(IMAGE).await;
    assert_eq!(told.code, Some(0), "{}", told.output);
    told.assert_push("ok", "Ok", "an upload was opened, and cancelled");
    assert_eq!(uploads(), 0, "{:?}", place.oci.files());

    // What is not known to be there is not made.
    let told = check(&IMAGE.replace("app", "new")).await;
    told.assert_push("skipped", "RepositoryUnknown", "a push may create it");
    let files = place.oci.files();
    assert!(
        !files.iter().any(|file| file.contains("/team/new")),
        "{files:?}"
    );

    place.set_door(Door::ReadOnly);
    let told = check(IMAGE).await;
    told.assert_fails(
        "push",
        "refuses a push to team/app (HTTP 401)",
        "allow the push",
    );
    told.assert_push("failed", "PushRefused", "UNAUTHORIZED");
    assert_eq!(uploads(), 0);

    place.set_door(Door::NoDelete);
    let told = check(IMAGE).await;
    assert_eq!(told.code, Some(0), "{}", told.output);
    told.assert_push("ok", "UploadLeft", "is left to the registry");
    assert_eq!(uploads(), 1);

    place.set_door(Door::Shut);
    let told = check(IMAGE).await;
    told.assert_fails("login", "refuses the login", "allow the pull");
    assert_eq!(told.find("push")["status"], "skipped", "{}", told.output);
}

#[tokio::test(flavor = "multi_thread")]
async fn tries_to_push_to_the_repositories_that_a_registry_names() {
    let place = Place::new("check-push-all").await;
    let images = ["team/app", "team/gone"].map(|path| format!("{ECR}/{path}"));
    let file = write_push(&place, &[&images[0], &images[1]]);
    let told = place.check(&["-f", &file, "--push"]).await;
    assert_eq!(told.code, Some(0), "{}", told.output);
    let pushes = told.checks.iter().filter(|check| check["step"] == "push");
    let ids: Vec<&str> = pushes.filter_map(|push| push["id"].as_str()).collect();
    assert_eq!(ids, ["Ok", "RepositoryUnknown"], "{}", told.output);

    // Without the flag nothing is opened.
    let told = place.check(&["-f", &file]).await;
    assert!(!told.output.contains("upload"), "{}", told.output);
    // A Registry that pulls is not tried so.
    let ecr = place.ecr("check-push-all");
    let file = place.write(json!({"images": [format!("{ECR}/team")], "ecr": ecr}));
    let told = place.check(&["-f", &file, "--push", IMAGE]).await;
    assert_eq!(told.code, Some(0), "{}", told.output);
    assert_eq!(told.find("push")["id"], "NoPush", "{}", told.output);
}

/// What pulls without a Pod reads them there.
#[tokio::test(flavor = "multi_thread")]
async fn says_which_service_accounts_list_no_pull_secret() {
    let place = Place::new("check-accounts").await;
    let (_pullpass, namespace) = place.serve().await;
    let account = |name: &str, listed: Value| {
        json!({
            "apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {"name": name, "namespace": namespace}, "imagePullSecrets": listed,
        })
    };
    let cluster = &place.fixture.cluster;
    let other = json!([{"name": "other"}]);
    cluster.apply(&account("builder", other)).await;
    let told = place.check(&["-n", &namespace]).await;
    let found = told.find("accounts");
    assert_eq!(told.code, Some(0), "{}", told.output);
    assert_eq!(
        (&found["status"], &found["id"]),
        (&json!("info"), &json!("ServiceAccountsUnlisted")),
        "{found}"
    );
    let message = found["message"].as_str().unwrap();
    assert!(
        message.starts_with("2 of 2 list no pullpass in imagePullSecrets: builder, default."),
        "{message}"
    );
    assert!(found["fix"].is_null(), "nothing is wrong: {found}");
    assert!(
        message.contains("imagePullSecrets: [{name: pullpass}]"),
        "{message}"
    );
    // In this mode the Secret may come with the first Pod only.
    assert!(message.contains("pullpass.dev/inject=all"), "{message}");

    let both = json!([{"name": "other"}, {"name": "pullpass"}]);
    cluster.apply(&account("builder", both.clone())).await;
    cluster.apply(&account("default", both)).await;
    let told = place.check(&["-n", &namespace]).await;
    let found = told.find("accounts");
    assert_eq!(found["status"], "ok", "{}", told.output);
}

#[tokio::test(flavor = "multi_thread")]
async fn tells_which_hop_of_the_credential_fails() {
    let place = Place::new("check-identity").await;
    let name = place.fixture.name;
    let told = place.check_ecr(place.ecr("check-identity-none")).await;
    told.assert_fails(
        "identity",
        "source secret check-identity-none is not in namespace pullpass",
        "create it there with the label pullpass.dev/source=true",
    );
    assert_eq!(told.steps().last().unwrap(), "-life", "{}", told.output);
    tell_keys(&place).await;
    tell_rights(&place).await;

    // STS is of no consequence where it cannot be reached: tokens are minted by Amazon ECR.
    let mut ecr = place.ecr(name);
    ecr["endpoints"]["sts"] = "https://sts.example.com".into();
    let told = place.check_ecr(ecr).await;
    assert_eq!(told.code, Some(0), "{}", told.output);
    assert_eq!(told.find("caller")["status"], "info", "{}", told.output);

    let moto = &place.fixture.world.moto;
    place.fixture.user.set_life(moto, 600).await;
    place.check_ecr(place.ecr(name)).await.assert_fails(
        "life",
        "10m until",
        "have the session that signs last longer",
    );
}

/// Half a pair of keys, and a pair that does not belong together.
async fn tell_keys(place: &Place) {
    let name = place.fixture.name;
    let half = json!({"AWS_ACCESS_KEY_ID": key_id(name)});
    place
        .fixture
        .put_source("check-identity-half", "Opaque", half)
        .await;
    place
        .check_ecr(place.ecr("check-identity-half"))
        .await
        .assert_fails("identity", "AWS_SECRET_ACCESS_KEY is missing", "add it");

    let wrong = json!({"AWS_ACCESS_KEY_ID": key_id(name), "AWS_SECRET_ACCESS_KEY": secret_key("check-other")});
    place
        .fixture
        .put_source("check-identity-wrong", "Opaque", wrong)
        .await;
    place
        .check_ecr(place.ecr("check-identity-wrong"))
        .await
        .assert_fails("caller", "refused access key", "check AWS_ACCESS_KEY_ID");
}

/// A user that may do nothing.
async fn tell_rights(place: &Place) {
    let idle = User::add_with(
        &place.fixture.world.moto,
        "check-identity-idle",
        Some(json!([])),
    )
    .await;
    place.fixture.put_keys("check-identity-idle", &idle).await;
    let told = place.check_ecr(place.ecr("check-identity-idle")).await;
    told.assert_fails(
        "token",
        "denied ecr:GetAuthorizationToken",
        "pullpass policy",
    );
    assert_eq!(told.find("caller")["message"], idle.principal);
}

#[tokio::test(flavor = "multi_thread")]
async fn tells_why_an_image_cannot_be_pulled() {
    let place = Place::new("check-image").await;
    let file = place.write(json!({
        "images": [format!("{ECR}/team"), "gone.example.com/team"],
        "ecr": {
            "region": "eu-west-1", "identity": place.ecr(place.fixture.name)["identity"],
            "endpoints": place.ecr("")["endpoints"],
        },
    }));
    let check = async |image: &str| place.check(&["-f", &file, image]).await;

    check("docker.io/library/nginx").await.assert_fails(
        "served",
        "no pattern covers the image",
        "pullpass explain",
    );
    check("NGINX")
        .await
        .assert_fails("served", "cannot be read", "correct it");
    check(&IMAGE.replace(":1", ":2")).await.assert_fails(
        "manifest",
        "has no manifest team/app:2: MANIFEST_UNKNOWN",
        "check the image's repository, tag",
    );
    let digest = format!("{}@sha256:{}", IMAGE.replace(":1", ""), "0".repeat(64));
    check(&digest)
        .await
        .assert_fails("manifest", "has no manifest team/app@sha256:000", "tag");
    check("gone.example.com/team/app").await.assert_fails(
        "login",
        "cannot talk to gone.example.com",
        "name resolution",
    );
    place.set_door(Door::Elsewhere);
    check(IMAGE).await.assert_fails(
        "manifest",
        "refuses manifest team/app:1 (HTTP 40",
        "a repository policy too",
    );
    place.set_door(Door::Shut);
    let told = check(IMAGE).await;
    told.assert_fails("login", "refuses the login (HTTP 401)", "allow the pull");
    assert_eq!(told.steps().last().unwrap(), "-manifest");
}

#[tokio::test(flavor = "multi_thread")]
async fn tells_what_is_wrong_in_a_namespace() {
    // Webhook configurations are the whole cluster's.
    let place = Place::within(World::alone().await, "check-namespace").await;
    let fixture = &place.fixture;
    let (pullpass, namespace) = place.serve().await;
    let check = async |namespace: &str| place.check(&["--namespace", namespace]).await;
    assert_eq!(check(&namespace).await.code, Some(0));
    tell_namespaces(&place).await;
    tell_missing_source(&place, &namespace).await;
    tell_pull_secret(&place, &namespace).await;
    tell_kyverno(&place).await;

    let told = check(&namespace).await;
    assert_eq!(told.find("pods")["status"], "ok", "{}", told.output);
    // The API server goes on without pullpass.
    drop(pullpass);
    let missed = fixture.create(&namespace, &[IMAGE]).await;
    let references = &missed.body["spec"]["imagePullSecrets"];
    assert!(references.is_null(), "{references}");
    let told = check(&namespace).await;
    let found = told.find("pods");
    assert_eq!(found["status"], "warning", "{}", told.output);
    assert_eq!(found["id"], "PullSecretNotReferenced", "{}", told.output);
    let message = found["message"].as_str().unwrap();
    let words = "1 Pod waits without the reference pullpass";
    assert!(message.starts_with(words), "{message}");
    let fix = found["command"].as_str().unwrap();
    assert!(fix.starts_with("kubectl delete pod "), "{fix}");
    check(&namespace).await.assert_fails(
        "dryRun",
        "comes back without the reference",
        "see that pullpass runs",
    );
    let configuration = format!("00-pullpass-{}", fixture.name);
    let path = format!(
        "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/{configuration}"
    );
    let mut found = fixture.cluster.get(&path).await.unwrap();
    for webhook in found["webhooks"].as_array_mut().unwrap() {
        webhook["clientConfig"]["caBundle"].take();
    }
    found["metadata"]["managedFields"].take();
    fixture.cluster.send("PUT", &path, Some(&found)).await.ok();
    check(&namespace)
        .await
        .assert_fails("webhook", "has no caBundle", "caBundle");
    tell_missing_configurations(&place).await;
}

/// Those that are installed together: one of them is deleted, then the other.
async fn tell_missing_configurations(place: &Place) {
    let cluster = &place.fixture.cluster;
    let path = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";
    cluster.send("DELETE", path, None).await.ok();
    // Neither is there, nor a Deployment.
    let nothing = "pullpass is not installed here";
    let told = place.check(&[]).await;
    told.assert_fails("webhook", nothing, "helm install pullpass");
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/manifests/webhook.yaml");
    let [mutating, validating]: [Value; 2] = read_yaml(manifest).try_into().unwrap();
    let ca = STANDARD.encode(&place.internet.ca);
    for mut configuration in [mutating, validating] {
        for webhook in configuration["webhooks"].as_array_mut().unwrap() {
            webhook["clientConfig"]["caBundle"] = ca.as_str().into();
            webhook["namespaceSelector"] = json!({"matchLabels": {"idle": "yes"}});
        }
        let told = place.check(&[]).await;
        assert_eq!(told.find("webhook")["status"], "failed", "{}", told.output);
        cluster.apply(&configuration).await;
        if configuration["kind"] == "MutatingWebhookConfiguration" {
            let missing = "validatingwebhookconfiguration 00-pullpass not found";
            place
                .check(&[])
                .await
                .assert_fails("webhook", missing, "helm upgrade");
        }
    }
    let told = place.check(&[]).await;
    assert_eq!(told.find("webhook")["status"], "ok", "{}", told.output);
    // And as pullpass' own account, which may see these alone.
    cluster.grant_webhooks().await;
    let kubeconfig = place.fixture.launch().await.kubeconfig;
    let own = ["--kubeconfig", kubeconfig.to_str().unwrap()];
    let told = place.run(&own, &[]).await;
    assert_eq!(told.find("webhook")["status"], "ok", "{}", told.output);
}

/// F22: a Kyverno whose credential helpers a Pod with pull secrets switches off is a warning, and no failure.
async fn tell_kyverno(place: &Place) {
    let cluster = &place.fixture.cluster;
    support::process::make_namespace(cluster, "kyverno", &json!({})).await;
    let labels = json!({"app.kubernetes.io/component": "admission-controller"});
    let deployment = |version: &str| {
        let image = format!("reg.kyverno.io/kyverno/kyverno:{version}");
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "kyverno-admission-controller", "namespace": "kyverno", "labels": labels},
            "spec": {"selector": {"matchLabels": labels}, "template": {
                "metadata": {"labels": labels}, "spec": {"containers": [{"name": "kyverno", "image": image}]},
            }},
        })
    };
    for (version, is_told) in [("v1.18.1", true), ("v1.18.3", false)] {
        cluster.apply(&deployment(version)).await;
        let told = place.check(&[]).await;
        assert_eq!(told.code, Some(0), "{}", told.output);
        let mut checks = told.checks.iter();
        let found = checks.find(|check| check["step"] == "kyverno");
        assert_eq!(found.is_some(), is_told, "{}", told.output);
        if let Some(found) = found {
            println!("{found}");
            assert_eq!(found["status"], "warning", "{found}");
            assert_eq!(found["id"], "KyvernoHelpersOff", "{found}");
            let fix = found["fix"].as_str().unwrap();
            assert!(fix.contains("upgrade Kyverno beyond 1.18.2"), "{fix}");
        }
    }
    cluster.delete(&deployment("v1.18.3")).await;
}

/// Namespaces that are not there, or did not opt in.
async fn tell_namespaces(place: &Place) {
    let fixture = &place.fixture;
    let check = async |namespace: &str| place.check(&["--namespace", namespace]).await;
    let told = check("check-namespace-none").await;
    assert_eq!(
        told.find("optIn")["message"],
        "there is no namespace check-namespace-none"
    );
    let labels = json!({FIXTURE: fixture.name});
    support::process::make_namespace(&fixture.cluster, "check-namespace-out", &labels).await;
    check("check-namespace-out").await.assert_fails(
        "optIn",
        "the namespace did not opt in",
        "pullpass.dev/inject=enabled",
    );
    // One cause is one failure.
    let told = check("check-namespace-out").await;
    let failed = told.checks.iter().filter(|one| one["status"] == "failed");
    assert_eq!(failed.count(), 1, "{}", told.output);
    let mut labels = fixture.labels();
    labels["pullpass.dev/enforce"] = "Deny".into();
    support::process::make_namespace(&fixture.cluster, "check-namespace-odd", &labels).await;
    let told = check("check-namespace-odd").await;
    let found = told.find("enforce");
    assert_eq!(found["status"], "warning", "{}", told.output);
    assert_eq!(found["id"], "UnknownEnforceValue", "{}", told.output);
    let command = found["command"].as_str().unwrap();
    assert!(
        command.contains("pullpass.dev/enforce=warn --overwrite"),
        "{command}"
    );
    // Opted in and excluded, as the webhook's selector, the process and this command are given it.
    fixture.namespace("infra").await;
    let name = fixture.namespace_name("infra");
    exclude(fixture, &name).await;
    let excluded = ["--namespace", &name, "--exclude-namespaces", &name];
    let fix = "webhook.excludeNamespaces";
    let told = place.check(&excluded).await;
    told.assert_fails("optIn", "the namespace is opted in and excluded", fix);
    let why = "the namespace is opted in and excluded";
    assert_eq!(told.find("optIn")["message"], why, "{}", told.output);
    let told = check("kube-public").await;
    assert_ne!(told.find("optIn")["message"], why, "{}", told.output);
    support::process::make_namespace(&fixture.cluster, "kube-public", &fixture.labels()).await;
    let told = check("kube-public").await;
    assert_eq!(told.find("optIn")["message"], why, "{}", told.output);
}

/// Excludes a namespace from the webhook as the chart does.
async fn exclude(fixture: &Fixture, namespace: &str) {
    let path = format!(
        "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/00-pullpass-{}",
        fixture.name
    );
    let mut found = fixture.cluster.get(&path).await.unwrap();
    let selector = &mut found["webhooks"][0]["namespaceSelector"]["matchExpressions"];
    let expression =
        json!({"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": [namespace]});
    selector.as_array_mut().unwrap().push(expression);
    fixture.cluster.send("PUT", &path, Some(&found)).await.ok();
}

/// Namespaces keep the last login: that is not what was asked for, and one failure.
async fn tell_missing_source(place: &Place, namespace: &str) {
    let fixture = &place.fixture;
    let source = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": fixture.name, "namespace": "pullpass"},
    });
    fixture.cluster.delete(&source).await;
    let told = place.check(&["--namespace", namespace]).await;
    told.assert_fails("identity", "is not in namespace pullpass", "create it");
    let held = told.find("pullSecret");
    assert_eq!(held["status"], "skipped", "{}", told.output);
    let message = held["message"].as_str().unwrap();
    let kept = "keeps the last login (its source Secret is missing)";
    assert!(message.contains(kept), "{message}");
    let failed = told.checks.iter().filter(|one| one["status"] == "failed");
    assert_eq!(failed.count(), 1, "{}", told.output);
    fixture.put_keys(fixture.name, &fixture.user).await;
}

/// Somebody writes into the pull secret; then it is somebody else's; in the end it is not there.
async fn tell_pull_secret(place: &Place, namespace: &str) {
    let fixture = &place.fixture;
    let check = async || place.check(&["--namespace", namespace]).await;
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/dockerconfigjson",
        "metadata": {"name": "pullpass", "namespace": namespace},
        "stringData": {".dockerconfigjson": "{\"auths\":{}}"},
    });
    fixture.cluster.apply(&secret).await;
    let told = check().await;
    told.assert_fails(
        "pullSecret",
        "123456789012.dkr.ecr.eu-west-1.amazonaws.com/team is missing",
        "the next Pod",
    );
    fixture.cluster.delete(&secret).await;
    let told = check().await;
    assert_eq!(told.find("pullSecret")["status"], "info", "{}", told.output);
    fixture.cluster.apply(&secret).await;
    check().await.assert_fails(
        "pullSecret",
        "is not managed by pullpass",
        "kubectl delete secret pullpass",
    );
    fixture.cluster.delete(&secret).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn prints_name_and_time_of_each_line_where_it_is_wide() {
    let place = Place::new("check-wide").await;
    let (_pullpass, namespace) = place.serve().await;
    let kubeconfig = place.fixture.world.kubeconfig().to_str().unwrap();
    let arguments = ["--kubeconfig", kubeconfig, "-n", &namespace, IMAGE];
    let lines = |told: &Told| -> Vec<String> {
        let is_line = |line: &&str| {
            ["  ✓ ", "  ✗ ", "  ! ", "  · ", "  ? ", "  – "]
                .iter()
                .any(|mark| line.starts_with(mark))
        };
        let lines = told.stdout.lines().filter(is_line);
        lines.map(str::to_owned).collect()
    };
    let wide = place.run_as("wide", &arguments, &[]).await;
    assert_eq!(wide.code, Some(0), "{}", wide.output);
    println!("{}", wide.stdout);
    let found = lines(&wide);
    assert!(found.len() > 10, "{}", wide.output);
    // The namespace's ServiceAccount lists nothing, and Pods do without.
    let is_named = |line: &String| {
        let names = [" [Ok]", " [ServiceAccountsUnlisted]"];
        names.iter().any(|name| line.contains(name))
    };
    assert!(found.iter().all(is_named), "{found:?}");
    let timed = found.iter().filter(|line| line.ends_with(" ms)"));
    assert!(timed.count() > 5, "{found:?}");
    let text = place.run_as("text", &arguments, &[]).await;
    assert_eq!(text.code, Some(0), "{}", text.output);
    let found = lines(&text);
    assert!(
        found.iter().all(|line| !line.contains(" [Ok]")),
        "{found:?}"
    );
    // What fails has its name in both.
    let arguments = ["--kubeconfig", kubeconfig, "elsewhere.example.com/app:1"];
    for output in ["text", "wide"] {
        let told = place.run_as(output, &arguments, &[]).await;
        assert_eq!(told.code, Some(1), "{}", told.output);
        assert!(told.stdout.contains(" [NoPattern]"), "{}", told.output);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn gives_up_waiting_at_the_end_of_its_time() {
    let place = Place::new("check-waits").await;
    let (_pullpass, namespace) = place.serve().await;
    let done = place
        .check(&["-n", &namespace, "--wait", "--timeout", "90s"])
        .await;
    assert_eq!(done.code, Some(0), "{}", done.output);
    assert!(done.stderr.is_empty(), "{}", done.output);
    support::process::make_namespace(&place.fixture.cluster, "check-waits-out", &json!({})).await;
    let told = place
        .check(&["-n", "check-waits-out", "--wait", "--timeout", "3s"])
        .await;
    assert_eq!(told.code, Some(1), "{}", told.output);
    for words in [
        "optIn of Namespace check-waits-out (NamespaceNotOptedIn)",
        "gave up after 3 s",
    ] {
        assert!(told.stderr.contains(words), "{}", told.output);
    }
    // One report, of the last try.
    let report: Value = serde_json::from_str(&told.stdout).unwrap();
    assert_eq!(report["ok"], false);
    for (arguments, words) in [
        (["--wait", "--timeout", "3"], "write 90s, 5m or 1h"),
        (["--timeout", "3s", "-n"], "a value is required"),
    ] {
        let told = place.check(&arguments).await;
        assert_eq!(told.code, Some(2), "{}", told.output);
        assert!(told.output.contains(words), "{}", told.output);
    }
    let told = place.check(&["--timeout", "3s"]).await;
    assert_eq!(told.code, Some(2), "{}", told.output);
    assert!(told.output.contains("--wait"), "{}", told.output);
}

/// N13: who may not see what a pull secret should hold is told so, and not that it holds something else.
#[tokio::test(flavor = "multi_thread")]
async fn says_to_a_tenant_that_it_cannot_compare() {
    let place = Place::new("check-apart").await;
    let (_pullpass, namespace) = place.serve().await;
    let spec = json!({"images": [format!("{ECR}/team")], "ecr": place.ecr("check-apart")});
    let file = place.write(spec);
    let kubeconfig = place.fixture.file("tenant.kubeconfig");
    connect_tenant(&place.fixture, &namespace, &kubeconfig).await;
    let kubeconfig = kubeconfig.to_str().unwrap();
    let arguments = ["--kubeconfig", kubeconfig, "-n", &namespace, "-f", &file];
    let told = place.run(&arguments, &[]).await;
    let compared = told.find("pullSecret");
    println!("{compared}");
    assert_eq!(compared["status"], "hidden", "{}", told.output);
    assert_eq!(compared["id"], "CannotCompare", "{}", told.output);
    let message = compared["message"].as_str().unwrap();
    for words in [
        "pullpass holds 1 login: cannot compare",
        "this account may not see",
    ] {
        assert!(message.contains(words), "{}", told.output);
    }
    assert_eq!(told.find("dryRun")["status"], "ok", "{}", told.output);
    // One block for each Registry.
    let text = place.run_as("text", &arguments, &[]).await;
    let blocks = text.stdout.lines().filter(|line| *line == "Registry one");
    assert_eq!(blocks.count(), 1, "{}", text.output);
}

#[tokio::test(flavor = "multi_thread")]
async fn sees_with_its_own_rights_what_it_needs() {
    let place = Place::new("check-rights").await;
    let (_pullpass, namespace) = place.serve().await;
    let launch = place.fixture.launch().await;
    let kubeconfig = launch.kubeconfig.to_str().unwrap();
    let told = place
        .run(
            &["--kubeconfig", kubeconfig, "--namespace", &namespace, IMAGE],
            &[],
        )
        .await;
    assert_eq!(told.code, Some(0), "{}", told.output);
    for step in ["webhook", "dryRun", "accounts"] {
        assert_eq!(told.find(step)["status"], "hidden", "{}", told.output);
    }
    for step in ["token", "manifest", "pullSecret"] {
        assert_eq!(told.find(step)["status"], "ok", "{}", told.output);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tries_fixed_logins_on_each_host_without_an_image() {
    let place = Place::new("check-fixed").await;
    // A login that the registry takes: a token that was minted before.
    let user = &place.fixture.user;
    place.check_ecr(place.ecr(place.fixture.name)).await;
    let check = async |secret: &str| {
        let file = place.write(json!({
            "images": [format!("{ECR}/team"), format!("{ECR}/other"), "*.example.com"],
            "static": {"secretRef": {"name": secret}},
        }));
        place.check(&["-f", &file]).await
    };
    let login = user.newest(&place.fixture.world.moto).await.unwrap();
    let data = json!({"username": login.username, "password": login.password});
    place
        .fixture
        .put_source("check-fixed-login", "kubernetes.io/basic-auth", data)
        .await;
    let told = check("check-fixed-login").await;
    let logins: Vec<&Value> = told
        .checks
        .iter()
        .filter(|check| check["step"] == "login")
        .collect();
    assert_eq!(logins.len(), 2, "{}", told.output);
    assert_eq!(logins[0]["status"], "ok");
    assert_eq!(logins[1]["status"], "skipped");

    let data = json!({"username": "robot", "password": "canary"});
    place
        .fixture
        .put_source("check-fixed-wrong", "kubernetes.io/basic-auth", data)
        .await;
    check("check-fixed-wrong").await.assert_fails(
        "login",
        "refuses the login (HTTP 401)",
        "check that the login is the registry's",
    );
    check("check-fixed-none").await.assert_fails(
        "identity",
        "check-fixed-none is not in namespace pullpass",
        "pullpass policy",
    );
    let file = place.fixture.file("registries.yaml");
    let told = place.run(&["-f", file.to_str().unwrap()], &[]).await;
    told.assert_fails("identity", "none is connected", "--kubeconfig");
}

#[tokio::test(flavor = "multi_thread")]
async fn tries_the_service_account_of_the_namespace() {
    let place = Place::new("check-tenant").await;
    let fixture = &place.fixture;
    allow_tokens(fixture, "default").await;
    let role = add_role(
        fixture,
        "check-tenant",
        &fixture.namespace_name("pods"),
        "default",
    )
    .await;
    let mut ecr = place.ecr("");
    ecr["identity"] = json!({"serviceAccount": {"name": "default", "roleArn": role}});
    let spec = json!({"images": [format!("{ECR}/tenant")], "ecr": ecr});
    fixture.put_registry("check-tenant-own", spec).await;
    let (_pullpass, namespace) = place.serve().await;

    let told = place.check(&["--namespace", &namespace]).await;
    let of_tenant = |step: &str| {
        let mut checks = told.checks.iter();
        let found =
            checks.find(|check| check["name"] == "check-tenant-own" && check["step"] == step);
        found.unwrap()["message"].as_str().unwrap()
    };
    let session = "arn:aws:sts::123456789012:assumed-role/check-tenant/pullpass";
    assert_eq!(of_tenant("caller"), session);
    assert!(of_tenant("token").contains(session));
    let held = &told.find("pullSecret")["message"];
    assert_eq!(
        held, "pullpass: 2 logins as it should be",
        "{}",
        told.output
    );

    // The neighbour's has the same name, and the role does not trust it.
    let neighbour = fixture.namespace("neighbour").await;
    let told = place.check(&["--namespace", &neighbour]).await;
    told.assert_fails("identity", "sts:AssumeRoleWithWebIdentity", "trust policy");
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_two_when_it_cannot_begin() {
    let place = Place::new("check-usage").await;
    let rows: [(&[&str], &str); 5] = [
        (&[], "name files with -f, or a cluster with --kubeconfig"),
        (&["--nonsense"], "unexpected argument"),
        (&["-f", "/nonexistent"], "name a file that can be read"),
        (
            &["--kubeconfig", "/nonexistent"],
            "give another with --kubeconfig",
        ),
        (&["-f", "/dev/null"], "the files hold no Registry"),
    ];
    for (arguments, words) in rows {
        let told = place.run(arguments, &[]).await;
        assert_eq!(told.code, Some(2), "{arguments:?}: {}", told.output);
        assert!(
            told.output.contains(words),
            "{arguments:?}: {}",
            told.output
        );
    }
}

/// A proxy for `CONNECT` on loopback, which passes on what it is given; notes the targets.
async fn start_tunnel() -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let targets = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&targets);
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let seen = Arc::clone(&seen);
            tokio::spawn(async move {
                let mut client = BufReader::new(client);
                let mut lines = String::new();
                while !lines.ends_with("\r\n\r\n") {
                    client
                        .read_line(&mut lines)
                        .await
                        .ok()
                        .filter(|read| *read > 0)?;
                }
                let target = lines.split(' ').nth(1)?.to_owned();
                let mut server = TcpStream::connect(&target).await.ok()?;
                seen.lock().unwrap().push(target);
                client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.ok()?;
                copy_bidirectional(&mut client, &mut server).await.ok()
            });
        }
    });
    (url, targets)
}

/// The cluster is the one that kubectl would ask: by `KUBECONFIG`, several files of it, and through the `proxy-url` of its cluster.
#[tokio::test(flavor = "multi_thread")]
async fn finds_the_cluster_as_kubectl_does() {
    let place = Place::new("check-kubectl").await;
    let namespace = place.fixture.namespace("pods").await;
    let text = std::fs::read_to_string(place.fixture.world.kubeconfig()).unwrap();
    let mut kubeconfig: Value = serde_saphyr::from_str(&text).unwrap();
    let (url, targets) = start_tunnel().await;
    kubeconfig["clusters"][0]["cluster"]["proxy-url"] = url.into();
    let context = kubeconfig["current-context"].take();
    let context = context.as_str().unwrap();
    let write = |name: &str, content: &Value| {
        let file = place.fixture.file(name);
        std::fs::write(&file, content.to_string()).unwrap();
        file.to_str().unwrap().to_owned()
    };
    let first = write(
        "first.kubeconfig",
        &json!({"apiVersion": "v1", "kind": "Config", "current-context": context}),
    );
    let second = write("second.kubeconfig", &kubeconfig);
    let list = format!("{first}:/not/there:{second}");
    for (arguments, environment) in [
        (vec![], vec![("KUBECONFIG", list.as_str())]),
        (
            vec!["--context", context],
            vec![("KUBECONFIG", second.as_str())],
        ),
    ] {
        targets.lock().unwrap().clear();
        let told = place
            .run(
                &[&["-n", &namespace, IMAGE], arguments.as_slice()].concat(),
                &environment,
            )
            .await;
        assert_eq!(told.find("registries")["status"], "ok", "{}", told.output);
        assert!(
            !targets.lock().unwrap().is_empty(),
            "it went past the proxy"
        );
        let explained = Command::new(env!("CARGO_BIN_EXE_pullpass"))
            .args(["explain", "--context", context, "-n", &namespace, IMAGE])
            .env_clear()
            .envs(environment)
            .output()
            .unwrap();
        let stdout = String::from_utf8(explained.stdout).unwrap();
        let stderr = String::from_utf8(explained.stderr).unwrap();
        let served = format!("{} serves it", place.fixture.name);
        assert!(stdout.contains(&served), "{stdout}{stderr}");
        assert!(!stdout.contains("is not known"), "{stdout}");
    }
}
