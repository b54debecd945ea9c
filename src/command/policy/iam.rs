//! Policies of AWS IAM, in the order of their parts in which people write them.

use std::collections::BTreeMap;

use serde::Serialize;

/// A policy document.
///
/// <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements.html>
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Policy {
    version: &'static str,
    statement: Vec<Statement>,
}

/// A statement.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Statement {
    sid: &'static str,
    effect: &'static str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    principal: BTreeMap<&'static str, String>,
    action: Vec<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    resource: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    condition: BTreeMap<&'static str, BTreeMap<String, Vec<String>>>,
}

impl Policy {
    pub(super) fn of(statement: impl IntoIterator<Item = Statement>) -> Self {
        Self {
            version: "2012-10-17",
            statement: statement.into_iter().collect(),
        }
    }
}

impl Statement {
    pub(super) fn allow(sid: &'static str, action: &[&'static str]) -> Self {
        Self::new("Allow", sid, action)
    }

    /// What takes away from all that any statement of the principal allows.
    ///
    /// <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html>
    pub(super) fn deny(sid: &'static str, action: &[&'static str]) -> Self {
        Self::new("Deny", sid, action)
    }

    fn new(effect: &'static str, sid: &'static str, action: &[&'static str]) -> Self {
        Self {
            sid,
            effect,
            principal: BTreeMap::new(),
            action: action.to_vec(),
            resource: Vec::new(),
            condition: BTreeMap::new(),
        }
    }

    /// On these resources.
    pub(super) fn on(self, resource: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            resource: resource.into_iter().map(Into::into).collect(),
            ..self
        }
    }

    /// By a principal of this kind: `AWS`, `Federated` or `Service`.
    pub(super) fn by(mut self, kind: &'static str, principal: impl Into<String>) -> Self {
        self.principal.insert(kind, principal.into());
        self
    }

    /// Where the key of the request equals one of the values.
    pub(super) fn when(
        mut self,
        key: impl Into<String>,
        values: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        let values = values.into_iter().map(Into::into).collect();
        let equals = self.condition.entry("StringEquals").or_default();
        equals.insert(key.into(), values);
        self
    }
}
