//! What is to be done so that every namespace holds what it must, and when to look again. Pure.
//!
//! ```text
//! View (pull secrets × credentials) ─▶ decide(view, now) ─▶ mint these, write those, look again then
//! ```

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

/// How many writes of renewed credentials begin per second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    /// At least, as long as some are due.
    pub usual: f64,
    /// At most, however little time is left.
    pub top: f64,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            usual: 20.0,
            top: 500.0,
        }
    }
}

/// Within how long removals that nobody ordered are counted together.
pub const REMOVALS_WITHIN: SignedDuration = SignedDuration::from_mins(1);
/// So many removals that nobody ordered never wait, however few secrets there are.
const REMOVALS_FREE: usize = 10;
/// Of so many secrets one may be removed without an order.
const REMOVALS_PART: usize = 5;

/// After the half of its life a credential is renewed within this part of it, each at a time of its own.
const SPREAD: i32 = 20;

/// Everything that is to be kept.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// The pull secrets of the namespaces that Registries serve.
    pub secrets: Vec<Holding>,
    /// The minted credentials that they hold or are to hold.
    pub credentials: Vec<Life>,
    /// What is to be known before anything is removed.
    pub removals: Removals,
    /// When to look again, whatever is decided.
    pub look_again: Option<Timestamp>,
    /// How fast renewed credentials are written.
    pub pace: Pace,
}

/// What is to be known before anything is removed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Removals {
    /// How many pull secrets of ours there are.
    pub secrets: usize,
    /// From how many of them something was removed without an order within [`REMOVALS_WITHIN`].
    pub lately: usize,
    /// Whether somebody confirmed what was held back.
    pub confirmed: bool,
}

/// What one pull secret holds of what it must hold.
#[derive(Clone, Debug, Default)]
pub struct Holding {
    /// What belongs into it.
    pub entries: Arc<[Piece]>,
    /// What is in it and does not belong there.
    pub surplus: Option<Surplus>,
    /// Whether it is being written now.
    pub is_written: bool,
    /// When a write that failed is tried again.
    pub retry_at: Option<Timestamp>,
    /// When a removal that failed is tried again: one waits for no write that fails, and no write for one.
    pub remove_at: Option<Timestamp>,
}

/// What is in a pull secret and does not belong there, or the secret itself where none belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Surplus {
    /// An admin changed or deleted the one Registry that gave it.
    Ordered,
    /// Anything else: a namespace opted out or has other labels, or it was found so.
    Found,
}

/// One credential within a pull secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The place of the credential in [`View::credentials`]; `None` for a fixed login, and where it is not known yet whose credential
    /// it is to be.
    pub credential: Option<usize>,
    /// What stands in the secret.
    pub stands: Stands,
}

/// What stands in a pull secret where a credential belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stands {
    /// The very credential.
    Current,
    /// An earlier one, good until then.
    Earlier(Timestamp),
    /// Nothing that is known to be good, and there is something to put there.
    Missing,
    /// Nothing, or the very credential after its end, and there is nothing to put there yet.
    Unavailable,
}

/// One minted credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// When it was minted and when it ends; `None`: there is none yet.
    pub minted: Option<(Timestamp, Timestamp)>,
    /// Whether it is being minted now.
    pub is_minted: bool,
    /// When a mint that failed is tried again.
    pub retry_at: Option<Timestamp>,
    /// A number of its own, by which its renewal keeps apart from others'.
    pub spread: u8,
}

impl Life {
    /// Whether it is in the first half of its life: nothing is to be done.
    pub fn is_fresh(&self, now: Timestamp) -> bool {
        half_of(self).is_some_and(|half| now < half)
    }
}

/// What to do.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decision {
    /// The places of the credentials to mint, soonest to end first; those that failed last time after all others.
    pub mint: Vec<usize>,
    /// The places of the pull secrets to write at once: something is missing there.
    pub complete: Vec<usize>,
    /// The places of the pull secrets to write at [`Decision::pace`], soonest to end first.
    pub renew: Vec<usize>,
    /// How many of [`Decision::renew`] begin per second.
    pub pace: f64,
    /// The places of the pull secrets to take something out of.
    pub remove: Vec<usize>,
    /// The places of those that nothing is taken out of before somebody confirms it: they are too many at once.
    pub held_back: Vec<usize>,
    /// How many writes per second renewals need in the long run, where that is more than [`Pace::top`].
    pub overload: Option<f64>,
    /// When to look again if nothing changes before; `None`: never.
    pub next: Option<Timestamp>,
}

/// Decides what to do at `now`.
pub fn decide(view: &View, now: Timestamp) -> Decision {
    let mut decision = Decision {
        next: view.look_again,
        ..Decision::default()
    };
    decide_mints(view, now, &mut decision);
    decide_writes(view, now, &mut decision);
    decide_removals(view, now, &mut decision);
    decision.overload = Some(find_load(view)).filter(|load| *load > view.pace.top);
    decision
}

/// How many writes per second it takes in the long run to renew everything: each pull secret once per half of its shortest life.
fn find_load(view: &View) -> f64 {
    let life = |life: &Life| {
        let (minted_at, until) = life.minted?;
        Some(until.duration_since(minted_at).as_secs_f64())
    };
    let lives: Vec<Option<f64>> = view.credentials.iter().map(life).collect();
    let rate = |holding: &Holding| {
        let lives = holding
            .entries
            .iter()
            .filter_map(|piece| lives[piece.credential?]);
        let shortest = lives.min_by(f64::total_cmp)?;
        (shortest > 0.0).then(|| 2.0 / shortest)
    };
    view.secrets.iter().filter_map(rate).sum()
}

