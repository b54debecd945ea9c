//! What a Registry's status says. Pure.
//!
//! `Ready`: do its Pods pull? `Degraded`: is something in need of attention? `Verified`, of a fixed login: does
//! its registry take it? `Suspended` is there while it is suspended. Where it is not
//! ready, `Reconciling` says that this is worked on, `Stalled` that a person has to act: by kstatus' rules tools wait for the first and
//! fail with the second. Conditions follow
//! <https://github.com/kubernetes/community/blob/master/contributors/devel/sig-architecture/api-conventions.md#typical-status-properties>
//! and <https://github.com/kubernetes-sigs/cli-utils/blob/master/pkg/kstatus/README.md>.

mod asked;
mod login;
mod progress;
mod unmatched;
mod verdict;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::provision::login_outcomes::ReasonWord;
use crate::provision::ports::MintError;
use crate::provision::secret::seconds;
use crate::provision::summary::RegistrySummary;
use crate::quantity::{count, verb_of};
use crate::registry::RegistryInfo;
use crate::registry::crd::{NamespaceCounts, RegistryStatus};
pub(super) use asked::{AskedFacts, FailingNamespaces};
pub(super) use login::LoginState;
use login::{LoginFinding, VERIFIED};
use progress::Work;
pub(super) use progress::find_deadline;
pub(super) use unmatched::{Reach, find_reach};
use verdict::Verdict;

/// How many namespaces a message names.
const MAX_NAMED: usize = 3;

/// It breaks a rule.
const INVALID: &str = "Invalid";
/// Logins are on their way, and nothing is wrong.
const PROVISIONING: &str = "Provisioning";
/// It rests.
const SUSPENDED: &str = "Suspended";
/// What that means.
const RESTS: &str = "suspended (spec.suspend: true): nothing is minted, renewed or removed";

/// Why something is as it is: a CamelCase word, and words for people that say what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_field_names, reason = "the word of conditions")]
pub(super) struct Reason {
    pub(super) reason: ReasonWord,
    pub(super) message: String,
    /// Whether it passes without anybody's doing.
    is_passing: bool,
    /// Whether only those who run pullpass are to see the message, also where the identity is a namespace's own.
    pub(super) is_for_admins: bool,
}

impl Reason {
    pub(super) fn new(reason: impl Into<ReasonWord>, message: impl Into<String>) -> Self {
        let reason = reason.into();
        Self {
            is_passing: progress::is_passing(&reason),
            reason,
            message: message.into(),
            is_for_admins: false,
        }
    }

    /// Why a mint failed.
    pub(super) fn of_mint(error: &MintError) -> Self {
        Self {
            is_passing: error.is_passing(),
            is_for_admins: error.is_for_admins(true),
            ..Self::new(error.reason(), error.to_string())
        }
    }

    /// The same, in these words.
    fn in_words(&self, message: String) -> Self {
        Self {
            reason: self.reason.clone(),
            message,
            ..*self
        }
    }
}

/// What is known of a Registry.
#[derive(Clone, Debug, Default)]
pub(super) struct RegistryFacts {
    /// The rule that it breaks.
    pub(super) problem: Option<String>,
    /// Whether it rests.
    pub(super) suspended: bool,
    /// Its coverage; `None`: no opted-in namespace is to hold a login of it.
    pub(super) summary: Option<RegistrySummary>,
    /// Whether it selects any, where none is to hold a login of it.
    pub(super) reach: Reach,
    /// Who its credentials' principals are, and when the first of them ends.
    pub(super) principals: Vec<String>,
    pub(super) expiration_time: Option<Timestamp>,
    /// Why a credential of it could not be minted.
    pub(super) failure: Option<Reason>,
    /// Why a login of it that is there is not written, where it is missing because of that.
    pub(super) unwritten: Option<Reason>,
    /// Why a renewed login of it is not written, where the earlier one is good still.
    pub(super) unrenewed: Option<Reason>,
    /// What is known of its fixed login.
    pub(super) login: LoginState,
    /// What is known of kubelets that ask for its login; `None`: they do not.
    pub(super) asked: Option<AskedFacts>,
    /// Which clients cannot use a Secret that holds its login among others of the same host; it is well for Pods.
    pub(super) shared_host: Option<String>,
    /// Other problems that need attention.
    pub(super) notes: Vec<Reason>,
}

/// What is wrong with a Registry, if it is to be reported. Nothing is while it is suspended.
pub(super) fn find_problem(
    facts: &RegistryFacts,
    before: Option<&RegistryStatus>,
    now: Timestamp,
) -> Option<Reason> {
    if facts.problem.is_none() && facts.suspended {
        return None;
    }
    let login = LoginFinding::of(&facts.login, before);
    let ready = decide_ready(facts, &login, before);
    if ready.status == "False" && ready.finding.reason != PROVISIONING {
        return Some(ready.finding);
    }
    let (is_degraded, degraded) = decide_degraded(facts, &login, now);
    is_degraded.then_some(degraded)
}

