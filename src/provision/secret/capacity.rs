//! What of the wanted entries a pull secret has room for. Pure.

use serde_json::Value;

use super::{AuthEntry, Auths, FULL_BYTES, MAX_BYTES, MAX_ENTRIES, MAX_KEY_BYTES};
use crate::provision::digest::sole_auth;

/// The bytes of a dockerconfigjson beside its entries: `{"auths":{}}`.
const FRAME: usize = 12;

/// The bytes of an entry beside its login: `{"auth":""}`.
const AUTH: usize = 11;

/// What a pull secret has room for.
pub(super) struct Fit<'w> {
    /// These fit in.
    pub(super) fitting: Vec<&'w AuthEntry>,
    /// The keys of those that do not.
    pub(super) left_out: Vec<String>,
    /// How many bytes it would have with all of them.
    pub(super) bytes: usize,
}

/// Finds which of `wanted` a Secret that holds `auths`, so many times over, has room for. Existing entries come first: they are renewed as long
/// as the API server takes the secret, so that what works keeps working. Of the others as many as fit, in their order.
pub(super) fn fit_entries<'w>(auths: &Auths, wanted: &'w [AuthEntry], copies: usize) -> Fit<'w> {
    let there = auths.entries.iter();
    let mut bytes = FRAME + there.map(|(key, value)| size_of(key, value)).sum::<usize>();
    let mut room = Fit {
        fitting: Vec::with_capacity(wanted.len()),
        left_out: Vec::new(),
        bytes,
    };
    let (coverage, new): (Vec<&AuthEntry>, Vec<&AuthEntry>) = wanted
        .iter()
        .partition(|entry| auths.entries.contains_key(&entry.key));
    let coverage = coverage
        .into_iter()
        .map(|entry| (entry, FULL_BYTES / copies));
    let new = new.into_iter().map(|entry| (entry, MAX_BYTES / copies));
    let mut count = auths.entries.len();
    let mut key_bytes: usize = auths.entries.keys().map(String::len).sum();
    for (entry, most) in coverage.chain(new) {
        let before = auths.entries.get(&entry.key);
        let is_new = before.is_none();
        let before = before.map_or(0, |value| size_of(&entry.key, value));
        let after = size_with(&entry.key, AUTH + entry.auth_len());
        room.bytes = room.bytes - before + after;
        let is_countable =
            !is_new || count < MAX_ENTRIES && key_bytes + entry.key.len() <= MAX_KEY_BYTES;
        if is_countable && (after <= before || bytes - before + after <= most) {
            bytes = bytes - before + after;
            if is_new {
                count += 1;
                key_bytes += entry.key.len();
            }
            room.fitting.push(entry);
        } else {
            room.left_out.push(entry.key.clone());
        }
    }
    room
}

/// The bytes of `"key":value,`; the last entry's comma is counted in vain.
fn size_of(key: &str, value: &Value) -> usize {
    // Base64 is written as it is.
    let of_auth = sole_auth(value).map(|auth| AUTH + auth.len());
    size_with(key, of_auth.unwrap_or_else(|| value.to_string().len()))
}

fn size_with(key: &str, value: usize) -> usize {
    Value::from(key).to_string().len() + value + 2
}
