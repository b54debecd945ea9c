//! Who leads. Pure.
//!
//! A replica never compares another's clock with its own: it takes a Lease over when it has not seen it change for as long as its
//! holder asked, by its own monotonic clock, as client-go does
//! (<https://github.com/kubernetes/client-go/blob/master/tools/leaderelection/leaderelection.go>). A holder that cannot renew stops
//! leading before others may begin. Two that lead at once do no harm all the same: every write is a compare-and-swap.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::cluster::{Held, Term};
use crate::provision::access::Precondition;

/// How long others leave a Lease to its holder after a renewal.
pub(super) const LEASE: Duration = Duration::from_secs(15);
/// After this long without a renewal its holder stops leading.
pub(super) const RENEW_BY: Duration = Duration::from_secs(10);
/// How often a holder renews, and others look.
pub(super) const RETRY: Duration = Duration::from_secs(2);

/// One replica's view of the Lease.
#[derive(Debug)]
pub(super) struct Election {
    identity: String,
    seen: Seen,
    /// When the last renewal that succeeded was begun.
    renewed: Option<Instant>,
}

#[derive(Debug)]
enum Seen {
    /// Not looked yet, or it may have changed since.
    Unknown,
    /// There is none.
    Absent,
    /// This one, unchanged since then.
    There(Held, Instant),
}

/// What to do now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Read the Lease.
    Look,
    /// Write it.
    Take(Term, Precondition),
    /// Nothing: somebody else leads.
    Leave,
}

impl Election {
    /// The view of a replica that has not looked yet. `identity` is like no other replica's, nor like an earlier life of this one.
    pub(super) fn new(identity: impl Into<String>) -> Self {
        Self {
            identity: identity.into(),
            seen: Seen::Unknown,
            renewed: None,
        }
    }

    /// Whether this replica leads at `now`.
    pub(super) fn leads(&self, now: Instant) -> bool {
        self.leads_until().is_some_and(|until| now < until)
    }

    /// Until when this replica leads if it renews no more; `None` when it does not.
    pub(super) fn leads_until(&self) -> Option<Instant> {
        self.renewed.map(|renewed| renewed + RENEW_BY)
    }

    /// Who leads, as far as is known; empty when nobody does.
    pub(super) fn holder(&self) -> &str {
        match &self.seen {
            Seen::There(held, _) => &held.holder,
            Seen::Unknown | Seen::Absent => "",
        }
    }

    /// What the Lease says that somebody confirmed.
    pub(super) fn confirmed(&self) -> Option<&str> {
        match &self.seen {
            Seen::There(held, _) => held.confirmed.as_deref(),
            Seen::Unknown | Seen::Absent => None,
        }
    }

    /// Decides what to do.
    pub(super) fn decide(&self, now: Instant, clock: Timestamp) -> Step {
        match &self.seen {
            Seen::Unknown => Step::Look,
            Seen::Absent => Step::Take(self.term(clock, 0), Precondition::Absent),
            Seen::There(held, _) if held.holder == self.identity => {
                let term = self.term(held.acquired, held.transitions);
                Step::Take(term, Precondition::Exactly(held.version.clone()))
            }
            Seen::There(held, since) if is_free(held, *since, now) => {
                let term = self.term(clock, held.transitions.saturating_add(1));
                Step::Take(term, Precondition::Exactly(held.version.clone()))
            }
            Seen::There(..) => Step::Leave,
        }
    }

    /// What to write to give the Lease back; `None` when this replica does not hold it.
    pub(super) fn give_back(&self) -> Option<(Term, Precondition)> {
        let Seen::There(held, _) = &self.seen else {
            return None;
        };
        let term = Term {
            holder: String::new(),
            duration: Duration::from_secs(1),
            acquired: held.acquired,
            transitions: held.transitions,
        };
        (held.holder == self.identity).then(|| (term, Precondition::Exactly(held.version.clone())))
    }

    /// The Lease was read at `now`.
    pub(super) fn looked(&mut self, found: Option<Held>, now: Instant) {
        let held = match (found, &self.seen) {
            (None, _) => {
                self.renewed = None;
                self.seen = Seen::Absent;
                return;
            }
            (Some(held), Seen::There(known, _)) if held.version == known.version => return,
            (Some(held), _) => held,
        };
        if held.holder != self.identity {
            self.renewed = None;
        }
        self.seen = Seen::There(held, now);
    }

    /// A write that was begun at `begun` succeeded, and this stands there now.
    pub(super) fn took(&mut self, held: Held, begun: Instant) {
        self.renewed = (held.holder == self.identity).then_some(begun);
        self.seen = Seen::There(held, begun);
    }

    /// A write was refused because somebody else wrote in between: look again, then go by what is seen from then on.
    pub(super) fn lost_race(&mut self) {
        self.seen = Seen::Unknown;
    }

    /// Nothing was heard for as long as a leader may go on without: if this replica led, it does no longer.
    pub(super) fn expire(&mut self, now: Instant) {
        if self.renewed.is_some() && !self.leads(now) {
            self.renewed = None;
        }
    }

