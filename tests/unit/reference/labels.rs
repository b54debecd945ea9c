//! docs/reference/labels.md: labels, annotations, types of Secrets and names, as the code has them.

use std::collections::BTreeSet;

use crate::support::generated::{Part, Row, code};
use crate::support::sources::{Source, sources};

const FILE: &str = "docs/reference/labels.md";

fn texts() -> BTreeSet<String> {
    sources().iter().flat_map(Source::texts).collect()
}

/// `domain/name`, which is no version of an API: those end with `/v1`, `/v1beta1` and the like.
fn is_key(text: &str) -> bool {
    let Some((domain, name)) = text.split_once('/') else {
        return false;
    };
    let is_of = |part: &str, others: &str| {
        !part.is_empty()
            && part
                .chars()
                .all(|letter| letter.is_ascii_alphanumeric() || others.contains(letter))
    };
    let is_version = name
        .strip_prefix('v')
        .is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()));
    domain.contains('.')
        && !domain.starts_with('.')
        && is_of(domain, ".-")
        && is_of(name, "._-")
        && !is_version
}

/// What is named after pullpass: `pullpass`, `00-pullpass`, `pullpass-…`.
fn is_name(text: &str) -> bool {
    let is_part =
        |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-';
    let rest = text
        .strip_prefix("00-")
        .unwrap_or(text)
        .strip_prefix("pullpass");
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-') && rest.chars().all(is_part))
}

/// Whom a token may be for: `api://…`, and AWS's own.
fn is_audience(text: &str) -> bool {
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '.';
    text.strip_prefix("api://")
        .is_some_and(|rest| !rest.is_empty() && rest.chars().all(is_part))
        || text == "sts.amazonaws.com"
}

fn hold(name: &'static str, columns: &[&str], is_it: impl Fn(&str) -> bool) {
    let rows = texts().into_iter().filter(|text| is_it(text));
    let rows: Vec<Row> = rows.map(|text| vec![code(&text)]).collect();
    assert!(!rows.is_empty(), "{name}");
    Part { file: FILE, name }.hold_table(&["name"], columns, rows);
}

#[test]
fn tells_of_every_label_and_annotation() {
    hold("keys", &["kind", "on", "what it is"], is_key);
}

#[test]
fn tells_of_every_name_that_pullpass_gives() {
    hold("names", &["of", "what it is"], is_name);
}

#[test]
fn tells_of_every_audience() {
    hold("audiences", &["what it is for"], is_audience);
}
