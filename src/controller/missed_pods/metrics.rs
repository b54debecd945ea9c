//! What is shown of missed Pods.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::schedule::ScanOutcome;
use crate::metric::{ByLabel, register};

/// Missed Pods as the replica that leads saw them last. Clones show the same.
#[derive(Clone, Debug)]
pub struct Metrics {
    missed: ByLabel<MissedState, Gauge<u64, AtomicU64>>,
    not_called: Gauge<u64, AtomicU64>,
    not_asked: Gauge<u64, AtomicU64>,
    scans: ByLabel<&'static str, Counter>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum MissedState {
    ImagePullFailing,
    Pending,
}

impl Default for Metrics {
    fn default() -> Self {
        let missed = ByLabel::new("state", Gauge::default);
        let scans = ByLabel::new("outcome", Counter::default);
        Self {
            missed: missed.with([MissedState::ImagePullFailing, MissedState::Pending]),
            not_called: Gauge::default(),
            not_asked: Gauge::default(),
            scans: scans.with(["Succeeded", "Failed"]),
        }
    }
}

impl Metrics {
    /// Adds these to what the metrics endpoint shows.
    pub fn register(&self, registry: &mut Registry) {
        register(registry, "pullpass_missed_pods", &self.missed);
        register(registry, "pullpass_webhook_not_called", &self.not_called);
        register(registry, "pullpass_missed_pod_scans", &self.scans);
        register(registry, "pullpass_pods_node_not_asked", &self.not_asked);
    }

    pub(super) fn set_missed(&self, image_pull_failing: u64, waiting: u64) {
        let missed = &self.missed;
        missed
            .of(MissedState::ImagePullFailing)
            .set(image_pull_failing);
        missed.of(MissedState::Pending).set(waiting);
    }

    /// Nothing is known of missed Pods here.
    pub(super) fn clear(&self) {
        self.set_missed(0, 0);
        self.set_not_called(false);
        self.set_not_asked(0);
    }

    pub(super) fn set_not_asked(&self, pods: u64) {
        self.not_asked.set(pods);
    }

    pub(super) fn set_not_called(&self, is_so: bool) {
        self.not_called.set(is_so.into());
    }

    pub(super) fn count_scan(&self, ended: ScanOutcome) {
        let outcome = match ended {
            ScanOutcome::Succeeded => "Succeeded",
            ScanOutcome::Forbidden | ScanOutcome::Errored => "Failed",
        };
        self.scans.of(outcome).inc();
    }
}
