//! Where the commands of guides are run: a whole cluster whose Pods find registries, AWS and Azure under their real names behind a proxy,
//! and a shell with kubectl, Helm and pullpass, in which the clouds' own programs are doubles.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot be set up has failed"
)]

pub mod clouds;
mod programs;
mod shell;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use serde_json::json;
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::support;
use clouds::Clouds;
use clouds::{ACR, ECR, HARBOR, REGISTRY};
use programs::Doubles;
pub(crate) use shell::Shell;
use support::bed::{self, Bed};
use support::cluster::Cluster;
use support::internet::Internet;

/// What `bed` answers where the machine allows no node.
const NOT_ALLOWED: i32 = 3;
/// Where EKS Pod Identity's agent is on every node.
const AGENT: &str = "169.254.170.23";

/// A running site.
pub(crate) struct Site {
    pub(crate) cluster: Cluster,
    folder: TempDir,
    internet: Internet,
    doubles: Doubles,
    pub(crate) clouds: Arc<Clouds>,
    agent: JoinHandle<()>,
    // The last to go.
    bed: Bed,
}

impl Site {
    /// `None` where the machine allows no node, which is said.
    pub(crate) async fn start() -> Option<Self> {
        let allowed = bed::run("cluster", &["allowed"], "");
        if allowed.status.code() == Some(NOT_ALLOWED) {
            let reason = String::from_utf8_lossy(&allowed.stderr);
            eprintln!("skipped: {}", reason.trim());
            return None;
        }
        let image = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/image/e2e.tar");
        assert!(image.exists(), "{}: run `make e2e`", image.display());
        let mut arguments = vec!["up", "--image", "team/hello:1"];
        for host in [REGISTRY, HARBOR, ECR, ACR] {
            arguments.extend(["--mirror", host]);
        }
        arguments.extend(["--import", image.to_str().unwrap()]);
        let bed = Bed::start("cluster", &arguments);
        let cluster = Cluster::connect(bed.field("kubeconfig")).await;
        let clouds = Arc::new(Clouds::start(&bed, &cluster).await);
        let internet =
            Internet::start_at(bed.field("hostAddress"), Arc::clone(&clouds).hosts()).await;
        let agent = relay_agent(&bed).await;
        let site = Self {
            cluster,
            folder: tempfile::tempdir().unwrap(),
            internet,
            doubles: Doubles::start(Arc::clone(&clouds)).await,
            clouds,
            agent,
            bed,
        };
        site.write_programs();
        Some(site)
    }

    /// A shell in a folder that looks like a checkout, which has `ca.crt`, the authority of everything around the cluster.
    pub(crate) fn shell(&self, name: &str) -> Shell {
        let folder = self.folder.path().join(name);
        std::fs::create_dir(&folder).unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR"));
        std::os::unix::fs::symlink(source.join("manifests"), folder.join("manifests")).unwrap();
        std::fs::write(folder.join("ca.crt"), &self.internet.ca).unwrap();
        let path = format!("{}:/usr/bin:/bin", self.programs().display());
        let home = self.folder.path().display().to_string();
        let authority = self.authority().display().to_string();
        Shell::new(
            folder,
            &[
                ("PATH", path.as_str()),
                ("HOME", &home),
                ("KUBECONFIG", self.bed.field("kubeconfig")),
                ("HTTPS_PROXY", &self.internet.proxy),
                ("NO_PROXY", "10.0.0.0/8,127.0.0.1"),
                ("PULLPASS_EXTRA_CA", &authority),
                ("DOUBLES", self.doubles.url()),
            ],
        )
    }

    fn programs(&self) -> PathBuf {
        self.folder.path().join("bin")
    }

    fn authority(&self) -> PathBuf {
        self.folder.path().join("authority.crt")
    }

