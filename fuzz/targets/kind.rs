//! Registries, as anybody with the right writes them.

use std::collections::BTreeMap;

use super::Target;
use crate::registry::{Pattern, Registries, Registry};

pub(super) const TARGET: Target = Target {
    name: "kind",
    run,
    seeds: &[
        r#"{"apiVersion":"pullpass.dev/v1alpha1","kind":"Registry","metadata":{"name":"eu"},"spec":{"images":["123456789012.dkr.ecr.eu-west-1.amazonaws.com/a","*.dkr.ecr.eu-west-1.amazonaws.com"],"excludedImages":["123456789012.dkr.ecr.eu-west-1.amazonaws.com/a/b"],"namespaceSelector":{"matchLabels":{"team":"a"}},"ecr":{"identity":{"workload":{}},"assumeRoles":[{"roleArn":"arn:aws:iam::123456789012:role/hub","externalId":"x","durationSeconds":3600}]}}}"#,
        r#"{"apiVersion":"pullpass.dev/v1alpha1","kind":"Registry","metadata":{"name":"az"},"spec":{"images":["contoso.azurecr.io/team"],"namespaceSelector":{"matchExpressions":[{"key":"team","operator":"In","values":["a"]}]},"serviceAccountNames":["ci"],"acr":{"identity":{"serviceAccount":{"name":"ci","fromAnnotations":true}},"scopes":["team/app"]}}}"#,
        r#"{"apiVersion":"pullpass.dev/v1alpha1","kind":"Registry","metadata":{"name":"harbor"},"spec":{"images":["harbor.example.com"],"namespaceSelector":{},"podSelector":{"matchLabels":{"a":"b"}},"podMetadata":{"labels":{"c":"d"}},"suspend":false,"static":{"secretRef":{"name":"login"}}}}"#,
    ],
};

fn run(data: &[u8]) {
    let Ok(registry) = serde_json::from_slice::<Registry>(data) else {
        return;
    };
    // What it was read from is what it is written as.
    let written = serde_json::to_value(&registry).unwrap();
    let again: Registry = serde_json::from_value(written.clone()).unwrap();
    assert_eq!(serde_json::to_value(&again).unwrap(), written);
    let name = registry.metadata.name.clone().unwrap_or_default();
    let registries = Registries::build([registry]);
    let none = registries.iter().next().is_none();
    assert_ne!(none, registries.problems().is_empty());
    for problem in registries.problems() {
        assert_eq!(problem.registry, name);
        assert!(
            problem.message.len() <= 2 * data.len() + 1_000,
            "{problem:?}"
        );
    }
    let team = |team: &str| BTreeMap::from([("team".to_owned(), team.to_owned())]);
    for labels in [BTreeMap::new(), team("a"), team("b")] {
        for grant in registries.grants(&labels) {
            let registry = registries.get(&grant.registry).unwrap();
            assert!(registry.serves(&labels) && !registry.suspend);
            // No login is for more than a pattern that the Registry names.
            for key in &grant.keys {
                let is_own = |pattern: &Pattern| pattern.key() == key || covers(pattern, key);
                assert!(registry.patterns().any(is_own), "{key} of {registry:?}");
            }
        }
    }
}

fn covers(pattern: &Pattern, key: &str) -> bool {
    let key = Pattern::parse(key);
    key.is_ok_and(|key| pattern.covers_pattern(&key))
}
