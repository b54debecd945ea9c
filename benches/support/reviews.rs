//! Reviews of generated Pods, as kube-apiserver sends them.

use anyhow::{Context as _, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// The sizes that are measured: a name, and the least length of the body in bytes.
pub(crate) const SIZES: [(&str, usize); 3] =
    [("3 KB", 3_000), ("20 KB", 20_000), ("100 KB", 100_000)];

/// The namespace of the Pods.
pub(crate) const NAMESPACE: &str = "shop";

/// The one image of each Pod that a Registry serves.
const IMAGE: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/shop/checkout:2024.11.3";

/// The images of the other containers.
const OTHER_IMAGES: [&str; 3] = [
    "registry.k8s.io/sig-storage/csi-provisioner:v5.1.0",
    "docker.io/envoyproxy/envoy:v1.32-latest",
    "ghcr.io/open-telemetry/opentelemetry-collector:0.114.0",
];

const UID: &str = "705ab4f5-6393-11e8-b7cc-42010a800002";

/// The one right patch for all of these Pods.
pub(crate) const PATCH: &str =
    r#"[{"op":"add","path":"/spec/imagePullSecrets","value":[{"name":"pullpass"}]}]"#;

/// A review of at least `bytes`, and not much more: a Pod of a Deployment with environment variables, probes, volumes and managed
/// fields, and no pull secrets. It grows by containers and by environment variables.
pub(crate) fn review(bytes: usize) -> Vec<u8> {
    let containers = 1 + bytes / 16_000;
    let mut variables = 1;
    loop {
        let body = envelope(&pod(containers, variables)).to_string();
        if body.len() >= bytes {
            return body.into_bytes();
        }
        variables += (bytes - body.len()).div_ceil(160);
    }
}

/// Checks that an answer is the right one: allowed, with the patch.
pub(crate) fn check(answer: &[u8]) -> anyhow::Result<()> {
    let answer: Value = serde_json::from_slice(answer).context("the answer is not JSON")?;
    let response = &answer["response"];
    let envelope = (&answer["apiVersion"], &answer["kind"], &response["uid"]);
    ensure!(
        envelope
            == (
                &json!("admission.k8s.io/v1"),
                &json!("AdmissionReview"),
                &json!(UID)
            ),
        "not the answer to this review: {answer}"
    );
    ensure!(
        response["allowed"] == true && response["patchType"] == "JSONPatch",
        "not allowed, or no patch: {answer}"
    );
    let patch = match &response["patch"] {
        Value::String(patch) => STANDARD.decode(patch)?,
        // what kube's typed response is serialised to
        numbers => serde_json::from_value(numbers.clone())?,
    };
    ensure!(
        serde_json::from_slice::<Value>(&patch)? == serde_json::from_str::<Value>(PATCH)?,
        "another patch: {}",
        String::from_utf8_lossy(&patch)
    );
    Ok(())
}

fn envelope(pod: &Value) -> Value {
    let user = "system:serviceaccount:kube-system:replicaset-controller";
    json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": {
        "uid": UID,
        "kind": {"group": "", "version": "v1", "kind": "Pod"},
        "resource": {"group": "", "version": "v1", "resource": "pods"},
        "requestKind": {"group": "", "version": "v1", "kind": "Pod"},
        "requestResource": {"group": "", "version": "v1", "resource": "pods"},
        "namespace": NAMESPACE,
        "operation": "CREATE",
        "userInfo": {"username": user, "uid": "0d1d1a5c-2a1e-4f3a-8f9a-8d0c3f1f2b6e", "groups": ["system:serviceaccounts", "system:authenticated"]},
        "object": pod,
        "oldObject": null,
        "dryRun": false,
        "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"},
    }})
}

