//! A refusal: what another side answered, in its own words, and what it means.

use std::fmt;
use std::time::Duration;

#[cfg(test)]
use super::answers::Service;
use super::answers::{self, AnswerReason, CloudAnswer, Lasts};

/// What to do where nobody wrote down what an answer means.
const UNKNOWN_ADVICE: &str =
    "check what it says; if that is no mistake of the set-up, report it, so that pullpass knows it";

/// What another side answered instead of what was asked for. It holds no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The host that refused.
    pub host: String,
    /// Who asked.
    pub principal: String,
    /// The error's code, or the HTTP status.
    pub code: String,
    /// What was not permitted: an IAM action, a role of Azure; empty where that is not the matter.
    pub permission: &'static str,
    /// What it means.
    pub reason: AnswerReason,
    /// Whether nobody has to do anything: it is tried again.
    pub is_passing: bool,
    /// Whether it is known what it means.
    pub is_recognized: bool,
    /// What to do.
    pub advice: &'static str,
    /// The other side's own words, masked, one line; empty where it said nothing.
    pub words: String,
    /// How long the other side asks to wait.
    pub retry_after: Option<Duration>,
}

impl Refusal {
    /// What an answer means; `words` are what may be shown of it.
    pub(crate) fn of(
        answer: &CloudAnswer<'_>,
        host: String,
        principal: String,
        words: String,
    ) -> Self {
        let code = if answer.code.is_empty() {
            format!("HTTP {}", answer.status)
        } else {
            answer.code.to_owned()
        };
        let known = answers::find(answer);
        Self {
            host,
            principal,
            code,
            permission: "",
            reason: known.map_or(AnswerReason::Refused, |known| known.reason),
            is_passing: known.is_some_and(|known| known.lasts == Lasts::Passing),
            is_recognized: known.is_some(),
            advice: known.map_or(UNKNOWN_ADVICE, |known| &known.advice),
            words,
            retry_after: None,
        }
    }

    /// That of an account that throttles.
    #[cfg(test)]
    pub(crate) fn of_throttle() -> Self {
        let answer = CloudAnswer {
            from: Service::Ecr,
            status: 400,
            code: "ThrottlingException",
            action: "ecr:GetAuthorizationToken",
            signer: None,
            text: "Rate exceeded",
        };
        let host = "api.ecr.eu-west-1.amazonaws.com".to_owned();
        Self::of(&answer, host, "p".to_owned(), "Rate exceeded".to_owned())
    }

    /// What happened, without what to do.
    pub(crate) fn what(&self) -> String {
        let Self {
            host,
            principal,
            code,
            permission,
            ..
        } = self;
        let unknown = if self.is_recognized {
            ""
        } else {
            ", an unrecognized answer"
        };
        match self.reason {
            AnswerReason::Throttled => format!("{host} throttles {principal} ({code})"),
            AnswerReason::AccessDenied | AnswerReason::TrustRefused if !permission.is_empty() => {
                format!("{host} denied {permission} to {principal} ({code})")
            }
            _ => format!("{host} refused {principal} ({code}){unknown}"),
        }
    }

    /// What it said.
    pub(crate) fn said(&self) -> String {
        if self.words.is_empty() {
            "it did not say why".to_owned()
        } else {
            format!("it said: {}", self.words)
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{}: {} ({})",
            self.what(),
            self.advice,
            self.said()
        )
    }
}
