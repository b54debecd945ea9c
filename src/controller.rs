//! The controller: one replica keeps every pull secret as it must be, also where no Pod comes.
//!
//! ```text
//! leader (a Lease) ─▶ keep: survey (memory alone) ─▶ decide (pure) ─▶ mint, write, remove, tell
//!                  ─▶ missed: a page of Pending Pods ─▶ admission's judge ─▶ count, tell, evict
//! ```

mod election;
mod keep;
mod leader;
mod metrics;
pub mod missed;
mod report;
mod tell;

pub use keep::{Keeper, Leadership};
pub use leader::Candidate;
pub use metrics::Metrics;
pub use missed::Missed;
pub use tell::Teller;
