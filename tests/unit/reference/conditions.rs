//! docs/reference/conditions.md: every word that pullpass says why with, and every warning, as the code has them.
//!
//! Reasons are words in CamelCase. Each text of that form in the code, but for the rooms that are left out, has a row in one of the page's
//! tables, by how the code uses it, or is listed here as a word of somebody else's. So none can be said without a row.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::TokenTree;
use pullpass::credential::is_passing_reason;
use serde_json::Value;

use crate::support::generated::{Part, Row, cell, code, read, table};
use crate::support::sources::{
    Source, end_of_item, inner, is_punct, is_word, sources, text_of, walk,
};

const FILE: &str = "docs/reference/conditions.md";

/// Rooms whose words are of other pages: docs/CHECK.md has what `check` finds, registry.md the words of the kind.
const LEFT_OUT: [&str; 2] = ["command", "registry"];

/// Words in CamelCase that are no reasons of pullpass': those of Kubernetes, of clouds, of metrics (docs/reference/metrics.md has these).
const OTHERS: &[(&str, &[&str])] = &[
    (
        "kinds",
        &[
            "AdmissionReview",
            "CredentialProviderRequest",
            "CredentialProviderResponse",
            "DaemonSet",
            "Deployment",
            "Job",
            "Lease",
            "MutatingWebhookConfiguration",
            "Namespace",
            "Pod",
            "Registry",
            "ReplicaSet",
            "ReplicationController",
            "Secret",
            "ServiceAccount",
            "StatefulSet",
            "TaskRun",
            "TokenReview",
            "ValidatingAdmissionPolicy",
            "Workflow",
        ],
    ),
    (
        "values of Kubernetes' fields",
        &[
            "ErrImagePull",
            "False",
            "Image",
            "ImagePullBackOff",
            "JSONPatch",
            "Normal",
            "Opaque",
            "Pending",
            "ResourceVersionTooLarge",
            "True",
            "Unknown",
            "Warning",
        ],
    ),
    (
        "clouds' keys and words",
        &[
            "AccessKeyId",
            "AcrPull",
            "Code",
            "Exception",
            "IPv6",
            "Message",
            "SecretAccessKey",
            "Success",
            "Token",
        ],
    ),
    (
        "outcomes of metrics",
        &[
            "Deleted",
            "Failed",
            "Minted",
            "Served",
            "Succeeded",
            "Written",
        ],
    ),
    (
        "names for the debugger",
        &["Bounded", "LoginId", "Transport"],
    ),
];

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
    "NotServed",
    "NotTried",
    "Outranked",
    "Provisioned",
    "Provisioning",
    "ServedByNode",
    "Suspended",
];

/// What the code uses a word as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Role {
    ConditionType,
    Reason,
    EventReason,
    Action,
    Skip,
    Denial,
}

type Words = BTreeMap<Role, BTreeSet<String>>;

fn is_camel_case(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_uppercase())
        && text.contains(|letter: char| letter.is_ascii_lowercase())
        && text.chars().all(|letter| letter.is_ascii_alphanumeric())
}

fn is_other(word: &str) -> bool {
    OTHERS.iter().any(|(_, words)| words.contains(&word))
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
fn is_value_of(tokens: &[TokenTree], at: usize, field: &str) -> bool {
    at >= 2 && is_punct(tokens.get(at - 1), ':') && is_word(tokens.get(at - 2), field)
}

/// Reads the words of one file's tokens; `within` is what the group is of: a struct's or a function's name.
fn read_words(path: &str, tokens: &[TokenTree], within: &str, uses: &Uses, words: &mut Words) {
    for (at, token) in tokens.iter().enumerate() {
        if let TokenTree::Group(group) = token {
            let name = at.checked_sub(1).map(|before| tokens[before].to_string());
            read_words(path, &inner(group), &name.unwrap_or_default(), uses, words);
        }
        let Some(word) = text_of(token).filter(|text| is_camel_case(text) && !is_other(text))
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
fn find_files() -> Vec<Source> {
    let room = |source: &Source| source.path.split(['/', '.']).next().map(str::to_owned);
    let is_here = |source: &Source| room(source).is_some_and(|room| !LEFT_OUT.contains(&&*room));
    sources().into_iter().filter(is_here).collect()
}

fn find_words() -> Words {
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
        path: "controller/x.rs".to_owned(),
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
                let kind = "Pod";
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
    assert_eq!(of(Role::Reason), ["Lost", "No", "Other"]);
}

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
    } else if has("passing") && has("lasting") {
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
        &["reason"],
        &["on", "type", "meaning", "what to do"],
        rows(Role::EventReason),
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

/// The kind's reasons and those of single words: none of somebody else's words is one that the code no longer has.
#[test]
fn lists_no_word_of_others_that_the_code_does_not_have() {
    let texts: BTreeSet<String> = find_files().iter().flat_map(Source::texts).collect();
    let words = OTHERS.iter().flat_map(|(_, words)| *words);
    let gone: Vec<_> = words
        .chain(&FINE)
        .filter(|word| !texts.contains(**word))
        .collect();
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
