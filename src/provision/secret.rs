//! The merged dockerconfigjson of one namespace: what it holds, and what it must hold. Pure.
//!
//! The kubelet reads `auth` alone, takes any entry that it cannot decode as a reason to fail every pull of the Pod, and tries
//! keys in reverse-lexical order:
//! <https://github.com/kubernetes/kubernetes/blob/master/pkg/credentialprovider/config.go>,
//! <https://github.com/kubernetes/kubernetes/blob/master/pkg/credentialprovider/keyring.go>.

mod capacity;
mod covers;
pub mod format;
mod parse;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretSlice, SecretString};
use serde_json::Value;

use super::digest::{Digest, sole_auth};
use super::ports::{PullSecret, PullSecretContent, SecretData};
use crate::names::ObjectName;
use crate::plain_text::basic_auth;
use crate::registry::SecretFormat;
pub(crate) use covers::seconds;
pub use covers::{COVERS_ANNOTATION, UNTIL_ANNOTATION, find_covering};
use covers::{CoverLine, describe, parse_covers};

/// Beyond so many bytes a pull secret takes up no new login: the others need room to grow, and its annotations as well.
pub const MAX_BYTES: usize = 900 * 1024;

/// So many bytes may a Secret hold at most; the API server refuses more.
/// <https://kubernetes.io/docs/concepts/configuration/secret/#restriction-data-limit>
const FULL_BYTES: usize = 1024 * 1024;

/// So many entries a pull secret holds at most, and so many bytes all their keys have. What is kept in memory of each Secret is bounded
/// by it: one that has more was not written by pullpass, and counts as unreadable.
pub const MAX_ENTRIES: usize = 1024;
const MAX_KEY_BYTES: usize = 128 * 1024;

/// One login under one `auths` key, as a pull secret must hold it.
#[derive(Clone)]
pub struct AuthEntry {
    /// The `auths` key: `host` or `host/path`.
    pub key: String,
    /// The Registry that it belongs to.
    pub registry: ObjectName,
    /// `base64(username:password)`.
    auth: Arc<SecretString>,
    /// What [`Digest::of_auth`] says of it.
    pub digest: Digest,
    /// Until when it is good; `None` for a fixed login.
    pub until: Option<Timestamp>,
}

impl AuthEntry {
    /// The entry of a login.
    pub fn new(
        key: impl Into<String>,
        registry: ObjectName,
        username: &str,
        password: &SecretString,
        until: Option<Timestamp>,
    ) -> Self {
        let auth = basic_auth(username, password);
        let digest = Digest::of_secret(&auth);
        Self {
            key: key.into(),
            registry,
            auth: Arc::new(auth),
            digest,
            until,
        }
    }

    /// The same login under another key.
    #[must_use]
    pub fn under(&self, key: impl Into<String>) -> Self {
        Self {
            key: key.into(),
            ..self.clone()
        }
    }

    /// User name and password, as they were given.
    pub fn login(&self) -> Option<(String, SecretString)> {
        let login = STANDARD.decode(self.auth.expose_secret()).ok()?;
        let login = Zeroizing::new(String::from_utf8(login).ok()?);
        let (username, password) = login.split_once(':')?;
        Some((username.to_owned(), password.into()))
    }

    /// How many bytes its login has.
    fn auth_len(&self) -> usize {
        self.auth.expose_secret().len()
    }

    fn value(&self) -> Value {
        serde_json::json!({ "auth": self.auth.expose_secret() })
    }
}

/// The readable entries of a Secret: those of a dockerconfigjson, or the one login that an export holds.
#[derive(Clone, Default)]
pub struct Auths {
    entries: BTreeMap<String, Value>,
    intact: bool,
}

impl fmt::Debug for Auths {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.entries.keys()).finish()
    }
}

