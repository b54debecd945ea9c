//! Which stored credentials are to be deleted, and whose namespace or ServiceAccount is to be read first. Pure.

use std::collections::{HashMap, HashSet};
use std::fmt;

use jiff::{SignedDuration, Timestamp};

use crate::names::{NamespaceName, ObjectName};
use crate::provision::access::StoredCredential;
use crate::registry::source::Tenant;

/// For how long a credential is kept after its end.
const KEPT: SignedDuration = SignedDuration::from_hours(1);

/// How long it is relied on that a namespace or ServiceAccount was there when it was read, and how long until a read or a deletion is
/// tried again.
const AGAIN: SignedDuration = SignedDuration::from_mins(5);

/// How many namespaces are read, and how many credentials deleted, in one look.
const AT_ONCE: usize = 50;

/// How many ServiceAccounts are read in a minute: no watch says when one is gone.
const ACCOUNTS_PER_MINUTE: usize = 60;

/// One stored credential, and what memory knows of whose it is.
pub(super) struct Collectable<'a> {
    pub(super) stored: &'a StoredCredential,
    /// Whether memory knows its tenant's very namespace.
    pub(super) knows_namespace: bool,
    /// Whether memory knows its tenant's very ServiceAccount, read in the last minutes.
    pub(super) knows_account: bool,
}

/// Without whom a tenant's credential is of no use. The unique id is part of it: what is gone once is gone for ever.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Owner {
    /// A namespace.
    Namespace {
        /// Its name.
        name: NamespaceName,
        /// Its `metadata.uid`.
        uid: String,
    },
    /// A ServiceAccount.
    ServiceAccount(Tenant),
}

/// Why a credential is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// It ended an hour ago.
    Ended,
    /// Its tenant's namespace is gone.
    NamespaceGone,
    /// Its tenant's ServiceAccount is gone.
    ServiceAccountGone,
}

impl fmt::Display for Cause {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Ended => "it ended more than an hour ago",
            Self::NamespaceGone => "its namespace is gone",
            Self::ServiceAccountGone => "its ServiceAccount is gone",
        })
    }
}

/// What to do in one look.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Sweep<'a> {
    /// Those to delete, and why.
    pub(super) delete: Vec<(&'a StoredCredential, Cause)>,
    /// Those to read live, the one that was read the longest ago first.
    pub(super) read: Vec<Owner>,
}

impl Sweep<'_> {
    /// Whether there is nothing to do.
    pub(super) fn is_empty(&self) -> bool {
        self.delete.is_empty() && self.read.is_empty()
    }
}

/// What was read, and what was tried.
#[derive(Default)]
pub(super) struct Evidence {
    reads: HashMap<Owner, LiveRead>,
    /// When each credential was deleted last, or was to be.
    tried: HashMap<ObjectName, Timestamp>,
}

struct LiveRead {
    /// `None`: it could not be read.
    is_there: Option<bool>,
    at: Timestamp,
}

/// What is known of an [`Owner`].
enum Presence {
    There,
    Gone,
    /// It is to be read; when it was last.
    Unknown(Option<Timestamp>),
}

