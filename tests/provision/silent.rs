//! Nobody is told anything.

use futures::FutureExt as _;
use futures::future::BoxFuture;
use jiff::Timestamp;
use pullpass::cluster::Notice;
use pullpass::controller::Teller;
use pullpass::provision::access::ClusterError;
use pullpass::registry::Listed;
use pullpass::registry::kind::RegistryStatus;

/// Nobody listens to what is told.
pub(crate) struct Silent;

impl Teller for Silent {
    fn apply_status<'a>(
        &'a self,
        _: &'a Listed,
        _: &'a RegistryStatus,
    ) -> BoxFuture<'a, Result<(), ClusterError>> {
        async { Ok(()) }.boxed()
    }

    fn publish<'a>(&'a self, _: &'a Notice, _: Timestamp) -> BoxFuture<'a, ()> {
        async {}.boxed()
    }
}
