//! Rotation in a whole cluster: a Pod that pulls at each of its many restarts while every old password is switched off soon after the
//! next one was minted. `make test-cluster` builds the parts and runs this.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::path::Path;
use std::time::{Duration, Instant};

use crate::support;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use support::bed::{self, Bed};
use support::cluster::Cluster;
use support::moto::{key_id, secret_key};
use support::process::{Launch, Pullpass, make_namespace};
use support::wait;
use tempfile::TempDir;

const HOST: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";
const PRINCIPAL: &str = "arn:aws:iam::123456789012:user/puller";
/// How long a token lives, in seconds: it is renewed after half of that.
const LIFE: u32 = 30;
/// For how long the registry takes a token after the next one was minted, in seconds. Amazon ECR takes it until it expires.
const OVERLAP: u32 = 5;
const ROTATIONS: usize = 3;
/// What `bed` answers where the machine allows no node.
const NOT_ALLOWED: i32 = 3;

/// A whole cluster with AWS and a registry, and what this test writes.
struct Place {
    bed: Bed,
    cluster: Cluster,
    folder: TempDir,
    client: reqwest::Client,
}

impl Place {
    /// `None` where the machine allows no node, which is said.
    async fn start() -> Option<Self> {
        let refused = bed::run("cluster", &["allowed"], "");
        if refused.status.code() == Some(NOT_ALLOWED) {
            eprintln!(
                "skipped: {}",
                String::from_utf8_lossy(&refused.stderr).trim()
            );
            return None;
        }
        let bed = Bed::start(
            "cluster",
            &["up", "--mirror", HOST, "--image", "team/hello:1"],
        );
        let cluster = Cluster::connect(bed.field("kubeconfig")).await;
        let ca = std::fs::read(bed.ready["registry"]["ca"].as_str().unwrap()).unwrap();
        let ca = reqwest::Certificate::from_pem(&ca).unwrap();
        let client = reqwest::Client::builder()
            .no_proxy()
            .tls_certs_merge([ca])
            .build();
        Some(Self {
            bed,
            cluster,
            folder: tempfile::tempdir().unwrap(),
            client: client.unwrap(),
        })
    }

    fn control(&self, path: &str) -> String {
        let control = self.bed.ready["moto"]["control"].as_str().unwrap();
        format!("{control}/{path}")
    }

    async fn tell_aws(&self, path: &str, body: Value) {
        let answer = self.client.post(self.control(path)).json(&body).send();
        answer.await.unwrap().error_for_status().unwrap();
    }

    /// AWS knows the user's keys and gives short-lived tokens; the registry takes the user's newest one, and the one before for a while.
    async fn set_up_clouds(&self) {
        let key = json!({
            "accessKeyId": key_id("puller"), "secretAccessKey": secret_key("puller"), "principal": PRINCIPAL,
        });
        self.tell_aws("keys", key).await;
        self.tell_aws("life", json!({"seconds": LIFE, "principal": PRINCIPAL}))
            .await;
        let control = &self.bed.ready["moto"]["control"];
        let access = json!({"allow": [], "minted": {
            "control": control, "principals": [PRINCIPAL], "overlapSeconds": OVERLAP,
        }});
        let file = self.bed.ready["registry"]["access"].as_str().unwrap();
        std::fs::write(file, access.to_string()).unwrap();
    }

    /// pullpass' kind, rights and source Secret, one Registry, and a namespace that opted in.
    async fn configure(&self) {
        let manifests = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests");
        self.cluster.apply_file(manifests.join("crd.yaml")).await;
        self.cluster.apply_file(manifests.join("rbac.yaml")).await;
        let labels = json!({"pullpass.dev/source": "true"});
        let keys = json!({"AWS_ACCESS_KEY_ID": key_id("puller"), "AWS_SECRET_ACCESS_KEY": secret_key("puller")});
        self.cluster
            .apply(&json!({
                "apiVersion": "v1", "kind": "Secret", "stringData": keys,
                "metadata": {"name": "puller", "namespace": "pullpass", "labels": labels},
            }))
            .await;
        let path = "/apis/pullpass.dev/v1alpha1/registries";
        wait::until("the Registry kind", async || self.cluster.get(path).await).await;
        let aws = &self.bed.ready["moto"]["url"];
        self.cluster
            .apply(&json!({
                "apiVersion": "pullpass.dev/v1alpha1", "kind": "Registry", "metadata": {"name": "team"},
                "spec": {
                    "images": [format!("{HOST}/team")], "namespaceSelector": {},
                    "ecr": {"identity": {"keys": {"secretRef": {"name": "puller"}}}, "endpoints": {"ecr": aws}},
                },
            }))
            .await;
        let labels = json!({"pullpass.dev/inject": "enabled"});
        make_namespace(&self.cluster, "shop", &labels).await;
    }