impl Auths {
    /// What a Secret holds; nothing where it is in no form that pullpass writes.
    pub fn of(secret: &PullSecret) -> Self {
        let data = |key: &str| secret.data.get(key).map(|bytes| bytes.expose_secret());
        let Some(format) = secret.format else {
            return Self::default();
        };
        if let SecretFormat::Export(format) = format
            && format.holds_one_login()
        {
            let covers = parse_covers(secret);
            let covered = covers.keys().next().filter(|_| covers.len() == 1);
            let login = format::parse_login(format, data, covered.map(String::as_str));
            return Self {
                intact: login.is_some(),
                entries: login.into_iter().collect(),
            };
        }
        let bytes = data(format::DOCKERCONFIGJSON);
        let mut auths = bytes.map(Self::parse).unwrap_or_default();
        let mut all = format::keys_of(format).iter().map(|key| data(key));
        auths.intact &= all.all(|copy| copy == bytes);
        auths
    }

    /// The same of one in this form; of one in another form, in which nothing that reads it finds a login, nothing.
    pub fn of_format(secret: &PullSecret, format: Option<SecretFormat>) -> Self {
        let secret = Some(secret).filter(|secret| secret.format == format);
        secret.map(Self::of).unwrap_or_default()
    }

    /// Reads a dockerconfigjson. What the kubelet could not decode is left out: it would fail every pull. So is all of it where there
    /// are more than [`MAX_ENTRIES`].
    pub fn parse(dockerconfigjson: &[u8]) -> Self {
        let parse::Parsed { entries, intact } = parse::parse(dockerconfigjson).unwrap_or_default();
        Self { entries, intact }
    }

    /// Whether nothing was left out when it was read. What is not intact must be rewritten: the kubelet may not be able to decode it.
    pub fn is_intact(&self) -> bool {
        self.intact
    }

    /// The digest of each entry, by key.
    pub fn digests(&self) -> BTreeMap<String, Digest> {
        self.entries
            .iter()
            .map(|(key, entry)| (key.clone(), Digest::of_entry(entry)))
            .collect()
    }

    /// The data of a Secret in this form; `None`: it holds one login in this form, and there is none.
    fn render(&self, format: SecretFormat) -> Option<SecretData> {
        let keys = format::keys_of(format);
        if format.holds_one_login() {
            let (key, entry) = self.entries.first_key_value()?;
            let login = format::render_login(format, key, sole_auth(entry)?)?.into_iter();
            let wanted = login.filter(|(key, _)| keys.contains(key));
            let secret = |(key, bytes)| (key, Arc::new(SecretSlice::from(bytes)));
            return Some(wanted.map(secret).collect());
        }
        let bytes = serde_json::to_vec(&serde_json::json!({ "auths": self.entries }))
            .expect("a map of strings to JSON is JSON");
        let bytes = Arc::new(SecretSlice::from(bytes));
        Some(keys.iter().map(|key| (*key, Arc::clone(&bytes))).collect())
    }
}

/// Whether the kubelet can decode this entry. Go matches member names whatever their case.
fn is_readable(entry: &Value) -> bool {
    let Some(members) = entry.as_object() else {
        return false;
    };
    members
        .iter()
        .all(|(name, value)| match name.to_ascii_lowercase().as_str() {
            "auth" => value.as_str().is_some_and(is_readable_auth),
            "username" | "password" | "email" => value.is_string(),
            _ => true,
        })
}

fn is_readable_auth(auth: &str) -> bool {
    auth.is_empty()
        || STANDARD
            .decode(auth)
            .is_ok_and(|login| login.contains(&b':'))
}

/// What a merge came to.
pub struct Merged {
    /// What to write; `None` when what is there is what must be there.
    pub content: Option<PullSecretContent>,
    /// The digest of each entry afterwards, by key.
    pub digests: BTreeMap<String, Digest>,
    /// The entries under our keys that are to be replaced: older ones, newer ones than we know, or other writers'.
    pub displaced: Vec<Displaced>,
    /// The keys that there is no room for: their old entries stay.
    pub left_out: Vec<String>,
    /// How many bytes the dockerconfigjson would have with all that is wanted.
    pub bytes: usize,
    /// Beyond so many of them it takes up no new login.
    pub max_bytes: usize,
}

/// An entry that is replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Displaced {
    /// The `auths` key.
    pub key: String,
    /// The digest of the old entry.
    pub digest: Digest,
}

