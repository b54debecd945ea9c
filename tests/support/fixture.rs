//! Where a test happens: one API server and one AWS for a module's tests; namespaces, Registries, an AWS user, counting proxies and
//! pullpass processes for each test.

use std::panic::Location;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::bed::{self, Bed};
use super::cluster::{Answer, Cluster, read_yaml};
use super::keyring::{self, Login};
use super::module::module_of;
use super::moto::Moto;
use super::process::{LOOPBACK, Launch, Pullpass, make_namespace, namespace, pod};
use super::proxy::Proxy;
use super::user::User;
use super::wait;

/// The label that says which scene a namespace belongs to.
pub const FIXTURE: &str = "scene";

/// pullpass' own namespace, of `manifests/rbac.yaml`.
pub const OWN: &str = "pullpass";

/// An ECR host.
pub const ECR: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";

/// A real API server with pullpass' kind and rights, and a real AWS API.
pub struct World {
    pub api: Mutex<Bed>,
    pub moto: Moto,
    kubeconfig: PathBuf,
    url: String,
    ca: PathBuf,
}

/// The world that the tests of one module share, and which module that is.
static SHARED: tokio::sync::Mutex<Option<(String, Arc<World>)>> =
    tokio::sync::Mutex::const_new(None);

/// The world of the calling module, which ends when another module begins and no test of this one is left, or with the process.
#[track_caller]
pub fn world() -> impl Future<Output = Arc<World>> {
    share(module_of(Location::caller()))
}

async fn share(module: String) -> Arc<World> {
    let mut shared = SHARED.lock().await;
    if let Some((of, world)) = &*shared
        && *of == module
    {
        return Arc::clone(world);
    }
    *shared = None;
    let world = World::alone().await;
    *shared = Some((module, Arc::clone(&world)));
    world
}

impl World {
    /// Starts one, which ends with whoever holds it.
    pub async fn alone() -> Arc<Self> {
        Arc::new(Self::start().await)
    }

    async fn start() -> Self {
        let moto = std::thread::spawn(Moto::start);
        let api = Bed::start("api", &[]);
        let world = Self {
            kubeconfig: api.field("kubeconfig").into(),
            url: api.field("url").to_owned(),
            ca: api.field("ca").into(),
            api: Mutex::new(api),
            moto: moto.join().expect("moto starts"),
        };
        let cluster = world.admin().await;
        let manifests = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests");
        cluster.apply_file(manifests.join("crd.yaml")).await;
        for mut object in read_yaml(manifests.join("rbac.yaml")) {
            exempt_admin(&mut object);
            cluster.apply(&object).await;
        }
        wait::until("the Registry kind", async || {
            let path = "/apis/pullpass.dev/v1alpha1/registries";
            let answer = cluster.send("GET", path, None).await;
            answer.status.is_success().then_some(())
        })
        .await;
        world
    }

    /// Runs `kubectl` as an administrator; answers what it printed, warnings included.
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        let output = std::process::Command::new(bed::dir().join("bin/kubectl"))
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            .args(arguments)
            .output()
            .unwrap();
        let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.push_str(&String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "kubectl {arguments:?}: {text}");
        text
    }

    /// The kubeconfig of an administrator.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// The API server's URL, and the file with its authority.
    pub fn api_server(&self) -> (String, String) {
        (self.url.clone(), self.ca.display().to_string())
    }

    /// A client that may do everything.
    pub async fn admin(&self) -> Cluster {
        Cluster::connect(&self.kubeconfig).await
    }
}

/// One test's part of the world.
pub struct Fixture {
    pub name: &'static str,
    pub world: Arc<World>,
    pub cluster: Cluster,
    /// In front of the API server, for pullpass alone.
    pub api: Proxy,
    /// In front of AWS.
    pub aws: Proxy,
    /// Who mints.
    pub user: User,
    folder: TempDir,
}

impl Fixture {
    /// A scene of this name, which no other test of the module has, with an AWS user and its keys in a source Secret.
    #[track_caller]
    pub fn new(name: &'static str) -> impl Future<Output = Self> {
        let world = world();
        async move { Self::within(world.await, name).await }
    }

    /// The same in a world of its own: one process of a cluster leads, and what it does depends on all that is there.
    pub async fn alone(name: &'static str) -> Self {
        Self::within(World::alone().await, name).await
    }

