//! On a whole cluster: the Job that the document shows for kaniko builds from a private base image with a mounted Secret and pushes, a
//! Deployment runs the result by what its ServiceAccount lists, and so again after the logins were rotated.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::mounted;
use super::program::attempt;
use crate::support::place::{HOST, Place, principal};
use crate::support::process::make_namespace;
use crate::support::{bed, manifests};

/// What `make bed-consumers` names kaniko's image.
const KANIKO: &str = "pullpass.bed/kaniko:1";
const BUILDERS: &str = "docs/BUILDERS.md";
/// Where the documents build, and where they run.
const BUILD: &str = "payments-builds";
const RUN: &str = "apps";
const SECRET: &str = "pullpass-builds";
/// Whose tokens Pods pull with, and builders push with.
const PULLER: &str = "puller";
const BUILDER: &str = "builder";
/// How long a token lives, in seconds. It is renewed after half of that.
const LIFE: u32 = 72;
/// For how long the registry takes a token after the next one was minted, in seconds.
const OVERLAP: u32 = 20;
/// How often the kubelet looks at what Pods mount: a twelfth of what it does by itself, as the tokens live shorter.
const SYNC: &str = "5s";
const ROTATIONS: usize = 5;
const DEADLINE: Duration = Duration::from_mins(3);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn builds_pushes_and_runs_with_a_mounted_secret_across_rotations() {
    let kaniko = bed::dir().join("kaniko.tar");
    let kaniko = kaniko.to_str().unwrap();
    let arguments = [
        "--image",
        "payments/base:1",
        "--import",
        kaniko,
        "--sync-frequency",
        SYNC,
    ];
    let Some(place) = Place::start(&arguments).await else {
        return;
    };
    place.serve_builders().await;
    let _pullpass = place.launch().await;
    for (namespace, secret) in [(BUILD, SECRET), (BUILD, "pullpass"), (RUN, "pullpass")] {
        let what = format!("{namespace}/{secret}");
        place
            .wait(&what, async || {
                place.cluster.secret(namespace, secret).await.map(drop)
            })
            .await;
    }
    let reader = mounted::reader(BUILD, SECRET);
    place.cluster.create_pod(&reader, "").await.ok();
    place.read_as_k8schain();

    let begin = Instant::now();
    place.build_and_run("first").await;
    println!("built and running after {} s", begin.elapsed().as_secs());
    let first = place.minted(BUILDER).await.remove(0);
    let first = first["password"].as_str().unwrap();
    place
        .wait("the first login to be off", async || {
            (place.log_in(first).await == 401).then_some(())
        })
        .await;
    place.build_and_run("second").await;

    place.check_readings().await;
    // But for kaniko's wish to end an upload that it only began to see whether it may push, and the login that this test tried.
    let mut refused = place.requests();
    refused.retain(|request| request["allowed"] == false && request["method"] != "DELETE");
    assert_eq!(refused.len(), 1, "{refused:#?}");
}

impl Place {
    /// The Registries: that of the document, which pushes, and one for Pods, each with a user of its own.
    async fn serve_builders(&self) {
        for user in [PULLER, BUILDER] {
            self.add_user(user, LIFE).await;
        }
        let allow = json!([
            {"principal": principal(PULLER), "actions": ["pull"]},
            {"principal": principal(BUILDER), "repositories": ["payments/"], "actions": ["pull", "push"]},
        ]);
        self.allow(&allow, OVERLAP);
        self.install().await;
        let mut builds = manifests::find(BUILDERS, "Registry", |one| {
            one["metadata"]["name"] == "builds"
        });
        builds["spec"]["ecr"] = self.put_keys(BUILDER).await;
        let ecr = self.put_keys(PULLER).await;
        let pods = json!({
            "apiVersion": "pullpass.dev/v1alpha1", "kind": "Registry", "metadata": {"name": "pods"},
            "spec": {"images": [format!("{HOST}/payments")], "namespaceSelector": {}, "ecr": ecr},
        });
        self.grant_printed(&builds).await;
        for registry in [&builds, &pods] {
            self.cluster.apply(registry).await;
        }
        let labels = json!({"pullpass.dev/inject": "all", "builds": "payments"});
        make_namespace(&self.cluster, BUILD, &labels).await;
        let labels = json!({"pullpass.dev/inject": "all"});
        make_namespace(&self.cluster, RUN, &labels).await;
        // The only place by which Pods here get their reference: no webhook is called.
        let account = manifests::find("docs/CONSUMERS.md", "ServiceAccount", |_| true);
        assert_eq!(account["metadata"]["namespace"], RUN);
        self.cluster.apply(&account).await;
    }

