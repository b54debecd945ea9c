//! The JSON Patch: what is added to a Pod, on three places only.
//!
//! A patch that does not apply gets the Pod refused whatever the webhook's failure policy, so each operation is an `add` whose
//! parent is known to be there. Nothing is replaced or removed.
//!
//! <https://www.rfc-editor.org/rfc/rfc6902>, <https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/#response>

use std::fmt::Write as _;

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

/// Writes the patch as JSON text; `None` when the Pod needs nothing.
///
/// Total: for a Pod that is not [malformed](PodObject::is_malformed) the patch applies, and applying it twice changes nothing more. For a
/// malformed one there is none.
pub fn build(pod: &PodObject<'_>, additions: &Additions<'_>) -> Option<String> {
    if pod.is_malformed() {
        return None;
    }
    let (metadata, spec) = (pod.metadata.value()?, pod.spec.value()?);
    let mut patch = Operations::default();
    let present = spec.pull_secrets();
    let missing = additions
        .pull_secrets
        .iter()
        .map(|name| name.as_str())
        .filter(|name| !present.iter().any(|present| present == name));
    patch.add_pull_secrets(present.is_empty(), missing);
    let keys = metadata.labels.value().map(|labels| labels.keys.as_slice());
    patch.add_entries("/metadata/labels", keys, &additions.labels);
    let keys = metadata
        .annotations
        .value()
        .map(|annotations| annotations.keys.as_slice());
    patch.add_entries("/metadata/annotations", keys, &additions.annotations);
    patch.finish()
}

#[derive(Default)]
struct Operations(String);

impl Operations {
    fn add_pull_secrets<'a>(&mut self, list_empty: bool, missing: impl Iterator<Item = &'a str>) {
        let mut missing = missing.peekable();
        if missing.peek().is_none() {
            return;
        }
        if !list_empty {
            for name in missing {
                self.open("/spec/imagePullSecrets/-");
                let _ = write!(self.0, "{{\"name\":{}}}}}", Json(name));
            }
            return;
        }
        self.open("/spec/imagePullSecrets");
        self.0.push('[');
        for (index, name) in missing.enumerate() {
            let _ = write!(
                self.0,
                "{}{{\"name\":{}}}",
                if index == 0 { "" } else { "," },
                Json(name)
            );
        }
        self.0.push_str("]}");
    }

    /// `present` is `None` where the map itself is absent or null.
    fn add_entries<K: AsRef<str>>(
        &mut self,
        map: &str,
        present: Option<&[K]>,
        entries: &[(&str, &str)],
    ) {
        if let Some(present) = present {
            for (key, value) in entries {
                if !present.iter().any(|present| present.as_ref() == *key) {
                    self.open(&format!("{map}/{}", escape_pointer(key)));
                    let _ = write!(self.0, "{}}}", Json(value));
                }
            }
        } else if !entries.is_empty() {
            self.open(map);
            for (index, (key, value)) in entries.iter().enumerate() {
                let _ = write!(
                    self.0,
                    "{}{}:{}",
                    if index == 0 { '{' } else { ',' },
                    Json(key),
                    Json(value)
                );
            }
            self.0.push_str("}}");
        }
    }

    /// Opens an `add` operation up to its value.
    fn open(&mut self, path: &str) {
        self.0.push(if self.0.is_empty() { '[' } else { ',' });
        let _ = write!(
            self.0,
            "{{\"op\":\"add\",\"path\":{},\"value\":",
            Json(path)
        );
    }

    fn finish(mut self) -> Option<String> {
        if self.0.is_empty() {
            return None;
        }
        self.0.push(']');
        Some(self.0)
    }
}

/// Escapes one token of a JSON Pointer. <https://www.rfc-editor.org/rfc/rfc6901#section-3>
fn escape_pointer(token: &str) -> String {
    token.replace('~', "~0").replace('/', "~1")
}

/// A string as a JSON literal.
struct Json<'a>(&'a str);

impl std::fmt::Display for Json<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let plain = |byte: u8| byte != b'"' && byte != b'\\' && byte >= 0x20;
        if self.0.bytes().all(plain) {
            return write!(formatter, "\"{}\"", self.0);
        }
        formatter.write_str(&serde_json::to_string(self.0).map_err(|_| std::fmt::Error)?)
    }
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
        build(&pod(json), additions).map(|patch| serde_json::from_str(&patch).unwrap())
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
