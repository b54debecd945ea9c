//! pullpass as people install it: the chart by Helm, its Pods behind its Service from the image that `make image` builds, on a whole
//! cluster, with an IAM role of its own (IRSA), and Pods that pull through it. `make e2e` builds the parts and runs this.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot be set up has failed"
)]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support;
use serde_json::{Value, json};
use support::bed::{self, Bed};
use support::cluster::Cluster;
use support::fixture::references;
use support::load::Load;
use tempfile::TempDir;

const HOST: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";
const ROLE: &str = "arn:aws:iam::123456789012:role/puller";
const SESSION: &str = "arn:aws:sts::123456789012:assumed-role/puller/pullpass";
/// What `make e2e` names the image, with this version as its tag, which is the chart's default.
const REPOSITORY: &str = "registry.example.com/pullpass";
/// Bytes of the image at most: 30 MiB.
const LARGEST_IMAGE: u64 = 30 << 20;
/// What `bed` answers where the machine allows no node.
const NOT_ALLOWED: i32 = 3;
const DEADLINE: Duration = Duration::from_mins(2);
/// Pods that are created at the same time.
const WORKERS: usize = 16;

/// A whole cluster, with programs that act on it.
struct Place {
    bed: Bed,
    folder: TempDir,
    cluster: Cluster,
}

impl Place {
    /// `None` where the machine allows no node, which is said.
    async fn start() -> Option<Self> {
        if !allows_node() {
            return None;
        }
        let image = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/image/e2e.tar");
        assert!(image.exists(), "{}: run `make e2e`", image.display());
        assert!(image.metadata().unwrap().len() <= LARGEST_IMAGE);
        let arguments = ["up", "--mirror", HOST, "--image", "team/hello:1"];
        let import = ["--import", image.to_str().unwrap()];
        let bed = Bed::start("cluster", &[&arguments[..], &import].concat());
        let cluster = Cluster::connect(bed.field("kubeconfig")).await;
        Some(Self {
            bed,
            folder: tempfile::tempdir().unwrap(),
            cluster,
        })
    }

