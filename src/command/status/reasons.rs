//! The reasons that `status` gives besides those of conditions: stable, and listed in docs/CHECK.md. What a condition or an Event says, too,
//! has the same name there; what `check` finds, too, is the same constant.

pub(super) use crate::command::check::ids::{
    CA_BUNDLE_MISSING, INVALID, KIND_MISSING, NAMESPACE_EXCLUDED, NAMESPACE_MISSING,
    NAMESPACE_NOT_OPTED_IN, NAMESPACE_NOT_SELECTED, NOT_INSTALLED, PULL_SECRET_NOT_REFERENCED,
    SECRET_NOT_WRITTEN, SUSPENDED, UNKNOWN_INJECT_VALUE, UNREADABLE, VALIDATING_WEBHOOK_MISSING,
    WEBHOOK_MISSING, WEBHOOK_NOT_CALLED,
};

/// Not all replicas are ready.
pub(super) const NOT_READY: &str = "NotReady";
/// No replica leads.
pub(super) const NO_LEADER: &str = "NoLeader";
/// The serving certificate has ended.
pub(super) const CERTIFICATE_ENDED: &str = "CertificateEnded";
/// It ends soon and was not renewed.
pub(super) const CERTIFICATE_EXPIRING: &str = "CertificateExpiring";
/// No replica that leads has looked at it.
pub(super) const NOT_RECONCILED: &str = "NotReconciled";
/// No replica that leads has looked at its present state.
pub(super) const CHANGED: &str = "Changed";
/// It selects no namespace that opted in.
pub(super) const NO_MATCHING_NAMESPACES: &str = "NoMatchingNamespaces";
/// A login in it has ended.
pub(super) const LOGIN_ENDED: &str = "LoginEnded";
