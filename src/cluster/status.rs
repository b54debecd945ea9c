//! Registries' status.

use kube::api::PatchParams;
use serde_json::json;

use super::api::Objects;
use super::{FIELD_MANAGER, Kube};
use crate::names::ObjectName;
use crate::provision::ports::ClusterError;
use crate::registry::Registry;
use crate::registry::crd::RegistryStatus;

impl Kube {
    /// Writes the status of the Registry of this name and uid.
    ///
    /// # Errors
    /// The API server cannot be reached or refuses; [`ClusterError::Conflict`] when it is another Registry by now.
    pub async fn apply_registry_status(
        &self,
        name: &ObjectName,
        uid: &str,
        status: &RegistryStatus,
    ) -> Result<(), ClusterError> {
        let object = json!({"metadata": {"uid": uid}, "status": status});
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        let registries = Objects::<Registry>::cluster_scoped(self);
        let applied = registries.apply_status(name, object, &parameters).await;
        applied.map(drop)
    }
}