    fn program(&self, name: &str, arguments: &[&str]) -> String {
        let mut command = Command::new(bed::dir().join("bin").join(name));
        command
            .args(arguments)
            .env("HOME", self.folder.path())
            .env("KUBECONFIG", self.bed.field("kubeconfig"))
            .stdin(Stdio::null());
        let output = command.output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "{name} {arguments:?}: {stderr}\n{}",
            self.tell()
        );
        String::from_utf8(output.stdout).unwrap()
    }

    fn kubectl(&self, arguments: &[&str]) -> String {
        self.program("kubectl", arguments)
    }

    /// Helm on the release; it waits until the Pods are there.
    fn helm(&self, verb: &[&str]) {
        let mut arguments = verb.to_vec();
        arguments.extend(["--namespace", "pullpass", "--wait", "--timeout", "120s"]);
        self.program("helm", &arguments);
    }

    /// Installs or upgrades the release with these settings besides.
    fn install(&self, verb: &str, settings: &[&str]) {
        let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests/chart");
        let role = format!("identity.aws.roleArn={ROLE}");
        let image = format!("image.repository={REPOSITORY}");
        let fixed = [
            image.as_str(),
            "image.pullPolicy=Never",
            &role,
            "extraCAConfigMap=clouds",
            "drainDelaySeconds=5",
        ];
        let mut arguments = vec![verb, "pullpass", chart.to_str().unwrap()];
        for setting in fixed.iter().chain(settings) {
            arguments.extend(["--set", setting]);
        }
        self.helm(&arguments);
    }

    /// What a person would look at when something is wrong.
    fn tell(&self) -> String {
        let look = |arguments: &[&str]| {
            let mut command = Command::new(bed::dir().join("bin/kubectl"));
            command
                .args(arguments)
                .env("KUBECONFIG", self.bed.field("kubeconfig"));
            let output = command.output().unwrap();
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        [
            look(&["get", "pods", "-A", "-o", "wide"]),
            look(&["get", "events", "-A"]),
            look(&[
                "logs",
                "-n",
                "pullpass",
                "-l",
                "app.kubernetes.io/name=pullpass",
                "--tail=40",
            ]),
        ]
        .join("\n")
    }

    async fn tell_aws(&self, path: &str, body: Value) {
        let control = self.bed.ready["moto"]["control"].as_str().unwrap();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let answer = client.post(format!("{control}/{path}")).json(&body);
        answer.send().await.unwrap().error_for_status().unwrap();
    }

    /// IAM trusts pullpass' ServiceAccount with the role, and the registry takes what that role minted, and nothing else.
    async fn set_up_aws(&self) {
        let configuration = self.cluster.get("/.well-known/openid-configuration").await;
        let issuer = configuration.unwrap()["issuer"]
            .as_str()
            .unwrap()
            .to_owned();
        let jwks = self.cluster.get("/openid/v1/jwks").await.unwrap();
        let known = json!({"issuer": issuer, "jwks": jwks, "audiences": ["sts.amazonaws.com"]});
        self.tell_aws("issuers", known).await;
        let host = issuer.strip_prefix("https://").unwrap();
        let trust = json!({"Version": "2012-10-17", "Statement": [{
            "Effect": "Allow", "Action": "sts:AssumeRoleWithWebIdentity",
            "Principal": {"Federated": format!("arn:aws:iam::123456789012:oidc-provider/{host}")},
            "Condition": {"StringEquals": {
                format!("{host}:sub"): "system:serviceaccount:pullpass:pullpass",
                format!("{host}:aud"): "sts.amazonaws.com",
            }},
        }]});
        self.tell_aws("roles", json!({"roleArn": ROLE, "trust": trust}))
            .await;
        let control = &self.bed.ready["moto"]["control"];
        let access = json!({"allow": [{"principal": SESSION}], "minted": {"control": control}});
        let file = PathBuf::from(self.bed.ready["registry"]["access"].as_str().unwrap());
        std::fs::write(file, access.to_string()).unwrap();
    }

    /// pullpass' namespace, which takes restricted Pods alone, with the authority of the clouds here.
    async fn prepare(&self) {
        let labels = json!({"pod-security.kubernetes.io/enforce": "restricted"});
        self.make_namespace("pullpass", labels).await;
        let ca = std::fs::read_to_string(self.bed.ready["moto"]["ca"].as_str().unwrap()).unwrap();
        self.cluster
            .apply(&json!({
                "apiVersion": "v1", "kind": "ConfigMap", "data": {"ca.crt": ca},
                "metadata": {"name": "clouds", "namespace": "pullpass"},
            }))
            .await;
    }

    async fn make_namespace(&self, name: &str, labels: Value) {
        let namespace = json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels},
        });
        self.cluster.apply(&namespace).await;
        let account = format!("/api/v1/namespaces/{name}/serviceaccounts/default");
        self.until("the ServiceAccount default", async || {
            self.cluster.get(&account).await
        })
        .await;
    }

    async fn put_registry(&self) {
        let aws = &self.bed.ready["moto"]["url"];
        self.cluster
            .apply(&json!({
                "apiVersion": "pullpass.dev/v1alpha1", "kind": "Registry", "metadata": {"name": "team"},
                "spec": {
                    "images": [format!("{HOST}/team")], "namespaceSelector": {},
                    "ecr": {"identity": {"workload": {}}, "endpoints": {"ecr": aws, "sts": aws}},
                },
            }))
            .await;
    }

    /// Waits for something; tells what the cluster looks like when it does not come.
    async fn until<T>(&self, what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
        let end = Instant::now() + DEADLINE;
        loop {
            if let Some(found) = look().await {
                return found;
            }
            assert!(Instant::now() < end, "{what} did not come\n{}", self.tell());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn pod(&self, namespace: &str, name: &str) -> Option<Value> {
        let path = format!("/api/v1/namespaces/{namespace}/pods/{name}");
        self.cluster.get(&path).await
    }

    /// Creates a Pod that always pulls, as somebody who knows nothing of pullpass.
    async fn create(&self, namespace: &str, name: &str) {
        let answer = self
            .cluster
            .create_pod(&hello(namespace, name), "")
            .await
            .ok();
        assert!(answer.warnings.is_empty(), "{:?}", answer.warnings);
    }

    async fn wait_running(&self, namespace: &str, name: &str) -> Value {
        self.until(&format!("Pod {namespace}/{name} to run"), async || {
            let pod = self.pod(namespace, name).await?;
            (pod["status"]["phase"] == "Running").then_some(pod)
        })
        .await
    }
}

fn hello(namespace: &str, name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace},
        "spec": {"containers": [
            {"name": "hello", "image": format!("{HOST}/team/hello:1"), "imagePullPolicy": "Always"},
        ]},
    })
}