impl Evidence {
    /// Plans what to do at `now` about all that is stored.
    pub(super) fn plan<'a>(&mut self, rows: &[Collectable<'a>], now: Timestamp) -> Sweep<'a> {
        self.forget(rows, now);
        let mut delete = Vec::new();
        let mut unknown = HashMap::new();
        for row in rows {
            if is_claimed(row.stored, now) || self.is_tried(&row.stored.name, now) {
                continue;
            }
            if is_over(row.stored, now) {
                delete.push((row.stored, Cause::Ended));
                continue;
            }
            match self.find_gone(row, now) {
                Ok(None) => {}
                Ok(Some(cause)) => delete.push((row.stored, cause)),
                Err((owner, last)) => {
                    unknown.insert(owner, last);
                }
            }
        }
        delete.truncate(AT_ONCE);
        let mut unknown: Vec<(Owner, Option<Timestamp>)> = unknown.into_iter().collect();
        unknown.sort_by_key(|(_, last)| *last);
        let unknown = unknown.into_iter().map(|(owner, _)| owner);
        let (accounts, mut read): (Vec<_>, Vec<_>) =
            unknown.partition(|owner| matches!(owner, Owner::ServiceAccount(_)));
        read.truncate(AT_ONCE);
        read.extend(accounts.into_iter().take(self.accounts_left(now)));
        Sweep { delete, read }
    }

    /// Which of its owners is gone, if one is; else which is to be read before that is known, and when it was read last.
    fn find_gone(
        &self,
        row: &Collectable<'_>,
        now: Timestamp,
    ) -> Result<Option<Cause>, (Owner, Option<Timestamp>)> {
        let Some(tenant) = &row.stored.tenant else {
            return Ok(None);
        };
        let namespace = Owner::Namespace {
            name: tenant.namespace.clone(),
            uid: tenant.namespace_uid.clone(),
        };
        let account = Owner::ServiceAccount(tenant.clone());
        let owners = [
            (namespace, row.knows_namespace, Cause::NamespaceGone),
            (account, row.knows_account, Cause::ServiceAccountGone),
        ];
        for (owner, is_known, cause) in owners {
            match self.presence(&owner, now) {
                Presence::Gone => return Ok(Some(cause)),
                Presence::Unknown(last) if !is_known => return Err((owner, last)),
                Presence::There | Presence::Unknown(_) => {}
            }
        }
        Ok(None)
    }

    fn presence(&self, owner: &Owner, now: Timestamp) -> Presence {
        match self.reads.get(owner) {
            Some(read) if read.is_there == Some(false) => Presence::Gone,
            Some(read) if is_recent(read.at, AGAIN, now) => Presence::There,
            read => Presence::Unknown(read.map(|read| read.at)),
        }
    }

    /// Notes what a live read said; `None`: it failed.
    pub(super) fn note_read(&mut self, owner: Owner, is_there: Option<bool>, now: Timestamp) {
        let at = now;
        self.reads.insert(owner, LiveRead { is_there, at });
    }

    /// Notes that one was deleted, or was to be; answers whether it is the first time.
    pub(super) fn note_tried(&mut self, name: &ObjectName, now: Timestamp) -> bool {
        self.tried.insert(name.clone(), now).is_none()
    }

    /// The memory of a watch shows what was deleted for a moment yet; and who mints by a clock that is far behind ours would see each
    /// credential deleted at once.
    fn is_tried(&self, name: &str, now: Timestamp) -> bool {
        let tried_at = self.tried.get(name);
        tried_at.is_some_and(|at| is_recent(*at, AGAIN, now))
    }

    /// How many ServiceAccounts may be read at `now`.
    fn accounts_left(&self, now: Timestamp) -> usize {
        let is_counted = |(owner, read): &(&Owner, &LiveRead)| {
            matches!(owner, Owner::ServiceAccount(_))
                && is_recent(read.at, SignedDuration::from_mins(1), now)
        };
        let read = self.reads.iter().filter(is_counted).count();
        ACCOUNTS_PER_MINUTE.saturating_sub(read)
    }

    /// Forgets what nothing is stored of any more.
    fn forget(&mut self, rows: &[Collectable<'_>], now: Timestamp) {
        let names: HashSet<&str> = rows.iter().map(|row| row.stored.name.as_str()).collect();
        self.tried
            .retain(|name, at| names.contains(name.as_str()) || is_recent(*at, AGAIN, now));
        let tenants = || rows.iter().filter_map(|row| row.stored.tenant.as_ref());
        let accounts: HashSet<&Tenant> = tenants().collect();
        let namespaces: HashSet<(&str, &str)> = tenants()
            .map(|tenant| (tenant.namespace.as_str(), tenant.namespace_uid.as_str()))
            .collect();
        self.reads.retain(|owner, _| match owner {
            Owner::Namespace { name, uid } => namespaces.contains(&(name.as_str(), uid.as_str())),
            Owner::ServiceAccount(tenant) => accounts.contains(tenant),
        });
    }
}

/// Whether its hour after its end is over. A claim that brought no credential ends as one; what was never claimed, when it was made.
fn is_over(stored: &StoredCredential, now: Timestamp) -> bool {
    let claimed_until = stored
        .claimed_until
        .filter(|until| !is_too_far(*until, now));
    let end = stored.expires_at.or(claimed_until).or(stored.created_at);
    end.is_some_and(|end| later(end, KEPT) <= now)
}

/// Whether somebody mints it now.
fn is_claimed(stored: &StoredCredential, now: Timestamp) -> bool {
    let claimed_until = stored.claimed_until;
    claimed_until.is_some_and(|until| until > now && !is_too_far(until, now))
}

