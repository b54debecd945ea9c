//! What to do so that every namespace holds what it must, and when to decide again. Pure.
//!
//! ```text
//! View (pull secrets × credentials) ─▶ decide(view, now) ─▶ mint these, write those, decide again then
//! ```

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use crate::clock;

/// How many writes of renewed credentials begin per second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RenewalRate {
    /// At least, as long as some are due.
    pub base: f64,
    /// At most, however little time is left.
    pub max: f64,
}

impl Default for RenewalRate {
    fn default() -> Self {
        Self {
            base: 20.0,
            max: 500.0,
        }
    }
}

/// Within how long removals that nobody ordered are counted together.
pub const REMOVAL_WINDOW: SignedDuration = SignedDuration::from_mins(1);
/// So many removals that nobody ordered never wait, however few secrets there are.
const FREE_REMOVALS: usize = 10;
/// Of so many secrets one may be removed without an order.
const REMOVAL_DIVISOR: usize = 5;

/// Past half of its life a credential is renewed within this part of it, each at a different time.
const JITTER_DIVISOR: i32 = 20;

/// Everything that is to be kept.
#[derive(Clone, Debug, Default)]
pub struct DecisionInput {
    /// The pull secrets of the namespaces that Registries serve.
    pub secrets: Vec<SecretState>,
    /// The minted credentials that they hold or are to hold.
    pub credentials: Vec<CredentialState>,
    /// What is to be known before anything is removed.
    pub removals: RemovalBudget,
    /// When to decide again, whatever is decided.
    pub requeue_at: Option<Timestamp>,
    /// How fast renewed credentials are written.
    pub rate: RenewalRate,
}

/// What is to be known before anything is removed.
#[derive(Clone, Copy, Debug, Default)]
pub struct RemovalBudget {
    /// How many pull secrets of ours there are.
    pub secrets: usize,
    /// From how many of them something was removed without an order within [`REMOVAL_WINDOW`].
    pub recent: usize,
    /// Whether an admin confirmed the blocked removals.
    pub confirmed: bool,
}

/// What one pull secret holds of what it must hold.
#[derive(Clone, Debug, Default)]
pub struct SecretState {
    /// What belongs into it.
    pub entries: Arc<[SecretEntry]>,
    /// What is in it and does not belong there.
    pub stale: Option<Stale>,
    /// Whether it is being written now.
    pub is_writing: bool,
    /// When a write that failed is tried again.
    pub retry_at: Option<Timestamp>,
    /// When a removal that failed is tried again: one waits for no write that fails, and no write for one.
    pub remove_at: Option<Timestamp>,
}

/// What is in a pull secret and does not belong there, or the secret itself where none belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stale {
    /// An admin changed or deleted the Registry that gave it.
    SpecChange,
    /// Anything else: a namespace opted out or has other labels, or it was found so.
    Unexplained,
    /// The Registry that gave it went as if with its kind.
    KindLost,
}

/// One credential within a pull secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SecretEntry {
    /// The place of the credential in [`DecisionInput::credentials`]; `None` for a fixed login, and where it is not known yet whose credential
    /// it is to be.
    pub credential: Option<usize>,
    /// What the secret holds.
    pub entry_state: EntryState,
}

/// What a pull secret holds where a credential belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryState {
    /// The very credential.
    Current,
    /// An earlier one, good until then.
    Previous(Timestamp),
    /// Nothing that is known to be good, and there is something to put there.
    Missing,
    /// Nothing, or the very credential after its end, and there is nothing to put there yet.
    Unavailable,
}

/// One minted credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CredentialState {
    /// When it was minted and when it ends; `None`: there is none yet.
    pub minted: Option<(Timestamp, Timestamp)>,
    /// Whether it is being minted now.
    pub is_minting: bool,
    /// When a mint that failed is tried again.
    pub retry_at: Option<Timestamp>,
    /// A number that spreads this renewal from others.
    pub jitter: u8,
}

impl CredentialState {
    /// Whether it is in the first half of its life: nothing is to be done.
    pub fn is_fresh(&self, now: Timestamp) -> bool {
        half_life(self, now).is_some_and(|half| now < half)
    }
}