/// Whether the registry refuses its fixed login, and that matters now.
pub(super) fn is_login_refused(facts: &RegistryFacts, before: Option<&RegistryStatus>) -> bool {
    let login = LoginFinding::of(&facts.login, before);
    !facts.suspended && login.find_refusal().is_some()
}

/// Whether it has a fixed login that is still to be tried.
pub(super) fn is_login_untried(facts: &RegistryFacts, before: Option<&RegistryStatus>) -> bool {
    LoginFinding::of(&facts.login, before).is_untried()
}

/// What is to be said of a Registry. A condition that stays what it was keeps the time of its last change.
pub(super) fn build_status(
    listed: &RegistryInfo,
    facts: &RegistryFacts,
    before: Option<&RegistryStatus>,
    now: Timestamp,
) -> RegistryStatus {
    let login = LoginFinding::of(&facts.login, before);
    RegistryStatus {
        observed_generation: listed.generation,
        conditions: decide_conditions(listed, facts, &login, before, now),
        images: Some(listed.images.clone()).filter(|images| !images.is_empty()),
        identity: Some(listed.identity.clone()).filter(|identity| !identity.is_empty()),
        principals: facts.principals.clone(),
        expiration_time: facts
            .expiration_time
            .map(|expiration_time| seconds(expiration_time).to_string()),
        source_resource_version: login.resource_version,
        nodes: asked::count(facts, before),
        namespaces: facts.has_secrets().then(|| counts(facts.summary.as_ref())),
    }
}

fn decide_conditions(
    listed: &RegistryInfo,
    facts: &RegistryFacts,
    login: &LoginFinding,
    before: Option<&RegistryStatus>,
    now: Timestamp,
) -> Vec<Condition> {
    let known = |kind: &str| {
        let mut known = before.into_iter().flat_map(|before| &before.conditions);
        known.find(|known| known.type_ == kind)
    };
    let condition = |kind: &str, verdict: Verdict| {
        let same = known(kind).filter(|known| known.status == verdict.status);
        let since = same.map_or_else(
            || Time(seconds(now)),
            |same| same.last_transition_time.clone(),
        );
        Condition {
            type_: kind.to_owned(),
            status: verdict.status.to_owned(),
            reason: verdict.finding.reason.into_owned(),
            message: verdict.finding.message,
            last_transition_time: since,
            observed_generation: listed.generation,
        }
    };
    let rests = facts.problem.is_none() && facts.suspended;
    let (ready, work) = if rests {
        // It is not observed any more: the last observation stays, with the generation that it was made of.
        let last = known("Ready").cloned();
        let ready = last.unwrap_or_else(|| {
            let message = "it was suspended before it was first reconciled";
            condition("Ready", Verdict::unknown(SUSPENDED, message))
        });
        (ready, Work::Rests)
    } else {
        let ready = decide_ready(facts, login, before);
        let work = Work::of(&ready.finding);
        (condition("Ready", ready), work)
    };
    let degraded = judge_degraded(facts, rests, login, now);
    let verified = login
        .verified
        .clone()
        .map(|(verdict, generation)| Condition {
            observed_generation: generation,
            ..condition(VERIFIED, verdict)
        });
    let suspended = rests.then(|| Verdict::new(true, Reason::new(SUSPENDED, RESTS)));
    let progress = progress::decide(&ready, work, listed.generation, before, now);
    let mut conditions = vec![ready, condition("Degraded", degraded)];
    conditions.extend(verified.or_else(|| login.kept.clone()));
    conditions.extend(suspended.map(|verdict| condition("Suspended", verdict)));
    conditions.extend(progress);
    conditions
}

fn judge_degraded(
    facts: &RegistryFacts,
    rests: bool,
    login: &LoginFinding,
    now: Timestamp,
) -> Verdict {
    if rests {
        Verdict::unknown(SUSPENDED, "suspended: it is not checked")
    } else if facts.problem.is_some() {
        Verdict::unknown(INVALID, "not checked while it breaks a rule")
    } else {
        let (is_degraded, degraded) = decide_degraded(facts, login, now);
        Verdict::new(is_degraded, degraded)
    }
}

fn counts(summary: Option<&RegistrySummary>) -> NamespaceCounts {
    let number = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
    summary.map_or_else(NamespaceCounts::default, |summary| NamespaceCounts {
        ready: number(summary.ready),
        total: number(summary.total),
    })
}

