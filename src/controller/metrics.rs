//! What the controller shows of itself.

mod registries;

use std::sync::atomic::{AtomicI64, AtomicU64};

use jiff::Timestamp;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::reconciler::index::Index;
use crate::metric::{register, to_gauge};
pub(super) use registries::RegistryGauges;

/// Gauges of the replica that leads. Clones show the same.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    leader: Gauge<i64, AtomicI64>,
    namespaces: Gauge<i64, AtomicI64>,
    incomplete: Gauge<i64, AtomicI64>,
    expiry: Gauge<i64, AtomicI64>,
    mints_failing: Gauge<i64, AtomicI64>,
    writes_failing: Gauge<i64, AtomicI64>,
    overload: Gauge<f64, AtomicU64>,
    blocked: Gauge<i64, AtomicI64>,
    reconciles: Counter,
    registries: RegistryGauges,
}

impl Metrics {
    /// Adds these gauges to what the metrics endpoint shows.
    pub fn register(&self, registry: &mut Registry) {
        register(registry, "pullpass_leader", &self.leader);
        register(registry, "pullpass_namespaces", &self.namespaces);
        register(registry, "pullpass_namespaces_incomplete", &self.incomplete);
        register(registry, "pullpass_removals_blocked", &self.blocked);
        register(
            registry,
            "pullpass_credential_expiry_timestamp_seconds",
            &self.expiry,
        );
        register(registry, "pullpass_mints_failing", &self.mints_failing);
        register(
            registry,
            "pullpass_pull_secret_writes_failing",
            &self.writes_failing,
        );
        register(registry, "pullpass_reconciles", &self.reconciles);
        register(registry, "pullpass_renewal_rate_exceeded", &self.overload);
        registry.register_collector(Box::new(self.registries.clone()));
    }

    pub(super) fn set_leader(&self, leads: bool) {
        self.leader.set(i64::from(leads));
        if !leads {
            self.namespaces.set(0);
            self.incomplete.set(0);
            self.expiry.set(0);
            self.mints_failing.set(0);
            self.writes_failing.set(0);
            self.overload.set(0.0);
            self.blocked.set(0);
            self.registries.retain(|_| false);
        }
    }

    /// What is shown of each Registry.
    pub(super) fn registries(&self) -> &RegistryGauges {
        &self.registries
    }

    pub(super) fn count_reconcile(&self) {
        self.reconciles.inc();
    }

    /// How many mints and writes are tried again because they failed.
    pub(super) fn set_failing(&self, mints: usize, writes: usize) {
        self.mints_failing.set(to_gauge(mints));
        self.writes_failing.set(to_gauge(writes));
    }

    pub(super) fn set_index(&self, index: &Index, blocked: usize, overload: f64) {
        let (namespaces, incomplete) = index.namespaces();
        self.namespaces.set(to_gauge(namespaces));
        self.incomplete.set(to_gauge(incomplete));
        self.blocked.set(to_gauge(blocked));
        self.overload.set(overload);
    }

    /// The end itself, not the time left: so it stays true meanwhile, and after the end.
    pub(super) fn set_expiry(&self, first_end: Option<Timestamp>) {
        self.expiry.set(first_end.map_or(0, Timestamp::as_second));
    }
}
