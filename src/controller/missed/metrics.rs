//! What is shown of missed Pods.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::schedule::Ended;

/// Missed Pods as the replica that leads saw them last. Clones show the same.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    missed: Family<StateLabels, Gauge<u64, AtomicU64>>,
    looks: Family<OutcomeLabels, Counter>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
enum State {
    Hanging,
    Waiting,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
enum Outcome {
    Done,
    Failed,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabels {
    state: State,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: Outcome,
}

impl Metrics {
    /// Adds these to what the metrics endpoint shows.
    pub fn register(&self, registry: &mut Registry) {
        self.clear();
        for outcome in [Outcome::Done, Outcome::Failed] {
            drop(self.looks.get_or_create(&OutcomeLabels { outcome }));
        }
        registry.register(
            "pullpass_missed_pods",
            "Pending Pods that do not reference the pull secret which their images need, when they were last looked for",
            self.missed.clone(),
        );
        registry.register(
            "pullpass_missed_pods_looks",
            "Looks at all Pending Pods for missed ones, by how they ended",
            self.looks.clone(),
        );
    }

    pub(super) fn set_missed(&self, hanging: u64, waiting: u64) {
        for (state, number) in [(State::Hanging, hanging), (State::Waiting, waiting)] {
            self.missed
                .get_or_create(&StateLabels { state })
                .set(number);
        }
    }

    /// Nothing is known of missed Pods here.
    pub(super) fn clear(&self) {
        self.set_missed(0, 0);
    }

    pub(super) fn count_look(&self, ended: Ended) {
        let outcome = match ended {
            Ended::Well => Outcome::Done,
            Ended::Forbidden | Ended::Badly => Outcome::Failed,
        };
        self.looks.get_or_create(&OutcomeLabels { outcome }).inc();
    }
}
