//! What is found of one condition. Pure.

use super::Reason;

/// What a condition says.
#[derive(Clone, Debug)]
pub(super) struct Verdict {
    /// `True`, `False` or `Unknown`.
    pub(super) status: &'static str,
    /// Why.
    pub(super) finding: Reason,
}

impl Verdict {
    /// That it holds, or does not.
    pub(super) fn new(holds: bool, finding: Reason) -> Self {
        let status = if holds { "True" } else { "False" };
        Self { status, finding }
    }

    /// That nobody knows.
    pub(super) fn unknown(reason: &'static str, message: &str) -> Self {
        let finding = Reason::new(reason, message);
        let status = "Unknown";
        Self { status, finding }
    }
}
