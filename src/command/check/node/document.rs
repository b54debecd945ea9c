//! What of a file the kubelet reads. Pure.

use serde::de::IgnoredAny;
use serde_json::Value;

use super::finding::NodeFinding;
use crate::command::check::ids;
use crate::command::manifest::YamlDocument;

/// What a file holds for the kubelet, as a value.
///
/// # Errors
/// The kubelet cannot read it.
pub(super) fn decode(document: &YamlDocument) -> Result<Value, Box<NodeFinding>> {
    let value = document
        .decode::<Value>()
        .map_err(|error| unreadable(document, &error))?;
    if is_json(&document.text) {
        serde_json::from_str::<IgnoredAny>(&document.text).map_err(|error| {
            let message = error.to_string();
            let message = message.split(" at line ").next().unwrap_or_default();
            finding(
                document,
                &error.line().to_string(),
                format!(
                    "is no JSON, which the kubelet takes it for as it begins with {{: {message}"
                ),
            )
        })?;
    }
    Ok(value)
}

/// The first document of a file, which is all that the kubelet reads, and the line of what else holds something.
///
/// <https://github.com/kubernetes-sigs/yaml/blob/v1.6.0/yaml.go> (`UnmarshalStrict`)
pub(super) fn first(text: &str) -> (&str, Option<usize>) {
    if is_json(text) {
        return (text, None);
    }
    let (mut begun, mut read) = (false, 0);
    for line in text.split_inclusive('\n') {
        let is_start = is_marker(line, "---");
        if begun && (is_start || is_marker(line, "...")) {
            break;
        }
        begun |= is_start || has_content(line) && !line.starts_with('%');
        read += line.len();
    }
    let (first, rest) = text.split_at(read);
    let mut others = rest.lines();
    let ignored = others.position(|line| {
        let line = ["---", "..."]
            .iter()
            .find_map(|marker| {
                line.strip_prefix(marker)
                    .filter(|_| is_marker(line, marker))
            })
            .unwrap_or(line);
        has_content(line)
    });
    (first, ignored.map(|at| first.lines().count() + at + 1))
}

/// That a file holds more than the kubelet reads.
pub(super) fn ignored(file: &str, line: usize) -> NodeFinding {
    NodeFinding::of_file(
        ids::NODE_DOCUMENT_IGNORED,
        format!("{file}:{line}"),
        "the kubelet reads the first document of a file alone: it ignores what stands from here on",
        "put it into a file of its own in the same folder, or remove it",
    )
    .warning()
}

fn is_marker(line: &str, marker: &str) -> bool {
    let rest = line.strip_prefix(marker);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace))
}

fn has_content(line: &str) -> bool {
    let line = line.trim_start();
    !line.is_empty() && !line.starts_with('#')
}

/// Whether the kubelet takes a text for JSON.
///
/// <https://github.com/kubernetes/kubernetes/blob/v1.36.0/staging/src/k8s.io/apimachinery/pkg/util/yaml/decoder.go> (`hasJSONPrefix`)
fn is_json(text: &str) -> bool {
    text.trim_start().starts_with('{')
}

/// An error of [`YamlDocument::decode`], without what it says to programmers.
fn unreadable(document: &YamlDocument, error: &str) -> Box<NodeFinding> {
    let rest = error.strip_prefix(&document.file).unwrap_or(error);
    let rest = rest.trim_start_matches(':').trim_start();
    let (line, message) = match rest.split_once(": ") {
        Some((line, message)) if line.bytes().all(|byte| byte.is_ascii_digit()) => (line, message),
        _ => ("", rest),
    };
    let message = message.split(", set ").next().unwrap_or_default();
    finding(document, line, message.to_owned())
}

fn finding(document: &YamlDocument, line: &str, message: String) -> Box<NodeFinding> {
    let place = match line {
        "" => document.file.clone(),
        line => format!("{}:{line}", document.file),
    };
    let fix = "write it as `pullpass credential-provider config` prints it: the kubelet ends at its start with this";
    let id = ids::NODE_CONFIG_UNREADABLE;
    Box::new(NodeFinding::of_file(id, place, message, fix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_first_document_and_says_where_others_begin() {
        for (text, expected, ignored) in [
            ("a: 1\n", "a: 1\n", None),
            ("a: 1", "a: 1", None),
            ("---\na: 1\n", "---\na: 1\n", None),
            ("# x\n\n---\na: 1\n---\n", "# x\n\n---\na: 1\n", None),
            ("%YAML 1.1\n---\na: 1\n", "%YAML 1.1\n---\na: 1\n", None),
            ("a: 1\n---\n# x\n...\n", "a: 1\n", None),
            ("a: 1\n---\nb: [\n", "a: 1\n", Some(3)),
            ("a: 1\n--- b\n", "a: 1\n", Some(2)),
            ("a: 1\n...\nb: 1\n", "a: 1\n", Some(3)),
            ("---\n---\na: 1\n", "---\n", Some(3)),
            ("a: |\n  ---\nb----: 1\n", "a: |\n  ---\nb----: 1\n", None),
            ("{\"a\": 1}\n---\n", "{\"a\": 1}\n---\n", None),
            ("", "", None),
        ] {
            assert_eq!(first(text), (expected, ignored), "{text:?}");
        }
    }

    #[test]
    fn says_what_is_wrong_once_and_to_people() {
        for (text, line, message) in [
            ("a: 1\na: 2\n", ":2", "duplicate mapping key: a"),
            ("{\"a\": [1,]}", ":1", "is no JSON"),
        ] {
            let document = YamlDocument {
                file: "/a.yaml".to_owned(),
                text: text.to_owned(),
            };
            let found = decode(&document).unwrap_err();
            assert_eq!(found.place, format!("/a.yaml{line}"), "{found:?}");
            assert!(found.message.contains(message), "{found:?}");
            assert!(!found.message.contains("/a.yaml"), "{found:?}");
            assert!(!found.message.contains("Options"), "{found:?}");
        }
    }
}
