//! What is shown. Pure. The names and forms of the fields are stable.

use jiff::Timestamp;
use serde::Serialize;

/// All of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct StatusView {
    /// Whether nothing fails.
    pub(super) ok: bool,
    /// The namespace that it is about; left out where it is the cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) namespace: Option<String>,
    /// Who answers the API server; left out with a namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) webhook: Option<WebhookView>,
    /// How many namespaces opted in; left out with a namespace, and where they cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) namespaces_opted_in: Option<usize>,
    pub(super) registries: Vec<RegistryView>,
    /// Of a namespace.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) secrets: Vec<SecretRow>,
    /// Of a namespace, the newest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) events: Vec<EventRow>,
    /// What fails, and what a person should know.
    pub(super) findings: Vec<Finding>,
    /// What this account could not read.
    pub(super) unread: Vec<UnreadView>,
}

/// The webhook, and who serves it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WebhookView {
    /// Whether the API server is configured to call it, and no replica found out that it does not; `null`: not known.
    pub(super) called: Option<bool>,
    /// Whom the API server calls.
    pub(super) target: Option<String>,
    pub(super) replicas_ready: Option<i32>,
    pub(super) replicas_wanted: Option<i32>,
    /// The replica that leads.
    pub(super) leader: Option<String>,
    pub(super) certificate_expiration_time: Option<Timestamp>,
}

/// A Registry.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RegistryView {
    pub(super) name: String,
    pub(super) identity: String,
    pub(super) access: &'static str,
    /// `True`, `False` or `Unknown`, as its condition.
    pub(super) ready: String,
    pub(super) reason: String,
    pub(super) suspended: bool,
    pub(super) namespaces_ready: i64,
    pub(super) namespaces_total: i64,
    /// When the first of its minted credentials ends.
    pub(super) expiration_time: Option<Timestamp>,
}

/// A Secret of ours.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SecretRow {
    pub(super) name: String,
    pub(super) holds: &'static str,
    pub(super) registries: Vec<String>,
    pub(super) created: Option<Timestamp>,
    /// When the first of its logins ends.
    pub(super) expiration_time: Option<Timestamp>,
}

/// An Event of ours.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct EventRow {
    pub(super) time: Timestamp,
    pub(super) warning: bool,
    pub(super) object: String,
    pub(super) reason: String,
    pub(super) message: String,
}

/// How much a finding counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Level {
    Failed,
    /// Nothing fails because of it.
    Warning,
    /// It passes by itself.
    Info,
}

/// What fails, or is to be known, and the command to type next.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Finding {
    pub(super) level: Level,
    /// What it is about: `Registry payments`.
    pub(super) about: String,
    /// In one word.
    pub(super) reason: String,
    pub(super) message: String,
    pub(super) next: Option<String>,
}

/// What could not be read.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct UnreadView {
    pub(super) what: &'static str,
    pub(super) message: String,
}

impl Finding {
    pub(super) fn failed(
        about: impl Into<String>,
        reason: impl Into<String>,
        message: impl Into<String>,
        next: impl Into<Option<String>>,
    ) -> Self {
        Self {
            level: Level::Failed,
            about: about.into(),
            reason: reason.into(),
            message: message.into(),
            next: next.into(),
        }
    }

    /// The same, though nothing fails because of it.
    pub(super) fn into_warning(self) -> Self {
        Self {
            level: Level::Warning,
            ..self
        }
    }

    /// The same, as what passes by itself.
    pub(super) fn into_info(self) -> Self {
        Self {
            level: Level::Info,
            next: None,
            ..self
        }
    }
}

impl StatusView {
    /// The same, with what follows from its findings: what fails comes first.
    pub(super) fn judged(mut self) -> Self {
        let failed = |finding: &Finding| finding.level == Level::Failed;
        self.findings.sort_by_key(|finding| finding.level);
        self.ok = !self.findings.iter().any(failed);
        self
    }
}
