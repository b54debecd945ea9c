//! Each Event that the code writes: its reason, the kind that it is about, and its type.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{Delimiter, TokenTree};
use pullpass::broker::refusal::Reason;

use super::words::{Role, Words};
use crate::support::generated::{Row, code};
use crate::support::sources::{Source, inner, is_punct, is_word, sources, text_of, walk};

/// Where an Event's reason is none of the code's texts: the file, the expression, and whose words it has. Whatever else is no text fails.
const DYNAMIC: [(&str, &str, Vocabulary); 4] = [
    (
        "cluster/token_reviews.rs",
        "refusal.reason.as_str().into()",
        Vocabulary::Broker,
    ),
    (
        "controller/status.rs",
        "wrong.reason",
        Vocabulary::Reasons("that makes it not ready, or `Degraded`"),
    ),
    (
        "controller/status/waiting.rs",
        "reason.clone()",
        Vocabulary::Reasons("why Pods wait for a login"),
    ),
    (
        "controller/status/write_failures.rs",
        "why.reason.into()",
        Vocabulary::Reasons("why it cannot be written"),
    ),
];

/// Of the broker's refusals, the one that is found before it is known which Pod asks (`src/broker/issuer.rs`).
const WITHOUT_POD: Reason = Reason::Malformed;

/// Which words a reason may be that is found when the Event is written.
#[derive(Clone, Copy, Debug)]
enum Vocabulary {
    /// Those of the broker's refusals.
    Broker,
    /// Any of the table of reasons; this says which.
    Reasons(&'static str),
}

/// The fields of a struct: the tokens of each one's value.
type Fields = BTreeMap<String, Vec<TokenTree>>;

/// An Event as the code writes it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct EventRow {
    reason: String,
    kind: String,
    event_type: String,
}

/// The tokens of one file, and of all functions that refer to an object.
struct File<'t> {
    path: &'t str,
    tokens: &'t [TokenTree],
    /// The kind that each function's answer is of.
    functions: &'t BTreeMap<String, String>,
}

fn write(tokens: &[TokenTree]) -> String {
    tokens.iter().map(ToString::to_string).collect()
}

/// What stands between commas.
fn split(tokens: &[TokenTree]) -> impl Iterator<Item = &[TokenTree]> {
    let parts = tokens.split(|token| is_punct(Some(token), ','));
    parts.filter(|part| !part.is_empty())
}

/// The value of `let NAME = …;`, or of the closure of this name.
fn find_local(tokens: &[TokenTree], name: &str) -> Option<Vec<TokenTree>> {
    let mut found = None;
    walk(tokens, &mut |tokens, at| {
        let is_it = is_word(tokens.get(at), "let")
            && is_word(tokens.get(at + 1), name)
            && is_punct(tokens.get(at + 2), '=');
        if is_it {
            let rest = tokens[at + 3..].iter();
            let value = rest.take_while(|token| !is_punct(Some(token), ';'));
            found = Some(value.cloned().collect());
        }
    });
    found
}

