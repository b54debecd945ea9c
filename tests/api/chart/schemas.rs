//! kubeconform, by the schemas that an API server shows: a second reader of every field, and of what is not one.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::unwrap_in_result,
    reason = "a test that cannot be set up has failed"
)]

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use serde_json::{Map, Value, json};

/// Has kubeconform judge objects, strictly; an error is what it says of them. `fetch` reads what the API server shows under
/// `/openapi/v2`.
pub(crate) fn conform(
    program: &Path,
    objects: &[Value],
    fetch: impl FnOnce() -> String,
) -> Result<(), String> {
    static DEFINITIONS: OnceLock<Map<String, Value>> = OnceLock::new();
    let definitions = DEFINITIONS.get_or_init(|| {
        let mut shown: Value = serde_json::from_str(&fetch()).unwrap();
        let Value::Object(mut definitions) = shown["definitions"].take() else {
            panic!("no definitions")
        };
        for (name, definition) in &mut definitions {
            match name.as_str() {
                // Numbers are quantities, too.
                "io.k8s.apimachinery.pkg.api.resource.Quantity" => {
                    *definition = json!({"type": ["string", "number"]});
                }
                _ => make_strict(definition),
            }
        }
        definitions
    });
    let folder = tempfile::tempdir().unwrap();
    for object in objects {
        write_schema(folder.path(), object, definitions);
    }
    let location = folder.path().join("{{.ResourceKind}}{{.KindSuffix}}.json");
    let mut kubeconform = Command::new(program)
        .args(["-strict", "-summary", "-schema-location"])
        .arg(location)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = kubeconform.stdin.take().unwrap();
    for object in objects {
        writeln!(stdin, "---\n{object}").unwrap();
    }
    drop(stdin);
    let output = kubeconform.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let valid = format!(
        "Valid: {}, Invalid: 0, Errors: 0, Skipped: 0",
        objects.len()
    );
    if output.status.success() && said.contains(&valid) {
        return Ok(());
    }
    Err(said.into_owned())
}

/// No field but those that are named.
fn make_strict(schema: &mut Value) {
    if schema["format"] == "int-or-string" {
        *schema = json!({"type": ["string", "integer"]});
        return;
    }
    if schema["properties"].is_object() && schema["additionalProperties"].is_null() {
        schema["additionalProperties"] = false.into();
    }
    let Some(schema) = schema.as_object_mut() else {
        return;
    };
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        properties.values_mut().for_each(make_strict);
    }
    for place in ["items", "additionalProperties"] {
        if let Some(inner) = schema.get_mut(place).filter(|inner| inner.is_object()) {
            make_strict(inner);
        }
    }
}

/// Writes the schema of an object's kind where kubeconform looks for it.
fn write_schema(folder: &Path, object: &Value, definitions: &Map<String, Value>) {
    let text = |name: &str| object[name].as_str().unwrap();
    let (group, version) = text("apiVersion")
        .split_once('/')
        .unwrap_or(("", text("apiVersion")));
    let wanted = json!({"group": group, "version": version, "kind": text("kind")});
    let is_wanted = |definition: &Value| {
        let kinds = definition["x-kubernetes-group-version-kind"].as_array();
        kinds.is_some_and(|kinds| kinds.contains(&wanted))
    };
    let found = definitions
        .iter()
        .find(|(_, definition)| is_wanted(definition));
    let (name, _) = found.unwrap_or_else(|| panic!("the API server does not know {wanted}"));
    let mut needed = BTreeMap::new();
    gather(name, definitions, &mut needed);
    let schema = json!({"$ref": format!("#/definitions/{name}"), "definitions": needed});
    let group = group.split('.').next().unwrap_or_default();
    let words = [text("kind"), group, version]
        .into_iter()
        .filter(|word| !word.is_empty());
    let file = words.collect::<Vec<_>>().join("-").to_lowercase();
    std::fs::write(folder.join(format!("{file}.json")), schema.to_string()).unwrap();
}

/// Adds a definition and all that it refers to.
fn gather<'a>(
    name: &'a str,
    definitions: &'a Map<String, Value>,
    needed: &mut BTreeMap<&'a str, &'a Value>,
) {
    let definition = &definitions[name];
    if needed.insert(name, definition).is_some() {
        return;
    }
    let mut rest = vec![definition];
    while let Some(value) = rest.pop() {
        match value {
            Value::Object(fields) => {
                let refers = fields.get("$ref").and_then(Value::as_str);
                if let Some(name) = refers.and_then(|to| to.strip_prefix("#/definitions/")) {
                    gather(name, definitions, needed);
                }
                rest.extend(fields.values());
            }
            Value::Array(values) => rest.extend(values),
            _ => {}
        }
    }
}
