//! Pull secrets that cannot be written, as reported on their Registries and in their namespaces. Pure.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;

use super::secret;
use crate::cluster::{EventNote, EventType};
use crate::controller::conditions::Reason;
use crate::controller::reconciler::index::Index;
use crate::names::ObjectName;
use crate::provision::Pending;
use crate::provision::changes::PullSecretKey;

/// In how many namespaces an Event is written at most.
const MAX_NAMESPACES: usize = 100;

/// What is not written.
#[derive(Debug, Default)]
pub(super) struct Unwritten {
    /// Why logins of each Registry are missing because of it.
    pub(super) missing: HashMap<ObjectName, WriteFailure>,
    /// Why renewed logins of each Registry do not come, where earlier ones are good still.
    pub(super) renewed: HashMap<ObjectName, WriteFailure>,
    /// Events in the namespaces where logins are missing: people there may see no Registry.
    pub(super) events: Vec<EventNote>,
}

/// Why something is not written, and in how many pull secrets.
#[derive(Debug)]
pub(super) struct WriteFailure {
    /// The first one's.
    why: Pending,
    count: usize,
}

impl WriteFailure {
    /// In words for people.
    pub(super) fn describe(&self) -> Reason {
        let Pending {
            reason, message, ..
        } = &self.why;
        match self.count {
            1 => Reason::new(*reason, message),
            count => Reason::new(
                *reason,
                format!("{message} (and {count} pull secrets in all)"),
            ),
        }
    }
}

/// Which pull secrets are not written; `failed` has the reasons. Always in the same order: the first one is reported.
pub(super) fn find(
    index: &Index,
    failed: &BTreeMap<PullSecretKey, Vec<Pending>>,
    now: Timestamp,
) -> Unwritten {
    let mut found = Unwritten::default();
    for (key, why) in failed {
        let Some(record) = index.get(key) else {
            continue;
        };
        let mut told = None;
        for (registry, is_missing) in record.unwritten(now) {
            let concerns = |one: &&Pending| {
                let concerned = one.registry.as_ref();
                concerned.is_none_or(|concerned| concerned == registry)
            };
            let Some(why) = why.iter().find(concerns) else {
                continue;
            };
            let of = if is_missing {
                told = told.or(Some(why));
                &mut found.missing
            } else {
                &mut found.renewed
            };
            of.entry(registry.clone())
                .or_insert_with(|| WriteFailure {
                    why: why.clone(),
                    count: 0,
                })
                .count += 1;
        }
        if let Some(why) = told.filter(|_| found.events.len() < MAX_NAMESPACES) {
            found.events.push(notice(key, why));
        }
    }
    found
}

fn notice((namespace, name): &PullSecretKey, why: &Pending) -> EventNote {
    // What concerns one Registry is not theirs to correct, and may be a cloud's words.
    let advice = match &why.registry {
        None => why.message.clone(),
        Some(registry) => format!(
            "{} of Registry {registry}: ask who runs pullpass",
            why.reason
        ),
    };
    EventNote {
        regarding: secret(namespace, name),
        event_type: EventType::Warning,
        reason: why.reason.into(),
        series: None,
        action: "Provision",
        note: format!("cannot write this Secret, a login is missing here: {advice}"),
    }
}