/// An order acts at once, in any number of namespaces. Everything else that would empty more than a part of all secrets within a minute
/// may be a mistake, ours or somebody's, and waits until it is confirmed.
fn decide_removals(view: &View, now: Timestamp, decision: &mut Decision) {
    let mut found = Vec::new();
    for (place, holding) in view.secrets.iter().enumerate() {
        let Some(surplus) = holding.surplus.filter(|_| !holding.is_written) else {
            continue;
        };
        match holding.remove_at.filter(|remove_at| *remove_at > now) {
            Some(remove_at) => note_next(decision, remove_at),
            None if surplus == Surplus::Ordered => decision.remove.push(place),
            None => found.push(place),
        }
    }
    let Removals {
        secrets,
        lately,
        confirmed,
    } = view.removals;
    let all = found.len() + lately;
    if found.is_empty() || confirmed || all < REMOVALS_FREE || all * REMOVALS_PART <= secrets {
        decision.remove.extend(found);
    } else {
        decision.held_back = found;
        // What was removed lately counts no more by then.
        note_next(decision, now.saturating_add(REMOVALS_WITHIN).unwrap_or(now));
    }
}

fn decide_mints(view: &View, now: Timestamp, decision: &mut Decision) {
    let idle = |life: &&(usize, &Life)| !life.1.is_minted;
    let lives: Vec<(usize, &Life)> = view.credentials.iter().enumerate().collect();
    let due = |life: &Life| due_at(life).max(life.retry_at).unwrap_or(now);
    let any_due = lives.iter().filter(idle).any(|(_, life)| due(life) <= now);
    for (place, life) in lives.iter().filter(idle) {
        // What may be renewed is renewed with what must be: then both go out in one write.
        let may = half_of(life).max(life.retry_at).unwrap_or(now) <= now;
        if due(life) <= now || (any_due && may) {
            decision.mint.push(*place);
        } else {
            note_next(decision, due(life));
        }
    }
    // However many fail, and however slowly, they take turns and keep nothing else waiting.
    decision.mint.sort_by_key(|place| {
        let life = &view.credentials[*place];
        (life.retry_at, life.minted.map(|(_, until)| until))
    });
}

/// When a credential may be renewed; `None`: at once.
fn half_of(life: &Life) -> Option<Timestamp> {
    let (minted_at, until) = life.minted?;
    let half = until.duration_since(minted_at) / 2;
    minted_at.checked_add(half).ok()
}

/// When a credential is to be renewed; `None`: at once.
fn due_at(life: &Life) -> Option<Timestamp> {
    let (minted_at, until) = life.minted?;
    let spread = until.duration_since(minted_at) / SPREAD * i32::from(life.spread) / 255;
    half_of(life)?.checked_add(spread).ok()
}

fn decide_writes(view: &View, now: Timestamp, decision: &mut Decision) {
    let mut renew: Vec<(Timestamp, usize)> = Vec::new();
    let mut is_minted: Vec<bool> = view.credentials.iter().map(|life| life.is_minted).collect();
    for place in &decision.mint {
        is_minted[*place] = true;
    }
    for (place, holding) in view.secrets.iter().enumerate() {
        if holding.is_written {
            continue;
        }
        let wants_now = holding
            .entries
            .iter()
            .any(|piece| piece.stands == Stands::Missing);
        let first_end = holding
            .entries
            .iter()
            .filter_map(|piece| match piece.stands {
                Stands::Earlier(until) => Some(until),
                Stands::Current | Stands::Missing | Stands::Unavailable => None,
            });
        let first_end = first_end.min();
        if !wants_now && first_end.is_none() {
            continue;
        }
        if let Some(retry_at) = holding.retry_at.filter(|retry_at| *retry_at > now) {
            note_next(decision, retry_at);
        } else if wants_now {
            decision.complete.push(place);
        } else if let Some(until) = first_end
            && !is_more_to_come(holding, &is_minted, until, now)
        {
            renew.push((until, place));
        }
    }
    renew.sort_unstable();
    decision.pace = find_pace(&renew, view.pace, now);
    decision.renew = renew.into_iter().map(|(_, place)| place).collect();
}

/// Whether another credential of the same secret is being minted, and there is time to wait for it: then one write takes both.
fn is_more_to_come(
    holding: &Holding,
    is_minted: &[bool],
    until: Timestamp,
    now: Timestamp,
) -> bool {
    const TIME_TO_WAIT: SignedDuration = SignedDuration::from_mins(2);
    until.duration_since(now) > TIME_TO_WAIT
        && holding
            .entries
            .iter()
            .filter_map(|piece| piece.credential)
            .any(|place| is_minted[place])
}

/// How many writes are to begin per second so that all are done in half of the time that the first of them has left.
fn find_pace(renew: &[(Timestamp, usize)], pace: Pace, now: Timestamp) -> f64 {
    let Some((first_end, _)) = renew.first() else {
        return pace.usual;
    };
    let left = first_end.duration_since(now).as_secs_f64().max(0.0) / 2.0;
    #[expect(clippy::cast_precision_loss, reason = "a pace is about")]
    let needed = renew.len() as f64 / left.max(0.001);
    needed.clamp(pace.usual, pace.top)
}

fn note_next(decision: &mut Decision, at: Timestamp) {
    decision.next = Some(decision.next.map_or(at, |next| next.min(at)));
}

#[cfg(test)]
mod tests;
