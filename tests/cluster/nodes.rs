//! Kubelets that ask pullpass for logins, in a whole cluster: a real kubelet runs the program as its credential provider, and no Secret of a
//! tenant's namespace holds a login. `make test-cluster` builds the parts and runs this.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support;
use serde_json::{Value, json};
use support::broker::grant_broker;
use support::place::{HOST, Place, principal};
use support::process::{Launch, Pullpass, make_certificates, make_namespace};
use support::wait;
use tempfile::TempDir;

const BINARY: &str = env!("CARGO_BIN_EXE_pullpass");
/// How long a login lives, in seconds: longer than the ten minutes that the kubelet leaves of it.
const LIFE: u32 = 3600;
/// Each pulls its own repositories by its own login.
const TENANTS: [&str; 2] = ["one", "two"];
const DEADLINE: Duration = Duration::from_mins(1);

/// A cluster whose kubelet asks.
struct Nodes {
    place: Place,
    folder: TempDir,
    certificates: PathBuf,
    broker: SocketAddr,
    registries: Vec<Value>,
}

impl Nodes {
    /// `None` where the machine allows no node, which is said.
    async fn start() -> Option<Self> {
        let images = ["one/hello:1", "one/later:1", "two/hello:1", "team/hello:1"];
        let arguments: Vec<&str> = images.iter().flat_map(|image| ["--image", image]).collect();
        let place = Place::start(&arguments).await?;
        let users = [TENANTS[0], TENANTS[1], "team"];
        let mut allowed = Vec::new();
        for user in users {
            place.add_user(user, LIFE).await;
            allowed
                .push(json!({"principal": principal(user), "repositories": [format!("{user}/")]}));
        }
        place.allow(&json!(allowed), LIFE);
        place.install().await;
        grant_broker(&place.cluster).await;
        let registries = make_registries(&place, users).await;
        for registry in &registries {
            place.cluster.apply(registry).await;
        }
        for (namespace, labels) in [
            ("shop", json!({"pullpass.dev/inject": "enabled"})),
            ("outside", json!({})),
        ] {
            make_namespace(&place.cluster, namespace, &labels).await;
            for tenant in TENANTS {
                place
                    .cluster
                    .apply(&json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": tenant, "namespace": namespace}}))
                    .await;
            }
        }
        let folder = tempfile::tempdir().unwrap();
        let certificates = folder.path().join("certificates");
        make_certificates(&certificates, "127.0.0.1");
        let address = place.bed.field("hostAddress");
        let broker = TcpListener::bind((address, 0))
            .unwrap()
            .local_addr()
            .unwrap();
        Some(Self {
            place,
            folder,
            certificates,
            broker,
            registries,
        })
    }

    /// pullpass with its broker, always at the same place.
    async fn launch(&self) -> Pullpass {
        let broker = ("PULLPASS_BROKER_LISTEN".to_owned(), self.broker.to_string());
        let launch = Launch {
            environment: vec![broker],
            ..self.place.own_launch().await
        };
        Pullpass::start_with(&launch, &self.certificates).await
    }

    /// Files for the node, as `pullpass credential-provider config` prints them for its Registries, all of which deliver by nodes.
    fn write_provider(&self) {
        let folder = self.folder.path();
        let mut registries = self.registries.clone();
        for registry in &mut registries {
            registry["spec"]["delivery"] = "Node".into();
        }
        let file = folder.join("registries.yaml");
        let documents: Vec<String> = registries.iter().map(ToString::to_string).collect();
        std::fs::write(&file, documents.join("\n---\n")).unwrap();
        let (broker, authority) = (self.broker.to_string(), self.certificates.join("ca.crt"));
        let config = run(&[
            "credential-provider",
            "config",
            "-f",
            file.to_str().unwrap(),
            "--address",
            &broker,
            "--server-name",
            "127.0.0.1",
            "--ca-file",
            authority.to_str().unwrap(),
        ]);
        for name in ["config", "bin", "static"] {
            std::fs::create_dir_all(folder.join(name)).unwrap();
        }
        std::fs::write(folder.join("config/pullpass.yaml"), config).unwrap();
        symlink(BINARY, folder.join("bin/pullpass")).unwrap();
    }

    /// Has the kubelet start anew with its credential provider; answers how long it took.
    fn restart_kubelet(&mut self) -> Duration {
        let begin = Instant::now();
        let path = |name: &str| self.folder.path().join(name).display().to_string();
        let line = format!(
            "kubelet --image-credential-provider-config={} --image-credential-provider-bin-dir={} --pod-manifest-path={}",
            path("config"),
            path("bin"),
            path("static")
        );
        self.place.bed.command(&line);
        begin.elapsed()
    }

    /// What `pullpass check` finds wrong with this node and its rights.
    fn find_wrong(&self) -> Vec<String> {
        let path = |name: &str| self.folder.path().join(name).display().to_string();
        let kubeconfig = self.place.bed.field("kubeconfig");
        let (config, bin, file) = (path("config"), path("bin"), path("registries.yaml"));
        let output = Command::new(BINARY)
            .args([
                "check",
                "-o",
                "json",
                "--node",
                "/",
                "--node-config",
                &config,
            ])
            .args([
                "--node-bin-dir",
                &bin,
                "-f",
                &file,
                "--kubeconfig",
                kubeconfig,
            ])
            .env_clear()
            .output()
            .unwrap();
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let checks = report["checks"].as_array().unwrap().iter();
        let wrong = checks.filter(|check| check["status"] != "ok");
        wrong
            .map(|check| check["id"].as_str().unwrap().to_owned())
            .collect()
    }

    /// A Pod of this ServiceAccount that always pulls.
    async fn create(
        &self,
        (namespace, name): (&str, &str),
        account: &str,
        image: &str,
        more: Value,
    ) {
        let mut pod = hello(name, image);
        pod["metadata"]["namespace"] = namespace.into();
        pod["spec"]["serviceAccountName"] = account.into();
        for (field, value) in more.as_object().unwrap() {
            pod["spec"][field] = value.clone();
        }
        self.place.cluster.create_pod(&pod, "").await.ok();
    }

    async fn status(&self, namespace: &str, name: &str) -> Option<Value> {
        let path = format!("/api/v1/namespaces/{namespace}/pods/{name}");
        let pod = self.place.cluster.get(&path).await?;
        pod.pointer("/status/containerStatuses/0").cloned()
    }

    /// Waits until a Pod runs; answers how long that took.
    async fn wait_running(&self, namespace: &str, name: &str) -> Duration {
        let begin = Instant::now();
        self.wait_for(namespace, name, |status| {
            status["state"]["running"].is_object()
        })
        .await;
        begin.elapsed()
    }

    /// Waits until a Pod's image could not be pulled.
    async fn wait_refused(&self, namespace: &str, name: &str) {
        let is_refused = |status: &Value| {
            let reason = status["state"]["waiting"]["reason"].as_str();
            assert!(
                !status["state"]["running"].is_object(),
                "{namespace}/{name} pulled"
            );
            matches!(reason, Some("ErrImagePull" | "ImagePullBackOff"))
        };
        self.wait_for(namespace, name, is_refused).await;
    }

    async fn wait_for(&self, namespace: &str, name: &str, is_there: impl Fn(&Value) -> bool) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let status = self.status(namespace, name).await;
            if status.as_ref().is_some_and(&is_there) {
                return;
            }
            let log = self.kubelet_log();
            let said: Vec<&str> = log
                .lines()
                .filter(|line| line.contains("provide credentials"))
                .collect();
            assert!(
                Instant::now() < deadline,
                "{namespace}/{name}: {status:?}\n{}",
                said.join("\n")
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The kubelet's log, an entry a line: klog writes an error that ends in a line feed as lines of its own.
    fn kubelet_log(&self) -> String {
        let path = Path::new(self.place.bed.field("logs")).join("kubelet.log");
        let text = std::fs::read(path).unwrap();
        let text = String::from_utf8_lossy(&text);
        text.replace("\n\t", " ").replace("\n >", " >")
    }

    /// Waits until a line of the kubelet's log holds all of these words; answers it.
    async fn wait_logged(&self, words: &[&str]) -> String {
        wait::until("the kubelet to say it", async || {
            let log = self.kubelet_log();
            let line = log
                .lines()
                .find(|line| words.iter().all(|word| line.contains(word)));
            line.map(str::to_owned)
        })
        .await
    }

    /// The Secrets of pullpass outside its own namespace.
    async fn own_secrets(&self) -> Vec<String> {
        let path = "/api/v1/secrets?labelSelector=app.kubernetes.io/managed-by%3Dpullpass";
        let found = self.place.cluster.get(path).await.unwrap();
        let metadata = found["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| &one["metadata"]);
        let outside = metadata.filter(|metadata| metadata["namespace"] != "pullpass");
        outside
            .map(|metadata| format!("{}/{}", metadata["namespace"], metadata["name"]))
            .collect()
    }

    async fn deliver(&self, registry: &str, delivery: &str) {
        let mut object = self
            .registries
            .iter()
            .find(|one| one["metadata"]["name"] == registry)
            .unwrap()
            .clone();
        object["spec"]["delivery"] = delivery.into();
        self.place.cluster.apply(&object).await;
    }
}

/// Registries of a login each: those of tenants for their ServiceAccount alone and by nodes, the last one by Secret.
async fn make_registries(place: &Place, users: [&str; 3]) -> Vec<Value> {
    let mut registries = Vec::new();
    for user in users {
        let is_tenant = TENANTS.contains(&user);
        let mut spec = json!({
            "images": [format!("{HOST}/{user}")], "namespaceSelector": {}, "delivery": if is_tenant { "Node" } else { "Secret" },
            "ecr": place.put_keys(user).await,
        });
        if is_tenant {
            spec["serviceAccountNames"] = json!([user]);
        }
        registries.push(json!({"apiVersion": "pullpass.dev/v1alpha1", "kind": "Registry", "metadata": {"name": user}, "spec": spec}));
    }
    registries
}

fn hello(name: &str, image: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [
            {"name": "hello", "image": format!("{HOST}/{image}:1"), "imagePullPolicy": "Always"},
        ]},
    })
}

