//! A log line's bounds: 4 KiB, and one line. What callers, clouds and the API server say gets into lines.

use std::borrow::Cow;

use serde_json::Value;

/// The longest line, in bytes, its end included.
pub(super) const LINE_MAX: usize = 4096;

/// The longest texts of a JSON object that is too long, in bytes; the first with which it fits.
const TEXT_MAX: [usize; 6] = [1024, 512, 256, 128, 64, 16];

/// What a text ends with that was cut.
const CUT: &str = "…";

/// A line as it may be written: JSON stays JSON.
pub(super) fn bound(line: &[u8]) -> Cow<'_, [u8]> {
    let content = line.strip_suffix(b"\n").unwrap_or(line);
    let is_one = !content.iter().any(|byte| matches!(byte, b'\n' | b'\r'));
    if is_one && line.len() <= LINE_MAX {
        return Cow::Borrowed(line);
    }
    let shorter = serde_json::from_slice(content).map(bound_json);
    let mut line = shorter.unwrap_or_else(|_| bound_text(&String::from_utf8_lossy(content)));
    line.push('\n');
    Cow::Owned(line.into_bytes())
}

fn bound_text(text: &str) -> String {
    // Before it is cut: each becomes two.
    let mut text = cut(text, LINE_MAX)
        .replace('\n', "\\n")
        .replace('\r', "\\r");
    text.truncate(cut_at(&text, LINE_MAX - CUT.len() - 1));
    text.push_str(CUT);
    text
}

fn bound_json(mut value: Value) -> String {
    for longest in TEXT_MAX {
        shorten(&mut value, longest);
        let line = value.to_string();
        if line.len() < LINE_MAX {
            return line;
        }
    }
    let level = value.get("level").and_then(Value::as_str);
    let level = level.unwrap_or_default();
    serde_json::json!({"level": level, "message": "a line was too long to be logged"}).to_string()
}

/// Cuts each text to this length.
fn shorten(value: &mut Value, longest: usize) {
    match value {
        Value::String(text) if text.len() > longest => {
            text.truncate(cut_at(text, longest - CUT.len()));
            text.push_str(CUT);
        }
        Value::Array(values) => values.iter_mut().for_each(|value| shorten(value, longest)),
        Value::Object(values) => values
            .values_mut()
            .for_each(|value| shorten(value, longest)),
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn cut(text: &str, longest: usize) -> &str {
    &text[..cut_at(text, longest)]
}

/// Where to cut, so that no character is.
fn cut_at(text: &str, longest: usize) -> usize {
    text.floor_char_boundary(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounded(line: &str) -> String {
        String::from_utf8(bound(line.as_bytes()).into_owned()).unwrap()
    }

    #[test]
    fn leaves_line_that_is_one_and_short() {
        for line in ["\n", "a line\n", "{\"message\":\"a\\nb\"}\n", "ä"] {
            assert_eq!(bounded(line), line);
        }
        let longest = "x".repeat(LINE_MAX - 1) + "\n";
        assert_eq!(bounded(&longest), longest);
    }

    #[test]
    fn writes_line_of_text_as_one_and_cuts_it() {
        assert_eq!(bounded("a\nb\r\nc\n"), "a\\nb\\r\\nc…\n");
        for text in ["x", "ä", "\n", "…"] {
            let line = bounded(&(text.repeat(7 << 20) + "\n"));
            assert!(line.len() <= LINE_MAX, "{} bytes", line.len());
            assert!(line.len() > LINE_MAX - 8, "{} bytes", line.len());
            assert!(line.ends_with("…\n") && line.lines().count() == 1);
        }
    }

    #[test]
    fn cuts_texts_of_json_and_keeps_it_json() {
        let long = |number: usize| format!("{:?}", "ä\n".repeat(number));
        for line in [
            format!("{{\"level\":\"WARN\",\"message\":{}}}\n", long(1 << 20)),
            format!(
                "{{\"level\":\"WARN\",\"a\":[{}],\"b\":{{\"c\":{}}}}}\n",
                vec![long(1000); 20].join(","),
                long(5000)
            ),
            format!(
                "{{\"level\":\"WARN\",\"a\":[{}]}}\n",
                vec![long(3); 5000].join(",")
            ),
        ] {
            let line = bounded(&line);
            assert!(line.len() <= LINE_MAX, "{} bytes", line.len());
            let value: Value = serde_json::from_str(&line).unwrap();
            assert_eq!(value["level"], "WARN");
            assert_eq!(line.lines().count(), 1);
        }
    }
}
