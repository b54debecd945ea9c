//! pullpass installed by its chart, a Pod of it, and what a kubelet makes of that Pod.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::support::bed::Bed;
use super::support::chart::render;
use super::support::cluster::Answer;
use super::support::fixture::{Fixture, OWN};
use super::support::wait;

/// A cloud's webhook in front of the API server.
pub(super) struct Platform {
    _bed: Bed,
    configuration: Value,
}

impl Platform {
    /// Starts a webhook of the bed (`bed platform`), asked about Pods that `selector` selects.
    pub(super) async fn start(fixture: &Fixture, arguments: &[&str], selector: Value) -> Self {
        let kubeconfig = fixture.world.kubeconfig().to_str().unwrap();
        let bed = Bed::start(
            "platform",
            &[&["--kubeconfig", kubeconfig], arguments].concat(),
        );
        let bundle = STANDARD.encode(std::fs::read(bed.field("ca")).unwrap());
        let configuration = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
            "metadata": {"name": "platform"},
            "webhooks": [{
                "name": "platform.example.com", "admissionReviewVersions": ["v1"], "sideEffects": "None",
                "clientConfig": {"url": bed.field("url"), "caBundle": bundle},
                "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"]}],
                // As Azure's; a Pod that was not asked about would show nothing.
                "failurePolicy": "Fail", "reinvocationPolicy": "IfNeeded", "objectSelector": selector,
            }],
        });
        fixture.cluster.apply(&configuration).await;
        let platform = Self {
            _bed: bed,
            configuration,
        };
        wait::until("the API server to ask the platform", async || {
            (platform.try_out(fixture).await? > 0).then_some(())
        })
        .await;
        platform
    }

    /// How many volumes a Pod without any comes back with, which the selector selects; `None`: it is refused, as when the webhook that
    /// the API server knows is another one's, which is no longer there.
    async fn try_out(&self, fixture: &Fixture) -> Option<usize> {
        let selector = &self.configuration["webhooks"][0]["objectSelector"];
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "probe", "namespace": PROBES, "labels": selector["matchLabels"]},
            "spec": {
                "serviceAccountName": "probe", "automountServiceAccountToken": false,
                "containers": [{"name": "probe", "image": "probe.invalid/probe"}],
            },
        });
        let answer = fixture.cluster.create_pod(&pod, "dryRun=All").await;
        let volumes = answer.body["spec"]["volumes"].as_array();
        let volumes = volumes.map_or(0, Vec::len);
        answer.status.is_success().then_some(volumes)
    }

    /// Takes it away; the API server asks it no more.
    pub(super) async fn leave(self, fixture: &Fixture) {
        fixture.cluster.delete(&self.configuration).await;
        wait::until("the API server to ask the platform no more", async || {
            (self.try_out(fixture).await? == 0).then_some(())
        })
        .await;
    }
}

/// The namespace of [`Platform::try_out`], whose ServiceAccount every platform knows.
const PROBES: &str = "probes";

/// Makes pullpass' own namespace, where Pod Security enforces the restricted standard, and the one of probes.
pub(super) async fn prepare(fixture: &Fixture) {
    let security = json!({"pod-security.kubernetes.io/enforce": "restricted"});
    let annotations = json!({
        "eks.amazonaws.com/role-arn": "arn:aws:iam::123456789012:role/probe",
        "azure.workload.identity/client-id": "99999999-9999-9999-9999-999999999999",
    });
    for object in [
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": OWN, "labels": security}}),
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": PROBES}}),
        json!({
            "apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {"name": "probe", "namespace": PROBES, "annotations": annotations},
        }),
    ] {
        fixture.cluster.apply(&object).await;
    }
}

/// Installs the chart with these settings, as Helm does; answers the Pod that its Deployment makes.
pub(super) async fn install(fixture: &Fixture, settings: &[&str]) -> Value {
    let objects = render(settings);
    // What an earlier installation annotated is gone, as after `helm upgrade`.
    let file = fixture.file("chart.json");
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
    std::fs::write(&file, list.to_string()).unwrap();
    fixture.world.kubectl(&[
        "apply",
        "--server-side",
        "--force-conflicts",
        "--field-manager=helm",
        "-f",
        file.to_str().unwrap(),
    ]);
    let deployment = objects
        .into_iter()
        .find(|object| object["kind"] == "Deployment");
    let mut pod = deployment.unwrap()["spec"]["template"].take();
    pod["apiVersion"] = "v1".into();
    pod["kind"] = "Pod".into();
    pod["metadata"]["namespace"] = OWN.into();
    pod["metadata"]["generateName"] = "pullpass-7d9f8b6c5d-".into();
    pod
}

