//! What was found of one pull secret, and what it adds to the sums. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::names::ObjectName;
use crate::provision::decide::EntryState;
use crate::provision::observe::SecretView;

/// What was found of one pull secret.
pub(in crate::controller) enum Seen {
    /// A Secret of its name is there that is not ours: of these Registries.
    Foreign(Vec<ObjectName>),
    /// It is ours, or is to be.
    Ours(SecretView),
}

/// One pull secret.
pub(in crate::controller) struct Record {
    pub(in crate::controller) seen: Seen,
    /// The Registries of which a good login is missing.
    pub(super) lacking: Vec<ObjectName>,
    /// The sources of its credentials that are for this namespace alone, by their canonical texts.
    pub(super) own_sources: Vec<String>,
    /// How many writes in a billion seconds it needs in the long run.
    pub(super) rate: u64,
    /// The resource version that we wrote last, or that was found last with nothing to write since.
    pub(super) last_written: Option<String>,
}

impl Record {
    pub(super) fn new(seen: Seen, last_written: Option<String>, now: Timestamp) -> Self {
        let mut record = Self {
            seen,
            lacking: Vec::new(),
            own_sources: Vec::new(),
            rate: 0,
            last_written,
        };
        let Seen::Ours(view) = &record.seen else {
            return record;
        };
        let mut shortest: Option<i64> = None;
        let mut is_written = true;
        for entry in view.entries(now) {
            if !entry.entry_state.is_good() && record.lacking.last() != Some(entry.registry) {
                record.lacking.push(entry.registry.clone());
            }
            is_written &= !entry.entry_state.is_unwritten();
            if let Some((minted_at, until)) = entry.life {
                let life = until.duration_since(minted_at).as_secs();
                shortest = Some(shortest.map_or(life, |shortest| shortest.min(life)));
            }
            if let Some(source) = entry.source.filter(|source| source.tenant().is_some()) {
                record.own_sources.push(source.canonical());
            }
        }
        let shortest = shortest.and_then(|life| u64::try_from(life).ok());
        // What another replica wrote is as good as what we wrote.
        let observed = view.target.observed.as_ref().filter(|_| is_written);
        if let (Some(last), Some(observed)) = (&mut record.last_written, observed) {
            last.clone_from(&observed.version.resource_version);
        }
        // Each pull secret is written once per half of its shortest life.
        record.rate = shortest.map_or(0, |life| 2_000_000_000 / life.max(1));
        record
    }

    /// Whether it adds the same to all sums of Registries.
    pub(super) fn is_same(&self, before: &Self) -> bool {
        let is_same = match (&self.seen, &before.seen) {
            (Seen::Ours(one), Seen::Ours(other)) => one.is_same(other),
            (Seen::Foreign(one), Seen::Foreign(other)) => one == other,
            _ => false,
        };
        is_same && self.lacking == before.lacking
    }

    pub(in crate::controller) fn view(&self) -> Option<&SecretView> {
        match &self.seen {
            Seen::Ours(view) => Some(view),
            Seen::Foreign(_) => None,
        }
    }

    pub(super) fn group(&self) -> Option<usize> {
        self.view()?.group()
    }

    pub(super) fn is_there(&self) -> bool {
        self.view().is_some_and(|view| view.target.is_there())
    }

    /// Whether a Registry serves the namespace with it.
    pub(super) fn is_served(&self) -> bool {
        self.view().is_none_or(SecretView::is_wanted)
    }

    /// The Registries of which it is to be written; whether a login of theirs is missing until then.
    pub(in crate::controller) fn unwritten(&self, now: Timestamp) -> BTreeMap<&ObjectName, bool> {
        let mut found = BTreeMap::new();
        let entries = self.view().into_iter().flat_map(|view| view.entries(now));
        for entry in entries.filter(|entry| entry.entry_state.is_unwritten()) {
            *found.entry(entry.registry).or_default() |= entry.entry_state == EntryState::Missing;
        }
        found
    }
}
