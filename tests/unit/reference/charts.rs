//! The charts' READMEs: their tables of values are made of values.yaml, its comments and the schema.

use std::fmt::Write as _;

use serde_json::Value;

use crate::support::generated::{self, Part};

/// Charts, by their folder, and the READMEs' parts.
const CHARTS: [(&str, Part); 2] = [
    (
        "chart",
        Part {
            file: "manifests/chart/README.md",
            name: "values",
        },
    ),
    (
        "chart-registries",
        Part {
            file: "manifests/chart-registries/README.md",
            name: "values",
        },
    ),
];

fn read(chart: &str, file: &str) -> String {
    generated::read(&format!("manifests/{chart}/{file}"))
}

/// A key of values.yaml, with the comment above it.
struct Entry {
    path: Vec<String>,
    comment: String,
}

/// The keys of a file in which maps are written one key a line, but for those in braces.
fn find_entries(text: &str) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut path: Vec<(usize, String)> = Vec::new();
    let mut comment: Vec<&str> = Vec::new();
    for line in text.lines() {
        let inner = line.trim_start();
        let depth = line.len() - inner.len();
        if let Some(words) = inner.strip_prefix('#') {
            comment.push(words.strip_prefix(' ').unwrap_or(words));
        } else if let Some((key, _)) = inner
            .split_once(':')
            .filter(|_| !inner.starts_with(['-', '{']))
        {
            path.retain(|(known, _)| *known < depth);
            path.push((depth, key.trim_matches('"').to_owned()));
            entries.push(Entry {
                path: path.iter().map(|(_, key)| key.clone()).collect(),
                comment: std::mem::take(&mut comment).join("\n"),
            });
        } else {
            comment.clear();
        }
    }
    entries
}

/// What the schema says of a value; `None`: it is a text, a list, or whatever the user likes.
fn find_schema<'a>(schema: &'a Value, path: &[String]) -> Option<&'a Value> {
    let mut current = schema;
    for key in path {
        current = current["properties"].get(key)?;
        if let Some(place) = current["$ref"].as_str() {
            current = schema.pointer(place.strip_prefix('#')?)?;
        }
    }
    Some(current)
}

/// Whether it is a map whose values are described one by one: those that are written in braces, and Kubernetes' own contexts, are not.
fn is_map_of_values(entries: &[Entry], schema: &Value, path: &[String]) -> bool {
    let is_context = path.last().is_some_and(|key| key.ends_with("ontext"));
    let mut inner = entries.iter().filter(|entry| entry.path.len() > path.len());
    let is_block = inner.any(|entry| entry.path.starts_with(path));
    let known = find_schema(schema, path);
    !is_context && is_block && known.is_some_and(|schema| schema["properties"].is_object())
}

/// A comment in one cell of a table.
fn describe(comment: &str) -> String {
    let mut said = String::new();
    for line in comment.lines() {
        // An example, one line of it after the other.
        if let Some(code) = line.strip_prefix("  ") {
            let end = if said.is_empty() { "" } else { "<br>" };
            let indented = code.len() - code.trim_start().len();
            let _ = write!(
                said,
                "{end}{}`{}`",
                "&nbsp;".repeat(indented),
                code.trim_start()
            );
        } else {
            let end = if said.is_empty() { "" } else { " " };
            let _ = write!(said, "{end}{line}");
        }
    }
    said.replace('|', "\\|")
}

fn make_table(chart: &str) -> String {
    let text = read(chart, "values.yaml");
    let values: Value = serde_saphyr::from_str(&text).unwrap();
    let schema: Value = serde_json::from_str(&read(chart, "values.schema.json")).unwrap();
    let mut table = "| value | default | what it is |\n|---|---|---|\n".to_owned();
    // Of a map of values the comment is said beside its first value.
    let mut above = String::new();
    let entries = find_entries(&text);
    for Entry { path, comment } in &entries {
        let (_, outer) = path.split_last().unwrap();
        if !outer.is_empty() && !is_map_of_values(&entries, &schema, outer) {
            continue;
        }
        let comment = describe(comment);
        let said = [above.as_str(), comment.as_str()].join(" ");
        let said = said.trim();
        if is_map_of_values(&entries, &schema, path) {
            said.clone_into(&mut above);
            continue;
        }
        let default = values.pointer(&format!("/{}", path.join("/"))).unwrap();
        let default = default.to_string().replace('|', "\\|");
        let _ = writeln!(table, "| `{}` | `{default}` | {said} |", path.join("."));
        above.clear();
    }
    table
}

#[test]
fn holds_in_its_readme_what_its_values_say() {
    for (chart, part) in CHARTS {
        part.hold(&make_table(chart));
    }
}

/// Each value that the schema knows is one of values.yaml, and so in the README.
#[test]
fn names_every_value_that_its_schema_knows() {
    fn gather(entries: &[Entry], schema: &Value, path: &mut Vec<String>, known: &mut Vec<String>) {
        if !path.is_empty() && !is_map_of_values(entries, schema, path) {
            known.push(path.join("."));
            return;
        }
        let here = find_schema(schema, path).unwrap();
        for key in here["properties"].as_object().unwrap().keys() {
            path.push(key.clone());
            gather(entries, schema, path, known);
            path.pop();
        }
    }
    for (chart, _) in CHARTS {
        let schema: Value = serde_json::from_str(&read(chart, "values.schema.json")).unwrap();
        let table = make_table(chart);
        let mut known = Vec::new();
        let entries = find_entries(&read(chart, "values.yaml"));
        gather(&entries, &schema, &mut Vec::new(), &mut known);
        assert!(known.len() > 5, "{chart}: {known:?}");
        let missing = known
            .iter()
            .filter(|name| !table.contains(&format!("| `{name}` |")));
        assert_eq!(missing.collect::<Vec<_>>(), [""; 0], "{chart}");
    }
}
