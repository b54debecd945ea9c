//! What a command printed beside what a page says. Blanks count as one, `…` stands for any text within a line, and a line of `…` alone for
//! any lines.

/// What is not as the page says; `None`: all is.
pub(super) fn find_difference(expected: &str, printed: &str) -> Option<String> {
    let lines = |text: &str| -> Vec<String> {
        let lines = text.lines().map(squeeze);
        lines.filter(|line| !line.is_empty()).collect()
    };
    let (expected, printed) = (lines(expected), lines(printed));
    if matches_lines(&expected, &printed) {
        return None;
    }
    let known = |line: &&String| *line != "…" && !printed.iter().any(|one| matches_line(line, one));
    let missing: Vec<&String> = expected.iter().filter(known).collect();
    Some(format!(
        "the page says what is not there, or in another order: {missing:#?}"
    ))
}

fn squeeze(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn matches_lines(expected: &[String], printed: &[String]) -> bool {
    let Some((first, rest)) = expected.split_first() else {
        return printed.is_empty();
    };
    if first == "…" {
        return (0..=printed.len()).any(|skipped| matches_lines(rest, &printed[skipped..]));
    }
    printed
        .split_first()
        .is_some_and(|(line, more)| matches_line(first, line) && matches_lines(rest, more))
}

fn matches_line(expected: &str, printed: &str) -> bool {
    let mut parts = expected.split('…');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = printed.strip_prefix(first) else {
        return false;
    };
    let parts: Vec<&str> = parts.collect();
    let Some((last, between)) = parts.split_last() else {
        return rest.is_empty();
    };
    for part in between {
        let Some(at) = rest.find(part) else {
            return false;
        };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[test]
fn compares_what_is_printed_with_what_is_said() {
    for (expected, printed, same) in [
        ("a  b", "a b\n", true),
        ("a …", "a 1", true),
        ("a … c", "a 1 2 c", true),
        ("a … c", "a 1 2 d", false),
        ("…\nb", "x\ny\nb", true),
        ("b\n…", "b", true),
        ("b", "a\nb", false),
        ("a\nb", "a", false),
        ("…\na\n…\nb\n…", "b\na", false),
    ] {
        let difference = find_difference(expected, printed);
        assert_eq!(difference.is_none(), same, "{expected:?}, {printed:?}");
    }
}
