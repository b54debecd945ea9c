//! Where the rows are tried: a cluster of their own with pullpass' controller, AWS, and a registry under every name.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::FutureExt as _;
use serde_json::{Value, json};

use super::row::{Base, Row};
use crate::support::account::connect_tenant;
use crate::support::azure::{Application, Azure};
use crate::support::bed;
use crate::support::cluster::read_yaml;
use crate::support::fixture::{ECR, Fixture, OWN, World};
use crate::support::internet::{Asked, Hosts, Internet, Reply};
use crate::support::moto::secret_key;
use crate::support::process::{Launch, Pullpass, namespace};
use crate::support::roles::trust_cluster;

/// The login that every registry but Amazon ECR takes.
const LOGIN: (&str, &str) = ("robot", "right");
/// One that may not push.
const READER: (&str, &str) = ("puller", "right");
/// A tenant of Entra ID, with an application that may pull and one that may not.
const TENANT: &str = "99999999-8888-7777-6666-555555555555";
const PULLER: &str = "11111111-2222-3333-4444-555555555555";
const STRANGER: &str = "22222222-2222-3333-4444-555555555555";
/// Who checks the logins of registries whose names begin with `realm`, and what it gives for one.
const TOKENS: &str = "tokens.example.com";
const TOKEN: &str = "of-the-realm";
/// Where a role is assigned in Azure.
const PORTAL: &str = "portal.azure.test";

pub(super) struct Place {
    pub(super) fixture: Fixture,
    internet: Internet,
    azure: Arc<Azure>,
    issuer: String,
    ca: PathBuf,
    pub(super) pullpass: Pullpass,
}

/// What a command printed, and whether it succeeded.
#[derive(Debug)]
pub(super) struct Ran {
    pub(super) code: Option<i32>,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

impl Place {
    pub(super) async fn new() -> Self {
        let world = World::alone().await;
        let fixture = Fixture::within(Arc::clone(&world), "fixes").await;
        let issuer = trust_cluster(&fixture).await;
        let azure = Arc::new(Azure::start().await);
        for client_id in [PULLER, STRANGER] {
            let secrets = [("right", true), ("ended", false)];
            let secrets = secrets.map(|(secret, holds)| (secret.to_owned(), holds));
            let application = Application {
                client_id: client_id.to_owned(),
                secrets: secrets.to_vec(),
                ..Application::default()
            };
            azure.add_application(TENANT, application);
        }
        let internet = Internet::start(hosts(world, Arc::clone(&azure))).await;
        let ca = fixture.file("all.crt");
        std::fs::write(&ca, format!("{}{}", internet.ca, fixture.aws.certificate)).unwrap();
        let environment = [
            ("HTTPS_PROXY", internet.proxy.as_str()),
            ("NO_PROXY", "127.0.0.1"),
        ];
        let launch = Launch {
            controller: true,
            extra_ca: ca.clone(),
            environment: environment
                .map(|(name, value)| (name.into(), value.into()))
                .to_vec(),
            ..fixture.launch().await
        };
        let pullpass = Pullpass::start(&launch).await;
        let place = Self {
            fixture,
            internet,
            azure,
            issuer,
            ca,
            pullpass,
        };
        place.register().await;
        place
    }

    /// Both webhook configurations as they are installed, with this process' address; also as a file, for who restores them.
    async fn register(&self) {
        let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/manifests/webhook.yaml");
        let ca = STANDARD.encode(std::fs::read(self.pullpass.ca()).unwrap());
        let mut text = String::new();
        for mut configuration in read_yaml(manifest) {
            for webhook in configuration["webhooks"].as_array_mut().unwrap() {
                let url = webhook["clientConfig"]["url"].as_str().unwrap();
                let path = url.rsplit('/').next().unwrap();
                webhook["clientConfig"] = json!({"url": self.pullpass.url(path), "caBundle": ca});
            }
            self.fixture.cluster.apply(&configuration).await;
            text = format!("{text}---\n{configuration}\n");
        }
        std::fs::write(self.fixture.file("webhook.yaml"), text).unwrap();
    }

