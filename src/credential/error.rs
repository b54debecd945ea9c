//! Why a credential could not be minted, and what to do about it.

use std::time::Duration;

use jiff::Timestamp;
use thiserror::Error;

use super::TenantError;
use super::answers::AnswerReason;
use super::refusal::Refusal;
use crate::api_server::ClusterError;

/// Why a credential could not be minted. Every message says what to do; none holds a secret.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum MintError {
    /// The source Secret is not there, or not labelled.
    #[error(
        "source secret {secret} not found in pullpass' namespace, or without the label pullpass.dev/source=true: create or label it"
    )]
    MissingSource {
        /// The Secret's name.
        secret: String,
    },
    /// The source Secret does not hold what is needed.
    #[error("source secret {secret}: {problem}")]
    MalformedSource {
        /// The Secret's name.
        secret: String,
        /// Which key is wrong, how, and what to do.
        problem: String,
    },
    /// The process has no such identity.
    #[error("no {identity} identity: {problem}")]
    NoIdentity {
        /// `workload`, `node` or `managed`.
        identity: &'static str,
        /// What is missing and what to do.
        problem: String,
    },
    /// The other side refused.
    #[error("{0}")]
    Refused(Box<Refusal>),
    /// No answer in time.
    #[error(
        "no answer from {host} in time: check the network path to it (security groups, network policies, proxies, PrivateLink)"
    )]
    Timeout {
        /// The host that was asked.
        host: String,
    },
    /// No connection, or no TLS session.
    #[error("cannot talk to {host}: {detail}")]
    Network {
        /// The host that was asked.
        host: String,
        /// What failed and what to do, one line.
        detail: String,
    },
    /// An answer that cannot be right; what was there before stays.
    #[error(
        "{host} gave an answer that cannot be used, {problem}: check what answers there (a proxy, or an endpoint that is not the cloud's)"
    )]
    BadAnswer {
        /// The host that answered.
        host: String,
        /// What is wrong with it.
        problem: String,
    },
    /// An answer that ended before it came: one of the two clocks is wrong.
    #[error(
        "{host} gave an answer that has expired already, {problem}: is this node's clock right? check its time synchronization (chrony, timesyncd)"
    )]
    ExpiredAnswer {
        /// The host that answered.
        host: String,
        /// What ended when, and what time it is here.
        problem: String,
    },
    /// The request cannot even be made.
    #[error("no request can be made, {problem}: check region, endpoints and hosts of the Registry")]
    Configuration {
        /// What is wrong.
        problem: String,
    },
    /// The identity's session cannot be renewed on demand and a later one is not there yet.
    #[error(
        "session of {principal} was not renewed yet, it ends at {until}: retrying until its source hands out a later one"
    )]
    SessionNotRenewed {
        /// Whose session.
        principal: String,
        /// When it ends.
        until: jiff::Timestamp,
    },
    /// The identity of a namespace's own ServiceAccount cannot be used.
    #[error(transparent)]
    Tenant(#[from] TenantError),
    /// A role of a chain could not be assumed.
    #[error("role {hop} of {hops} in ecr.assumeRoles, {role_arn}: {cause}")]
    Hop {
        /// Which one, counted from 1.
        hop: usize,
        /// How many there are.
        hops: usize,
        /// The role's ARN.
        role_arn: String,
        /// Why not.
        cause: Box<Self>,
    },
    /// The credential store failed.
    #[error("credential store: {0}")]
    Store(#[from] ClusterError),
    /// The mint ended without an answer (a bug).
    #[error("internal error: the mint task panicked, retrying; please report this with the log")]
    TaskPanicked,
}

impl MintError {
    /// The kind of error in CamelCase, from a closed set, for metrics and conditions.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::MissingSource { .. } => "MissingSource",
            Self::MalformedSource { .. } => "MalformedSource",
            Self::NoIdentity { .. } => "NoIdentity",
            Self::Refused(refusal) => refusal.reason.as_str(),
            Self::Timeout { .. } => "Timeout",
            Self::Network { .. } => "Network",
            Self::BadAnswer { .. } => "InvalidResponse",
            Self::ExpiredAnswer { .. } => AnswerReason::ClockSkew.as_str(),
            Self::Configuration { .. } => "Configuration",
            Self::SessionNotRenewed { .. } => "SessionNotRenewed",
            Self::Tenant(error) => error.reason(),
            Self::Hop { cause, .. } => cause.reason(),
            Self::Store(error) => store_reason(error),
            Self::TaskPanicked => "InternalError",
        }
    }

    /// How long to wait at least before it is tried again, when the other side said so.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused(refusal) => refusal.retry_after,
            Self::SessionNotRenewed { .. } => Some(Duration::from_mins(1)),
            Self::Hop { cause, .. } => cause.retry_after(),
            Self::MissingSource { .. }
            | Self::MalformedSource { .. }
            | Self::NoIdentity { .. }
            | Self::Timeout { .. }
            | Self::Network { .. }
            | Self::BadAnswer { .. }
            | Self::ExpiredAnswer { .. }
            | Self::Configuration { .. }
            | Self::Tenant(_)
            | Self::Store(_)
            | Self::TaskPanicked => None,
        }
    }

    /// Whether the identity itself was refused: what is known of it may be out of date.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Hop { cause, .. } => cause.is_refusal(),
            // What passes says nothing of the identity.
            Self::Refused(refusal) => !refusal.is_passing,
            Self::Tenant(error) => !matches!(
                error,
                TenantError::TokenForbidden { .. }
                    | TenantError::AudienceForbidden { .. }
                    | TenantError::ApiServerAudience { .. }
                    | TenantError::TokenUnreachable { .. }
            ),
            _ => false,
        }
    }

    /// Whether an account or a registry gets more requests than it takes.
    pub(crate) fn is_throttled(&self) -> bool {
        match self {
            Self::Refused(refusal) => refusal.reason == AnswerReason::Throttled,
            Self::Hop { cause, .. } => cause.is_throttled(),
            _ => false,
        }
    }

    /// Whether only those who run pullpass are to see its words: they hold what is theirs (source Secrets, roles, the network, the store)
    /// and not the namespace's. `is_own`: the identity is that of the namespace's own ServiceAccount, so that what refuses it is for the
    /// namespace.
    pub fn is_for_admins(&self, is_own: bool) -> bool {
        match self {
            Self::Refused(_) => !is_own,
            Self::MalformedSource { .. }
            | Self::NoIdentity { .. }
            | Self::Timeout { .. }
            | Self::Network { .. }
            | Self::BadAnswer { .. }
            | Self::ExpiredAnswer { .. }
            | Self::Configuration { .. }
            | Self::SessionNotRenewed { .. }
            // The roles behind the namespace's own are none of its.
            | Self::Hop { .. }
            | Self::Store(_) => true,
            Self::MissingSource { .. } | Self::Tenant(_) | Self::TaskPanicked => false,
        }
    }

    /// Whether no cloud was asked, since the API server could not be.
    pub fn is_of_cluster(&self) -> bool {
        match self {
            Self::Store(error) => !matches!(error, ClusterError::Forbidden { .. }),
            Self::Tenant(error) => matches!(error, TenantError::TokenUnreachable { .. }),
            _ => false,
        }
    }

    /// Whether it mends itself: nobody has to do anything, it is tried again. Of what a cloud answered the word alone does not say: a
    /// session that has expired is renewed, a key is not.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::Hop { cause, .. } => cause.is_passing(),
            Self::Refused(refusal) => refusal.is_passing,
            _ => is_passing_reason(self.reason()),
        }
    }

    /// Whether the credential store could not be reached: not that it refuses, or that others were first.
    pub(crate) fn is_store_unreachable(&self) -> bool {
        matches!(self, Self::Store(error) if store_reason(error) == "StoreUnreachable")
    }
}

