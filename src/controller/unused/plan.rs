//! Which stored credentials nobody uses, since when, and what follows from it. Pure.

use std::collections::{HashMap, HashSet};

use jiff::{SignedDuration, Timestamp};

use crate::provision::access::StoredCredential;

/// For how long a credential that nobody uses is kept.
const KEPT: SignedDuration = SignedDuration::from_hours(1);

/// A ServiceAccount of a namespace that is there is asked about after the credential was out of use for so long: after a start it takes
/// a moment until all are known.
const SETTLED: SignedDuration = SignedDuration::from_secs(5);

/// How often it is asked about while the credential is out of use, and how often a deletion that failed is tried again.
const AGAIN: SignedDuration = SignedDuration::from_mins(5);

/// How many are asked about, or deleted, in one look.
const AT_ONCE: usize = 50;

/// One stored credential, and what is known of its use.
pub(super) struct Row<'a> {
    pub(super) stored: &'a StoredCredential,
    /// Whether a Registry and a namespace use it.
    pub(super) is_used: bool,
    /// Whether the namespace that it is for is known to be there; true where it is for no namespace alone.
    pub(super) is_home_known: bool,
}

/// What to do.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Decision<'a> {
    /// Those to delete if the Registries can be read.
    pub(super) delete: Vec<&'a StoredCredential>,
    /// Those whose namespace and ServiceAccount are to be asked about; to delete if either is gone.
    pub(super) ask: Vec<&'a StoredCredential>,
    /// When to look again if nothing changes before.
    pub(super) next: Option<Timestamp>,
}

/// What is out of use, by name.
#[derive(Default)]
pub(super) struct Unused(HashMap<String, Since>);

struct Since {
    at: Timestamp,
    /// When its ServiceAccount was asked about.
    asked_at: Option<Timestamp>,
    /// When its deletion failed.
    failed_at: Option<Timestamp>,
}

impl Unused {
    /// Decides what to do at `now` about all that is stored.
    pub(super) fn decide<'a>(&mut self, rows: &[Row<'a>], now: Timestamp) -> Decision<'a> {
        let is_idle = |row: &&Row<'a>| !row.is_used && !is_claimed(row.stored, now);
        let idle: Vec<&Row<'a>> = rows.iter().filter(is_idle).collect();
        let names: HashSet<&str> = idle.iter().map(|row| row.stored.name.as_str()).collect();
        self.0.retain(|name, _| names.contains(name.as_str()));
        let claims = rows.iter().filter(|row| !row.is_used);
        let claims = claims.filter_map(|row| row.stored.claimed_until);
        let mut decision = Decision {
            next: claims.filter(|until| *until > now).min(),
            ..Decision::default()
        };
        for row in idle {
            self.decide_one(row, now, &mut decision);
        }
        decision
    }

    fn decide_one<'a>(&mut self, row: &Row<'a>, now: Timestamp, decision: &mut Decision<'a>) {
        let since = self.0.entry(row.stored.name.to_string()).or_insert(Since {
            at: now,
            asked_at: None,
            failed_at: None,
        });
        // The clock was put back: the wait begins anew.
        since.at = since.at.min(now);
        let failed = since.failed_at.map(|at| later(at, AGAIN));
        let delete_at = later(since.at, KEPT).max(failed.unwrap_or(now));
        let ask_at = row.stored.tenant.as_ref().map(|_| match since.asked_at {
            Some(asked_at) => later(asked_at, AGAIN),
            None if row.is_home_known => later(since.at, SETTLED),
            None => now,
        });
        let mut next = Some(delete_at);
        if delete_at <= now {
            if decision.delete.len() < AT_ONCE {
                decision.delete.push(row.stored);
            }
            next = Some(now);
        } else if let Some(ask_at) = ask_at {
            next = next.min(Some(ask_at));
            if ask_at <= now && decision.ask.len() < AT_ONCE {
                since.asked_at = Some(now);
                decision.ask.push(row.stored);
                next = Some(later(now, AGAIN).min(delete_at));
            }
        }
        decision.next = decision.next.into_iter().chain(next).min();
    }

    /// Notes that one could not be deleted; whether that is to be told.
    pub(super) fn note_failure(&mut self, name: &str, now: Timestamp) -> bool {
        let Some(since) = self.0.get_mut(name) else {
            return true;
        };
        since.failed_at.replace(now).is_none()
    }
}

/// Whether somebody mints it now. No claim is as long as that: one beyond is of a clock that runs far ahead.
fn is_claimed(stored: &StoredCredential, now: Timestamp) -> bool {
    let claimed_until = stored.claimed_until;
    claimed_until.is_some_and(|until| until > now && until < later(now, AGAIN))
}

