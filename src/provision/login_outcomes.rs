//! What came of the last requests of kubelets for a Registry's login. Pure.
//!
//! Each credential of the Registry has an outcome of its own, and so has each namespace whose own ServiceAccount mints.

use std::borrow::Cow;
use std::collections::BTreeMap;

use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp, ToSpan as _};
use serde::{Deserialize, Serialize};

use super::Pending;
use super::node_list::{REMEMBERED_DAYS, day_of};
use crate::credential::one_line::shorten;
use crate::names::NamespaceName;
use crate::registry::CredentialSource;

/// How many failures are kept of one Registry: they are in an annotation, and an object has 256 KiB of those.
/// <https://kubernetes.io/docs/concepts/overview/working-with-objects/annotations/>
pub const MAX_FAILURES: usize = 30;

/// How many bytes of a message are kept.
const MAX_MESSAGE: usize = 800;

/// When a failure that goes on is noted again.
const REFRESH: SignedDuration = SignedDuration::from_hours(1);

/// How long the failure of a namespace's own identity counts after it was seen last. A kubelet asks for a Pod that waits at least every 5
/// minutes, and it is noted every two hours at least: after this no Pod waits there any more.
/// <https://kubernetes.io/docs/concepts/containers/images/#imagepullbackoff>
const ASKED_AGAIN: SignedDuration = SignedDuration::from_hours(4);

/// How long a reason is at most, in bytes: an Event has it, too.
/// <https://github.com/kubernetes/kubernetes/blob/v1.36.0/pkg/apis/core/validation/events.go>
const MAX_REASON: usize = 128;

/// Why something is as it is, in one word of those of conditions. A text is another replica's, which may be of another version.
pub type ReasonWord = Cow<'static, str>;

/// The word that was written; `None`: it has not the form of a condition's reason, or is too long for an Event's.
/// <https://github.com/kubernetes/apimachinery/blob/v0.36.0/pkg/apis/meta/v1/types.go> (`Condition.reason`)
pub fn parse_reason(text: &str) -> Option<ReasonWord> {
    let is_word = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let has_form = text.len() <= MAX_REASON
        && text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.ends_with(is_word)
        && text
            .chars()
            .all(|letter| is_word(letter) || ",:".contains(letter));
    has_form.then(|| Cow::Owned(text.to_owned()))
}

/// Of which credential an outcome is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LoginSource {
    /// Everything that decides the credential, in one line without a secret.
    pub source: String,
    /// The namespace whose own ServiceAccount mints it; `None`: the identity is the Registry's.
    pub namespace: Option<NamespaceName>,
}

impl LoginSource {
    /// That of a credential which is asked for in this namespace; `None`: it is a fixed login, and what is wrong with its Secret is known
    /// without anybody asking.
    pub fn of(source: &CredentialSource, namespace: &NamespaceName) -> Option<Self> {
        let CredentialSource::Minted(source) = source else {
            return None;
        };
        Some(Self {
            source: source.canonical(),
            namespace: source.unbound().map(|_| namespace.clone()),
        })
    }
}

/// Why a request got no login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginFailure {
    /// When it was seen last, to the second.
    pub at: Timestamp,
    /// Why.
    pub reason: ReasonWord,
    /// What happened and what to do, for those who run pullpass; no secret in it.
    pub message: String,
}

impl LoginFailure {
    /// What is kept of it.
    pub fn new(pending: &Pending, at: Timestamp) -> Self {
        Self {
            at: super::secret::seconds(at),
            reason: Cow::Borrowed(pending.reason),
            message: shorten(&pending.message, MAX_MESSAGE),
        }
    }
}

/// How soon others have to know of an outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// It changes what is said of the Registry.
    Now,
    /// It says that all is as it was.
    Later,
}

/// The last outcomes of one Registry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoginOutcomes {
    /// The last day on which a request got its login.
    served: Option<Date>,
    failures: BTreeMap<LoginSource, LoginFailure>,
}

impl LoginOutcomes {
    /// The last day, in UTC, on which a request got its login; `None`: none did in the last 14 days.
    pub fn served(&self) -> Option<Date> {
        self.served
    }

