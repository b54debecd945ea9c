//! The real binary with `serve --patch-only`.

use std::io::{PipeReader, PipeWriter};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use tempfile::TempDir;

use super::program_log::ProgramLog;
use super::wait;
use super::webhook::HOST;

/// The program.
pub const BINARY: &str = env!("CARGO_BIN_EXE_pullpass");

/// What replicas share: certificates, and the file with Registries and namespaces.
pub struct Setup(TempDir);

impl Setup {
    /// Certificates that are good for loopback and `host`; one Registry; the namespace `shop`, which opted in.
    pub fn new(host: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let certs = folder.path().join("certs");
        let made = Command::new(BINARY)
            .args(["certs", "--host", host])
            .arg(&certs)
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        let registries = format!(
            "apiVersion: pullpass.dev/v1alpha1\nkind: Registry\nmetadata: {{name: team}}\nspec:\n  images: [{HOST}/team]\n  \
             namespaceSelector: {{}}\n  ecr: {{identity: {{workload: {{}}}}}}\n---\napiVersion: v1\nkind: Namespace\nmetadata:\n  name: shop\n  labels: {{pullpass.dev/inject: enabled}}\n"
        );
        std::fs::write(folder.path().join("registries.yaml"), registries).unwrap();
        Self(folder)
    }

    /// A file of this setup: `ca.crt`, `tls.crt`, `tls.key`.
    pub fn certificate(&self, name: &str) -> PathBuf {
        self.0.path().join("certs").join(name)
    }

    /// The file with Registries and namespaces.
    pub fn registries(&self) -> PathBuf {
        self.0.path().join("registries.yaml")
    }

    /// The command line, with the listeners on free ports of an address.
    pub fn command(&self, address: &str) -> Command {
        self.command_at(&format!("{address}:0"), &format!("{address}:0"))
    }

    /// The command line, with the webhook and the health endpoint there.
    pub fn command_at(&self, webhook: &str, health: &str) -> Command {
        let mut command = self.plain_command();
        command.args(["--listen", webhook, "--metrics-listen", health]);
        command
    }

    /// The command line, which does not say where it listens.
    pub fn plain_command(&self) -> Command {
        let mut command = Command::new(BINARY);
        command.args(["serve", "--patch-only", "--log-format", "json"]);
        // A routine admission is logged at debug.
        command.args(["--log", "pullpass=debug,info"]);
        command.arg("--registries").arg(self.registries());
        command.arg("--tls-cert").arg(self.certificate("tls.crt"));
        command.arg("--tls-key").arg(self.certificate("tls.key"));
        command.env_clear().stdin(Stdio::null());
        command
    }

    /// Starts a replica and waits until it is ready.
    pub async fn start(&self, address: &str, drain_delay: &str) -> Replica {
        let mut command = self.command(address);
        command.args(["--drain-delay", drain_delay]);
        Self::start_command(command).await
    }

    /// The same on loopback with these arguments besides.
    pub async fn start_as(&self, arguments: &[&str]) -> Replica {
        let mut command = self.command("127.0.0.1");
        command.args(["--drain-delay", "0"]).args(arguments);
        Self::start_command(command).await
    }

    /// The same on loopback with so many files at most, connections among them.
    pub async fn start_with_files(&self, files: u32) -> Replica {
        self.start_limited(&format!("ulimit -n {files}")).await
    }

    /// The same with so many files at first, and as many as this process may have if it asks for them.
    pub async fn start_with_soft_limit(&self, files: u32) -> Replica {
        self.start_limited(&format!("ulimit -S -n {files}")).await
    }

    /// The same on loopback with so many threads that answer.
    pub async fn start_with_threads(&self, threads: u32) -> Replica {
        let mut command = self.command("127.0.0.1");
        command.args(["--drain-delay", "0"]);
        command.env("TOKIO_WORKER_THREADS", threads.to_string());
        Self::start_command(command).await
    }

