//! What tools that wait for an object make of its conditions.
//!
//! The rules are those of `Compute` for kinds that kstatus does not know: `checkGenericProperties` (the generation, then `Reconciling` and
//! `Stalled` in the order of the list), then `checkReadyCondition`:
//! <https://github.com/kubernetes-sigs/cli-utils/blob/5895ad6c17dd06b99c1e5c8af17e2b12a3504fad/pkg/kstatus/status/generic.go>,
//! <https://github.com/kubernetes-sigs/cli-utils/blob/5895ad6c17dd06b99c1e5c8af17e2b12a3504fad/pkg/kstatus/status/status.go>.

use crate::registry::crd::RegistryStatus;

/// How such tools see an object that is not being deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum EnsureOutcome {
    /// They wait.
    InProgress,
    /// They stop waiting, and fail.
    Failed,
    /// They go on.
    Current,
}

/// How they see an object of this generation with this status.
pub(super) fn compute(generation: i64, status: &RegistryStatus) -> EnsureOutcome {
    if status
        .observed_generation
        .is_some_and(|observed| observed != generation)
    {
        return EnsureOutcome::InProgress;
    }
    for condition in &status.conditions {
        match (&*condition.type_, &*condition.status) {
            ("Reconciling", "True") => return EnsureOutcome::InProgress,
            ("Stalled", "True") => return EnsureOutcome::Failed,
            _ => {}
        }
    }
    let mut conditions = status.conditions.iter();
    match conditions.find(|condition| condition.type_ == "Ready") {
        Some(ready) if ready.status != "True" => EnsureOutcome::InProgress,
        Some(_) | None => EnsureOutcome::Current,
    }
}
