//! What is to be done next about the certificates. Pure.

use jiff::{SignedDuration, Timestamp};

use super::Validity;

/// How long certificates are good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ValidityPeriods {
    /// The serving certificate.
    pub serving: SignedDuration,
    /// The authority that signs it.
    pub authority: SignedDuration,
}

/// The longest wait between two steps of an authority's replacement: every API server has read the new `caBundle` long before, and
/// every replica the new pair.
const OVERLAP: SignedDuration = SignedDuration::from_mins(5);

impl ValidityPeriods {
    /// How long a step of an authority's replacement must have been in place before the next is taken.
    pub fn overlap(&self) -> SignedDuration {
        OVERLAP.min(self.authority / 20).min(self.serving / 10)
    }
}

/// What is held, as far as its times matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CertificateView {
    /// The authority that signs from now on.
    pub authority: Validity,
    /// The serving certificate.
    pub serving: Validity,
    /// Whether that authority signed it; otherwise an older one did, which is trusted as well.
    pub is_signed_by_authority: bool,
    /// Whether an older authority is trusted, too.
    pub trusts_old_ca: bool,
    /// Whether the serving certificate is good for every name that it is asked for.
    pub has_names: bool,
}

impl CertificateView {
    /// Whether the serving certificate is due for its regular replacement, which overwrites no other writer's change.
    pub fn is_serving_due(&self, now: Timestamp) -> bool {
        !self.is_signed_by_authority || due(self.serving) <= now
    }

    /// Whether one of them was made by a clock that was wrong, or ours is: then it is made anew.
    pub fn is_from_future(&self, now: Timestamp) -> bool {
        self.authority.is_from_future(now) || self.serving.is_from_future(now)
    }

    /// Whether TLS clients take nothing of it: then there is nothing to lose.
    fn is_unusable(&self, now: Timestamp) -> bool {
        self.authority.until <= now || self.authority.is_not_yet_valid(now)
    }
}

/// What the API server trusts, by the `caBundle` of our webhooks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bundle {
    /// There is no webhook of ours, or it was not read yet.
    Unknown,
    /// Something else than what is to be trusted; it may be written from then on.
    Differs(Timestamp),
    /// Just what is to be trusted, since then.
    Holds(Timestamp),
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RotationStep {
    /// Make an authority and a serving certificate: there are none that could be used.
    CreateAll,
    /// Write the `caBundle` of our webhooks.
    WriteBundle,
    /// Make a serving certificate, signed by the authority.
    RenewServing,
    /// Make another authority, trusted beside the one there is, which still signed the serving certificate.
    RotateCa,
    /// Trust the older authority no more.
    DropOldCa,
    /// Nothing before then, unless something changes.
    Wait(Timestamp),
}

/// What to do next, at `now`.
///
/// What has expired is replaced at once; then the caBundle is updated, since all else depends on it. At two thirds of its life
/// the serving certificate is replaced; the authority likewise, in three steps with [`ValidityPeriods::overlap`] between them: trusted, signing,
/// alone. What was made in the future is replaced at once, in the same steps as long as callers take it all the same.
pub fn decide(
    now: Timestamp,
    held: Option<&CertificateView>,
    bundle: Bundle,
    lives: ValidityPeriods,
) -> RotationStep {
    let Some(held) = held.filter(|held| !held.is_unusable(now)) else {
        return RotationStep::CreateAll;
    };
    let mut next = Wake(held.authority.until);
    match bundle {
        Bundle::Differs(from) if from <= now => return RotationStep::WriteBundle,
        Bundle::Differs(from) => next.at(from),
        Bundle::Unknown | Bundle::Holds(_) => {}
    }
    next.at(held.serving.until);
    let is_refused = held.serving.until <= now || held.serving.is_not_yet_valid(now);
    let is_wrong = !held.has_names || held.serving.is_from_future(now);
    if held.authority.is_from_future(now) {
        return RotationStep::RotateCa;
    }
    if is_refused || (is_wrong && held.is_signed_by_authority) {
        return RotationStep::RenewServing;
    }
    let overlap = lives.overlap();
    let settled = match bundle {
        Bundle::Holds(since) => Some(later(since, overlap)),
        Bundle::Unknown | Bundle::Differs(_) => None,
    };
    if !held.is_signed_by_authority {
        return match settled {
            Some(at) if at <= now => RotationStep::RenewServing,
            at => next.wait(at),
        };
    }
    if held.trusts_old_ca {
        let served = later(held.serving.made, overlap);
        match settled.map(|at| at.max(served)) {
            Some(at) if at <= now => return RotationStep::DropOldCa,
            Some(at) => next.at(at),
            None => {}
        }
    } else {
        let due = due(held.authority);
        if due <= now {
            return RotationStep::RotateCa;
        }
        next.at(due);
    }
    // One that cannot outlive its authority is not replaced in a loop: the authority's replacement brings a new one.
    let may_live_longer = held.serving.until < held.authority.until;
    let due = due(held.serving);
    if may_live_longer && due <= now {
        return RotationStep::RenewServing;
    }
    next.wait(may_live_longer.then_some(due))
}

/// Two thirds of a life.
fn due(life: Validity) -> Timestamp {
    let all = life.until.duration_since(life.made);
    later(life.made, all / 3 * 2)
}

fn later(time: Timestamp, wait: SignedDuration) -> Timestamp {
    time.checked_add(wait).unwrap_or(Timestamp::MAX)
}

/// The first of several times.
struct Wake(Timestamp);

impl Wake {
    fn at(&mut self, time: Timestamp) {
        self.0 = self.0.min(time);
    }

    fn wait(mut self, time: Option<Timestamp>) -> RotationStep {
        if let Some(time) = time {
            self.at(time);
        }
        RotationStep::Wait(self.0)
    }
}

#[cfg(test)]
mod tests;
