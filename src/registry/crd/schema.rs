//! The parts of the kind's schema that no derive writes, and the definition for the API server.

use std::collections::BTreeMap;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::CustomResourceExt;
use serde_json::json;

use super::{PATTERN_MAX, Registry};

/// The schema of a pattern: its form, as far as a schema can say it.
pub(super) fn pattern() -> serde_json::Value {
    const LABEL: &str = "([*]|[a-z0-9]([a-z0-9-]*[a-z0-9])?)";
    const PATH: &str = "(/[a-z0-9]+(([.]|_|__|-+)[a-z0-9]+)*)*";
    let form =
        format!("^({LABEL}([.]{LABEL})*(:[0-9]{{1,5}})?|[[][0-9a-f:]+[]]:[0-9]{{1,5}}){PATH}$");
    let rules = json!([
        {
            "rule": format!("self.matches('{form}')"),
            "message": "write host or host/path in lower case: no scheme, tag, digest or / at the end, * for a whole label of the host",
        },
        {
            "rule": "self.split('/')[0].matches('[.:]|^localhost$') && !self.matches('^index[.]docker[.]io(/|$)')",
            "message": "start with a registry's host, for Docker Hub with docker.io",
        },
    ]);
    json!({"type": "string", "maxLength": PATTERN_MAX, "x-kubernetes-validations": rules})
}

/// A label's value.
pub(super) const LABEL_VALUE: &str = "^([A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?)?$";

/// The rules for keys of labels and annotations to inject, as far as a schema can say them.
pub(super) fn injected_key_rules() -> serde_json::Value {
    const PREFIX: &str = "[a-z0-9]([a-z0-9-]*[a-z0-9])?([.][a-z0-9]([a-z0-9-]*[a-z0-9])?)*/";
    const NAME: &str = "[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?";
    json!([
        {
            "rule": format!("self.all(key, key.size() <= 317 && key.matches('^({PREFIX})?{NAME}$'))"),
            "message": "write keys as name or prefix/name",
        },
        {
            "rule": "self.all(key, !key.matches('(^|[.])(pullpass[.]dev|kubernetes[.]io|k8s[.]io)/'))",
            "message": "keys under pullpass.dev, kubernetes.io and k8s.io steer Kubernetes or pullpass: take others",
        },
    ])
}

/// The definition of the Registry kind for the API server.
///
/// It is the derived one without what API servers refuse (`additionalProperties: false`) and without `nullable`, so that they drop
/// a null as this program does.
pub fn definition() -> CustomResourceDefinition {
    let mut definition = Registry::crd();
    for version in &mut definition.spec.versions {
        let schema = version
            .schema
            .as_mut()
            .and_then(|schema| schema.open_api_v3_schema.as_mut());
        if let Some(schema) = schema {
            simplify(schema);
        }
    }
    definition
}

fn simplify(schema: &mut JSONSchemaProps) {
    schema.nullable = None;
    match &mut schema.additional_properties {
        Some(JSONSchemaPropsOrBool::Bool(false)) => schema.additional_properties = None,
        Some(JSONSchemaPropsOrBool::Schema(values)) => simplify(values),
        _ => {}
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
        simplify(items);
    }
    schema
        .properties
        .iter_mut()
        .flat_map(BTreeMap::values_mut)
        .for_each(simplify);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Walks a schema and collects what its fields' descriptions do not say.
    ///
    /// Every field has one; what may be left out says `Default: `; a text or number that is none of listed values says `Form: `.
    fn find_unsaid(path: &str, schema: &JSONSchemaProps, unsaid: &mut Vec<String>) {
        let required = schema.required.clone().unwrap_or_default();
        for (name, field) in schema.properties.iter().flatten() {
            let path = format!("{path}.{name}");
            let said = field.description.as_deref().unwrap_or_default();
            let mut ask = |has: bool, what: &str| {
                if !has {
                    unsaid.push(format!("{path}: {what}"));
                }
            };
            ask(!said.is_empty(), "description");
            // Status is read-only for users: pullpass writes all of it.
            let is_optional = path.starts_with("spec.") && !required.contains(name);
            ask(!is_optional || said.contains("Default: "), "Default");
            let is_scalar = matches!(field.type_.as_deref(), Some("string" | "integer"));
            let is_free = is_scalar && field.enum_.is_none();
            ask(!is_free || said.contains("Form: "), "Form");
            find_unsaid(&path, field, unsaid);
            if let Some(JSONSchemaPropsOrArray::Schema(items)) = &field.items {
                // The fields of conditions are Kubernetes' own, as are their descriptions.
                if path != "status.conditions" {
                    find_unsaid(&format!("{path}[]"), items, unsaid);
                }
            }
        }
    }

    #[test]
    fn says_default_and_form_of_every_field() {
        let definition = definition();
        let schema = definition.spec.versions[0].schema.as_ref().unwrap();
        let schema = schema.open_api_v3_schema.as_ref().unwrap();
        let properties = schema.properties.as_ref().unwrap();
        let mut unsaid = Vec::new();
        let mut fields = 0;
        for part in ["spec", "status"] {
            let part_schema = &properties[part];
            fields += part_schema.properties.as_ref().unwrap().len();
            find_unsaid(part, part_schema, &mut unsaid);
        }
        assert!(fields > 10, "{fields}");
        assert!(unsaid.is_empty(), "{}", unsaid.join("\n"));
    }
}