fn decide_ready(
    facts: &RegistryFacts,
    login: &LoginFinding,
    before: Option<&RegistryStatus>,
) -> Verdict {
    if let Some(problem) = &facts.problem {
        return Verdict::new(false, Reason::new(INVALID, problem));
    }
    if let Some(refusal) = login.find_refusal() {
        return Verdict::new(false, refusal);
    }
    if facts.reach == Reach::ByNode {
        return asked::decide_ready(facts, before);
    }
    let (is_ready, mut ready) = match &facts.summary {
        Some(summary) => decide_held(facts, summary, login, before),
        None => facts.reach.decide_ready(),
    };
    if is_ready && let Some(asked) = asked::describe(facts, before) {
        ready.message = format!("{}; {asked}", ready.message);
    }
    Verdict::new(is_ready, ready)
}

/// Whether the namespaces that are to hold its login do.
fn decide_held(
    facts: &RegistryFacts,
    summary: &RegistrySummary,
    login: &LoginFinding,
    before: Option<&RegistryStatus>,
) -> (bool, Reason) {
    let wanted = summary.total - summary.foreign;
    if summary.ready >= wanted && (wanted > 0 || summary.foreign == 0) {
        let was_ready = before.is_some_and(RegistryStatus::is_ready);
        if login.is_untried() && !was_ready {
            return (false, Reason::new(PROVISIONING, "the login is being tried"));
        }
        let mut message = login.describe_held(summary.ready);
        if let Some(shared_host) = &facts.shared_host {
            message = format!("{message}; {shared_host}");
        }
        return (true, Reason::new("Provisioned", message));
    }
    if wanted == 0 {
        return (false, find_foreign(summary));
    }
    let lacking = summary
        .lacking_in
        .as_deref()
        .map_or_else(String::new, |namespace| format!(", for one {namespace}"));
    let kept = summary.kept.min(wanted - summary.ready);
    let keep = |number| verb_of(number, "keeps", "keep");
    let lack = |number| verb_of(number, "lacks", "lack");
    let some = match (wanted - summary.ready - kept, count(wanted, "namespace")) {
        (0, all) => format!("{kept} of {all} {} the last login", keep(kept)),
        (without, all) if kept == 0 => {
            format!("{without} of {all} {} a login{lacking}", lack(without))
        }
        (without, all) => format!(
            "{without} of {all} {} a login, {kept} {} the last one",
            lack(without),
            keep(kept),
        ),
    };
    let why = summary
        .lack
        .as_ref()
        .map(|lack| Reason::new(lack.reason, &lack.message))
        .or_else(|| facts.unwritten.clone())
        .or_else(|| facts.failure.clone());
    match why {
        Some(why) => {
            let message = format!("{some}: {}", why.message);
            (false, why.in_words(message))
        }
        None => (false, Reason::new(PROVISIONING, some)),
    }
}

fn decide_degraded(facts: &RegistryFacts, login: &LoginFinding, now: Timestamp) -> (bool, Reason) {
    let mut findings = Vec::from_iter(login.find_refusal());
    if let Some(failure) = &facts.failure {
        let expiration_time = facts
            .expiration_time
            .map_or_else(String::new, |expiration_time| {
                let is = if expiration_time > now { "is" } else { "was" };
                format!(
                    "; the current credential {is} valid until {}",
                    seconds(expiration_time)
                )
            });
        let message = format!("{}{expiration_time}", failure.message);
        findings.push(failure.in_words(message));
    }
    if let Some(summary) = &facts.summary {
        if let Some(lack) = &summary.lack {
            findings.push(Reason::new(lack.reason, &lack.message));
        }
        if summary.foreign > 0 {
            findings.push(find_foreign(summary));
        }
    }
    findings.extend(asked::find_failing(facts));
    findings.extend(facts.unwritten.clone());
    findings.extend(facts.unrenewed.as_ref().map(|why| {
        let message = format!(
            "a renewed login is not written, the previous one is still valid: {}",
            why.message
        );
        Reason::new(why.reason.clone(), message)
    }));
    findings.extend(facts.notes.iter().cloned());
    let Some(first) = findings.first() else {
        return (false, Reason::new("AsExpected", "all is as expected"));
    };
    let messages: Vec<&str> = findings
        .iter()
        .map(|finding| finding.message.as_str())
        .collect();
    (true, Reason::new(first.reason.clone(), messages.join("; ")))
}

fn find_foreign(summary: &RegistrySummary) -> Reason {
    let named = &summary.foreign_in[..summary.foreign_in.len().min(MAX_NAMED)];
    let more = summary.foreign.saturating_sub(named.len());
    let more = match more {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let message = format!(
        "pullpass does not manage Secret {}{more}: rename or delete it, pullpass then creates its own",
        named.join(", ")
    );
    Reason::new("SecretNotManaged", message)
}

#[cfg(test)]
mod tests;
