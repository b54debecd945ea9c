//! What to do so that one pull secret holds what it must, and when to decide again. Pure.
//!
//! ```text
//! observed × desired ─▶ decide(secret, now) ─▶ Mint these │ Write │ Remove │ Wait until then
//! ```
//!
//! One thing at a time: who did it, or cannot, says so in the secret's state and asks again.

use jiff::{SignedDuration, Timestamp};

use crate::clock;

/// Past half of its life a credential is renewed within this part of it, each at a different time: whatever was minted at once, by however
/// many clusters behind one account, is renewed over a fifth of its life.
const JITTER_DIVISOR: i32 = 5;

/// So long something missing waits for the others of the same secret that are being minted: most mints take less, and one write will do.
pub const GATHER: SignedDuration = SignedDuration::from_secs(1);

/// A mounted file is never found with less than this part of its credential's life left.
const MOUNTED_DIVISOR: i32 = 4;

/// What is mounted is renewed within this part of the spread that others have: sooner, and still not all at once.
const MOUNTED_JITTER_DIVISOR: u8 = 4;

/// So long the kubelet may take to bring a changed Secret into a mounted volume: its sync period, with its jitter, and its cache's delay.
/// <https://kubernetes.io/docs/tasks/configure-pod-container/configure-pod-configmap/#mounted-configmaps-are-updated-automatically>
const MOUNT_DELAY: SignedDuration = SignedDuration::from_mins(2);

/// A renewed login waits for the others of the same secret that are being minted, unless the earlier one has less time left than this.
const TIME_TO_WAIT: SignedDuration = SignedDuration::from_mins(2);

/// What one pull secret holds of what it must hold.
#[derive(Clone, Debug, Default)]
pub struct SecretState {
    /// What belongs into it.
    pub entries: Vec<SecretEntry>,
    /// What is in it and does not belong there.
    pub stale: Option<Stale>,
    /// Whether it is being written now, or something taken out of it.
    pub is_writing: bool,
    /// When a write that failed is tried again.
    pub retry_at: Option<Timestamp>,
    /// When a removal that failed is tried again: one waits for no write that fails, and no write for one.
    pub remove_at: Option<Timestamp>,
    /// When to decide again, whatever is decided.
    pub requeue_at: Option<Timestamp>,
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
    /// The credential; `None` for a fixed login, and where it is not known yet whose credential it is to be.
    pub credential: Option<CredentialState>,
    /// What the secret holds.
    pub entry_state: EntryState,
}

/// What a pull secret holds where a credential belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryState {
    /// The very credential.
    Current,
    /// An earlier one, to be replaced by then: its end, or what [`mounted_until`] says of it.
    Previous(Timestamp),
    /// An earlier fixed login, which counts as good while the next one is written.
    Outdated,
    /// Nothing that is known to be good, and there is something to put there.
    Missing,
    /// Nothing, or the very credential after its end, and there is nothing to put there yet.
    Unavailable,
}

impl EntryState {
    /// Whether a Pod can pull with it.
    pub fn is_good(self) -> bool {
        matches!(self, Self::Current | Self::Previous(_) | Self::Outdated)
    }

    /// Whether there is something to be written in its place.
    pub fn is_unwritten(self) -> bool {
        matches!(self, Self::Previous(_) | Self::Outdated | Self::Missing)
    }
}

/// One minted credential.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CredentialState {
    /// When it was minted and when it ends; `None`: there is none yet.
    pub minted: Option<(Timestamp, Timestamp)>,
    /// Since when it is being minted, or waits for its turn.
    pub minting_since: Option<Timestamp>,
    /// When a mint that failed is tried again; who noted that decides again then.
    pub retry_at: Option<Timestamp>,
    /// A number that spreads this renewal from others ([`spread`]).
    pub jitter: u8,
}

impl CredentialState {
    /// Whether it is in the first half of its life: nothing is to be done.
    pub fn is_fresh(&self, now: Timestamp) -> bool {
        self.half_life(now).is_some_and(|half| now < half)
    }

    /// When it may be renewed; `None`: at once, also where it was minted by a clock that was wrong.
    fn half_life(&self, now: Timestamp) -> Option<Timestamp> {
        let minted = self.minted;
        let (minted_at, until) = minted.filter(|(made, _)| !clock::is_from_future(*made, now))?;
        let half = until.duration_since(minted_at) / 2;
        minted_at.checked_add(half).ok()
    }

    /// When it is to be renewed; `None`: at once.
    fn renewal_due(&self, now: Timestamp) -> Option<Timestamp> {
        let (minted_at, until) = self.minted?;
        let jitter =
            until.duration_since(minted_at) / JITTER_DIVISOR * i32::from(self.jitter) / 255;
        self.half_life(now)?.checked_add(jitter).ok()
    }

    /// When it is to be minted.
    fn due(&self, now: Timestamp) -> Timestamp {
        self.renewal_due(now).max(self.retry_at).unwrap_or(now)
    }

    /// Whether it may be minted.
    fn may_mint(&self, now: Timestamp) -> bool {
        self.half_life(now).max(self.retry_at).unwrap_or(now) <= now
    }
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// To mint the credentials at these places.
    Mint(Vec<usize>),
    /// To write what is missing, at once.
    Write,
    /// To write renewed logins in their turn, and to decide again then.
    Renew {
        /// By when the first of the earlier ones is to be replaced.
        until: Timestamp,
        /// As for [`Decision::Wait`].
        requeue_at: Option<Timestamp>,
    },
    /// To take out what does not belong there, if that is permitted.
    Remove(Stale),
    /// Nothing, until then; `None`: until something changes.
    Wait(Option<Timestamp>),
}

