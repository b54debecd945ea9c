//! Image references against a table, and against the Go reference implementation over generated inputs.

use crate::support;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use pullpass::image::Reference;
use serde::Deserialize;

/// How many inputs are generated; the reference implementation must take at least [`VALID_SHARE`] percent of them.
const GENERATED: usize = 12_000;
const VALID_SHARE: usize = 40;

/// One row of the table, and one answer of the oracle: the parts, or that there are none.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Row {
    image: String,
    error: Option<serde_json::Value>,
    domain: String,
    path: String,
    tag: String,
    digest: String,
}

/// The four parts, empty where absent; `None` when the text is no reference.
fn parts(image: &str) -> Option<[String; 4]> {
    let reference = Reference::parse(image).ok()?;
    let owned = |part: Option<&str>| part.unwrap_or_default().to_owned();
    Some([
        reference.domain().to_owned(),
        reference.path().to_owned(),
        owned(reference.tag()),
        owned(reference.digest()),
    ])
}

impl Row {
    fn parts(self) -> Option<[String; 4]> {
        self.error
            .is_none()
            .then_some([self.domain, self.path, self.tag, self.digest])
    }
}

#[test]
fn reads_every_row_of_the_table() {
    let rows: Vec<Row> =
        serde_json::from_str(include_str!("../data/references.json")).expect("the table is JSON");
    assert!(rows.len() >= 200, "the table lost rows: {}", rows.len());
    for row in rows {
        let image = row.image.clone();
        assert_eq!(parts(&image), row.parts(), "{image:?}");
    }
}

#[test]
fn agrees_with_reference_implementation_on_generated_inputs() {
    let mut runner = TestRunner::default();
    let strategy = input();
    let inputs: Vec<String> = (0..GENERATED)
        .map(|_| {
            strategy
                .new_tree(&mut runner)
                .expect("inputs are never filtered")
                .current()
        })
        .collect();
    let answers = ask_oracle(&inputs);
    assert_eq!(answers.len(), inputs.len());
    let valid = answers
        .iter()
        .filter(|answer| answer.error.is_none())
        .count();
    assert!(
        valid * 100 >= GENERATED * VALID_SHARE,
        "only {valid} of {GENERATED} inputs are valid"
    );
    assert!(valid < GENERATED, "no input is invalid");
    for (input, answer) in inputs.iter().zip(answers) {
        assert_eq!(parts(input), answer.parts(), "{input:?}");
    }
}

/// What `bed references` says of each input.
fn ask_oracle(inputs: &[String]) -> Vec<Row> {
    let lines: String = inputs
        .iter()
        .map(|input| serde_json::Value::from(input.as_str()).to_string() + "\n")
        .collect();
    let output = support::bed::run("references", &[], &lines);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let answers = String::from_utf8(output.stdout).expect("the oracle writes UTF-8");
    answers
        .lines()
        .map(|line| serde_json::from_str(line).expect("the oracle writes JSON"))
        .collect()
}

/// Inputs: mostly well-formed references, some of them damaged by an edit or two, and some strings of the characters that matter.
fn input() -> impl Strategy<Value = String> {
    prop_oneof![
        5 => reference(),
        3 => damaged(),
        1 => "[a-zA-Z0-9._:@/\\[\\]-]{0,40}",
        1 => r"\PC{0,12}",
    ]
}

fn reference() -> impl Strategy<Value = String> {
    (domain(), path(), tag(), digest())
        .prop_map(|(domain, path, tag, digest)| format!("{domain}{path}{tag}{digest}"))
}

fn domain() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => Just(String::new()),
        1 => Just("docker.io/".to_owned()),
        1 => Just("index.docker.io/".to_owned()),
        1 => Just("localhost/".to_owned()),
        1 => r"[0-9]{12}\.dkr\.ecr\.(eu|us)-west-[12]\.amazonaws\.com/",
        4 => r"([a-zA-Z0-9]([a-zA-Z0-9-]{0,6}[a-zA-Z0-9])?)(\.[a-z0-9]([a-z0-9-]{0,6}[a-z0-9])?){0,3}(:[0-9]{1,5})?/",
        1 => r"\[[0-9a-fA-F:]{1,12}\](:[0-9]{1,5})?/",
        1 => r"[a-z]{1,4}[_.]{1,2}[a-z]{1,4}\.[a-z]{2,3}(:[0-9]{1,4})?/",
    ]
}

fn path() -> impl Strategy<Value = String> {
    let component = r"[a-z0-9]{1,8}((\.|_|__|-{1,3})[a-z0-9]{1,6}){0,2}";
    prop_oneof![
        12 => proptest::collection::vec(component, 1..5).prop_map(|components| components.join("/")),
        1 => "[a-f0-9]{64}",
        1 => "[a-z]{120}/[a-z]{120,140}",
    ]
}

fn tag() -> impl Strategy<Value = String> {
    prop_oneof![3 => Just(String::new()), 5 => ":[A-Za-z0-9_][A-Za-z0-9_.-]{0,12}", 1 => ":[a-z]{120,130}"]
}

fn digest() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => Just(String::new()),
        3 => "@sha256:[a-f0-9]{64}",
        1 => "@sha384:[a-f0-9]{96}",
        1 => "@sha512:[a-f0-9]{128}",
        1 => "@[a-zA-Z0-9+._-]{1,10}:[a-fA-F0-9]{30,66}",
    ]
}

/// A reference with up to two characters put in, taken out or replaced.
fn damaged() -> impl Strategy<Value = String> {
    let edit = (
        any::<prop::sample::Index>(),
        0..3_u8,
        prop::sample::select("aZ0._-:/@[]% \u{0}é*".chars().collect::<Vec<_>>()),
    );
    (reference(), proptest::collection::vec(edit, 1..3)).prop_map(|(reference, edits)| {
        let mut characters: Vec<char> = reference.chars().collect();
        for (index, kind, character) in edits {
            let at = index.index(characters.len() + 1);
            match kind {
                0 => characters.insert(at, character),
                1 if at < characters.len() => drop(characters.remove(at)),
                _ if at < characters.len() => characters[at] = character,
                _ => characters.push(character),
            }
        }
        characters.into_iter().collect()
    })
}
