//! Whether the fixed logins of a source Secret are taken: each is tried on the hosts that the Registry's images name, and nowhere else.
//!
//! What an admin wrote decides where a login goes: a host of `images`, literally. A host that only the Secret names is not asked, nor is
//! one for which a pattern with `*` stands, nor a token service on another host; the client of registries speaks https alone, follows no
//! redirect and reads a bounded answer.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use secrecy::SecretString;

use super::SourceSecret;
use super::http::HttpClient;
use super::registry_client::{LoginMethod, RegistryClient, RegistryClientError};
use super::static_login;
use crate::plain_text::Fingerprint;
use crate::registry::Pattern;

/// How many logins of one Registry are tried: more say nothing of the others.
const MAX_TRIES: usize = 8;

/// Anybody may pull.
const NOT_REQUIRED: &str = "LoginNotRequired";
/// Anybody may see the endpoint `/v2/`, and no repository is known that asks for a login.
const NO_LOGIN_ASKED: &str = "NoLoginAsked";

/// At how many repositories a login is tried where the endpoint `/v2/` of their registry is open.
pub const MAX_PATHS: usize = 3;

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
        /// How long the registry asks to be left alone.
        retry_after: Option<Duration>,
    },
}

impl LoginOutcome {
    /// Whether nobody was sent a login, as none was asked for: what is known of more repositories may be another answer.
    pub fn is_unsent(&self) -> bool {
        matches!(self, Self::Unknown { reason, .. } if [NOT_REQUIRED, NO_LOGIN_ASKED].contains(reason))
    }
}

/// Tries fixed logins.
#[async_trait]
pub trait LoginChecker: Send + Sync {
    /// Tries one login on its host, within a bounded time.
    async fn check(&self, attempt: &LoginTry) -> LoginOutcome;
}

#[async_trait]
impl LoginChecker for HttpClient {
    async fn check(&self, attempt: &LoginTry) -> LoginOutcome {
        let LoginTry {
            host,
            username,
            password,
            paths,
            ..
        } = attempt;
        let client = RegistryClient::new(self, host, username, password);
        let answer = client.login(paths.iter().map(String::as_str)).await;
        read_answer(attempt, answer)
    }
}

/// What is tried, as one word: a host, a user name and a password. It tells nothing of them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LoginId([u8; 32]);

/// Not even a digest of a password is shown.
impl fmt::Debug for LoginId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("LoginId")
    }
}

impl LoginId {
    /// That of a login on a host.
    pub(crate) fn of(host: &str, username: &str, password: &SecretString) -> Self {
        let fingerprint = Fingerprint::default()
            .add(host)
            .add(username)
            .add_secret(password);
        Self(fingerprint.finish())
    }
}

/// A login to be tried on a host.
#[derive(Clone, Debug)]
pub struct LoginTry {
    /// The same for all who would try the same.
    pub id: LoginId,
    /// With its port, if it has one.
    pub host: String,
    /// The user name.
    pub username: String,
    /// The password; never shown.
    pub password: SecretString,
    /// A few repositories that it is for, or what they are below; none: the whole host.
    pub paths: BTreeSet<String>,
}

impl LoginTry {
    /// It is for this repository, too.
    fn add_path(&mut self, path: String) {
        self.paths.insert(path);
        if self.paths.len() > MAX_PATHS {
            self.paths.pop_last();
        }
    }
}

/// What is tried of a source Secret for one Registry.
#[derive(Clone, Debug, Default)]
pub struct LoginTries {
    /// The logins, each with its host, and each once.
    pub tries: Vec<LoginTry>,
    /// Why others are not.
    pub untried: Option<LoginOutcome>,
}

/// Finds what is tried of what a source Secret holds for the keys of one Registry; what lies in `reserved` is not the Registry's.
pub fn find_tries(secret: &SourceSecret, keys: &[String], reserved: &[String]) -> LoginTries {
    let mut found = LoginTries::default();
    let logins = match static_login::logins(secret, keys, reserved) {
        Ok(logins) => logins,
        Err(error) => {
            found.untried = Some(unknown("MalformedSource", error.to_string(), false));
            return found;
        }
    };
    let named: BTreeSet<&str> = keys.iter().map(|key| host_of(key)).collect();
    let mut seen = BTreeSet::new();
    for login in logins {
        let host = host_of(&login.key).to_owned();
        let id = LoginId::of(&host, &login.username, &login.password);
        let path = path_of(&login.key);
        if !seen.insert(id) {
            let known = found.tries.iter_mut().find(|known| known.id == id);
            if let (Some(known), Some(path)) = (known, path) {
                known.add_path(path);
            }
            continue;
        }
        if host.contains('*') || !named.contains(&*host) {
            let message = format!(
                "images name {host} by a pattern, not literally, so its login is not tried; `pullpass check` tries it with an image"
            );
            let untried = || unknown("HostPattern", message, false);
            found.untried.get_or_insert_with(untried);
        } else if found.tries.len() < MAX_TRIES {
            found.tries.push(LoginTry {
                id,
                host,
                username: login.username,
                password: login.password,
                paths: path.into_iter().collect(),
            });
        } else {
            let message = format!("only {MAX_TRIES} of its logins are tried");
            let untried = || unknown("TooManyLogins", message, false);
            found.untried.get_or_insert_with(untried);
        }
    }
    found
}

