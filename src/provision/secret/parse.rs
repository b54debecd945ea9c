//! A dockerconfigjson that anybody may have written, read in bounded memory: an entry at a time. Pure.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use super::{MAX_ENTRIES, MAX_KEY_BYTES, is_readable};

/// An entry of more bytes is read only if it is a login and nothing else: what else it holds could take a hundred times its bytes.
const MAX_OTHER_BYTES: usize = 16 * 1024;

/// What a dockerconfigjson holds.
#[derive(Default)]
pub(super) struct Parsed {
    pub(super) entries: BTreeMap<String, Value>,
    /// Whether nothing was left out.
    pub(super) intact: bool,
}

/// Reads it; `None`: it cannot be read, or it has more entries than pullpass writes.
pub(super) fn parse(dockerconfigjson: &[u8]) -> Option<Parsed> {
    let config: ConfigJson = serde_json::from_slice(dockerconfigjson).ok()?;
    config.0
}

struct ConfigJson(Option<Parsed>);

impl<'de> Deserialize<'de> for ConfigJson {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ConfigVisitor)
    }
}

struct ConfigVisitor;

impl<'de> Visitor<'de> for ConfigVisitor {
    type Value = ConfigJson;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut members: M) -> Result<ConfigJson, M::Error> {
        let (mut parsed, mut has_others) = (None, false);
        while let Some(name) = members.next_key::<String>()? {
            if name == "auths" {
                parsed = Some(members.next_value_seed(AuthsVisitor)?);
            } else {
                has_others = true;
                members.next_value::<IgnoredAny>()?;
            }
        }
        if let Some(parsed) = &mut parsed {
            parsed.intact &= !has_others;
        }
        Ok(ConfigJson(parsed))
    }
}

struct AuthsVisitor;

impl<'de> DeserializeSeed<'de> for AuthsVisitor {
    type Value = Parsed;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Parsed, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for AuthsVisitor {
    type Value = Parsed;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object of logins")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut members: M) -> Result<Parsed, M::Error> {
        let mut parsed = Parsed {
            intact: true,
            ..Parsed::default()
        };
        let (mut count, mut key_bytes) = (0, 0);
        while let Some(key) = members.next_key::<String>()? {
            count += 1;
            key_bytes += key.len();
            if count > MAX_ENTRIES || key_bytes > MAX_KEY_BYTES {
                return Err(M::Error::custom("it has more entries than pullpass writes"));
            }
            let entry = members.next_value::<&'de RawValue>()?;
            match read_entry(entry.get()) {
                Some(entry) => drop(parsed.entries.insert(key, entry)),
                None => parsed.intact = false,
            }
        }
        Ok(parsed)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SoleLogin {
    auth: String,
}

/// Reads an entry; `None`: the kubelet could not decode it, or it is something else and large.
fn read_entry(json: &str) -> Option<Value> {
    let entry = if json.len() <= MAX_OTHER_BYTES {
        serde_json::from_str(json).ok()?
    } else {
        let SoleLogin { auth } = serde_json::from_str(json).ok()?;
        serde_json::json!({ "auth": auth })
    };
    is_readable(&entry).then_some(entry)
}
