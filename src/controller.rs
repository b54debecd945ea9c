//! The controller: one replica keeps every pull secret as it must be, also where no Pod comes.
//!
//! ```text
//! leader (a Lease) ─▶ keep: survey (memory alone) ─▶ decide (pure) ─▶ mint, write
//! ```

mod election;
mod keep;
mod leader;
mod metrics;

pub use keep::Keeper;
pub use leader::Candidate;
pub use metrics::Metrics;
