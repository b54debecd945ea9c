//! What others answer, as far as it may be repeated in a message.

mod mask;

use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};

use super::http::one_line;

/// Who repeats so many bytes of a secret in a row repeats it.
const PART: usize = 16;

/// The other side's own words on one line, unless they repeat a part of a secret that was sent: a signature error quotes the whole
/// signed request. What has the form of another secret is masked.
pub(crate) fn shown<'s>(text: &str, secrets: impl IntoIterator<Item = &'s str>) -> String {
    let line = one_line(text);
    if secrets.into_iter().any(|secret| repeats(&line, secret)) {
        "an answer that is not shown because it repeats a secret".to_owned()
    } else {
        mask::mask(&line)
    }
}

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
        text: first(&["message", "Message", "error_description", "detail"]),
    }
}

/// Whether a text contains a part of a secret, as it is or as a form sends it: 16 bytes in a row, or all of a shorter one.
fn repeats(text: &str, secret: &str) -> bool {
    let length = secret.len().min(PART);
    let repeats = |text: &[u8]| {
        let mut parts = secret.as_bytes().windows(length);
        parts.any(|part| text.windows(length).any(|found| found == part))
    };
    length > 0 && (repeats(text.as_bytes()) || repeats(&decode_form(text)))
}

/// What a text says once it is read as a form.
///
/// <https://url.spec.whatwg.org/#application/x-www-form-urlencoded>
fn decode_form(text: &str) -> Vec<u8> {
    percent_decode_str(&text.replace('+', " ")).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn hides_words_that_repeat_a_part_of_a_secret() {
        let secret = "a+secret/that~is&long=enough";
        for text in [
            "you sent a+secret/that~is&long=enough to me",
            "you sent client_secret=a%2Bsecret%2Fthat~is%26long%3Denough",
            "cut off: a+secret/that~is&lon",
            "its end: that~is&long=enough",
            "cut off in a form: a%2bsecret%2fthat%7eis%2",
        ] {
            assert!(repeats(text, secret), "{text}");
        }
        assert!(repeats("it is short.", "short"));
        for text in ["", "you sent a secret that is long enough", "a+secret"] {
            assert!(!repeats(text, secret), "{text}");
        }
        assert!(!repeats("anything", ""));
    }

    #[test]
    fn shows_one_line_of_what_repeats_nothing() {
        assert_eq!(shown("Rate\nexceeded", ["canary"]), "Rate exceeded");
        assert!(shown("Rate canary", ["", "canary"]).contains("repeats a secret"));
    }

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

    proptest! {
        /// Whatever is answered: one line, bounded, no control characters, and nothing of what was sent.
        #[test]
        fn shows_a_bounded_line_without_the_secret(
            before in "\\PC{0,40}|[\\x00-\\x7f\u{202e}\u{2028}]{0,400}",
            secret in "[!-~]{8,60}",
            after in "\\PC{0,40}",
            form in any::<bool>(),
        ) {
            let sent = if form {
                form_urlencoded::byte_serialize(secret.as_bytes()).collect()
            } else {
                secret.clone()
            };
            let line = shown(&format!("{before}{sent}{after}"), [secret.as_str()]);
            prop_assert!(line.chars().count() <= 301, "{line}");
            prop_assert!(!line.chars().any(|c| c.is_control() || ('\u{2028}'..='\u{202e}').contains(&c)), "{line:?}");
            prop_assert!(!repeats(&line, &secret) || line.contains("repeats a secret"), "{line}");
        }
    }
}
