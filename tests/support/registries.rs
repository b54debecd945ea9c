//! The table of Registries and what is wrong with each of them.

use serde::Deserialize;
use serde_json::{Value, json};

/// A row of the table.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    #[serde(rename = "case")]
    pub title: String,
    #[serde(default = "any_name")]
    pub name: String,
    pub spec: Value,
    #[serde(default)]
    pub fields: Vec<String>,
    #[serde(default)]
    pub unreadable: bool,
    #[serde(default)]
    pub server: Option<String>,
}

fn any_name() -> String {
    "any".to_owned()
}

impl Case {
    pub fn object(&self) -> Value {
        json!({
            "apiVersion": "pullpass.dev/v1alpha1",
            "kind": "Registry",
            "metadata": {"name": self.name},
            "spec": self.spec,
        })
    }

    /// Whether API servers take it.
    pub fn is_accepted(&self) -> bool {
        let is_valid = self.fields.is_empty() && !self.unreadable;
        is_valid || self.server.as_deref() == Some("accepts")
    }
}

pub fn cases() -> Vec<Case> {
    let cases: Vec<Case> =
        serde_saphyr::from_str(include_str!("../data/registries.yaml")).expect("the table is YAML");
    assert!(cases.len() >= 40, "the table lost rows: {}", cases.len());
    cases
}