/// No claim is as long as that: it is of a clock that runs far ahead.
fn is_too_far(until: Timestamp, now: Timestamp) -> bool {
    until >= later(now, AGAIN)
}

/// Whether `now` is within `span` after `at`; of a clock that was put back to before it, nothing is.
fn is_recent(at: Timestamp, span: SignedDuration, now: Timestamp) -> bool {
    at <= now && now < later(at, span)
}

fn later(at: Timestamp, wait: SignedDuration) -> Timestamp {
    at.saturating_add(wait).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::at;
    use crate::provision::access::Version;

    const HOUR: i64 = 3600;

    /// One that ends so many seconds after the beginning.
    fn ending(name: &str, end: i64) -> StoredCredential {
        StoredCredential {
            name: name.parse().unwrap(),
            expires_at: Some(at(end)),
            created_at: Some(at(0)),
            version: Version::default(),
            source: String::new(),
            tenant: None,
            claimed_until: None,
        }
    }

    fn tenant(number: usize) -> Tenant {
        Tenant {
            namespace: format!("team-{number}").parse().unwrap(),
            namespace_uid: format!("n-{number}"),
            service_account: "puller".parse().unwrap(),
            service_account_uid: format!("s-{number}"),
        }
    }

    /// A tenant's, which ends after a day.
    fn of_tenant(number: usize) -> StoredCredential {
        StoredCredential {
            tenant: Some(tenant(number)),
            ..ending(&format!("tenant-{number}"), 24 * HOUR)
        }
    }

    fn namespace(number: usize) -> Owner {
        let tenant = tenant(number);
        Owner::Namespace {
            name: tenant.namespace,
            uid: tenant.namespace_uid,
        }
    }

    fn account(number: usize) -> Owner {
        Owner::ServiceAccount(tenant(number))
    }

    fn collectable(
        stored: &StoredCredential,
        knows_namespace: bool,
        knows_account: bool,
    ) -> Collectable<'_> {
        Collectable {
            stored,
            knows_namespace,
            knows_account,
        }
    }

    /// What is deleted at this time of one that memory knows all about.
    fn deleted(evidence: &mut Evidence, stored: &StoredCredential, seconds: i64) -> Vec<Cause> {
        let sweep = evidence.plan(&[collectable(stored, true, true)], at(seconds));
        assert_eq!(sweep.read, []);
        sweep.delete.into_iter().map(|(_, cause)| cause).collect()
    }

    #[test]
    fn deletes_what_ended_an_hour_ago_and_nothing_before() {
        let claim = |credential: Option<i64>, until: i64| StoredCredential {
            expires_at: credential.map(at),
            claimed_until: Some(at(until)),
            ..ending("claimed", 0)
        };
        let unclaimed = StoredCredential {
            expires_at: None,
            ..ending("released", 0)
        };
        let rows = [
            ("a credential", ending("one", 1000), 1000 + HOUR),
            ("a tenant's credential", of_tenant(1), 25 * HOUR),
            ("a claim that brought nothing", claim(None, 10), 10 + HOUR),
            ("a claim that was released", unclaimed, HOUR),
            (
                "a claim by a clock that ran far ahead",
                claim(None, 1_000_000),
                HOUR,
            ),
            (
                "an old claim beside a credential",
                claim(Some(1000), 10),
                1000 + HOUR,
            ),
        ];
        for (what, stored, over) in rows {
            for seconds in [-1_000_000, 0, HOUR / 2, over - 1] {
                let deleted = deleted(&mut Evidence::default(), &stored, seconds);
                assert_eq!(deleted, [], "{what} at {seconds}");
            }
            for seconds in [over, over + 1, over + 1_000_000] {
                let deleted = deleted(&mut Evidence::default(), &stored, seconds);
                assert_eq!(deleted, [Cause::Ended], "{what} at {seconds}");
            }
        }
    }

    #[test]
    fn leaves_alone_what_is_being_minted() {
        let over = StoredCredential {
            claimed_until: Some(at(2 * HOUR + 10)),
            ..ending("one", 0)
        };
        let mut evidence = Evidence::default();
        assert_eq!(deleted(&mut evidence, &over, 2 * HOUR), []);
        assert_eq!(deleted(&mut evidence, &over, 2 * HOUR + 10), [Cause::Ended]);
        let mut gone = of_tenant(1);
        gone.claimed_until = Some(at(10));
        evidence.note_read(namespace(1), Some(false), at(0));
        assert_eq!(deleted(&mut evidence, &gone, 0), []);
        assert_eq!(deleted(&mut evidence, &gone, 10), [Cause::NamespaceGone]);
    }

    #[test]
    fn deletes_at_once_what_a_live_read_says_is_gone_and_nothing_else() {
        let one = of_tenant(1);
        let mut evidence = Evidence::default();
        let plan = |evidence: &mut Evidence, knows_namespace, knows_account, seconds| {
            let row = collectable(&one, knows_namespace, knows_account);
            let Sweep { delete, read } = evidence.plan(&[row], at(seconds));
            let delete: Vec<Cause> = delete.into_iter().map(|(_, cause)| cause).collect();
            (delete, read)
        };
        assert_eq!(plan(&mut evidence, true, true, 0), (vec![], vec![]));
        // A watch that lags, or a namespace that opted out: it is there.
        let read = plan(&mut evidence, false, true, 0);
        assert_eq!(read, (vec![], vec![namespace(1)]));
        evidence.note_read(namespace(1), Some(true), at(0));
        assert_eq!(plan(&mut evidence, false, true, 1), (vec![], vec![]));
        // It is asked about again, as no watch would tell.
        let read = plan(&mut evidence, false, true, 300);
        assert_eq!(read, (vec![], vec![namespace(1)]));
        // What could not be read is none that is gone.
        evidence.note_read(namespace(1), None, at(300));
        assert_eq!(plan(&mut evidence, false, true, 599), (vec![], vec![]));
        evidence.note_read(namespace(1), Some(true), at(600));
        let read = plan(&mut evidence, false, false, 600);
        assert_eq!(read, (vec![], vec![account(1)]));
        evidence.note_read(account(1), Some(false), at(600));
        // Memory may still know it.
        let gone = (vec![Cause::ServiceAccountGone], vec![]);
        assert_eq!(plan(&mut evidence, true, true, 600), gone);
        evidence.note_read(namespace(1), Some(false), at(600));
        let gone = (vec![Cause::NamespaceGone], vec![]);
        assert_eq!(plan(&mut evidence, true, true, 600), gone);
    }

    #[test]
    fn condemns_no_namesake_of_what_is_gone() {
        let mut evidence = Evidence::default();
        let (old, mut new) = (of_tenant(1), of_tenant(2));
        new.tenant = Some(Tenant {
            service_account_uid: "s-2".to_owned(),
            ..tenant(1)
        });
        let rows = || {
            [
                collectable(&old, true, false),
                collectable(&new, true, false),
            ]
        };
        assert_eq!(evidence.plan(&rows(), at(0)).read.len(), 2);
        evidence.note_read(account(1), Some(false), at(0));
        let is_new = Owner::ServiceAccount(new.tenant.clone().unwrap());
        evidence.note_read(is_new, Some(true), at(0));
        let sweep = evidence.plan(&rows(), at(1));
        assert_eq!(sweep.delete, [(&old, Cause::ServiceAccountGone)]);
    }

    #[test]
    fn reads_a_namespace_once_for_all_that_was_minted_there() {
        let (one, mut other) = (of_tenant(1), of_tenant(2));
        other.tenant = Some(Tenant {
            service_account: "other".parse().unwrap(),
            ..tenant(1)
        });
        let rows = [
            collectable(&one, false, false),
            collectable(&other, false, false),
        ];
        let mut evidence = Evidence::default();
        assert_eq!(evidence.plan(&rows, at(0)).read, [namespace(1)]);
        evidence.note_read(namespace(1), Some(false), at(0));
        let sweep = evidence.plan(&rows, at(0));
        let gone = [(&one, Cause::NamespaceGone), (&other, Cause::NamespaceGone)];
        assert_eq!(sweep.delete, gone);
    }

    #[test]
    fn tries_again_what_could_not_be_deleted() {
        let (one, mut evidence) = (ending("one", 0), Evidence::default());
        assert_eq!(deleted(&mut evidence, &one, HOUR), [Cause::Ended]);
        assert!(evidence.note_tried(&"one".parse().unwrap(), at(HOUR)));
        assert_eq!(deleted(&mut evidence, &one, HOUR + 299), []);
        assert_eq!(deleted(&mut evidence, &one, HOUR + 300), [Cause::Ended]);
        assert!(
            !evidence.note_tried(&"one".parse().unwrap(), at(HOUR + 300)),
            "it was told"
        );
    }

    /// By a clock that runs far ahead of everybody else's, all that others mint ended long ago.
    #[test]
    fn deletes_what_comes_back_no_sooner_than_what_failed() {
        let (one, mut evidence) = (ending("one", 0), Evidence::default());
        evidence.note_tried(&"one".parse().unwrap(), at(2 * HOUR));
        assert_eq!(evidence.plan(&[], at(2 * HOUR)), Sweep::default());
        assert_eq!(deleted(&mut evidence, &one, 2 * HOUR + 1), []);
        assert_eq!(deleted(&mut evidence, &one, 2 * HOUR + 300), [Cause::Ended]);
    }

    #[test]
    fn deletes_nothing_for_a_clock_that_was_put_back() {
        let one = of_tenant(1);
        let mut evidence = Evidence::default();
        evidence.note_read(namespace(1), Some(true), at(10 * HOUR));
        evidence.note_read(account(1), Some(true), at(10 * HOUR));
        let rows = [collectable(&one, false, false)];
        let sweep = evidence.plan(&rows, at(0));
        assert_eq!((sweep.delete, sweep.read), (vec![], vec![namespace(1)]));
        // And nothing waits for the time that was.
        let one = ending("one", 0);
        evidence.note_tried(&"one".parse().unwrap(), at(10 * HOUR));
        assert_eq!(deleted(&mut evidence, &one, HOUR), [Cause::Ended]);
    }

    #[test]
    fn takes_no_more_than_it_can_do_at_once() {
        let over: Vec<_> = (0..120).map(|n| ending(&format!("n{n}"), 0)).collect();
        let rows: Vec<_> = over
            .iter()
            .map(|one| collectable(one, true, true))
            .collect();
        let mut evidence = Evidence::default();
        let counts = [0, 1, 2, 3].map(|second| {
            let sweep = evidence.plan(&rows, at(HOUR + second));
            for (stored, _) in &sweep.delete {
                evidence.note_tried(&stored.name, at(HOUR + second));
            }
            sweep.delete.len()
        });
        assert_eq!(counts, [50, 50, 20, 0]);

        let lost: Vec<_> = (0..120).map(of_tenant).collect();
        let rows: Vec<_> = lost
            .iter()
            .map(|one| collectable(one, false, false))
            .collect();
        let counts = [0, 1, 2, 3].map(|second| {
            let sweep = evidence.plan(&rows, at(second));
            let count = sweep.read.len();
            for owner in sweep.read {
                let is_namespace = matches!(owner, Owner::Namespace { .. });
                evidence.note_read(owner, is_namespace.then_some(false), at(second));
            }
            count
        });
        assert_eq!(counts, [50, 50, 20, 0]);
    }

    #[test]
    fn reads_so_many_service_accounts_a_minute_each_in_its_turn() {
        let many: Vec<_> = (0..150).map(of_tenant).collect();
        let rows: Vec<_> = many
            .iter()
            .map(|one| collectable(one, true, false))
            .collect();
        let mut evidence = Evidence::default();
        let mut read = |seconds| {
            let owners = evidence.plan(&rows, at(seconds)).read;
            for owner in &owners {
                evidence.note_read(owner.clone(), Some(true), at(seconds));
            }
            owners
        };
        let counts = [0, 1, 59, 60, 120, 180, 240].map(|seconds| read(seconds).len());
        assert_eq!(counts, [60, 0, 0, 60, 30, 0, 0]);
        let first = read(300);
        assert_eq!(first.len(), 60, "those of the beginning");
        let second = read(360);
        assert!(second.iter().all(|owner| !first.contains(owner)));
    }

    #[test]
    fn forgets_what_nothing_is_stored_of() {
        let one = of_tenant(1);
        let mut evidence = Evidence::default();
        evidence.note_read(namespace(1), Some(true), at(0));
        evidence.note_read(account(1), Some(true), at(0));
        evidence.note_tried(&one.name, at(0));
        evidence.plan(&[collectable(&one, true, true)], at(1000));
        assert_eq!((evidence.reads.len(), evidence.tried.len()), (2, 1));
        evidence.plan(&[], at(1000));
        assert_eq!((evidence.reads.len(), evidence.tried.len()), (0, 0));
    }
}
