//! Reviews, as anybody who reaches the webhook sends them.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use json_patch::Patch;
use serde_json::{Value, json};

use super::Target;
use crate::admission::patch;
use crate::admission::plan::{self, Plan};
use crate::admission::review::Review;
use crate::names::NamespaceName;
use crate::provision::Namespace;
use crate::provision::namespace::ExcludedNamespaces;
use crate::registry::Registries;

pub(super) const TARGET: Target = Target {
    name: "review",
    run,
    seeds: &[
        r#"{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"1","kind":{"group":"","version":"v1","kind":"Pod"},"resource":{"group":"","version":"v1","resource":"pods"},"namespace":"team-a","operation":"CREATE","object":{"metadata":{"name":"web","labels":{"a":"b"}},"spec":{"containers":[{"image":"a.example/team/app:1"}],"imagePullSecrets":[{"name":"regcred"}]}}}}"#,
        r#"{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1beta1","request":{"uid":"a\"b","kind":{"version":"v1","kind":"Pod"},"resource":{"resource":"pods"},"namespace":"team-a/x","operation":"CREATE","dryRun":true,"object":{"metadata":{},"spec":{"serviceAccountName":"ci","containers":[{"image":"b.example/x"}],"initContainers":[{"image":"b.example\u002fy"}],"volumes":[{"image":{"reference":"a.example/z"}}],"imagePullSecrets":null}}}}"#,
        r#"{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"1","kind":{"version":"v1","kind":"Pod"},"resource":{"resource":"pods"},"namespace":"kube-system","operation":"CREATE","object":{"metadata":{"labels":{"pullpass.dev/inject":"disabled"},"annotations":null},"spec":{"containers":[{"image":"a.example"}]}}}}"#,
    ],
};

static REGISTRIES: LazyLock<Registries> = LazyLock::new(registries);

fn registries() -> Registries {
    let registry = |name: &str, spec: Value| {
        serde_json::from_value(json!({
            "apiVersion": "pullpass.dev/v1alpha1", "kind": "Registry", "metadata": {"name": name}, "spec": spec,
        }))
        .unwrap()
    };
    let login = json!({"secretRef": {"name": "login"}});
    Registries::build([
        registry(
            "own",
            json!({"images": ["a.example", "b.example"], "excludedImages": ["b.example/secret"], "namespaceSelector": {"matchLabels": {"team": "a"}}, "podMetadata": {"labels": {"x": "y"}}, "static": login}),
        ),
        registry(
            "narrow",
            json!({"images": ["b.example/x"], "namespaceSelector": {"matchLabels": {"team": "a"}}, "serviceAccountNames": ["ci"], "static": login}),
        ),
        registry(
            "foreign",
            json!({"images": ["a.example", "c.example"], "namespaceSelector": {"matchLabels": {"team": "b"}}, "static": login}),
        ),
    ])
}

fn run(data: &[u8]) {
    let review = match Review::parse(data) {
        Ok(review) => review,
        Err(error) => {
            assert!(error.to_string().len() < data.len() + 500);
            return;
        }
    };
    let request = &review.request;
    if let Some(namespace) = request.namespace() {
        assert!(namespace.len() <= 63 && !namespace.contains(['/', '.', '?', '%']));
    }
    let own = NamespaceName::parse("pullpass").unwrap();
    let excluded = ExcludedNamespaces::new(own, []);
    let Ok((pod, namespace)) = plan::screen(request, &excluded) else {
        check_answer(&review, None, data);
        return;
    };
    assert!(!namespace.starts_with("kube-") && namespace.as_str() != "pullpass");
    let labels = [("pullpass.dev/inject", "enabled"), ("team", "a")];
    let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let namespace = NamespaceName::parse("team-a").unwrap();
    let namespace = Namespace::new(namespace, BTreeMap::from(labels), false);
    let Plan::Inject(injection) = plan::decide(pod, &namespace, &REGISTRIES) else {
        return;
    };
    for secret in &injection.additions.pull_secrets {
        assert!(
            ["pullpass", "pullpass-narrow"].contains(&secret.as_str()),
            "{secret}"
        );
    }
    for resolved in &injection.resolved {
        // Never another tenant's.
        assert_ne!(&*resolved.registry.name, "foreign");
    }
    let patch = patch::build(pod, &injection.additions);
    check_answer(&review, patch.as_ref(), data);
    if let Some(patch) = patch {
        check_patch(data, &patch, &injection.additions);
    }
}

/// The answer is JSON, allows, and has the uid that was sent.
fn check_answer(review: &Review<'_>, patch: Option<&Patch>, data: &[u8]) {
    let answer = review.answer(patch, &[]);
    let patch = patch.map_or(0, |patch| patch.to_string().len());
    assert!(
        answer.len() <= 6 * review.uid.len() + 2 * patch + 300,
        "{}",
        data.len()
    );
    let answer: Value = serde_json::from_slice(&answer).unwrap();
    assert_eq!(answer["response"]["uid"], *review.uid);
    assert_eq!(answer["response"]["allowed"], true);
}

/// The patch applies, adds on three places alone, and leaves nothing to add.
fn check_patch(data: &[u8], patch: &Patch, additions: &patch::Additions<'_>) {
    // What is not read may be more than this reader takes, such as a number beyond all floats.
    let Ok(sent) = serde_json::from_slice::<Value>(data) else {
        return;
    };
    let before = sent["request"]["object"].clone();
    let mut after = before.clone();
    json_patch::patch(&mut after, patch).unwrap();
    assert_eq!(without_places(&after), without_places(&before));
    let mut again = sent;
    again["request"]["object"] = after;
    let again = again.to_string();
    let review = Review::parse(again.as_bytes()).unwrap();
    let pod = review.request.object().value().unwrap();
    assert_eq!(patch::build(pod, additions), None);
}

fn without_places(pod: &Value) -> Value {
    let mut pod = pod.clone();
    for (parent, key) in [
        ("spec", "imagePullSecrets"),
        ("metadata", "labels"),
        ("metadata", "annotations"),
    ] {
        if let Some(parent) = pod[parent].as_object_mut() {
            parent.remove(key);
        }
    }
    pod
}
