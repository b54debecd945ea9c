//! The manifests that documents show.

use std::path::Path;

use serde_json::Value;

/// The YAML documents that a document shows, in its order.
pub fn of_document(name: &str) -> Vec<Value> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    let text = std::fs::read_to_string(file).unwrap();
    let blocks = text
        .split("```yaml\n")
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap());
    blocks
        .flat_map(|block| {
            serde_saphyr::from_multiple::<Value>(block)
                .unwrap_or_else(|error| panic!("{name}: {error}:\n{block}"))
        })
        .collect()
}

/// The object of this kind that `is_it` says.
pub fn find(name: &str, kind: &str, is_it: impl Fn(&Value) -> bool) -> Value {
    let mut all = of_document(name).into_iter();
    let found = all.find(|object| object["kind"] == kind && is_it(object));
    found.unwrap_or_else(|| panic!("{name} shows no such {kind}"))
}
