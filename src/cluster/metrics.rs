//! What this room counts.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use crate::provision::access::ClusterError;

/// Counters of what is written into the cluster. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    writes: Family<Labels, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    /// `Written`, or the reason of the error ([`ClusterError::reason`]).
    outcome: &'static str,
}

impl Metrics {
    /// Adds these counters to what the metrics endpoint shows.
    pub fn register(&self, registry: &mut Registry) {
        for outcome in ["Written", "Conflict"] {
            drop(self.writes.get_or_create(&Labels { outcome }));
        }
        registry.register(
            "pullpass_pull_secret_writes",
            "Writes of pull secrets by how they ended",
            self.writes.clone(),
        );
    }

    pub(super) fn count_write<T>(&self, answer: &Result<T, ClusterError>) {
        let outcome = match answer {
            Ok(_) => "Written",
            Err(error) => error.reason(),
        };
        self.writes.get_or_create(&Labels { outcome }).inc();
    }
}