    /// Makes what a row begins with.
    pub(super) async fn make(&self, row: &Row) {
        let name = &row.name;
        let cluster = &self.fixture.cluster;
        let folder = self.folder(row);
        std::fs::create_dir_all(&folder).unwrap();
        for line in &row.before {
            self.sh(row, line).await;
        }
        let labels = json!({"pullpass.dev/inject": "enabled", "team": name});
        let registry = self.registry(row);
        std::fs::write(folder.join("registries.yaml"), registry.to_string()).unwrap();
        self.put_source(row).await;
        cluster.apply(&registry).await;
        for object in namespace(name, &labels) {
            cluster.apply(&object).await;
        }
    }

    async fn put_source(&self, row: &Row) {
        let secret = format!("{}-source", row.name);
        match row.base {
            Base::Static => {
                let data = json!({"username": LOGIN.0, "password": LOGIN.1});
                let type_ = "kubernetes.io/basic-auth";
                self.fixture.put_source(&secret, type_, data).await;
            }
            Base::Keys => self.fixture.put_keys(&secret, &self.fixture.user).await,
            Base::Acr => {
                self.azure.add_server(&Self::host(row), TENANT, &[PULLER]);
                let data = json!({"AZURE_CLIENT_SECRET": "right"});
                self.fixture.put_source(&secret, "Opaque", data).await;
            }
            Base::Tenant => {}
        }
    }

    /// The host of the row's images, with a path where the host is not the row's alone.
    pub(super) fn host(row: &Row) -> String {
        match row.base {
            Base::Static => format!("{}.example.com", row.name),
            Base::Keys | Base::Tenant => format!("{ECR}/{}", row.name),
            Base::Acr => format!("{}.azurecr.io", row.name),
        }
    }

    fn registry(&self, row: &Row) -> Value {
        let name = &row.name;
        let source = json!({"secretRef": {"name": format!("{name}-source")}});
        let endpoints = json!({"ecr": self.fixture.aws.url, "sts": self.fixture.aws.url});
        let mut spec = match row.base {
            Base::Static => json!({"static": source}),
            Base::Keys => {
                let identity = json!({"keys": source});
                json!({"ecr": {"identity": identity, "endpoints": endpoints}})
            }
            Base::Tenant => {
                let identity = json!({"serviceAccount": {"name": name, "fromAnnotations": true}});
                json!({"ecr": {"identity": identity, "endpoints": endpoints}})
            }
            Base::Acr => {
                let mut principal = json!({"tenantId": TENANT, "clientId": PULLER});
                principal["secretRef"] = source["secretRef"].clone();
                json!({"acr": {"identity": {"servicePrincipal": principal}}})
            }
        };
        spec["images"] = json!([Self::host(row)]);
        spec["namespaceSelector"] = json!({"matchLabels": {"team": name}});
        for (field, value) in &row.spec {
            spec[field] = value.clone();
        }
        json!({
            "apiVersion": "pullpass.dev/v1alpha1", "kind": "Registry",
            "metadata": {"name": name}, "spec": spec,
        })
    }

    /// What a controller-manager does, which is not here: the ServiceAccount of a new namespace, and pullpass' rights out of the ClusterRole
    /// that `pullpass rbac` prints.
    pub(super) async fn stand_in(&self, row: &Row) {
        let role = format!("pullpass-registry-{}", row.name);
        let group = "rbac.authorization.k8s.io";
        let path = format!("/apis/{group}/v1/clusterroles/{role}");
        if self.fixture.cluster.get(&path).await.is_some() {
            let binding = json!({
                "apiVersion": format!("{group}/v1"), "kind": "ClusterRoleBinding", "metadata": {"name": role},
                "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": role},
                "subjects": [{"kind": "ServiceAccount", "name": "pullpass", "namespace": OWN}],
            });
            self.fixture.cluster.apply(&binding).await;
        }
        let [_, account] = namespace(&row.name, &json!({}));
        let path = format!("/api/v1/namespaces/{}", row.name);
        if self.fixture.cluster.get(&path).await.is_some() {
            self.fixture.cluster.apply(&account).await;
        }
    }

