//! The registries and clouds around the cluster, under their real names, and what the clouds' own programs change there.

use std::path::PathBuf;
use std::sync::Arc;

use futures::FutureExt as _;
use serde_json::{Value, json};

use super::support::azure::{Application, Azure, Federated, USERNAME};
use super::support::bed::Bed;
use super::support::cluster::Cluster;
use super::support::internet::{Asked, Hosts, Reply};

/// Registries with fixed logins.
pub(super) const REGISTRY: &str = "registry.example.com";
pub(super) const HARBOR: &str = "harbor.corp.example";
pub(super) const ECR: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";
pub(super) const ACR: &str = "contoso.azurecr.io";
/// Their users and passwords.
pub(crate) const LOGINS: [(&str, &str); 2] = [("robot", "change-me"), ("before", "old-login")];
/// The registry's tenant of Entra ID.
const TENANT: &str = "99999999-8888-7777-6666-555555555555";
const AUTHORITY: &str = "login.microsoftonline.com";
/// What a registry's answer says beside its body.
const HEADERS: [&str; 4] = [
    "content-type",
    "docker-content-digest",
    "docker-distribution-api-version",
    "www-authenticate",
];

/// What is around a cluster.
pub(crate) struct Clouds {
    azure: Azure,
    client: reqwest::Client,
    registry: String,
    access: PathBuf,
    moto: String,
    control: String,
    issuer: String,
    jwks: Value,
    logins: std::sync::Mutex<Vec<(String, String)>>,
}

impl Clouds {
    pub(super) async fn start(bed: &Bed, cluster: &Cluster) -> Self {
        let field = |part: &str, name: &str| bed.ready[part][name].as_str().unwrap().to_owned();
        let authorities = [field("registry", "ca"), field("moto", "ca")];
        let authorities = authorities
            .map(|file| reqwest::Certificate::from_pem(&std::fs::read(file).unwrap()).unwrap());
        let client = reqwest::Client::builder()
            .no_proxy()
            .tls_certs_merge(authorities);
        let configuration = cluster.get("/.well-known/openid-configuration").await;
        let clouds = Self {
            azure: Azure::start().await,
            client: client.build().unwrap(),
            registry: field("registry", "url"),
            access: field("registry", "access").into(),
            moto: field("moto", "url"),
            control: field("moto", "control"),
            issuer: configuration.unwrap()["issuer"]
                .as_str()
                .unwrap()
                .to_owned(),
            jwks: cluster.get("/openid/v1/jwks").await.unwrap(),
            logins: std::sync::Mutex::default(),
        };
        let logins = LOGINS.map(|(user, password)| (user.to_owned(), password.to_owned()));
        clouds.allow(logins.to_vec()).await;
        clouds.azure.add_server(ACR, TENANT, &[]);
        let mut content = clouds.azure.content();
        content.images.insert(format!("{ACR}/team/hello:1"));
        content
            .issuers
            .insert(clouds.issuer.clone(), clouds.jwks.clone());
        drop(content);
        clouds
    }

    pub(super) fn issuer(&self) -> &str {
        &self.issuer
    }

