//! A whole cluster with AWS and an image registry, and pullpass beside it, as its own ServiceAccount.

use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use super::bed::{self, Bed};
use super::cluster::Cluster;
use super::moto::{key_id, secret_key};
use super::process::{LOOPBACK, Launch, Pullpass};
use super::wait;

/// The host of the images, which the node pulls from the registry here.
pub const HOST: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";
/// What `bed` answers where the machine allows no node.
const NOT_ALLOWED: i32 = 3;

/// A cluster with its clouds.
pub struct Place {
    pub bed: Bed,
    pub cluster: Cluster,
    folder: TempDir,
    client: reqwest::Client,
}

/// The ARN of an IAM user.
pub fn principal(name: &str) -> String {
    format!("arn:aws:iam::123456789012:user/{name}")
}

impl Place {
    /// Brings all of it up, with these further arguments of `bed cluster up`. `None` where the machine allows no node, which is said.
    pub async fn start(arguments: &[&str]) -> Option<Self> {
        let refused = bed::run("cluster", &["allowed"], "");
        if refused.status.code() == Some(NOT_ALLOWED) {
            eprintln!(
                "skipped: {}",
                String::from_utf8_lossy(&refused.stderr).trim()
            );
            return None;
        }
        let arguments = [&["up", "--mirror", HOST][..], arguments].concat();
        let bed = Bed::start("cluster", &arguments);
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

    /// A field of what the registry said when it was ready.
    pub fn registry(&self, name: &str) -> &str {
        self.bed.ready["registry"][name].as_str().unwrap()
    }

    fn control(&self, path: &str) -> String {
        let control = self.bed.ready["moto"]["control"].as_str().unwrap();
        format!("{control}/{path}")
    }

    async fn tell_aws(&self, path: &str, body: Value) {
        let answer = self.client.post(self.control(path)).json(&body).send();
        answer.await.unwrap().error_for_status().unwrap();
    }

    /// AWS knows a user's keys and gives it tokens that live so many seconds.
    pub async fn add_user(&self, name: &str, life: u32) {
        let principal = principal(name);
        let key = json!({
            "accessKeyId": key_id(name), "secretAccessKey": secret_key(name), "principal": principal,
        });
        self.tell_aws("keys", key).await;
        self.tell_aws("life", json!({"seconds": life, "principal": principal}))
            .await;
    }

    /// Whom the registry lets in: users' newest tokens, and the ones before for so many seconds. Amazon ECR takes those until they
    /// expire.
    pub fn allow(&self, allow: &Value, overlap: u32) {
        let control = &self.bed.ready["moto"]["control"];
        let minted = json!({"control": control, "overlapSeconds": overlap});
        let access = json!({"allow": allow, "minted": minted});
        std::fs::write(self.registry("access"), access.to_string()).unwrap();
    }

    /// pullpass' kind and rights.
    pub async fn install(&self) {
        let manifests = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests");
        self.cluster.apply_file(manifests.join("crd.yaml")).await;
        self.cluster.apply_file(manifests.join("rbac.yaml")).await;
        let path = "/apis/pullpass.dev/v1alpha1/registries";
        wait::until("the Registry kind", async || self.cluster.get(path).await).await;
    }

    /// A user's keys in a source Secret; answers the `ecr` part of a Registry that mints with them.
    pub async fn put_keys(&self, user: &str) -> Value {
        let labels = json!({"pullpass.dev/source": "true"});
        let keys =
            json!({"AWS_ACCESS_KEY_ID": key_id(user), "AWS_SECRET_ACCESS_KEY": secret_key(user)});
        self.cluster
            .apply(&json!({
                "apiVersion": "v1", "kind": "Secret", "stringData": keys,
                "metadata": {"name": user, "namespace": "pullpass", "labels": labels},
            }))
            .await;
        let aws = &self.bed.ready["moto"]["url"];
        json!({"identity": {"keys": {"secretRef": {"name": user}}}, "endpoints": {"ecr": aws}})
    }

    /// pullpass, beside the cluster.
    pub async fn launch(&self) -> Pullpass {
        Pullpass::start(&self.own_launch().await).await
    }

    /// How pullpass is started beside the cluster, as its own ServiceAccount.
    pub async fn own_launch(&self) -> Launch {
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
        Launch {
            kubeconfig,
            extra_ca: self.bed.ready["moto"]["ca"].as_str().unwrap().into(),
            log: "info",
            environment: Vec::new(),
            controller: true,
            own_certificates: false,
            listen: LOOPBACK,
            arguments: vec!["--drain-delay", "0"],
            files: None,
        }
    }

    /// What AWS gave a user, oldest first: `password`, `time`, `expiresAt`.
    pub async fn minted(&self, user: &str) -> Vec<Value> {
        let answer = self.client.get(self.control("minted")).send().await;
        let tokens: Vec<Value> = answer.unwrap().json().await.unwrap();
        let principal = principal(user);
        let own = tokens.into_iter();
        own.filter(|token| token["principal"] == *principal)
            .collect()
    }

    /// The requests with a login of AWS that the registry got, oldest first: `method`, `path`, `passwordSha256`, `allowed`.
    pub fn requests(&self) -> Vec<Value> {
        let log = std::fs::read_to_string(self.registry("accessLog")).unwrap();
        let lines = log
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter(|line| line["username"] == "AWS").collect()
    }

    /// Whether the registry lets each login in that it was shown, by the password's digest, oldest first.
    pub fn logins(&self) -> Vec<(String, bool)> {
        let requests = self.requests().into_iter();
        requests
            .map(|line| {
                let digest = line["passwordSha256"].as_str().unwrap().to_owned();
                (digest, line["allowed"] == true)
            })
            .collect()
    }

    /// What the registry answers to a login with this password.
    pub async fn log_in(&self, password: &str) -> u16 {
        let url = format!("{}/v2/", self.registry("url"));
        let request = self.client.get(url).basic_auth("AWS", Some(password));
        request.send().await.unwrap().status().as_u16()
    }
}

/// A token's password, as the access log shows it.
pub fn digest(token: &Value) -> String {
    let password = token["password"].as_str().unwrap();
    let digits = format!("{:x}", Sha256::digest(password.as_bytes()));
    digits[..12].to_owned()
}
