//! Fixed logins out of source Secrets: of type `kubernetes.io/basic-auth`, or `kubernetes.io/dockerconfigjson`, of which only the
//! entries count that the kubelet would use for the Registry's images.

mod entry;

use std::collections::{BTreeMap, BTreeSet};

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::value::RawValue;
use thiserror::Error;

use super::SourceSecret;
use entry::{Location, has_only_identity_token, normalise, parse_login};

const BASIC_AUTH: &str = "kubernetes.io/basic-auth";
const DOCKER_CONFIG_JSON: &str = "kubernetes.io/dockerconfigjson";
const DOCKER_CONFIG_KEY: &str = ".dockerconfigjson";

/// A user name and password, and the `auths` key that they are kept under.
#[derive(Clone, Debug)]
pub struct Login {
    /// The `auths` key: one that was asked for, or a narrower one in the Secret.
    pub key: String,
    /// The user name.
    pub username: String,
    /// The password; never shown.
    pub password: SecretString,
}

/// Why a source Secret gives no login. Every message names the Secret and what to do; none holds a secret.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum StaticLoginError {
    /// The Secret is of another type.
    #[error(
        "source secret {secret} has the type {type_}: use {BASIC_AUTH} or {DOCKER_CONFIG_JSON}"
    )]
    WrongType {
        /// The Secret's name.
        secret: String,
        /// Its type.
        type_: String,
    },
    /// A key is missing or empty.
    #[error("source secret {secret} has no {key}, or an empty one: add it")]
    MissingKey {
        /// The Secret's name.
        secret: String,
        /// The key.
        key: &'static str,
    },
    /// A value cannot be used.
    #[error("source secret {secret}, key {key}: {problem}")]
    Malformed {
        /// The Secret's name.
        secret: String,
        /// The key.
        key: &'static str,
        /// What is wrong and what to do; for a dockerconfigjson with the entry.
        problem: String,
    },
    /// The dockerconfigjson holds no login at all.
    #[error(
        "source secret {secret} holds no login, only {found}: put user name and password under auths"
    )]
    NoLogins {
        /// The Secret's name.
        secret: String,
        /// What is there instead.
        found: &'static str,
    },
    /// No entry is for the Registry's images.
    #[error(
        "source secret {secret} has no entry for {wanted}; it has {found}: add the entry or correct the Registry's images"
    )]
    NoMatch {
        /// The Secret's name.
        secret: String,
        /// The keys that were asked for.
        wanted: String,
        /// The keys of the entries that are there.
        found: String,
    },
}

/// The logins that `secret` holds for the `auths` keys of a Registry. What lies in `reserved` is not the Registry's: an entry there
/// is left out, unless it was asked for.
///
/// A basic-auth Secret's login is under every key. Of a dockerconfigjson each key gets the entry that the kubelet would try
/// first for an image under it, and entries narrower than a key keep their own key. `auth` wins over `username` and `password`;
/// `credsStore`, `credHelpers` and `identitytoken` are ignored, as the kubelet does.
///
/// <https://github.com/kubernetes/kubernetes/blob/master/pkg/credentialprovider/keyring.go>
///
/// # Errors
/// [`StaticLoginError`] when the Secret gives no login for any of the keys.
pub fn logins(
    secret: &SourceSecret,
    keys: &[String],
    reserved: &[String],
) -> Result<Vec<Login>, StaticLoginError> {
    match secret.type_.as_str() {
        BASIC_AUTH => find_basic(secret, keys),
        DOCKER_CONFIG_JSON => find_entries(secret, keys, reserved),
        other => Err(StaticLoginError::WrongType {
            secret: secret.name.to_string(),
            type_: super::one_line::one_line(other),
        }),
    }
}

/// All logins of a source Secret that can be read, under whatever keys.
pub fn all_logins(secret: &SourceSecret) -> Vec<Login> {
    match secret.type_.as_str() {
        BASIC_AUTH => find_basic(secret, &[String::new()]).unwrap_or_default(),
        DOCKER_CONFIG_JSON => {
            let auths = parse_config(secret).ok().and_then(|config| config.auths);
            let logins = auths.into_iter().flatten().filter_map(|(key, entry)| {
                let (username, password) = parse_login(entry.get()).ok()??;
                Some(Login {
                    key,
                    username,
                    password,
                })
            });
            logins.collect()
        }
        _ => Vec::new(),
    }
}

fn find_basic(secret: &SourceSecret, keys: &[String]) -> Result<Vec<Login>, StaticLoginError> {
    let value = |key: &'static str| {
        let missing = StaticLoginError::MissingKey {
            secret: secret.name.to_string(),
            key,
        };
        let text = std::str::from_utf8(bytes(secret, key).ok_or(missing.clone())?)
            .map_err(|_| malformed(secret, key, "it is not UTF-8: check how it was encoded"))?;
        let text = normalise(text);
        if text.is_empty() {
            Err(missing)
        } else {
            Ok(text)
        }
    };
    let (username, password) = (value("username")?, value("password")?);
    if username.contains(':') {
        return Err(malformed(
            secret,
            "username",
            "a user name cannot hold a colon: check whether it holds the password, too",
        ));
    }
    let login = |key: &String| Login {
        key: key.clone(),
        username: username.to_owned(),
        password: password.into(),
    };
    Ok(keys.iter().map(login).collect())
}

/// The parts of a dockerconfigjson that the kubelet reads, and those that explain why it holds nothing.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DockerConfig<'a> {
    #[serde(borrow, default)]
    auths: Option<BTreeMap<String, &'a RawValue>>,
    #[serde(borrow, default)]
    cred_helpers: Option<&'a RawValue>,
    #[serde(borrow, default)]
    creds_store: Option<&'a RawValue>,
}

