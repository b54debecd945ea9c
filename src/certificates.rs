//! The certificates that pullpass makes itself: its own authority, and the serving certificate signed by it.
//!
//! ```text
//! Secret ─▶ Held (parsed, verified) ─▶ decide (pure: times alone) ─▶ another Held, or the webhooks' caBundle
//! ```
//!
//! Who calls must trust an authority before anything is served that it signed, and as long as anything is. So a new authority is first
//! trusted beside the old one, then signs, and only then the old one goes.

mod certificate_set;
pub mod decide;
mod make;
mod metrics;
mod rewrite_backoff;

pub use certificate_set::{CertificateSet, Damage, find_end, is_trusted};
pub use make::{Authority, MakeError, Pair, Validity};
pub use metrics::Metrics;
pub use rewrite_backoff::RewriteBackoff;
