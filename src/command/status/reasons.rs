//! The reasons that `status` gives besides those of conditions: stable, and listed in docs/CHECK.md. What a condition, an Event or `check`
//! says, too, has the same name there.

/// Neither pullpass' webhook configuration nor its Deployment is there.
pub(super) const NOT_INSTALLED: &str = "NotInstalled";
/// The API server does not know the kind.
pub(super) const KIND_MISSING: &str = "KindMissing";
/// No webhook configuration calls pullpass.
pub(super) const WEBHOOK_MISSING: &str = "WebhookMissing";
/// The API server is not told whom to trust.
pub(super) const CA_BUNDLE_MISSING: &str = "CaBundleMissing";
/// The leader found that the API server does not reach the webhook.
pub(super) const WEBHOOK_NOT_CALLED: &str = "WebhookNotCalled";
/// Not all replicas are ready.
pub(super) const NOT_READY: &str = "NotReady";
/// No replica leads.
pub(super) const NO_LEADER: &str = "NoLeader";
/// The serving certificate has ended.
pub(super) const CERTIFICATE_ENDED: &str = "CertificateEnded";
/// It ends soon and was not renewed.
pub(super) const CERTIFICATE_EXPIRING: &str = "CertificateExpiring";

// A Registry.
/// It cannot be read.
pub(super) const UNREADABLE: &str = "Unreadable";
/// It breaks a rule.
pub(super) const INVALID: &str = "Invalid";
/// No replica that leads has looked at it.
pub(super) const NOT_RECONCILED: &str = "NotReconciled";
/// No replica that leads has looked at its present state.
pub(super) const CHANGED: &str = "Changed";
/// It is suspended.
pub(super) const SUSPENDED: &str = "Suspended";
/// It selects no namespace that opted in.
pub(super) const NO_MATCHING_NAMESPACES: &str = "NoMatchingNamespaces";

// A namespace.
/// There is none.
pub(super) const NAMESPACE_MISSING: &str = "NamespaceMissing";
/// It did not opt in.
pub(super) const NAMESPACE_NOT_OPTED_IN: &str = "NamespaceNotOptedIn";
/// Its label has a value that means nothing.
pub(super) const UNKNOWN_INJECT_VALUE: &str = "UnknownInjectValue";
/// It opted in and is excluded.
pub(super) const NAMESPACE_EXCLUDED: &str = "NamespaceExcluded";
/// No Registry selects it.
pub(super) const NAMESPACE_NOT_SELECTED: &str = "NamespaceNotSelected";
/// The pull secret is not there.
pub(super) const SECRET_NOT_WRITTEN: &str = "SecretNotWritten";
/// A login in it has ended.
pub(super) const LOGIN_ENDED: &str = "LoginEnded";
/// A Pod has no reference to a pull secret that its images need.
pub(super) const PULL_SECRET_NOT_REFERENCED: &str = "PullSecretNotReferenced";