    /// The same in this world.
    pub async fn within(world: Arc<World>, name: &'static str) -> Self {
        let fixture = Self {
            name,
            cluster: world.admin().await,
            api: Proxy::start(&world.url, world.ca.to_str().unwrap()).await,
            aws: Proxy::start(world.moto.field("url"), world.moto.field("ca")).await,
            user: User::add(&world.moto, name).await,
            world,
            folder: tempfile::tempdir().unwrap(),
        };
        fixture.put_keys(name, &fixture.user).await;
        fixture
    }

    /// Writes a user's keys into a source Secret.
    pub async fn put_keys(&self, secret: &str, user: &User) {
        self.put_source(secret, "Opaque", user.keys()).await;
    }

    /// Writes a source Secret.
    pub async fn put_source(&self, name: &str, type_: &str, data: Value) {
        let labels = json!({"pullpass.dev/source": "true"});
        self.cluster
            .apply(&json!({
                "apiVersion": "v1", "kind": "Secret", "type": type_, "stringData": data,
                "metadata": {"name": name, "namespace": OWN, "labels": labels},
            }))
            .await;
    }

    /// Writes a Registry that serves this scene's namespaces; the rest of its `spec` is given.
    pub async fn put_registry(&self, name: &str, mut spec: Value) {
        if spec["namespaceSelector"].is_null() {
            spec["namespaceSelector"] = json!({"matchLabels": {FIXTURE: self.name}});
        }
        self.cluster
            .apply(&json!({
                "apiVersion": "pullpass.dev/v1alpha1", "kind": "Registry",
                "metadata": {"name": name}, "spec": spec,
            }))
            .await;
    }

    /// The `ecr` part of a Registry whose tokens this scene's AWS mints, with the keys in this source Secret.
    pub fn ecr(&self, secret: &str) -> Value {
        json!({
            "identity": {"keys": {"secretRef": {"name": secret}}},
            "endpoints": {"ecr": self.aws.url, "ecrPublic": self.aws.url},
        })
    }

    /// A Registry, named as the scene, that serves these images with the scene's user.
    pub async fn serve(&self, images: &[&str]) {
        let spec = json!({"images": images, "ecr": self.ecr(self.name)});
        self.put_registry(self.name, spec).await;
    }

    /// The full name of a namespace of this scene.
    pub fn namespace_name(&self, name: &str) -> String {
        format!("{}-{name}", self.name)
    }

    /// Makes a namespace of this scene, opted in.
    pub async fn namespace(&self, name: &str) -> String {
        let name = self.namespace_name(name);
        make_namespace(&self.cluster, &name, &self.labels()).await;
        name
    }

    /// The labels of this scene's opted-in namespaces.
    pub fn labels(&self) -> Value {
        json!({"pullpass.dev/inject": "enabled", FIXTURE: self.name})
    }

    /// A namespace of this scene and its ServiceAccount, not made yet.
    pub fn namespace_objects(&self, name: &str) -> [Value; 2] {
        namespace(&self.namespace_name(name), &self.labels())
    }

