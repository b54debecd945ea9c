//! Text that others wrote, as one line to show. Pure.

/// The text without control characters, cut at 300 characters.
pub(crate) fn one_line(text: &str) -> String {
    const LONGEST: usize = 300;
    let line: String = shown(text).take(LONGEST).collect();
    let line = line.trim();
    if text.chars().nth(LONGEST).is_some() {
        format!("{line}…")
    } else {
        line.to_owned()
    }
}

/// The text without control characters, and no more of it than these bytes.
pub(crate) fn shorten(text: &str, bytes: usize) -> String {
    let line: String = shown(text).collect();
    line[..line.floor_char_boundary(bytes)].to_owned()
}

fn shown(text: &str) -> impl Iterator<Item = char> {
    text.chars().map(|c| if is_shown(c) { c } else { ' ' })
}

/// Whether a character is one to be seen: no control character, none that begins a line, and none that turns the order of others around.
///
/// <https://www.unicode.org/reports/tr9/#Directional_Formatting_Characters>
fn is_shown(c: char) -> bool {
    !c.is_control()
        && !matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_cuts_long_text() {
        assert_eq!(one_line("a\nb\u{1b}c"), "a b c");
        assert_eq!(one_line(&"é".repeat(400)).chars().count(), 301);
    }

    #[test]
    fn shorten_keeps_whole_characters_in_one_line() {
        for (text, bytes, short) in [
            ("a\nb\u{202e}c", 10, "a b c"),
            ("aéé", 4, "aé"),
            ("aéé", 3, "aé"),
            ("", 4, ""),
        ] {
            assert_eq!(shorten(text, bytes), short, "{text:?}");
        }
    }
}