/// The reasons of errors, of a mint or of the cluster, that pass without anybody's doing, mostly. All others need a person, though
/// everything is tried again.
const PASSING: [&str; 14] = [
    "Conflict",
    "InternalError",
    "InvalidResponse",
    "NamespaceTerminating",
    "Network",
    "ServiceAccountReplaced",
    "SessionNotRenewed",
    "StoreConflict",
    "StoreUnreachable",
    "Throttled",
    "Timeout",
    "TokenUnreachable",
    "Unavailable",
    "Unreachable",
];

/// Whether this reason is one of those that pass.
pub fn is_passing_reason(reason: &str) -> bool {
    PASSING.contains(&reason)
}

/// What is wrong with an answer; repeats nothing of it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum UnusableAnswer {
    /// It cannot be right.
    Wrong(String),
    /// It ended before it came.
    Expired(String),
}

impl UnusableAnswer {
    /// One that cannot be right.
    pub(crate) fn wrong(problem: impl Into<String>) -> Self {
        Self::Wrong(problem.into())
    }

    /// One (`what`) that ended before it came.
    pub(crate) fn expired(what: &str, ended: Timestamp, now: Timestamp) -> Self {
        Self::Expired(format!("{what} ended at {ended}, and here it is {now:.0}"))
    }

    /// The answer of this host.
    pub(crate) fn of(self, host: String) -> MintError {
        match self {
            Self::Wrong(problem) => MintError::BadAnswer { host, problem },
            Self::Expired(problem) => MintError::ExpiredAnswer { host, problem },
        }
    }
}

