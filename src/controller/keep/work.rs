//! What is under way, what is left alone for a while, and what went wrong.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use sha2::{Digest as _, Sha256};
use tokio::task::JoinSet;

use super::super::report::Finding;
use super::super::tell::{Told, secret};
use super::KIND_GOES;
use super::allowance::Allowance;
use super::fight::Fights;
use super::settle::Settling;
use crate::cluster::{CONFIRM_ANNOTATION, Gravity, Notice, reference};
use crate::provision::access::ClusterError;
use crate::provision::decide::{Decision, REMOVALS_WITHIN};
use crate::provision::prune::{Doubt, Removed};
use crate::provision::survey::{Place, Survey};
use crate::provision::{Outcome, PULL_SECRET};
use crate::registry::Registries;
use crate::registry::source::MintSource;

/// When a mint that failed is asked for again; the minter's own back-off decides whether the cloud is.
const MINT_AGAIN: SignedDuration = SignedDuration::from_secs(5);

/// The first wait after a write that failed, and the longest; it doubles.
const WRITE_AGAIN: (SignedDuration, SignedDuration) =
    (SignedDuration::from_secs(1), SignedDuration::from_mins(1));

/// How long an answer about the kind holds.
const KIND_KNOWN: SignedDuration = SignedDuration::from_secs(5);

/// The names of a namespace and of a pull secret in it.
pub(super) type Name = (String, Arc<str>);

/// One piece of work that ended.
pub(super) enum Done {
    Minted(MintSource, Option<Finding>),
    Kept(Name, Kept),
    Removed(Name, bool, Result<Removed, ClusterError>),
    Checked(Result<(), Doubt>),
    /// A Registry's status was written, or not.
    Reported(Arc<str>, Result<(), ClusterError>),
    /// An Event was published.
    Told,
}

/// How writing a pull secret ended.
pub(super) struct Kept {
    pub(super) outcome: Outcome,
    /// Whether somebody else had changed or deleted it.
    pub(super) repaired: bool,
    /// The resource version that stands there now.
    pub(super) version: Option<String>,
}

#[derive(Default)]
pub(super) struct Work {
    pub(super) jobs: JoinSet<Done>,
    pub(super) minting: HashSet<MintSource>,
    pub(super) writing: HashSet<Name>,
    mint_again: HashMap<MintSource, (Timestamp, Finding)>,
    write_again: HashMap<Name, (Timestamp, SignedDuration)>,
    /// What we wrote last.
    written: HashMap<Name, String>,
    pub(super) fights: Fights,
    /// How many writes of renewed credentials may begin.
    pub(super) allowance: Allowance,
    pub(super) kind: Kind,
    /// When something was removed that nobody ordered.
    removals: VecDeque<Timestamp>,
    /// What people are to be told beside.
    pub(super) notices: Vec<Notice>,
    /// What people were told.
    pub(super) told: Told,
    settling: Settling,
    /// What is held back now was told under this name.
    told_held_back: Option<String>,
}

/// What is known of the kind Registry.
#[derive(Default)]
pub(super) struct Kind {
    /// The Registries that the rest is about: an answer says nothing of those that went later.
    registries: Option<Arc<Registries>>,
    wanted_since: Option<Timestamp>,
    asked: bool,
    /// Whether what was asked is about earlier Registries.
    is_outdated: bool,
    known_at: Option<Timestamp>,
    is_known: bool,
}

impl Kind {
    /// Nothing is to be removed.
    pub(super) fn forget(&mut self) {
        *self = Self {
            asked: self.asked,
            is_outdated: self.asked,
            ..Self::default()
        };
    }

    /// Something is to be removed by these Registries.
    pub(super) fn see(&mut self, registries: &Arc<Registries>) {
        let last = self.registries.as_ref();
        if last.is_none_or(|last| !Arc::ptr_eq(last, registries)) {
            self.forget();
            self.registries = Some(Arc::clone(registries));
        }
    }

    /// Whether the API server is to be asked now. Then it has been.
    pub(super) fn is_to_be_asked(&mut self, now: Timestamp) -> bool {
        let since = *self.wanted_since.get_or_insert(now);
        let waited = now.duration_since(since).abs() >= KIND_GOES;
        let holds = self
            .known_at
            .is_some_and(|known_at| now.duration_since(known_at).abs() < KIND_KNOWN);
        if !holds {
            self.is_known = false;
        }
        let is_to_be_asked = waited && !holds && !self.asked;
        self.asked |= is_to_be_asked;
        is_to_be_asked
    }

    /// Whether Registries that are not there are truly gone.
    pub(super) fn is_known(&self) -> bool {
        self.is_known
    }

