//! Which Registries' logins are to be tried, and when. Pure.
//!
//! Once for each state of Registry and source Secret, also across restarts: what an earlier leader found is in the status. What nobody
//! could answer is tried again, more and more rarely; so is a login that was refused, as a registry may take it later.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use crate::clock::{Backoff, RetryTimer};
use crate::names::ObjectName;
use crate::provision::ports::LoginOutcome;
use crate::registry::RegistryInfo;
use crate::registry::crd::RegistryStatus;

/// When what nobody could answer is tried again: a network that cannot be reached is asked rarely.
const UNKNOWN: Backoff = Backoff {
    first: SignedDuration::from_mins(1),
    longest: SignedDuration::from_hours(1),
};

/// When a login that was refused is: too often, and the registry may lock its account.
const REFUSED: Backoff = Backoff {
    first: SignedDuration::from_mins(10),
    longest: SignedDuration::from_hours(1),
};

/// How many Registries' logins are tried at a time.
const MAX_CONCURRENT: usize = 4;

/// What decides whether a login is another one than that which was tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::controller) struct LoginVersion {
    /// The Registry's `metadata.uid` and `metadata.generation`.
    pub(in crate::controller) uid: String,
    pub(in crate::controller) generation: Option<i64>,
    /// The source Secret's `metadata.resourceVersion`.
    pub(in crate::controller) resource_version: String,
}

impl LoginVersion {
    /// That of this Registry and its source Secret's `resource_version`.
    pub(in crate::controller) fn of(listed: &RegistryInfo, resource_version: &str) -> Self {
        Self {
            uid: listed.uid.clone(),
            generation: listed.generation,
            resource_version: resource_version.to_owned(),
        }
    }

    /// Whether a status says what was found of exactly this version.
    pub(in crate::controller) fn is_remembered(&self, status: Option<&RegistryStatus>) -> bool {
        self.find_remembered(status).is_some()
    }

    /// What a status says of exactly this version; `None`: it was not tried, or that is not known.
    fn find_remembered(&self, status: Option<&RegistryStatus>) -> Option<Remembered> {
        let status = status?;
        let mut conditions = status.conditions.iter();
        let verified = conditions.find(|condition| condition.type_ == "Verified")?;
        let is_same = status.source_resource_version.as_ref() == Some(&self.resource_version)
            && verified.observed_generation == self.generation;
        is_same.then_some(match &*verified.status {
            "True" => Remembered::Taken,
            "False" => Remembered::Refused,
            _ => Remembered::Unknown,
        })
    }
}

/// What an earlier leader found.
enum Remembered {
    Taken,
    Refused,
    Unknown,
}

/// One Registry's login.
struct Entry {
    version: LoginVersion,
    /// When it is tried next; `None`: not again.
    due: Option<RetryTimer>,
    is_running: bool,
    failures: u32,
    /// Whether it was refused when it was tried last.
    is_refused: bool,
}

/// The logins that there are.
#[derive(Default)]
pub(super) struct LoginSchedule {
    entries: BTreeMap<ObjectName, Entry>,
    running: usize,
}

impl LoginSchedule {
    /// Takes the logins that there are now. `status` is what the cluster has of a Registry.
    pub(super) fn update(
        &mut self,
        now_there: BTreeMap<ObjectName, LoginVersion>,
        status: impl Fn(&ObjectName) -> Option<RegistryStatus>,
        now: Timestamp,
    ) {
        self.entries.retain(|name, _| now_there.contains_key(name));
        for (name, version) in now_there {
            let known = self.entries.get(&name);
            if known.is_some_and(|known| known.version == version) {
                continue;
            }
            let remembered = version.find_remembered(status(&name).as_ref());
            let is_refused = matches!(remembered, Some(Remembered::Refused));
            let due = match remembered {
                Some(Remembered::Taken) => None,
                Some(Remembered::Refused) => Some(REFUSED.timer(0, now)),
                Some(Remembered::Unknown) => Some(UNKNOWN.timer(0, now)),
                None => Some(RetryTimer::after(SignedDuration::ZERO, now)),
            };
            // What is being tried is of no use any more: it is tried again when that has ended.
            let is_running = known.is_some_and(|known| known.is_running);
            let entry = Entry {
                version,
                due,
                is_running,
                failures: 0,
                is_refused,
            };
            self.entries.insert(name, entry);
        }
    }

