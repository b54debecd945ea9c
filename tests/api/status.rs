//! `pullpass status`, as it is run: by an administrator, by tenants with the rights of `edit` and `view` in a namespace, as kubectl's
//! plugin, and again when something changes.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;

use crate::support;
use jiff::Timestamp;
use serde_json::{Value, json};
use support::account::connect_with;
use support::fixture::{ECR, Fixture};
use support::process::pod;
use support::wait;

const BINARY: &str = env!("CARGO_BIN_EXE_pullpass");

/// What `edit` and `view` are made of: nobody aggregates ClusterRoles here.
const EDIT: (&str, &str) = ("ClusterRole", "system:aggregate-to-edit");
const VIEW: (&str, &str) = ("ClusterRole", "system:aggregate-to-view");

struct Told {
    code: Option<i32>,
    text: String,
    report: Value,
}

fn command(program: impl AsRef<Path>, kubeconfig: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(program.as_ref());
    command.args(arguments).arg("--kubeconfig").arg(kubeconfig);
    command.env_clear();
    command
}

async fn run(program: impl AsRef<Path>, kubeconfig: &Path, arguments: &[&str]) -> Told {
    let mut command = command(program, kubeconfig, arguments);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap());
    let output = output.await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    Told {
        code: output.status.code(),
        report: serde_json::from_str(&text).unwrap_or_default(),
        text: text + &String::from_utf8(output.stderr).unwrap(),
    }
}

fn reasons(told: &Told) -> Vec<&str> {
    let findings = told.report["findings"].as_array().unwrap().iter();
    findings
        .map(|one| one["reason"].as_str().unwrap())
        .collect()
}