fn later(at: Timestamp, wait: SignedDuration) -> Timestamp {
    at.saturating_add(wait).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::at;
    use crate::provision::access::Version;
    use crate::registry::source::Tenant;

    fn stored(name: &str, is_tenants: bool) -> StoredCredential {
        StoredCredential {
            name: name.parse().unwrap(),
            tenant: is_tenants.then(|| Tenant {
                namespace: "team".parse().unwrap(),
                namespace_uid: "n-1".to_owned(),
                service_account: "puller".parse().unwrap(),
                service_account_uid: "s-1".to_owned(),
            }),
            version: Version::default(),
            source: String::new(),
            claimed_until: None,
        }
    }

    fn row(stored: &StoredCredential, is_used: bool, is_home_known: bool) -> Row<'_> {
        Row {
            stored,
            is_used,
            is_home_known,
        }
    }

    #[test]
    fn deletes_what_nobody_used_for_an_hour() {
        let (one, mut unused) = (stored("one", false), Unused::default());
        assert_eq!(
            unused.decide(&[row(&one, true, true)], at(0)),
            Decision::default()
        );
        let began = unused.decide(&[row(&one, false, true)], at(10));
        assert_eq!((began.delete.len(), began.next), (0, Some(at(3610))));
        // Used for a moment: the hour begins anew.
        unused.decide(&[row(&one, true, true)], at(3000));
        let again = unused.decide(&[row(&one, false, true)], at(3001));
        assert_eq!(again.next, Some(at(6601)));
        assert!(
            unused
                .decide(&[row(&one, false, true)], at(6600))
                .delete
                .is_empty()
        );
        let ended = unused.decide(&[row(&one, false, true)], at(6601));
        assert_eq!(ended.delete, [&one]);
    }

    #[test]
    fn waits_before_it_tries_again_what_failed() {
        let (one, mut unused) = (stored("one", false), Unused::default());
        unused.decide(&[row(&one, false, true)], at(0));
        assert_eq!(
            unused.decide(&[row(&one, false, true)], at(3600)).delete,
            [&one]
        );
        assert!(unused.note_failure("one", at(3600)));
        let failed = unused.decide(&[row(&one, false, true)], at(3601));
        assert_eq!((failed.delete.len(), failed.next), (0, Some(at(3900))));
        assert_eq!(
            unused.decide(&[row(&one, false, true)], at(3900)).delete,
            [&one]
        );
        assert!(!unused.note_failure("one", at(3900)));
    }

    #[test]
    fn leaves_alone_what_is_being_minted() {
        let (mut one, mut unused) = (stored("one", true), Unused::default());
        one.claimed_until = Some(at(10));
        let claimed = unused.decide(&[row(&one, false, false)], at(0));
        assert_eq!((claimed.ask.len(), claimed.next), (0, Some(at(10))));
        let free = unused.decide(&[row(&one, false, false)], at(10));
        assert_eq!(free.ask, [&one]);
    }

    #[test]
    fn asks_at_once_about_a_namespace_that_is_not_known() {
        let (one, mut unused) = (stored("one", true), Unused::default());
        let first = unused.decide(&[row(&one, false, false)], at(0));
        assert_eq!((first.ask, first.next), (vec![&one], Some(at(300))));
        let second = unused.decide(&[row(&one, false, false)], at(1));
        assert_eq!((second.ask.len(), second.next), (0, Some(at(300))));
        assert_eq!(
            unused.decide(&[row(&one, false, false)], at(300)).ask,
            [&one]
        );
    }

    #[test]
    fn asks_about_a_service_account_after_a_moment() {
        let (one, mut unused) = (stored("one", true), Unused::default());
        let first = unused.decide(&[row(&one, false, true)], at(0));
        assert_eq!((first.ask.len(), first.next), (0, Some(at(5))));
        assert_eq!(unused.decide(&[row(&one, false, true)], at(5)).ask, [&one]);
    }

    #[test]
    fn takes_no_more_than_it_can_do_at_once() {
        let (all, mut unused) = (
            (0..120).map(|number| stored(&format!("n{number}"), true)),
            Unused::default(),
        );
        let all: Vec<StoredCredential> = all.collect();
        let rows: Vec<Row<'_>> = all.iter().map(|one| row(one, false, false)).collect();
        let asked: Vec<usize> = (0..4)
            .map(|second| unused.decide(&rows, at(second)).ask.len())
            .collect();
        assert_eq!(asked, [50, 50, 20, 0]);
    }

    #[test]
    fn begins_anew_when_the_clock_is_put_back() {
        let (one, mut unused) = (stored("one", false), Unused::default());
        unused.decide(&[row(&one, false, true)], at(10_000));
        let back = unused.decide(&[row(&one, false, true)], at(0));
        assert_eq!(back.next, Some(at(3600)));
    }
}