    pub(super) fn tenant() -> &'static str {
        TENANT
    }

    /// All of them, by name.
    pub(super) fn hosts(self: Arc<Self>) -> Hosts {
        Arc::new(move |asked| {
            let clouds = Arc::clone(&self);
            async move { clouds.answer(asked).await }.boxed()
        })
    }

    async fn answer(&self, asked: Asked) -> Option<Reply> {
        let host = asked.target.strip_suffix(":443")?.to_owned();
        if [REGISTRY, HARBOR, ECR].contains(&host.as_str()) {
            return self.forward(&self.registry, &asked, None).await;
        }
        let reply = match host.as_str() {
            AUTHORITY | ACR => self.azure.answer(asked),
            _ if host.ends_with(".amazonaws.com") => {
                self.forward(&self.moto, &asked, Some(&host)).await
            }
            _ => None,
        };
        self.let_in().await;
        reply
    }

    /// Asks a part of the bed instead; `host`: what is signed by the caller.
    async fn forward(&self, url: &str, asked: &Asked, host: Option<&str>) -> Option<Reply> {
        let method = reqwest::Method::from_bytes(asked.method.as_str().as_bytes()).ok()?;
        let mut request = self.client.request(method, format!("{url}{}", asked.uri));
        for (name, value) in &asked.headers {
            if !["host", "content-length"].contains(&name.as_str()) {
                request = request.header(name.as_str(), value.as_bytes());
            }
        }
        if let Some(host) = host {
            request = request.header("host", host);
        }
        let answer = request.body(asked.body.clone()).send().await.ok()?;
        let status = answer.status().as_u16();
        let said = answer.headers().clone();
        let header = |name: &'static str| Some((name, said.get(name)?.to_str().ok()?.to_owned()));
        let headers = HEADERS.into_iter().filter_map(header).collect();
        let body = answer.text().await.ok()?;
        Some(Reply {
            status,
            headers,
            body,
            ..Reply::default()
        })
    }

    /// Who may log in with a fixed login from now on.
    pub(crate) async fn allow(&self, logins: Vec<(String, String)>) {
        *self.logins.lock().unwrap() = logins;
        self.let_in().await;
    }

    /// The registries take every token that a cloud gave.
    async fn let_in(&self) {
        let minted = self.client.get(format!("{}/minted", self.control));
        let minted: Vec<Value> = minted.send().await.unwrap().json().await.unwrap();
        let login = |user: &str, password: &Value| json!({"username": user, "password": password});
        let mut allow: Vec<Value> = minted
            .iter()
            .map(|token| login("AWS", &token["password"]))
            .collect();
        let azure = self.azure.content();
        let tokens = azure.minted.iter();
        allow.extend(tokens.map(|token| login(USERNAME, &json!(token.password))));
        drop(azure);
        let fixed = self.logins.lock().unwrap();
        allow.extend(
            fixed
                .iter()
                .map(|(user, password)| login(user, &json!(password))),
        );
        drop(fixed);
        let next = self.access.with_extension("next");
        std::fs::write(&next, json!({"allow": allow}).to_string()).unwrap();
        std::fs::rename(next, &self.access).unwrap();
    }

    pub(super) async fn tell_aws(&self, path: &str, body: &Value) {
        let request = self.client.post(format!("{}/{path}", self.control));
        let answer = request.json(body).send().await.unwrap();
        answer.error_for_status().unwrap();
    }

    /// Nothing at AWS fails any more.
    pub(super) async fn heal_aws(&self) {
        self.delete_at_aws("faults").await;
    }

    pub(super) async fn forget_key(&self, id: &str) {
        self.delete_at_aws(&format!("keys/{id}")).await;
    }

    async fn delete_at_aws(&self, path: &str) {
        let request = self.client.delete(format!("{}/{path}", self.control));
        request.send().await.unwrap();
    }

    /// IAM knows the cluster's issuer.
    pub(super) async fn trust_issuer(&self) {
        let audiences = ["sts.amazonaws.com", "pods.eks.amazonaws.com"];
        let body = json!({"issuer": self.issuer, "jwks": self.jwks, "audiences": audiences});
        self.tell_aws("issuers", &body).await;
    }

    /// A managed identity that trusts nobody yet.
    pub(super) fn add_identity(&self, client_id: &str) {
        let application = Application {
            client_id: client_id.to_owned(),
            ..Application::default()
        };
        self.azure.add_application(TENANT, application);
    }

    /// A managed identity trusts these tokens.
    pub(super) fn federate(&self, client_id: &str, federated: Federated) {
        let mut content = self.azure.content();
        let tenant = content.tenants.get_mut(TENANT).unwrap();
        let mut applications = tenant.applications.iter_mut();
        let application = applications.find(|one| one.client_id == client_id);
        application.unwrap().federated.push(federated);
    }

    /// A managed identity may pull.
    pub(super) fn assign(&self, client_id: &str, may: bool) {
        let mut content = self.azure.content();
        let server = content.servers.get_mut(ACR).unwrap();
        server.pullers.retain(|one| one != client_id);
        if may {
            server.pullers.push(client_id.to_owned());
        }
    }
}