/// Merges `wanted` into what is there, in this form.
///
/// Each wanted entry replaces the one under its key, and all that is there in a form that holds one login, or where it is in another form;
/// every other readable entry is carried over unchanged, but for one of ECR Public that has expired by its annotation: a public pull works
/// with no login and fails with a bad one. Where there is no room for all, existing entries are renewed, and of the others as many are
/// added as fit. Equal inputs give equal bytes in every replica.
pub fn merge(
    existing: Option<&PullSecret>,
    format: SecretFormat,
    wanted: &[AuthEntry],
    now: Timestamp,
) -> Merged {
    let existing = existing.filter(|existing| existing.format == Some(format));
    let mut auths = existing.map(Auths::of).unwrap_or_default();
    let mut covers = existing.map(parse_covers).unwrap_or_default();
    let replaced = remove_replaced(&mut auths, format, wanted);
    let expired = remove_expired_public(&mut auths, &covers, wanted, now);
    let mut changed = replaced || expired || !auths.intact;
    let mut displaced = Vec::new();
    let copies = format::copies_of(format);
    let room = capacity::fit_entries(&auths, wanted, copies);
    for entry in &room.fitting {
        let there = auths.entries.get(&entry.key).map(Digest::of_entry);
        if there == Some(entry.digest) {
            continue;
        }
        changed = true;
        displaced.extend(there.map(|digest| Displaced {
            key: entry.key.clone(),
            digest,
        }));
        auths.entries.insert(entry.key.clone(), entry.value());
    }
    covers.retain(|key, _| auths.entries.contains_key(key));
    let written = room.fitting.iter();
    covers.extend(written.map(|entry| (entry.key.clone(), CoverLine::of(entry))));
    let data = changed.then(|| auths.render(format)).flatten();
    Merged {
        digests: auths.digests(),
        displaced,
        left_out: room.left_out,
        bytes: room.bytes,
        max_bytes: MAX_BYTES / copies,
        content: data.map(|data| PullSecretContent {
            format,
            data,
            annotations: describe(&covers),
        }),
    }
}

/// Takes out what a login replaces in a form that holds only one; answers whether that was anything.
fn remove_replaced(auths: &mut Auths, format: SecretFormat, wanted: &[AuthEntry]) -> bool {
    let before = auths.entries.len();
    if format.holds_one_login() && !wanted.is_empty() {
        let is_wanted = |key: &String| wanted.iter().any(|entry| entry.key == *key);
        auths.entries.retain(|key, _| is_wanted(key));
    }
    auths.entries.len() != before
}

/// Takes every entry out of `existing` that is not to stay.
pub fn prune(existing: &PullSecret, stays: impl Fn(&str) -> bool) -> Pruned {
    let mut auths = Auths::of(existing);
    let all = auths.entries.len();
    auths.entries.retain(|key, _| stays(key));
    let mut covers = parse_covers(existing);
    covers.retain(|key, _| auths.entries.contains_key(key));
    let format = existing.format.filter(|_| !auths.entries.is_empty());
    let content = format.and_then(|format| {
        Some(PullSecretContent {
            format,
            data: auths.render(format)?,
            annotations: describe(&covers),
        })
    });
    Pruned {
        is_changed: auths.entries.len() < all,
        digests: auths.digests(),
        content,
    }
}

/// A pull secret with something taken out.
pub struct Pruned {
    /// Whether anything was taken out.
    pub is_changed: bool,
    /// The digest of each entry, by key.
    pub digests: BTreeMap<String, Digest>,
    /// What to write; `None`: nothing is left.
    pub content: Option<PullSecretContent>,
}

fn remove_expired_public(
    auths: &mut Auths,
    covers: &BTreeMap<String, CoverLine>,
    wanted: &[AuthEntry],
    now: Timestamp,
) -> bool {
    let before = auths.entries.len();
    auths.entries.retain(|key, _| {
        let until = covers.get(key).and_then(|cover| cover.until);
        !is_ecr_public(key)
            || until.is_none_or(|until| until > now)
            || wanted.iter().any(|entry| entry.key == *key)
    });
    auths.entries.len() != before
}

/// Whether an `auths` key is of ECR Public, where a pull needs no login and fails with a bad one.
pub fn is_ecr_public(key: &str) -> bool {
    let host = key.split_once('/').map_or(key, |(host, _)| host);
    matches!(host, "public.ecr.aws" | "ecr-public.aws.com")
}

#[cfg(test)]
mod tests;