    /// Takes the next login to be tried, as long as not too many are.
    pub(super) fn pop_due(&mut self, now: Timestamp) -> Option<(ObjectName, LoginVersion)> {
        if self.running >= MAX_CONCURRENT {
            return None;
        }
        let is_due = |entry: &Entry| {
            let due = entry.due.filter(|_| !entry.is_running);
            due.is_some_and(|due| due.at(now) <= now)
        };
        let due = self.entries.iter_mut().filter(|(_, entry)| is_due(entry));
        // The one that has waited for the longest.
        let (name, entry) = due.min_by_key(|(_, entry)| entry.due.map(|due| due.at(now)))?;
        entry.is_running = true;
        self.running += 1;
        Some((name.clone(), entry.version.clone()))
    }

    /// A login was tried, or could not be; whether it is still the one that is there.
    pub(super) fn end(
        &mut self,
        name: &ObjectName,
        version: &LoginVersion,
        outcome: &LoginOutcome,
        now: Timestamp,
    ) -> bool {
        self.running = self.running.saturating_sub(1);
        // A Registry that went meanwhile has no entry, or that of another one of its name.
        let entry = self.entries.get_mut(name);
        let Some(entry) = entry.filter(|entry| entry.is_running) else {
            return false;
        };
        entry.is_running = false;
        if entry.version != *version {
            return false;
        }
        let backoff = match outcome {
            LoginOutcome::Taken => None,
            LoginOutcome::Refused { .. } => Some(REFUSED),
            LoginOutcome::Unknown { is_passing, .. } => is_passing.then_some(UNKNOWN),
        };
        entry.is_refused = matches!(outcome, LoginOutcome::Refused { .. });
        entry.due = backoff.map(|backoff| backoff.timer(entry.failures, now));
        entry.failures = backoff.map_or(0, |_| entry.failures.saturating_add(1));
        true
    }

