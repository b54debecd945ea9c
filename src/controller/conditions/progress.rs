//! Where a Registry is not ready: whether that is worked on, or a person has to act. Pure.
//!
//! `Reconciling` and `Stalled` are there only while they hold, as
//! <https://github.com/kubernetes-sigs/cli-utils/blob/master/pkg/kstatus/README.md> has it.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::asked::NOT_OBSERVED;
use super::{PROVISIONING, RESTS, Reason, SUSPENDED};
use crate::provision::ports::is_passing_reason;
use crate::provision::secret::seconds;
use crate::registry::crd::RegistryStatus;

/// How long something may be in progress before it needs attention, as Deployments have it.
/// <https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#progress-deadline-seconds>
const PATIENCE: SignedDuration = SignedDuration::from_mins(10);

const RECONCILING: &str = "Reconciling";
const STALLED: &str = "Stalled";

/// Whether this reason passes without anybody's doing, mostly.
pub(super) fn is_passing(reason: &str) -> bool {
    matches!(reason, PROVISIONING | NOT_OBSERVED) || is_passing_reason(reason)
}

/// What is done about a Registry that is not ready.
#[derive(Clone, Copy, Debug)]
pub(super) enum Work {
    /// Nothing: it is suspended.
    Rests,
    /// It is waited for, as it passes.
    Waits,
    /// A person has to act.
    Needs,
}

impl Work {
    /// What is done about this reason.
    pub(super) fn of(reason: &Reason) -> Self {
        if reason.is_passing {
            Self::Waits
        } else {
            Self::Needs
        }
    }
}

/// The condition beside this `Ready`, if it is not `True`.
pub(super) fn decide(
    ready: &Condition,
    work: Work,
    generation: Option<i64>,
    before: Option<&RegistryStatus>,
    now: Timestamp,
) -> Option<Condition> {
    if ready.status == "True" {
        return None;
    }
    let condition = |kind: &str, reason: &str, message: &str, since: Timestamp| Condition {
        type_: kind.to_owned(),
        status: "True".to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        last_transition_time: Time(since),
        observed_generation: generation,
    };
    // A new generation starts the time over.
    let before = before.filter(|before| before.observed_generation == generation);
    let known = |kind: &str| {
        let mut known = before.into_iter().flat_map(|before| &before.conditions);
        known.find(|known| known.type_ == kind && known.status == "True")
    };
    let since = |kind: &str| known(kind).map_or(seconds(now), |known| known.last_transition_time.0);
    if matches!(work, Work::Rests) {
        return Some(condition(STALLED, SUSPENDED, RESTS, since(STALLED)));
    }
    let (reason, message) = (&ready.reason, &ready.message);
    let was_stalled = known(STALLED).is_some_and(|stalled| stalled.reason == *reason);
    let begun = since(RECONCILING);
    let is_late = was_stalled || now.duration_since(begun) >= PATIENCE;
    if matches!(work, Work::Needs) {
        return Some(condition(STALLED, reason, message, since(STALLED)));
    }
    if is_late {
        let message = format!("for 10 minutes and more, and it is tried again: {message}");
        return Some(condition(STALLED, reason, &message, since(STALLED)));
    }
    Some(condition(RECONCILING, reason, message, begun))
}

/// Until when what this status says is worked on may take; `None`: nothing is.
pub(in crate::controller) fn find_deadline(status: &RegistryStatus) -> Option<Timestamp> {
    let mut conditions = status.conditions.iter();
    let reconciling = conditions.find(|condition| condition.type_ == RECONCILING)?;
    let end = reconciling.last_transition_time.0.checked_add(PATIENCE);
    Some(end.unwrap_or(Timestamp::MAX))
}