/// What to do.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decision {
    /// The places of the credentials to mint, soonest to end first; those that failed last time after all others.
    pub mint: Vec<usize>,
    /// The places of the pull secrets to write at once: something is missing there.
    pub complete: Vec<usize>,
    /// The places of the pull secrets to write at [`Decision::rate`], soonest to end first.
    pub renew: Vec<usize>,
    /// How many of [`Decision::renew`] begin per second.
    pub rate: f64,
    /// The places of the pull secrets to take something out of.
    pub remove: Vec<usize>,
    /// The indices of the secrets from which removals are blocked until an admin confirms them: they are too many at once.
    pub blocked: Vec<usize>,
    /// How many writes per second renewals need in the long run, where that is more than [`RenewalRate::max`].
    pub overload: Option<f64>,
    /// When to decide again if nothing changes before; `None`: never.
    pub next: Option<Timestamp>,
}

impl Decision {
    /// Whether nothing is to be taken out of any pull secret, now or later.
    pub fn has_no_removals(&self) -> bool {
        self.remove.is_empty() && self.blocked.is_empty()
    }
}

/// Decides what to do at `now`.
pub fn decide(view: &DecisionInput, now: Timestamp) -> Decision {
    let mut decision = Decision {
        next: view.requeue_at,
        ..Decision::default()
    };
    decide_mints(view, now, &mut decision);
    decide_writes(view, now, &mut decision);
    decide_removals(view, now, &mut decision);
    decision.overload = Some(find_needed_rate(view)).filter(|load| *load > view.rate.max);
    decision
}

/// How many writes per second it takes in the long run to renew everything: each pull secret once per half of its shortest life.
fn find_needed_rate(view: &DecisionInput) -> f64 {
    let credential_state = |credential_state: &CredentialState| {
        let (minted_at, until) = credential_state.minted?;
        Some(until.duration_since(minted_at).as_secs_f64())
    };
    let lives: Vec<Option<f64>> = view.credentials.iter().map(credential_state).collect();
    let rate = |holding: &SecretState| {
        let lives = holding
            .entries
            .iter()
            .filter_map(|entry| lives[entry.credential?]);
        let shortest = lives.min_by(f64::total_cmp)?;
        (shortest > 0.0).then(|| 2.0 / shortest)
    };
    view.secrets.iter().filter_map(rate).sum()
}

/// An order acts at once, in any number of namespaces. Everything else that would empty more than a part of all secrets within a minute
/// may be a mistake, ours or an admin's, and waits until it is confirmed; so does what went with the kind, however little it is.
fn decide_removals(view: &DecisionInput, now: Timestamp, decision: &mut Decision) {
    let (mut found, mut lost) = (Vec::new(), Vec::new());
    for (index, holding) in view.secrets.iter().enumerate() {
        let Some(stale) = holding.stale.filter(|_| !holding.is_writing) else {
            continue;
        };
        match holding.remove_at.filter(|remove_at| *remove_at > now) {
            Some(remove_at) => note_next(decision, remove_at),
            None => match stale {
                Stale::SpecChange => decision.remove.push(index),
                Stale::Unexplained => found.push(index),
                Stale::KindLost => lost.push(index),
            },
        }
    }
    let RemovalBudget {
        secrets,
        recent,
        confirmed,
    } = view.removals;
    let all = found.len() + recent;
    let is_little = all < FREE_REMOVALS || all * REMOVAL_DIVISOR <= secrets;
    if confirmed {
        decision.remove.append(&mut lost);
    }
    if confirmed || is_little {
        decision.remove.append(&mut found);
    }
    decision.blocked.append(&mut found);
    decision.blocked.append(&mut lost);
    if !decision.blocked.is_empty() {
        // What was removed lately counts no more by then.
        note_next(decision, now.saturating_add(REMOVAL_WINDOW).unwrap_or(now));
    }
}

