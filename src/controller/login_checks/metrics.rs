//! What is shown of fixed logins.

use std::sync::atomic::AtomicI64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::metric::{ByLabel, register, to_gauge};
use crate::provision::ports::LoginOutcome;

/// Fixed logins as the replica that leads found them. Clones show the same.
#[derive(Clone, Debug)]
pub struct Metrics {
    checks: ByLabel<OutcomeLabel, Counter>,
    refused: Gauge<i64, AtomicI64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum OutcomeLabel {
    Taken,
    Refused,
    Unknown,
}

impl Default for Metrics {
    fn default() -> Self {
        let checks = ByLabel::new("outcome", Counter::default);
        Self {
            checks: checks.with([
                OutcomeLabel::Taken,
                OutcomeLabel::Refused,
                OutcomeLabel::Unknown,
            ]),
            refused: Gauge::default(),
        }
    }
}

impl Metrics {
    /// Adds these to what the metrics endpoint shows.
    pub fn register(&self, registry: &mut Registry) {
        register(registry, "pullpass_login_checks", &self.checks);
        register(registry, "pullpass_logins_refused", &self.refused);
    }

    pub(super) fn count(&self, outcome: &LoginOutcome) {
        let label = match outcome {
            LoginOutcome::Taken => OutcomeLabel::Taken,
            LoginOutcome::Refused { .. } => OutcomeLabel::Refused,
            LoginOutcome::Unknown { .. } => OutcomeLabel::Unknown,
        };
        self.checks.of(label).inc();
    }

    pub(super) fn set_refused(&self, count: usize) {
        self.refused.set(to_gauge(count));
    }
}
