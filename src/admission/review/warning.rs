//! Warnings as `kubectl` shows them: short lines.

/// The longest line, in characters. Kubernetes asks for 120 and may cut what is longer than 256.
///
/// <https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/#response>
pub(super) const LINE: usize = 120;

/// How many lines are sent: Kubernetes drops all of them when they have more than 4096 characters together.
pub(super) const LINES: usize = 8;

/// How a line begins that goes on with the one before.
const GOES_ON: &str = "… ";

/// Breaks warnings into lines of at most [`LINE`] characters, between words where that is possible: the end of a warning says what
/// to do. Control characters become spaces; of more than [`LINES`] lines the rest is left out.
///
/// A last line says under which id of a review the log has more. It is a line of its own, since `kubectl` shows equal lines once.
pub(super) fn wrap(warnings: &[String], uid: Option<&str>) -> Vec<String> {
    let uid = uid.filter(|_| !warnings.is_empty());
    let most = LINES - usize::from(uid.is_some());
    let mut lines: Vec<String> = warnings
        .iter()
        .flat_map(|warning| wrap_one(warning))
        .collect();
    if lines.len() > most {
        lines.truncate(most);
        if let Some(last) = lines.last_mut() {
            *last = last.chars().take(LINE - 1).chain(['…']).collect();
        }
    }
    lines.extend(uid.map(|uid| format!("pullpass: its log has more under review.uid {uid}")));
    lines
}

fn wrap_one(warning: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let (mut line, mut length) = (String::new(), 0);
    let words = warning.split(|character: char| character.is_control() || character == ' ');
    for word in words.filter(|word| !word.is_empty()).flat_map(cut) {
        let characters = word.chars().count();
        if length > 0 && length + 1 + characters > LINE {
            lines.push(std::mem::replace(&mut line, GOES_ON.to_owned()));
            length = GOES_ON.chars().count();
        } else if length > 0 {
            line.push(' ');
            length += 1;
        }
        line.push_str(word);
        length += characters;
    }
    lines.push(line);
    lines
}

/// Cuts a word that no line can hold.
fn cut(word: &str) -> impl Iterator<Item = &str> {
    let most = LINE - GOES_ON.chars().count();
    let mut rest = word;
    std::iter::from_fn(move || {
        let end = rest
            .char_indices()
            .nth(most)
            .map_or(rest.len(), |(end, _)| end);
        let (piece, after) = rest.split_at(end);
        rest = after;
        (!piece.is_empty()).then_some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrap_text(text: &str) -> Vec<String> {
        wrap(&[text.to_owned()], None)
    }

    #[test]
    fn leaves_short_warnings_as_they_are() {
        let exact = "x".repeat(LINE - 2);
        for text in ["pullpass: short", &format!("a {exact}")] {
            assert_eq!(wrap_text(text), [text]);
        }
        assert_eq!(wrap_text("a\nb\tc"), ["a b c"]);
        assert_eq!(wrap(&[], None), [""; 0]);
    }

    #[test]
    fn breaks_long_warnings_between_words_and_keeps_all_of_them() {
        let words: Vec<String> = (0..60).map(|number| format!("wörd{number}")).collect();
        let lines = wrap_text(&words.join(" "));
        assert!(lines.iter().all(|line| line.chars().count() <= LINE));
        let joined: Vec<&str> = lines
            .iter()
            .map(|line| line.trim_start_matches(GOES_ON))
            .collect();
        assert_eq!(joined.join(" "), words.join(" "));
    }

    #[test]
    fn cuts_words_that_no_line_can_hold() {
        let lines = wrap_text(&"ü".repeat(300));
        assert!(lines.iter().all(|line| line.chars().count() <= LINE));
        assert_eq!(lines.concat().matches('ü').count(), 300);
    }

    #[test]
    fn leaves_out_what_would_make_kubernetes_drop_everything() {
        let lines = wrap_text(&"word ".repeat(1000));
        assert_eq!(lines.len(), LINES);
        assert!(lines.iter().all(|line| line.chars().count() <= LINE));
        assert!(lines[LINES - 1].ends_with('…'));
    }

    #[test]
    fn says_id_of_review_last_however_much_is_left_out() {
        let uid = "705ab4f5-6393-11e8-b7cc-42010a800002";
        for words in [1, 1000] {
            let lines = wrap(&["word ".repeat(words)], Some(uid));
            assert!(lines.len() <= LINES);
            assert!(lines.iter().all(|line| line.chars().count() <= LINE));
            assert!(lines[lines.len() - 1].ends_with(uid));
            let cut = lines[lines.len() - 2].ends_with('…');
            assert_eq!(cut, words == 1000);
        }
        assert_eq!(wrap(&[], Some(uid)), [""; 0]);
    }
}
