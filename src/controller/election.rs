//! Who leads. Pure.
//!
//! A replica never compares another's clock with its own: it takes a Lease over when it has not seen it change for as long as its
//! holder asked, by its own monotonic clock, as client-go does
//! (<https://github.com/kubernetes/client-go/blob/master/tools/leaderelection/leaderelection.go>). A holder that cannot renew stops
//! leading before others may begin. Two that lead at once do no harm all the same: every write is a compare-and-swap.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::cluster::{LeaseRecord, LeaseSpec};
use crate::provision::ports::Precondition;

/// How long others leave a Lease to its holder after a renewal.
pub(super) const LEASE_DURATION: Duration = Duration::from_secs(15);
/// After this long without a renewal its holder stops leading.
pub(super) const RENEW_DEADLINE: Duration = Duration::from_secs(10);
/// How often the holder renews, and the others read.
pub(super) const RETRY_PERIOD: Duration = Duration::from_secs(2);

/// One replica's view of the Lease.
#[derive(Debug)]
pub(super) struct Election {
    identity: String,
    observed: ObservedLease,
    /// When the last renewal that succeeded was begun.
    renewed: Option<Instant>,
}

#[derive(Debug)]
enum ObservedLease {
    /// Not read yet, or it may have changed since.
    Unknown,
    /// There is none.
    Absent,
    /// This one, unchanged since then.
    Observed(LeaseRecord, Instant),
}

/// What to do now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum LeaseAction {
    /// Read the Lease.
    Get,
    /// Write it.
    Apply(LeaseSpec, Precondition),
    /// Nothing: another replica leads.
    Wait,
}

impl Election {
    /// The view of a replica that has not read the Lease yet. `identity` is unique: no other replica's, nor an earlier process' of this one.
    pub(super) fn new(identity: impl Into<String>) -> Self {
        Self {
            identity: identity.into(),
            observed: ObservedLease::Unknown,
            renewed: None,
        }
    }

    /// Whether this replica leads at `now`.
    pub(super) fn leads(&self, now: Instant) -> bool {
        self.lease_until().is_some_and(|until| now < until)
    }

    /// Until when this replica leads if it renews no more; `None` when it does not.
    pub(super) fn lease_until(&self) -> Option<Instant> {
        self.renewed.map(|renewed| renewed + RENEW_DEADLINE)
    }

    /// Who leads, as far as is known; empty when nobody does.
    pub(super) fn holder(&self) -> &str {
        match &self.observed {
            ObservedLease::Observed(record, _) => &record.holder,
            ObservedLease::Unknown | ObservedLease::Absent => "",
        }
    }

    /// The removals that an admin confirmed by an annotation of the Lease.
    pub(super) fn confirmed(&self) -> Option<&str> {
        match &self.observed {
            ObservedLease::Observed(record, _) => record.confirmed.as_deref(),
            ObservedLease::Unknown | ObservedLease::Absent => None,
        }
    }

    /// Decides what to do.
    pub(super) fn decide(&self, now: Instant, clock: Timestamp) -> LeaseAction {
        match &self.observed {
            ObservedLease::Unknown => LeaseAction::Get,
            ObservedLease::Absent => {
                LeaseAction::Apply(self.lease_spec(clock, 0), Precondition::Absent)
            }
            ObservedLease::Observed(record, _) if record.holder == self.identity => {
                let lease_spec = self.lease_spec(record.acquired, record.transitions);
                LeaseAction::Apply(lease_spec, Precondition::Exactly(record.version.clone()))
            }
            ObservedLease::Observed(record, since) if is_expired(record, *since, now) => {
                let lease_spec = self.lease_spec(clock, record.transitions.saturating_add(1));
                LeaseAction::Apply(lease_spec, Precondition::Exactly(record.version.clone()))
            }
            ObservedLease::Observed(..) => LeaseAction::Wait,
        }
    }

    /// What to write to give the Lease back; `None` when this replica does not hold it.
    pub(super) fn release(&self) -> Option<(LeaseSpec, Precondition)> {
        let ObservedLease::Observed(record, _) = &self.observed else {
            return None;
        };
        let lease_spec = LeaseSpec {
            holder: String::new(),
            duration: Duration::from_secs(1),
            acquired: record.acquired,
            transitions: record.transitions,
        };
        (record.holder == self.identity)
            .then(|| (lease_spec, Precondition::Exactly(record.version.clone())))
    }

    /// The Lease was read at `now`.
    pub(super) fn observe(&mut self, found: Option<LeaseRecord>, now: Instant) {
        let record = match (found, &self.observed) {
            (None, _) => {
                self.renewed = None;
                self.observed = ObservedLease::Absent;
                return;
            }
            (Some(record), ObservedLease::Observed(known, _))
                if record.version == known.version =>
            {
                return;
            }
            (Some(record), _) => record,
        };
        if record.holder != self.identity {
            self.renewed = None;
        }
        self.observed = ObservedLease::Observed(record, now);
    }

    /// A write that was begun at `begun` succeeded; `record` is the new state.
    pub(super) fn acquired(&mut self, record: LeaseRecord, begun: Instant) {
        self.renewed = (record.holder == self.identity).then_some(begun);
        self.observed = ObservedLease::Observed(record, begun);
    }

    /// A write was refused because another replica wrote in between: read again, then go by what is seen from then on.
    pub(super) fn conflicted(&mut self) {
        self.observed = ObservedLease::Unknown;
    }

