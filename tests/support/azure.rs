//! Azure as far as a login to its registries goes: Entra ID, login servers and instance metadata that refuse what the real ones
//! refuse. A password says who it was minted for.

mod entra;
pub mod metadata;
mod pull;
mod registry;
pub mod token;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures::FutureExt as _;
use serde_json::Value;

use super::internet::{Asked, Hosts, Internet, Reply};
use super::keyring::Login;
use metadata::{Metadata, Node};

/// The user name that goes with every token.
pub const USERNAME: &str = "00000000-0000-0000-0000-000000000000";
/// Whom the AAD tokens of registries are for.
pub const RESOURCE: &str = "https://containerregistry.azure.net";

/// An application, or a managed identity, of a tenant.
#[derive(Clone, Debug, Default)]
pub struct Application {
    pub client_id: String,
    /// The client secrets, and whether each still holds.
    pub secrets: Vec<(String, bool)>,
    pub federated: Vec<Federated>,
}

/// Whose ServiceAccount tokens an application takes.
#[derive(Clone, Debug)]
pub struct Federated {
    pub issuer: String,
    pub subject: String,
    pub audience: String,
}

/// A tenant and who gives its tokens.
#[derive(Clone, Debug, Default)]
pub struct Tenant {
    pub authority: String,
    pub applications: Vec<Application>,
}

/// A registry.
#[derive(Clone, Debug, Default)]
pub struct Server {
    /// The tenant that it trusts.
    pub tenant_id: String,
    /// The applications with the role AcrPull.
    pub pullers: Vec<String>,
    /// Whether its network rules keep everybody out.
    pub closed: bool,
    /// Whether it takes tokens for the resource manager, too.
    pub takes_arm: bool,
}

/// A token that was minted for a pull.
#[derive(Clone, Debug)]
pub struct Minted {
    pub server: String,
    /// The client id of who asked.
    pub client_id: String,
    pub scopes: Vec<String>,
    pub password: String,
}

/// What the next requests get instead of an answer.
#[derive(Clone, Debug)]
pub struct Fault {
    /// What the URL, `HOST:PORT/PATH`, contains.
    pub url: String,
    pub reply: Reply,
    /// How often.
    pub count: usize,
}

/// What there is in Azure.
#[derive(Default)]
pub struct Content {
    /// The published keys of issuers of ServiceAccount tokens.
    pub issuers: BTreeMap<String, Value>,
    pub tenants: BTreeMap<String, Tenant>,
    pub servers: BTreeMap<String, Server>,
    /// What a node's instance metadata knows.
    pub node: Node,
    pub faults: Vec<Fault>,
    /// The images that can be pulled: `SERVER/REPOSITORY:TAG`.
    pub images: BTreeSet<String>,
    /// The lives of refresh and access tokens, in seconds.
    pub refresh_life: i64,
    pub access_life: i64,
    pub minted: Vec<Minted>,
    /// Every request, `HOST:PORT/PATH`.
    pub calls: Vec<String>,
    /// Whose tokens of Entra ID each registry was shown: its host and their client id.
    pub received: Vec<(String, String)>,
    /// Whom tokens of Entra ID were asked for.
    pub asked_for: Vec<String>,
    /// Everything that came to a host that nobody knows.
    pub stolen: Vec<Asked>,
    /// The tokens that runtimes got for logins.
    bearers: BTreeSet<String>,
    issued: BTreeMap<String, token::Aad>,
    refresh_tokens: BTreeMap<String, Minted>,
}

/// A running double.
pub struct Azure {
    pub internet: Internet,
    pub metadata: Metadata,
    content: Arc<Mutex<Content>>,
}

