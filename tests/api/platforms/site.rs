//! A cluster on which the chart is installed, by whom, and the program that runs there.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::platform::Platform;
use super::support::bed::{self, Bed};
use super::support::cluster::{Answer, Cluster};
use super::support::fixture::{OWN, references};
use super::support::process::{Launch, Pullpass, pod};
use super::support::wait;

/// Who installs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tool {
    Helm4,
    Helm3,
    /// Flux' kustomize-controller: what Helm renders of a chart that was packed without links, by server-side apply with force.
    /// <https://fluxcd.io/flux/components/kustomize/kustomizations/>
    Flux,
    /// Argo CD: three-way merge of what Helm renders, and nothing may differ afterwards.
    /// <https://argo-cd.readthedocs.io/en/stable/user-guide/diffing/>
    ArgoCd,
    /// A chart of one's own that depends on this one, with a condition.
    Subchart,
    /// Helm, over what plain manifests installed: docs/INSTALL.md.
    OverPlainManifests,
}

/// An API server, and what is installed on it.
pub(super) struct Site {
    api: Bed,
    home: TempDir,
    pub(super) cluster: Cluster,
    pub(super) platform: Platform,
    tool: Tool,
    settings: Vec<String>,
    address: SocketAddr,
}

impl Site {
    pub(super) async fn prepare(platform: Platform, tool: Tool, settings: &[&str]) -> Self {
        let home = tempfile::tempdir().unwrap();
        let arguments = platform.api_server(home.path());
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let api = Bed::start("api", &arguments);
        let cluster = Cluster::connect(api.field("kubeconfig")).await;
        let loopback = if platform == Platform::Ipv6 {
            "[::1]:0"
        } else {
            "127.0.0.1:0"
        };
        // Whoever takes it meanwhile has the program say so.
        let free = TcpListener::bind(loopback).unwrap();
        let address = free.local_addr().unwrap();
        let url = format!("webhook.url=https://{address}/mutate");
        let fixed = ["image.repository=registry.example.com/pullpass", &url];
        let settings = fixed.iter().chain(settings).map(|text| (*text).to_owned());
        let site = Self {
            settings: settings.collect(),
            api,
            home,
            cluster,
            platform,
            tool,
            address,
        };
        site.make_namespace(OWN, &json!({})).await;
        platform.take_place(&site).await;
        site
    }

