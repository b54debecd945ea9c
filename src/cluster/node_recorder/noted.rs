//! What one replica noted of one Registry, and when it is to be written down. Pure but for the monotonic clock.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::Date;
use tokio::time::Instant;

use crate::names::ObjectName;
use crate::provision::login_outcomes::{LoginFailure, LoginOutcomes, LoginSource, Urgency};
use crate::provision::node_list::{MAX_NODES, NodeList};
use crate::provision::node_report::NodeReport;

/// How long others are waited for that ask for the first time.
pub(super) const GATHER: Duration = Duration::from_secs(5);

/// How long what is known to all but for its day waits to be written, for all of it at once.
pub(super) const REFRESH: Duration = Duration::from_hours(1);

/// How soon it is written that a login fails that did not, or is given that failed.
const ALERT: Duration = Duration::from_secs(1);

/// How long after a write the next one of that kind waits: replicas that see different things take turns slowly.
const PACE: Duration = Duration::from_secs(5);

/// How long nothing is noted of nodes for which there was no room.
const FULL: Duration = Duration::from_hours(1);

/// Of how many credentials the last outcome is known.
const MAX_OUTCOMES: usize = 1_000;

/// What was noted of one Registry.
#[derive(Default)]
pub(super) struct Noted {
    /// The Registry's `metadata.uid`.
    pub(super) uid: String,
    /// The nodes that are written down, as far as this replica knows.
    written: HashMap<ObjectName, Date>,
    /// Those that are to be.
    due: HashMap<ObjectName, Date>,
    /// Until when there is no room for others.
    full_until: Option<Instant>,
    /// The outcomes that are written down, as far as this replica knows.
    known: LoginOutcomes,
    /// The last outcomes here.
    outcomes: HashMap<LoginSource, Outcome>,
    /// When a fixed login was given last.
    served: Option<Timestamp>,
    /// By when each is to be written at the latest; `None`: nothing is due.
    nodes_due_at: Option<Instant>,
    outcomes_due_at: Option<Instant>,
    /// Outcomes are not written before.
    rests_until: Option<Instant>,
}

/// What came of the last request for one credential.
struct Outcome {
    at: Timestamp,
    /// Why there was no login; `None`: it was given.
    failure: Option<LoginFailure>,
    is_due: bool,
}

impl Noted {
    pub(super) fn new(uid: &str) -> Self {
        Self {
            uid: uid.to_owned(),
            ..Self::default()
        }
    }

    /// When something is to be written; `None`: nothing is.
    pub(super) fn due_at(&self) -> Option<Instant> {
        let both = [self.nodes_due_at, self.outcomes_due_at];
        both.into_iter().flatten().min()
    }

    /// It could not be written: it is left alone until then.
    pub(super) fn delay(&mut self, until: Instant) {
        let delay = |due_at: &mut Option<Instant>| {
            *due_at = due_at.map(|due_at| due_at.max(until));
        };
        delay(&mut self.nodes_due_at);
        delay(&mut self.outcomes_due_at);
    }

    /// Notes that a node asked; answers whether that is due sooner than anything before.
    pub(super) fn note_node(&mut self, node: &ObjectName, day: Date, now: Instant) -> bool {
        let known = self.written.get(node).copied();
        let is_full = self.full_until.is_some_and(|until| now < until);
        if known >= Some(day)
            || self.due.get(node) >= Some(&day)
            || self.due.len() >= MAX_NODES
            || (known.is_none() && is_full)
        {
            return false;
        }
        self.due.insert(node.clone(), day);
        let at = now + if known.is_some() { REFRESH } else { GATHER };
        advance(&mut self.nodes_due_at, at)
    }

    /// Notes that a login was given; answers whether that is due sooner than anything before.
    pub(super) fn note_served(
        &mut self,
        source: Option<&LoginSource>,
        at: Timestamp,
        now: Instant,
    ) -> bool {
        let urgency = self.known.lacks_served(source, at);
        let is_kept = if let Some(source) = source {
            self.put(source, at, None, urgency.is_some())
        } else {
            self.served = Some(at);
            true
        };
        self.note_urgency(urgency.filter(|_| is_kept), now)
    }

    /// Notes that there was none; answers whether that is due sooner than anything before.
    pub(super) fn note_failure(
        &mut self,
        source: &LoginSource,
        failure: LoginFailure,
        now: Instant,
    ) -> bool {
        let urgency = self.known.lacks_failure(source, &failure);
        let is_kept = self.put(source, failure.at, Some(failure), urgency.is_some());
        self.note_urgency(urgency.filter(|_| is_kept), now)
    }

    /// Keeps an outcome; answers whether there was room.
    fn put(
        &mut self,
        source: &LoginSource,
        at: Timestamp,
        failure: Option<LoginFailure>,
        is_due: bool,
    ) -> bool {
        let outcome = Outcome {
            at,
            failure,
            is_due,
        };
        if let Some(known) = self.outcomes.get_mut(source) {
            *known = outcome;
            return true;
        }
        if self.outcomes.len() >= MAX_OUTCOMES {
            self.outcomes.retain(|_, outcome| outcome.is_due);
        }
        let has_room = self.outcomes.len() < MAX_OUTCOMES;
        if has_room {
            self.outcomes.insert(source.clone(), outcome);
        }
        has_room
    }

