//! AWS as the test bed speaks it, and the calls by which a test sets it up.

use std::time::Duration;

use pullpass::credential::MintTimeouts;
use pullpass::credential::acr::{self, AcrMint};
use pullpass::credential::ecr::EcrMint;
use pullpass::credential::http::{HttpClient, ProxyConfig};
use pullpass::credential::identity::AwsEnvironment;
use pullpass::credential::mint::Clouds;
use pullpass::registry::source::{EcrEndpoints, EcrIdentity, EcrSource};
use serde_json::{Value, json};

use super::bed::Bed;
use super::source;

/// A running double of AWS.
pub struct Moto {
    bed: Bed,
    control: reqwest::Client,
}

/// Shorter than a cloud gets, so that no test waits long for one that hangs.
pub const SHORT: MintTimeouts = MintTimeouts {
    mint: Duration::from_secs(5),
    cloud: Duration::from_secs(3),
    machine: Duration::from_secs(3),
};

impl Moto {
    pub fn start() -> Self {
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        // Tests with runtimes of their own share this: no connection outlives its call.
        let control = reqwest::Client::builder()
            .pool_max_idle_per_host(0)
            .no_proxy()
            .build()
            .unwrap();
        Self {
            bed: Bed::start("moto", &[]),
            control,
        }
    }

    /// A field of the ready line: `url`, `ca`, `agent`, `imds` …
    pub fn field(&self, name: &str) -> &str {
        self.bed.field(name)
    }

    /// Endpoints that are all this double.
    pub fn endpoints(&self) -> EcrEndpoints {
        let url = || Some(self.field("url").to_owned());
        EcrEndpoints {
            ecr: url(),
            ecr_public: url(),
            sts: url(),
        }
    }

    /// A private source in `eu-west-1`.
    pub fn source(&self, identity: EcrIdentity) -> EcrSource {
        EcrSource {
            endpoints: self.endpoints(),
            ..source::ecr("eu-west-1", identity)
        }
    }

    /// What mints over the network, trusting the double's authority.
    pub fn mint(&self, environment: AwsEnvironment) -> EcrMint {
        let ca = std::fs::read(self.field("ca")).unwrap();
        let http = HttpClient::build(Some(&ca), ProxyConfig::disabled()).unwrap();
        EcrMint::new(http, environment).with_timeouts(SHORT)
    }

    /// The clouds, of which this one alone is there.
    pub fn clouds(&self, environment: AwsEnvironment) -> Clouds {
        let http = HttpClient::build(None, ProxyConfig::disabled()).unwrap();
        Clouds {
            ecr: self.mint(environment),
            acr: AcrMint::new(http, acr::AzureEnvironment::default()),
        }
    }

    pub async fn post(&self, path: &str, body: Value) -> Value {
        self.call(self.control.post(self.url(path)).json(&body))
            .await
    }

    pub async fn get(&self, path: &str) -> Value {
        self.call(self.control.get(self.url(path))).await
    }

    pub async fn delete(&self, path: &str) -> Value {
        self.call(self.control.delete(self.url(path))).await
    }

    /// Makes a user with one key known; `None` for what a puller needs.
    pub async fn add_user(&self, name: &str, policies: Option<Value>) -> String {
        let principal = format!("arn:aws:iam::123456789012:user/{name}");
        let mut body = json!({
            "accessKeyId": key_id(name),
            "secretAccessKey": secret_key(name),
            "principal": principal,
        });
        if let Some(policies) = policies {
            body["policies"] = policies;
        }
        self.post("keys", body).await;
        principal
    }

    /// How often `principal` called `operation`, refused calls included.
    pub async fn count(&self, operation: &str, principal: &str) -> usize {
        let calls = self.get("calls").await;
        let is_it =
            |call: &&Value| call["operation"] == operation && call["principal"] == principal;
        calls.as_array().unwrap().iter().filter(is_it).count()
    }

    fn url(&self, path: &str) -> String {
        format!("{}/{path}", self.field("control"))
    }

    async fn call(&self, request: reqwest::RequestBuilder) -> Value {
        let answer = request.send().await.unwrap();
        let status = answer.status();
        let body: Value = answer.json().await.unwrap();
        assert!(status.is_success(), "{status}: {body}");
        body
    }
}

/// The access key id of a user of [`Moto::add_user`].
pub fn key_id(name: &str) -> String {
    let name: String = name
        .to_uppercase()
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .collect();
    format!("AKIA{name:X<16}").chars().take(20).collect()
}

/// The secret access key of a user of [`Moto::add_user`].
pub fn secret_key(name: &str) -> String {
    format!("canary/{name}+0123456789abcdefghijklmnopqrst")
}
