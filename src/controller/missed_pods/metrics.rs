//! What is shown of missed Pods.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::schedule::ScanOutcome;
use crate::label::Snake;

/// Missed Pods as the replica that leads saw them last. Clones show the same.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    missed: Family<StateLabels, Gauge<u64, AtomicU64>>,
    not_called: Gauge<u64, AtomicU64>,
    scans: Family<OutcomeLabels, Counter>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum MissedState {
    ImagePullFailing,
    Pending,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum ScanOutcomeLabel {
    Succeeded,
    Failed,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabels {
    state: Snake<MissedState>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: Snake<ScanOutcomeLabel>,
}

impl Metrics {
    /// Adds these to what the metrics endpoint shows.
    pub fn register(&self, registry: &mut Registry) {
        self.clear();
        for outcome in [ScanOutcomeLabel::Succeeded, ScanOutcomeLabel::Failed] {
            drop(self.scans.get_or_create(&OutcomeLabels {
                outcome: Snake(outcome),
            }));
        }
        registry.register(
            "pullpass_missed_pods",
            "Pending Pods without the pull secret reference that their images need, as of the last scan",
            self.missed.clone(),
        );
        registry.register(
            "pullpass_webhook_not_called",
            "Whether the API server creates Pods in opted-in namespaces and asks no replica about any of them",
            self.not_called.clone(),
        );
        registry.register(
            "pullpass_missed_pod_scans",
            "Scans of Pending Pods for missed ones, by outcome",
            self.scans.clone(),
        );
    }

    pub(super) fn set_missed(&self, image_pull_failing: u64, waiting: u64) {
        for (state, number) in [
            (MissedState::ImagePullFailing, image_pull_failing),
            (MissedState::Pending, waiting),
        ] {
            self.missed
                .get_or_create(&StateLabels {
                    state: Snake(state),
                })
                .set(number);
        }
    }

    /// Nothing is known of missed Pods here.
    pub(super) fn clear(&self) {
        self.set_missed(0, 0);
        self.set_not_called(false);
    }

    pub(super) fn set_not_called(&self, is_so: bool) {
        self.not_called.set(is_so.into());
    }

    pub(super) fn count_scan(&self, ended: ScanOutcome) {
        let outcome = match ended {
            ScanOutcome::Succeeded => ScanOutcomeLabel::Succeeded,
            ScanOutcome::Forbidden | ScanOutcome::Errored => ScanOutcomeLabel::Failed,
        };
        self.scans
            .get_or_create(&OutcomeLabels {
                outcome: Snake(outcome),
            })
            .inc();
    }
}