impl File<'_> {
    /// The kind of the object that an expression refers to.
    fn find_kind(&self, expression: &[TokenTree]) -> Option<String> {
        let mut found = None;
        walk(expression, &mut |tokens, at| {
            let Some(TokenTree::Group(arguments)) = tokens.get(at + 1) else {
                return;
            };
            let arguments = inner(arguments);
            let (true, Some(TokenTree::Group(names))) =
                (is_word(tokens.get(at), "reference"), arguments.first())
            else {
                return;
            };
            let names = inner(names);
            let kind = split(&names).nth(1).and_then(<[_]>::first);
            found = kind.and_then(|kind| {
                let local = || text_of(find_local(self.tokens, &kind.to_string())?.first()?);
                text_of(kind).or_else(local)
            });
        });
        found.or_else(|| {
            let called = expression.first()?.to_string();
            let known = self.functions.get(&called).cloned();
            known.or_else(|| self.find_kind(&find_local(self.tokens, &called)?))
        })
    }

    /// The fields of an Event, with those of the one that it is made from.
    fn find_fields(&self, tokens: &[TokenTree]) -> Fields {
        let mut fields = Fields::new();
        for part in split(tokens) {
            if is_punct(part.first(), '.') {
                let base = find_local(self.tokens, &write(&part[2..])).unwrap_or_default();
                if let [TokenTree::Ident(_), TokenTree::Group(group)] = &base[..] {
                    for (name, value) in self.find_fields(&inner(group)) {
                        fields.entry(name).or_insert(value);
                    }
                }
                continue;
            }
            let name = part[0].to_string();
            // A name alone is its own value.
            let value = if part.len() > 2 { &part[2..] } else { part };
            fields.insert(name, value.to_vec());
        }
        fields
    }

    /// The type that stands in the code.
    fn find_type(&self, value: &[TokenTree]) -> String {
        match value {
            [.., enumeration, _, _, variant] if enumeration.to_string() == "EventType" => {
                variant.to_string()
            }
            other => panic!(
                "{}: the type of an Event is not known: {}",
                self.path,
                write(other)
            ),
        }
    }

    /// The rows of an Event of these fields.
    fn find_rows(&self, fields: &Fields) -> Vec<EventRow> {
        let path = self.path;
        let field = |name: &str| {
            let value = fields.get(name);
            value.unwrap_or_else(|| panic!("{path}: an Event has no {name}"))
        };
        let reason = field("reason");
        let kind = self.find_kind(field("regarding"));
        let kind = kind.unwrap_or_else(|| {
            let written = write(field("regarding"));
            panic!("{path}: it is not known which kind an Event is about: {written}")
        });
        let row = |reason: String, event_type: &str| EventRow {
            reason,
            kind: kind.clone(),
            event_type: event_type.to_owned(),
        };
        let fixed_type = || self.find_type(field("event_type"));
        if let Some(word) = self.find_word(reason) {
            return vec![row(code(&word), &fixed_type())];
        }
        let written = write(reason);
        let mut dynamic = DYNAMIC.iter();
        let known = dynamic.find(|(file, text, _)| *file == path && *text == written);
        match known.map(|(_, _, vocabulary)| *vocabulary) {
            Some(Vocabulary::Broker) => {
                let all = Reason::ALL.into_iter().filter(|one| *one != WITHOUT_POD);
                let type_of = |one: Reason| {
                    if one.is_as_meant() {
                        "Normal"
                    } else {
                        "Warning"
                    }
                };
                all.map(|one| row(code(one.as_str()), type_of(one)))
                    .collect()
            }
            Some(Vocabulary::Reasons(which)) => {
                vec![row(format!("a [reason](#reasons) {which}"), &fixed_type())]
            }
            None => panic!(
                "{path}: an Event's reason is no word of the code, list it in DYNAMIC: {written}"
            ),
        }
    }

    /// The word that a value is: a text, or a constant of the file.
    fn find_word(&self, value: &[TokenTree]) -> Option<String> {
        let text = |token: &TokenTree| text_of(token).or_else(|| self.find_constant(token));
        match value {
            [token] => text(token),
            // `.into()`
            [token, dot, into, TokenTree::Group(group)] => {
                let is_same = is_punct(Some(dot), '.') && is_word(Some(into), "into");
                text(token).filter(|_| is_same && group.stream().is_empty())
            }
            _ => None,
        }
    }

    fn find_constant(&self, name: &TokenTree) -> Option<String> {
        let mut found = None;
        walk(self.tokens, &mut |tokens, at| {
            let is_it = is_word(tokens.get(at), "const")
                && tokens.get(at + 1).map(ToString::to_string) == Some(name.to_string());
            if is_it {
                let rest = tokens[at..].iter();
                let mut value = rest.skip_while(|token| !is_punct(Some(token), '='));
                found = value.nth(1).and_then(text_of);
            }
        });
        found
    }

    fn find_all(&self) -> Vec<EventRow> {
        let mut found = Vec::new();
        walk(self.tokens, &mut |tokens, at| {
            let before = at.checked_sub(1).and_then(|before| tokens.get(before));
            // Neither what it is, nor what a function answers: that comes after `->`, and an arm of a `match` after `=>`.
            let is_answer = is_punct(before, '>') && at >= 2 && is_punct(tokens.get(at - 2), '-');
            let is_type = is_word(before, "struct") || is_answer;
            if let (true, Some(TokenTree::Group(group))) = (
                is_word(tokens.get(at), "EventNote") && !is_type,
                tokens.get(at + 1),
            ) && group.delimiter() == Delimiter::Brace
            {
                found.extend(self.find_rows(&self.find_fields(&inner(group))));
            }
        });
        found
    }
}

