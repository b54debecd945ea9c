//! What is shown of the certificates that pullpass makes.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::metric::{ByLabel, register, to_gauge};

/// Gauges and counters. Clones show the same.
#[derive(Clone, Debug)]
pub struct Metrics {
    distrusting: Gauge,
    missing: Gauge,
    writes: ByLabel<&'static str, Counter>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            distrusting: Gauge::default(),
            missing: Gauge::default(),
            writes: ByLabel::new("outcome", Counter::default).with(["Written", "Conflict"]),
        }
    }
}

impl Metrics {
    /// Adds these to what the metrics endpoint shows.
    pub fn register(&self, registry: &mut Registry) {
        register(registry, "pullpass_ca_bundle_mismatches", &self.distrusting);
        register(
            registry,
            "pullpass_webhook_configurations_missing",
            &self.missing,
        );
        register(registry, "pullpass_ca_bundle_writes", &self.writes);
    }

    /// How many of our webhooks do not trust what is served.
    pub fn set_distrusting(&self, webhooks: usize) {
        self.distrusting.set(to_gauge(webhooks));
    }

    /// How many configurations of our webhooks are not there.
    pub fn set_missing(&self, configurations: usize) {
        self.missing.set(to_gauge(configurations));
    }

    /// Counts a write of `caBundle`: `Written`, or the reason of the error.
    pub fn count_write(&self, outcome: &'static str) {
        self.writes.of(outcome).inc();
    }
}
