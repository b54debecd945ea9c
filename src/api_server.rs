//! What the API server gives and takes, whoever asks it for what: one state of one object, and why a request failed. Pure.

/// Which state of an object a write is for: every write is a compare-and-swap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Precondition {
    /// Nothing of this name is there.
    Absent,
    /// This very state of this very object is there.
    Exactly(Version),
}

/// One state of one object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Version {
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.resourceVersion`.
    pub resource_version: String,
}

/// Why a request to the cluster failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClusterError {
    /// Another writer changed it in between.
    #[error("conflict: {what} was modified by another writer -> reading and merging again")]
    Conflict {
        /// What was to be written.
        what: String,
    },
    /// The API server does not know who asks: that is not a missing right.
    #[error(
        "unauthenticated: {what}: {message} -> retrying; if it lasts, restart pullpass: its token expired, or its ServiceAccount was recreated"
    )]
    Unauthenticated {
        /// What was asked for.
        what: String,
        /// The API server's words.
        message: String,
    },
    /// The API server refuses.
    #[error("forbidden: {what}: {message} -> check pullpass' RBAC (manifests/rbac.yaml)")]
    Forbidden {
        /// What was asked for.
        what: String,
        /// The API server's words.
        message: String,
    },
    /// The namespace is being deleted, or gone.
    #[error("cannot write {what}: its namespace is terminating or deleted")]
    NamespaceGone {
        /// What was to be written.
        what: String,
    },
    /// What is asked about is not there.
    #[error("{what} not found")]
    NotFound {
        /// What was asked for.
        what: String,
    },
    /// The API server rejects the object: because of its form, a quota, a policy or a webhook.
    #[error(
        "rejected by the API server: {what}: {message} -> check the quota, policy or field that it names"
    )]
    Rejected {
        /// What was to be written.
        what: String,
        /// The API server's words.
        message: String,
    },
    /// The answer is not the object that was asked for: it is not believed.
    #[error("{message}, asked for {what} -> check for a proxy between pullpass and the API server")]
    Mismatch {
        /// What was asked for.
        what: String,
        /// What of the answer is another one's.
        message: String,
    },
    /// The API server cannot be reached, is overloaded, or answers nothing sensible.
    #[error("{what} failed: {message} -> retrying")]
    Unreachable {
        /// What was asked for.
        what: String,
        /// What went wrong.
        message: String,
    },
}

impl ClusterError {
    /// The kind of failure, from a closed set, for metrics and logs.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Conflict { .. } => "Conflict",
            Self::Unauthenticated { .. } => "Unauthenticated",
            Self::Forbidden { .. } => "Forbidden",
            Self::NamespaceGone { .. } => "NamespaceTerminating",
            Self::NotFound { .. } => "NotFound",
            Self::Rejected { .. } => "Rejected",
            Self::Mismatch { .. } => "ObjectMismatch",
            Self::Unreachable { .. } => "Unreachable",
        }
    }
}