/// The functions that answer a reference to an object, and its kind.
fn find_functions(files: &[(String, Vec<TokenTree>)]) -> BTreeMap<String, String> {
    let none = BTreeMap::new();
    let mut found = BTreeMap::new();
    for (path, tokens) in files {
        let file = File {
            path,
            tokens,
            functions: &none,
        };
        walk(tokens, &mut |tokens, at| {
            let is_answer = is_word(tokens.get(at), "ObjectReference")
                && at >= 5
                && is_punct(tokens.get(at - 1), '>')
                && is_word(tokens.get(at - 5), "fn");
            if let (true, Some(TokenTree::Group(body))) = (is_answer, tokens.get(at + 1)) {
                let kind = file.find_kind(&inner(body));
                found.extend(kind.map(|kind| (tokens[at - 4].to_string(), kind)));
            }
        });
    }
    found
}

fn find_events(sources: Vec<Source>) -> BTreeSet<EventRow> {
    let files: Vec<(String, Vec<TokenTree>)> = sources
        .into_iter()
        .map(|source| (source.path.clone(), source.tokens()))
        .collect();
    let functions = find_functions(&files);
    let all = files.iter().flat_map(|(path, tokens)| {
        let functions = &functions;
        File {
            path,
            tokens,
            functions,
        }
        .find_all()
    });
    all.collect()
}

/// The rows of the page's table: reason, kind and type of each Event. `words` are those that the code has as reasons of Events.
pub(super) fn make_rows(words: &Words) -> Vec<Row> {
    let events = find_events(sources());
    let found: BTreeSet<&str> = events.iter().map(|event| &*event.reason).collect();
    let lacking: Vec<_> = words[&Role::EventReason]
        .iter()
        .filter(|word| !found.contains(&*code(word)))
        .collect();
    assert!(lacking.is_empty(), "no Event was found with {lacking:?}");
    let rows = events.into_iter();
    rows.map(|event| vec![event.reason, code(&event.kind), event.event_type])
        .collect()
}

#[test]
fn reads_events_however_they_are_written() {
    let source = |path: &str, text: &str| Source {
        path: path.to_owned(),
        text: text.to_owned(),
    };
    let events = find_events(vec![
        source(
            "a.rs",
            r#"
            pub fn of_pod(a: b) -> ObjectReference { reference(["v1", "Pod", name], None) }
            pub struct EventNote { pub reason: Text }
            fn note() -> EventNote {
                EventNote { regarding: of_pod(a), event_type: EventType::Warning, reason: "Missed".into(), action: "Scan" }
            }
        "#,
        ),
        source(
            "b.rs",
            r#"
            const LOST: &str = "Lost";
            fn notes() -> Option<EventNote> {
                let kind = "Lease";
                let regard = |a| reference(["v1", kind, name], a);
                let first = EventNote { regarding: regard(None), event_type: EventType::Normal, reason: LOST };
                match a { Some(note) => EventNote { reason: "Found".into(), note, ..first }, None => first }
            }
        "#,
        ),
        source(
            "controller/status.rs",
            r"fn c() { Some(EventNote { regarding: of_pod(a), event_type: EventType::Warning, reason: wrong.reason }) }",
        ),
    ]);
    let events: Vec<String> = events
        .into_iter()
        .map(|event| [event.reason, event.kind, event.event_type].join(" "))
        .collect();
    assert_eq!(
        events,
        [
            "`Found` Lease Normal",
            "`Lost` Lease Normal",
            "`Missed` Pod Warning",
            "a [reason](#reasons) that makes it not ready, or `Degraded` Pod Warning",
        ]
    );
}

#[test]
#[should_panic(expected = "an Event's reason is no word of the code")]
fn refuses_an_event_whose_reason_is_not_known() {
    let text = r#"fn c() { EventNote { regarding: reference(["v1", "Pod", name], a), event_type: EventType::Warning, reason: wrong.reason } }"#;
    find_events(vec![Source {
        path: "elsewhere.rs".to_owned(),
        text: text.to_owned(),
    }]);
}
