//! What is said of a fixed login: whether its registry takes it. Pure.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::{Reason, Verdict};
use crate::controller::login_checks::{CheckedLogin, LoginVersion};
use crate::provision::ports::LoginOutcome;
use crate::quantity::{count, verb_of};
use crate::registry::crd::RegistryStatus;

/// The condition's type.
pub(super) const VERIFIED: &str = "Verified";
/// A registry says 401.
const REFUSED: &str = "LoginRefused";
/// There is none to be tried.
const MISSING_SOURCE: &str = "MissingSource";
/// See [`MISSING_SOURCE`].
const NO_SOURCE: &str = "the source Secret is not there, or lacks the label pullpass.dev/source=true: create or label it";
/// Nobody tried it yet.
const NOT_TRIED: &str = "NotTried";

/// What a status says of a login that was there.
fn find_known(before: Option<&RegistryStatus>) -> Option<&Condition> {
    let mut conditions = before.into_iter().flat_map(|before| &before.conditions);
    conditions.find(|condition| condition.type_ == VERIFIED && condition.reason != MISSING_SOURCE)
}

/// What is known of a Registry's fixed login.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::controller) enum LoginState {
    /// It has none, or nobody tries logins here.
    #[default]
    NotFixed,
    /// Its source Secret is not there.
    SourceMissing,
    /// It is not tried, as its Registry is suspended.
    Rests,
    /// This state of it was not tried since this replica leads.
    Untried(LoginVersion),
    /// It was, and this was found.
    Checked(CheckedLogin),
}

/// What there is to be said of it.
#[derive(Default)]
pub(super) struct LoginFinding {
    /// The condition; its generation is that of the Registry that was tried.
    pub(super) verified: Option<(Verdict, Option<i64>)>,
    /// The state of the source Secret that was tried.
    pub(super) resource_version: Option<String>,
    /// What an earlier leader said, which holds still.
    pub(super) kept: Option<Condition>,
}

impl LoginFinding {
    /// What was found, or what an earlier leader had found of the same login.
    pub(super) fn of(login: &LoginState, before: Option<&RegistryStatus>) -> Self {
        let checked = match login {
            LoginState::NotFixed => return Self::default(),
            LoginState::Checked(checked) => checked,
            LoginState::SourceMissing => {
                let missing = Verdict::unknown(MISSING_SOURCE, NO_SOURCE);
                return Self {
                    verified: Some((missing, None)),
                    ..Self::default()
                };
            }
            LoginState::Rests => return Self::keep(find_known(before), before),
            LoginState::Untried(version) => return Self::of_untried(version, before),
        };
        let verdict = match &checked.outcome {
            LoginOutcome::Taken => {
                let message = "the registry takes the login of the source Secret";
                Verdict::new(true, Reason::new("LoginTaken", message))
            }
            LoginOutcome::Refused { message } => {
                let message = format!(
                    "the registry refuses the login of the source Secret: {message}; correct the Secret, it is then tried at once"
                );
                Verdict::new(false, Reason::new(REFUSED, message))
            }
            LoginOutcome::Unknown {
                reason, message, ..
            } => Verdict::unknown(reason, message),
        };
        Self {
            verified: Some((verdict, checked.version.generation)),
            resource_version: Some(checked.version.resource_version.clone()),
            kept: None,
        }
    }

    /// What an earlier leader found of this very state holds; what was found of another one says nothing of it.
    fn of_untried(version: &LoginVersion, before: Option<&RegistryStatus>) -> Self {
        let known = find_known(before);
        let is_same =
            |known: &&Condition| known.reason == NOT_TRIED || version.is_remembered(before);
        if let Some(known) = known.filter(is_same) {
            return Self::keep(Some(known), before);
        }
        let message = if known.is_some() {
            "the login changed and is being tried"
        } else {
            "the login was not tried yet"
        };
        Self {
            verified: Some((Verdict::unknown(NOT_TRIED, message), None)),
            ..Self::default()
        }
    }

    fn keep(known: Option<&Condition>, before: Option<&RegistryStatus>) -> Self {
        Self {
            verified: None,
            kept: known.cloned(),
            resource_version: before.and_then(|before| before.source_resource_version.clone()),
        }
    }

    /// Status and message of the condition; `None`: there is none.
    fn read(&self) -> Option<(&str, &str, &str)> {
        let found = self.verified.as_ref().map(|(verdict, _)| {
            let finding = &verdict.finding;
            (verdict.status, &*finding.reason, finding.message.as_str())
        });
        let kept = self.kept.as_ref();
        found.or_else(|| kept.map(|kept| (&*kept.status, &*kept.reason, &*kept.message)))
    }

    /// That it is refused, if it is.
    pub(super) fn find_refusal(&self) -> Option<Reason> {
        let (status, _, message) = self.read()?;
        (status == "False").then(|| Reason::new(REFUSED, message))
    }

    /// Whether nobody tried it yet.
    pub(super) fn is_untried(&self) -> bool {
        self.read()
            .is_some_and(|(_, reason, _)| reason == NOT_TRIED)
    }

    /// What this number of namespaces hold: nothing is called good that was not tried.
    pub(super) fn describe_held(&self, number: usize) -> String {
        let holders = count(number, "namespace");
        let hold = verb_of(number, "holds", "hold");
        match self.read() {
            Some(("Unknown", _, message)) => {
                format!("{holders} {hold} the login, which is not verified: {message}")
            }
            _ => format!("{holders} {hold} a valid login"),
        }
    }
}
