//! What this room counts.

use std::fmt;

use futures::{Stream, StreamExt as _};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use tokio::time::Instant;

use super::watch_throttle::WatchRequests;
use crate::metric::{ByLabel, register};
use crate::provision::ports::ClusterError;

/// Counters of what is read and written. Clones count together.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// By `Written`, `Deleted`, or the reason of the error ([`ClusterError::reason`]).
    writes: ByLabel<&'static str, Counter>,
    /// By what is watched.
    watches: ByLabel<&'static str, Counter>,
    mismatches: Counter,
    watch_requests: WatchRequests,
}

/// How old the data about the cluster may be, computed at each scrape.
#[derive(Debug)]
struct WatchAge(WatchRequests);

impl Collector for WatchAge {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let age = ConstGauge::new(self.0.age(Instant::now()).as_secs_f64());
        let metric = encoder.encode_descriptor(
            "pullpass_watch_age_seconds",
            "Seconds since the oldest watch was last accepted by the API server",
            None,
            age.metric_type(),
        )?;
        age.encode(metric)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let writes = ByLabel::new("outcome", Counter::default);
        Self {
            writes: writes.with(["Written", "Deleted", "Conflict"]),
            watches: ByLabel::new("kind", Counter::default),
            mismatches: Counter::default(),
            watch_requests: WatchRequests::default(),
        }
    }
}

impl Metrics {
    /// Counters that also report how old these watches are.
    pub(super) fn of(watch_requests: WatchRequests) -> Self {
        Self {
            watch_requests,
            ..Self::default()
        }
    }

    /// Adds these counters to what the metrics endpoint shows.
    pub fn register(&self, registry: &mut Registry) {
        let help = "Writes and deletions of pull secrets, by outcome";
        register(registry, "pullpass_pull_secret_writes", help, &self.writes);
        let help = "Failed list and watch requests, retries included";
        register(registry, "pullpass_watch_failures", help, &self.watches);
        let help = "Answers and watch events of the API server that were not the object asked for, and were not believed";
        register(
            registry,
            "pullpass_api_answers_mismatched",
            help,
            &self.mismatches,
        );
        registry.register_collector(Box::new(WatchAge(self.watch_requests.clone())));
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
        let failures = self.watches.of(kind);
        events.inspect(move |event| {
            if event.is_err() {
                failures.inc();
            }
        })
    }

    /// Counts an answer that is not the object that was asked for.
    pub(super) fn count_mismatch(&self) {
        self.mismatches.inc();
    }

    /// Counts a write of a pull secret; `done` says what it is when it ends well.
    pub(super) fn count_write<T>(&self, answer: &Result<T, ClusterError>, done: &'static str) {
        let outcome = match answer {
            Ok(_) => done,
            Err(error) => error.reason(),
        };
        self.writes.of(outcome).inc();
    }
}
