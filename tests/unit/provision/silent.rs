//! Nobody is told anything.

use async_trait::async_trait;
use jiff::Timestamp;
use pullpass::cluster::EventNote;
use pullpass::controller::StatusWriter;
use pullpass::provision::ports::ClusterError;
use pullpass::registry::RegistryInfo;
use pullpass::registry::crd::RegistryStatus;

/// Nobody listens to what is told.
pub(crate) struct Silent;

#[async_trait]
impl StatusWriter for Silent {
    async fn apply_status(&self, _: &RegistryInfo, _: &RegistryStatus) -> Result<(), ClusterError> {
        Ok(())
    }

    async fn publish(&self, _: &EventNote, _: Timestamp) {}
}