    fn folder(&self, row: &Row) -> PathBuf {
        self.fixture.file(&row.name)
    }

    /// Runs a line of shell as an administrator, who is in the row's folder with its Registry in a file; it must succeed.
    pub(super) async fn sh(&self, row: &Row, line: &str) {
        let mut command = self.command("/bin/sh", row, self.fixture.world.kubeconfig());
        command.args(["-c", line]);
        let ran = run(command).await;
        assert_eq!(ran.code, Some(0), "{}: {line}: {ran:?}", row.name);
    }

    /// Runs `pullpass check` with these arguments.
    pub(super) async fn check(&self, row: &Row, arguments: &str) -> Ran {
        let program = env!("CARGO_BIN_EXE_pullpass");
        let kubeconfig = if row.tenant {
            self.tenant(row).await
        } else {
            self.fixture.world.kubeconfig().to_owned()
        };
        let mut command = self.command(program, row, &kubeconfig);
        let admin = self.fixture.world.kubeconfig().display().to_string();
        let arguments = arguments.replace("$N", &row.name).replace("$ADMIN", &admin);
        command
            .args(["check", "-o", "json"])
            .args(arguments.split_whitespace())
            .env("PULLPASS_EXTRA_CA", &self.ca)
            .env("HTTPS_PROXY", &self.internet.proxy)
            .env("NO_PROXY", "127.0.0.1");
        run(command).await
    }

    /// Renders the chart with what is set so; what comes of it is tried on the API server.
    pub(super) async fn helm(&self, settings: &str) -> Ran {
        let bed = bed::dir().join("bin");
        let home = tempfile::tempdir().unwrap();
        let chart = concat!(env!("CARGO_MANIFEST_DIR"), "/manifests/chart");
        let mut helm = Command::new(bed.join("helm"));
        let settings = settings.replace("$CA", &self.ca.display().to_string());
        helm.args(["install", "pullpass", chart, "--namespace", OWN])
            .args(["--dry-run=server", "--take-ownership"])
            .args(settings.split_whitespace())
            .env_clear()
            .env("HOME", home.path())
            .env("KUBECONFIG", self.fixture.world.kubeconfig());
        run(helm).await
    }

    fn command(&self, program: &str, row: &Row, kubeconfig: &Path) -> Command {
        let own = Path::new(env!("CARGO_BIN_EXE_pullpass")).parent().unwrap();
        let bed = bed::dir().join("bin");
        let path = format!("{}:{}:/usr/bin:/bin", own.display(), bed.display());
        let mut command = Command::new(program);
        command
            .current_dir(self.folder(row))
            .env_clear()
            .env("PATH", path)
            .env("HOME", self.folder(row))
            .env("KUBECONFIG", kubeconfig)
            .env("N", &row.name)
            .env("ECR", ECR)
            .env("USER_ARN", &self.fixture.user.principal)
            .env("ISSUER", &self.issuer)
            .env("STRANGER", STRANGER)
            .env("PORTAL", format!("https://{PORTAL}"))
            .env("PORTAL_PROXY", &self.internet.proxy)
            .env("PORTAL_CA", &self.ca)
            .env("MOTO", self.fixture.world.moto.field("control"))
            .env("SECRET_KEY", secret_key(&self.fixture.user.name))
            .env("WEBHOOKS", self.fixture.file("webhook.yaml"));
        command
    }

    /// The kubeconfig of somebody who may read Secrets and create Pods in the row's namespace.
    async fn tenant(&self, row: &Row) -> PathBuf {
        let file = self.folder(row).join("tenant.kubeconfig");
        if !file.exists() {
            connect_tenant(&self.fixture, &row.name, &file).await;
        }
        file
    }
}

