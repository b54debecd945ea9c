//! The controller: one replica keeps every pull secret as it must be, also where no Pod comes.
//!
//! ```text
//! leader (a Lease) ─▶ keep: survey (memory alone) ─▶ decide (pure) ─▶ mint, write, remove, tell
//!                  ─▶ certify: the certificates of our own ─▶ decide (pure) ─▶ Secret, caBundle
//!                  ─▶ missed: a page of Pending Pods ─▶ admission's judge ─▶ count, tell
//!                  ─▶ credential_gc: what has ended, or whose tenant is gone ─▶ delete
//! ```

mod again;
mod certify;
mod credential_gc;
mod election;
mod keep;
mod leader;
mod metrics;
pub mod missed;
mod report;
mod tell;
mod term;

pub use certify::Certifier;
pub use credential_gc::CredentialGc;
pub use keep::Keeper;
pub use leader::Candidate;
pub use metrics::Metrics;
pub use missed::Missed;
pub use tell::Teller;
pub use term::Leadership;

/// A moment for tests, so many seconds after another one.
#[cfg(test)]
fn at(seconds: i64) -> jiff::Timestamp {
    jiff::Timestamp::from_second(1_800_000_000 + seconds).expect("it is a moment")
}