    fn take(&mut self, answer: Result<(), Doubt>, now: Timestamp) {
        self.asked = false;
        if std::mem::take(&mut self.is_outdated) {
            return;
        }
        self.known_at = Some(now);
        self.is_known = answer.is_ok();
        if let Err(error) = answer {
            tracing::warn!(
                "nothing is removed: whether the Registries that are not there were deleted cannot be told: {error}"
            );
        }
    }
}

impl Work {
    /// Takes what ended, and says whether anything did.
    pub(super) fn take_ended(&mut self, now: Timestamp) -> bool {
        let mut any = false;
        while let Some(ended) = self.jobs.try_join_next() {
            any = true;
            // A job that panicked is seen as under way until leadership changes: it is logged where it panicked.
            match ended {
                Ok(Done::Minted(source, failed)) => {
                    self.minting.remove(&source);
                    match failed {
                        None => self.mint_again.remove(&source),
                        Some(failure) => self
                            .mint_again
                            .insert(source, (later(now, MINT_AGAIN), failure)),
                    };
                }
                Ok(Done::Kept(name, kept)) => {
                    self.writing.remove(&name);
                    self.note_kept(name, kept, now);
                }
                Ok(Done::Removed(name, found, removed)) => {
                    self.writing.remove(&name);
                    self.note_removed(name, found, &removed, now);
                }
                Ok(Done::Checked(answer)) => self.kind.take(answer, now),
                Ok(Done::Reported(registry, written)) => {
                    self.told.note_written(&registry, written);
                }
                Ok(Done::Told) | Err(_) => {}
            }
        }
        any
    }

    /// Whether somebody else changed what we wrote.
    pub(super) fn is_repair(&self, place: &Place) -> bool {
        let wrote = self.written.get(&name(place));
        wrote.is_some_and(|version| {
            let seen = place.seen.as_ref();
            seen.is_none_or(|seen| seen.version.resource_version != *version)
        })
    }

    fn note_kept(&mut self, name: Name, kept: Kept, now: Timestamp) {
        let good = kept.outcome == Outcome::Covered;
        self.note(name.clone(), !good, now);
        if let Some(version) = kept.version.filter(|_| good) {
            self.written.insert(name.clone(), version);
        }
        if !good || !kept.repaired {
            return;
        }
        let Some(answer) = self.fights.answer(&name, now) else {
            return;
        };
        if answer.is_first {
            const NOTE: &str = "somebody keeps changing a pull secret: it is put back more and more slowly; find who does (kubectl get secret --show-managed-fields) and leave it to pullpass, or opt the namespace out";
            tracing::warn!(namespace.name = name.0, secret.name = &*name.1, "{NOTE}");
            self.notices.push(Notice {
                regarding: secret(&name.0, &name.1),
                gravity: Gravity::Warning,
                reason: "ChangedByOthers",
                action: "Repair",
                note: NOTE.to_owned(),
            });
        }
        let wait = answer.wait;
        self.write_again.insert(name, (later(now, wait), wait));
    }

    /// Until when nothing is said of how Registries stand; `None`: it can be said. `knows_asked`: whether it is known about which Pods
    /// the API server asks.
    pub(super) fn settles_until(
        &mut self,
        decision: &Decision,
        knows_asked: bool,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let is_idle = self.minting.is_empty() && self.writing.is_empty();
        let is_busy =
            !knows_asked || !is_idle || !decision.mint.is_empty() || !decision.complete.is_empty();
        self.settling.lasts_until(is_busy, now)
    }

    /// Why the credential of a source could not be minted last time.
    pub(super) fn failure(&self, source: &MintSource) -> Option<Finding> {
        self.mint_again
            .get(source)
            .map(|(_, finding)| finding.clone())
    }

    fn note(&mut self, name: Name, failed: bool, now: Timestamp) {
        if !failed {
            self.write_again.remove(&name);
            return;
        }
        let before = self.write_again.get(&name).map(|(_, wait)| *wait);
        let wait = before.map_or(WRITE_AGAIN.0, |wait| (wait * 2).min(WRITE_AGAIN.1));
        self.write_again.insert(name, (later(now, wait), wait));
    }

    fn note_removed(
        &mut self,
        name: Name,
        found: bool,
        removed: &Result<Removed, ClusterError>,
        now: Timestamp,
    ) {
        let (namespace, secret) = (name.0.as_str(), &*name.1);
        match removed {
            Ok(Removed::Secret) => tracing::info!(
                namespace.name = namespace,
                secret.name = secret,
                "pull secret deleted: no Registry serves the namespace any more, or it opted out"
            ),
            Ok(Removed::Entries) => tracing::info!(
                namespace.name = namespace,
                secret.name = secret,
                "logins taken out of a pull secret: their Registries serve the namespace no more"
            ),
            Ok(Removed::Nothing) => {}
            Err(error) => tracing::warn!(
                namespace.name = namespace,
                secret.name = secret,
                "nothing taken out of a pull secret, it is tried again: {error}"
            ),
        }
        let done = matches!(removed, Ok(Removed::Secret | Removed::Entries));
        if done && found {
            self.removals.push_back(now);
        }
        self.note(name, !done, now);
    }

