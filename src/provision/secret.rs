//! The merged dockerconfigjson of one namespace: what it holds, and what it must hold. Pure.
//!
//! The kubelet reads `auth` alone, takes any entry that it cannot decode as a reason to fail every pull of the Pod, and tries
//! keys in reverse-lexical order:
//! <https://github.com/kubernetes/kubernetes/blob/master/pkg/credentialprovider/config.go>,
//! <https://github.com/kubernetes/kubernetes/blob/master/pkg/credentialprovider/keyring.go>.

mod capacity;
mod parse;

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretSlice, SecretString};
use serde_json::Value;

use super::digest::Digest;
use super::ports::{PullSecret, PullSecretContent};
use crate::names::ObjectName;
use crate::plain_text::basic_auth;

/// Beyond so many bytes a pull secret takes up no new login: the others need room to grow, and its annotations as well.
pub const MAX_BYTES: usize = 900 * 1024;

/// So many bytes may a Secret hold at most; the API server refuses more.
/// <https://kubernetes.io/docs/concepts/configuration/secret/#restriction-data-limit>
const FULL_BYTES: usize = 1024 * 1024;

/// So many entries a pull secret holds at most, and so many bytes all their keys have. What is kept in memory of each Secret is bounded
/// by it: one that has more was not written by pullpass, and counts as unreadable.
pub const MAX_ENTRIES: usize = 1024;
const MAX_KEY_BYTES: usize = 128 * 1024;

/// The annotation that says, for people, which key is covered by which Registry and until when.
pub const COVERS_ANNOTATION: &str = "pullpass.dev/covers";

/// The annotation that says, for people, when the first of the logins ends.
pub const UNTIL_ANNOTATION: &str = "pullpass.dev/expiration-time";

/// The most bytes of [`COVERS_ANNOTATION`]: all annotations of an object together may have 256 KiB.
const MAX_COVERS_BYTES: usize = 128 * 1024;

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

    /// How many bytes its login has.
    fn auth_len(&self) -> usize {
        self.auth.expose_secret().len()
    }

    fn value(&self) -> Value {
        serde_json::json!({ "auth": self.auth.expose_secret() })
    }
}

/// The readable entries of a dockerconfigjson.
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
    /// What a pull secret holds; nothing where it has no dockerconfigjson.
    pub fn of(secret: &PullSecret) -> Self {
        let bytes = secret.dockerconfigjson.as_ref();
        bytes
            .map(|bytes| Self::parse(bytes.expose_secret()))
            .unwrap_or_default()
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

    fn write(&self) -> Vec<u8> {
        serde_json::to_vec(&serde_json::json!({ "auths": self.entries }))
            .expect("a map of strings to JSON is JSON")
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
}

/// An entry that is replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Displaced {
    /// The `auths` key.
    pub key: String,
    /// The digest of the old entry.
    pub digest: Digest,
}

/// Merges `wanted` into what is there.
///
/// Each wanted entry replaces the one under its key; every other readable entry is carried over unchanged, but for one of ECR
/// Public that has expired by its annotation: a public pull works with no login and fails with a bad one. Where there is no room for
/// all, existing entries are renewed, and of the others as many are added as fit. Equal inputs give equal bytes in every replica.
pub fn merge(existing: Option<&PullSecret>, wanted: &[AuthEntry], now: Timestamp) -> Merged {
    let mut auths = existing.map(Auths::of).unwrap_or_default();
    let mut covers = existing.map(parse_covers).unwrap_or_default();
    let expired = remove_expired_public(&mut auths, &covers, wanted, now);
    let mut displaced = Vec::new();
    let mut changed = expired || !auths.intact;
    let room = capacity::fit_entries(&auths, wanted);
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
    let bytes = auths.write();
    Merged {
        digests: auths.digests(),
        displaced,
        left_out: room.left_out,
        bytes: room.bytes,
        content: changed.then(|| PullSecretContent {
            dockerconfigjson: Arc::new(SecretSlice::from(bytes)),
            annotations: describe(&covers),
        }),
    }
}

/// Takes every entry out of `existing` that is not to stay.
pub fn prune(existing: &PullSecret, stays: impl Fn(&str) -> bool) -> Pruned {
    let mut auths = Auths::of(existing);
    let all = auths.entries.len();
    auths.entries.retain(|key, _| stays(key));
    let mut covers = parse_covers(existing);
    covers.retain(|key, _| auths.entries.contains_key(key));
    Pruned {
        is_changed: auths.entries.len() < all,
        is_empty: auths.entries.is_empty(),
        digests: auths.digests(),
        content: PullSecretContent {
            dockerconfigjson: Arc::new(SecretSlice::from(auths.write())),
            annotations: describe(&covers),
        },
    }
}

/// A pull secret with something taken out.
pub struct Pruned {
    /// Whether anything was taken out.
    pub is_changed: bool,
    /// Whether nothing is left.
    pub is_empty: bool,
    /// The digest of each entry, by key.
    pub digests: BTreeMap<String, Digest>,
    /// What to write.
    pub content: PullSecretContent,
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

/// One line of [`COVERS_ANNOTATION`].
#[derive(Clone, Debug, PartialEq, Eq)]
struct CoverLine {
    registry: String,
    until: Option<Timestamp>,
}

impl CoverLine {
    fn of(entry: &AuthEntry) -> Self {
        Self {
            registry: entry.registry.to_string(),
            until: entry.until,
        }
    }

    fn write(&self, key: &str) -> String {
        match self.until {
            Some(until) => format!(
                "{key}: Registry {}, until {}\n",
                self.registry,
                seconds(until)
            ),
            None => format!("{key}: Registry {}\n", self.registry),
        }
    }

    fn parse(line: &str) -> Option<(String, Self)> {
        let (key, rest) = line.split_once(": Registry ")?;
        let (registry, until) = match rest.split_once(", until ") {
            Some((registry, until)) => (registry, Some(until.parse().ok()?)),
            None => (rest, None),
        };
        let cover = Self {
            registry: registry.to_owned(),
            until,
        };
        Some((key.to_owned(), cover))
    }
}

fn parse_covers(secret: &PullSecret) -> BTreeMap<String, CoverLine> {
    let text = secret.annotations.get(COVERS_ANNOTATION);
    text.map(|text| text.lines().filter_map(CoverLine::parse).collect())
        .unwrap_or_default()
}

/// A time to the second, for people: `2026-11-21T22:00:00Z`.
pub(crate) fn seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).expect("a whole second of a valid time is valid")
}

/// The annotations for people. What ends comes first, so that it is there even if the list had to be cut.
fn describe(covers: &BTreeMap<String, CoverLine>) -> BTreeMap<String, String> {
    let mut text = String::new();
    let mut left_out = 0_usize;
    let ending = covers.iter().filter(|(_, cover)| cover.until.is_some());
    let fixed = covers.iter().filter(|(_, cover)| cover.until.is_none());
    for (key, cover) in ending.chain(fixed) {
        let line = cover.write(key);
        if text.len() + line.len() > MAX_COVERS_BYTES {
            left_out += 1;
        } else {
            text.push_str(&line);
        }
    }
    if left_out > 0 {
        writeln!(text, "and {left_out} more").expect("a String takes all that is written to it");
    }
    let mut annotations = BTreeMap::from([(COVERS_ANNOTATION.to_owned(), text)]);
    if let Some(first) = covers.values().filter_map(|cover| cover.until).min() {
        annotations.insert(UNTIL_ANNOTATION.to_owned(), seconds(first).to_string());
    }
    annotations
}

#[cfg(test)]
mod tests;
