//! docs/reference/registry.md: the kind, field by field, from its definition. Its examples are those of examples/, which the validator takes
//! (`registries::finds_nothing_wrong_with_the_examples`).

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use pullpass::registry::crd::definition;
use serde_json::Value;

use crate::support::generated::{Part, Row, cell, code, table};

const FILE: &str = "docs/reference/registry.md";

/// The longest example of a field whose fields have examples of their own, in bytes.
const LONGEST_EXAMPLE: usize = 80;

fn part(name: &'static str) -> Part {
    Part { file: FILE, name }
}

fn read_definition() -> Value {
    serde_json::to_value(definition()).unwrap()
}

fn schema_of(definition: &Value, of: &str) -> Value {
    let properties = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"];
    properties[of].clone()
}

/// The Registries of examples/.
fn read_examples() -> Vec<Value> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    // What people read first comes first.
    files.sort_by_key(|path| (!path.ends_with("registries.yaml"), path.clone()));
    let read = |path| -> Vec<Value> {
        serde_saphyr::from_multiple(&fs::read_to_string(path).unwrap()).unwrap()
    };
    let documents = files.iter().flat_map(read);
    documents.filter(|one| one["kind"] == "Registry").collect()
}

/// What a field's description says, in three: what it is, its form, its default.
struct Said {
    what: String,
    form: String,
    default: String,
}

fn read_description(schema: &Value) -> Said {
    let text = cell(schema["description"].as_str().unwrap_or_default());
    let (text, default) = split_off(&text, "Default: ");
    let (what, form) = split_off(&text, "Form: ");
    Said {
        what,
        form,
        default,
    }
}

/// Takes a text apart where one of its sentences begins with these words; what ends it is left out.
fn split_off(text: &str, words: &str) -> (String, String) {
    let (before, after) = text.split_once(words).unwrap_or((text, ""));
    let after = after.trim().trim_end_matches('.');
    (before.trim().to_owned(), after.to_owned())
}

/// The form of a field whose description says none.
fn form_of(schema: &Value) -> String {
    if let Some(words) = schema["enum"].as_array() {
        let words: Vec<String> = words
            .iter()
            .map(|word| code(word.as_str().unwrap()))
            .collect();
        return words.join(", ");
    }
    match schema["type"].as_str() {
        Some("boolean") => "`true` or `false`".to_owned(),
        Some("array") => "a list".to_owned(),
        Some("object") if schema["additionalProperties"].is_object() => "a map".to_owned(),
        Some("object") => "a map of the fields below".to_owned(),
        _ => String::new(),
    }
}

/// A field of a schema, with the names that lead to it; `[]` is an item of a list.
struct Field {
    path: Vec<String>,
    schema: Value,
    is_required: bool,
}

impl Field {
    fn name(&self) -> String {
        self.path.join(".").replace(".[]", "[]")
    }

    /// Whether it holds no fields that are told of themselves.
    fn is_leaf(&self) -> bool {
        let items = &self.schema["items"]["properties"];
        !self.schema["properties"].is_object() && !items.is_object()
    }
}

fn find_fields(path: &[String], schema: &Value, found: &mut Vec<Field>) {
    let required = schema["required"].as_array();
    for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
        let path = [path, std::slice::from_ref(name)].concat();
        let is_required = required.is_some_and(|names| names.iter().any(|one| one == name));
        found.push(Field {
            path: path.clone(),
            schema: inner.clone(),
            is_required,
        });
        // The fields of a condition are Kubernetes' own.
        if name != "conditions" {
            find_fields(&path, inner, found);
            find_fields(
                &[path, vec!["[]".to_owned()]].concat(),
                &inner["items"],
                found,
            );
        }
    }
}

/// The first value that a document holds at a path.
fn find_value<'v>(value: &'v Value, path: &[String]) -> Option<&'v Value> {
    let Some((name, rest)) = path.split_first() else {
        return Some(value);
    };
    match &**name {
        "[]" => value
            .as_array()?
            .iter()
            .find_map(|one| find_value(one, rest)),
        name => find_value(value.get(name)?, rest),
    }
}

/// A value as YAML holds it in one line; `None`: it is too long for a table, and its fields are told of themselves.
fn write_value(field: &Field, value: &Value) -> Option<String> {
    let text = match value {
        Value::String(text) => text.clone(),
        value => value.to_string(),
    };
    (field.is_leaf() || text.len() <= LONGEST_EXAMPLE).then_some(text)
}