/// Whether the machine allows a node.
fn allows_node() -> bool {
    let refused = bed::run("cluster", &["allowed"], "");
    if refused.status.code() == Some(NOT_ALLOWED) {
        let reason = String::from_utf8_lossy(&refused.stderr);
        eprintln!("skipped: {}", reason.trim());
        return false;
    }
    true
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_pull_through_what_the_chart_installs() {
    let Some(place) = Place::start().await else {
        return;
    };
    place.set_up_aws().await;
    place.prepare().await;
    // Nobody gets past a webhook that does not answer. As before there were policies, at first.
    let strict = ["webhook.failurePolicy=Fail"];
    let without = [&strict[..], &["admissionPolicies.enabled=false"]].concat();
    place.install("install", &without);
    place.put_registry().await;
    place
        .make_namespace("shop", json!({"pullpass.dev/inject": "enabled"}))
        .await;
    place.make_namespace("elsewhere", json!({})).await;

    let running = pull(&place).await;
    adopt_policies(&place, &strict).await;
    keep_out_of_the_way(&place).await;
    upgrade_and_roll_back(&place).await;
    evict_and_scale_down(&place).await;
    lose_all_pods(&place).await;
    uninstall(&place, &running).await;
}

/// A Pod that opted in pulls, the same Pod elsewhere does not; answers the former.
async fn pull(place: &Place) -> Value {
    place.create("elsewhere", "hello").await;
    place
        .until(
            "the Registry to be served, by way of the Service",
            async || {
                let answer = place
                    .cluster
                    .create_pod(&hello("shop", "probe"), "dryRun=All")
                    .await;
                answer.body["spec"]["imagePullSecrets"][0]
                    .is_object()
                    .then_some(())
            },
        )
        .await;
    place.create("shop", "hello").await;
    let running = place.wait_running("shop", "hello").await;
    assert_eq!(
        running["spec"]["imagePullSecrets"],
        json!([{"name": "pullpass"}])
    );
    place
        .until("the same Pod to be refused elsewhere", async || {
            let pod = place.pod("elsewhere", "hello").await?;
            let waiting = &pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"];
            (waiting == "ErrImagePull" || waiting == "ImagePullBackOff").then_some(())
        })
        .await;
    running
}

/// The policies come to a cluster that had none. What is in a Secret from before keeps no namespace from ending.
async fn adopt_policies(place: &Place, settings: &[&str]) {
    let labels = json!({"pullpass.dev/inject": "enabled"});
    place.make_namespace("ending", labels).await;
    place
        .until("the pull secret of a namespace that will end", async || {
            place.cluster.secret("ending", "pullpass").await
        })
        .await;
    let secret = ["secret", "pullpass", "--namespace", "ending"];
    let patch = |kind: &str, patch: &str| {
        place.kubectl(&[&["patch"], &secret[..], &["--type", kind, "--patch", patch]].concat());
    };
    patch(
        "merge",
        r#"{"metadata":{"finalizers":["example.com/keep"]}}"#,
    );

    place.install("upgrade", settings);
    let forged = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "pullpass", "labels": {"team": "x"}}});
    let dry_run = "/api/v1/namespaces/shop/secrets/pullpass?fieldManager=test&dryRun=All";
    place
        .until("nobody else to write a Secret of pullpass", async || {
            let answer = place.cluster.send("PATCH", dry_run, Some(&forged)).await;
            (answer.status == 422).then_some(())
        })
        .await;
    place.kubectl(&["delete", "namespace", "ending", "--wait=false"]);
    place
        .until("the Secret to wait for its finalizer", async || {
            let secret = place.cluster.secret("ending", "pullpass").await?;
            secret["metadata"]["deletionTimestamp"]
                .is_string()
                .then_some(())
        })
        .await;
    patch(
        "json",
        r#"[{"op": "remove", "path": "/metadata/finalizers"}]"#,
    );
    place
        .until("the namespace to end", async || {
            let namespace = place.cluster.get("/api/v1/namespaces/ending").await;
            namespace.is_none().then_some(())
        })
        .await;
}