/// The blocks that `-w` prints, line by line, as long as it runs.
struct Watch {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Watch {
    fn start(kubeconfig: &Path) -> Self {
        let mut command = command(BINARY, kubeconfig, &["status", "-w", "-o", "wide"]);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            let read = stdout.lines().map_while(Result::ok);
            for line in read {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Self { child, lines }
    }

    /// Waits for a line with these words.
    async fn wait_for(&self, words: &str) {
        wait::until("a line of the status", async || {
            self.lines.try_iter().find(|line| line.contains(words))
        })
        .await;
    }

    /// Ends it as Ctrl-C does; its exit code.
    fn interrupt(mut self) -> Option<i32> {
        let pid = self.child.id().to_string();
        Command::new("kill").args(["-INT", &pid]).status().unwrap();
        self.child.wait().unwrap().code()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

async fn tell_missed(fixture: &Fixture, namespace: &str, pod: &str) {
    let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.6fZ");
    let event = json!({
        "apiVersion": "events.k8s.io/v1", "kind": "Event", "type": "Warning", "action": "Scan",
        "metadata": {"name": "missed.1", "namespace": namespace}, "eventTime": now.to_string(),
        "reason": "PullSecretNotReferenced", "note": "It was created without a reference",
        "reportingController": "pullpass.dev/controller", "reportingInstance": "test",
        "regarding": {"apiVersion": "v1", "kind": "Pod", "name": pod, "namespace": namespace},
    });
    let path = format!("/apis/events.k8s.io/v1/namespaces/{namespace}/events");
    fixture.cluster.send("POST", &path, Some(&event)).await.ok();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shows_administrator_and_tenants_what_each_may_see() {
    let fixture = Fixture::alone("status").await;
    fixture.serve(&[&format!("{ECR}/team")]).await;
    let namespace = fixture.namespace("shop").await;
    let _pullpass = fixture.start_controller().await;
    let admin = fixture.world.kubeconfig();
    fixture
        .create(&namespace, &[&format!("{ECR}/team/hello:1")])
        .await;
    let told = wait::until("all to be well", async || {
        let told = run(BINARY, admin, &["status", "-o", "json"]).await;
        (told.code == Some(0)).then_some(told)
    })
    .await;
    assert_eq!(told.report["ok"], true);
    assert_eq!(told.report["webhook"]["called"], true, "{}", told.text);
    assert!(told.report["webhook"]["leader"].is_string());
    let registry = &told.report["registries"][0];
    assert_eq!(registry["name"], "status");
    assert_eq!(registry["identity"], "ecr keys status");
    assert_eq!(
        (&registry["ready"], &registry["access"]),
        (&"True".into(), &"Pull".into())
    );
    let end: Timestamp = registry["expirationTime"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!(end > Timestamp::now());
    let text = run(BINARY, admin, &["status"]).await.text;
    assert!(
        text.contains("REGISTRY") && text.contains("Nothing fails."),
        "{text}"
    );
    assert!(
        text.lines().all(|line| line.chars().count() <= 100),
        "{text}"
    );

    plugin(&fixture, admin).await;
    tenants(&fixture, &namespace).await;
    follow(&fixture, admin).await;
}

/// kubectl finds it by the name of its file.
async fn plugin(fixture: &Fixture, admin: &Path) {
    let plugin = fixture.file("kubectl-pullpass");
    std::os::unix::fs::symlink(BINARY, &plugin).unwrap();
    let told = run(&plugin, admin, &[]).await;
    assert_eq!(told.code, Some(0), "{}", told.text);
    assert!(told.text.contains("REGISTRY"), "{}", told.text);
    let help = Command::new(&plugin).args(["check", "--help"]).output();
    let help = String::from_utf8(help.unwrap().stdout).unwrap();
    assert!(help.contains("Usage: kubectl pullpass check"), "{help}");
    assert!(
        help.contains("\n  kubectl pullpass check -n payments "),
        "{help}"
    );
}

async fn tenants(fixture: &Fixture, namespace: &str) {
    let (editor, viewer) = (fixture.file("editor"), fixture.file("viewer"));
    connect_with(fixture, namespace, "editor", &[EDIT, VIEW], &editor).await;
    connect_with(fixture, namespace, "viewer", &[VIEW], &viewer).await;
    let asked = ["status", "-n", namespace, "-o", "json"];
    let told = wait::until("the editor's rights", async || {
        let told = run(BINARY, &editor, &asked).await;
        told.report["secrets"].is_array().then_some(told)
    })
    .await;
    assert_eq!(told.code, Some(0), "{}", told.text);
    let secret = &told.report["secrets"][0];
    assert_eq!(secret["name"], "pullpass");
    assert_eq!(secret["registries"], json!(["status"]));
    assert!(secret["expirationTime"].is_string() && secret["created"].is_string());
    let unread = |told: &Told| {
        let unread = told.report["unread"].as_array().unwrap().iter();
        unread
            .map(|one| one["what"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(unread(&told), ["Registries"]);
    for minted in fixture.user.minted(&fixture.world.moto).await {
        let password = minted["password"].as_str().unwrap();
        assert!(!told.text.contains(password), "{}", told.text);
    }
    let told = run(BINARY, &viewer, &asked).await;
    assert_eq!(told.code, Some(0), "{}", told.text);
    assert_eq!(unread(&told), ["Registries", "pull secrets"]);

    // A Pod that nobody asked pullpass about, as an Event of its says.
    let mut missed = pod(namespace, &["elsewhere.example.com/a:1"]);
    missed["metadata"] = json!({"name": "missed", "namespace": namespace});
    fixture.cluster.create_pod(&missed, "").await.ok();
    tell_missed(fixture, namespace, "missed").await;
    let told = run(BINARY, &viewer, &asked).await;
    assert_eq!(told.code, Some(1), "{}", told.text);
    assert_eq!(reasons(&told), ["PullSecretNotReferenced"]);
    assert_eq!(told.report["events"][0]["object"], "Pod missed");

    let elsewhere = run(BINARY, &viewer, &["status", "-n", "default", "-o", "json"]).await;
    assert_eq!(elsewhere.code, Some(0), "{}", elsewhere.text);
    assert_eq!(unread(&elsewhere).len(), 5, "{}", elsewhere.text);
}

async fn follow(fixture: &Fixture, admin: &Path) {
    let watch = Watch::start(admin);
    watch.wait_for("Nothing fails.").await;
    let spec = json!({"images": ["late.example.com"], "static": {"secretRef": {"name": "late"}}});
    fixture.put_registry("late", spec).await;
    watch.wait_for("Registry late: MissingSource").await;
    let told = run(BINARY, admin, &["status", "-o", "json"]).await;
    assert_eq!(told.code, Some(1), "{}", told.text);
    assert!(told.report["findings"][0]["next"].is_string());
    let code = watch.interrupt();
    assert_eq!(code, Some(1), "something fails");
    let unreachable = fixture.file("unreachable");
    let text = std::fs::read_to_string(admin).unwrap();
    let (url, _) = fixture.world.api_server();
    std::fs::write(&unreachable, text.replace(&url, "https://127.0.0.1:1")).unwrap();
    let told = run(BINARY, &unreachable, &["status"]).await;
    assert_eq!(told.code, Some(2), "{}", told.text);
}
