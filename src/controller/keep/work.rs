//! What is under way, what is left alone for a while, and what went wrong.

use std::collections::{HashMap, HashSet};

use jiff::{SignedDuration, Timestamp};
use sha2::{Digest as _, Sha256};

use super::super::again::Again;
use super::super::report::Finding;
use super::super::tell::{Told, secret};
use super::failures::Failures;
use super::fight::Fights;
use super::jobs::Jobs;
use super::kind::Kind;
use super::queue::Queue;
use super::settle::Settling;
use crate::cluster::{CONFIRM_ANNOTATION, Gravity, Notice, reference};
use crate::names::ObjectName;
use crate::provision::access::ClusterError;
use crate::provision::decide::{Decision, REMOVALS_WITHIN};
use crate::provision::prune::{Doubt, Removed};
use crate::provision::survey::{Name, Place, Survey};
use crate::provision::{Outcome, PULL_SECRET};
use crate::registry::source::MintSource;

/// When a mint that failed is asked for again; the minter's own back-off decides whether the cloud is.
const MINT_AGAIN: SignedDuration = SignedDuration::from_secs(5);

/// One piece of work that ended.
pub(super) enum Done {
    Minted(MintSource, Option<Finding>),
    Kept(Name, Kept),
    Removed(Name, bool, Result<Removed, ClusterError>),
    Checked(Result<(), Doubt>),
    /// A Registry's status was written, or not.
    Reported(ObjectName, Result<(), ClusterError>),
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
    pub(super) jobs: Jobs,
    pub(super) minting: HashSet<MintSource>,
    pub(super) writing: HashSet<Name>,
    mint_again: HashMap<MintSource, (Again, Finding)>,
    pub(super) write_again: Failures,
    remove_again: Failures,
    /// What we wrote last.
    written: HashMap<Name, String>,
    pub(super) fights: Fights,
    /// What waits to be minted and written.
    pub(super) queue: Queue,
    /// Whether anything ended since everything was looked at.
    pub(super) has_news: bool,
    pub(super) kind: Kind,
    /// When something was removed last that nobody ordered, from each pull secret.
    removals: HashMap<Name, Timestamp>,
    /// What people are to be told beside.
    pub(super) notices: Vec<Notice>,
    /// What people were told.
    pub(super) told: Told,
    settling: Settling,
    /// What is held back now was told under this name.
    told_held_back: Option<String>,
}

impl Work {
    /// Takes all that ended.
    pub(super) fn take_ended(&mut self, now: Timestamp) {
        while let Some(ended) = self.jobs.next_ended() {
            self.take(ended, now);
        }
    }

    /// Takes what ended.
    pub(super) fn take(&mut self, ended: Done, now: Timestamp) {
        // What people were told changes nothing.
        self.has_news |= !matches!(ended, Done::Told | Done::Reported(_, Ok(())));
        match ended {
            Done::Minted(source, failed) => {
                self.minting.remove(&source);
                match failed {
                    None => self.mint_again.remove(&source),
                    Some(failure) => self
                        .mint_again
                        .insert(source, (Again::after(MINT_AGAIN, now), failure)),
                };
            }
            Done::Kept(name, kept) => {
                self.writing.remove(&name);
                self.note_kept(name, kept, now);
            }
            Done::Removed(name, found, removed) => {
                self.writing.remove(&name);
                self.note_removed(name, found, &removed, now);
            }
            Done::Checked(answer) => self.kind.take(answer, now),
            Done::Reported(registry, written) => {
                self.told.note_written(&registry, written, now);
            }
            Done::Told => {}
        }
    }

    /// Whether a credential is neither being minted nor left alone for a while.
    pub(super) fn may_mint(&self, source: &MintSource, now: Timestamp) -> bool {
        let again = self.mint_again.get(source);
        !self.minting.contains(source) && again.is_none_or(|(again, _)| again.at(now) <= now)
    }

    /// Whether a pull secret is neither being written nor left alone for a while.
    pub(super) fn may_write(&self, place: &Place, now: Timestamp) -> bool {
        let name = place.name();
        let until = self.write_again.until(&name, now);
        !self.writing.contains(&name) && until.is_none_or(|until| until <= now)
    }

    /// Whether somebody else changed what we wrote.
    pub(super) fn is_repair(&self, place: &Place) -> bool {
        let wrote = self.written.get(&place.name());
        wrote.is_some_and(|version| {
            let seen = place.seen.as_ref();
            seen.is_none_or(|seen| seen.version.resource_version != *version)
        })
    }

    fn note_kept(&mut self, name: Name, kept: Kept, now: Timestamp) {
        let why = match kept.outcome {
            Outcome::Covered => None,
            Outcome::Pending(why) => Some(why),
            Outcome::Foreign => Some(Vec::new()),
        };
        if let Some(why) = why {
            self.write_again.note_failed(name, why, now);
            return;
        }
        self.write_again.forget(&name);
        if let Some(version) = kept.version {
            self.written.insert(name.clone(), version);
        }
        if kept.repaired {
            self.note_fight(name, now);
        }
    }

    /// What somebody else did to a pull secret was undone.
    fn note_fight(&mut self, name: Name, now: Timestamp) {
        let Some(answer) = self.fights.answer(&name, now) else {
            return;
        };
        if answer.is_first {
            const NOTE: &str = "somebody keeps changing a pull secret: it is put back more and more slowly; find who does (kubectl get secret --show-managed-fields) and leave it to pullpass, or opt the namespace out";
            tracing::warn!(
                namespace.name = name.0.as_str(),
                secret.name = &*name.1,
                "{NOTE}"
            );
            self.notices.push(Notice {
                regarding: secret(&name.0, &name.1),
                gravity: Gravity::Warning,
                reason: "ChangedByOthers",
                action: "Repair",
                note: NOTE.to_owned(),
            });
        }
        self.write_again.rest(name.clone(), answer.wait, now);
        self.remove_again.rest(name, answer.wait, now);
    }