/// What Kubernetes' own controllers and `kubectl` do with any Secret, they do with those of pullpass, for tenants as for admins.
async fn keep_out_of_the_way(place: &Place) {
    let bind = ["create", "rolebinding", "tenant", "--clusterrole=edit"];
    place.kubectl(&[&bind[..], &["--user=tenant", "--namespace", "shop"]].concat());
    let uid = async || {
        let secret = place.cluster.secret("shop", "pullpass").await?;
        secret["metadata"]["uid"].as_str().map(str::to_owned)
    };
    for user in [&[][..], &["--as=tenant"]] {
        let kubectl = |arguments: &[&str]| {
            place.kubectl(&[arguments, &["--namespace", "shop"], user].concat())
        };
        let secret = kubectl(&["get", "secret", "pullpass", "--output", "json"]);
        let file = place.folder.path().join("secret.json");
        std::fs::write(&file, secret).unwrap();
        kubectl(&["replace", "--filename", file.to_str().unwrap()]);
        for cascade in ["background", "foreground", "orphan"] {
            let before = uid().await.unwrap();
            let cascade = format!("--cascade={cascade}");
            kubectl(&["delete", "secret", "pullpass", &cascade, "--timeout=60s"]);
            place
                .until("the Secret to be made again", async || {
                    uid().await.filter(|now| *now != before)
                })
                .await;
        }
    }
    let migration = json!({
        "apiVersion": "storagemigration.k8s.io/v1beta1", "kind": "StorageVersionMigration",
        "metadata": {"name": "secrets"}, "spec": {"resource": {"group": "", "resource": "secrets"}},
    });
    place.cluster.apply(&migration).await;
    let path = "/apis/storagemigration.k8s.io/v1beta1/storageversionmigrations/secrets";
    place
        .until("all Secrets to be migrated", async || {
            // The migrator waits until the garbage collector has seen a Secret that is newer than the migration.
            let newer = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "newer", "namespace": "elsewhere"}});
            place.cluster.apply(&newer).await;
            place.cluster.delete(&newer).await;
            let migration = place.cluster.get(path).await?;
            let conditions = migration["status"]["conditions"].as_array()?.clone();
            let is = |type_: &str| {
                let mut found = conditions.iter();
                found.any(|one| one["type"] == type_ && one["status"] == "True")
            };
            assert!(!is("Failed"), "{migration}");
            is("Succeeded").then_some(())
        })
        .await;
}

/// No creation is lost while all Pods of the release are replaced, twice.
async fn upgrade_and_roll_back(place: &Place) {
    let pod = hello("shop", "stream");
    let load = Load::start(&place.cluster, &pod, "dryRun=All", WORKERS);
    place.install(
        "upgrade",
        &["webhook.failurePolicy=Fail", "log.filter=warn"],
    );
    place.helm(&["rollback", "pullpass", "2"]);
    let outcome = load.end().await;
    outcome.tell(2, "rolling restarts of the release, Fail");
    outcome.check_none_lost();
    assert!(outcome.all() > 1000, "{outcome:?} is no load");
}

