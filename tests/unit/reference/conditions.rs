//! docs/reference/conditions.md: every word that pullpass says why with, and every warning, as the code has them.
//!
//! Reasons are words in CamelCase. Each text of that form in the code, but for the rooms that are left out, has a row in one of the page's
//! tables, by how the code uses it, or is listed as a word of somebody else's in that file. So none can be said without a row.

mod events;
mod made;
mod others;
mod words;

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::TokenTree;
use pullpass::credential::is_passing_reason;
use serde_json::Value;

use crate::support::generated::{Part, Row, cell, code, read, table};
use crate::support::sources::{Source, end_of_item, is_word, sources, text_of, walk};
use words::{Role, find_files, find_words};

const FILE: &str = "docs/reference/conditions.md";

/// Functions elsewhere whose words the webhooks warn with.
const WARN: [(&str, &str); 2] = [
    ("provision/namespace.rs", "describe_unknown_inject"),
    ("provision/write.rs", "missing_rbac"),
];

/// Reasons that say that nothing is wrong.
const FINE: [&str; 12] = [
    "AsExpected",
    "DryRun",
    "LoginNotRequired",
    "LoginTaken",
    "NoNamespacesYet",
    "NotObserved",
    "NotTried",
    "Outranked",
    "Provisioned",
    "Provisioning",
    "ServedByNode",
    "Suspended",
];

/// Reasons of two meanings: a review's passes, the broker's does not.
const DIFFERS: [&str; 1] = ["NotServed"];

/// What the table of the clouds' answers says of each reason: whether it passes.
fn read_answers() -> BTreeMap<String, BTreeSet<String>> {
    let rows: Vec<Value> = serde_saphyr::from_str(&read("src/credential/answers.yaml")).unwrap();
    let mut known: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for row in rows {
        let text = |key: &str| row[key].as_str().unwrap().to_owned();
        known
            .entry(text("reason"))
            .or_default()
            .insert(text("lasts"));
    }
    known
}

/// Whether a reason passes without anybody's doing.
fn describe_passing(word: &str, answers: &BTreeMap<String, BTreeSet<String>>) -> &'static str {
    let lasts = answers.get(word);
    let has = |what: &str| lasts.is_some_and(|lasts| lasts.contains(what));
    if FINE.contains(&word) {
        "nothing is wrong"
    } else if DIFFERS.contains(&word) || has("passing") && has("lasting") {
        "as the message says"
    } else if has("passing") || is_passing_reason(word) {
        "yes"
    } else {
        "no"
    }
}

fn hold(name: &'static str, made: &[&str], written: &[&str], rows: Vec<Row>) {
    assert!(!rows.is_empty(), "{name}");
    Part { file: FILE, name }.hold_table(made, written, rows);
}

#[test]
fn tells_of_every_condition_reason_and_event() {
    let words = find_words();
    let rows = |role| -> Vec<Row> { words[&role].iter().map(|word| vec![code(word)]).collect() };
    hold(
        "types",
        &["condition"],
        &["`True` means", "what to do"],
        rows(Role::ConditionType),
    );
    let answers = read_answers();
    let reasons = words[&Role::Reason].iter();
    let reasons: Vec<Row> = reasons
        .map(|word| vec![code(word), describe_passing(word, &answers).to_owned()])
        .collect();
    hold(
        "reasons",
        &["reason", "passes by itself"],
        &["meaning", "what to do"],
        reasons,
    );
    hold(
        "events",
        &["reason", "on", "type"],
        &["meaning", "what to do"],
        events::make_rows(&words),
    );
    hold(
        "actions",
        &["action"],
        &["what pullpass did"],
        rows(Role::Action),
    );
    hold(
        "skips",
        &["reason"],
        &["meaning", "what to do"],
        rows(Role::Skip),
    );
    hold(
        "denials",
        &["reason"],
        &["code", "meaning", "what to do"],
        rows(Role::Denial),
    );
}

