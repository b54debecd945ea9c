//! Which stored credentials are to be deleted, and which of their tenants are to be read first. Pure.

use std::collections::{HashMap, HashSet};
use std::fmt;

use jiff::{SignedDuration, Timestamp};

use crate::clock;
use crate::names::ObjectName;
use crate::provision::ports::StoredCredential;
use crate::registry::source::Tenant;

/// For how long a credential is kept after its end.
const GRACE: SignedDuration = SignedDuration::from_hours(1);

/// How long it is relied on that a tenant was there when it was read, and how long until a read or a deletion is tried again.
const RETRY_AFTER: SignedDuration = SignedDuration::from_mins(5);

/// How many tenants of namespaces that memory does not know are read, and how many credentials deleted, in one pass.
const MAX_PER_PASS: usize = 50;

/// How many ServiceAccounts are read in a minute: no watch says when one is gone.
const ACCOUNTS_PER_MINUTE: usize = 60;

/// One stored credential, and what memory knows of its tenant.
pub(super) struct Collectable<'a> {
    pub(super) stored: &'a StoredCredential,
    /// Whether memory knows this very namespace.
    pub(super) knows_namespace: bool,
    /// Whether memory knows this very ServiceAccount, read in the last minutes.
    pub(super) knows_account: bool,
}

/// Why a credential is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// It ended an hour ago.
    Ended,
    /// Its tenant's namespace or ServiceAccount is gone.
    TenantGone,
}

impl fmt::Display for Cause {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Ended => "it ended more than an hour ago",
            Self::TenantGone => "its namespace or ServiceAccount is gone",
        })
    }
}

/// A tenant that is to be read live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Check<'a> {
    pub(super) tenant: &'a Tenant,
    /// Whether memory knows this very namespace: then the ServiceAccount alone is read.
    pub(super) knows_namespace: bool,
}

/// What to do in one pass.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Sweep<'a> {
    /// Those to delete, and why.
    pub(super) delete: Vec<(&'a StoredCredential, Cause)>,
    /// Those to read live, the one that was read the longest ago first.
    pub(super) checks: Vec<Check<'a>>,
}

/// What was read, and what was tried.
#[derive(Default)]
pub(super) struct Evidence {
    /// The unique ids are part of a tenant: one that is gone is gone for ever.
    reads: HashMap<Tenant, LiveRead>,
    /// When each credential was deleted last, or was to be.
    tried: HashMap<ObjectName, Timestamp>,
}

struct LiveRead {
    /// `None`: it could not be read.
    is_there: Option<bool>,
    /// Whether memory knew the namespace, then or since.
    knew_namespace: bool,
    at: Timestamp,
}

