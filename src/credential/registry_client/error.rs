//! Why a registry did not do what it was asked.

use std::time::Duration;

use thiserror::Error;

use super::super::answers::AnswerReason;

/// Why a login was of no use. No message holds a secret.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(crate) enum RegistryClientError {
    /// The registry does not take the login, or not for this image.
    #[error("{host} refuses {what} (HTTP {status}): {answer}")]
    Refused {
        /// The registry.
        host: String,
        /// What was asked for.
        what: String,
        /// 401 or 403.
        status: u16,
        /// The registry's words, one line.
        answer: String,
        /// The repository that answered, if one did.
        repository: Option<Box<str>>,
    },
    /// Its token service takes the login, and the repository does not take the token: nobody can tell what that says of the login.
    #[error(
        "{host} gives a token for the login and does not take it at repository {repository} (HTTP 401): {answer}"
    )]
    TokenRefused {
        /// The registry.
        host: String,
        /// The repository that answered.
        repository: String,
        /// The registry's words, one line.
        answer: String,
    },
    /// The registry has no such image.
    #[error("{host} has no {what}: {answer}")]
    NotFound {
        /// The registry.
        host: String,
        /// What was asked for.
        what: String,
        /// The registry's words, one line.
        answer: String,
    },
    /// An answer whose meaning is known ([`super::super::answers`]).
    #[error("{host} refuses {what} (HTTP {status}): {answer}")]
    Known {
        /// The registry.
        host: String,
        /// What was asked for.
        what: String,
        /// The HTTP status.
        status: u16,
        /// The registry's words, one line.
        answer: String,
        /// What it means.
        reason: AnswerReason,
        /// Whether it passes by itself.
        is_passing: bool,
        /// How long it asks to be left alone.
        retry_after: Option<Duration>,
        /// What to do.
        advice: &'static str,
        /// The repository that answered, if one did.
        repository: Option<Box<str>>,
    },
    /// The registry sends logins to another host.
    #[error("{host} has its logins checked by {realm}, another host: not asked")]
    ForeignRealm {
        /// The registry.
        host: String,
        /// The host of the token service.
        realm: String,
    },
    /// An answer that is not a registry's.
    #[error("{host} does not answer like a registry, {problem}")]
    BadAnswer {
        /// The host that answered.
        host: String,
        /// What is wrong.
        problem: String,
    },
    /// No answer in time.
    #[error("no answer from {host} in time")]
    Timeout {
        /// The host that was asked.
        host: String,
    },
    /// No connection, or no TLS session.
    #[error("cannot talk to {host}: {detail}")]
    Network {
        /// The host that was asked.
        host: String,
        /// What failed, one line.
        detail: String,
    },
}

impl RegistryClientError {
    /// The same, of what this repository answered.
    pub(super) fn at_repository(mut self, path: &str) -> Self {
        if let Self::Refused { repository, .. } | Self::Known { repository, .. } = &mut self {
            *repository = Some(path.into());
        }
        self
    }

    /// Whether the registry does not take the login, as a 401 says.
    pub(crate) fn refuses_login(&self) -> bool {
        matches!(
            self,
            Self::Refused { status: 401, .. } | Self::Known { status: 401, .. }
        )
    }

    /// The repository that refused, if one did.
    pub(crate) fn repository(&self) -> Option<&str> {
        match self {
            Self::Refused { repository, .. } | Self::Known { repository, .. } => {
                repository.as_deref()
            }
            _ => None,
        }
    }
}