/// What pullpass prints.
fn run(arguments: &[&str]) -> String {
    let output = Command::new(BINARY)
        .args(arguments)
        .env_clear()
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_pull_what_is_theirs_by_the_kubelet_that_asks() {
    let Some(mut nodes) = Nodes::start().await else {
        return;
    };
    let pullpass = nodes.launch().await;
    nodes.write_provider();
    nodes.restart_kubelet();
    want_the_right(&nodes).await;
    pull_what_is_theirs(&nodes).await;
    give_nothing_to_others(&nodes).await;
    let pullpass = lose_all_replicas(&nodes, pullpass).await;
    let took = nodes.restart_kubelet();
    nodes
        .create(("shop", "after"), "two", "two/hello", json!({}))
        .await;
    let pulled = nodes.wait_running("shop", "after").await;
    println!(
        "kubelet restarted in {} ms, the next Pod ran after {} ms",
        took.as_millis(),
        pulled.as_millis()
    );
    go_there_and_back(&nodes).await;
    drop(pullpass);
}

/// Without the nodes' right to the audience the kubelet has no token, runs no provider, and says so in its log alone.
async fn want_the_right(nodes: &Nodes) {
    nodes
        .create(("shop", "early"), "one", "one/hello", json!({}))
        .await;
    nodes.wait_refused("shop", "early").await;
    let words = [
        "Failed to provide credentials",
        "failed to get service account token",
        "pullpass.dev",
        "is not authorized",
    ];
    let said = nodes.wait_logged(&words).await;
    println!("without the right: {said}");
    assert_eq!(nodes.find_wrong(), ["NodeAudienceForbidden"]);
    let rights = run(&["credential-provider", "config", "--rbac"]);
    let file = nodes.folder.path().join("rights.yaml");
    std::fs::write(&file, rights).unwrap();
    nodes.place.cluster.apply_file(file).await;
    assert_eq!(nodes.find_wrong(), Vec::<String>::new());
    // The same Pod, at the kubelet's next try.
    let took = nodes.wait_running("shop", "early").await;
    println!(
        "with the right: runs after {} ms, at the next try of the kubelet",
        took.as_millis()
    );
}

async fn pull_what_is_theirs(nodes: &Nodes) {
    for tenant in TENANTS {
        nodes
            .create(
                ("shop", tenant),
                tenant,
                &format!("{tenant}/hello"),
                json!({}),
            )
            .await;
        let took = nodes.wait_running("shop", tenant).await;
        println!(
            "{tenant}: created, pulled and running in {} ms",
            took.as_millis()
        );
    }
    nodes
        .create(("shop", "one-of-two"), "one", "two/hello", json!({}))
        .await;
    nodes.wait_refused("shop", "one-of-two").await;
    nodes
        .wait_logged(&["provide credentials", "shop/one-of-two", "NotServed"])
        .await;
}

/// A Pod of a namespace that did not opt in, and a static one, which has no ServiceAccount.
async fn give_nothing_to_others(nodes: &Nodes) {
    nodes
        .create(("outside", "stranger"), "one", "one/hello", json!({}))
        .await;
    let mut fixed = hello("fixed", "one/hello");
    fixed["metadata"]["namespace"] = "default".into();
    std::fs::write(
        nodes.folder.path().join("static/fixed.json"),
        fixed.to_string(),
    )
    .unwrap();
    nodes.wait_refused("outside", "stranger").await;
    nodes
        .wait_logged(&["provide credentials", "outside/stranger", "NotOptedIn"])
        .await;
    nodes.wait_refused("default", "fixed-bed").await;
    std::fs::remove_file(nodes.folder.path().join("static/fixed.json")).unwrap();
}

/// What the kubelet keeps is pulled on; the rest is told why, and pulled soon after somebody is back.
async fn lose_all_replicas(nodes: &Nodes, pullpass: Pullpass) -> Pullpass {
    pullpass.kill();
    nodes
        .create(("shop", "kept"), "one", "one/hello", json!({}))
        .await;
    let took = nodes.wait_running("shop", "kept").await;
    println!(
        "nobody there: one that the kubelet keeps the login of runs after {} ms",
        took.as_millis()
    );
    nodes
        .create(("shop", "waits"), "one", "one/later", json!({}))
        .await;
    nodes.wait_refused("shop", "waits").await;
    let said = nodes
        .wait_logged(&["provide credentials", "shop/waits"])
        .await;
    println!("nobody there: {said}");
    let pullpass = nodes.launch().await;
    let (back, image) = (Instant::now(), "one/later");
    nodes
        .create(("shop", "anew"), "one", image, json!({}))
        .await;
    let anew = nodes.wait_running("shop", "anew").await;
    assert!(anew < Duration::from_secs(10), "{anew:?}");
    // The kubelet's own pause is 10 s, and it looks at such a Pod each 10 to 15 s.
    nodes.wait_running("shop", "waits").await;
    let waited = back.elapsed();
    println!(
        "somebody back: a Pod created then runs after {} ms, the one that waits after {} ms, at the next try of the kubelet",
        anew.as_millis(),
        waited.as_millis()
    );
    assert!(waited < Duration::from_secs(40), "{waited:?}");
    pullpass
}

/// From Secret to Node and back by way of Both, beside Registries that deliver by nodes, while a Pod pulls again and again.
async fn go_there_and_back(nodes: &Nodes) {
    wait::until("the pull secret", async || {
        nodes.place.cluster.secret("shop", "pullpass").await
    })
    .await;
    assert_eq!(
        nodes.own_secrets().await,
        ["\"shop\"/\"pullpass\""],
        "of Registry team alone"
    );
    let restless = json!({
        "imagePullSecrets": [{"name": "pullpass"}],
        "containers": [{
            "name": "hello", "image": format!("{HOST}/team/hello:1"), "imagePullPolicy": "Always", "args": ["--sleep", "200ms"],
        }],
    });
    nodes
        .create(("shop", "restless"), "default", "team/hello", restless)
        .await;
    let before = follow_each_delivery(nodes).await;
    let requests = nodes.place.requests();
    let of_team = requests.iter().filter(|line| {
        line["path"]
            .as_str()
            .is_some_and(|path| path.contains("team/hello"))
    });
    let refused = of_team
        .clone()
        .filter(|line| line["allowed"] != true)
        .count();
    println!(
        "Secret, Both, Node, Both, Secret: {before} restarts, {} requests, {refused} refused",
        of_team.count()
    );
    assert_eq!(refused, 0);
}

/// Changes how Registry team delivers, step by step, each until the Pod `restless` pulled twice more; answers how often it was started again.
async fn follow_each_delivery(nodes: &Nodes) -> u64 {
    let mut before = 0;
    for delivery in ["Both", "Node", "Both", "Secret"] {
        nodes.deliver("team", delivery).await;
        let is_gone = delivery == "Node";
        wait::until("the pull secret to follow", async || {
            let secret = nodes.place.cluster.secret("shop", "pullpass").await;
            (secret.is_none() == is_gone).then_some(())
        })
        .await;
        if is_gone {
            assert_eq!(nodes.own_secrets().await, Vec::<String>::new());
        }
        // Two more pulls from here on.
        let restarts = wait::until("more pulls", async || {
            let status = nodes.status("shop", "restless").await?;
            let reason = status["state"]["waiting"]["reason"]
                .as_str()
                .unwrap_or_default();
            assert!(!reason.contains("Pull"), "{delivery}: {status}");
            status["restartCount"]
                .as_u64()
                .filter(|count| *count >= before + 2)
        })
        .await;
        before = restarts;
    }
    before
}
