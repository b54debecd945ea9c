//! Whether the fixed logins of a source Secret are taken: each is tried on the hosts that the Registry's images name, and nowhere else.
//!
//! What an admin wrote decides where a login goes: a host of `images`, literally. A host that only the Secret names is not asked, nor is
//! one for which a pattern with `*` stands, nor a token service on another host; the client of registries speaks https alone, follows no
//! redirect and reads a bounded answer.

use std::collections::BTreeSet;

use async_trait::async_trait;

use super::SourceSecret;
use super::http::HttpClient;
use super::registry_client::{LoginMethod, RegistryClient, RegistryClientError};
use super::static_login::{self, Login};
use crate::plain_text::Fingerprint;

/// How many logins of one Registry are tried: more say nothing of the others.
const MAX_TRIES: usize = 8;

/// What to do where nobody could tell.
const OF_THE_LOGIN: &str = "check that the login may pull from it";
/// See [`OF_THE_LOGIN`].
const OF_THE_HOST: &str =
    "check the host in the Registry's images, and what answers there (a proxy?)";
/// See [`OF_THE_LOGIN`].
const OF_THE_WAY: &str = "check name resolution, proxies, network policies and certificates between pullpass and it; nodes may pull from it all the same";

/// What trying a Registry's logins showed. The messages say what to do; none holds a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoginOutcome {
    /// Each host takes its login.
    Taken,
    /// A host refuses one with 401.
    Refused {
        /// In words for people, with the host's own.
        message: String,
    },
    /// Nothing speaks against them, and not all were tried or answered.
    Unknown {
        /// Why, in one CamelCase word.
        reason: &'static str,
        /// In words for people.
        message: String,
        /// Whether it may be another answer later, though nothing changes here.
        is_passing: bool,
    },
}

/// Tries fixed logins.
#[async_trait]
pub trait LoginChecker: Send + Sync {
    /// Tries what a source Secret holds for the keys of one Registry, within a bounded time.
    async fn check(&self, secret: &SourceSecret, keys: &[String]) -> LoginOutcome;
}

#[async_trait]
impl LoginChecker for HttpClient {
    async fn check(&self, secret: &SourceSecret, keys: &[String]) -> LoginOutcome {
        let logins = match static_login::logins(secret, keys, &[]) {
            Ok(logins) => logins,
            Err(error) => return unknown("MalformedSource", error.to_string(), false),
        };
        let LoginTries { tries, untried } = find_tries(keys, logins);
        let mut outcomes = Vec::with_capacity(tries.len() + 1);
        for (host, login) in tries {
            let client = RegistryClient::new(self, &host, &login.username, &login.password);
            outcomes.push(read_answer(&host, client.login().await));
        }
        outcomes.extend(untried);
        summarise(outcomes)
    }
}

/// The logins to be tried, each with its host; and why others are not.
struct LoginTries {
    tries: Vec<(String, Login)>,
    untried: Option<LoginOutcome>,
}

fn find_tries(keys: &[String], logins: Vec<Login>) -> LoginTries {
    let named: BTreeSet<&str> = keys.iter().map(|key| host_of(key)).collect();
    let (mut tries, mut untried) = (Vec::new(), None);
    let mut seen = BTreeSet::new();
    for login in logins {
        let host = host_of(&login.key).to_owned();
        let fingerprint = Fingerprint::default()
            .add(&host)
            .add(&login.username)
            .add_secret(&login.password);
        if !seen.insert(fingerprint.finish()) {
            continue;
        }
        if host.contains('*') || !named.contains(&*host) {
            let message = format!(
                "images name {host} by a pattern, not literally, so its login is not tried; `pullpass check` tries it with an image"
            );
            untried.get_or_insert_with(|| unknown("HostPattern", message, false));
        } else if tries.len() < MAX_TRIES {
            tries.push((host, login));
        } else {
            let message = format!("only {MAX_TRIES} of its logins are tried");
            untried.get_or_insert_with(|| unknown("TooManyLogins", message, false));
        }
    }
    LoginTries { tries, untried }
}

/// The host of an `auths` key, with its port.
fn host_of(key: &str) -> &str {
    key.split('/').next().unwrap_or_default()
}

fn read_answer(host: &str, answer: Result<LoginMethod, RegistryClientError>) -> LoginOutcome {
    let error = match answer {
        Ok(LoginMethod::Basic | LoginMethod::Token) => return LoginOutcome::Taken,
        Ok(LoginMethod::Open) => {
            let message = format!("{host} asks for no login, so none was tried");
            return unknown("LoginNotRequired", message, false);
        }
        Err(error) => error,
    };
    let message = error.to_string();
    let known = |reason, is_passing, advice: &str| {
        unknown(reason, format!("{message}: {advice}"), is_passing)
    };
    match &error {
        RegistryClientError::Refused { status: 401, .. }
        | RegistryClientError::Known { status: 401, .. } => LoginOutcome::Refused { message },
        RegistryClientError::ForeignRealm { realm, .. } => {
            let advice = format!("`pullpass check --token-service {realm}` tries it there");
            known("ForeignRealm", false, &advice)
        }
        RegistryClientError::Known {
            status: 403,
            advice,
            ..
        } => known("Forbidden", true, advice),
        RegistryClientError::Refused { .. } => known("Forbidden", true, OF_THE_LOGIN),
        RegistryClientError::Known {
            reason,
            is_passing,
            advice,
            ..
        } => known(reason.as_str(), *is_passing, advice),
        RegistryClientError::NotFound { .. } | RegistryClientError::BadAnswer { .. } => {
            known("InvalidResponse", true, OF_THE_HOST)
        }
        RegistryClientError::Timeout { .. } => known("Timeout", true, OF_THE_WAY),
        RegistryClientError::Network { .. } => known("Network", true, OF_THE_WAY),
    }
}

/// One that is refused counts more than one that is not known, and that more than one that is taken.
fn summarise(outcomes: Vec<LoginOutcome>) -> LoginOutcome {
    let mut first_unknown = None;
    for outcome in outcomes {
        match outcome {
            LoginOutcome::Taken => {}
            LoginOutcome::Refused { .. } => return outcome,
            // What may pass is tried again, and all others with it.
            LoginOutcome::Unknown { is_passing, .. } => {
                if is_passing || first_unknown.is_none() {
                    first_unknown = Some(outcome);
                }
            }
        }
    }
    first_unknown.unwrap_or(LoginOutcome::Taken)
}

fn unknown(reason: &'static str, message: impl Into<String>, is_passing: bool) -> LoginOutcome {
    LoginOutcome::Unknown {
        reason,
        message: message.into(),
        is_passing,
    }
}

#[cfg(test)]
mod tests;