    /// What fails, and why.
    pub fn failures(&self) -> impl Iterator<Item = (&LoginSource, &LoginFailure)> {
        self.failures.iter()
    }

    /// Whether a login of this source that was given then is to be noted; `None`: nothing of it is new.
    pub fn lacks_served(&self, source: Option<&LoginSource>, at: Timestamp) -> Option<Urgency> {
        let failure = source.and_then(|source| self.failures.get(source));
        if self.served.is_none() || failure.is_some_and(|failure| failure.at <= at) {
            return Some(Urgency::Now);
        }
        (self.served < Some(day_of(at))).then_some(Urgency::Later)
    }

    /// Whether this failure is to be noted; `None`: nothing of it is new, or there is no room.
    pub fn lacks_failure(&self, source: &LoginSource, failure: &LoginFailure) -> Option<Urgency> {
        match self.failures.get(source) {
            Some(known) if known.reason != failure.reason => Some(Urgency::Now),
            Some(known) => {
                (failure.at.duration_since(known.at) >= REFRESH).then_some(Urgency::Later)
            }
            None => (self.failures.len() < MAX_FAILURES).then_some(Urgency::Now),
        }
    }

    /// Notes that a request got a login of this source.
    pub fn note_served(&mut self, source: Option<&LoginSource>, at: Timestamp) {
        self.served = self.served.max(Some(day_of(at)));
        let is_over = |failure: &LoginFailure| failure.at <= at;
        if let Some(source) = source.filter(|one| self.failures.get(*one).is_some_and(is_over)) {
            self.failures.remove(source);
        }
    }

    /// Notes that one got none. What does not fit is left out.
    pub fn note_failure(&mut self, source: &LoginSource, failure: &LoginFailure) {
        if self.lacks_failure(source, failure).is_some() {
            self.failures.insert(source.clone(), failure.clone());
        }
    }

    /// Forgets what was not seen lately, and what only was in times to come, by a clock that was wrong.
    pub fn forget_old(&mut self, now: Timestamp) {
        let today = day_of(now);
        let first = today.checked_sub(REMEMBERED_DAYS.days());
        let last = today.tomorrow().unwrap_or(Date::MAX);
        let days = first.unwrap_or(Date::MIN)..=last;
        self.served = self.served.filter(|day| days.contains(day));
        self.failures.retain(|source, failure| {
            let is_asked_for =
                source.namespace.is_none() || now.duration_since(failure.at) < ASKED_AGAIN;
            days.contains(&day_of(failure.at)) && is_asked_for
        });
    }

    /// What is in an annotation. What cannot be read is left out.
    pub fn parse(text: &str) -> Self {
        let written: Written = serde_json::from_str(text).unwrap_or_default();
        let read = |one: WrittenFailure| {
            let namespace = one.namespace.map(|name| NamespaceName::parse(&name));
            let source = LoginSource {
                source: one.source,
                namespace: namespace.transpose().ok()?,
            };
            let failure = LoginFailure {
                at: one.at.parse().ok()?,
                reason: parse_reason(&one.reason)?,
                message: shorten(&one.message, MAX_MESSAGE),
            };
            Some((source, failure))
        };
        let failures = written.failing.into_iter().filter_map(read);
        Self {
            served: written.served.and_then(|day| day.parse().ok()),
            failures: failures.take(MAX_FAILURES).collect(),
        }
    }

    /// The same as it is written.
    pub fn format(&self) -> String {
        let failing = self
            .failures
            .iter()
            .map(|(source, failure)| WrittenFailure {
                source: source.source.clone(),
                namespace: source.namespace.as_ref().map(ToString::to_string),
                at: failure.at.to_string(),
                reason: failure.reason.clone().into_owned(),
                message: failure.message.clone(),
            });
        let written = Written {
            served: self.served.map(|day| day.to_string()),
            failing: failing.collect(),
        };
        serde_json::to_string(&written).unwrap_or_default()
    }
}

/// The form in which it is written.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Written {
    #[serde(skip_serializing_if = "Option::is_none")]
    served: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    failing: Vec<WrittenFailure>,
}

#[derive(Serialize, Deserialize)]
struct WrittenFailure {
    source: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    namespace: Option<String>,
    at: String,
    reason: String,
    message: String,
}

#[cfg(test)]
mod tests;