    /// How many logins were refused when they were tried last.
    pub(super) fn count_refused(&self) -> usize {
        let entries = self.entries.values();
        entries.filter(|entry| entry.is_refused).count()
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

    use super::*;
    use crate::controller::at;

    const HOUR: i64 = 3600;

    fn version(generation: i64, resource_version: &str) -> LoginVersion {
        LoginVersion {
            uid: "u".to_owned(),
            generation: Some(generation),
            resource_version: resource_version.to_owned(),
        }
    }

    fn names(count: usize) -> impl Iterator<Item = ObjectName> {
        (0..count).map(|number| format!("r{number}").parse().unwrap())
    }

    fn status(verified: &str, generation: i64, resource_version: &str) -> RegistryStatus {
        RegistryStatus {
            conditions: vec![Condition {
                type_: "Verified".to_owned(),
                status: verified.to_owned(),
                reason: "Reason".to_owned(),
                message: String::new(),
                last_transition_time: Time(at(0)),
                observed_generation: Some(generation),
            }],
            source_resource_version: Some(resource_version.to_owned()),
            ..RegistryStatus::default()
        }
    }

    fn unknown(is_passing: bool) -> LoginOutcome {
        LoginOutcome::Unknown {
            reason: "Network",
            message: String::new(),
            is_passing,
        }
    }

    fn refused() -> LoginOutcome {
        let message = String::new();
        LoginOutcome::Refused { message }
    }

    /// Tries the login of one Registry at this time, if it is due.
    fn try_at(schedule: &mut LoginSchedule, seconds: i64, outcome: &LoginOutcome) -> bool {
        let Some((name, version)) = schedule.pop_due(at(seconds)) else {
            return false;
        };
        assert!(schedule.end(&name, &version, outcome, at(seconds)));
        true
    }

    fn with(version: &LoginVersion, status: Option<&RegistryStatus>) -> LoginSchedule {
        let mut schedule = LoginSchedule::default();
        let there = names(1).map(|name| (name, version.clone())).collect();
        schedule.update(there, |_| status.cloned(), at(0));
        schedule
    }

    #[test]
    fn tries_each_state_of_a_login_once() {
        let mut schedule = with(&version(1, "7"), None);
        assert!(try_at(&mut schedule, 0, &LoginOutcome::Taken));
        assert!(!try_at(&mut schedule, 100 * HOUR, &LoginOutcome::Taken));
        for changed in [version(1, "8"), version(2, "8")] {
            for is_new in [true, false] {
                let there = names(1).map(|name| (name, changed.clone())).collect();
                schedule.update(there, |_| None, at(100));
                assert_eq!(try_at(&mut schedule, 100, &LoginOutcome::Taken), is_new);
            }
        }
        schedule.update(BTreeMap::new(), |_| None, at(200));
        assert!(schedule.entries.is_empty());
    }

    #[test]
    fn tries_again_what_may_be_another_answer_later() {
        let rows = [
            (
                unknown(true),
                vec![60, 120, 240, 480, 960, 1920, HOUR, HOUR],
            ),
            (refused(), vec![600, 1200, 2400, HOUR, HOUR]),
            (unknown(false), vec![]),
        ];
        for (outcome, waits) in rows {
            let mut schedule = with(&version(1, "7"), None);
            let mut now = 0;
            assert!(try_at(&mut schedule, now, &outcome));
            for wait in waits.iter().copied() {
                assert!(!try_at(&mut schedule, now + wait - 1, &outcome));
                now += wait;
                assert!(try_at(&mut schedule, now, &outcome), "{outcome:?} {wait}");
            }
            let again = try_at(&mut schedule, now + 100 * HOUR, &outcome);
            assert_eq!(again, !waits.is_empty());
        }
    }

    #[test]
    fn takes_over_what_an_earlier_leader_found() {
        for (verified, first) in [("True", None), ("False", Some(600)), ("Unknown", Some(60))] {
            let status = status(verified, 1, "7");
            let mut schedule = with(&version(1, "7"), Some(&status));
            let before = first.map_or(100 * HOUR, |first| first - 1);
            assert!(!try_at(&mut schedule, before, &refused()), "{verified}");
            assert_eq!(
                try_at(&mut schedule, 100 * HOUR, &refused()),
                first.is_some()
            );
            for other in [version(2, "7"), version(1, "8")] {
                let mut schedule = with(&other, Some(&status));
                assert!(try_at(&mut schedule, 0, &refused()), "another one");
            }
        }
    }

    #[test]
    fn tries_few_at_a_time_and_what_changed_meanwhile_again() {
        let mut schedule = LoginSchedule::default();
        let there = |resource_version: &str| {
            let version = version(1, resource_version);
            names(10).map(|name| (name, version.clone())).collect()
        };
        schedule.update(there("7"), |_| None, at(0));
        let begun: Vec<_> = std::iter::from_fn(|| schedule.pop_due(at(0))).collect();
        assert_eq!(begun.len(), MAX_CONCURRENT);
        schedule.update(there("8"), |_| None, at(0));
        for (name, version) in &begun {
            assert!(!schedule.end(name, version, &LoginOutcome::Taken, at(0)));
        }
        let mut tried = 0;
        while try_at(&mut schedule, 0, &LoginOutcome::Taken) {
            tried += 1;
        }
        assert_eq!((tried, schedule.running), (10, 0));
    }
}
