//! The controller: one replica keeps every pull secret as it must be, also where no Pod comes.
//!
//! ```text
//! leader (a Lease) ─▶ reconciler: one pull secret that changed (memory alone) ─▶ decide (pure) ─▶ mint, write, remove, status
//!                  ─▶ cert_rotation: our own certificates ─▶ decide (pure) ─▶ Secret, caBundle
//!                  ─▶ missed_pods: a page of Pending Pods ─▶ admission::PodChecker ─▶ count, Event
//!                  ─▶ login_checks: a fixed login that is another one ─▶ its registry ─▶ status
//!                  ─▶ node_lists: which nodes' kubelets asked ─▶ status, missed_pods
//!                  ─▶ credential_gc: what has ended, or whose tenant is gone ─▶ delete
//! ```

mod cert_rotation;
mod conditions;
mod credential_gc;
mod election;
mod leader_election;
mod leadership;
mod login_checks;
mod metrics;
pub mod missed_pods;
mod node_lists;
mod reconciler;
mod removal_guard;
mod status;

pub use cert_rotation::{CertRotator, WRONG_CLOCK};
pub use credential_gc::CredentialGc;
pub use leader_election::LeaderElector;
pub use leadership::Leadership;
pub use login_checks::{CheckedLogins, LoginCheckLoop, Metrics as LoginCheckMetrics};
pub use metrics::Metrics;
pub use missed_pods::MissedPodScanner;
pub use node_lists::{NodeListLoop, SeenNodes};
#[cfg(test)]
pub(crate) use reconciler::mint_retries::SourceFailure;
pub use reconciler::{Reconciler, RenewalRate};
pub use status::StatusWriter;

/// A moment for tests, so many seconds after another one.
#[cfg(test)]
fn at(seconds: i64) -> jiff::Timestamp {
    jiff::Timestamp::from_second(1_800_000_000 + seconds).expect("it is a moment")
}
