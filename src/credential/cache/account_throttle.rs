//! How fast an account is asked that throttles: what all mints behind one limit share. Pure.
//!
//! A limit of a cloud counts for an account and a region, or for a registry, whoever asks; other clusters are behind the same one and know
//! nothing of each other. So whoever begins does it slowly, as TCP does, and whoever is throttled asks one at a time, at intervals that
//! grow when it is throttled again and shrink, more slowly, with each success. What is left alone meanwhile asks nobody.
//!
//! <https://docs.aws.amazon.com/AmazonECR/latest/userguide/common-errors.html>,
//! <https://www.rfc-editor.org/rfc/rfc5681#section-3.1>

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::clock::RetryTimer;
use crate::registry::arn::RoleArn;
use crate::registry::source::{EcrIdentity, EcrSource, MintSource};

/// The interval after the first time that an account throttles, and the longest. Of two hundred clusters with fifty credentials each, none
/// loses one behind a limit of 20 requests a second: `tests/throttled_account.rs` is where these were measured.
const FIRST: Duration = Duration::from_secs(16);
const LONGEST: Duration = Duration::from_secs(30);
/// Below this an interval is none any more.
const SHORTEST: Duration = Duration::from_secs(1);
/// What an interval grows by when the account throttles again, and shrinks by with each success.
const GROWTH: f64 = 2.0;
const SHRINKAGE: f64 = 0.97;
/// After so long without a request, one begins slowly again.
const IDLE: SignedDuration = SignedDuration::from_mins(1);

/// What one account, in one place, takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct AccountThrottle {
    /// Between two requests; zero: it does not throttle.
    interval: Duration,
    /// When the next request may begin, where it throttles.
    next: RetryTimer,
    /// How many may be under way, where it does not, and how many successes there were since that number grew.
    window: u32,
    successes: u32,
    /// How many are under way, and when the last one ended.
    running: u32,
    ended_at: Timestamp,
    /// Spreads those who know nothing of each other.
    seed: u64,
}

/// Whether a request may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Now; it is under way from here on.
    Now,
    /// When another one has ended.
    AfterAnother,
    /// Not before so long.
    Later(SignedDuration),
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RequestEnd {
    /// With a credential.
    Minted,
    /// The account throttles, and asks to wait so long.
    Throttled(Duration),
    /// In another way, which says nothing of what the account takes.
    Other,
}

impl AccountThrottle {
    /// One that nothing is known of. Its intervals differ from those of others by `seed`.
    pub(super) fn new(seed: u64, now: Timestamp) -> Self {
        Self {
            interval: Duration::ZERO,
            next: RetryTimer::after(SignedDuration::ZERO, now),
            window: 1,
            successes: 0,
            running: 0,
            ended_at: now,
            seed,
        }
    }

    /// Whether a request may begin at `now`; if so, it is under way.
    pub(super) fn admit(&mut self, now: Timestamp) -> Turn {
        if self.is_throttling() {
            let left = self.next.at(now).duration_since(now);
            if left.is_positive() {
                return Turn::Later(left);
            }
            self.space(Duration::ZERO, now);
        } else {
            if self.running == 0 && now.duration_since(self.ended_at).abs() > IDLE {
                (self.window, self.successes) = (1, 0);
            }
            if self.running >= self.window {
                return Turn::AfterAnother;
            }
        }
        self.running += 1;
        Turn::Now
    }

    /// Has one begin that has waited for long enough: one that hangs holds up nobody else.
    pub(super) fn admit_anyway(&mut self, now: Timestamp) -> Turn {
        match self.admit(now) {
            Turn::AfterAnother => {
                self.running += 1;
                Turn::Now
            }
            turn => turn,
        }
    }

    /// A request that was under way has ended.
    pub(super) fn end(&mut self, end: RequestEnd, now: Timestamp) {
        self.running = self.running.saturating_sub(1);
        self.ended_at = now;
        match end {
            RequestEnd::Throttled(asked) => self.slow_down(asked, now),
            RequestEnd::Minted if self.is_throttling() => {
                self.interval = self.interval.mul_f64(SHRINKAGE);
                if self.interval < SHORTEST {
                    *self = Self {
                        running: self.running,
                        ..Self::new(self.seed, now)
                    };
                }
            }
            RequestEnd::Minted => {
                self.successes += 1;
                if self.successes >= self.window {
                    (self.window, self.successes) = (self.window.saturating_add(1), 0);
                }
            }
            RequestEnd::Other => {}
        }
    }

    /// Whether it throttled lately.
    fn is_throttling(&self) -> bool {
        !self.interval.is_zero()
    }

    /// It throttles. What was under way together is told so together: that counts once.
    fn slow_down(&mut self, asked: Duration, now: Timestamp) {
        let is_known = self.is_throttling() && self.next.at(now) > now && self.running > 0;
        if !is_known {
            let grown = self.interval.mul_f64(GROWTH);
            self.interval = grown.clamp(FIRST, LONGEST);
        }
        self.space(asked, now);
    }

