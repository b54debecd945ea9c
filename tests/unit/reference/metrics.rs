//! docs/reference/metrics.md: a row for each metric that the code registers. Types, labels and their values are compared with what a
//! running pullpass shows (`metrics::documents_every_metric_and_no_other`, which needs an API server).

use std::collections::BTreeSet;

use proc_macro2::TokenTree;

use crate::support::generated::{Row, read, rows};
use crate::support::sources::{inner, is_word, sources, text_of, walk};

const FILE: &str = "docs/reference/metrics.md";

fn is_name(text: &str) -> bool {
    let is_ours = text.starts_with("pullpass_") || text.starts_with("process_");
    is_ours
        && text
            .chars()
            .all(|one| one == '_' || one.is_ascii_lowercase())
}

/// The names that the code registers, as the page has them but for `_total`.
fn find_registered() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for source in sources() {
        let is_table = source.path.contains("metric");
        walk(&source.tokens(), &mut |tokens, at| {
            let is_call = ["register", "register_sampled", "register_info"]
                .iter()
                .any(|name| is_word(tokens.get(at), name));
            if let (true, Some(TokenTree::Group(group))) = (is_call, tokens.get(at + 1)) {
                let texts = inner(group).into_iter().filter_map(|token| text_of(&token));
                found.extend(texts.filter(|text| is_name(text)));
            }
            // Those that are read when they are asked for stand in tables.
            let text = tokens.get(at).filter(|_| is_table).and_then(text_of);
            found.extend(text.filter(|text| is_name(text)));
        });
    }
    found
}

/// A name as the code has it: what OpenMetrics puts behind it left out.
fn without_suffix(name: &str) -> &str {
    let mut suffixes = ["_total", "_info"].iter();
    let short = suffixes.find_map(|suffix| name.strip_suffix(suffix));
    short.unwrap_or(name)
}

#[test]
fn has_a_row_for_each_metric_and_for_no_other() {
    let text = read(FILE);
    let documented = rows(&text).into_iter().filter_map(|cells| {
        let name = cells[0].strip_prefix('`')?.strip_suffix('`')?;
        let name = without_suffix(name);
        is_name(name).then(|| name.to_owned())
    });
    let documented: BTreeSet<String> = documented.collect();
    let registered = find_registered();
    assert!(registered.len() > 20, "{registered:?}");
    let missing: Vec<_> = registered.difference(&documented).collect();
    assert!(missing.is_empty(), "{FILE} lacks a row for {missing:?}");
    let gone: Vec<_> = documented.difference(&registered).collect();
    assert!(
        gone.is_empty(),
        "{FILE} has rows of metrics that no code registers: {gone:?}"
    );
    let help = read("src/metric/help.txt");
    let help = help.lines().filter_map(|line| line.split(' ').next());
    let help: BTreeSet<String> = help.map(str::to_owned).collect();
    assert_eq!(help, registered, "src/metric/help.txt on the left");
}

/// Each label of a metric has a row that says its values, and what is counted in seconds says so.
#[test]
fn tells_the_values_of_every_label_and_the_unit() {
    let all = rows(&read(FILE));
    let mut labels: BTreeSet<(String, String)> = BTreeSet::new();
    for cells in &all {
        let is_metric = cells[0].starts_with("`pullpass_");
        let [name, _, unit, of_metric, _] = &cells[..] else {
            assert!(
                !is_metric || cells.len() == 3,
                "{FILE}: the row of {} has not the cells metric, type, unit, labels, meaning",
                cells[0]
            );
            continue;
        };
        let of_metric = of_metric
            .split(',')
            .map(str::trim)
            .filter(|label| !label.is_empty());
        labels.extend(of_metric.map(|label| (name.clone(), label.to_owned())));
        assert!(!unit.is_empty(), "{FILE}: {name} has no unit");
        let is_time = name.contains("_seconds");
        assert_eq!(is_time, unit == "seconds", "{FILE}: the unit of {name}");
    }
    let told = all.iter().filter(|cells: &&Row| cells.len() == 3);
    let told: BTreeSet<(String, String)> = told
        .map(|cells| (cells[0].clone(), cells[1].clone()))
        .collect();
    assert!(!labels.is_empty());
    assert_eq!(
        labels, told,
        "{FILE}: labels of metrics on the left, the table of values on the right"
    );
}
