//! Which logins are to be tried, and when. Pure.
//!
//! What is tried is a login on a host, once for all Registries that have it: many tries of one that is refused would lock its account. It
//! is tried when it is another one, also across restarts: what an earlier leader found is in the status. What nobody could answer is
//! tried again, more and more rarely; so is a login that was refused, as a registry may take it later.

mod entry;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;

use crate::names::ObjectName;
use crate::provision::ports::{LoginId, LoginOutcome, LoginTries, LoginTry, summarise};
use crate::registry::RegistryInfo;
use crate::registry::crd::RegistryStatus;
use entry::{LoginEntry, Remembered};

/// How many logins are tried at a time.
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

/// One Registry.
struct RegistryEntry {
    version: LoginVersion,
    /// What is tried for it, and the repositories that it has each for.
    tries: Vec<(LoginId, BTreeSet<String>)>,
    /// Why more is not.
    untried: Option<LoginOutcome>,
    /// Whether an earlier leader found that it is refused.
    was_refused: bool,
}

impl RegistryEntry {
    /// The repositories that it has a login for; `None`: it does not have it.
    fn paths_of(&self, login: LoginId) -> Option<&BTreeSet<String>> {
        let mut tries = self.tries.iter();
        let (_, paths) = tries.find(|(id, _)| *id == login)?;
        Some(paths)
    }
}

/// What is known anew of this version of a Registry's logins.
pub(super) type LoginFinding = (ObjectName, LoginVersion, LoginOutcome);

/// The logins that there are.
#[derive(Default)]
pub(super) struct LoginSchedule {
    registries: BTreeMap<ObjectName, RegistryEntry>,
    logins: BTreeMap<LoginId, LoginEntry>,
    running: usize,
}

impl LoginSchedule {
    /// Takes the Registries with fixed logins that there are now. `tries` is asked what is tried for one that is another than before;
    /// `status` is what the cluster has of it. Answers what is known of those already, by what was tried for others.
    pub(super) fn update(
        &mut self,
        now_there: BTreeMap<ObjectName, LoginVersion>,
        tries: impl Fn(&ObjectName) -> LoginTries,
        status: impl Fn(&ObjectName) -> Option<RegistryStatus>,
        now: Timestamp,
    ) -> Vec<LoginFinding> {
        self.registries
            .retain(|name, _| now_there.contains_key(name));
        let mut changed = Vec::new();
        for (name, version) in now_there {
            let known = self.registries.get(&name);
            if known.is_some_and(|known| known.version == version) {
                continue;
            }
            let of_attempt = |attempt: &LoginTry| (attempt.id, attempt.paths.clone());
            let remembered = version.find_remembered(status(&name).as_ref());
            let LoginTries { tries, untried } = tries(&name);
            let entry = RegistryEntry {
                version,
                tries: tries.iter().map(of_attempt).collect(),
                untried,
                was_refused: remembered == Some(Remembered::Refused),
            };
            for attempt in tries {
                let paths = attempt.paths.clone();
                let known = self.logins.entry(attempt.id);
                let known = known.or_insert_with(|| LoginEntry::new(attempt, remembered));
                known.want(&paths, remembered, now);
            }
            self.registries.insert(name.clone(), entry);
            changed.push((name, remembered));
        }
        let in_use: BTreeSet<LoginId> = self
            .registries
            .values()
            .flat_map(|entry| entry.tries.iter().map(|(id, _)| *id))
            .collect();
        // One that is being tried may be wanted again before that has ended.
        self.logins
            .retain(|id, login| in_use.contains(id) || login.is_running());
        let findings = changed.into_iter().filter_map(|(name, remembered)| {
            let found = self.find(&name)?;
            // Its status says so already.
            let is_known = remembered == Some(Remembered::Taken) && found.2 == LoginOutcome::Taken;
            (!is_known).then_some(found)
        });
        findings.collect()
    }

    /// Takes the next login to be tried, as long as not too many are.
    pub(super) fn pop_due(&mut self, now: Timestamp) -> Option<Arc<LoginTry>> {
        if self.running >= MAX_CONCURRENT {
            return None;
        }
        let logins = self.logins.iter_mut();
        let due = logins.filter_map(|(id, login)| Some((login.find_due(now)?, *id, login)));
        // The one that has waited for the longest.
        let (_, id, login) = due.min_by_key(|(due, ..)| *due)?;
        self.running += 1;
        let users = self.registries.values();
        let wanted: Vec<_> = users.filter_map(|entry| entry.paths_of(id)).collect();
        Some(login.begin(&wanted))
    }

