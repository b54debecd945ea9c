//! The real binary, as a process beside the cluster.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::cluster::{Cluster, read_yaml};
use super::program_log::ProgramLog;
use super::{metrics, wait};

const BINARY: &str = env!("CARGO_BIN_EXE_pullpass");

/// A free port of this machine alone.
pub const LOOPBACK: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// How to start it.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The kubeconfig of the account that it runs as.
    pub kubeconfig: PathBuf,
    /// A file of authorities that it trusts besides the machine's own.
    pub extra_ca: PathBuf,
    /// What it logs.
    pub log: &'static str,
    /// Its environment, which is empty otherwise.
    pub environment: Vec<(String, String)>,
    /// Whether it keeps pull secrets where no Pod comes; one process of a cluster leads.
    pub controller: bool,
    /// Whether it makes its own certificate, instead of being given one.
    pub own_certificates: bool,
    /// Where its webhook listens, on loopback.
    pub listen: SocketAddr,
    /// What else it is told on its command line.
    pub arguments: Vec<&'static str>,
    /// How many files it may have open at most, if that is bounded.
    pub files: Option<u32>,
}

impl Launch {
    /// The program, without what it is told.
    fn command(&self) -> Command {
        let Some(files) = self.files else {
            return Command::new(BINARY);
        };
        let mut command = Command::new("/bin/sh");
        let limited = format!("ulimit -n {files} && exec \"$0\" \"$@\"");
        command.args(["-c", &limited, BINARY]);
        command
    }
}

/// A running pullpass. It is killed with the value.
pub struct Pullpass {
    child: Child,
    log: ProgramLog,
    // Removed with the value.
    _folder: TempDir,
    certificates: PathBuf,
    webhook: SocketAddr,
    health: SocketAddr,
    client: reqwest::Client,
}

impl Pullpass {
    /// Starts it, with a certificate of its own, and waits until it is ready.
    pub async fn start(launch: &Launch) -> Self {
        let mut pullpass = Self::listen(launch).await;
        pullpass.wait_ready().await;
        pullpass
    }

