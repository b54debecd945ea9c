//! The JSON Patch: what is added to a Pod, on three places only.
//!
//! A patch that does not apply gets the Pod refused whatever the webhook's failure policy, so each operation is an `add` whose
//! parent is known to be there. Nothing is replaced or removed.
//!
//! <https://www.rfc-editor.org/rfc/rfc6902>, <https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/#response>

use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, Patch, PatchOperation};
use serde_json::{Map, Value, json};

use super::review::PodObject;
use crate::names::ObjectName;

/// What a Pod is to be given. Whatever it has already is left out of the patch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Additions<'a> {
    /// Names for `/spec/imagePullSecrets`, in order.
    pub pull_secrets: Vec<&'a ObjectName>,
    /// Entries for `/metadata/labels`, no key twice.
    pub labels: Vec<(&'a str, &'a str)>,
    /// Entries for `/metadata/annotations`, no key twice.
    pub annotations: Vec<(&'a str, &'a str)>,
}

impl Additions<'_> {
    /// Whether there is nothing to be given.
    pub fn is_empty(&self) -> bool {
        self.pull_secrets.is_empty() && self.labels.is_empty() && self.annotations.is_empty()
    }
}

/// The patch; `None` when the Pod needs nothing.
///
/// Total: for a Pod that is not [malformed](PodObject::is_malformed) the patch applies, and applying it twice changes nothing more. For a
/// malformed one there is none.
pub fn build(pod: &PodObject<'_>, additions: &Additions<'_>) -> Option<Patch> {
    if pod.is_malformed() {
        return None;
    }
    let (metadata, spec) = (pod.metadata.value()?, pod.spec.value()?);
    let mut operations = Vec::new();
    let present = spec.pull_secrets();
    let missing = additions
        .pull_secrets
        .iter()
        .map(|name| name.as_str())
        .filter(|name| !present.iter().any(|present| present == name));
    add_pull_secrets(&mut operations, present.is_empty(), missing);
    let keys = metadata.labels.value().map(|labels| labels.keys.as_slice());
    add_entries(&mut operations, "labels", keys, &additions.labels);
    let keys = metadata
        .annotations
        .value()
        .map(|annotations| annotations.keys.as_slice());
    add_entries(&mut operations, "annotations", keys, &additions.annotations);
    (!operations.is_empty()).then_some(Patch(operations))
}

fn add_pull_secrets<'a>(
    operations: &mut Vec<PatchOperation>,
    list_empty: bool,
    missing: impl Iterator<Item = &'a str>,
) {
    let references = missing.map(|name| json!({ "name": name }));
    if list_empty {
        let references: Vec<Value> = references.collect();
        if !references.is_empty() {
            operations.push(add(&["spec", "imagePullSecrets"], references.into()));
        }
    } else {
        operations.extend(references.map(|value| add(&["spec", "imagePullSecrets", "-"], value)));
    }
}

/// `present` is `None` where the map itself is absent or null.
fn add_entries<K: AsRef<str>>(
    operations: &mut Vec<PatchOperation>,
    map: &str,
    present: Option<&[K]>,
    entries: &[(&str, &str)],
) {
    let Some(present) = present else {
        if !entries.is_empty() {
            let own = |&(key, value): &(&str, &str)| (key.to_owned(), value.into());
            let entries: Map<String, Value> = entries.iter().map(own).collect();
            operations.push(add(&["metadata", map], entries.into()));
        }
        return;
    };
    for (key, value) in entries {
        if !present.iter().any(|present| present.as_ref() == *key) {
            operations.push(add(&["metadata", map, key], (*value).into()));
        }
    }
}

/// An `add` of `value` at the place that the tokens lead to.
fn add(tokens: &[&str], value: Value) -> PatchOperation {
    let path = PointerBuf::from_tokens(tokens.iter().copied());
    PatchOperation::Add(AddOperation { path, value })
}

#[cfg(test)]
mod tests {
    use super::super::review::Field;
    use super::*;

