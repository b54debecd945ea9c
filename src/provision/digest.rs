//! What is remembered of a login instead of the login: its digest. Pure.

use secrecy::SecretString;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::plain_text;

/// The SHA-256 of the entry under one `auths` key: enough to compare, nothing to learn from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Digest([u8; 32]);

#[cfg(test)]
thread_local! {
    /// How many this thread has worked out: tests count what a decision costs.
    pub(crate) static COMPUTED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

impl Digest {
    /// The digest of an entry that is `{"auth": auth}` and nothing else.
    pub fn of_auth(auth: &str) -> Self {
        Self::of_hash(Sha256::digest(auth).into())
    }

    /// The same of one that is not read.
    pub(super) fn of_secret(auth: &SecretString) -> Self {
        Self::of_hash(plain_text::digest(auth))
    }

    /// The digest of the entry of a login.
    pub fn of_login(username: &str, password: &SecretString) -> Self {
        Self::of_secret(&plain_text::basic_auth(username, password))
    }

    /// The digest of any entry.
    pub(super) fn of_entry(entry: &Value) -> Self {
        match sole_auth(entry) {
            Some(auth) => Self::of_auth(auth),
            None => Self::of_hash(Sha256::digest(format!("entry {entry}")).into()),
        }
    }

    fn of_hash(hash: [u8; 32]) -> Self {
        #[cfg(test)]
        COMPUTED.set(COMPUTED.get() + 1);
        Self(hash)
    }
}

/// What an entry holds that is `{"auth": …}` and nothing else.
pub(super) fn sole_auth(entry: &Value) -> Option<&str> {
    let members = entry.as_object()?;
    (members.len() == 1).then(|| members.get("auth")?.as_str())?
}