    /// The same with certificates that are there, of [`make_certificates`].
    pub async fn start_with(launch: &Launch, certificates: &Path) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut pullpass = Self::listen_with(launch, folder, certificates.into()).await;
        pullpass.wait_ready().await;
        pullpass
    }

    /// Waits until it is ready.
    pub async fn wait_ready(&mut self) {
        wait::until("pullpass to be ready", async || {
            self.check_alive();
            self.is_ready().await.then_some(())
        })
        .await;
    }

    /// Starts it and waits until it listens.
    pub async fn listen(launch: &Launch) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let certificates = folder.path().join("certs");
        make_certificates(&certificates, "127.0.0.1");
        Self::listen_with(launch, folder, certificates).await
    }

    async fn listen_with(launch: &Launch, folder: TempDir, certificates: PathBuf) -> Self {
        let mut pullpass = Self::spawn(launch, folder, certificates);
        let listening = wait::until("pullpass to listen", async || {
            pullpass.check_alive();
            pullpass.log.find_line("listening")
        })
        .await;
        let address = |name: &str| listening[name].as_str().unwrap().parse().unwrap();
        pullpass.webhook = address("webhook.address");
        pullpass.health = address("health.address");
        pullpass
    }

    fn spawn(launch: &Launch, folder: TempDir, certificates: PathBuf) -> Self {
        let (log, stderr) = ProgramLog::create(folder.path());
        let mut command = launch.command();
        command
            .args(["serve", "--listen", &launch.listen.to_string()])
            .args(["--namespace", "pullpass"])
            .args(["--metrics-listen", "127.0.0.1:0", "--log-format", "json"])
            .args(["--log", launch.log])
            .arg("--kubeconfig")
            .arg(&launch.kubeconfig)
            .arg("--extra-ca")
            .arg(&launch.extra_ca)
            .args(if launch.own_certificates {
                vec!["--tls-host".into(), launch.listen.ip().to_string().into()]
            } else {
                vec![
                    "--tls-cert".into(),
                    certificates.join("tls.crt"),
                    "--tls-key".into(),
                    certificates.join("tls.key"),
                ]
            })
            .args((!launch.controller).then_some("--no-controller"))
            .args(&launch.arguments)
            .env_clear()
            .envs(launch.environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr);
        let nowhere = LOOPBACK;
        Self {
            child: command.spawn().unwrap(),
            log,
            _folder: folder,
            certificates,
            webhook: nowhere,
            health: nowhere,
            client: reqwest::Client::builder().no_proxy().build().unwrap(),
        }
    }

    fn check_alive(&mut self) {
        let ended = self.child.try_wait().unwrap();
        assert!(ended.is_none(), "pullpass ended, {ended:?}");
    }

    /// Its answer to a review of the creation of a Pod, sent as the API server does.
    pub async fn review(&self, pod: &Value) -> Value {
        let review = json!({
            "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
            "request": {
                "uid": "test", "operation": "CREATE", "namespace": pod["metadata"]["namespace"], "object": pod,
                "kind": {"group": "", "version": "v1", "kind": "Pod"},
                "resource": {"group": "", "version": "v1", "resource": "pods"},
            },
        });
        self.post("mutate", &review).await
    }

    /// Its answer to a review of the creation of a Registry.
    pub async fn validate(&self, registry: &Value) -> Value {
        let review = json!({
            "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
            "request": {"uid": "test", "operation": "CREATE", "object": registry},
        });
        self.post("validate-registry", &review).await
    }

    /// A client that trusts its certificate.
    pub fn client(&self) -> reqwest::Client {
        self.client_from(None)
    }

    /// The same of somebody at another address.
    pub fn client_from(&self, address: Option<std::net::IpAddr>) -> reqwest::Client {
        let ca = reqwest::Certificate::from_pem(&std::fs::read(self.ca()).unwrap()).unwrap();
        let client = reqwest::Client::builder()
            .no_proxy()
            .tls_certs_only([ca])
            .local_address(address)
            .build();
        client.unwrap()
    }

    /// Where its webhook answers under this path.
    pub fn url(&self, path: &str) -> String {
        format!("https://{}/{path}", self.webhook)
    }

    /// Its answer to a review under this path.
    pub async fn post(&self, path: &str, review: &Value) -> Value {
        let answer = self.client().post(self.url(path)).json(review).send().await;
        let answer = answer.unwrap().error_for_status();
        answer.unwrap().json().await.unwrap()
    }

    /// Tells it to stop, as Kubernetes does, and waits until it has.
    pub fn terminate(mut self) {
        let pid = self.child.id().to_string();
        let told = Command::new("kill").args(["-TERM", &pid]).status().unwrap();
        assert!(told.success());
        let ended = self.child.wait().unwrap();
        assert!(ended.success(), "{ended}: {}", self.log());
    }

    /// How much memory it has held at most so far, in KiB.
    pub fn memory(&self) -> u64 {
        super::memory::peak_kib(self.child.id())
    }

    /// How often its threads gave the processor away because they waited.
    pub fn context_switches(&self) -> u64 {
        super::memory::context_switches(self.child.id())
    }

    /// Everything that it logged so far.
    pub fn log(&self) -> String {
        self.log.read()
    }

    /// Waits until a line of the log holds all of these words; answers the log.
    pub async fn wait_logged(&self, words: &[&str]) -> String {
        self.log.wait_for(words).await
    }

    /// The first line of the log with this message.
    pub fn find_line(&self, message: &str) -> Option<Value> {
        self.log.find_line(message)
    }

    /// Whether it says that it is ready.
    pub async fn is_ready(&self) -> bool {
        let answer = self.ask("readyz").await;
        answer.is_ok_and(|answer| answer.status().is_success())
    }

    async fn ask(&self, path: &str) -> reqwest::Result<reqwest::Response> {
        let url = format!("http://{}/{path}", self.health);
        self.client.get(url).send().await
    }

    /// Its metrics, as text.
    pub async fn metrics(&self) -> String {
        let answer = self.ask("metrics").await.unwrap();
        answer.error_for_status().unwrap().text().await.unwrap()
    }

    /// The sum of all counters of this name whose labels contain each of `labels`, such as `cache="hit"`.
    pub async fn count(&self, name: &str, labels: &[&str]) -> u64 {
        metrics::sum(&self.metrics().await, name, labels)
    }

    /// Where its webhook listens.
    pub fn address(&self) -> SocketAddr {
        self.webhook
    }

    /// The file of the authority that signed its certificate.
    pub fn ca(&self) -> PathBuf {
        self.certificates.join("ca.crt")
    }

    /// Where its health endpoint listens.
    pub fn health(&self) -> SocketAddr {
        self.health
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it at once, as nobody warned it (SIGKILL).
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Registers its webhook as `manifests/webhook.yaml` says, under a name of its own and for namespaces with one more label;
    /// returns when the API server calls it.
    pub async fn register(&self, cluster: &Cluster, label: &str, value: &str) {
        self.register_with(cluster, label, value, None).await;
    }

    /// The same with another `timeoutSeconds`.
    pub async fn register_with(
        &self,
        cluster: &Cluster,
        label: &str,
        value: &str,
        seconds: Option<u32>,
    ) {
        let url = format!("https://{}/mutate", self.webhook);
        let mut configuration = configuration(&url, &[&self.ca()], label, value);
        for webhook in configuration["webhooks"].as_array_mut().unwrap() {
            if let Some(seconds) = seconds {
                webhook["timeoutSeconds"] = seconds.into();
            }
        }
        cluster.apply(&configuration).await;
        let probe = format!("probe-{value}");
        let labels = json!({"pullpass.dev/inject": "enabled", label: value});
        make_namespace(cluster, &probe, &labels).await;
        let pod = pod(&probe, &["probe.invalid/probe"]);
        wait::until("the API server to call the webhook", async || {
            cluster.create_pod(&pod, "dryRun=All").await.ok();
            (self.count("pullpass_admissions", &[]).await > 0).then_some(())
        })
        .await;
    }
}

