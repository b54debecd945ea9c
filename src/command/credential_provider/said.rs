//! What the plug-in prints. Pure.

use secrecy::SecretString;

use crate::credential::one_line::shorten;
use crate::plain_text;

/// The longest line, in bytes: the kubelet logs all of it.
const LONGEST: usize = 1000;

/// A text as one line that is not too long and repeats nothing of the token, nor of its parts.
pub(super) fn one_line(text: &str, token: Option<&SecretString>) -> String {
    // First the token: of a line that is cut, its beginning would be left.
    let mut line = shorten(text, usize::MAX);
    if let Some(token) = token {
        line = plain_text::redact(&line, token);
    }
    if line.len() > LONGEST {
        line = shorten(&line, LONGEST) + "…";
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_is_short_and_repeats_no_token() {
        let token = SecretString::from("eyJhbGciOiJ.canarycanary.c2lnbmF0dXJl");
        for (text, expected) in [
            ("a\nb\u{1b}[31m", "a b [31m"),
            (
                "it is eyJhbGciOiJ.canarycanary.c2lnbmF0dXJl!",
                "it is <token>!",
            ),
            ("of canarycanary", "of <token>"),
        ] {
            assert_eq!(one_line(text, Some(&token)), expected);
        }
        let long = "é".repeat(5000) + "canarycanary";
        let line = one_line(&long, Some(&token));
        assert!(line.len() <= LONGEST + "…".len() && line.ends_with("é…"));
        let cut = "x".repeat(LONGEST - 4) + "canarycanary";
        assert!(!one_line(&cut, Some(&token)).contains("cana"));
    }
}