async fn run(mut command: Command) -> Ran {
    let output = tokio::task::spawn_blocking(move || command.output().unwrap());
    let output = output.await.unwrap();
    Ran {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// A registry under every name but those that begin with `down`; it takes one login, Amazon ECR's every token that AWS gave. Azure's are
/// Azure's.
fn hosts(world: Arc<World>, azure: Arc<Azure>) -> Hosts {
    Arc::new(move |asked: Asked| {
        let (world, azure) = (Arc::clone(&world), Arc::clone(&azure));
        async move {
            let host = asked.target.strip_suffix(":443")?.to_owned();
            if host.starts_with("down") {
                return None;
            }
            if host == PORTAL {
                return assign(&azure, asked.uri.path());
            }
            if host.ends_with(".azurecr.io") || host == "login.microsoftonline.com" {
                return azure.answer(asked);
            }
            let error = |code: &str| json!({"errors": [{"code": code, "message": "as the registry says it"}]});
            if host.starts_with("realm") {
                return Some(challenge(&asked));
            }
            if host == TOKENS && is_taken(&world, &host, &asked).await {
                return Some(Reply::json(200, &json!({"token": TOKEN})));
            }
            if !is_taken(&world, &host, &asked).await {
                let mut reply = Reply::json(401, &error("UNAUTHORIZED"));
                reply.headers.push(("www-authenticate", "Basic realm=\"registry\"".to_owned()));
                return Some(reply);
            }
            if asked.uri.path().contains("/absent/") {
                return Some(Reply::json(404, &error("MANIFEST_UNKNOWN")));
            }
            if asked.method == "POST" {
                if login_of(&asked).is_some_and(|login| login == join(READER)) {
                    return Some(Reply::json(403, &error("DENIED")));
                }
                let mut reply = Reply::json(202, &json!({}));
                let upload = format!("{}1", asked.uri.path());
                reply.headers.push(("location", upload));
                return Some(reply);
            }
            let mut reply = Reply::json(200, &json!({}));
            if asked.uri.path().contains("/manifests/") {
                let digest = format!("sha256:{}", "0".repeat(64));
                reply.headers.push(("docker-content-digest", digest));
            }
            Some(reply)
        }
        .boxed()
    })
}

/// `user:password`, as somebody says it.
fn login_of(asked: &Asked) -> Option<String> {
    let header = asked.headers.get("authorization")?;
    let text = header.to_str().ok()?.strip_prefix("Basic ")?;
    String::from_utf8(STANDARD.decode(text).ok()?).ok()
}

fn join((user, password): (&str, &str)) -> String {
    format!("{user}:{password}")
}

/// A registry that has its logins checked by another host.
fn challenge(asked: &Asked) -> Reply {
    let header = asked.headers.get("authorization");
    if header.is_some_and(|header| header == format!("Bearer {TOKEN}").as_str()) {
        return Reply::json(200, &json!({}));
    }
    let mut reply = Reply::json(401, &json!({}));
    let realm = format!("Bearer realm=\"https://{TOKENS}/token\",service=\"registry\"");
    reply.headers.push(("www-authenticate", realm));
    reply
}

/// Assigns AcrPull: `/SERVER/CLIENT-ID`.
fn assign(azure: &Azure, path: &str) -> Option<Reply> {
    let (server, client_id) = path.strip_prefix('/')?.split_once('/')?;
    let mut content = azure.content();
    let server = content.servers.get_mut(server)?;
    server.pullers.push(client_id.to_owned());
    Some(Reply::json(200, &json!({})))
}

async fn is_taken(world: &World, host: &str, asked: &Asked) -> bool {
    let Some(login) = login_of(asked) else {
        return false;
    };
    if host != ECR {
        return login == join(LOGIN) || login == join(READER);
    }
    let Some((_, password)) = login.split_once(':') else {
        return false;
    };
    let minted = world.moto.get("minted").await;
    let mut minted = minted.as_array().unwrap().iter();
    minted.any(|token| token["password"] == password)
}
