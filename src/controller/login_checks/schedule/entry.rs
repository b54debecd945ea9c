//! One login on one host: when it is tried, at which repositories, and what that showed. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::mem::discriminant;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use crate::clock::{Backoff, RetryTimer};
use crate::provision::ports::{LoginOutcome, LoginTry, MAX_PATHS, summarise};

/// When what nobody could answer is tried again: a network that cannot be reached is asked rarely.
const UNKNOWN: Backoff = Backoff {
    first: SignedDuration::from_mins(1),
    longest: SignedDuration::from_hours(1),
};

/// When it is at the earliest where the registry says for how long it is to be left alone.
const RETRY_AFTER: Backoff = Backoff {
    first: SignedDuration::from_secs(1),
    longest: SignedDuration::from_hours(1),
};

/// When a login that was refused is: too often, and the registry may lock its account.
const REFUSED: Backoff = Backoff {
    first: SignedDuration::from_mins(10),
    longest: SignedDuration::from_hours(1),
};

/// What an earlier leader found of a Registry's logins.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Remembered {
    Taken,
    Refused,
    Unknown,
}

/// What is known of a login from before this replica leads.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Past {
    /// No Registry's status says that it is refused.
    NotRefused,
    /// One says that it is.
    Refused,
    /// It does not count any more: this replica tried the login.
    Over,
}

/// One login on one host, whichever Registries have it.
pub(super) struct LoginEntry {
    /// The login, with the repositories of the try that began last.
    attempt: Arc<LoginTry>,
    /// When it is tried next; `None`: not again.
    due: Option<RetryTimer>,
    is_running: bool,
    /// Whether a Registry came while it ran with a repository that is not asked.
    has_new_paths: bool,
    /// How many tries in a row ended so.
    failures: u32,
    past: Past,
    /// What the last try showed, or an earlier leader found; `None`: that is to be found out.
    outcome: Option<LoginOutcome>,
    /// What was found at each repository that was asked, as long as none asks for a login.
    unsent: BTreeMap<String, LoginOutcome>,
}

impl LoginEntry {
    /// One that nobody had before; an earlier leader found this of the Registry that has it.
    pub(super) fn new(attempt: LoginTry, remembered: Option<Remembered>) -> Self {
        let is_taken = remembered == Some(Remembered::Taken);
        Self {
            attempt: Arc::new(attempt),
            due: None,
            is_running: false,
            has_new_paths: false,
            failures: 0,
            past: Past::NotRefused,
            outcome: is_taken.then_some(LoginOutcome::Taken),
            unsent: BTreeMap::new(),
        }
    }

    /// A Registry has it for these repositories, of which an earlier leader found this.
    pub(super) fn want(
        &mut self,
        paths: &BTreeSet<String>,
        remembered: Option<Remembered>,
        now: Timestamp,
    ) {
        let is_asked = |path: &String| self.unsent.contains_key(path);
        let has_new_paths = !paths.iter().all(is_asked);
        self.has_new_paths |=
            self.is_running && has_new_paths && !paths.is_subset(&self.attempt.paths);
        if remembered == Some(Remembered::Refused) && self.past != Past::Over {
            // What one Registry's status says last outweighs that another's says the login was taken.
            self.past = Past::Refused;
            self.outcome = None;
            self.due = Some(REFUSED.timer(0, now));
            return;
        }
        // One that is refused is left alone until it is due, however many Registries come: its account may be locked.
        let is_tried_anew = match &self.outcome {
            None => self.past != Past::Refused,
            Some(LoginOutcome::Unknown { is_passing, .. }) if !is_passing => true,
            Some(outcome) => has_new_paths && outcome.is_unsent(),
        };
        if !is_tried_anew {
            return;
        }
        if self.outcome.as_ref().is_some_and(LoginOutcome::is_unsent) {
            self.outcome = None;
        }
        let due = match remembered {
            Some(Remembered::Taken) => None,
            Some(Remembered::Refused) => Some(REFUSED.timer(0, now)),
            Some(Remembered::Unknown) => Some(UNKNOWN.timer(0, now)),
            None => Some(RetryTimer::after(SignedDuration::ZERO, now)),
        };
        let both = [self.due, due].into_iter().flatten();
        self.due = both.min_by_key(|due| due.at(now));
    }

    /// Since when it is due; `None`: it is not.
    pub(super) fn find_due(&self, now: Timestamp) -> Option<Timestamp> {
        let due = self.due.filter(|_| !self.is_running)?.at(now);
        (due <= now).then_some(due)
    }