/// No creation is lost while replicas are evicted, as a drain of their nodes does it, and while others are taken away.
async fn evict_and_scale_down(place: &Place) {
    let pod = hello("shop", "stream");
    let names = ["get", "pods", "-n", "pullpass", "-o", "name"];
    // Those that the rollback replaced take a while to go.
    let before = place
        .until("two replicas and no others to be there", async || {
            Some(place.kubectl(&names)).filter(|names| names.lines().count() == 2)
        })
        .await;
    let load = Load::start(&place.cluster, &pod, "dryRun=All", WORKERS);
    for name in before.lines().filter_map(|line| line.strip_prefix("pod/")) {
        let path = format!("/api/v1/namespaces/pullpass/pods/{name}/eviction");
        let eviction = json!({
            "apiVersion": "policy/v1", "kind": "Eviction",
            "metadata": {"name": name, "namespace": "pullpass"},
        });
        // As long as another one is away, the PodDisruptionBudget does not allow it.
        place
            .until("an eviction to be allowed", async || {
                let answer = place.cluster.send("POST", &path, Some(&eviction)).await;
                answer.status.is_success().then_some(())
            })
            .await;
    }
    for replicas in ["--replicas=4", "--replicas=1"] {
        place.kubectl(&["scale", "deployment/pullpass", "-n", "pullpass", replicas]);
        let rollout = ["rollout", "status", "deployment/pullpass", "-n", "pullpass"];
        place.kubectl(&[&rollout[..], &["--timeout=120s"]].concat());
    }
    place
        .until("the others to be gone", async || {
            (place.kubectl(&names).lines().count() == 1).then_some(())
        })
        .await;
    let outcome = load.end().await;
    outcome.tell(1, "evictions and scaling down of the release, Fail");
    outcome.check_none_lost();
}

/// All Pods of the release are lost at once. New ones come by themselves, though the webhook must answer and nobody does.
async fn lose_all_pods(place: &Place) {
    let lose = ["delete", "pods", "--all", "--force", "--grace-period=0"];
    place.kubectl(&[&lose[..], &["--namespace", "pullpass"]].concat());
    let pod = hello("shop", "probe");
    place
        .until("Pods to be created again", async || {
            let answer = place.cluster.create_pod(&pod, "dryRun=All").await;
            references(&answer.body).then_some(())
        })
        .await;
}

/// Nothing that is left is in anybody's way, and what pullpass wrote goes when it is told to.
async fn uninstall(place: &Place, running: &Value) {
    place.helm(&["uninstall", "pullpass"]);
    // Whoever installs it anew waits for nobody who is gone.
    place
        .until("the Lease to go", async || {
            let lease = "/apis/coordination.k8s.io/v1/namespaces/pullpass/leases/pullpass";
            place.cluster.get(lease).await.is_none().then_some(())
        })
        .await;
    place.create("shop", "later").await;
    let still = place.pod("shop", "hello").await.unwrap();
    assert_eq!(still["metadata"]["uid"], running["metadata"]["uid"]);
    assert_eq!(still["status"]["phase"], "Running");
    assert_eq!(still["status"]["containerStatuses"][0]["restartCount"], 0);
    // The kind and its objects stay, until somebody deletes them.
    place.kubectl(&["get", "registry", "team"]);
    let purge = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pullpass"));
        command
            .arg("purge")
            .args(arguments)
            .env("KUBECONFIG", place.bed.field("kubeconfig"));
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let told = purge(&["--dry-run"]);
    assert!(told.contains("shop/pullpass: would be removed"), "{told}");
    assert!(place.cluster.secret("shop", "pullpass").await.is_some());
    let told = purge(&["--yes"]);
    assert!(told.contains("shop/pullpass: removed"), "{told}");
    assert!(place.cluster.secret("shop", "pullpass").await.is_none());
    assert_eq!(purge(&["--yes"]), "0 Secrets: 0 removed, 0 not\n");
}
