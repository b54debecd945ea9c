//! What a Registry's status says. Pure.
//!
//! `Ready` answers: do its Pods pull? `Degraded`: should somebody look? Conditions follow
//! <https://github.com/kubernetes/community/blob/master/contributors/devel/sig-architecture/api-conventions.md#typical-status-properties>.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::provision::secret::seconds;
use crate::provision::tally::Tally;
use crate::registry::Listed;
use crate::registry::kind::{NamespaceCounts, RegistryStatus};

/// How many namespaces a message names.
const NAMED: usize = 3;

/// Why something is as it is: a CamelCase word, and words for people that say what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) reason: &'static str,
    pub(super) message: String,
}

impl Finding {
    pub(super) fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
        }
    }
}

/// What is known of a Registry.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts<'a> {
    /// The rule that it breaks.
    pub(super) problem: Option<String>,
    /// Whether it rests.
    pub(super) suspended: bool,
    /// How it stands; `None`: it serves no opted-in namespace.
    pub(super) tally: Option<&'a Tally>,
    /// Who its credentials' principals are, and when the first of them ends.
    pub(super) principals: Vec<String>,
    pub(super) until: Option<Timestamp>,
    /// Why a credential of it could not be minted.
    pub(super) failure: Option<Finding>,
    /// Why a login of it that is there is not written, where it is missing because of that.
    pub(super) unwritten: Option<Finding>,
    /// Why a renewed login of it is not written, where the earlier one is good still.
    pub(super) unrenewed: Option<Finding>,
    /// What else somebody should look at.
    pub(super) notes: Vec<Finding>,
}

/// What is wrong with a Registry, so that people should be told.
pub(super) fn find_wrong(facts: &Facts<'_>, now: Timestamp) -> Option<Finding> {
    let (is_ready, ready) = decide_ready(facts);
    if !is_ready && !matches!(ready.reason, "Suspended" | "Provisioning") {
        return Some(ready);
    }
    let (is_degraded, degraded) = decide_degraded(facts, now);
    is_degraded.then_some(degraded)
}

/// What is to be said of a Registry. A condition that stays what it was keeps the time of its last change.
pub(super) fn report(
    listed: &Listed,
    facts: &Facts<'_>,
    before: Option<&RegistryStatus>,
    now: Timestamp,
) -> RegistryStatus {
    let (is_ready, ready) = decide_ready(facts);
    let (is_degraded, degraded) = decide_degraded(facts, now);
    let condition = |kind: &str, holds: bool, finding: Finding| {
        let status = if holds { "True" } else { "False" };
        let mut known = before.into_iter().flat_map(|before| &before.conditions);
        let same = known.find(|known| known.type_ == kind && known.status == status);
        let since = same.map_or_else(
            || Time(seconds(now)),
            |same| same.last_transition_time.clone(),
        );
        Condition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: finding.reason.to_owned(),
            message: finding.message,
            last_transition_time: since,
            observed_generation: listed.generation,
        }
    };
    RegistryStatus {
        observed_generation: listed.generation,
        conditions: vec![
            condition("Ready", is_ready, ready),
            condition("Degraded", is_degraded, degraded),
        ],
        identity: Some(listed.identity.clone()).filter(|identity| !identity.is_empty()),
        principal: Some(facts.principals.join(", ")).filter(|principal| !principal.is_empty()),
        expires_at: facts.until.map(|until| seconds(until).to_string()),
        namespaces: Some(counts(facts.tally)),
    }
}

fn counts(tally: Option<&Tally>) -> NamespaceCounts {
    let number = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
    tally.map_or_else(NamespaceCounts::default, |tally| NamespaceCounts {
        ready: number(tally.ready),
        total: number(tally.total),
    })
}

fn decide_ready(facts: &Facts<'_>) -> (bool, Finding) {
    if let Some(problem) = &facts.problem {
        return (false, Finding::new("Invalid", problem));
    }
    if facts.suspended {
        let message =
            "it rests: nothing is minted, renewed or removed for it until spec.suspend is false";
        return (false, Finding::new("Suspended", message));
    }
    let Some(tally) = facts.tally else {
        let message = "no opted-in namespace is served yet: label one pullpass.dev/inject=enabled, and as serves.namespaces asks";
        return (true, Finding::new("NoNamespaces", message));
    };
    let wanted = tally.total - tally.foreign;
    if tally.ready >= wanted && (wanted > 0 || tally.foreign == 0) {
        let message = format!("{} hold a good login", namespaces(tally.ready));
        return (true, Finding::new("Provisioned", message));
    }
    if wanted == 0 {
        return (false, find_foreign(tally));
    }
    let lacking = tally
        .lacking_in
        .as_deref()
        .map_or_else(String::new, |namespace| format!(", for one {namespace}"));
    let some = format!(
        "{} of {} lack a login{lacking}",
        wanted - tally.ready,
        namespaces(wanted)
    );
    let why = tally
        .lack
        .as_ref()
        .map(|lack| Finding::new(lack.reason, &lack.message))
        .or_else(|| facts.unwritten.clone())
        .or_else(|| facts.failure.clone());
    match why {
        Some(why) => {
            let message = format!("{some}: {}", why.message);
            (false, Finding::new(why.reason, message))
        }
        None => (false, Finding::new("Provisioning", some)),
    }
}

fn decide_degraded(facts: &Facts<'_>, now: Timestamp) -> (bool, Finding) {
    let mut findings = Vec::new();
    if let Some(failure) = &facts.failure {
        let until = facts.until.map_or_else(String::new, |until| {
            let is = if until > now { "is" } else { "was" };
            format!("; what is there {is} good until {}", seconds(until))
        });
        let message = format!("{}{until}", failure.message);
        findings.push(Finding::new(failure.reason, message));
    }
    if let Some(tally) = facts.tally {
        if let Some(lack) = &tally.lack {
            findings.push(Finding::new(lack.reason, &lack.message));
        }
        if tally.foreign > 0 {
            findings.push(find_foreign(tally));
        }
    }
    findings.extend(facts.unwritten.clone());
    findings.extend(facts.unrenewed.as_ref().map(|why| {
        let message = format!(
            "a renewed login is not written, the earlier one is good still: {}",
            why.message
        );
        Finding::new(why.reason, message)
    }));
    findings.extend(facts.notes.iter().cloned());
    let Some(first) = findings.first() else {
        return (false, Finding::new("AsExpected", "nothing needs a look"));
    };
    let messages: Vec<&str> = findings
        .iter()
        .map(|finding| finding.message.as_str())
        .collect();
    (true, Finding::new(first.reason, messages.join("; ")))
}

fn find_foreign(tally: &Tally) -> Finding {
    let named = &tally.foreign_in[..tally.foreign_in.len().min(NAMED)];
    let more = tally.foreign.saturating_sub(named.len());
    let more = match more {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let message = format!(
        "somebody else's Secret has the pull secret's name in {}{more}: rename it, or delete it so that pullpass can make its own",
        named.join(", ")
    );
    Finding::new("ForeignSecret", message)
}

fn namespaces(number: usize) -> String {
    match number {
        1 => "1 namespace".to_owned(),
        number => format!("{number} namespaces"),
    }
}

#[cfg(test)]
mod tests;