    /// A login was tried. Answers what that shows of each Registry that has it.
    pub(super) fn end(
        &mut self,
        id: LoginId,
        outcome: LoginOutcome,
        now: Timestamp,
    ) -> Vec<LoginFinding> {
        self.running = self.running.saturating_sub(1);
        let users = self.registries.iter();
        let users = users.filter_map(|(name, entry)| Some((name, entry.paths_of(id)?)));
        let (users, wanted): (Vec<_>, Vec<_>) = users.unzip();
        if users.is_empty() {
            self.logins.remove(&id);
            return Vec::new();
        }
        let login = self.logins.get_mut(&id);
        if !login.is_some_and(|login| login.end(outcome, &wanted, now)) {
            return Vec::new();
        }
        let findings = users.into_iter().filter_map(|name| self.find(name));
        findings.collect()
    }

    /// What is known of a Registry's logins; `None`: not all were tried, and none is refused.
    fn find(&self, name: &ObjectName) -> Option<LoginFinding> {
        let entry = self.registries.get(name)?;
        let outcome = self.find_outcome(entry)?;
        Some((name.clone(), entry.version.clone(), outcome))
    }

    fn find_outcome(&self, entry: &RegistryEntry) -> Option<LoginOutcome> {
        let tries = entry.tries.iter();
        let known = tries.filter_map(|(id, paths)| self.logins.get(id)?.find_outcome(paths));
        let known: Vec<_> = known.collect();
        let is_complete = known.len() == entry.tries.len();
        let outcome = summarise(known.iter().chain(&entry.untried));
        (is_complete || is_refusal(&outcome)).then_some(outcome)
    }

    /// How many Registries' logins were refused when they were tried last.
    pub(super) fn count_refused(&self) -> usize {
        let is_refused = |entry: &&RegistryEntry| {
            let outcome = self.find_outcome(entry);
            outcome.map_or(entry.was_refused, |outcome| is_refusal(&outcome))
        };
        self.registries.values().filter(is_refused).count()
    }
}

