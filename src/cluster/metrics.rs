//! What this room counts.

use futures::{Stream, StreamExt as _};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use tokio::time::Instant;

use super::watch_throttle::WatchRequests;
use crate::metric::{ByLabel, register, register_sampled};
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
        register(registry, "pullpass_pull_secret_writes", &self.writes);
        register(registry, "pullpass_watch_failures", &self.watches);
        register(
            registry,
            "pullpass_api_answers_mismatched",
            &self.mismatches,
        );
        let watches = self.watch_requests.clone();
        let age = move || ConstGauge::new(watches.age(Instant::now()).as_secs_f64());
        register_sampled(registry, "pullpass_watch_age_seconds", age);
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
