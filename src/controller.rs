//! The controller: one replica keeps every pull secret as it must be, also where no Pod comes.

mod election;
mod leader;

pub use leader::Candidate;