    fn write_programs(&self) {
        std::fs::write(self.authority(), &self.internet.ca).unwrap();
        let programs = self.programs();
        std::fs::create_dir(&programs).unwrap();
        let real = bed::dir().join("bin");
        let link = |from: &Path, name: &str| {
            std::os::unix::fs::symlink(from, programs.join(name)).unwrap();
        };
        link(&real.join("kubectl"), "kubectl");
        link(Path::new(env!("CARGO_BIN_EXE_pullpass")), "pullpass");
        self.write_helm(&real.join("helm"));
        for program in self.doubles.programs() {
            programs::write_script(&programs.join(program), programs::DOUBLE);
        }
    }

    /// Helm, which tells the chart of pullpass what nobody has to say elsewhere: that everything outside is behind a proxy, with an
    /// authority of its own.
    fn write_helm(&self, helm: &Path) {
        let values = self.folder.path().join("values.yaml");
        let environment = [
            json!({"name": "HTTPS_PROXY", "value": self.internet.proxy}),
            json!({"name": "NO_PROXY", "value": "10.0.0.0/8"}),
        ];
        let said =
            json!({"extraCAConfigMap": "around", "extraEnv": environment, "drainDelaySeconds": 1});
        std::fs::write(&values, said.to_string()).unwrap();
        let objects = self.folder.path().join("around.yaml");
        let namespace =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "pullpass"}});
        let around = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "around", "namespace": "pullpass"},
            "data": {"ca.crt": self.internet.ca},
        });
        std::fs::write(&objects, format!("{namespace}\n---\n{around}\n")).unwrap();
        let script = format!(
            "case \"$*\" in\n*'pullpass manifests/chart '*)\n  kubectl apply --filename {} >/dev/null\n  \
             exec {helm} \"$@\" --values {}\n;;\nesac\nexec {helm} \"$@\"\n",
            objects.display(),
            values.display(),
            helm = helm.display(),
        );
        programs::write_script(&self.programs().join("helm"), &script);
    }

    /// What a person would look at when something is wrong.
    pub(crate) fn tell(&self) -> String {
        let look = |arguments: &[&str]| {
            let mut command = Command::new(bed::dir().join("bin/kubectl"));
            let command = command
                .args(arguments)
                .env("KUBECONFIG", self.bed.field("kubeconfig"));
            String::from_utf8_lossy(&command.output().unwrap().stdout).into_owned()
        };
        let log = [
            "logs",
            "-n",
            "pullpass",
            "-l",
            "app.kubernetes.io/name=pullpass",
        ];
        [
            look(&["get", "pods", "-A", "-o", "wide"]),
            look(&["get", "registries", "-o", "yaml"]),
            look(&["get", "events", "-A"]),
            look(&[&log[..], &["--tail=30"]].concat()),
        ]
        .join("\n")
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.agent.abort();
    }
}

/// The agent at its own address: the cluster's way out leads to this machine, whose end of the wire gets the address and goes with the
/// cluster.
async fn relay_agent(bed: &Bed) -> JoinHandle<()> {
    let host: IpAddr = bed.field("hostAddress").parse().unwrap();
    let output = Command::new("ip")
        .args(["-brief", "address", "show", "to", &host.to_string()])
        .output()
        .unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    let device = told.split(['@', ' ']).next().unwrap().to_owned();
    let address = format!("{AGENT}/32");
    let added = Command::new("ip")
        .args(["address", "add", &address, "dev", &device])
        .status()
        .unwrap();
    assert!(added.success(), "{address} on {device}: {told}");
    let listener = TcpListener::bind((AGENT, 80)).await.unwrap();
    let agent = bed.ready["moto"]["agent"].as_str().unwrap();
    let agent = agent.strip_prefix("http://").unwrap().to_owned();
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let agent = agent.clone();
            tokio::spawn(async move {
                let mut far = TcpStream::connect(agent).await.ok()?;
                tokio::io::copy_bidirectional(&mut near, &mut far)
                    .await
                    .ok()
            });
        }
    })
}