    /// Until when nothing is said of how Registries stand; `None`: it can be said.
    pub(super) fn settles_until(
        &mut self,
        decision: &Decision,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let is_idle = self.minting.is_empty() && self.writing.is_empty();
        let is_busy = !is_idle || !decision.mint.is_empty() || !decision.complete.is_empty();
        self.settling.lasts_until(is_busy, now)
    }

    /// How many mints and writes failed and are still to be done.
    pub(super) fn count_failing(&self, survey: &Survey) -> (usize, usize) {
        if self.write_again.is_empty() && self.remove_again.is_empty() {
            return (self.mint_again.len(), 0);
        }
        let all = survey.secrets.iter().zip(&survey.view.secrets).enumerate();
        // Another replica may have done it.
        let failing = all.filter(|(at, (place, holding))| {
            let name = place.name();
            (self.write_again.has_failed(&name) && !survey.unwritten(*at).is_empty())
                || (self.remove_again.has_failed(&name) && holding.surplus.is_some())
        });
        let writes = failing.count();
        (self.mint_again.len(), writes)
    }

    /// Why the credential of a source could not be minted last time.
    pub(super) fn failure(&self, source: &MintSource) -> Option<Finding> {
        self.mint_again
            .get(source)
            .map(|(_, finding)| finding.clone())
    }

    fn note_removed(
        &mut self,
        name: Name,
        found: bool,
        removed: &Result<Removed, ClusterError>,
        now: Timestamp,
    ) {
        let (namespace, secret) = (name.0.as_str(), name.1.as_str());
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
        if done {
            // There may be room now for what could not be written.
            self.write_again.forget(&name);
            self.remove_again.forget(&name);
        } else {
            self.remove_again.note_failed(name.clone(), Vec::new(), now);
        }
        if done && found {
            // Who keeps putting in what belongs nowhere is one pull secret, and no removal of many.
            self.removals.insert(name.clone(), now);
            self.note_fight(name, now);
        }
    }

    /// Notes in a survey what is under way, and what is left alone.
    pub(super) fn mark(&self, survey: &mut Survey, now: Timestamp) {
        for (source, life) in survey.sources.iter().zip(&mut survey.view.credentials) {
            life.is_minted = self.minting.contains(source);
            let again = self.mint_again.get(source);
            life.retry_at = again.map(|(again, _)| again.at(now));
        }
        let is_quiet =
            self.writing.is_empty() && self.write_again.is_empty() && self.remove_again.is_empty();
        let holdings = survey.secrets.iter().zip(&mut survey.view.secrets);
        for (place, holding) in holdings.filter(|_| !is_quiet) {
            let name = place.name();
            holding.is_written = self.writing.contains(&name);
            holding.retry_at = self.write_again.until(&name, now);
            holding.remove_at = self.remove_again.until(&name, now);
        }
    }

    /// Notes in a survey of everything what was removed and confirmed.
    pub(super) fn mark_removals(
        &mut self,
        survey: &mut Survey,
        confirmed: Option<&str>,
        now: Timestamp,
    ) {
        self.removals
            .retain(|_, at| now.duration_since(*at).abs() < REMOVALS_WITHIN);
        survey.view.removals.lately = self.removals.len();
        survey.view.removals.confirmed =
            confirmed.is_some() && confirmed == self.told_held_back.as_deref();
    }

    /// Forgets what is in a survey of everything no more.
    pub(super) fn forget_others(&mut self, survey: &Survey, now: Timestamp) {
        // One that is fresh was minted by another replica after it failed here.
        let sources = survey.sources.iter().zip(&survey.view.credentials);
        let known: HashSet<&MintSource> = sources
            .filter(|(_, life)| !life.is_fresh(now))
            .map(|(source, _)| source)
            .collect();
        self.mint_again.retain(|source, _| known.contains(source));
        let known: HashSet<Name> = survey.secrets.iter().map(Place::name).collect();
        self.fights.forget_over(now);
        let stays = |name: &Name| known.contains(name) || self.fights.lasts(name);
        self.write_again.retain(stays);
        self.remove_again.retain(stays);
        self.written.retain(|name, _| known.contains(name));
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
        let count = decision.held_back.len();
        let id = held_back_name(survey, &decision.held_back);
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

/// What these removals are called: the same for the very same content of the very same Secrets, so that who confirmed them says
/// nothing of later ones.
fn held_back_name(survey: &Survey, places: &[usize]) -> String {
    let mut all: Vec<String> = places
        .iter()
        .map(|&at| {
            let place = &survey.secrets[at];
            let mut keys: Vec<&String> = survey.surplus[at].iter().collect();
            keys.sort();
            let seen = place.seen.as_ref();
            let digest = |key: &&String| seen?.digests.get(*key);
            let logins: Vec<_> = keys.iter().map(|key| (key, digest(key))).collect();
            let uid = seen.map(|seen| &seen.version.uid);
            format!("{:?} {uid:?} {logins:?}", place.name())
        })
        .collect();
    all.sort();
    let hash = Sha256::digest(all.join("\n"));
    let first = hash.first_chunk().copied().map_or(0, u32::from_be_bytes);
    format!("{first:08x}")
}

#[cfg(test)]
mod tests;