    /// pullpass as its own ServiceAccount, beside the cluster.
    async fn launch(&self) -> Pullpass {
        let path = "/api/v1/namespaces/pullpass/serviceaccounts/pullpass/token";
        let request = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 3600},
        });
        let answer = self.cluster.send("POST", path, Some(&request)).await.ok();
        let kubeconfig = self.folder.path().join("kubeconfig");
        let server = json!({
            "server": self.bed.field("url"), "certificate-authority": self.bed.field("ca"),
        });
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": server}],
            "users": [{"name": "test", "user": {"token": answer.body["status"]["token"]}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        });
        std::fs::write(&kubeconfig, config.to_string()).unwrap();
        Pullpass::start(&Launch {
            kubeconfig,
            extra_ca: self.bed.ready["moto"]["ca"].as_str().unwrap().into(),
            log: "info",
            environment: Vec::new(),
            controller: true,
            own_certificates: false,
            listen: support::process::LOOPBACK,
            arguments: vec!["--drain-delay", "0"],
            files: None,
        })
        .await
    }

    /// The passwords that AWS gave the user, oldest first.
    async fn minted(&self) -> Vec<String> {
        let answer = self.client.get(self.control("minted")).send().await;
        let tokens: Vec<Value> = answer.unwrap().json().await.unwrap();
        let own = tokens
            .iter()
            .filter(|token| token["principal"] == PRINCIPAL);
        own.map(|token| token["password"].as_str().unwrap().to_owned())
            .collect()
    }

    /// Whether the registry lets each login in that it was shown, by the password's digest, oldest first.
    fn logins(&self) -> Vec<(String, bool)> {
        let log = self.bed.ready["registry"]["accessLog"].as_str().unwrap();
        let log = std::fs::read_to_string(log).unwrap();
        let lines = log
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines
            .filter(|line| line["username"] == "AWS")
            .map(|line| {
                let digest = line["passwordSha256"].as_str().unwrap().to_owned();
                (digest, line["allowed"] == true)
            })
            .collect()
    }

    /// What the registry answers to a login with this password.
    async fn log_in(&self, password: &str) -> u16 {
        let url = format!(
            "{}/v2/",
            self.bed.ready["registry"]["url"].as_str().unwrap()
        );
        let request = self.client.get(url).basic_auth("AWS", Some(password));
        request.send().await.unwrap().status().as_u16()
    }

    /// The Pod's only container: how often it was started again, and why it waits if its image could not be pulled.
    async fn look(&self) -> (u64, Option<String>) {
        let pod = self.cluster.get("/api/v1/namespaces/shop/pods/hello").await;
        let pod = pod.unwrap();
        let status = pod.pointer("/status/containerStatuses/0");
        let status = status.unwrap_or(&Value::Null);
        let reason = status["state"]["waiting"]["reason"].as_str();
        let failed = reason.filter(|reason| reason.contains("Image") || reason.contains("Pull"));
        (
            status["restartCount"].as_u64().unwrap_or(0),
            failed.map(str::to_owned),
        )
    }
}

/// As the access log shows a password.
fn digest(password: &str) -> String {
    let digits = format!("{:x}", Sha256::digest(password.as_bytes()));
    digits[..12].to_owned()
}

/// A Pod that ends after a moment and pulls before each start. Its reference to the pull secret is what the webhook would add.
fn restless() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "hello", "namespace": "shop"},
        "spec": {
            "imagePullSecrets": [{"name": "pullpass"}], "restartPolicy": "Always",
            "containers": [{
                "name": "hello", "image": format!("{HOST}/team/hello:1"), "imagePullPolicy": "Always",
                "args": ["--sleep", "200ms"],
            }],
        },
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_pull_fails_across_rotations_that_switch_the_old_password_off() {
    let Some(place) = Place::start().await else {
        return;
    };
    place.set_up_clouds().await;
    place.configure().await;
    let _pullpass = place.launch().await;
    wait::until("the pull secret", async || {
        place.cluster.secret("shop", "pullpass").await
    })
    .await;
    place.cluster.create_pod(&restless(), "").await.ok();

    // Until somebody pulls with the login that the last rotation brought.
    let deadline = Instant::now() + Duration::from_mins(3);
    let minted = loop {
        let (restarts, failed) = place.look().await;
        assert_eq!(failed, None, "after {restarts} restarts");
        let minted = place.minted().await;
        let last = minted.get(ROTATIONS).map(|password| digest(password));
        let logins = place.logins();
        if last.is_some_and(|last| logins.iter().any(|(digest, _)| *digest == last)) {
            break minted;
        }
        assert!(Instant::now() < deadline, "{restarts} restarts, {logins:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    let (restarts, _) = place.look().await;
    let logins = place.logins();
    let refused = logins.iter().filter(|(_, allowed)| !allowed).count();
    println!(
        "{ROTATIONS} rotations, {restarts} restarts, {} requests with a login, {refused} refused",
        logins.len()
    );
    assert_eq!(refused, 0, "{logins:?}");
    for password in &minted[..=ROTATIONS] {
        let digest = digest(password);
        assert!(logins.iter().any(|(one, _)| *one == digest), "never used");
    }
    assert!(
        restarts >= 2 * ROTATIONS as u64,
        "{restarts} is no restless Pod"
    );

    // The old ones are truly off.
    for password in &minted[..ROTATIONS - 1] {
        assert_eq!(place.log_in(password).await, 401);
    }
    assert_eq!(place.log_in(&minted[ROTATIONS]).await, 200);
}