/// Every condition that the kind's own description names, and no other.
#[test]
fn names_the_conditions_that_the_kind_does() {
    let crd: Value = serde_saphyr::from_str(&read("manifests/crd.yaml")).unwrap();
    let said = crd
        .pointer("/spec/versions/0/schema/openAPIV3Schema/properties/status/properties/conditions/description")
        .and_then(Value::as_str)
        .unwrap();
    let named = said.split('`').skip(1).step_by(2);
    let named: BTreeSet<String> = named.map(str::to_owned).collect();
    assert_eq!(named, find_words()[&Role::ConditionType]);
}

/// None of the words that are listed here is one that the code no longer has.
#[test]
fn lists_no_reason_that_the_code_does_not_have() {
    let texts: BTreeSet<String> = find_files().iter().flat_map(Source::texts).collect();
    let words = FINE.iter().chain(&DIFFERS);
    let gone: Vec<_> = words.filter(|word| !texts.contains(**word)).collect();
    assert_eq!(gone, Vec::<&&str>::new());
}

/// A text of the code with `…` where something is filled in.
fn write_warning(text: &str) -> String {
    let text = text.replace("{INJECT_LABEL}", "pullpass.dev/inject");
    let mut written = String::new();
    let mut depth = 0;
    for letter in text.chars() {
        match letter {
            '{' => {
                if depth == 0 {
                    written.push('…');
                }
                depth += 1;
            }
            '}' => depth -= 1,
            letter if depth == 0 => written.push(letter),
            _ => {}
        }
    }
    written
}

/// The texts in the body of a function.
fn find_texts_of(tokens: &[TokenTree], function: &str) -> Vec<String> {
    let mut found = Vec::new();
    walk(tokens, &mut |tokens, at| {
        if is_word(tokens.get(at), "fn") && is_word(tokens.get(at + 1), function) {
            let body = &tokens[at..end_of_item(tokens, at)];
            walk(body, &mut |tokens, at| found.extend(text_of(&tokens[at])));
        }
    });
    found
}

#[test]
fn tells_of_every_warning_of_the_webhooks() {
    let mut found = BTreeSet::new();
    for source in sources() {
        if source.path.starts_with("admission") {
            let texts = source.texts().into_iter();
            let warnings = texts.filter(|text| text.starts_with("pullpass: "));
            found.extend(warnings.map(|text| write_warning(&text)));
        }
    }
    // What is all filled in is told of by the reasons, and by these.
    found.retain(|text| !["pullpass: …", "pullpass: ……"].contains(&text.as_str()));
    for (file, function) in WARN {
        let all = sources();
        let source = all.iter().find(|source| source.path == file).unwrap();
        let texts = find_texts_of(&source.tokens(), function);
        assert!(!texts.is_empty(), "{file} has no {function}");
        let warnings = texts.iter().map(|text| write_warning(text));
        found.extend(warnings.map(|text| format!("pullpass: {text}")));
    }
    let rows: Vec<Row> = found.iter().map(|text| vec![code(text)]).collect();
    assert!(rows.len() > 10, "{rows:?}");
    hold(
        "warnings",
        &["warning or refusal"],
        &["when", "what to do"],
        rows,
    );
}

/// What the chart's policies on the API server refuse or warn of.
#[test]
fn tells_of_every_message_of_the_policies() {
    let objects: Vec<Value> = serde_saphyr::from_multiple(&read("manifests/rbac.yaml")).unwrap();
    let of_kind = |kind: &'static str| objects.iter().filter(move |one| one["kind"] == kind);
    let mut rows = Vec::new();
    for policy in of_kind("ValidatingAdmissionPolicy") {
        let name = policy["metadata"]["name"].as_str().unwrap();
        let binding = of_kind("ValidatingAdmissionPolicyBinding")
            .find(|one| one["spec"]["policyName"] == name);
        let actions = binding.unwrap()["spec"]["validationActions"]
            .as_array()
            .unwrap();
        let actions: Vec<&str> = actions.iter().filter_map(Value::as_str).collect();
        for rule in policy["spec"]["validations"].as_array().unwrap() {
            let message = cell(rule["message"].as_str().unwrap_or_default());
            rows.push(vec![code(name), actions.join(", "), message]);
        }
    }
    assert!(rows.len() > 15, "{rows:?}");
    let part = Part {
        file: FILE,
        name: "policies",
    };
    part.hold(&table(&["policy", "action", "message"], &rows));
}
