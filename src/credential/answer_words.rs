//! What the bodies of answers say, whoever answers.

use serde_json::{Map, Value};

/// What the body of an answer says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct BodyWords {
    /// The error's code; empty where it has none.
    pub(crate) code: String,
    /// Its words; empty where it has none.
    pub(crate) text: String,
}

/// How much of a body that is plain text is read.
const PLAIN_MAX: usize = 4 * 1024;

/// Reads the body of an answer, whichever form its error has: a registry's, OAuth's, AWS's, Azure's, plain text. Of a page for browsers
/// nothing is read.
///
/// <https://github.com/opencontainers/distribution-spec/blob/main/spec.md#error-codes>,
/// <https://www.rfc-editor.org/rfc/rfc6749#section-5.2>
pub(crate) fn read_body(body: &[u8]) -> BodyWords {
    if let Ok(Value::Object(answer)) = serde_json::from_slice(body) {
        return read_json(&answer);
    }
    let cut = &body[..body.len().min(PLAIN_MAX)];
    let text = String::from_utf8_lossy(cut);
    let text = text.trim();
    if text.starts_with(['<', '{', '[']) {
        BodyWords::default()
    } else {
        BodyWords {
            code: String::new(),
            text: text.to_owned(),
        }
    }
}

fn read_json(answer: &Map<String, Value>) -> BodyWords {
    let inner = match (answer.get("errors"), answer.get("error")) {
        (Some(Value::Array(errors)), _) => errors.first().and_then(Value::as_object),
        (_, Some(Value::Object(error))) => Some(error),
        _ => None,
    };
    let error = inner.unwrap_or(answer);
    let first = |names: &[&str]| {
        let mut found = names.iter().filter_map(|name| error.get(*name)?.as_str());
        found.next().unwrap_or_default().to_owned()
    };
    BodyWords {
        code: first(&["code", "Code", "__type", "error"]),
        text: first(&[
            "message",
            "Message",
            "error_description",
            "detail",
            "details",
        ]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_form_of_an_error() {
        let table = [
            (
                r#"{"errors":[{"code":"DENIED","message":"no"}]}"#,
                "DENIED",
                "no",
            ),
            (r#"{"errors":[]}"#, "", ""),
            (
                r#"{"error":"invalid_request","error_description":"no"}"#,
                "invalid_request",
                "no",
            ),
            (
                r#"{"error":{"code":"invalid","message":"no"}}"#,
                "invalid",
                "no",
            ),
            (r#"{"__type":"X","message":"no"}"#, "X", "no"),
            (r#"{"Code":"X","Message":"no"}"#, "X", "no"),
            (r#"{"code":5,"message":["no"]}"#, "", ""),
            (
                r#"{"details":"incorrect username or password"}"#,
                "",
                "incorrect username or password",
            ),
            (
                "no AzureAssignedIdentity found\n",
                "",
                "no AzureAssignedIdentity found",
            ),
            ("<html>Log in</html>", "", ""),
            (r#"{"broken"#, "", ""),
            ("", "", ""),
        ];
        for (body, code, text) in table {
            let read = read_body(body.as_bytes());
            assert_eq!((&*read.code, &*read.text), (code, text), "{body}");
        }
    }
}
