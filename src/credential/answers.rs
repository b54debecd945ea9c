//! What clouds, agents and registries mean by what they answer: one table (`answers.yaml`) for all of them. Pure.

use std::sync::LazyLock;

use serde::Deserialize;

/// Who answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Service {
    /// AWS STS.
    Sts,
    /// Amazon ECR's API, or ECR Public's.
    Ecr,
    /// Either of them; in the table alone.
    Aws,
    /// EKS Pod Identity's agent.
    Agent,
    /// Instance metadata of AWS.
    Ec2,
    /// Entra ID.
    Entra,
    /// The proxy of AKS' identity bindings before it, in its own words.
    Bindings,
    /// A login server of Azure.
    Acr,
    /// Instance metadata of Azure, or the NMI of AAD Pod Identity (retired) in its place.
    Imds,
    /// An image registry, as images are pulled from it.
    Registry,
    /// Anybody; in the table alone.
    Any,
}

/// How the caller proved who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Signer {
    /// Access keys of a source Secret.
    Keys,
    /// The session of a node's role.
    Node,
    /// A session of EKS Pod Identity's agent.
    Agent,
    /// A session that AWS STS opened.
    Role,
    /// A ServiceAccount token.
    Assertion,
    /// A client secret.
    Secret,
}

/// What an answer means, in a word: a closed set, for conditions and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum AnswerReason {
    /// The identity is known and lacks a permission.
    AccessDenied,
    /// A role does not trust the identity.
    TrustRefused,
    /// The identity is not known, or its keys or token are no longer good.
    UnrecognizedClient,
    /// The clocks differ.
    ClockSkew,
    /// Too many requests.
    Throttled,
    /// The other side, or one that it needs, is out of order for the moment.
    Unavailable,
    /// There is no such identity where it was asked for.
    NoIdentity,
    /// Anything else.
    Refused,
}

impl AnswerReason {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AccessDenied => "AccessDenied",
            Self::TrustRefused => "TrustRefused",
            Self::UnrecognizedClient => "UnrecognizedClient",
            Self::ClockSkew => "ClockSkew",
            Self::Throttled => "Throttled",
            Self::Unavailable => "Unavailable",
            Self::NoIdentity => "NoIdentity",
            Self::Refused => "Refused",
        }
    }
}

/// Whether somebody has to do something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Lasts {
    /// Nobody has to: it is tried again.
    Passing,
    /// Until somebody does.
    Lasting,
}

/// One row of the table.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KnownAnswer {
    from: Service,
    #[serde(default)]
    codes: Vec<String>,
    #[serde(default)]
    status: Option<String>,
    #[serde(default)]
    action: Option<String>,
    #[serde(default)]
    signer: Option<Signer>,
    #[serde(default)]
    text: Option<String>,
    /// What it means.
    pub(crate) reason: AnswerReason,
    /// Whether it passes by itself.
    pub(crate) lasts: Lasts,
    /// What to do.
    pub(crate) advice: String,
    #[cfg_attr(not(test), expect(dead_code, reason = "for readers, and for tests"))]
    example: String,
    #[cfg_attr(not(test), expect(dead_code, reason = "for readers, and for tests"))]
    source: String,
}

/// An answer, as far as its meaning is concerned.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CloudAnswer<'a> {
    /// Who answered.
    pub(crate) from: Service,
    /// The HTTP status.
    pub(crate) status: u16,
    /// The error's code; empty where it has none.
    pub(crate) code: &'a str,
    /// What was asked for, in IAM's words; empty elsewhere.
    pub(crate) action: &'a str,
    /// How the caller proved who it is.
    pub(crate) signer: Option<Signer>,
    /// What it says.
    pub(crate) text: &'a str,
}

static ANSWERS: LazyLock<Vec<KnownAnswer>> = LazyLock::new(|| {
    serde_saphyr::from_str(include_str!("answers.yaml")).expect("the table is read by a test")
});

/// What an answer means; `None`: nobody wrote down such a one.
pub(crate) fn find(answer: &CloudAnswer<'_>) -> Option<&'static KnownAnswer> {
    ANSWERS.iter().find(|row| row.fits(answer))
}

impl KnownAnswer {
    fn fits(&self, answer: &CloudAnswer<'_>) -> bool {
        let is_from = match self.from {
            Service::Any => true,
            Service::Aws => matches!(answer.from, Service::Sts | Service::Ecr),
            from => from == answer.from,
        };
        let code = answer.code.strip_suffix("Exception");
        let code = code.unwrap_or(answer.code);
        is_from
            && (self.codes.is_empty() || self.codes.iter().any(|one| one == code))
            && self.has_status(answer.status)
            && is_unsaid_or(self.action.as_deref(), answer.action)
            && self
                .signer
                .is_none_or(|signer| answer.signer == Some(signer))
            && self
                .text
                .as_deref()
                .is_none_or(|text| holds(answer.text, text))
    }

    fn has_status(&self, status: u16) -> bool {
        let Some(wanted) = self.status.as_deref() else {
            return true;
        };
        match wanted.strip_suffix("xx") {
            Some(hundreds) => hundreds == (status / 100).to_string(),
            None => wanted == status.to_string(),
        }
    }
}

fn is_unsaid_or(wanted: Option<&str>, given: &str) -> bool {
    wanted.is_none_or(|wanted| wanted == given)
}

/// Whether a text holds words, in any case.
fn holds(text: &str, words: &str) -> bool {
    let (text, words) = (text.as_bytes(), words.as_bytes());
    text.windows(words.len())
        .any(|window| window.eq_ignore_ascii_case(words))
}

#[cfg(test)]
mod tests;