    fn note_urgency(&mut self, urgency: Option<Urgency>, now: Instant) -> bool {
        let at = match urgency {
            None => return false,
            Some(Urgency::Later) => now + REFRESH,
            Some(Urgency::Now) => {
                let at = now + ALERT;
                self.rests_until.map_or(at, |rests| rests.max(at))
            }
        };
        advance(&mut self.outcomes_due_at, at)
    }

    /// Nothing of it is written down any more: kubelets did not ask for this Registry for a while.
    pub(super) fn forget_written(&mut self) {
        self.written.clear();
        self.known = LoginOutcomes::default();
        self.full_until = None;
    }

    /// What others wrote. Where they say that a login fails which was given here later, that is to be written.
    pub(super) fn learn(&mut self, known: &LoginOutcomes, now: Instant) {
        if self.known == *known {
            return;
        }
        self.known = known.clone();
        let mut is_over = false;
        for (source, _) in self.known.failures() {
            let outcome = self.outcomes.get_mut(source);
            let Some(served) = outcome.filter(|outcome| outcome.failure.is_none()) else {
                continue;
            };
            served.is_due = self.known.lacks_served(Some(source), served.at) == Some(Urgency::Now);
            is_over |= served.is_due;
        }
        self.note_urgency(is_over.then_some(Urgency::Now), now);
    }

    /// Adds what is due to a report that was read; answers whether it is to be written: something is new, or days waited for their time.
    pub(super) fn merge(&mut self, report: &mut NodeReport, now: Instant) -> bool {
        let before = report.clone();
        let is_due = self.merge_nodes(&mut report.nodes)
            | self.merge_outcomes(&before.outcomes, &mut report.outcomes);
        if !is_due {
            self.take_over(&before, now);
        }
        is_due
    }

    fn merge_nodes(&self, list: &mut NodeList) -> bool {
        let mut is_due = false;
        for (node, day) in &self.due {
            let is_new = list.last_day(node).is_none();
            let is_later = list.note(node, *day);
            // A day that this replica did not know of waits for its time, too: after a restart it knows of none.
            let has_waited = self.written.contains_key(node);
            is_due |= is_later && (is_new || has_waited);
        }
        is_due
    }

    fn merge_outcomes(&self, before: &LoginOutcomes, outcomes: &mut LoginOutcomes) -> bool {
        let mut is_due = false;
        for (source, outcome) in &self.outcomes {
            match &outcome.failure {
                None => outcomes.note_served(Some(source), outcome.at),
                Some(failure) if outcome.is_due => {
                    is_due |= before.lacks_failure(source, failure).is_some();
                    outcomes.note_failure(source, failure);
                }
                Some(_) => {}
            }
            let is_served = outcome.failure.is_none() && outcome.is_due;
            is_due |= is_served && before.lacks_served(Some(source), outcome.at).is_some();
        }
        if let Some(at) = self.served {
            is_due |= before.lacks_served(None, at).is_some();
            outcomes.note_served(None, at);
        }
        is_due
    }

    /// It was written.
    pub(super) fn take_written(&mut self, report: &NodeReport, now: Instant) {
        self.rests_until = Some(now + PACE);
        self.take_over(report, now);
    }

    /// What was read or written: of nodes that are in there already, only the day is due, which can wait.
    fn take_over(&mut self, report: &NodeReport, now: Instant) {
        self.take_over_nodes(&report.nodes, now);
        self.outcomes_due_at = None;
        self.known = report.outcomes.clone();
        let mut urgency = None;
        for (source, outcome) in &mut self.outcomes {
            let lacks = match &outcome.failure {
                None => self.known.lacks_served(Some(source), outcome.at),
                Some(failure) => self.known.lacks_failure(source, failure),
            };
            // A failure that was written, and that another replica found over, is not written again.
            let lacks = lacks.filter(|_| outcome.is_due);
            outcome.is_due = lacks.is_some();
            urgency = sooner(urgency, lacks);
        }
        let served = self.served.and_then(|at| self.known.lacks_served(None, at));
        self.note_urgency(sooner(urgency, served), now);
    }

    fn take_over_nodes(&mut self, list: &NodeList, now: Instant) {
        let nodes = self.due.keys().chain(self.written.keys());
        let known: HashMap<ObjectName, Date> = nodes
            .filter_map(|node| Some((node.clone(), list.last_day(node)?)))
            .collect();
        // What there is no room for is not asked about again and again.
        let is_full = list.is_full();
        self.full_until = is_full.then(|| now + FULL);
        self.due.retain(|node, day| match known.get(node) {
            Some(written) => written < day,
            None => !is_full,
        });
        // Noted while others were written.
        let is_new = self.due.keys().any(|node| !known.contains_key(node));
        let wait = if is_new { GATHER } else { REFRESH };
        self.nodes_due_at = (!self.due.is_empty()).then_some(now + wait);
        self.written = known;
    }
}

/// Whether `at` is sooner than what was due; then it is due.
fn advance(due_at: &mut Option<Instant>, at: Instant) -> bool {
    let is_sooner = due_at.is_none_or(|due_at| at < due_at);
    if is_sooner {
        *due_at = Some(at);
    }
    is_sooner
}

fn sooner(one: Option<Urgency>, other: Option<Urgency>) -> Option<Urgency> {
    one.into_iter().chain(other).min()
}

#[cfg(test)]
mod tests;
