//! What this room counts.

use futures::{Stream, StreamExt as _};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use crate::provision::access::ClusterError;

/// Counters of what is read and written. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    writes: Family<Labels, Counter>,
    watches: Family<WatchLabels, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WatchLabels {
    /// What is watched.
    kind: &'static str,
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
        registry.register(
            "pullpass_watch_failures",
            "Lists and watches that failed, each time they were tried",
            self.watches.clone(),
        );
    }

    /// The same events of a watch; those that are failures are counted.
    pub(super) fn count_failures<T, E, S>(
        &self,
        kind: &'static str,
        events: S,
    ) -> impl Stream<Item = Result<T, E>> + use<T, E, S>
    where
        S: Stream<Item = Result<T, E>>,
    {
        let failures = self.watches.get_or_create(&WatchLabels { kind }).clone();
        events.inspect(move |event| {
            if event.is_err() {
                failures.inc();
            }
        })
    }

    pub(super) fn count_write<T>(&self, answer: &Result<T, ClusterError>) {
        let outcome = match answer {
            Ok(_) => "Written",
            Err(error) => error.reason(),
        };
        self.writes.get_or_create(&Labels { outcome }).inc();
    }
}