    pub(super) async fn make_namespace(&self, name: &str, labels: &Value) {
        let labelled = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}});
        self.cluster.apply(&labelled).await;
        let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": name}});
        self.cluster.apply(&account).await;
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Output {
        let mut command = Command::new(bed::dir().join("bin").join(program));
        command
            .args(arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", self.home.path())
            .env("KUBECONFIG", self.api.field("kubeconfig"));
        command.output().unwrap()
    }

    fn succeed(&self, program: &str, arguments: &[&str]) -> String {
        let output = self.run(program, arguments);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "{:?} {:?}: {program} {arguments:?}: {stderr}",
            self.platform,
            self.tool
        );
        String::from_utf8(output.stdout).unwrap()
    }

    pub(super) fn kubectl(&self, arguments: &[&str]) -> String {
        self.succeed("kubectl", arguments)
    }

    fn helm(&self) -> &'static str {
        if self.tool == Tool::Helm3 {
            "helm3"
        } else {
            "helm"
        }
    }

    /// The chart that is installed: ours, one without links, or one that depends on ours.
    fn chart(&self) -> PathBuf {
        let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests/chart");
        match self.tool {
            Tool::Flux => {
                let packed = self.home.path().join("packed");
                pack(&ours, &packed);
                packed
            }
            Tool::Subchart => {
                let parent = self.home.path().join("parent");
                std::fs::create_dir_all(&parent).unwrap();
                let dependency = json!({
                    "name": "pullpass", "version": env!("CARGO_PKG_VERSION"), "condition": "pullpass.enabled",
                    "repository": format!("file://{}", ours.display()),
                });
                let chart = json!({"apiVersion": "v2", "name": "parent", "version": "1.0.0", "dependencies": [dependency]});
                std::fs::write(parent.join("Chart.yaml"), chart.to_string()).unwrap();
                self.succeed("helm", &["dependency", "update", parent.to_str().unwrap()]);
                parent
            }
            _ => ours,
        }
    }

    /// A Helm verb with the chart, the settings, and more of them.
    fn helm_command(&self, verb: &[&str], more: &[&str]) -> Vec<String> {
        let chart = self.chart().display().to_string();
        let begin = verb
            .iter()
            .copied()
            .chain(["pullpass", &chart, "--namespace", OWN]);
        let mut command: Vec<String> = begin.map(str::to_owned).collect();
        let prefix = if self.tool == Tool::Subchart {
            "pullpass."
        } else {
            ""
        };
        let settings = self
            .settings
            .iter()
            .map(String::as_str)
            .chain(more.iter().copied());
        for setting in settings {
            command.extend(["--set".to_owned(), format!("{prefix}{setting}")]);
        }
        command
    }

    pub(super) fn by_helm(&self, verb: &[&str], more: &[&str]) -> Output {
        let command = self.helm_command(verb, more);
        let arguments: Vec<&str> = command.iter().map(String::as_str).collect();
        self.run(self.helm(), &arguments)
    }

    fn must_by_helm(&self, verb: &[&str], more: &[&str]) -> String {
        let output = self.by_helm(verb, more);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "{:?} {:?}: {verb:?}: {stderr}",
            self.platform,
            self.tool
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// What the chart renders, in a file.
    fn rendered(&self, more: &[&str]) -> String {
        let text = self.must_by_helm(&["template", "--skip-tests"], more);
        let file = self.home.path().join("rendered.yaml");
        std::fs::write(&file, text).unwrap();
        file.display().to_string()
    }

    fn apply_rendered(&self, more: &[&str]) {
        let file = self.rendered(more);
        self.kubectl(&[&["apply"], self.flags(), &["-f", &file]].concat());
    }

    pub(super) fn install(&self) {
        match self.tool {
            Tool::Helm4 | Tool::Helm3 | Tool::Subchart => {
                self.must_by_helm(&["install"], &[]);
            }
            Tool::Flux | Tool::ArgoCd => self.apply_rendered(&[]),
            Tool::OverPlainManifests => {
                let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/INSTALL.md");
                let document = std::fs::read_to_string(document).unwrap();
                let plain = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests/install.yaml");
                self.kubectl(&["apply", "--server-side", "-f", plain.to_str().unwrap()]);
                let refused = self.by_helm(&["install"], &[]);
                let stderr = String::from_utf8_lossy(&refused.stderr);
                assert!(stderr.contains("cannot be imported"), "{stderr}");
                // As the document says, to the letter.
                let lines = document.lines().filter(|line| {
                    line.starts_with("kubectl delete ")
                        && line.ends_with("-l app.kubernetes.io/part-of=pullpass")
                });
                for line in lines {
                    self.kubectl(&line.split(' ').skip(1).collect::<Vec<_>>());
                }
                let flags = ["--take-ownership", "--force-conflicts"];
                assert!(document.contains(&flags.join(" ")), "{flags:?}");
                self.must_by_helm(&[&["install"][..], &flags].concat(), &[]);
            }
        }
    }

    pub(super) fn upgrade(&self, setting: &str) {
        match self.tool {
            Tool::Flux | Tool::ArgoCd => self.apply_rendered(&[setting]),
            _ => drop(self.must_by_helm(&["upgrade"], &[setting])),
        }
    }

    pub(super) fn roll_back(&self) {
        match self.tool {
            Tool::Flux | Tool::ArgoCd => self.apply_rendered(&[]),
            _ => drop(self.succeed(
                self.helm(),
                &["rollback", "pullpass", "1", "--namespace", OWN],
            )),
        }
    }

    pub(super) fn uninstall(&self) {
        match self.tool {
            // They leave what has `helm.sh/resource-policy: keep`, too.
            Tool::Flux | Tool::ArgoCd => {
                let file = self.rendered(&["crds.enabled=false"]);
                self.kubectl(&["delete", "-f", &file]);
            }
            Tool::Subchart => {
                self.must_by_helm(&["upgrade"], &["enabled=false"]);
                self.assert_gone();
                self.succeed("helm", &["uninstall", "pullpass", "--namespace", OWN]);
            }
            _ => drop(self.succeed(self.helm(), &["uninstall", "pullpass", "--namespace", OWN])),
        }
    }

    /// The second chart, with one Registry: by the same tool.
    pub(super) fn install_registries(&self) {
        let values = self.registries();
        let chart = registries_chart();
        match self.tool {
            Tool::Flux | Tool::ArgoCd => {
                let file = self.rendered_registries();
                self.kubectl(&[&["apply"], self.flags(), &["-f", &file]].concat());
            }
            _ => {
                let release = ["install", "registries", &chart, "--namespace", OWN];
                self.succeed(
                    self.helm(),
                    &[&release[..], &["--values", &values]].concat(),
                );
            }
        }
    }

    pub(super) fn uninstall_registries(&self) {
        match self.tool {
            Tool::Flux | Tool::ArgoCd => {
                let file = self.rendered_registries();
                self.kubectl(&["delete", "-f", &file]);
            }
            _ => {
                let arguments = ["uninstall", "registries", "--namespace", OWN];
                self.succeed(self.helm(), &arguments);
            }
        }
    }

    /// A file of values: a Registry with Secrets of its own, so that it needs rights.
    fn registries(&self) -> String {
        let spec = json!({
            "images": ["registry.invalid"], "namespaceSelector": {}, "static": {"secretRef": {"name": "login"}},
        });
        let mut narrow = spec.clone();
        narrow["serviceAccountNames"] = json!(["ci"]);
        let file = self.home.path().join("registries.json");
        let values = json!({"registries": {"team": spec, "narrow": narrow}});
        std::fs::write(&file, values.to_string()).unwrap();
        file.display().to_string()
    }

    fn rendered_registries(&self) -> String {
        let (values, chart) = (self.registries(), registries_chart());
        let template = ["template", "registries", &chart, "--values", &values];
        let file = self.home.path().join("registries.yaml");
        std::fs::write(&file, self.succeed("helm", &template)).unwrap();
        file.display().to_string()
    }

    /// How the tool has kubectl apply and compare.
    fn flags(&self) -> &'static [&'static str] {
        if self.tool == Tool::Flux { FLUX } else { &[] }
    }

    /// Whether the tool sees no difference between what it applied and what is there.
    pub(super) fn assert_no_drift(&self, after: &str) {
        if ![Tool::Flux, Tool::ArgoCd].contains(&self.tool) {
            return;
        }
        for file in [self.rendered(&[]), self.rendered_registries()] {
            let arguments = [&["diff"], self.flags(), &["-f", &file]].concat();
            let output = self.run("kubectl", &arguments);
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(
                output.status.success(),
                "{:?} after {after}: {text}",
                self.tool
            );
        }
    }

    /// Nothing of pullpass but the kind, its namespace and what it keeps there.
    pub(super) fn assert_gone(&self) {
        let list = ["api-resources", "--verbs=list,delete", "-o", "name"];
        let kinds = self.kubectl(&list);
        let kinds: Vec<&str> = kinds
            .lines()
            .filter(|kind| !kind.starts_with("customresourcedefinitions.") && *kind != "namespaces")
            .collect();
        let label = [
            "-A",
            "-l",
            "app.kubernetes.io/part-of=pullpass",
            "-o",
            "name",
        ];
        let left = self.kubectl(&[&["get", &kinds.join(",")], &label[..]].concat());
        // Their controller, which is not here, takes them away with their Service.
        let mut left = left.lines().filter(|line| !line.starts_with("endpoint"));
        assert_eq!(left.next(), None, "{:?} {:?}", self.platform, self.tool);
    }

    /// The Pod that the Deployment's controller makes, as the API server answers: a dry run, of which nothing stays.
    pub(super) async fn create_own_pod(&self) -> Answer {
        let path = format!("/apis/apps/v1/namespaces/{OWN}/deployments/pullpass");
        let mut deployment = self.cluster.get(&path).await.unwrap();
        let mut pod = deployment["spec"]["template"].take();
        pod["apiVersion"] = "v1".into();
        pod["kind"] = "Pod".into();
        pod["metadata"]["namespace"] = OWN.into();
        pod["metadata"]["generateName"] = "pullpass-7d9f8b6c5d-".into();
        self.cluster.create_pod(&pod, "dryRun=All").await
    }

    /// The program, as the Pod's ServiceAccount.
    pub(super) async fn serve(&self) -> Pullpass {
        let path = format!("/api/v1/namespaces/{OWN}/serviceaccounts/pullpass/token");
        let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 3600}});
        let answer = self.cluster.send("POST", &path, Some(&request)).await.ok();
        let (url, ca) = (self.api.field("url"), self.api.field("ca"));
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": url, "certificate-authority": ca}}],
            "users": [{"name": "test", "user": {"token": answer.body["status"]["token"]}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        });
        let kubeconfig = self.home.path().join("kubeconfig");
        std::fs::write(&kubeconfig, config.to_string()).unwrap();
        Pullpass::start(&Launch {
            kubeconfig,
            extra_ca: ca.into(),
            log: "info",
            environment: Vec::new(),
            controller: true,
            own_certificates: true,
            listen: self.address,
            arguments: vec!["--drain-delay", "0"],
            files: None,
        })
        .await
    }

    /// Whether the API server calls it about a Pod, and the Pod comes with its reference.
    pub(super) async fn assert_injected(&self, pullpass: &Pullpass, when: &str) {
        let before = pullpass.count("pullpass_admissions_total", &[]).await;
        wait::until(
            &format!("{:?} {:?}: a reference {when}", self.platform, self.tool),
            async || {
                let created = pod("shop", &["registry.invalid/team/hello:1"]);
                let made = self.cluster.create_pod(&created, "").await.ok().body;
                references(&made).then_some(())
            },
        )
        .await;
        assert!(pullpass.count("pullpass_admissions_total", &[]).await > before);
    }

    pub(super) async fn replicas(&self) -> Value {
        let path = format!("/apis/apps/v1/namespaces/{OWN}/deployments/pullpass");
        let mut found = self.cluster.get(&path).await.unwrap();
        found["spec"]["replicas"].take()
    }
}

/// How Flux applies.
const FLUX: &[&str] = &[
    "--server-side",
    "--force-conflicts",
    "--field-manager=kustomize-controller",
];

/// Copies a folder's files and folders, and no links, as Flux' source-controller packs an artifact.
/// <https://github.com/fluxcd/pkg/blob/main/tar/tar.go>
fn pack(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (kind, target) = (entry.file_type().unwrap(), to.join(entry.file_name()));
        if kind.is_dir() {
            pack(&entry.path(), &target);
        } else if kind.is_file() {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn registries_chart() -> String {
    let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests/chart-registries");
    chart.display().to_string()
}