impl Evidence {
    /// Plans what to do at `now` about all that is stored.
    pub(super) fn plan<'a>(&mut self, uses: &[Collectable<'a>], now: Timestamp) -> Sweep<'a> {
        self.forget(uses, now);
        let mut sweep = Sweep::default();
        let mut unknown: HashMap<&Tenant, (bool, Option<Timestamp>)> = HashMap::new();
        for use_ in uses {
            if is_claimed(use_.stored, now) || self.is_tried(&use_.stored.name, now) {
                continue;
            }
            if is_over(use_.stored, now) {
                sweep.delete.push((use_.stored, Cause::Ended));
                continue;
            }
            let Some(tenant) = &use_.stored.tenant else {
                continue;
            };
            let read = self.reads.get_mut(tenant).map(|read| {
                read.knew_namespace |= use_.knows_namespace;
                &*read
            });
            if read.is_some_and(|read| read.is_there == Some(false)) {
                sweep.delete.push((use_.stored, Cause::TenantGone));
            } else if !use_.is_known(read, now) {
                let last = read.map(|read| read.at);
                unknown.insert(tenant, (use_.knows_namespace, last));
            }
        }
        sweep.delete.truncate(MAX_PER_PASS);
        sweep.checks = self.choose(unknown, now);
        sweep
    }

    /// Which of those that are not known are read now.
    fn choose<'a>(
        &self,
        unknown: HashMap<&'a Tenant, (bool, Option<Timestamp>)>,
        now: Timestamp,
    ) -> Vec<Check<'a>> {
        let mut unknown: Vec<_> = unknown.into_iter().collect();
        unknown.sort_by_key(|(_, (_, last))| *last);
        let checks = unknown
            .into_iter()
            .map(|(tenant, (knows_namespace, _))| Check {
                tenant,
                knows_namespace,
            });
        let (accounts, mut checks): (Vec<_>, Vec<_>) =
            checks.partition(|check| check.knows_namespace);
        checks.truncate(MAX_PER_PASS);
        checks.extend(accounts.into_iter().take(self.accounts_left(now)));
        checks
    }

    /// Notes what a live read said; `None`: it failed.
    pub(super) fn note_read(&mut self, check: Check<'_>, is_there: Option<bool>, now: Timestamp) {
        let read = LiveRead {
            is_there,
            knew_namespace: check.knows_namespace,
            at: now,
        };
        self.reads.insert(check.tenant.clone(), read);
    }

    /// Notes that one was deleted, or was to be; answers whether it is the first time.
    pub(super) fn note_tried(&mut self, name: &ObjectName, now: Timestamp) -> bool {
        self.tried.insert(name.clone(), now).is_none()
    }

    /// What was deleted stays in memory until the watch shows it; and by a clock that runs far ahead of everybody else's, all that others
    /// mint ended long ago.
    fn is_tried(&self, name: &str, now: Timestamp) -> bool {
        let tried_at = self.tried.get(name);
        tried_at.is_some_and(|at| is_recent(*at, RETRY_AFTER, now))
    }

    /// How many ServiceAccounts may be read at `now`.
    fn accounts_left(&self, now: Timestamp) -> usize {
        let minute = SignedDuration::from_mins(1);
        let reads = self.reads.values();
        let reads = reads.filter(|read| read.knew_namespace && is_recent(read.at, minute, now));
        ACCOUNTS_PER_MINUTE.saturating_sub(reads.count())
    }

    /// Forgets what nothing is stored of any more.
    fn forget(&mut self, uses: &[Collectable<'_>], now: Timestamp) {
        let names: HashSet<&str> = uses.iter().map(|use_| use_.stored.name.as_str()).collect();
        self.tried
            .retain(|name, at| names.contains(name.as_str()) || is_recent(*at, RETRY_AFTER, now));
        let tenants = uses.iter().filter_map(|use_| use_.stored.tenant.as_ref());
        let tenants: HashSet<&Tenant> = tenants.collect();
        self.reads.retain(|tenant, _| tenants.contains(tenant));
    }
}

impl Collectable<'_> {
    /// Whether its tenant is known to be there, or was asked about in the last minutes; not where memory has lost the namespace since.
    fn is_known(&self, read: Option<&LiveRead>, now: Timestamp) -> bool {
        let is_settled = |read: &LiveRead| {
            is_recent(read.at, RETRY_AFTER, now) && (self.knows_namespace || !read.knew_namespace)
        };
        (self.knows_namespace && self.knows_account) || read.is_some_and(is_settled)
    }
}

/// Whether its hour after its end is over. A claim that brought no credential ends as one; what was never claimed, when it was made.
fn is_over(stored: &StoredCredential, now: Timestamp) -> bool {
    let claimed_until = stored
        .claimed_until
        .filter(|until| !is_too_far(*until, now));
    let end = stored.expires_at.or(claimed_until).or(stored.created_at);
    end.is_some_and(|end| later(end, GRACE) <= now)
}

/// Whether a replica mints it now.
fn is_claimed(stored: &StoredCredential, now: Timestamp) -> bool {
    let claimed_until = stored.claimed_until;
    claimed_until.is_some_and(|until| until > now && !is_too_far(until, now))
}

/// No claim is as long as that: it is of a clock that runs far ahead.
fn is_too_far(until: Timestamp, now: Timestamp) -> bool {
    clock::is_from_future(until, now)
}