impl Azure {
    /// Starts one with nothing in it.
    pub async fn start() -> Self {
        let content = Arc::new(Mutex::new(Content {
            refresh_life: 3 * 3600,
            access_life: 75 * 60,
            ..Content::default()
        }));
        let shared = Arc::clone(&content);
        let hosts: Hosts = Arc::new(move |asked| {
            let reply = shared.lock().unwrap().answer(asked);
            async move { reply }.boxed()
        });
        Self {
            internet: Internet::start(hosts).await,
            metadata: Metadata::start(Arc::clone(&content)).await,
            content,
        }
    }

    /// What there is: to be looked at and changed.
    pub fn content(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap()
    }

    /// What one of its hosts answers; `None`: it is none of them, or answers nobody.
    pub fn answer(&self, asked: Asked) -> Option<Reply> {
        self.content().answer(asked)
    }

    /// Makes an application known in a tenant of the public cloud.
    pub fn add_application(&self, tenant_id: &str, application: Application) {
        let mut content = self.content();
        let tenant = content
            .tenants
            .entry(tenant_id.to_owned())
            .or_insert_with(|| Tenant {
                authority: "login.microsoftonline.com".to_owned(),
                applications: Vec::new(),
            });
        tenant
            .applications
            .retain(|other| other.client_id != application.client_id);
        tenant.applications.push(application);
    }

    /// Makes a registry known from which these applications may pull.
    pub fn add_server(&self, name: &str, tenant_id: &str, pullers: &[&str]) {
        let server = Server {
            tenant_id: tenant_id.to_owned(),
            pullers: pullers.iter().map(|id| (*id).to_owned()).collect(),
            ..Server::default()
        };
        self.content().servers.insert(name.to_owned(), server);
    }

    /// Answers the next `count` requests whose URL contains `url` with `reply`; `{sent}` in its body is what was sent, `{fields}` the
    /// values of that form. Status 0: the true answer, only later.
    pub fn fail(&self, url: &str, reply: Reply, count: usize) {
        let url = url.to_owned();
        self.content().faults.push(Fault { url, reply, count });
    }

    /// The newest password of a registry, as the login it makes.
    pub fn newest(&self, server: &str) -> Option<Login> {
        let content = self.content();
        let mut minted = content.minted.iter().rev();
        let newest = minted.find(|minted| minted.server == server)?;
        Some(Login {
            username: USERNAME.to_owned(),
            password: newest.password.clone(),
        })
    }

    /// How many requests went to URLs that contain this.
    pub fn count(&self, url: &str) -> usize {
        let content = self.content();
        let calls = content.calls.iter();
        calls.filter(|call| call.contains(url)).count()
    }
}

impl Content {
    /// The fault that is due for a URL.
    fn fault(&mut self, url: &str) -> Option<Reply> {
        let due = |fault: &&mut Fault| fault.count > 0 && url.contains(&fault.url);
        let fault = self.faults.iter_mut().find(due)?;
        fault.count -= 1;
        Some(fault.reply.clone())
    }

    fn answer(&mut self, asked: Asked) -> Option<Reply> {
        let url = format!("{}{}", asked.target, asked.uri.path());
        self.calls.push(url.clone());
        let host = asked.target.strip_suffix(":443").unwrap_or_default();
        let is_authority = self.tenants.values().any(|tenant| tenant.authority == host);
        if !is_authority && !self.servers.contains_key(host) {
            self.stolen.push(asked);
            return None;
        }
        let fault = self.fault(&url);
        let late = fault.as_ref().filter(|reply| reply.status == 0);
        let delay = late.map_or(Duration::ZERO, |reply| reply.delay);
        if let Some(mut reply) = fault.filter(|reply| reply.status != 0) {
            let fields: Vec<String> = asked.fields().into_iter().map(|(_, value)| value).collect();
            reply.body = reply
                .body
                .replace("{sent}", &asked.body)
                .replace("{fields}", &fields.join(" "));
            return Some(reply);
        }
        let reply = if is_authority {
            entra::answer(self, host, &asked)
        } else {
            registry::answer(self, host, &asked)
        };
        Some(Reply { delay, ..reply })
    }
}