    /// The rights that `pullpass rbac` prints; the cluster gathers them.
    async fn grant_printed(&self, registry: &Value) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("registry.json");
        std::fs::write(&file, registry.to_string()).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_pullpass"))
            .args(["rbac", "-o", "json", "-f"])
            .arg(&file)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let printed: Value = serde_json::from_slice(&output.stdout).unwrap();
        for role in printed["items"].as_array().unwrap() {
            self.cluster.apply(role).await;
        }
    }

    /// The file that the reader mounts never had a login with less than a quarter of its life left.
    async fn check_readings(&self) {
        let readings = self
            .wait("five rotations of the mounted file", async || {
                let log = self.kubectl(&["logs", "-n", BUILD, "reader"]);
                let readings = mounted::judge(&log, &self.minted(BUILDER).await);
                (readings.logins > ROTATIONS).then_some(readings)
            })
            .await;
        println!(
            "{} readings of the mounted file, {} logins one after the other; at least {} % of a login's life left",
            readings.count, readings.logins, readings.least
        );
        assert!(readings.count > 100, "{readings:?}");
        assert!(readings.least >= 25, "{readings:?}");
    }

    fn kubectl(&self, arguments: &[&str]) -> String {
        let output = Command::new(bed::dir().join("bin/kubectl"))
            .args(["--kubeconfig", self.bed.field("kubeconfig")])
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        String::from_utf8(output.stdout).unwrap() + &errors
    }

    /// Waits for something; tells what the cluster looks like when it does not come.
    async fn wait<T>(&self, what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
        let end = Instant::now() + DEADLINE;
        loop {
            if let Some(found) = look().await {
                return found;
            }
            if Instant::now() > end {
                let pods = self.kubectl(&["get", "pods", "-A", "-o", "wide"]);
                let events = self.kubectl(&["get", "events", "-A"]);
                let build = ["logs", "-n", BUILD, "-l", "job-name", "--tail", "60"];
                panic!(
                    "{what} did not come\n{pods}\n{events}\n{}",
                    self.kubectl(&build)
                );
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Knative, Tekton and Kyverno find the login by what the ServiceAccount lists, before there is a Pod.
    fn read_as_k8schain(&self) {
        let pull = |namespace: &str, name: &str| {
            attempt(&json!({
                "client": "k8schain", "image": format!("{HOST}/payments/base:1"),
                "proxy": self.registry("proxy"), "ca": self.registry("ca"),
                "serviceAccount": {"kubeconfig": self.bed.field("kubeconfig"), "namespace": namespace, "name": name},
            }))
        };
        pull(RUN, "default").unwrap();
        let refused = pull(BUILD, "default").unwrap_err();
        assert!(
            refused.contains("UNAUTHORIZED") || refused.contains("401"),
            "{refused}"
        );
    }

    /// Builds and pushes an image of this name by a Job, and runs it by a Deployment.
    async fn build_and_run(&self, name: &str) {
        let image = format!("{HOST}/payments/{name}");
        let dockerfile = format!(
            "FROM {HOST}/payments/base:1\nRUN [\"/hello\", \"-exit\", \"0\"]\nCOPY Dockerfile /built/\nCMD [\"-name\", \"{name}\"]\n"
        );
        let ca = std::fs::read_to_string(self.registry("ca")).unwrap();
        for (map, key, content) in [("context", "Dockerfile", dockerfile), ("ca", "ca.crt", ca)] {
            let map = json!({
                "apiVersion": "v1", "kind": "ConfigMap", "data": {key: content},
                "metadata": {"name": map, "namespace": BUILD},
            });
            self.cluster.apply(&map).await;
        }
        self.cluster.apply(&self.kaniko(name, &image)).await;
        let job = format!("/apis/batch/v1/namespaces/{BUILD}/jobs/{name}");
        self.wait(&format!("build {name}"), async || {
            let status = self.cluster.get(&job).await?["status"].clone();
            let log = ["logs", "-n", BUILD, &format!("job/{name}")];
            assert_ne!(status["failed"], 1, "{}", self.kubectl(&log));
            (status["succeeded"] == 1).then_some(())
        })
        .await;
        self.cluster.apply(&deployment(&image)).await;
        let log = ["logs", "-n", RUN, "deployment/built"];
        self.wait(&format!("{name} to run"), async || {
            let said = self.kubectl(&log);
            said.contains(&format!("hello from {name}")).then_some(())
        })
        .await;
    }

    /// The document's Job, but for what is elsewhere on this machine: the source, kaniko's image, and the way to the registry.
    fn kaniko(&self, name: &str, image: &str) -> Value {
        let mut job = manifests::find(BUILDERS, "Job", |job| {
            job["spec"]["template"]["spec"]["containers"][0]["name"] == "kaniko"
        });
        assert_eq!(job["metadata"]["namespace"], BUILD);
        job["metadata"]["name"] = name.into();
        job["spec"]["backoffLimit"] = 0.into();
        let pod = &mut job["spec"]["template"]["spec"];
        let container = &mut pod["containers"][0];
        container["image"] = KANIKO.into();
        container["imagePullPolicy"] = "Never".into();
        container["env"] = json!([{"name": "HTTPS_PROXY", "value": self.registry("proxy")}]);
        let arguments = container["args"].as_array().unwrap().iter();
        let arguments: Vec<String> = arguments
            .map(|one| match one.as_str().unwrap() {
                source if source.starts_with("--context=") => "--context=dir:///workspace".into(),
                other => other.replace("IMAGE", image),
            })
            .collect();
        container["args"] = json!(arguments);
        let mounts = container["volumeMounts"].as_array_mut().unwrap();
        mounts.push(json!({"name": "context", "mountPath": "/workspace/Dockerfile", "subPath": "Dockerfile"}));
        mounts.push(json!({"name": "ca", "mountPath": "/kaniko/ssl/certs"}));
        let volumes = pod["volumes"].as_array_mut().unwrap();
        for map in ["context", "ca"] {
            volumes.push(json!({"name": map, "configMap": {"name": map}}));
        }
        job
    }
}

/// It says nothing of Secrets: its Pods have what their ServiceAccount lists.
fn deployment(image: &str) -> Value {
    let labels = json!({"app": "built"});
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "built", "namespace": RUN},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "built", "image": image, "imagePullPolicy": "Always"}]},
            },
        },
    })
}