/// Why the credential store could not be read or written, in a word.
fn store_reason(error: &ClusterError) -> &'static str {
    match error {
        ClusterError::Forbidden { .. } => "StoreForbidden",
        ClusterError::Conflict { .. } => "StoreConflict",
        _ => "StoreUnreachable",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The log and the Registry's condition go by the same words; of an answer by what it means.
    #[test]
    fn says_of_each_error_whether_it_mends_itself() {
        let text = || "x".to_owned();
        let refused = |is_passing| {
            MintError::Refused(Box::new(Refusal {
                is_passing,
                ..Refusal::of_throttle()
            }))
        };
        let hop = MintError::Hop {
            hop: 1,
            hops: 1,
            role_arn: text(),
            cause: Box::new(refused(false)),
        };
        let (host, problem) = (text(), text());
        let bad = MintError::BadAnswer { host, problem };
        let (what, message) = (text(), text());
        let forbidden = ClusterError::Forbidden { what, message };
        for (error, is_passing) in [
            (bad, true),
            (MintError::TaskPanicked, true),
            (MintError::Timeout { host: text() }, true),
            (
                MintError::from(ClusterError::NotFound { what: text() }),
                true,
            ),
            (MintError::from(forbidden), false),
            (MintError::MissingSource { secret: text() }, false),
            (refused(true), true),
            (refused(false), false),
            (hop, false),
        ] {
            assert_eq!(error.is_passing(), is_passing, "{error}");
        }
    }

    /// What is a namespace's own may be shown there; what is of those who run pullpass, never.
    #[test]
    fn shows_namespaces_nothing_but_what_is_theirs() {
        let refused = || MintError::Refused(Box::new(Refusal::of_throttle()));
        let text = || "other.example.com".to_owned();
        let hop = MintError::Hop {
            hop: 1,
            hops: 1,
            role_arn: "arn:aws:iam::123456789012:role/admin".to_owned(),
            cause: Box::new(refused()),
        };
        let malformed = MintError::MalformedSource {
            secret: "keys".to_owned(),
            problem: text(),
        };
        let store = ClusterError::NotFound { what: text() };
        let replaced = TenantError::Replaced {
            namespace: "a".to_owned(),
            service_account: "b".to_owned(),
        };
        // Where the identity is the namespace's own, and where it is another.
        for (error, expected) in [
            (refused(), [false, true]),
            (MintError::from(replaced), [false, false]),
            (hop, [true, true]),
            (malformed, [true, true]),
            (MintError::from(store), [true, true]),
            (MintError::Timeout { host: text() }, [true, true]),
        ] {
            let found = [true, false].map(|is_own| error.is_for_admins(is_own));
            assert_eq!(found, expected, "{error}");
        }
    }
}