fn decide_mints(view: &DecisionInput, now: Timestamp, decision: &mut Decision) {
    let idle = |credential_state: &&(usize, &CredentialState)| !credential_state.1.is_minting;
    let lives: Vec<(usize, &CredentialState)> = view.credentials.iter().enumerate().collect();
    let due = |credential_state: &CredentialState| {
        renewal_due(credential_state, now)
            .max(credential_state.retry_at)
            .unwrap_or(now)
    };
    let any_due = lives
        .iter()
        .filter(idle)
        .any(|(_, credential_state)| due(credential_state) <= now);
    for (index, credential_state) in lives.iter().filter(idle) {
        // What may be renewed is renewed with what must be: then both go out in one write.
        let may = half_life(credential_state, now)
            .max(credential_state.retry_at)
            .unwrap_or(now)
            <= now;
        if due(credential_state) <= now || (any_due && may) {
            decision.mint.push(*index);
        } else {
            note_next(decision, due(credential_state));
        }
    }
    // However many fail, and however slowly, they take turns and keep nothing else waiting.
    decision.mint.sort_by_key(|index| {
        let credential_state = &view.credentials[*index];
        (
            credential_state.retry_at,
            credential_state.minted.map(|(_, until)| until),
        )
    });
}

/// When a credential may be renewed; `None`: at once, also where it was minted by a clock that was wrong.
fn half_life(credential_state: &CredentialState, now: Timestamp) -> Option<Timestamp> {
    let minted = credential_state.minted;
    let (minted_at, until) = minted.filter(|(made, _)| !clock::is_from_future(*made, now))?;
    let half = until.duration_since(minted_at) / 2;
    minted_at.checked_add(half).ok()
}

/// When a credential is to be renewed; `None`: at once.
fn renewal_due(credential_state: &CredentialState, now: Timestamp) -> Option<Timestamp> {
    let (minted_at, until) = credential_state.minted?;
    let jitter =
        until.duration_since(minted_at) / JITTER_DIVISOR * i32::from(credential_state.jitter) / 255;
    half_life(credential_state, now)?.checked_add(jitter).ok()
}

fn decide_writes(view: &DecisionInput, now: Timestamp, decision: &mut Decision) {
    let mut renew: Vec<(Timestamp, usize)> = Vec::new();
    let mut is_minting: Vec<bool> = view
        .credentials
        .iter()
        .map(|credential_state| credential_state.is_minting)
        .collect();
    for index in &decision.mint {
        is_minting[*index] = true;
    }
    for (index, holding) in view.secrets.iter().enumerate() {
        if holding.is_writing {
            continue;
        }
        let wants_now = holding
            .entries
            .iter()
            .any(|entry| entry.entry_state == EntryState::Missing);
        let first_end = holding
            .entries
            .iter()
            .filter_map(|entry| match entry.entry_state {
                EntryState::Previous(until) => Some(until),
                EntryState::Current | EntryState::Missing | EntryState::Unavailable => None,
            });
        let first_end = first_end.min();
        if !wants_now && first_end.is_none() {
            continue;
        }
        if let Some(retry_at) = holding.retry_at.filter(|retry_at| *retry_at > now) {
            note_next(decision, retry_at);
        } else if wants_now {
            decision.complete.push(index);
        } else if let Some(until) = first_end
            && !waits_for_mint(holding, &is_minting, until, now)
        {
            renew.push((until, index));
        }
    }
    renew.sort_unstable();
    decision.rate = find_rate(&renew, view.rate, now);
    decision.renew = renew.into_iter().map(|(_, index)| index).collect();
}

/// Whether another credential of the same secret is being minted, and there is time to wait for it: then one write takes both.
fn waits_for_mint(
    holding: &SecretState,
    is_minting: &[bool],
    until: Timestamp,
    now: Timestamp,
) -> bool {
    const TIME_TO_WAIT: SignedDuration = SignedDuration::from_mins(2);
    until.duration_since(now) > TIME_TO_WAIT
        && holding
            .entries
            .iter()
            .filter_map(|entry| entry.credential)
            .any(|index| is_minting[index])
}

/// How many writes are to begin per second so that all are done in half of the time that the first of them has left.
fn find_rate(renew: &[(Timestamp, usize)], rate: RenewalRate, now: Timestamp) -> f64 {
    let Some((first_end, _)) = renew.first() else {
        return rate.base;
    };
    let kept = first_end.duration_since(now).as_secs_f64().max(0.0) / 2.0;
    #[expect(clippy::cast_precision_loss, reason = "a pace is about")]
    let needed = renew.len() as f64 / kept.max(0.001);
    needed.clamp(rate.base, rate.max)
}

fn note_next(decision: &mut Decision, at: Timestamp) {
    decision.next = Some(decision.next.map_or(at, |next| next.min(at)));
}

#[cfg(test)]
mod tests;