    /// Nothing was heard for as long as a leader may go on without: if this replica led, it does no longer.
    pub(super) fn expire(&mut self, now: Instant) {
        if self.renewed.is_some() && !self.leads(now) {
            self.renewed = None;
        }
    }

    fn lease_spec(&self, acquired: Timestamp, transitions: i32) -> LeaseSpec {
        LeaseSpec {
            holder: self.identity.clone(),
            duration: LEASE_DURATION,
            acquired,
            transitions,
        }
    }
}

/// Whether a Lease that was not seen to change since `since` may be taken at `now`.
fn is_expired(record: &LeaseRecord, since: Instant, now: Instant) -> bool {
    record.holder.is_empty() || now.saturating_duration_since(since) > record.duration
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provision::ports::Version;

    fn record(holder: &str, version: u32) -> LeaseRecord {
        LeaseRecord {
            version: Version {
                uid: "u".to_owned(),
                resource_version: version.to_string(),
            },
            holder: holder.to_owned(),
            duration: LEASE_DURATION,
            acquired: Timestamp::UNIX_EPOCH,
            transitions: 3,
            confirmed: None,
        }
    }

    fn clock() -> Timestamp {
        "2026-11-21T10:00:00Z".parse().unwrap()
    }

    fn is_take(step: &LeaseAction) -> bool {
        matches!(step, LeaseAction::Apply(..))
    }

    #[test]
    fn takes_lease_that_is_not_there() {
        let mut election = Election::new("a");
        let now = Instant::now();
        assert_eq!(election.decide(now, clock()), LeaseAction::Get);
        election.observe(None, now);
        let LeaseAction::Apply(lease_spec, Precondition::Absent) = election.decide(now, clock())
        else {
            panic!("not taken");
        };
        assert_eq!(
            (lease_spec.holder.as_str(), lease_spec.transitions),
            ("a", 0)
        );
        assert!(!election.leads(now));
        election.acquired(record("a", 1), now);
        assert!(election.leads(now));
    }

    #[test]
    fn leaves_lease_alone_as_long_as_it_is_renewed() {
        let mut election = Election::new("a");
        let mut now = Instant::now();
        for version in 1..20 {
            election.observe(Some(record("b", version)), now);
            assert_eq!(election.decide(now, clock()), LeaseAction::Wait);
            now += RENEW_DEADLINE;
            assert_eq!(election.decide(now, clock()), LeaseAction::Wait);
        }
    }

    #[test]
    fn takes_lease_that_was_not_seen_to_change_whatever_its_times_say() {
        let mut election = Election::new("a");
        let first = Instant::now();
        election.observe(Some(record("b", 1)), first);
        let later = first + LEASE_DURATION + Duration::from_millis(1);
        election.observe(Some(record("b", 1)), later);
        let LeaseAction::Apply(lease_spec, Precondition::Exactly(version)) =
            election.decide(later, clock())
        else {
            panic!("not taken");
        };
        assert_eq!((lease_spec.transitions, lease_spec.acquired), (4, clock()));
        assert_eq!(version.resource_version, "1");
    }

    #[test]
    fn takes_lease_that_was_given_back_at_once() {
        let mut election = Election::new("a");
        let now = Instant::now();
        election.observe(Some(record("", 1)), now);
        assert!(is_take(&election.decide(now, clock())));
    }

    #[test]
    fn stops_leading_before_others_may_begin() {
        let begun = Instant::now();
        let mut leader = Election::new("a");
        leader.acquired(record("a", 1), begun);
        let mut other = Election::new("b");
        other.observe(Some(record("a", 1)), begun);
        let mut now = begun;
        while leader.leads(now) {
            assert_eq!(
                other.decide(now, clock()),
                LeaseAction::Wait,
                "at {:?}",
                now - begun
            );
            now += Duration::from_millis(100);
        }
        leader.expire(now);
        assert!(leader.lease_until().is_none());
        assert_eq!(other.decide(now, clock()), LeaseAction::Wait);
    }

    #[test]
    fn stops_leading_when_somebody_else_took_the_lease() {
        let now = Instant::now();
        let mut leader = Election::new("a");
        leader.acquired(record("a", 1), now);
        leader.conflicted();
        assert!(leader.leads(now), "until it is known who has it");
        leader.observe(Some(record("b", 2)), now);
        assert!(!leader.leads(now));
        assert_eq!(leader.release(), None);
    }

    #[test]
    fn goes_on_leading_after_losing_a_race_against_nobody() {
        let now = Instant::now();
        let mut leader = Election::new("a");
        leader.acquired(record("a", 1), now);
        leader.conflicted();
        leader.observe(Some(record("a", 2)), now);
        assert!(leader.leads(now));
        assert!(is_take(&leader.decide(now, clock())));
    }

    #[test]
    fn gives_back_what_it_holds() {
        let now = Instant::now();
        let mut leader = Election::new("a");
        leader.acquired(record("a", 7), now);
        let (lease_spec, precondition) = leader.release().unwrap();
        assert_eq!(
            (lease_spec.holder.as_str(), lease_spec.duration),
            ("", Duration::from_secs(1))
        );
        assert_eq!(precondition, Precondition::Exactly(record("a", 7).version));
    }

    #[test]
    fn renews_what_an_earlier_answer_was_lost_of() {
        // The write succeeded, its answer did not come: the Lease says that we hold it.
        let now = Instant::now();
        let mut election = Election::new("a");
        election.observe(Some(record("a", 1)), now);
        assert!(
            !election.leads(now),
            "only an answered write says since when"
        );
        assert!(is_take(&election.decide(now, clock())));
    }
}
