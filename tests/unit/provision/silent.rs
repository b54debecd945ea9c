//! Nobody is told anything.

use futures::FutureExt as _;
use futures::future::BoxFuture;
use jiff::Timestamp;
use pullpass::cluster::EventNote;
use pullpass::controller::StatusWriter;
use pullpass::provision::ports::ClusterError;
use pullpass::registry::RegistryInfo;
use pullpass::registry::crd::RegistryStatus;

/// Nobody listens to what is told.
pub(crate) struct Silent;

impl StatusWriter for Silent {
    fn apply_status<'a>(
        &'a self,
        _: &'a RegistryInfo,
        _: &'a RegistryStatus,
    ) -> BoxFuture<'a, Result<(), ClusterError>> {
        async { Ok(()) }.boxed()
    }

    fn publish<'a>(&'a self, _: &'a EventNote, _: Timestamp) -> BoxFuture<'a, ()> {
        async {}.boxed()
    }
}