    fn pod(json: &str) -> PodObject<'_> {
        match serde_json::from_str::<Field<PodObject<'_>>>(json).unwrap() {
            Field::Value(pod) => pod,
            other => panic!("{other:?}"),
        }
    }

    fn built(json: &str, additions: &Additions<'_>) -> Option<serde_json::Value> {
        build(&pod(json), additions).map(|patch| serde_json::to_value(patch).unwrap())
    }

    fn secrets(names: &[&'static str]) -> Additions<'static> {
        let leaked = |name: &&'static str| &*Box::leak(Box::new(ObjectName::constant(name)));
        Additions {
            pull_secrets: names.iter().map(leaked).collect(),
            ..Additions::default()
        }
    }

    #[test]
    fn adds_list_when_there_is_none() {
        for spec in [
            "{}",
            r#"{"imagePullSecrets":null}"#,
            r#"{"imagePullSecrets":[]}"#,
        ] {
            let patch = built(
                &format!(r#"{{"metadata":{{}},"spec":{spec}}}"#),
                &secrets(&["pullpass", "pullpass-a"]),
            );
            let expected = serde_json::json!([{"op": "add", "path": "/spec/imagePullSecrets", "value": [{"name": "pullpass"}, {"name": "pullpass-a"}]}]);
            assert_eq!(patch, Some(expected), "{spec}");
        }
    }

    #[test]
    fn appends_when_there_is_a_list() {
        for list in [
            "[{}]",
            r#"[{"name":""}]"#,
            "[null]",
            r#"[{"name":"a"},{"name":"a"}]"#,
        ] {
            let patch = built(
                &format!(r#"{{"metadata":{{}},"spec":{{"imagePullSecrets":{list}}}}}"#),
                &secrets(&["pullpass"]),
            );
            let expected = serde_json::json!([{"op": "add", "path": "/spec/imagePullSecrets/-", "value": {"name": "pullpass"}}]);
            assert_eq!(patch, Some(expected), "{list}");
        }
    }

    #[test]
    fn leaves_out_what_is_there() {
        let pod = r#"{"metadata":{"labels":{"a":"x"},"annotations":{"b":"y"}},"spec":{"imagePullSecrets":[{"name":"pullpass"}]}}"#;
        let mut additions = secrets(&["pullpass"]);
        additions.labels.push(("a", "1"));
        additions.annotations.push(("b", "1"));
        assert_eq!(built(pod, &additions), None);
    }

    #[test]
    fn adds_labels_and_annotations_with_escaped_keys() {
        let mut additions = Additions::default();
        additions
            .labels
            .extend([("iam.example/a~b", "1"), ("~01", "\"2\"")]);
        additions.annotations.extend([("c/d", "x"), ("e", "")]);
        let patch = built(
            r#"{"metadata":{"labels":{},"annotations":null},"spec":{}}"#,
            &additions,
        );
        let expected = serde_json::json!([
            {"op": "add", "path": "/metadata/labels/iam.example~1a~0b", "value": "1"},
            {"op": "add", "path": "/metadata/labels/~001", "value": "\"2\""},
            {"op": "add", "path": "/metadata/annotations", "value": {"c/d": "x", "e": ""}},
        ]);
        assert_eq!(patch, Some(expected));
    }

    #[test]
    fn builds_nothing_for_odd_pods() {
        for pod in [
            r#"{"metadata":{}}"#,
            r#"{"spec":{}}"#,
            r#"{"metadata":{},"spec":null}"#,
            r#"{"metadata":[],"spec":{}}"#,
            r#"{"metadata":{"labels":7},"spec":{}}"#,
            r#"{"metadata":{},"spec":{"imagePullSecrets":{}}}"#,
            r#"{"metadata":{},"spec":{"imagePullSecrets":["a"]}}"#,
            r#"{"metadata":{},"spec":{"imagePullSecrets":[{"name":1}]}}"#,
        ] {
            assert_eq!(built(pod, &secrets(&["pullpass"])), None, "{pod}");
        }
    }
}
