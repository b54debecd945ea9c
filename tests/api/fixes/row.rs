//! The table.

use std::path::Path;

use serde::Deserialize;

/// One fault, and the way out of it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Row {
    /// Its name: also that of its namespace, of its Registry, and of the host of its images.
    pub(super) name: String,
    /// What there is before the fault.
    #[serde(default)]
    pub(super) base: Base,
    /// What of the Registry's `spec` is another one.
    #[serde(default)]
    pub(super) spec: serde_json::Map<String, serde_json::Value>,
    /// Shell before there is anything of the row.
    #[serde(default)]
    pub(super) before: Vec<String>,
    /// Shell that makes the fault; what the row begins with may be one already.
    #[serde(default)]
    pub(super) fault: Vec<String>,
    /// The arguments of `check`; by default the namespace.
    #[serde(default)]
    pub(super) check: Option<String>,
    /// Whether `check` is run as somebody who has rights in the row's namespace alone.
    #[serde(default)]
    pub(super) tenant: bool,
    /// What is set when Helm installs the chart, where the row is about that alone.
    #[serde(default)]
    pub(super) chart: Option<String>,
    /// Whether no other row may be tried beside it: it concerns the whole cluster.
    #[serde(default)]
    pub(super) alone: bool,
    /// What is found and done, one after the other.
    pub(super) steps: Vec<Step>,
}

/// What a row begins with, besides a namespace that opted in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) enum Base {
    /// A Registry with a fixed login in a source Secret.
    #[default]
    Static,
    /// One whose tokens are minted by access keys.
    Keys,
    /// One of the namespace's own ServiceAccount.
    Tenant,
    /// One of Azure, whose tokens are minted by a client secret.
    Acr,
}

/// A finding, and what is done about it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Step {
    /// Where it is read.
    #[serde(default)]
    pub(super) from: From,
    /// The finding's name, or the reason.
    pub(super) id: String,
    /// Words of the fix.
    pub(super) says: String,
    /// What is done.
    #[serde(rename = "do")]
    pub(super) action: Action,
}

/// Where a finding is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum From {
    /// The first one of `check` that failed.
    #[default]
    Check,
    /// The Registry's condition `Ready`, `Degraded` or `Verified`.
    Condition,
    /// An Event in the row's namespace.
    Event,
    /// What the creator of a Pod is warned of.
    Warning,
    /// What Helm says.
    Helm,
}

/// What is done about a finding.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Action {
    /// The printed command is run as it is.
    Run,
    /// What the sentence says, as shell.
    Sh(String),
    /// What the sentence says of the arguments of `check`.
    Check(String),
    /// What the sentence says of what is set when Helm installs the chart.
    Set(String),
}

pub(super) fn load() -> Vec<Row> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/fixes.yaml");
    let text = std::fs::read_to_string(path).unwrap();
    serde_saphyr::from_str(&text).unwrap()
}