fn is_refusal(outcome: &LoginOutcome) -> bool {
    matches!(outcome, LoginOutcome::Refused { .. })
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

    use std::time::Duration;

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

    fn unknown(is_passing: bool, retry_after: Option<u64>) -> LoginOutcome {
        LoginOutcome::Unknown {
            reason: "Network",
            message: String::new(),
            is_passing,
            retry_after: retry_after.map(Duration::from_secs),
        }
    }

    fn refused() -> LoginOutcome {
        let message = String::new();
        LoginOutcome::Refused { message }
    }

    /// A login on a host.
    fn attempt(host: &str, password: &str) -> LoginTry {
        let (username, password) = ("robot".to_owned(), password.into());
        LoginTry {
            id: LoginId::of(host, &username, &password),
            host: host.to_owned(),
            username,
            password,
            paths: BTreeSet::new(),
        }
    }

    fn tries(attempts: &[LoginTry]) -> LoginTries {
        LoginTries {
            tries: attempts.to_vec(),
            untried: None,
        }
    }

    /// There are so many Registries of this version, each with these logins.
    fn update(
        schedule: &mut LoginSchedule,
        count: usize,
        version: &LoginVersion,
        attempts: &[LoginTry],
        seconds: i64,
    ) -> Vec<LoginFinding> {
        let there = names(count).map(|name| (name, version.clone())).collect();
        schedule.update(there, |_| tries(attempts), |_| None, at(seconds))
    }

    /// Tries a login at this time, if one is due; of how many Registries that says something.
    fn try_at(schedule: &mut LoginSchedule, seconds: i64, outcome: &LoginOutcome) -> Option<usize> {
        let attempt = schedule.pop_due(at(seconds))?;
        let findings = schedule.end(attempt.id, outcome.clone(), at(seconds));
        Some(findings.len())
    }

    fn with(version: &LoginVersion, status: Option<&RegistryStatus>) -> LoginSchedule {
        let mut schedule = LoginSchedule::default();
        let there = names(1).map(|name| (name, version.clone())).collect();
        let one = |_: &ObjectName| tries(&[attempt("a.example", "pw")]);
        schedule.update(there, one, |_| status.cloned(), at(0));
        schedule
    }

    #[test]
    fn tries_each_login_once_however_many_registries_have_it() {
        let mut schedule = LoginSchedule::default();
        let first = [attempt("a.example", "pw")];
        update(&mut schedule, 100, &version(1, "7"), &first, 0);
        assert_eq!(try_at(&mut schedule, 0, &refused()), Some(100));
        assert_eq!(try_at(&mut schedule, 599, &refused()), None);
        assert_eq!(schedule.count_refused(), 100);
        // Registries that come later, and another state of the Secret with the same login, are told what is known.
        let told = update(&mut schedule, 150, &version(1, "7"), &first, 100);
        assert_eq!(told.len(), 50);
        let told = update(&mut schedule, 150, &version(2, "8"), &first, 100);
        let is_refused =
            |(_, of, outcome): &LoginFinding| *of == version(2, "8") && is_refusal(outcome);
        assert!(told.len() == 150 && told.iter().all(is_refused));
        assert_eq!(try_at(&mut schedule, 599, &refused()), None);
        assert_eq!(try_at(&mut schedule, 600, &refused()), Some(150));
        // The wait grows by the tries of the login, not of each Registry.
        assert_eq!(try_at(&mut schedule, 600 + 1199, &refused()), None);
        // Another password, another user's host.
        for other in [attempt("a.example", "other"), attempt("b.example", "other")] {
            let told = update(&mut schedule, 150, &version(3, &other.host), &[other], 700);
            assert!(told.is_empty());
            let tried = try_at(&mut schedule, 700, &LoginOutcome::Taken);
            assert_eq!(tried, Some(150));
        }
        assert_eq!(try_at(&mut schedule, 100 * HOUR, &refused()), None);
        assert_eq!((schedule.logins.len(), schedule.count_refused()), (1, 0));
        update(&mut schedule, 0, &version(1, "7"), &[], 200);
        assert!(schedule.registries.is_empty() && schedule.logins.is_empty());
    }

    #[test]
    fn says_of_several_logins_what_all_show_and_a_refusal_at_once() {
        let both = [attempt("a.example", "pw"), attempt("b.example", "pw")];
        for (outcome, after_first) in [(LoginOutcome::Taken, 0), (refused(), 1)] {
            let mut schedule = LoginSchedule::default();
            update(&mut schedule, 1, &version(1, "7"), &both, 0);
            assert_eq!(try_at(&mut schedule, 0, &outcome), Some(after_first));
            assert_eq!(try_at(&mut schedule, 0, &LoginOutcome::Taken), Some(1));
            let known = schedule.find(&"r0".parse().unwrap());
            assert_eq!(known.unwrap().2, outcome);
        }
    }

    /// The same login, for these repositories.
    fn at_paths(paths: &[&str]) -> LoginTry {
        LoginTry {
            paths: paths.iter().map(|path| (*path).to_owned()).collect(),
            ..attempt("a.example", "pw")
        }
    }

    fn unsent(message: &str) -> LoginOutcome {
        LoginOutcome::Unknown {
            reason: "NoLoginAsked",
            message: message.to_owned(),
            is_passing: true,
            retry_after: None,
        }
    }

    /// A registry with an open endpoint `/v2/` is asked at what Registries name: another repository is tried at once.
    #[test]
    fn tries_a_login_that_was_not_sent_at_repositories_that_come() {
        let mut schedule = LoginSchedule::default();
        update(&mut schedule, 1, &version(1, "7"), &[at_paths(&["x"])], 0);
        assert_eq!(try_at(&mut schedule, 0, &unsent("")), Some(1));
        update(&mut schedule, 2, &version(1, "7"), &[at_paths(&["x"])], 0);
        assert!(schedule.pop_due(at(0)).is_none());
        let both = at_paths(&["x", "y"]);
        let told = update(&mut schedule, 2, &version(2, "7"), &[both], 0);
        assert!(told.is_empty(), "it is to be tried anew: {told:?}");
        let attempt = schedule.pop_due(at(0)).unwrap();
        assert_eq!(attempt.paths.len(), 2);
        assert_eq!(schedule.end(attempt.id, refused(), at(0)).len(), 2);
        update(&mut schedule, 3, &version(2, "7"), &[at_paths(&["z"])], 0);
        assert!(schedule.pop_due(at(599)).is_none(), "it was refused");
    }

    #[test]
    fn tries_a_login_again_at_once_at_a_repository_that_came_while_it_was_tried() {
        let mut schedule = LoginSchedule::default();
        update(&mut schedule, 1, &version(1, "7"), &[at_paths(&["x"])], 0);
        let attempt = schedule.pop_due(at(0)).unwrap();
        let wider = at_paths(&["x", "y"]);
        update(&mut schedule, 1, &version(2, "7"), &[wider], 0);
        assert!(schedule.pop_due(at(0)).is_none(), "it is being tried");
        let told = schedule.end(attempt.id, unsent(""), at(0));
        assert!(told.is_empty(), "{told:?}");
        let attempt = schedule.pop_due(at(0)).unwrap();
        assert!(attempt.paths.contains("y"));
        assert_eq!(schedule.end(attempt.id, unsent(""), at(0)).len(), 1);
        assert!(schedule.pop_due(at(59)).is_none());
    }

    /// As many repositories as are asked at once come before one Registry's in the alphabet: its own is asked all the same.
    #[test]
    fn asks_at_a_repository_of_each_registry_before_it_says_that_none_asks_for_a_login() {
        let mut schedule = LoginSchedule::default();
        let update = |schedule: &mut LoginSchedule, paths: &[&[&str]], generation| {
            let there = names(paths.len()).map(|name| (name, version(generation, "7")));
            let of = |name: &ObjectName| {
                let place: usize = name.as_str()[1..].parse().unwrap();
                tries(&[at_paths(paths[place])])
            };
            schedule.update(there.collect(), of, |_| None, at(0))
        };
        update(
            &mut schedule,
            &[&["a", "b", "c"], &["d"], &["e"], &["f"]],
            1,
        );
        let first = schedule.pop_due(at(0)).unwrap();
        assert_eq!(first.paths, ["a", "d", "e"].map(str::to_owned).into());
        let told = schedule.end(first.id, unsent("at a, d, e"), at(0));
        let told: Vec<_> = told.iter().map(|(name, ..)| name.as_str()).collect();
        assert_eq!(told, ["r0", "r1", "r2"], "nobody asked what r3 names");
        let second = schedule.pop_due(at(0)).unwrap();
        assert!(second.paths.contains("f"), "{:?}", second.paths);
        // Each is told of its own repositories.
        for (name, .., outcome) in schedule.end(second.id, unsent("at b, c, f"), at(0)) {
            let message = match name.as_str() {
                "r3" => "at b, c, f",
                _ => "at a, d, e",
            };
            if name.as_str() != "r0" {
                assert_eq!(outcome, unsent(message), "{name:?}");
            }
        }
        assert!(schedule.pop_due(at(59)).is_none());
        // Registries that go take theirs with them.
        update(&mut schedule, &[&["a"]], 1);
        let attempt = schedule.pop_due(at(60)).unwrap();
        assert!(!attempt.paths.contains("d"), "{:?}", attempt.paths);
        assert_eq!(schedule.end(attempt.id, refused(), at(60)).len(), 1);
    }

    #[test]
    fn tries_again_what_may_be_another_answer_later() {
        let rows = [
            (
                unknown(true, None),
                vec![60, 120, 240, 480, 960, 1920, HOUR, HOUR],
            ),
            // To the second, and no faster for ever.
            (unknown(true, Some(7)), vec![7, 7, 7, 8, 16, 32]),
            (unknown(true, Some(0)), vec![1, 2, 4, 8]),
            (unknown(true, Some(599)), vec![599, 599]),
            (refused(), vec![600, 1200, 2400, HOUR, HOUR]),
            (unknown(false, None), vec![]),
        ];
        for (outcome, waits) in rows {
            let mut schedule = with(&version(1, "7"), None);
            let mut now = 0;
            assert_eq!(try_at(&mut schedule, now, &outcome), Some(1));
            for wait in waits.iter().copied() {
                assert_eq!(try_at(&mut schedule, now + wait - 1, &outcome), None);
                now += wait;
                let again = try_at(&mut schedule, now, &outcome);
                assert_eq!(again, Some(1), "{outcome:?} {wait}");
            }
            let again = try_at(&mut schedule, now + 100 * HOUR, &outcome);
            assert_eq!(again.is_some(), !waits.is_empty());
        }
    }

    #[test]
    fn takes_over_what_an_earlier_leader_found() {
        for (verified, first) in [("True", None), ("False", Some(600)), ("Unknown", Some(60))] {
            let status = status(verified, 1, "7");
            let mut schedule = with(&version(1, "7"), Some(&status));
            assert_eq!(schedule.count_refused(), usize::from(verified == "False"));
            let before = first.map_or(100 * HOUR, |first| first - 1);
            assert_eq!(
                try_at(&mut schedule, before, &refused()),
                None,
                "{verified}"
            );
            assert_eq!(
                try_at(&mut schedule, 100 * HOUR, &refused()).is_some(),
                first.is_some()
            );
            for other in [version(2, "7"), version(1, "8")] {
                let mut schedule = with(&other, Some(&status));
                assert_eq!(try_at(&mut schedule, 0, &refused()), Some(1), "another one");
            }
        }
    }

    /// There are these Registries, each with what an earlier leader found of it and its logins.
    fn lead(registries: &[(Option<&str>, Vec<LoginTry>)]) -> LoginSchedule {
        let mut schedule = LoginSchedule::default();
        let there = names(registries.len()).map(|name| (name, version(1, "7")));
        let of = |name: &ObjectName| {
            let place: usize = name.as_str()[1..].parse().unwrap();
            &registries[place]
        };
        let status = |name: &ObjectName| of(name).0.map(|verified| status(verified, 1, "7"));
        let told = schedule.update(there.collect(), |name| tries(&of(name).1), status, at(0));
        assert!(told.is_empty(), "its status says so already: {told:?}");
        schedule
    }

    /// What was taken of one host counts when the other's is taken again.
    #[test]
    fn says_of_several_logins_that_all_are_taken_after_another_leader() {
        let (one, other) = (attempt("a.example", "pw"), attempt("b.example", "pw"));
        let mut schedule = lead(&[
            (None, vec![one.clone()]),
            (Some("True"), vec![one.clone(), other]),
        ]);
        assert_eq!(try_at(&mut schedule, 0, &refused()), Some(2));
        assert_eq!(schedule.count_refused(), 2);
        let attempt = schedule.pop_due(at(600)).unwrap();
        let told = schedule.end(attempt.id, LoginOutcome::Taken, at(600));
        let taken = told.iter().filter(|(.., of)| *of == LoginOutcome::Taken);
        assert_eq!(taken.count(), 2, "{told:?}");
        assert!(schedule.pop_due(at(100 * HOUR)).is_none());
    }

    #[test]
    fn leaves_a_login_alone_that_an_earlier_leader_found_refused_of_any_registry() {
        let login = || vec![attempt("a.example", "pw")];
        for others in [None, Some("True"), Some("Unknown")] {
            for registries in [
                [(others, login()), (Some("False"), login())],
                [(Some("False"), login()), (others, login())],
            ] {
                let mut schedule = lead(&registries);
                assert!(schedule.pop_due(at(599)).is_none(), "{others:?}");
                let told = try_at(&mut schedule, 600, &LoginOutcome::Taken);
                assert_eq!(told, Some(2), "{others:?}");
            }
        }
    }

    #[test]
    fn begins_to_wait_anew_where_it_ends_another_way() {
        let mut schedule = with(&version(1, "7"), None);
        let mut now = 0;
        for (outcome, wait) in [
            (unknown(true, None), 60),
            (unknown(true, None), 120),
            (refused(), 600),
            (refused(), 1200),
            (unknown(true, None), 60),
            // As long as it asks to be left alone.
            (unknown(true, Some(3600)), 3600),
            (unknown(true, None), 240),
        ] {
            assert_eq!(try_at(&mut schedule, now, &outcome), Some(1), "{outcome:?}");
            now += wait;
            assert!(schedule.pop_due(at(now - 1)).is_none(), "{outcome:?}");
        }
    }

    #[test]
    fn tries_few_at_a_time_and_what_changed_meanwhile_again() {
        let mut schedule = LoginSchedule::default();
        let hosts = |password: &str| -> Vec<LoginTry> {
            let host = |number| attempt(&format!("h{number}.example"), password);
            (0..10).map(host).collect()
        };
        update(&mut schedule, 1, &version(1, "7"), &hosts("pw"), 0);
        let begun: Vec<_> = std::iter::from_fn(|| schedule.pop_due(at(0))).collect();
        assert_eq!(begun.len(), MAX_CONCURRENT);
        update(&mut schedule, 1, &version(1, "8"), &hosts("other"), 0);
        for attempt in begun {
            let findings = schedule.end(attempt.id, LoginOutcome::Taken, at(0));
            assert!(findings.is_empty());
        }
        let mut tried = 0;
        while try_at(&mut schedule, 0, &LoginOutcome::Taken).is_some() {
            tried += 1;
        }
        assert_eq!((tried, schedule.running), (10, 0));
        assert_eq!(schedule.logins.len(), 10);
    }
}