    /// Whether it is being tried.
    pub(super) fn is_running(&self) -> bool {
        self.is_running
    }

    /// A try begins. `wanted` is what each Registry that has it has it for.
    pub(super) fn begin(&mut self, wanted: &[&BTreeSet<String>]) -> Arc<LoginTry> {
        self.is_running = true;
        self.has_new_paths = false;
        let paths = self.plan_paths(wanted);
        Arc::make_mut(&mut self.attempt).paths = paths;
        Arc::clone(&self.attempt)
    }

    /// The few repositories that are asked now: those that were not, and one of each Registry before a second one of any.
    fn plan_paths(&mut self, wanted: &[&BTreeSet<String>]) -> BTreeSet<String> {
        let all: BTreeSet<&String> = wanted.iter().copied().flatten().collect();
        self.unsent.retain(|path, _| all.contains(path));
        if self.unsent.len() == all.len() {
            self.unsent.clear();
        }
        let mut ranked = Vec::new();
        for paths in wanted {
            let is_answered = self.is_answered(paths);
            for (place, path) in paths.iter().enumerate() {
                ranked.push((self.unsent.contains_key(path), is_answered, place, path));
            }
        }
        ranked.sort_by_key(|(is_asked, is_answered, place, _)| (*is_asked, *is_answered, *place));
        let mut paths = BTreeSet::new();
        for (.., path) in ranked {
            if paths.len() < MAX_PATHS {
                paths.insert(path.clone());
            }
        }
        paths
    }

    /// Whether something was found at one of a Registry's repositories, or it names none.
    fn is_answered(&self, paths: &BTreeSet<String>) -> bool {
        paths.is_empty() || paths.iter().any(|path| self.unsent.contains_key(path))
    }

    /// A try ended so. Answers whether that says something of the Registries that have it.
    pub(super) fn end(
        &mut self,
        outcome: LoginOutcome,
        wanted: &[&BTreeSet<String>],
        now: Timestamp,
    ) -> bool {
        self.is_running = false;
        self.past = Past::Over;
        if !outcome.is_unsent() {
            self.unsent.clear();
            self.keep(outcome, now);
            return true;
        }
        for path in &self.attempt.paths {
            self.unsent.insert(path.clone(), outcome.clone());
        }
        let at_once = Some(RetryTimer::after(SignedDuration::ZERO, now));
        if self.has_new_paths {
            self.outcome = None;
            self.due = at_once;
            return false;
        }
        let found = self.unsent.values();
        let outcome = if self.unsent.is_empty() {
            outcome
        } else {
            summarise(found)
        };
        if wanted.iter().all(|paths| self.is_answered(paths)) {
            self.keep(outcome, now);
        } else {
            self.outcome = Some(outcome);
            self.due = at_once;
        }
        true
    }

    fn keep(&mut self, outcome: LoginOutcome, now: Timestamp) {
        let before = self.outcome.as_ref();
        if before.is_none_or(|before| discriminant(before) != discriminant(&outcome)) {
            self.failures = 0;
        }
        let wait = find_wait(&outcome, self.failures);
        self.due = wait.map(|wait| RetryTimer::after(wait, now));
        self.failures = wait.map_or(0, |_| self.failures.saturating_add(1));
        self.outcome = Some(outcome);
    }

    /// What is known of it for a Registry that has it for these repositories: that no login was asked for at another one's says nothing.
    pub(super) fn find_outcome(&self, paths: &BTreeSet<String>) -> Option<LoginOutcome> {
        let outcome = self.outcome.as_ref()?;
        if !outcome.is_unsent() || paths.is_empty() {
            return Some(outcome.clone());
        }
        let found = paths.iter().filter_map(|path| self.unsent.get(path));
        self.is_answered(paths).then(|| summarise(found))
    }
}

/// After how long a login is tried again that ended so as often in a row before; `None`: not again.
fn find_wait(outcome: &LoginOutcome, failures: u32) -> Option<SignedDuration> {
    match outcome {
        LoginOutcome::Taken
        | LoginOutcome::Unknown {
            is_passing: false, ..
        } => None,
        LoginOutcome::Refused { .. } => Some(REFUSED.wait(failures)),
        LoginOutcome::Unknown { retry_after, .. } => {
            let asked = retry_after.and_then(|asked| SignedDuration::try_from(asked).ok());
            let wait = asked.map(|asked| RETRY_AFTER.wait(failures).max(asked));
            Some(wait.unwrap_or_else(|| UNKNOWN.wait(failures)))
        }
    }
}