fn pod(containers: usize, variables: usize) -> Value {
    let share = |index: usize| variables / containers + usize::from(index < variables % containers);
    let list: Vec<Value> = (0..containers)
        .map(|index| container(index, share(index)))
        .collect();
    let fields: serde_json::Map<String, Value> = (0..containers)
        .map(|index| {
            (
                format!("k:{{\"name\":\"{}\"}}", name(index)),
                managed_container(share(index)),
            )
        })
        .collect();
    json!({
        "kind": "Pod", "apiVersion": "v1",
        "metadata": {
            "generateName": "checkout-6d5f4c9b7d-",
            "namespace": NAMESPACE,
            "creationTimestamp": null,
            "labels": {"app.kubernetes.io/name": "checkout", "app.kubernetes.io/version": "2024.11.3", "pod-template-hash": "6d5f4c9b7d"},
            "annotations": {"prometheus.io/scrape": "true", "checksum/config": "6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "checkout-6d5f4c9b7d", "uid": "5b4f0b1e-6a1f-4b5c-9d4c-0f6d8e3f7a21", "controller": true, "blockOwnerDeletion": true}],
            "managedFields": [{"manager": "kube-controller-manager", "operation": "Update", "apiVersion": "v1", "time": "2026-11-05T09:31:07Z", "fieldsType": "FieldsV1",
                "fieldsV1": {"f:metadata": {"f:generateName": {}, "f:labels": {".": {}, "f:app.kubernetes.io/name": {}, "f:pod-template-hash": {}}}, "f:spec": {"f:containers": fields, "f:restartPolicy": {}}}}],
        },
        "spec": {
            "volumes": [
                {"name": "config", "configMap": {"name": "checkout-config", "defaultMode": 420}},
                {"name": "kube-api-access-7xkzq", "projected": {"defaultMode": 420, "sources": [{"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}}, {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}}]}},
            ],
            "containers": list,
            "restartPolicy": "Always",
            "terminationGracePeriodSeconds": 30,
            "dnsPolicy": "ClusterFirst",
            "serviceAccountName": "checkout",
            "serviceAccount": "checkout",
            "securityContext": {},
            "schedulerName": "default-scheduler",
            "tolerations": [{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}],
            "priority": 0, "enableServiceLinks": true, "preemptionPolicy": "PreemptLowerPriority",
        },
        "status": {},
    })
}

fn name(index: usize) -> String {
    if index == 0 {
        "checkout".into()
    } else {
        format!("sidecar-{index}")
    }
}

fn container(index: usize, variables: usize) -> Value {
    let image = index
        .checked_sub(1)
        .map_or(IMAGE, |other| OTHER_IMAGES[other % OTHER_IMAGES.len()]);
    let variables: Vec<Value> = (0..variables)
        .map(|number| json!({"name": format!("FEATURE_FLAG_{number:04}"), "value": format!("{{\"rollout\":{number},\"on\":true}}")}))
        .collect();
    json!({
        "name": name(index),
        "image": image,
        "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}],
        "env": variables,
        "resources": {"limits": {"memory": "512Mi"}, "requests": {"cpu": "100m", "memory": "256Mi"}},
        "volumeMounts": [{"name": "config", "mountPath": "/etc/checkout"}, {"name": "kube-api-access-7xkzq", "readOnly": true, "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}],
        "readinessProbe": {"httpGet": {"path": "/healthz", "port": "http", "scheme": "HTTP"}, "timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3},
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
        "imagePullPolicy": "IfNotPresent",
    })
}

/// What managed fields say of a container: about as long as the container itself.
fn managed_container(variables: usize) -> Value {
    let variables: serde_json::Map<String, Value> = (0..variables)
        .map(|number| {
            let key = format!("k:{{\"name\":\"FEATURE_FLAG_{number:04}\"}}");
            (key, json!({".": {}, "f:name": {}, "f:value": {}}))
        })
        .collect();
    json!({".": {}, "f:env": variables, "f:image": {}, "f:imagePullPolicy": {}, "f:name": {}, "f:resources": {}})
}