fn make_spec(definition: &Value) -> String {
    let mut fields = Vec::new();
    find_fields(
        &["spec".to_owned()],
        &schema_of(definition, "spec"),
        &mut fields,
    );
    let documents = read_examples();
    let mut lacking = Vec::new();
    let mut rows = Vec::new();
    for field in &fields {
        let found = documents
            .iter()
            .find_map(|one| find_value(one, &field.path));
        if found.is_none() && field.is_leaf() {
            lacking.push(field.name());
        }
        let Said {
            what,
            form,
            default,
        } = read_description(&field.schema);
        let form = if form.is_empty() {
            form_of(&field.schema)
        } else {
            form
        };
        let default = if field.is_required {
            "required".to_owned()
        } else {
            default
        };
        let example = found.and_then(|found| write_value(field, found));
        let example = example.map_or_else(|| "as below".to_owned(), |text| code(&text));
        rows.push(vec![code(&field.name()), what, form, default, example]);
    }
    assert!(
        lacking.is_empty(),
        "no file of examples/ shows {}: add each to a Registry of examples/further-fields.yaml",
        lacking.join(", ")
    );
    table(
        &["field", "what it is", "form", "default", "example"],
        &rows,
    )
}

fn make_status(definition: &Value) -> String {
    let mut fields = Vec::new();
    find_fields(
        &["status".to_owned()],
        &schema_of(definition, "status"),
        &mut fields,
    );
    let make = |field: &Field| -> Row {
        let Said { what, form, .. } = read_description(&field.schema);
        let form = if form.is_empty() {
            form_of(&field.schema)
        } else {
            form
        };
        vec![code(&field.name()), what, form]
    };
    let rows: Vec<Row> = fields.iter().map(make).collect();
    table(&["field", "what it is", "form"], &rows)
}

/// Rules that more than one field take part in, and where they hold.
fn find_rules(path: &str, schema: &Value, rows: &mut Vec<Row>) {
    for rule in schema["x-kubernetes-validations"]
        .as_array()
        .into_iter()
        .flatten()
    {
        let message = rule["message"].as_str().unwrap_or_default();
        rows.push(vec![code(path), cell(message)]);
    }
    for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
        find_rules(
            &format!("{path}.{name}").replace("Registry.", ""),
            inner,
            rows,
        );
    }
    if schema["items"].is_object() {
        find_rules(&format!("{path}[]"), &schema["items"], rows);
    }
}

fn make_names(definition: &Value) -> String {
    let spec = &definition["spec"];
    let names = &spec["names"];
    let version = &spec["versions"][0];
    let group = spec["group"].as_str().unwrap();
    let words = |list: &Value| -> String {
        let words = list.as_array().into_iter().flatten();
        let words: Vec<String> = words.filter_map(Value::as_str).map(code).collect();
        words.join(", ")
    };
    let mut text = String::new();
    let api_version = format!("{group}/{}", version["name"].as_str().unwrap());
    for (what, value) in [
        ("`apiVersion`", code(&api_version)),
        ("`kind`", code(names["kind"].as_str().unwrap())),
        ("scope", code(spec["scope"].as_str().unwrap())),
        (
            "names for kubectl",
            [
                code(names["plural"].as_str().unwrap()),
                words(&names["shortNames"]),
            ]
            .join(", "),
        ),
        ("categories", words(&names["categories"])),
    ] {
        let _ = writeln!(text, "- {what}: {value}");
    }
    text
}

fn make_columns(definition: &Value) -> String {
    let columns = definition["spec"]["versions"][0]["additionalPrinterColumns"].as_array();
    let make = |column: &Value| -> Row {
        let shown = match column["priority"].as_i64() {
            Some(1..) => "with `-o wide`",
            _ => "always",
        };
        let text = |key: &str| column[key].as_str().unwrap().to_owned();
        vec![
            text("name").to_uppercase(),
            code(&text("jsonPath")),
            shown.to_owned(),
        ]
    };
    let rows: Vec<Row> = columns.unwrap().iter().map(make).collect();
    table(&["column", "field", "shown"], &rows)
}

#[test]
fn describes_every_field_with_form_default_and_example() {
    let definition = read_definition();
    part("names").hold(&make_names(&definition));
    part("spec").hold(&make_spec(&definition));
    part("status").hold(&make_status(&definition));
    part("columns").hold(&make_columns(&definition));
    let mut rules = Vec::new();
    let root = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    find_rules("Registry", root, &mut rules);
    assert!(rules.len() > 10, "{rules:?}");
    part("rules").hold(&table(
        &["of", "what is refused otherwise, and what to do"],
        &rules,
    ));
}