/// Creates a Pod that must be admitted without a word; nothing in it is there twice.
pub(super) async fn create(fixture: &Fixture, pod: &Value) -> Value {
    let Answer { body, warnings, .. } = fixture.cluster.create_pod(pod, "").await.ok();
    assert_eq!(warnings, [""; 0]);
    let spec = &body["spec"];
    assert_unique(&spec["volumes"], "name");
    for container in spec["containers"].as_array().unwrap() {
        assert_unique(&container["env"], "name");
        assert_unique(&container["volumeMounts"], "mountPath");
        assert_unique(&container["volumeMounts"], "name");
    }
    body
}

fn assert_unique(list: &Value, field: &str) {
    let values = list.as_array().unwrap().iter();
    let values: Vec<&str> = values.map(|item| item[field].as_str().unwrap()).collect();
    let different: BTreeSet<&&str> = values.iter().collect();
    assert_eq!(different.len(), values.len(), "{field}: {values:?}");
}

/// What the API server says of a Pod that it does not create.
pub(super) async fn refuse(fixture: &Fixture, pod: &Value) -> String {
    let answer = fixture.cluster.create_pod(pod, "dryRun=All").await;
    assert!(!answer.status.is_success(), "{}", answer.body);
    answer.body["message"].as_str().unwrap().to_owned()
}

/// The same Pod with another name for a volume and its mount.
pub(super) fn rename_volume(pod: &Value, name: &str, other: &str) -> Value {
    let text = pod.to_string();
    let (old, new) = (
        format!("\"name\":\"{name}\""),
        format!("\"name\":\"{other}\""),
    );
    assert_eq!(text.matches(&old).count(), 2, "{name}: {text}");
    serde_json::from_str(&text.replace(&old, &new)).unwrap()
}

/// What a variable of the Pod's container says; `None`: it has none of that name.
pub(super) fn variable<'a>(pod: &'a Value, name: &str) -> Option<&'a str> {
    let entries = pod["spec"]["containers"][0]["env"].as_array()?;
    let entry = entries.iter().find(|entry| entry["name"] == name)?;
    entry["value"].as_str()
}

/// A token that a Pod's volume projects.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Projected {
    pub(super) audience: String,
    pub(super) seconds: u64,
}

/// The token that stands at a path of the Pod's container; `None`: there is none.
pub(super) fn projected(pod: &Value, path: &str) -> Option<Projected> {
    let mounts = pod["spec"]["containers"][0]["volumeMounts"].as_array()?;
    let (mount, below) = mounts.iter().find_map(|mount| {
        let below = Path::new(path).strip_prefix(mount["mountPath"].as_str()?);
        Some((mount, below.ok()?.to_str()?))
    })?;
    assert_eq!(mount["readOnly"], true);
    let volumes = pod["spec"]["volumes"].as_array()?;
    let volume = volumes
        .iter()
        .find(|volume| volume["name"] == mount["name"])?;
    // Whoever the container runs as can read it.
    assert_eq!(volume["projected"]["defaultMode"], 0o644);
    let sources = volume["projected"]["sources"].as_array()?;
    let tokens = sources.iter().map(|source| &source["serviceAccountToken"]);
    let token = tokens.into_iter().find(|token| token["path"] == below)?;
    Some(Projected {
        audience: token["audience"].as_str()?.to_owned(),
        seconds: token["expirationSeconds"].as_u64()?,
    })
}

/// The environment of the Pod's container, with the tokens that its volumes project as files of this machine: what a kubelet does.
pub(super) async fn environment(fixture: &Fixture, pod: &Value) -> Vec<(String, String)> {
    let mut environment = BTreeMap::new();
    for entry in pod["spec"]["containers"][0]["env"].as_array().unwrap() {
        let name = entry["name"].as_str().unwrap();
        let field = &entry["valueFrom"]["fieldRef"]["fieldPath"];
        let value = match entry["value"].as_str() {
            Some(value) => value.to_owned(),
            None if field == "metadata.namespace" => OWN.to_owned(),
            None => panic!("{entry} is not known here"),
        };
        let value = match projected(pod, &value) {
            Some(token) => request(fixture, pod, name, &token).await,
            None => value,
        };
        environment.insert(name.to_owned(), value);
    }
    environment.into_iter().collect()
}

/// Asks for a token as a kubelet does, bound to the Pod; answers the file that holds it.
async fn request(fixture: &Fixture, pod: &Value, name: &str, token: &Projected) -> String {
    let account = pod["spec"]["serviceAccountName"].as_str().unwrap();
    let path = format!("/api/v1/namespaces/{OWN}/serviceaccounts/{account}/token");
    let metadata = &pod["metadata"];
    let bound = json!({"apiVersion": "v1", "kind": "Pod", "name": metadata["name"], "uid": metadata["uid"]});
    let spec = json!({
        "audiences": [token.audience], "expirationSeconds": token.seconds, "boundObjectRef": bound,
    });
    let request =
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec});
    let answer = fixture
        .cluster
        .send("POST", &path, Some(&request))
        .await
        .ok();
    let file = fixture.file(&format!("{name}.token"));
    std::fs::write(&file, answer.body["status"]["token"].as_str().unwrap()).unwrap();
    file.display().to_string()
}
