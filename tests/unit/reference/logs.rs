//! docs/reference/logs.md: the keys of log lines, as the code's macros have them.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{TokenStream, TokenTree};

use crate::support::generated::{Part, Row, code};
use crate::support::sources::{Source, inner, is_punct, is_word, sources, text_of, walk};

const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];

/// The levels of each key.
type Keys = BTreeMap<String, BTreeSet<usize>>;

/// The keys of a macro's arguments, up to the message.
fn find_keys(arguments: &[TokenTree]) -> Vec<String> {
    let mut keys = Vec::new();
    for part in arguments.split(|token| is_punct(Some(token), ',')) {
        let is_message = part
            .first()
            .is_none_or(|first| text_of(first).is_some() || is_word(Some(first), "concat"));
        if is_message {
            break;
        }
        let is_key =
            |token: &&TokenTree| matches!(token, TokenTree::Ident(_)) || is_punct(Some(token), '.');
        let sigil = usize::from(is_punct(part.first(), '%') || is_punct(part.first(), '?'));
        let words: Vec<String> = part[sigil..]
            .iter()
            .take_while(is_key)
            .map(ToString::to_string)
            .collect();
        keys.push(words.concat());
    }
    keys
}

/// The levels of a `tracing::LEVEL!`; those of a macro's callers where it has the level from them.
fn find_levels(
    tokens: &[TokenTree],
    at: usize,
    called: &BTreeSet<usize>,
) -> Option<(BTreeSet<usize>, usize)> {
    let is_tracing = is_word(tokens.get(at), "tracing")
        && is_punct(tokens.get(at + 1), ':')
        && is_punct(tokens.get(at + 2), ':');
    if !is_tracing {
        return None;
    }
    let is_given = is_punct(tokens.get(at + 3), '$');
    let name = at + 3 + usize::from(is_given);
    if !is_punct(tokens.get(name + 1), '!') {
        return None;
    }
    let levels = match tokens.get(name) {
        Some(TokenTree::Ident(_)) if is_given => called.clone(),
        Some(TokenTree::Ident(level)) => {
            let level = level.to_string();
            BTreeSet::from([LEVELS.iter().position(|known| *known == level)?])
        }
        _ => return None,
    };
    Some((levels, name + 2))
}

/// The levels that a file's own macros are called with: `log!(debug, …)`.
fn find_called(tokens: &[TokenTree]) -> BTreeSet<usize> {
    let mut called = BTreeSet::new();
    walk(tokens, &mut |tokens, at| {
        if let (true, Some(TokenTree::Group(group))) =
            (is_word(tokens.get(at), "log"), tokens.get(at + 2))
        {
            let first = inner(group).first().map(ToString::to_string);
            called.extend(
                LEVELS
                    .iter()
                    .position(|known| Some(*known) == first.as_deref()),
            );
        }
    });
    called
}

fn read(tokens: &[TokenTree], keys: &mut Keys) {
    let called = find_called(tokens);
    walk(tokens, &mut |tokens, at| {
        let Some((levels, group)) = find_levels(tokens, at, &called) else {
            return;
        };
        if let Some(TokenTree::Group(group)) = tokens.get(group) {
            for key in find_keys(&inner(group)) {
                keys.entry(key).or_default().extend(&levels);
            }
        }
    });
}

#[test]
fn finds_keys_and_levels_in_code() {
    let code = r#"
        fn a() { tracing::info!("x {a}", a); tracing::warn!(%error, b.c = f(1, 2), ?d, suppressed, "x"); }
        macro_rules! log { ($level:ident) => { tracing::$level!(e.f = 1, concat!("a", "b")) }; }
        fn b() { log!(debug, ""); log!(error, ""); tracing::subscriber::noop(); }
    "#;
    let tokens: TokenStream = code.parse().unwrap();
    let mut keys = Keys::new();
    read(&Vec::from_iter(tokens), &mut keys);
    let found: Vec<(&str, Vec<&str>)> = keys
        .iter()
        .map(|(key, levels)| {
            (
                key.as_str(),
                levels.iter().map(|level| LEVELS[*level]).collect(),
            )
        })
        .collect();
    let warn = || vec!["warn"];
    let expected = [
        ("b.c", warn()),
        ("d", warn()),
        ("e.f", vec!["error", "debug"]),
        ("error", warn()),
        ("suppressed", warn()),
    ];
    assert_eq!(found, expected);
}

#[test]
fn tells_of_every_key_of_the_log() {
    let mut keys = Keys::new();
    sources()
        .iter()
        .map(Source::tokens)
        .for_each(|tokens| read(&tokens, &mut keys));
    assert!(keys.len() > 30, "{keys:?}");
    let rows = keys.iter().map(|(key, levels)| -> Row {
        let levels: Vec<&str> = levels.iter().map(|level| LEVELS[*level]).collect();
        vec![code(key), levels.join(", ")]
    });
    Part {
        file: "docs/reference/logs.md",
        name: "keys",
    }
    .hold_table(&["key", "levels"], &["what it is"], rows.collect());
}