fn find_entries(
    secret: &SourceSecret,
    keys: &[String],
    reserved: &[String],
) -> Result<Vec<Login>, StaticLoginError> {
    let config = parse_config(secret)?;
    let auths = config.auths.unwrap_or_default();
    let mut entries: Vec<_> = auths
        .iter()
        .filter_map(|(key, value)| Some((Location::parse(key)?, key, value)))
        .collect();
    entries.sort_by(|(left, ..), (right, ..)| right.rank().cmp(&left.rank()));
    let mut found = Vec::new();
    for target in find_targets(&entries, keys, reserved) {
        // Whose login the kubelet would try first there: a glob entry, cut to a literal host of the Registry, must not rise over an
        // entry that came before it.
        for (_, entry, value) in entries
            .iter()
            .filter(|(location, ..)| location.covers(&target))
        {
            let bad = |problem| {
                malformed(
                    secret,
                    DOCKER_CONFIG_KEY,
                    &format!("the entry {entry:?} {problem}"),
                )
            };
            if let Some((username, password)) = parse_login(value.get()).map_err(bad)? {
                let key = target.key().to_owned();
                found.push(Login {
                    key,
                    username,
                    password,
                });
                break;
            }
        }
    }
    if found.is_empty() {
        let has_helpers = config.cred_helpers.is_some() || config.creds_store.is_some();
        return Err(explain_nothing(secret, keys, &auths, has_helpers));
    }
    Ok(found)
}

/// What there are logins for: all that an entry and a key have in common, without what is reserved.
fn find_targets(
    entries: &[(Location, &String, &&RawValue)],
    keys: &[String],
    reserved: &[String],
) -> BTreeSet<Location> {
    let parse = |keys: &[String]| {
        keys.iter()
            .filter_map(|key| Location::parse(key))
            .collect::<Vec<_>>()
    };
    let (keys, reserved) = (parse(keys), parse(reserved));
    // Of a key and a reserved one that both cover it, the inner one decides; of a key that is reserved itself nothing narrower is ours.
    let is_reserved = |target: &Location| {
        reserved.iter().any(|outer| {
            let is_key_within = |key: &Location| {
                target.lies_in(key) && key.lies_in(outer) && (key != outer || target == key)
            };
            target.lies_in(outer) && !keys.iter().any(is_key_within)
        })
    };
    let common = entries
        .iter()
        .flat_map(|(entry, ..)| keys.iter().filter_map(|key| entry.within(key)));
    let targets = common.filter_map(|key| Location::parse(&key));
    targets.filter(|target| !is_reserved(target)).collect()
}

fn parse_config(secret: &SourceSecret) -> Result<DockerConfig<'_>, StaticLoginError> {
    let bytes = bytes(secret, DOCKER_CONFIG_KEY).ok_or_else(|| StaticLoginError::MissingKey {
        secret: secret.name.to_string(),
        key: DOCKER_CONFIG_KEY,
    })?;
    let unreadable = |place: String| {
        let problem = format!(
            "it is not a Docker configuration in JSON{place}: recreate it with `kubectl create secret docker-registry`"
        );
        malformed(secret, DOCKER_CONFIG_KEY, &problem)
    };
    // An array would be read as the fields in their order.
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        return Err(unreadable(String::new()));
    }
    serde_json::from_slice(bytes).map_err(|error| {
        unreadable(format!(
            " (line {}, column {})",
            error.line(),
            error.column()
        ))
    })
}

fn explain_nothing(
    secret: &SourceSecret,
    keys: &[String],
    auths: &BTreeMap<String, &RawValue>,
    has_helpers: bool,
) -> StaticLoginError {
    let secret = secret.name.to_string();
    let has_login = auths
        .values()
        .any(|entry| !matches!(parse_login(entry.get()), Ok(None)));
    let is_wanted = |entry: &String| {
        let entry = Location::parse(entry);
        let mut wanted = keys.iter().filter_map(|key| Location::parse(key));
        entry.is_some_and(|entry| wanted.any(|key| entry.within(&key).is_some()))
    };
    let mut entries = auths.iter();
    if entries.any(|(key, entry)| is_wanted(key) && has_only_identity_token(entry.get())) {
        return StaticLoginError::NoLogins {
            secret,
            found: "an identitytoken, which the kubelet ignores",
        };
    }
    if !has_login && has_helpers {
        return StaticLoginError::NoLogins {
            secret,
            found: "credHelpers or credsStore, which neither the kubelet nor pullpass runs",
        };
    }
    let list = |keys: &mut dyn Iterator<Item = &String>| {
        let shown: Vec<_> = keys
            .take(5)
            .map(|key| super::one_line::one_line(key))
            .collect();
        if shown.is_empty() {
            "none".to_owned()
        } else {
            shown.join(", ")
        }
    };
    StaticLoginError::NoMatch {
        secret,
        wanted: list(&mut keys.iter()),
        found: list(&mut auths.keys()),
    }
}

fn bytes<'s>(secret: &'s SourceSecret, key: &str) -> Option<&'s [u8]> {
    secret.data.get(key).map(ExposeSecret::expose_secret)
}

fn malformed(secret: &SourceSecret, key: &'static str, problem: &str) -> StaticLoginError {
    StaticLoginError::Malformed {
        secret: secret.name.to_string(),
        key,
        problem: problem.to_owned(),
    }
}

#[cfg(test)]
mod tests;