/// The host of an `auths` key, with its port.
pub(crate) fn host_of(key: &str) -> &str {
    key.split('/').next().unwrap_or_default()
}

/// The path of an `auths` key, if it has one.
pub(crate) fn path_of(key: &str) -> Option<String> {
    let pattern = Pattern::of_key(key)?;
    Some(pattern.path().to_owned()).filter(|path| !path.is_empty())
}

fn read_answer(
    attempt: &LoginTry,
    answer: Result<LoginMethod, RegistryClientError>,
) -> LoginOutcome {
    let error = match answer {
        Ok(LoginMethod::Basic | LoginMethod::Token) => return LoginOutcome::Taken,
        Ok(LoginMethod::Open) => {
            let message = format!("{} asks for no login, so none was tried", attempt.host);
            return unknown(NOT_REQUIRED, message, false);
        }
        Ok(LoginMethod::NotAsked) => return untried(attempt),
        Err(error) => error,
    };
    let message = error.to_string();
    let retry_after = match &error {
        RegistryClientError::Known { retry_after, .. } => *retry_after,
        _ => None,
    };
    let known = |reason, is_passing, advice: &str| LoginOutcome::Unknown {
        reason,
        message: format!("{message}: {advice}"),
        is_passing,
        retry_after,
    };
    match &error {
        error if error.refuses_login() => LoginOutcome::Refused { message },
        RegistryClientError::ForeignRealm { realm, .. } => {
            let advice = format!("`pullpass check --token-service {realm}` tries it there");
            known("ForeignRealm", false, &advice)
        }
        RegistryClientError::Known {
            status: 403,
            advice,
            ..
        } => known("Forbidden", true, advice),
        RegistryClientError::Refused { .. } | RegistryClientError::TokenRefused { .. } => {
            known("Forbidden", true, OF_THE_LOGIN)
        }
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

fn untried(LoginTry { host, paths, .. }: &LoginTry) -> LoginOutcome {
    let message = format!(
        "{}, so the login is not tried; `pullpass check` tries it with an image",
        describe_untried(host, paths.iter().map(String::as_str))
    );
    // A repository may come later.
    unknown(NO_LOGIN_ASKED, message, !paths.is_empty())
}

/// Why a registry whose endpoint `/v2/` is open was sent no login.
pub(crate) fn describe_untried<'p>(host: &str, paths: impl Iterator<Item = &'p str>) -> String {
    let paths: Vec<&str> = paths.collect();
    let which = match &paths[..] {
        [] => "no repository that asks for one is known".to_owned(),
        paths => format!("it does not say whether {} does", paths.join(", ")),
    };
    format!("{host} asks for no login at the endpoint /v2/, and {which}")
}

/// What several tries of one Registry show: one that is refused counts more than one that is not known, and that more than one that is taken.
pub fn summarise<'o>(outcomes: impl IntoIterator<Item = &'o LoginOutcome>) -> LoginOutcome {
    let mut first_unknown = None;
    for outcome in outcomes {
        match outcome {
            LoginOutcome::Taken => {}
            LoginOutcome::Refused { .. } => return outcome.clone(),
            // What may pass is tried again: it is not the last word.
            LoginOutcome::Unknown { is_passing, .. } => {
                if *is_passing || first_unknown.is_none() {
                    first_unknown = Some(outcome);
                }
            }
        }
    }
    first_unknown.cloned().unwrap_or(LoginOutcome::Taken)
}

fn unknown(reason: &'static str, message: impl Into<String>, is_passing: bool) -> LoginOutcome {
    LoginOutcome::Unknown {
        reason,
        message: message.into(),
        is_passing,
        retry_after: None,
    }
}

#[cfg(test)]
mod tests;
