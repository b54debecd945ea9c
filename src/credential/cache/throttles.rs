//! The throttles of all accounts, and those who wait for their turn.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use moka::sync::Cache;
use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;

use super::account_throttle::{AccountThrottle, RequestEnd, Turn};
use super::caller_clock::CallerClock;
use crate::credential::{MintError, retry_after};

/// How long one waits for its turn behind others that are under way.
const TURN_TIMEOUT: Duration = Duration::from_secs(1);
/// How often it looks whether another one has ended: a history of the model is replayed by its timers alone.
const TURN_POLL: Duration = Duration::from_millis(20);
/// How many accounts are known at once, and for how long after they were asked: longer than any is left alone.
const MAX_ACCOUNTS: u64 = 10_000;
const ACCOUNT_TTI: Duration = retry_after::LONGEST.saturating_mul(2);

/// The throttles by the scope of the limit ([`super::account_throttle::scope_of`]).
pub(super) struct Throttles {
    accounts: Cache<String, Arc<Account>>,
    seeds: RandomState,
}

struct Account {
    state: Mutex<AccountState>,
}

struct AccountState {
    throttle: AccountThrottle,
    /// Why it is left alone.
    why: Option<Arc<MintError>>,
}

/// Why one may not ask now, and how long that holds.
pub(super) struct HeldOff {
    pub(super) why: Arc<MintError>,
    pub(super) wait: SignedDuration,
}

impl Throttles {
    pub(super) fn new() -> Self {
        let accounts = Cache::builder().max_capacity(MAX_ACCOUNTS);
        Self {
            accounts: accounts.time_to_idle(ACCOUNT_TTI).build(),
            seeds: RandomState::new(),
        }
    }

    /// Waits for a turn, at most a second: one that hangs holds up nobody else.
    pub(super) async fn turn(
        &self,
        scope: String,
        clock: CallerClock,
    ) -> Result<ThrottleTurn, HeldOff> {
        let seed = self.seeds.hash_one(&scope);
        let account = self.accounts.get_with(scope, || {
            Arc::new(Account {
                state: Mutex::new(AccountState {
                    throttle: AccountThrottle::new(seed, clock.now()),
                    why: None,
                }),
            })
        });
        let deadline = Instant::now() + TURN_TIMEOUT;
        let mut is_late = false;
        while account.admit(is_late, clock.now())? == Turn::AfterAnother {
            tokio::time::sleep(TURN_POLL).await;
            is_late = Instant::now() >= deadline;
        }
        Ok(ThrottleTurn {
            account,
            clock,
            end: RequestEnd::Other,
        })
    }
}

impl Account {
    fn state(&self) -> MutexGuard<'_, AccountState> {
        self.state.lock()
    }

    fn admit(&self, is_late: bool, now: Timestamp) -> Result<Turn, HeldOff> {
        let mut state = self.state();
        let turn = if is_late {
            state.throttle.admit_anyway(now)
        } else {
            state.throttle.admit(now)
        };
        match (turn, &state.why) {
            (Turn::Later(wait), Some(why)) => Err(HeldOff {
                why: Arc::clone(why),
                wait,
            }),
            _ => Ok(turn),
        }
    }
}

/// A request that is under way, until this is dropped.
pub(super) struct ThrottleTurn {
    account: Arc<Account>,
    clock: CallerClock,
    end: RequestEnd,
}

impl ThrottleTurn {
    /// Notes how the request ended.
    pub(super) fn note<T>(&mut self, minted: &Result<T, MintError>) {
        self.end = match minted {
            Ok(_) => RequestEnd::Minted,
            Err(error) if error.is_throttled() => {
                self.account.state().why = Some(Arc::new(error.clone()));
                RequestEnd::Throttled(error.retry_after().unwrap_or_default())
            }
            Err(_) => RequestEnd::Other,
        };
    }
}

impl Drop for ThrottleTurn {
    fn drop(&mut self) {
        let now = self.clock.now();
        self.account.state().throttle.end(self.end, now);
    }
}
