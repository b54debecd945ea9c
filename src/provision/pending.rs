//! What is said where a pull secret is not complete, whatever it lacks. Pure.

use super::{Namespace, Pending};

/// The namespace is being deleted.
pub(super) fn terminating(namespace: &Namespace) -> Pending {
    Pending {
        is_for_admins: false,
        registry: None,
        reason: "NamespaceTerminating",
        message: format!(
            "namespace {} is terminating: nothing is written into it",
            namespace.name
        ),
    }
}

/// Not all is there at the deadline.
pub(super) fn timed_out() -> Pending {
    Pending {
        is_for_admins: false,
        registry: None,
        reason: "Timeout",
        message: "timed out waiting for credentials: minting goes on in the background, the kubelet retries the pull"
            .to_owned(),
    }
}

/// The work ended by a panic.
pub(super) fn panicked() -> Pending {
    Pending {
        is_for_admins: false,
        registry: None,
        reason: "InternalError",
        message: "internal error: the task that writes the pull secret panicked, retried with the next Pod".to_owned(),
    }
}
