//! What is shown of the certificates that pullpass makes.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::label::Snake;

/// Gauges and counters. Clones show the same.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    distrusting: Gauge,
    missing: Gauge,
    writes: Family<CaBundleWriteLabels, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CaBundleWriteLabels {
    outcome: Snake<&'static str>,
}

impl Metrics {
    /// Adds these to what the metrics endpoint shows.
    pub fn register(&self, registry: &mut Registry) {
        for outcome in ["Written", "Conflict"] {
            drop(self.writes.get_or_create(&CaBundleWriteLabels {
                outcome: Snake(outcome),
            }));
        }
        registry.register(
            "pullpass_ca_bundle_mismatches",
            "Webhooks of pullpass whose caBundle does not trust the serving certificate",
            self.distrusting.clone(),
        );
        registry.register(
            "pullpass_webhook_configurations_missing",
            "Webhook configurations of pullpass that do not exist or cannot be read",
            self.missing.clone(),
        );
        registry.register(
            "pullpass_ca_bundle_writes",
            "Updates of caBundle in pullpass' webhook configurations, by outcome",
            self.writes.clone(),
        );
    }

    /// How many of our webhooks do not trust what is served.
    pub fn set_distrusting(&self, webhooks: usize) {
        self.distrusting
            .set(i64::try_from(webhooks).unwrap_or(i64::MAX));
    }

    /// How many configurations of our webhooks are not there.
    pub fn set_missing(&self, configurations: usize) {
        self.missing
            .set(i64::try_from(configurations).unwrap_or(i64::MAX));
    }

    /// Counts a write of `caBundle`: `Written`, or the reason of the error.
    pub fn count_write(&self, outcome: &'static str) {
        self.writes
            .get_or_create(&CaBundleWriteLabels {
                outcome: Snake(outcome),
            })
            .inc();
    }
}