    async fn start_limited(&self, limit: &str) -> Replica {
        let limited = self.command("127.0.0.1");
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", &format!("{limit} && exec \"$0\" \"$@\"")])
            .arg(limited.get_program())
            .args(limited.get_args())
            .args(["--drain-delay", "0"])
            .env_clear()
            .stdin(Stdio::null());
        Self::start_command(command).await
    }

    /// The same on loopback, logging to a pipe, which is read until the addresses are there.
    pub async fn start_with_log(&self, mut log: &PipeReader, stderr: PipeWriter) -> Replica {
        use std::io::Read as _;
        let mut command = self.command("127.0.0.1");
        command.args(["--drain-delay", "0"]);
        let mut replica = Replica::spawn(&mut command, Some(stderr.into()));
        // What it inherits is the only end that may be left.
        drop(command);
        let (mut read, mut part) = (Vec::new(), [0; 4096]);
        let (seen, file) = ProgramLog::create(replica.folder.path());
        while seen.find_line("listening").is_none() {
            let length = log.read(&mut part).unwrap();
            assert_ne!(length, 0, "pullpass ended");
            read.extend_from_slice(&part[..length]);
            std::os::unix::fs::FileExt::write_all_at(&file, &read, 0).unwrap();
        }
        replica.prepared().await;
        replica
    }

    /// Starts a command and waits until it is ready.
    pub async fn start_command(mut command: Command) -> Replica {
        let mut replica = Replica::spawn(&mut command, None);
        replica.prepared().await;
        replica
    }
}

impl Replica {
    /// Starts a command; where it logs is the file, unless another place is given.
    fn spawn(command: &mut Command, stderr: Option<Stdio>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (log, file) = ProgramLog::create(folder.path());
        let stderr = stderr.unwrap_or_else(|| file.into());
        let child = command.stdout(Stdio::null()).stderr(stderr).spawn();
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        Self {
            child: child.unwrap(),
            log,
            folder,
            webhook: nowhere,
            health: nowhere,
        }
    }

    /// Waits until it is ready.
    async fn prepared(&mut self) {
        let listening = async || self.log.find_line("listening");
        let line = wait::until("pullpass to listen", listening).await;
        let find = |name: &str| line[name].as_str().unwrap().parse().unwrap();
        (self.webhook, self.health) = (find("webhook.address"), find("health.address"));
        let ready = async || self.is_ready().await.then_some(());
        wait::until("pullpass to be ready", ready).await;
    }
}

/// A running process; it is killed with the value.
pub struct Replica {
    child: Child,
    log: ProgramLog,
    folder: TempDir,
    pub webhook: SocketAddr,
    pub health: SocketAddr,
}

impl Replica {
    /// The most memory that it has held so far, in KiB.
    pub fn peak_memory(&self) -> u64 {
        super::memory::peak_kib(self.child.id())
    }

    /// The processor time that it has had.
    pub fn processor_time(&self) -> std::time::Duration {
        super::memory::processor_time(self.child.id())
    }

    /// Everything that it logged so far.
    pub fn log(&self) -> String {
        self.log.read()
    }

    /// Waits until a line of the log holds all of these words; answers the log.
    pub async fn wait_logged(&self, words: &[&str]) -> String {
        self.log.wait_for(words).await
    }

    /// Whether it says that it is ready.
    pub async fn is_ready(&self) -> bool {
        is_ready(self.health).await
    }

    /// What its metrics endpoint shows.
    pub async fn metrics(&self) -> String {
        let answer = client()
            .get(format!("http://{}/metrics", self.health))
            .send()
            .await
            .unwrap();
        answer.text().await.unwrap()
    }

    /// Tells it to stop.
    pub fn terminate(&self) {
        let status = Command::new("kill")
            .args(["-TERM", &self.child.id().to_string()])
            .status()
            .unwrap();
        assert!(status.success());
    }

    /// Waits until it has ended.
    pub async fn ended(mut self) -> ExitStatus {
        wait::until("pullpass to end", async || self.child.try_wait().unwrap()).await
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Whether the process with this health endpoint says that it is ready.
pub async fn is_ready(health: SocketAddr) -> bool {
    let answer = client().get(format!("http://{health}/readyz")).send().await;
    answer.is_ok_and(|answer| answer.status().is_success())
}

/// A client that trusts nothing but a setup's CA.
pub fn client_trusting(ca: &Path) -> reqwest::Client {
    let ca = reqwest::Certificate::from_pem(&std::fs::read(ca).unwrap()).unwrap();
    reqwest::Client::builder()
        .no_proxy()
        .tls_certs_only([ca])
        .build()
        .unwrap()
}

fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().unwrap()
}
