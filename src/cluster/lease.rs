//! The Lease by which replicas agree on who runs the controller.
//!
//! <https://kubernetes.io/docs/concepts/architecture/leases/>

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use serde_json::json;

use super::api::Objects;
use super::apply::swap_as;
use super::{FIELD_MANAGER, Kube, objects};
use crate::names::ObjectName;
use crate::provision::PULL_SECRET;
use crate::provision::ports::{ClusterError, Precondition, Version};

/// A Lease as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseRecord {
    /// The state that was read; it changes with every renewal.
    pub version: Version,
    /// Who holds it; empty when nobody does.
    pub holder: String,
    /// How long after a renewal nobody else may take it.
    pub duration: Duration,
    /// When the holder took it.
    pub acquired: Timestamp,
    /// How often it has changed hands.
    pub transitions: i32,
    /// What people wrote into its annotation [`CONFIRM_ANNOTATION`].
    pub confirmed: Option<String>,
}

/// As whom the Lease is created with its owner, which it keeps since whoever renews it says nothing of owners.
const CREATOR: &str = "pullpass-create";

/// The annotation by which people confirm removals that were held back.
pub const CONFIRM_ANNOTATION: &str = "pullpass.dev/confirm-removal";

/// What is written into a Lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseSpec {
    /// Who holds it; empty to give it back.
    pub holder: String,
    /// How long after this renewal nobody else may take it; whole seconds, at least one.
    pub duration: Duration,
    /// When the holder took it.
    pub acquired: Timestamp,
    /// How often it has changed hands.
    pub transitions: i32,
}

impl Kube {
    /// Reads the Lease live; `None`: there is none.
    ///
    /// # Errors
    /// The API server cannot be reached or refuses.
    pub async fn fetch_lease(&self) -> Result<Option<LeaseRecord>, ClusterError> {
        let found = self.leases().get(&lease_name()).await?;
        Ok(found.map(|lease| self.read_lease(lease)))
    }

    /// Writes the Lease, a new one with its owner where that is known ([`Kube::bind_lease_to`]), if what is there is still what `precondition` says; `now` is the renewal that people see, nothing is ever
    /// decided by it.
    ///
    /// # Errors
    /// [`ClusterError::Conflict`] when another writer changed it in between.
    pub async fn apply_lease(
        &self,
        term: &LeaseSpec,
        precondition: &Precondition,
        now: Timestamp,
    ) -> Result<LeaseRecord, ClusterError> {
        let mut object = json!({
            "spec": {
                "holderIdentity": term.holder,
                "leaseDurationSeconds": term.duration.as_secs().max(1),
                "acquireTime": MicroTime(term.acquired),
                "renewTime": MicroTime(now),
                "leaseTransitions": term.transitions,
            },
        });
        // Only at its creation, which everybody may: who changes owners may need the right to delete the object.
        // <https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/#ownerreferencespermissionenforcement>
        let manager = match (precondition, self.lease_owner.get()) {
            (Precondition::Absent, Some(owner)) => {
                object["metadata"] = json!({"ownerReferences": [owner]});
                CREATOR
            }
            _ => FIELD_MANAGER,
        };
        let applied = swap_as(manager, &self.leases(), &lease_name(), object, precondition).await;
        applied.map(|lease| self.read_lease(lease))
    }

    /// Reads a Lease. Every candidate reads it every few seconds, and never an older state of it, unless the cluster
    /// was restored to an earlier one.
    fn read_lease(&self, lease: Lease) -> LeaseRecord {
        let held = read_lease(lease);
        self.revision.observe(&held.version.resource_version);
        held
    }

    pub(super) fn leases(&self) -> Objects<'_, Lease> {
        Objects::namespaced(self, &self.namespace)
    }
}

fn lease_name() -> ObjectName {
    ObjectName::constant(PULL_SECRET)
}

fn read_lease(lease: Lease) -> LeaseRecord {
    let spec = lease.spec.unwrap_or_default();
    let seconds = spec.lease_duration_seconds.unwrap_or_default();
    LeaseRecord {
        version: objects::read_version(&lease.metadata),
        confirmed: lease
            .metadata
            .annotations
            .and_then(|mut annotations| annotations.remove(CONFIRM_ANNOTATION)),
        holder: spec.holder_identity.unwrap_or_default(),
        duration: Duration::from_secs(u64::try_from(seconds).unwrap_or_default()),
        acquired: spec
            .acquire_time
            .map_or(Timestamp::UNIX_EPOCH, |time| time.0),
        transitions: spec.lease_transitions.unwrap_or_default(),
    }
}