    /// Notes in a survey what is under way, what is left alone, and what was removed and confirmed.
    pub(super) fn mark(&mut self, survey: &mut Survey, confirmed: Option<&str>, now: Timestamp) {
        for (source, life) in survey.sources.iter().zip(&mut survey.view.credentials) {
            life.is_minted = self.minting.contains(source);
            life.retry_at = self.mint_again.get(source).map(|(at, _)| *at);
        }
        let is_quiet = self.writing.is_empty() && self.write_again.is_empty();
        let holdings = survey.secrets.iter().zip(&mut survey.view.secrets);
        for (place, holding) in holdings.filter(|_| !is_quiet) {
            let name = name(place);
            holding.is_written = self.writing.contains(&name);
            holding.retry_at = self.write_again.get(&name).map(|(at, _)| *at);
        }
        let known: HashSet<&MintSource> = survey.sources.iter().collect();
        self.mint_again.retain(|source, _| known.contains(source));
        let known: HashSet<Name> = survey.secrets.iter().map(name).collect();
        self.write_again.retain(|name, _| known.contains(name));
        self.written.retain(|name, _| known.contains(name));
        self.fights.forget_others(&known, now);
        self.removals
            .retain(|at| now.duration_since(*at).abs() < REMOVALS_WITHIN);
        survey.view.removals.lately = self.removals.len();
        survey.view.removals.confirmed =
            confirmed.is_some() && confirmed == self.told_held_back.as_deref();
    }

    /// Tells, once for each set of them, which removals wait until somebody confirms them.
    pub(super) fn tell_held_back(
        &mut self,
        survey: &Survey,
        decision: &Decision,
        own_namespace: &str,
    ) {
        if decision.held_back.is_empty() {
            if decision.remove.is_empty() {
                self.told_held_back = None;
            }
            return;
        }
        let places = decision.held_back.iter();
        let count = decision.held_back.len();
        let id = held_back_name(places.map(|place| name(&survey.secrets[*place])));
        if self.told_held_back.as_ref() != Some(&id) {
            let note = format!(
                "{count} of {} pull secrets seem to be unwanted all at once: they stay until you say that this is right: kubectl annotate lease --namespace {own_namespace} {PULL_SECRET} {CONFIRM_ANNOTATION}={id} --overwrite",
                survey.view.removals.secrets,
            );
            tracing::error!(
                secrets.held_back = count,
                secrets.all = survey.view.removals.secrets,
                "{note}"
            );
            self.notices.push(Notice {
                regarding: reference(
                    ["coordination.k8s.io/v1", "Lease", PULL_SECRET],
                    Some(own_namespace),
                    None,
                ),
                gravity: Gravity::Warning,
                reason: "RemovalHeldBack",
                action: "Remove",
                note,
            });
            self.told_held_back = Some(id);
        }
    }
}

/// What these removals are called: the same for the same ones.
fn held_back_name(names: impl Iterator<Item = Name>) -> String {
    let mut names: Vec<Name> = names.collect();
    names.sort();
    let mut hash = Sha256::new();
    for (namespace, secret) in names {
        hash.update(namespace);
        hash.update("/");
        hash.update(&*secret);
        hash.update("\n");
    }
    let hash = hash.finalize();
    let first = hash.first_chunk().copied().map_or(0, u32::from_be_bytes);
    format!("{first:08x}")
}

pub(super) fn name(place: &Place) -> Name {
    (place.namespace.name.clone(), Arc::clone(&place.secret))
}

fn later(now: Timestamp, wait: SignedDuration) -> Timestamp {
    now.checked_add(wait).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    #[test]
    fn takes_no_answer_for_registries_that_went_after_the_question() {
        let (before, after) = (
            Arc::new(Registries::build([])),
            Arc::new(Registries::build([])),
        );
        let mut kind = Kind::default();
        kind.see(&before);
        assert!(!kind.is_to_be_asked(at(0)));
        assert!(kind.is_to_be_asked(at(2)));
        kind.take(Ok(()), at(2));
        assert!(kind.is_known());

        kind.see(&after);
        assert!(!kind.is_known(), "it was asked before these went");
        assert!(!kind.is_to_be_asked(at(3)));
        assert!(kind.is_to_be_asked(at(5)));
        kind.see(&before);
        kind.take(Ok(()), at(5));
        assert!(!kind.is_known(), "the answer is to an earlier question");
        assert!(!kind.is_to_be_asked(at(5)));
        assert!(kind.is_to_be_asked(at(7)));
        kind.take(Ok(()), at(7));
        assert!(kind.is_known());
    }
}
