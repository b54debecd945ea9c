//! No reason is made when the program runs: it is one of the words that stand in the code, or one that is handed on. So a test that reads the
//! code sees all of them.

use std::collections::BTreeSet;

use proc_macro2::{Delimiter, TokenTree};

use crate::support::sources::{Source, inner, is_punct, is_word, sources, walk};

/// What makes a text that the code does not hold as it is.
const MAKERS: [&str; 4] = ["stringify!", "concat!", "type_name", "leak"];

/// Where one of these makes no reason: it joins a message or a list; and what a line of the log calls so that is a label's value, whose words
/// docs/reference/metrics.md has.
const ELSEWHERE: [(&str, &str); 2] = [
    ("credential/cache/log.rs", "concat!"),
    ("server/metrics.rs", "?reason"),
];

/// What is in an expression that makes a text.
const FORMATS: [&str; 6] = [
    "format",
    "to_string",
    "to_value",
    "serialize",
    "to_pascal_case",
    "Debug",
];

/// A reason that is written by a maker, as `file: expression`.
type Made = BTreeSet<String>;

/// Whether a value makes a text: by a macro, a function that formats, or, in a line of the log, by Debug or Display.
fn is_made(value: &[TokenTree]) -> bool {
    let mut found = ['?', '%'].iter().any(|one| is_punct(value.first(), *one));
    walk(value, &mut |tokens, at| {
        let is_macro = matches!(tokens.get(at), Some(TokenTree::Ident(_)))
            && is_punct(tokens.get(at + 1), '!')
            && !is_punct(tokens.get(at + 2), '=');
        found |= is_macro || FORMATS.iter().any(|name| is_word(tokens.get(at), name));
    });
    found
}

/// The value that begins here, up to the next comma.
fn value_at(tokens: &[TokenTree]) -> &[TokenTree] {
    let end = tokens
        .iter()
        .position(|token| is_punct(Some(token), ',') || is_punct(Some(token), ';'));
    &tokens[..end.unwrap_or(tokens.len())]
}

/// Shows what is given as a reason: the field, the log's key, and the first argument of what makes a condition's.
fn find_reasons(tokens: &[TokenTree], see: &mut impl FnMut(&[TokenTree])) {
    walk(tokens, &mut |tokens, at| {
        let is_given = [':', '=']
            .iter()
            .any(|one| is_punct(tokens.get(at + 1), *one))
            && ![':', '=', '>']
                .iter()
                .any(|one| is_punct(tokens.get(at + 2), *one));
        if is_word(tokens.get(at), "reason") && is_given {
            see(value_at(&tokens[at + 2..]));
        }
        let makes = ["Reason", "Verdict", "Refusal"]
            .iter()
            .any(|name| is_word(tokens.get(at), name))
            && is_punct(tokens.get(at + 1), ':');
        if let (true, Some(TokenTree::Group(group))) = (makes, tokens.get(at + 4))
            && group.delimiter() == Delimiter::Parenthesis
        {
            see(value_at(&inner(group)));
        }
    });
}

fn find_made(source: &Source) -> Made {
    let path = &source.path;
    let tokens = source.tokens();
    let mut made = Made::new();
    let mut note = |what: &str| {
        if !ELSEWHERE.contains(&(path.as_str(), what)) {
            made.insert(format!("{path}: {what}"));
        }
    };
    find_reasons(&tokens, &mut |value| {
        if is_made(value) {
            let text: String = value.iter().map(ToString::to_string).collect();
            note(&text);
        }
    });
    walk(&tokens, &mut |tokens, at| {
        let is_macro = is_punct(tokens.get(at + 1), '!');
        let makers = MAKERS.iter().filter(|name| match name.strip_suffix('!') {
            Some(name) => is_macro && is_word(tokens.get(at), name),
            None => is_word(tokens.get(at), name),
        });
        makers.for_each(|name| note(name));
    });
    made
}

#[test]
fn makes_no_reason_but_of_the_words_that_stand_in_the_code() {
    let made: Made = sources().iter().flat_map(find_made).collect();
    assert_eq!(
        made,
        Made::new(),
        "no test can tell which words these are: give a word of the code"
    );
}

#[test]
fn sees_reasons_that_are_made() {
    for (code, is_seen) in [
        (
            r#"fn a() { Note { reason: "Lost".into(), note: format!("{a}") } }"#,
            false,
        ),
        ("fn a() { Note { reason: error.reason(), note } }", false),
        (
            "fn a(reason: &'static str) -> bool { reason == other!(b) }",
            false,
        ),
        (
            r#"fn a() { Reason::new(why.reason.clone(), format!("{b}")) }"#,
            false,
        ),
        (
            r#"fn a() { tracing::warn!(error.reason = error.reason(), "{b:?}") }"#,
            false,
        ),
        (
            r#"fn a() { Note { reason: format!("{b:?}").into(), note } }"#,
            true,
        ),
        ("fn a() { Note { reason: b.to_string(), note } }", true),
        (r#"fn a() { Reason::new(format!("{b:?}"), "words") }"#, true),
        ("fn a() { Verdict::unknown(stringify!(Lost), b) }", true),
        (
            r#"fn a() { tracing::warn!(tls.reason = ?reason, "b") }"#,
            true,
        ),
        (
            "fn a() -> &'static str { std::any::type_name::<B>() }",
            true,
        ),
    ] {
        let source = Source {
            path: "a.rs".to_owned(),
            text: code.to_owned(),
        };
        assert_eq!(!find_made(&source).is_empty(), is_seen, "{code}");
    }
}
