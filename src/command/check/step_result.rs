//! How one step went, and what to say of it. Pure.

use serde::Serialize;

use super::ids;

/// How a step went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum StepStatus {
    Ok,
    Failed,
    /// Nothing fails because of it, and a person should know.
    Warning,
    /// It is known, and nobody has to do anything about it.
    Info,
    /// This account may not see it, or not try it.
    Hidden,
    /// Not tried, because of what failed before it or because nothing says with what.
    Skipped,
}

impl StepStatus {
    /// What stands before the line: one mark, one meaning.
    pub(super) const fn mark(self) -> char {
        match self {
            Self::Ok => '✓',
            Self::Failed => '✗',
            Self::Warning => '!',
            Self::Info => '·',
            Self::Hidden => '?',
            Self::Skipped => '–',
        }
    }
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fix {
    text: String,
    /// The command that does it: it can be pasted into a shell as it is.
    pub(super) command: Option<String>,
}

impl Fix {
    /// What to do, and the command that does it.
    pub(super) fn run(text: impl Into<String>, command: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            command: Some(command.into()),
        }
    }
}

impl<T: Into<String>> From<T> for Fix {
    fn from(text: T) -> Self {
        Self {
            text: text.into(),
            command: None,
        }
    }
}

impl std::fmt::Display for Fix {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.command {
            Some(command) => write!(formatter, "{}: {command}", self.text),
            None => formatter.write_str(&self.text),
        }
    }
}

/// How a step went, and what to say of it.
#[derive(Clone, Debug)]
pub(super) struct StepResult {
    pub(super) status: StepStatus,
    pub(super) id: &'static str,
    pub(super) message: String,
    pub(super) fix: Option<Fix>,
}

impl StepResult {
    pub(super) fn ok(message: impl Into<String>) -> Self {
        Self::new(StepStatus::Ok, ids::OK, message, None)
    }

    /// Something that [`StepResult::id`] names.
    pub(super) fn failed(message: impl Into<String>, fix: impl Into<Fix>) -> Self {
        Self::new(StepStatus::Failed, ids::FAILED, message, Some(fix.into()))
    }

    pub(super) fn warning(message: impl Into<String>, fix: impl Into<Fix>) -> Self {
        Self::new(StepStatus::Warning, ids::FAILED, message, Some(fix.into()))
    }

    pub(super) fn skipped(message: impl Into<String>) -> Self {
        Self::new(StepStatus::Skipped, ids::SKIPPED, message, None)
    }

    /// What is known, and nobody has to do anything about.
    pub(super) fn info(message: impl Into<String>) -> Self {
        Self::new(StepStatus::Info, ids::OK, message, None)
    }

    /// What this account may not see, or not try: no failure of pullpass.
    pub(super) fn hidden(message: impl Into<String>) -> Self {
        Self::new(StepStatus::Hidden, ids::ACCOUNT_FORBIDDEN, message, None)
    }

    /// The same under this name.
    pub(super) fn id(self, id: &'static str) -> Self {
        Self { id, ..self }
    }

    /// The same, with what it is about in front.
    pub(super) fn about(self, what: &str) -> Self {
        let message = format!("{what}: {}", self.message);
        Self { message, ..self }
    }

    /// The same where it failed already, else this.
    pub(super) fn or(self, other: Self) -> Self {
        match self.status {
            StepStatus::Failed => self,
            _ => other,
        }
    }

    /// The same as nothing that counts.
    pub(super) fn without_consequence(self) -> Self {
        Self {
            status: StepStatus::Info,
            ..self
        }
    }

    /// Whether it is this finding.
    pub(super) fn is(&self, id: &str) -> bool {
        self.id == id
    }

    fn new(
        status: StepStatus,
        id: &'static str,
        message: impl Into<String>,
        fix: Option<Fix>,
    ) -> Self {
        Self {
            status,
            id,
            message: message.into(),
            fix,
        }
    }
}