    fn term(&self, acquired: Timestamp, transitions: i32) -> Term {
        Term {
            holder: self.identity.clone(),
            duration: LEASE,
            acquired,
            transitions,
        }
    }
}

/// Whether a Lease that was not seen to change since `since` may be taken at `now`.
fn is_free(held: &Held, since: Instant, now: Instant) -> bool {
    held.holder.is_empty() || now.saturating_duration_since(since) > held.duration
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provision::access::Version;

    fn held(holder: &str, version: u32) -> Held {
        Held {
            version: Version {
                uid: "u".to_owned(),
                resource_version: version.to_string(),
            },
            holder: holder.to_owned(),
            duration: LEASE,
            acquired: Timestamp::UNIX_EPOCH,
            transitions: 3,
            confirmed: None,
        }
    }

    fn clock() -> Timestamp {
        "2026-11-21T10:00:00Z".parse().unwrap()
    }

    fn is_take(step: &Step) -> bool {
        matches!(step, Step::Take(..))
    }

    #[test]
    fn takes_lease_that_is_not_there() {
        let mut election = Election::new("a");
        let now = Instant::now();
        assert_eq!(election.decide(now, clock()), Step::Look);
        election.looked(None, now);
        let Step::Take(term, Precondition::Absent) = election.decide(now, clock()) else {
            panic!("not taken");
        };
        assert_eq!((term.holder.as_str(), term.transitions), ("a", 0));
        assert!(!election.leads(now));
        election.took(held("a", 1), now);
        assert!(election.leads(now));
    }

    #[test]
    fn leaves_lease_alone_as_long_as_it_is_renewed() {
        let mut election = Election::new("a");
        let mut now = Instant::now();
        for version in 1..20 {
            election.looked(Some(held("b", version)), now);
            assert_eq!(election.decide(now, clock()), Step::Leave);
            now += RENEW_BY;
            assert_eq!(election.decide(now, clock()), Step::Leave);
        }
    }

    #[test]
    fn takes_lease_that_was_not_seen_to_change_whatever_its_times_say() {
        let mut election = Election::new("a");
        let first = Instant::now();
        election.looked(Some(held("b", 1)), first);
        let later = first + LEASE + Duration::from_millis(1);
        election.looked(Some(held("b", 1)), later);
        let Step::Take(term, Precondition::Exactly(version)) = election.decide(later, clock())
        else {
            panic!("not taken");
        };
        assert_eq!((term.transitions, term.acquired), (4, clock()));
        assert_eq!(version.resource_version, "1");
    }

    #[test]
    fn takes_lease_that_was_given_back_at_once() {
        let mut election = Election::new("a");
        let now = Instant::now();
        election.looked(Some(held("", 1)), now);
        assert!(is_take(&election.decide(now, clock())));
    }

    #[test]
    fn stops_leading_before_others_may_begin() {
        let begun = Instant::now();
        let mut leader = Election::new("a");
        leader.took(held("a", 1), begun);
        let mut other = Election::new("b");
        other.looked(Some(held("a", 1)), begun);
        let mut now = begun;
        while leader.leads(now) {
            assert_eq!(
                other.decide(now, clock()),
                Step::Leave,
                "at {:?}",
                now - begun
            );
            now += Duration::from_millis(100);
        }
        leader.expire(now);
        assert!(leader.leads_until().is_none());
        assert_eq!(other.decide(now, clock()), Step::Leave);
    }

    #[test]
    fn stops_leading_when_somebody_else_took_the_lease() {
        let now = Instant::now();
        let mut leader = Election::new("a");
        leader.took(held("a", 1), now);
        leader.lost_race();
        assert!(leader.leads(now), "until it is known who has it");
        leader.looked(Some(held("b", 2)), now);
        assert!(!leader.leads(now));
        assert_eq!(leader.give_back(), None);
    }

    #[test]
    fn goes_on_leading_after_losing_a_race_against_nobody() {
        let now = Instant::now();
        let mut leader = Election::new("a");
        leader.took(held("a", 1), now);
        leader.lost_race();
        leader.looked(Some(held("a", 2)), now);
        assert!(leader.leads(now));
        assert!(is_take(&leader.decide(now, clock())));
    }

    #[test]
    fn gives_back_what_it_holds() {
        let now = Instant::now();
        let mut leader = Election::new("a");
        leader.took(held("a", 7), now);
        let (term, precondition) = leader.give_back().unwrap();
        assert_eq!(
            (term.holder.as_str(), term.duration),
            ("", Duration::from_secs(1))
        );
        assert_eq!(precondition, Precondition::Exactly(held("a", 7).version));
    }

    #[test]
    fn renews_what_an_earlier_answer_was_lost_of() {
        // The write succeeded, its answer did not come: the Lease says that we hold it.
        let now = Instant::now();
        let mut election = Election::new("a");
        election.looked(Some(held("a", 1)), now);
        assert!(!election.leads(now), "only an answer tells when");
        assert!(is_take(&election.decide(now, clock())));
    }
}
