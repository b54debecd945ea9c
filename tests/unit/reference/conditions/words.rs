//! The words in CamelCase of the code, by what the code uses them as.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::TokenTree;

use super::others;
use crate::support::sources::{Source, inner, is_punct, is_word, sources, text_of, walk};

/// Rooms whose words are of other pages: docs/CHECK.md has what the commands find.
const LEFT_OUT: [&str; 1] = ["command"];

/// What the code uses a word as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
    ConditionType,
    Reason,
    EventReason,
    Action,
    Skip,
    Denial,
}

/// The words of each use.
pub(super) type Words = BTreeMap<Role, BTreeSet<String>>;

pub(super) fn is_camel_case(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_uppercase())
        && text.contains(|letter: char| letter.is_ascii_lowercase())
        && text.chars().all(|letter| letter.is_ascii_alphanumeric())
}

/// What constants are used as, and the texts of condition types.
type Uses = BTreeMap<String, Role>;

/// A text, or the name of a constant.
fn name_of(token: &TokenTree) -> String {
    text_of(token).unwrap_or_else(|| token.to_string())
}

/// The first argument of each call of `condition`, and the fields of each `EventNote`.
fn find_uses(tokens: &[TokenTree]) -> Uses {
    let mut found = Uses::new();
    walk(tokens, &mut |tokens, at| {
        let Some(TokenTree::Group(group)) = tokens.get(at + 1) else {
            return;
        };
        let fields = inner(group);
        if is_word(tokens.get(at), "condition") {
            let first = fields.first().map(name_of);
            found.extend(first.map(|name| (name, Role::ConditionType)));
        } else if is_word(tokens.get(at), "EventNote") {
            for (at, token) in fields.iter().enumerate() {
                if is_value_of(&fields, at, "reason") {
                    found.insert(name_of(token), Role::EventReason);
                } else if is_value_of(&fields, at, "action") {
                    found.insert(name_of(token), Role::Action);
                }
            }
        }
    });
    found
}

/// Whether a text is compared with, or looked up: then it is said elsewhere.
fn is_asked_for(tokens: &[TokenTree], at: usize) -> bool {
    at >= 2 && is_punct(tokens.get(at - 1), '=') && is_punct(tokens.get(at - 2), '=')
}

/// The name of the constant whose text this is: `NAME: &str = "…"`.
fn constant_of(tokens: &[TokenTree], at: usize) -> Option<String> {
    let is_it = at >= 5 && is_punct(tokens.get(at - 1), '=') && is_word(tokens.get(at - 2), "str");
    is_it.then(|| tokens[at - 5].to_string())
}

/// Whether a text is the value of this field.
pub(super) fn is_value_of(tokens: &[TokenTree], at: usize, field: &str) -> bool {
    at >= 2 && is_punct(tokens.get(at - 1), ':') && is_word(tokens.get(at - 2), field)
}

/// Reads the words of one file's tokens; `within` is what the group is of: a struct's or a function's name.
fn read_words(path: &str, tokens: &[TokenTree], within: &str, uses: &Uses, words: &mut Words) {
    for (at, token) in tokens.iter().enumerate() {
        if let TokenTree::Group(group) = token {
            let name = at.checked_sub(1).map(|before| tokens[before].to_string());
            read_words(path, &inner(group), &name.unwrap_or_default(), uses, words);
        }
        let Some(word) =
            text_of(token).filter(|text| is_camel_case(text) && !others::has(path, text))
        else {
            continue;
        };
        let constant = constant_of(tokens, at).and_then(|name| uses.get(&name));
        let is_type = uses.get(&word) == Some(&Role::ConditionType);
        let role = if path == "admission/plan/skip.rs" {
            Role::Skip
        } else if path == "admission/review.rs" {
            Role::Denial
        } else if within == "EventNote" && is_value_of(tokens, at, "reason") {
            Role::EventReason
        } else if is_value_of(tokens, at, "action") {
            Role::Action
        } else if is_asked_for(tokens, at) {
            continue;
        } else if let Some(role) = constant {
            *role
        } else if is_type && ["condition", "known"].contains(&within) {
            Role::ConditionType
        } else {
            Role::Reason
        };
        words.entry(role).or_default().insert(word);
    }
}

/// The files whose words are told of here.
pub(super) fn find_files() -> Vec<Source> {
    let room = |source: &Source| source.path.split(['/', '.']).next().map(str::to_owned);
    let is_here = |source: &Source| room(source).is_some_and(|room| !LEFT_OUT.contains(&&*room));
    sources().into_iter().filter(is_here).collect()
}

/// All words of the code but those of [`others`], by what the code uses them as.
pub(super) fn find_words() -> Words {
    let files: Vec<(String, Vec<TokenTree>)> = find_files()
        .into_iter()
        .map(|source| (source.path.clone(), source.tokens()))
        .collect();
    let all: Vec<Uses> = files.iter().map(|(_, tokens)| find_uses(tokens)).collect();
    // A condition's type is a constant of one file and used in another; the other names are of their own file alone.
    let types = all
        .iter()
        .flatten()
        .filter(|(_, role)| **role == Role::ConditionType);
    let types: Uses = types.map(|(name, role)| (name.clone(), *role)).collect();
    let mut words = Words::new();
    for ((path, tokens), mut uses) in files.iter().zip(all) {
        uses.extend(types.clone());
        read_words(path, tokens, "", &uses, &mut words);
    }
    words
}

#[test]
fn tells_words_apart_by_their_use() {
    let source = Source {
        path: "cluster/inspect.rs".to_owned(),
        text: r#"
            const STALLED: &str = "Stalled";
            const NO: &str = "No";
            const GIVE: &str = "Give";
            fn a() {
                condition("Ready", b); condition(STALLED, NO);
                if c == "Asked" {}
                EventNote { reason: "Missed", action: "Scan", note: f("Other") };
                EventNote { reason: kept, action: GIVE, ..other };
                Reason::new("Lost", "words for people");
                let kind = "Pod"; let other = "Lease";
            }
            #[cfg(test)]
            mod tests { const A: &str = "Test"; }
        "#
        .to_owned(),
    };
    let tokens = source.tokens();
    let mut words = Words::new();
    read_words(&source.path, &tokens, "", &find_uses(&tokens), &mut words);
    let of = |role| -> Vec<&str> { words[&role].iter().map(String::as_str).collect() };
    assert_eq!(of(Role::ConditionType), ["Ready", "Stalled"]);
    assert_eq!(of(Role::EventReason), ["Missed"]);
    assert_eq!(of(Role::Action), ["Give", "Scan"]);
    assert_eq!(of(Role::Reason), ["Lease", "Lost", "No", "Other"]);
}