    /// The next request begins after the interval, give or take a half of it, and not before what was asked for.
    fn space(&mut self, asked: Duration, now: Timestamp) {
        // SplitMix64: <https://prng.di.unimi.it/splitmix64.c>.
        self.seed = self.seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.seed ^ (self.seed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        let part = f64::from((mixed >> 32) as u32) / f64::from(u32::MAX);
        let wait = self.interval.mul_f64(0.5 + part).max(asked);
        let wait = SignedDuration::try_from(wait).unwrap_or(SignedDuration::MAX);
        self.next = RetryTimer::after(wait, now);
    }
}

/// Whose limit a mint counts against, as far as that is known before it: the account that asks, in a region; the registry.
pub(super) fn scope_of(source: &MintSource) -> String {
    match source {
        MintSource::Ecr(ecr) => format!("{} {} {}", ecr.public, ecr.region, account_of(ecr)),
        MintSource::Acr(acr) => acr.server.clone(),
    }
}

/// The account of the last role that is assumed, else a word for the identity.
fn account_of(source: &EcrSource) -> &str {
    let hop = source.assume_roles.last().map(|hop| hop.role_arn.as_str());
    let role = match &source.identity {
        EcrIdentity::Tenant { role_arn, .. } => Some(role_arn.as_str()),
        _ => None,
    };
    let account = hop.or(role).and_then(|arn| RoleArn::parse(arn).ok());
    match (account, &source.identity) {
        (Some(role), _) => role.account,
        (None, EcrIdentity::Keys { secret }) => secret,
        (None, EcrIdentity::Node) => "node",
        (None, _) => "workload",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_idle(throttle: &AccountThrottle) -> bool {
        throttle.running == 0 && !throttle.is_throttling()
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    #[test]
    fn lets_one_more_begin_each_time_that_all_were_minted() {
        let mut throttle = AccountThrottle::new(1, at(0));
        let mut rounds = Vec::new();
        for _ in 0..4 {
            let mut begun = 0;
            while throttle.admit(at(0)) == Turn::Now {
                begun += 1;
            }
            assert_eq!(throttle.admit(at(0)), Turn::AfterAnother);
            for _ in 0..begun {
                throttle.end(RequestEnd::Minted, at(0));
            }
            rounds.push(begun);
        }
        assert_eq!(rounds, [1, 2, 3, 4]);
        assert!(is_idle(&throttle));
    }

    #[test]
    fn begins_slowly_again_after_a_pause() {
        let mut throttle = AccountThrottle::new(1, at(0));
        throttle.window = 8;
        assert_eq!(throttle.admit(at(60)), Turn::Now);
        assert_eq!(throttle.admit(at(60)), Turn::Now);
        throttle.end(RequestEnd::Minted, at(60));
        throttle.end(RequestEnd::Minted, at(60));
        assert_eq!(throttle.admit(at(121)), Turn::Now);
        assert_eq!(throttle.admit(at(121)), Turn::AfterAnother);
    }

    #[test]
    fn asks_one_at_a_time_after_it_was_throttled_and_sooner_with_each_success() {
        let mut throttle = AccountThrottle::new(1, at(0));
        assert_eq!(throttle.admit(at(0)), Turn::Now);
        throttle.end(RequestEnd::Throttled(Duration::ZERO), at(0));
        let Turn::Later(first) = throttle.admit(at(0)) else {
            panic!("it may ask at once");
        };
        assert!((8..=24).contains(&first.as_secs()), "{first:?}");
        let mut now = at(0);
        let mut asked = 0;
        while !is_idle(&throttle) {
            match throttle.admit(now) {
                Turn::Now => {
                    asked += 1;
                    assert!(matches!(throttle.admit(now), Turn::Later(_)));
                    throttle.end(RequestEnd::Minted, now);
                }
                Turn::Later(wait) => now += wait,
                Turn::AfterAnother => panic!("there is no other"),
            }
        }
        // log(16) / log(1 / 0.97)
        assert_eq!(asked, 92);
    }

    #[test]
    fn waits_longer_each_time_it_is_throttled_within_bounds() {
        let mut throttle = AccountThrottle::new(7, at(0));
        let mut now = at(0);
        for round in 0..20 {
            assert_eq!(throttle.admit(now), Turn::Now, "{round}");
            throttle.end(RequestEnd::Throttled(Duration::ZERO), now);
            let Turn::Later(wait) = throttle.admit(now) else {
                panic!("{round}");
            };
            assert!(wait.as_secs() <= 45, "{wait:?}");
            now += wait;
        }
        assert_eq!(throttle.interval, LONGEST);
        // What the other side asks for counts where it is longer.
        assert_eq!(throttle.admit(now), Turn::Now);
        throttle.end(RequestEnd::Throttled(Duration::from_mins(5)), now);
        let wait = SignedDuration::from_mins(5);
        assert_eq!(throttle.admit(now), Turn::Later(wait));
        // A clock that was put back has nobody wait for longer.
        assert_eq!(
            throttle.admit(now - SignedDuration::from_hours(1)),
            Turn::Now
        );
    }

    #[test]
    fn counts_once_what_was_throttled_together() {
        let mut throttle = AccountThrottle::new(1, at(0));
        throttle.window = 8;
        for _ in 0..8 {
            assert_eq!(throttle.admit(at(0)), Turn::Now);
        }
        for _ in 0..7 {
            throttle.end(RequestEnd::Throttled(Duration::ZERO), at(0));
        }
        assert_eq!(throttle.interval, FIRST);
    }

    #[test]
    fn holds_up_nobody_for_one_that_hangs() {
        let mut throttle = AccountThrottle::new(1, at(0));
        assert_eq!(throttle.admit(at(0)), Turn::Now);
        assert_eq!(throttle.admit(at(1)), Turn::AfterAnother);
        assert_eq!(throttle.admit_anyway(at(1)), Turn::Now);
        throttle.end(RequestEnd::Other, at(2));
        throttle.end(RequestEnd::Other, at(30));
        assert!(is_idle(&throttle));
    }
}
