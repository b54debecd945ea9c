//! The broker: what the kubelet's credential provider plug-in asks, with a token of the Pod that pulls.
//!
//! ```text
//! POST /v1/credentials ─▶ protocol ─▶ token ─▶ verifier (TokenReview) ─▶ claims ─▶ decide ─▶ credential of one image
//! ```
//!
//! Nothing of a token is believed that the API server does not say of it ([`claims`]); by what it says of itself it can be refused
//! (`token`). Then the Registries decide as they do for a Pod that is created ([`decide`]), and the credential is the one of the credential
//! store. The node that a token names is where its Pod is to run, and not who asks: `docs/SECURITY.md` has what follows from that.
//!
//! <https://kubernetes.io/docs/tasks/administer-cluster/kubelet-credential-provider/>

mod attempts;
pub mod claims;
pub mod client;
mod concurrency_limit;
pub mod decide;
mod handler;
mod issuer;
mod metrics;
mod pod_reader;
pub mod ports;
pub mod protocol;
pub mod refusal;
mod review_budget;
mod token;
mod verifier;

pub use handler::router;
pub use issuer::Broker;
pub use metrics::Metrics;