impl Drop for Pullpass {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        if std::thread::panicking() {
            eprintln!("--- what pullpass logged ---\n{}", self.log());
        }
    }
}

/// The webhook as `manifests/webhook.yaml` says, at this URL and signed by one of these authorities, under a name of its own and for
/// namespaces with one more label.
pub fn configuration(url: &str, authorities: &[&Path], label: &str, value: &str) -> Value {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests/webhook.yaml");
    let mut configuration = read_yaml(manifest).remove(0);
    let name = configuration["metadata"]["name"].as_str().unwrap();
    configuration["metadata"]["name"] = format!("{name}-{value}").into();
    let bundle = authorities.iter().map(|file| std::fs::read(file).unwrap());
    let client =
        json!({"url": url, "caBundle": STANDARD.encode(bundle.collect::<Vec<_>>().concat())});
    for webhook in configuration["webhooks"].as_array_mut().unwrap() {
        webhook["clientConfig"] = client.clone();
        let selector = webhook["namespaceSelector"]["matchExpressions"].as_array_mut();
        selector
            .unwrap()
            .push(json!({"key": label, "operator": "In", "values": [value]}));
    }
    configuration
}

/// Writes `ca.crt`, `tls.crt` and `tls.key` into a folder that is not there yet, for loopback and this host.
pub fn make_certificates(folder: &Path, host: &str) {
    let mut command = Command::new(BINARY);
    let made = command.args(["certs", "--host", host]).arg(folder).output();
    let made = made.unwrap();
    assert!(made.status.success(), "{made:?}");
}

/// Makes a namespace and the ServiceAccount without which no Pod is admitted there: no controller-manager makes it here.
pub async fn make_namespace(cluster: &Cluster, name: &str, labels: &Value) {
    for object in namespace(name, labels) {
        cluster.apply(&object).await;
    }
}

/// A namespace and its `default` ServiceAccount.
pub fn namespace(name: &str, labels: &Value) -> [Value; 2] {
    let account = json!({
        "apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": {"name": "default", "namespace": name},
    });
    let namespace = json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": name, "labels": labels},
    });
    [namespace, account]
}

/// A Pod with one container per image, which says nothing about secrets.
pub fn pod(namespace: &str, images: &[&str]) -> Value {
    let containers: Vec<Value> = images
        .iter()
        .enumerate()
        .map(|(number, image)| json!({"name": format!("c{number}"), "image": image}))
        .collect();
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"generateName": "pod-", "namespace": namespace},
        "spec": {"containers": containers},
    })
}
