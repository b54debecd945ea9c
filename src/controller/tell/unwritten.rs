//! Pull secrets that cannot be written, as their Registries and people in their namespaces are told. Pure.

use std::collections::HashMap;

use super::secret;
use crate::cluster::{Gravity, Notice};
use crate::controller::report::Finding;
use crate::names::ObjectName;
use crate::provision::Pending;
use crate::provision::survey::{Name, Survey};

/// In how many namespaces people are told at most.
const NAMESPACES: usize = 100;

/// What is not written.
#[derive(Debug, Default)]
pub(super) struct Unwritten {
    /// Why logins of each Registry are missing because of it.
    pub(super) missing: HashMap<ObjectName, Reason>,
    /// Why renewed logins of each Registry do not come, where earlier ones are good still.
    pub(super) renewed: HashMap<ObjectName, Reason>,
    /// Events in the namespaces where logins are missing: people there may see no Registry.
    pub(super) notices: Vec<Notice>,
}

/// Why something is not written, and in how many pull secrets.
#[derive(Debug)]
pub(super) struct Reason {
    /// The first one's.
    why: Pending,
    count: usize,
}

impl Reason {
    /// In words for people.
    pub(super) fn describe(&self) -> Finding {
        let Pending {
            reason, message, ..
        } = &self.why;
        match self.count {
            1 => Finding::new(reason, message),
            count => Finding::new(
                reason,
                format!("{message} (and so on, for {count} pull secrets)"),
            ),
        }
    }
}

/// What is not written of a survey; `failed` tells why.
pub(super) fn find(survey: &Survey, failed: &HashMap<Name, Vec<Pending>>) -> Unwritten {
    let mut found = Unwritten::default();
    if failed.is_empty() {
        return found;
    }
    let mut all: Vec<_> = survey.secrets.iter().enumerate().collect();
    // Always in the same order: people are told of the first one.
    all.sort_by_key(|(_, place)| (&place.namespace.name, &place.secret));
    for (at, place) in all {
        let name = place.name();
        let Some(why) = failed.get(&name) else {
            continue;
        };
        let mut told = None;
        for (registry, is_missing) in survey.unwritten(at) {
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
                .or_insert_with(|| Reason {
                    why: why.clone(),
                    count: 0,
                })
                .count += 1;
        }
        if let Some(why) = told.filter(|_| found.notices.len() < NAMESPACES) {
            found.notices.push(notice(&name, why));
        }
    }
    found
}

fn notice((namespace, name): &Name, why: &Pending) -> Notice {
    Notice {
        regarding: secret(namespace, name),
        gravity: Gravity::Warning,
        reason: why.reason,
        action: "Provision",
        note: format!(
            "Pods here lack a login, since this Secret cannot be written: {}",
            why.message
        ),
    }
}
