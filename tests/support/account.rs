//! ServiceAccounts, their tokens, and the right to ask for those.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::fixture::{Fixture, OWN};

/// A token of pullpass' ServiceAccount for this audience, as the kubelet projects it into a file.
pub async fn project_token(fixture: &Fixture, audience: &str) -> PathBuf {
    let path = format!("/api/v1/namespaces/{OWN}/serviceaccounts/pullpass/token");
    let request = json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
        "spec": {"audiences": [audience], "expirationSeconds": 3600},
    });
    let answer = fixture
        .cluster
        .send("POST", &path, Some(&request))
        .await
        .ok();
    let file = fixture.file(&audience.replace([':', '/'], "_"));
    std::fs::write(&file, answer.body["status"]["token"].as_str().unwrap()).unwrap();
    file
}

/// Lets pullpass ask for tokens of ServiceAccounts of this name.
pub async fn allow_tokens(fixture: &Fixture, account: &str) {
    let name = format!("{}-tokens", fixture.name);
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
    fixture.cluster.apply(&role).await;
    fixture.cluster.apply(&binding).await;
}

/// Lets pullpass ask for tokens for an audience of one's own, as `tokenAudiences` of the chart does.
pub async fn allow_audience(fixture: &Fixture, audience: &str) {
    let path = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies/pullpass-tokens";
    let policy = fixture.cluster.get(path).await.unwrap().to_string();
    let sts = "'sts.amazonaws.com'";
    let changed = policy.replace(sts, &format!("{sts}, '{audience}'"));
    assert_ne!(changed, policy);
    let changed: Value = serde_json::from_str(&changed).unwrap();
    fixture.cluster.send("PUT", path, Some(&changed)).await.ok();
}

/// Makes a ServiceAccount with these annotations, or gives it these.
pub async fn put_account(fixture: &Fixture, namespace: &str, name: &str, annotations: Value) {
    let account = json!({
        "apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": {"name": name, "namespace": namespace, "annotations": annotations},
    });
    fixture.cluster.apply(&account).await;
}

/// Writes a kubeconfig of somebody who may read Secrets and create Pods in a namespace, and do nothing elsewhere.
pub async fn connect_tenant(fixture: &Fixture, namespace: &str, file: &Path) {
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
        "metadata": {"name": "tenant", "namespace": namespace},
        "rules": [
            {"apiGroups": [""], "resources": ["secrets", "serviceaccounts", "namespaces"], "verbs": ["get", "list"]},
            {"apiGroups": [""], "resources": ["pods"], "verbs": ["create"]},
        ],
    });
    fixture.cluster.apply(&role).await;
    connect_with(fixture, namespace, "tenant", &[("Role", "tenant")], file).await;
}

/// Writes a kubeconfig of a ServiceAccount of a namespace that has these roles there, each of a kind, and none elsewhere.
pub async fn connect_with(
    fixture: &Fixture,
    namespace: &str,
    account: &str,
    roles: &[(&str, &str)],
    file: &Path,
) {
    let group = "rbac.authorization.k8s.io";
    let metadata = json!({"name": account, "namespace": namespace});
    let account_object =
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata});
    fixture.cluster.apply(&account_object).await;
    for (kind, role) in roles {
        let name = format!("{account}-{}", role.replace(':', "-"));
        let binding = json!({
            "apiVersion": format!("{group}/v1"), "kind": "RoleBinding",
            "metadata": {"name": name, "namespace": namespace},
            "roleRef": {"apiGroup": group, "kind": kind, "name": role},
            "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": namespace}],
        });
        fixture.cluster.apply(&binding).await;
    }
    let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token");
    let request = json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
        "spec": {"expirationSeconds": 3600},
    });
    let answer = fixture
        .cluster
        .send("POST", &path, Some(&request))
        .await
        .ok();
    let admin = std::fs::read_to_string(fixture.world.kubeconfig()).unwrap();
    let mut kubeconfig: Value = serde_saphyr::from_str(&admin).unwrap();
    kubeconfig["users"][0]["user"] = json!({"token": answer.body["status"]["token"]});
    std::fs::write(file, kubeconfig.to_string()).unwrap();
}
