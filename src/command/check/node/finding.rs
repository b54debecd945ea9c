//! What is wrong with a node's files.

use crate::command::check::ids;
use crate::command::check::report::{Fix, StepResult};

/// Something that is wrong with a node's files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NodeFinding {
    /// Its name, of `ids`.
    pub(super) id: &'static str,
    /// Whether it is only what a person should know.
    pub(super) is_warning: bool,
    /// The file, with the line of the field where there is one.
    pub(super) place: String,
    /// The field, as a path from the file's root; empty where it is none.
    pub(super) field: String,
    pub(super) message: String,
    pub(super) fix: Fix,
}

impl NodeFinding {
    /// Something that is wrong with a file as a whole.
    pub(super) fn of_file(
        id: &'static str,
        place: impl Into<String>,
        message: impl Into<String>,
        fix: impl Into<Fix>,
    ) -> Self {
        Self {
            id,
            is_warning: false,
            place: place.into(),
            field: String::new(),
            message: message.into(),
            fix: fix.into(),
        }
    }

    /// That a file or folder cannot be read, which is there.
    pub(super) fn unreadable(place: &str, error: &std::io::Error) -> Self {
        let fix = "run this as root on the node, or check a copy that may be read";
        Self::of_file(ids::NODE_FILE_UNREADABLE, place, error.to_string(), fix)
    }

    pub(super) fn warning(self) -> Self {
        Self {
            is_warning: true,
            ..self
        }
    }

    /// The same as what a step found.
    pub(super) fn report(self) -> StepResult {
        let field = match self.field.as_str() {
            "" => String::new(),
            field => format!("{field}: "),
        };
        let message = format!("{}: {field}{}", self.place, self.message);
        let result = if self.is_warning {
            StepResult::warning(message, self.fix)
        } else {
            StepResult::failed(message, self.fix)
        };
        result.id(self.id)
    }
}
