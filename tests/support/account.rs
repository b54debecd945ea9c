//! ServiceAccounts, their tokens, and the right to ask for those.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::scene::{OWN, Scene};

/// A token of pullpass' ServiceAccount for this audience, as the kubelet projects it into a file.
pub async fn project_token(scene: &Scene, audience: &str) -> PathBuf {
    let path = format!("/api/v1/namespaces/{OWN}/serviceaccounts/pullpass/token");
    let request = json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
        "spec": {"audiences": [audience], "expirationSeconds": 3600},
    });
    let answer = scene.cluster.send("POST", &path, Some(&request)).await.ok();
    let file = scene.file(&audience.replace([':', '/'], "_"));
    std::fs::write(&file, answer.body["status"]["token"].as_str().unwrap()).unwrap();
    file
}

/// Lets pullpass ask for tokens of ServiceAccounts of this name.
pub async fn allow_tokens(scene: &Scene, account: &str) {
    let name = format!("{}-tokens", scene.name);
    let tokens = json!({
        "apiGroups": [""], "resources": ["serviceaccounts/token"],
        "resourceNames": [account], "verbs": ["create"],
    });
    let group = "rbac.authorization.k8s.io";
    let role = json!({
        "apiVersion": format!("{group}/v1"), "kind": "ClusterRole",
        "metadata": {"name": name}, "rules": [tokens],
    });
    let binding = json!({
        "apiVersion": format!("{group}/v1"), "kind": "ClusterRoleBinding", "metadata": {"name": name},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": "pullpass", "namespace": OWN}],
    });
    scene.cluster.apply(&role).await;
    scene.cluster.apply(&binding).await;
}

/// Makes a ServiceAccount with these annotations, or gives it these.
pub async fn put_account(scene: &Scene, namespace: &str, name: &str, annotations: Value) {
    let account = json!({
        "apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": {"name": name, "namespace": namespace, "annotations": annotations},
    });
    scene.cluster.apply(&account).await;
}
