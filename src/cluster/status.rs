//! Registries' status.

use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::{FIELD_MANAGER, Kube, failure};
use crate::provision::access::ClusterError;
use crate::registry::Registry;
use crate::registry::kind::RegistryStatus;

impl Kube {
    /// Writes the status of the Registry of this name and uid.
    ///
    /// # Errors
    /// The API server cannot be reached or refuses; [`ClusterError::Conflict`] when it is another Registry by now.
    pub async fn apply_registry_status(
        &self,
        name: &str,
        uid: &str,
        status: &RegistryStatus,
    ) -> Result<(), ClusterError> {
        let api: Api<Registry> = Api::all(self.client.clone());
        let object = json!({
            "apiVersion": "pullpass.dev/v1alpha1",
            "kind": "Registry",
            "metadata": {"name": name, "uid": uid},
            "status": status,
        });
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        let patch = Patch::Apply(object);
        let applied = api.patch_status(name, &parameters, &patch);
        failure::request(&format!("registry {name}"), applied).await?;
        Ok(())
    }
}
