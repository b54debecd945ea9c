//! The annotations of a pull secret, which say for people what it covers and until when. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use jiff::Timestamp;

use super::AuthEntry;
use crate::provision::ports::PullSecret;

/// The annotation that says, for people, which key is covered by which Registry and until when.
pub const COVERS_ANNOTATION: &str = "pullpass.dev/covers";

/// The annotation that says, for people, when the first of the logins ends.
pub const UNTIL_ANNOTATION: &str = "pullpass.dev/expiration-time";

/// The most bytes of [`COVERS_ANNOTATION`]: all annotations of an object together may have 256 KiB.
pub(super) const MAX_COVERS_BYTES: usize = 128 * 1024;

/// One line of [`COVERS_ANNOTATION`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CoverLine {
    registry: String,
    pub(super) until: Option<Timestamp>,
}

impl CoverLine {
    pub(super) fn of(entry: &AuthEntry) -> Self {
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

/// The lines of a Secret's annotation, by key.
pub(super) fn parse_covers(secret: &PullSecret) -> BTreeMap<String, CoverLine> {
    let text = secret.annotations.get(COVERS_ANNOTATION);
    text.map(|text| text.lines().filter_map(CoverLine::parse).collect())
        .unwrap_or_default()
}

/// The Registries that [`COVERS_ANNOTATION`] names.
pub fn find_covering(text: &str) -> BTreeSet<String> {
    let lines = text.lines().filter_map(CoverLine::parse);
    lines.map(|(_, line)| line.registry).collect()
}

/// A time to the second, for people: `2026-11-21T22:00:00Z`.
pub(crate) fn seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).expect("a whole second of a valid time is valid")
}

/// The annotations for people. What ends comes first, so that it is there even if the list had to be cut.
pub(super) fn describe(covers: &BTreeMap<String, CoverLine>) -> BTreeMap<String, String> {
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