/// Decides what to do at `now`.
pub fn decide(secret: &SecretState, now: Timestamp) -> Decision {
    let mut next = secret.requeue_at;
    let mint = find_mints(secret, now, &mut next);
    if !mint.is_empty() {
        return Decision::Mint(mint);
    }
    if secret.is_writing {
        return Decision::Wait(next);
    }
    let write = find_write(secret, now, &mut next);
    let is_due = |remove_at: Timestamp| remove_at <= now;
    let removal = secret.stale.filter(|_| secret.remove_at.is_none_or(is_due));
    // What an admin ordered waits for no write that waits for its turn.
    if let Some(order @ Stale::SpecChange) = removal {
        return Decision::Remove(order);
    }
    if write == Some(WriteDue::AtOnce) {
        return Decision::Write;
    }
    if let Some(stale) = removal {
        return Decision::Remove(stale);
    }
    if let Some(remove_at) = secret.remove_at.filter(|_| secret.stale.is_some()) {
        note_next(&mut next, remove_at);
    }
    match write {
        Some(WriteDue::By(until)) => Decision::Renew {
            until,
            requeue_at: next,
        },
        Some(WriteDue::AtOnce) | None => Decision::Wait(next),
    }
}

/// A number up to 255 that differs by what is renewed and by when it was minted: every replica finds the same, and another cluster with the
/// same Registry, or the next renewal, another one. Fibonacci hashing: <https://en.wikipedia.org/wiki/Hash_function#Fibonacci_hashing>.
pub fn spread(jitter: u8, minted_at: Timestamp) -> u8 {
    let mixed = minted_at.as_second().unsigned_abs() ^ (u64::from(jitter) << 40);
    let [first, ..] = mixed.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes();
    first
}

/// By when a credential is to be replaced in a Secret that is mounted as a file: so long before its end that the kubelet has brought the
/// next one into the volume while a quarter of its life is left.
pub fn mounted_until(minted_at: Timestamp, expires_at: Timestamp) -> Timestamp {
    let life = expires_at.duration_since(minted_at);
    let delay = MOUNT_DELAY.min(life / (MOUNTED_DIVISOR * 2));
    let before_end = life / MOUNTED_DIVISOR + delay;
    expires_at.checked_sub(before_end).unwrap_or(minted_at)
}

/// As [`spread`], for what is mounted.
pub fn spread_mounted(jitter: u8, minted_at: Timestamp) -> u8 {
    spread(jitter, minted_at) / MOUNTED_JITTER_DIVISOR
}

/// When a write is due.
#[derive(Clone, Copy, PartialEq, Eq)]
enum WriteDue {
    AtOnce,
    By(Timestamp),
}

fn find_mints(secret: &SecretState, now: Timestamp, next: &mut Option<Timestamp>) -> Vec<usize> {
    let credentials = || {
        let all = secret.entries.iter().enumerate();
        all.filter_map(|(place, entry)| Some((place, entry.credential?)))
    };
    // What may be renewed is renewed with what must be, or was just now: then all go out in one write.
    let is_renewing = credentials()
        .any(|(_, one)| one.minting_since.is_some() || one.due(now) <= now)
        || secret
            .entries
            .iter()
            .any(|entry| entry.entry_state.is_unwritten());
    let mut mint = Vec::new();
    for (place, one) in credentials().filter(|(_, one)| one.minting_since.is_none()) {
        if one.due(now) <= now || (is_renewing && one.may_mint(now)) {
            mint.push(place);
        } else if let Some(due) = one.renewal_due(now).filter(|due| *due > now) {
            // Who noted that it failed asks again by itself, and for all pull secrets at once.
            note_next(next, due);
        }
    }
    mint
}

fn find_write(
    secret: &SecretState,
    now: Timestamp,
    next: &mut Option<Timestamp>,
) -> Option<WriteDue> {
    let states = || secret.entries.iter().map(|entry| entry.entry_state);
    let is_missing = states().any(|one| matches!(one, EntryState::Missing | EntryState::Outdated));
    let first_end = states().filter_map(|one| match one {
        EntryState::Previous(until) => Some(until),
        EntryState::Current
        | EntryState::Outdated
        | EntryState::Missing
        | EntryState::Unavailable => None,
    });
    let first_end = first_end.min();
    if !is_missing && first_end.is_none() {
        return None;
    }
    if let Some(retry_at) = secret.retry_at.filter(|retry_at| *retry_at > now) {
        note_next(next, retry_at);
        return None;
    }
    // What failed last time may fail for hours: nothing waits for it.
    let credentials = secret.entries.iter().filter_map(|entry| entry.credential);
    let minting = credentials.filter(|one| one.retry_at.is_none());
    let last_minting = minting.filter_map(|one| one.minting_since).max();
    // However the clock is set meanwhile, nothing waits for longer.
    let is_gathered = last_minting.is_none_or(|since| now.duration_since(since).abs() >= GATHER);
    if is_missing && is_gathered {
        return Some(WriteDue::AtOnce);
    }
    if is_missing {
        let until = last_minting.and_then(|since| since.checked_add(GATHER).ok());
        note_next(next, until.unwrap_or(now));
        return None;
    }
    let until = first_end?;
    if last_minting.is_some() && until.duration_since(now) > TIME_TO_WAIT {
        note_next(next, until.checked_sub(TIME_TO_WAIT).unwrap_or(now));
        return None;
    }
    Some(WriteDue::By(until))
}

fn note_next(next: &mut Option<Timestamp>, at: Timestamp) {
    *next = Some(next.map_or(at, |next| next.min(at)));
}

#[cfg(test)]
mod tests;