/// Whether `now` is within `span` after `at`; if the clock went back to before `at`, it is not.
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
    use crate::provision::ports::Version;

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

    /// That this one's namespace is read, and its ServiceAccount.
    fn both(tenant: &Tenant) -> Check<'_> {
        Check {
            tenant,
            knows_namespace: false,
        }
    }

    /// That its ServiceAccount is.
    fn account(tenant: &Tenant) -> Check<'_> {
        Check {
            tenant,
            knows_namespace: true,
        }
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
        assert_eq!(sweep.checks, []);
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
        let uses = [
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
        for (what, stored, over) in uses {
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
        evidence.note_read(both(&tenant(1)), Some(false), at(0));
        assert_eq!(deleted(&mut evidence, &gone, 0), []);
        assert_eq!(deleted(&mut evidence, &gone, 10), [Cause::TenantGone]);
    }

    #[test]
    fn deletes_at_once_what_a_live_read_says_is_gone_and_nothing_else() {
        const NOTHING: Option<bool> = None;
        const BOTH: Option<bool> = Some(false);
        const ACCOUNT: Option<bool> = Some(true);
        let (one, tenant) = (of_tenant(1), tenant(1));
        let mut evidence = Evidence::default();
        let plan = |evidence: &mut Evidence, (knows_namespace, knows_account), seconds| {
            let use_ = collectable(&one, knows_namespace, knows_account);
            let Sweep { delete, checks } = evidence.plan(&[use_], at(seconds));
            assert_eq!(delete, []);
            checks.first().map(|check| check.knows_namespace)
        };
        assert_eq!(plan(&mut evidence, (true, true), 0), NOTHING);
        // A watch that lags, or a namespace that opted out: it is there.
        assert_eq!(plan(&mut evidence, (false, true), 0), BOTH);
        evidence.note_read(both(&tenant), Some(true), at(0));
        assert_eq!(plan(&mut evidence, (false, false), 299), NOTHING);
        // It is read again, as no watch would show it.
        assert_eq!(plan(&mut evidence, (false, true), 300), BOTH);
        // What could not be read is none that is gone.
        evidence.note_read(both(&tenant), None, at(300));
        assert_eq!(plan(&mut evidence, (false, true), 599), NOTHING);
        assert_eq!(plan(&mut evidence, (true, false), 600), ACCOUNT);
        evidence.note_read(account(&tenant), Some(true), at(600));
        assert_eq!(plan(&mut evidence, (true, false), 601), NOTHING);
        // The namespace is gone, as the watch says now; also where that did not know it at first.
        assert_eq!(plan(&mut evidence, (false, false), 601), BOTH);
        evidence.note_read(both(&tenant), Some(true), at(601));
        assert_eq!(plan(&mut evidence, (false, false), 602), NOTHING);
        assert_eq!(plan(&mut evidence, (true, true), 603), NOTHING);
        assert_eq!(plan(&mut evidence, (false, false), 604), BOTH);
        evidence.note_read(both(&tenant), Some(false), at(604));
        // Memory may still know it.
        assert_eq!(deleted(&mut evidence, &one, 604), [Cause::TenantGone]);
    }

    #[test]
    fn condemns_no_namesake_of_what_is_gone() {
        let mut evidence = Evidence::default();
        let (old, mut new) = (of_tenant(1), of_tenant(2));
        new.tenant = Some(Tenant {
            service_account_uid: "s-2".to_owned(),
            ..tenant(1)
        });
        let uses = || {
            [
                collectable(&old, true, false),
                collectable(&new, true, false),
            ]
        };
        assert_eq!(evidence.plan(&uses(), at(0)).checks.len(), 2);
        evidence.note_read(account(old.tenant.as_ref().unwrap()), Some(false), at(0));
        evidence.note_read(account(new.tenant.as_ref().unwrap()), Some(true), at(0));
        let sweep = evidence.plan(&uses(), at(1));
        assert_eq!(sweep.delete, [(&old, Cause::TenantGone)]);
    }

    #[test]
    fn reads_a_tenant_once_for_all_that_it_minted() {
        let (one, mut other) = (of_tenant(1), of_tenant(2));
        other.tenant = Some(tenant(1));
        let uses = [
            collectable(&one, false, false),
            collectable(&other, false, false),
        ];
        let mut evidence = Evidence::default();
        let tenant = tenant(1);
        assert_eq!(evidence.plan(&uses, at(0)).checks, [both(&tenant)]);
        evidence.note_read(both(&tenant), Some(false), at(0));
        let sweep = evidence.plan(&uses, at(0));
        let gone = [(&one, Cause::TenantGone), (&other, Cause::TenantGone)];
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
            "it was logged"
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
        let tenant = tenant(1);
        evidence.note_read(account(&tenant), Some(true), at(10 * HOUR));
        let sweep = evidence.plan(&[collectable(&one, true, false)], at(0));
        assert_eq!(
            (sweep.delete, sweep.checks),
            (vec![], vec![account(&tenant)])
        );
        // And nothing waits for the time that was.
        let one = ending("one", 0);
        evidence.note_tried(&"one".parse().unwrap(), at(10 * HOUR));
        assert_eq!(deleted(&mut evidence, &one, HOUR), [Cause::Ended]);
    }

    #[test]
    fn takes_no_more_than_it_can_do_at_once() {
        let over: Vec<_> = (0..120).map(|n| ending(&format!("n{n}"), 0)).collect();
        let uses: Vec<_> = over
            .iter()
            .map(|one| collectable(one, true, true))
            .collect();
        let mut evidence = Evidence::default();
        let counts = [0, 1, 2, 3].map(|second| {
            let sweep = evidence.plan(&uses, at(HOUR + second));
            for (stored, _) in &sweep.delete {
                evidence.note_tried(&stored.name, at(HOUR + second));
            }
            sweep.delete.len()
        });
        assert_eq!(counts, [50, 50, 20, 0]);

        let lost: Vec<_> = (0..120).map(of_tenant).collect();
        let uses: Vec<_> = lost
            .iter()
            .map(|one| collectable(one, false, false))
            .collect();
        let counts = [0, 1, 2, 3].map(|second| {
            let sweep = evidence.plan(&uses, at(second));
            for check in &sweep.checks {
                evidence.note_read(*check, Some(true), at(second));
            }
            sweep.checks.len()
        });
        assert_eq!(counts, [50, 50, 20, 0]);
    }

    #[test]
    fn reads_so_many_service_accounts_a_minute_each_in_its_turn() {
        let many: Vec<_> = (0..150).map(of_tenant).collect();
        let uses: Vec<_> = many
            .iter()
            .map(|one| collectable(one, true, false))
            .collect();
        let mut evidence = Evidence::default();
        let mut read = |seconds| {
            let checks = evidence.plan(&uses, at(seconds)).checks;
            for check in &checks {
                evidence.note_read(*check, Some(true), at(seconds));
            }
            checks
        };
        let counts = [0, 1, 59, 60, 120, 180, 240].map(|seconds| read(seconds).len());
        assert_eq!(counts, [60, 0, 0, 60, 30, 0, 0]);
        let first = read(300);
        assert_eq!(first.len(), 60, "those of the beginning");
        let second = read(360);
        assert!(second.iter().all(|check| !first.contains(check)));
    }

    #[test]
    fn forgets_what_nothing_is_stored_of() {
        let one = of_tenant(1);
        let mut evidence = Evidence::default();
        evidence.note_read(account(&tenant(1)), Some(true), at(0));
        evidence.note_tried(&one.name, at(0));
        evidence.plan(&[collectable(&one, true, true)], at(1000));
        assert_eq!((evidence.reads.len(), evidence.tried.len()), (1, 1));
        evidence.plan(&[], at(1000));
        assert_eq!((evidence.reads.len(), evidence.tried.len()), (0, 0));
    }
}
