//! How it looks on a terminal.

use super::*;

#[test]
fn colours_only_terminals_of_people_who_did_not_say_no() {
    let rows = [
        (true, &[][..], true),
        (true, &[("NO_COLOR", "")], true),
        (true, &[("NO_COLOR", "1")], false),
        (true, &[("TERM", "dumb")], false),
        (false, &[("TERM", "xterm")], false),
    ];
    for (is_terminal, variables, coloured) in rows {
        let variable = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let look = Look::find(Output::Text, is_terminal, variable);
        let text = render(&build(&troubled()), &look, now());
        assert_eq!(text.contains("\x1b["), coloured, "{variables:?}");
    }
}

/// Whoever writes a Registry, or an Event, moves nobody's cursor.
#[test]
fn writes_no_control_characters_of_others() {
    let mut facts = shop();
    facts.events.as_mut().unwrap()[0].note = "a\x1b[2J\r\nb".to_owned();
    let text = text(&tenant(&facts), Output::Wide);
    assert!(text.contains("a [2J  b"), "{text}");
    assert!(!text.contains('\x1b'));
}
