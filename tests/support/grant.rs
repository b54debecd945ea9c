//! The rights that `pullpass rbac` prints, given to pullpass.

use std::process::Command;

use serde_json::{Value, json};

use super::fixture::{Fixture, OWN};

/// Prints the roles for these Registries and binds each: no controller-manager runs here to gather them.
pub async fn grant_printed(fixture: &Fixture, registries: &[Value]) {
    const GROUP: &str = "rbac.authorization.k8s.io";
    let file = fixture.file("registries.json");
    let list = json!({"apiVersion": "v1", "kind": "List", "items": registries});
    std::fs::write(&file, list.to_string()).unwrap();
    let printed = Command::new(env!("CARGO_BIN_EXE_pullpass"))
        .args(["rbac", "-o", "json", "-f"])
        .arg(&file)
        .output()
        .unwrap();
    assert!(printed.status.success(), "{printed:?}");
    let printed: Value = serde_json::from_slice(&printed.stdout).unwrap();
    for role in printed["items"].as_array().unwrap() {
        assert_eq!(
            role["metadata"]["labels"]["pullpass.dev/aggregate-to-pullpass"],
            "true"
        );
        fixture.cluster.apply(role).await;
        let name = &role["metadata"]["name"];
        let binding = json!({
            "apiVersion": format!("{GROUP}/v1"), "kind": "ClusterRoleBinding", "metadata": {"name": name},
            "roleRef": {"apiGroup": GROUP, "kind": "ClusterRole", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": "pullpass", "namespace": OWN}],
        });
        fixture.cluster.apply(&binding).await;
    }
}
