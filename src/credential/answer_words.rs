//! What others answer, as far as it may be repeated in a message.

use percent_encoding::percent_decode_str;

use super::http::one_line;

/// Who repeats so many bytes of a secret in a row repeats it.
const PART: usize = 16;

/// The other side's own words on one line, unless they repeat a part of a secret that was sent: a signature error quotes the whole
/// signed request.
pub(crate) fn shown<'s>(text: &str, secrets: impl IntoIterator<Item = &'s str>) -> String {
    let line = one_line(text);
    if secrets.into_iter().any(|secret| repeats(&line, secret)) {
        "an answer that is not shown because it repeats a secret".to_owned()
    } else {
        line
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
}
