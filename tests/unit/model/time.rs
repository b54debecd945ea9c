//! Time in the model: tokio's own, paused, plus what is skipped; and pullpass' clock, which may be wrong.

use std::cell::Cell;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

thread_local! {
    static BEGAN: Cell<Option<Instant>> = const { Cell::new(None) };
    static SKIPPED: Cell<SignedDuration> = const { Cell::new(SignedDuration::ZERO) };
    static WRONG: Cell<SignedDuration> = const { Cell::new(SignedDuration::ZERO) };
}

/// Begins at a fixed time.
pub(crate) fn begin() {
    BEGAN.set(Some(Instant::now()));
    SKIPPED.set(SignedDuration::ZERO);
    WRONG.set(SignedDuration::ZERO);
}

/// Lets time pass in which nothing runs.
pub(crate) fn skip(time: SignedDuration) {
    SKIPPED.set(SKIPPED.get() + time);
}

/// Lets time pass. Of a long time nothing runs for the most part, and then a minute passes: so long nothing waits at most.
pub(crate) async fn pass(time: SignedDuration) {
    let awake = time.min(SignedDuration::from_mins(1));
    skip(time - awake);
    tokio::time::sleep(awake.unsigned_abs()).await;
}

/// Steps pullpass' clock to so far from the truth.
pub(crate) fn step(wrong: SignedDuration) {
    WRONG.set(wrong);
}

/// The true time.
pub(crate) fn truth() -> Timestamp {
    let began: Timestamp = "2026-11-21T10:00:00Z".parse().unwrap();
    let passed = BEGAN.get().map(|began| began.elapsed()).unwrap_or_default();
    began + SignedDuration::try_from(passed).unwrap() + SKIPPED.get()
}

/// What pullpass reads.
pub(crate) fn clock() -> Timestamp {
    truth() + WRONG.get()
}