    /// A file of this scene.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// How to start pullpass as its ServiceAccount, behind the proxies.
    pub async fn launch(&self) -> Launch {
        let path = format!("/api/v1/namespaces/{OWN}/serviceaccounts/pullpass/token");
        let request = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
            "spec": {"expirationSeconds": 3600},
        });
        let answer = self.cluster.send("POST", &path, Some(&request)).await.ok();
        let kubeconfig = self.file("kubeconfig");
        let text = kubeconfig_of(&self.api, answer.body["status"]["token"].as_str().unwrap());
        std::fs::write(&kubeconfig, text.to_string()).unwrap();
        let extra_ca = self.file("aws.crt");
        std::fs::write(&extra_ca, &self.aws.certificate).unwrap();
        Launch {
            kubeconfig,
            extra_ca,
            log: "info",
            environment: Vec::new(),
            controller: false,
            own_certificates: false,
            listen: LOOPBACK,
            arguments: Vec::new(),
            files: None,
        }
    }

    /// Starts pullpass and lets the API server call it for this scene's namespaces.
    pub async fn start(&self) -> Pullpass {
        let pullpass = Pullpass::start(&self.launch().await).await;
        pullpass.register(&self.cluster, FIXTURE, self.name).await;
        pullpass
    }

    /// The same with its controller.
    pub async fn start_controller(&self) -> Pullpass {
        let launch = Launch {
            controller: true,
            ..self.launch().await
        };
        let pullpass = Pullpass::start(&launch).await;
        pullpass.register(&self.cluster, FIXTURE, self.name).await;
        pullpass
    }

    /// Creates a Pod with these images.
    pub async fn create(&self, namespace: &str, images: &[&str]) -> Answer {
        let pod = pod(namespace, images);
        self.cluster.create_pod(&pod, "").await.ok()
    }

    /// The same as a server-side dry run.
    pub async fn try_out(&self, namespace: &str, images: &[&str]) -> Answer {
        let pod = pod(namespace, images);
        self.cluster.create_pod(&pod, "dryRun=All").await.ok()
    }

    /// Creates Pods with this image until the pull secret has this login for it: for changes that pullpass learns of by a watch.
    pub async fn create_until(&self, namespace: &str, image: &str, login: &Login) {
        wait::until("the login in the pull secret", async || {
            self.create(namespace, &[image]).await;
            let held = self.pull_secret(namespace).await;
            (keyring::lookup(&held, &[image])[0].first()? == login).then_some(())
        })
        .await;
    }

    /// The same until it has the newest token of a user who has got none yet.
    pub async fn create_until_minted(&self, namespace: &str, image: &str, user: &User) {
        wait::until("the user's token in the pull secret", async || {
            self.create(namespace, &[image]).await;
            let minted = user.newest(&self.world.moto).await?;
            let held = self.pull_secret(namespace).await;
            (*keyring::lookup(&held, &[image])[0].first()? == minted).then_some(())
        })
        .await;
    }

    /// The credential store's Secrets for this scene's AWS.
    pub async fn stored(&self) -> Vec<Value> {
        let path = format!("/api/v1/namespaces/{OWN}/secrets?labelSelector=pullpass.dev/store");
        let all = self.cluster.get(&path).await.expect("a list");
        let all = all["items"].as_array().expect("items").iter();
        let mine = |secret: &&Value| {
            let source = secret["metadata"]["annotations"]["pullpass.dev/credential-key"].as_str();
            source.is_some_and(|source| source.contains(&self.aws.url))
        };
        all.filter(mine).cloned().collect()
    }

    /// What stands under `.dockerconfigjson` in the namespace's pull secret, which must be there.
    pub async fn pull_secret(&self, namespace: &str) -> String {
        let secret = self.cluster.secret(namespace, "pullpass").await;
        read_dockerconfigjson(&secret.expect("the pull secret is there"))
    }

    /// Whether the namespace has a pull secret.
    pub async fn has_pull_secret(&self, namespace: &str) -> bool {
        self.cluster.secret(namespace, "pullpass").await.is_some()
    }

    /// Waits until pullpass knows what was last written about this namespace and image: until a Pod would get the reference.
    pub async fn wait_served(&self, namespace: &str, image: &str) {
        wait::until("the image to be served", async || {
            references(&self.try_out(namespace, &[image]).await.body).then_some(())
        })
        .await;
    }
}

/// Who the bed's administrator is for the API server.
const ADMIN: &str = "bed-admin";

/// Lets the administrator write what only pullpass writes: tests forge and damage Secrets as what stands there from before the policy,
/// or where the policies are off.
fn exempt_admin(object: &mut Value) {
    if object["kind"] == "ValidatingAdmissionPolicy"
        && object["metadata"]["name"] == "pullpass-owned"
    {
        let conditions = object["spec"]["matchConditions"].as_array_mut();
        let expression = format!("request.userInfo.username != '{ADMIN}'");
        conditions
            .expect("the policy has conditions")
            .push(json!({"name": "not-by-the-test", "expression": expression}));
    }
}

fn kubeconfig_of(proxy: &Proxy, token: &str) -> Value {
    use base64::Engine as _;
    let ca = base64::engine::general_purpose::STANDARD.encode(&proxy.certificate);
    json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "test",
        "clusters": [{"name": "test", "cluster": {"server": proxy.url, "certificate-authority-data": ca}}],
        "users": [{"name": "test", "user": {"token": token}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
    })
}

/// Whether a Pod references the pull secret.
pub fn references(pod: &Value) -> bool {
    let secrets = pod["spec"]["imagePullSecrets"].as_array();
    secrets.is_some_and(|secrets| secrets.iter().any(|secret| secret["name"] == "pullpass"))
}

/// The text under `.dockerconfigjson` of a Secret.
pub fn read_dockerconfigjson(secret: &Value) -> String {
    use base64::Engine as _;
    let data = secret["data"][".dockerconfigjson"].as_str().expect("data");
    let bytes = base64::engine::general_purpose::STANDARD.decode(data);
    String::from_utf8(bytes.unwrap()).unwrap()
}
