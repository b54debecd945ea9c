//! What the controller shows of itself.

use std::collections::HashSet;
use std::sync::atomic::{AtomicI64, AtomicU64};

use jiff::Timestamp;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use crate::provision::decide::{Decision, EntryState};
use crate::provision::snapshot::Snapshot;

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
}

impl Metrics {
    /// Adds these gauges to what the metrics endpoint shows.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "pullpass_leader",
            "Whether this replica runs the controller",
            self.leader.clone(),
        );
        registry.register(
            "pullpass_namespaces",
            "Namespaces that a Registry serves, as the leader sees them",
            self.namespaces.clone(),
        );
        registry.register(
            "pullpass_namespaces_incomplete",
            "Namespaces whose pull secret lacks a valid login",
            self.incomplete.clone(),
        );
        registry.register(
            "pullpass_removals_blocked",
            "Pull secrets with a removal that is blocked until it is confirmed: too many at once",
            self.blocked.clone(),
        );
        registry.register_with_unit(
            "pullpass_credential_expiry_timestamp",
            "Earliest expiry of the minted credentials in use, Unix time; 0: none",
            Unit::Seconds,
            self.expiry.clone(),
        );
        registry.register(
            "pullpass_mints_failing",
            "Credentials in use whose last mint failed and is retried",
            self.mints_failing.clone(),
        );
        registry.register(
            "pullpass_pull_secret_writes_failing",
            "Pull secrets whose last write failed and is retried",
            self.writes_failing.clone(),
        );
        registry.register(
            "pullpass_renewal_rate_exceeded",
            "Renewals per second needed beyond the maximum; 0: none",
            self.overload.clone(),
        );
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
        }
    }

    /// How many mints and writes are tried again because they failed.
    pub(super) fn set_failing(&self, mints: usize, writes: usize) {
        self.mints_failing.set(count(mints));
        self.writes_failing.set(count(writes));
    }

    pub(super) fn set_snapshot(&self, snapshot: &Snapshot, decision: &Decision) {
        self.blocked.set(count(decision.blocked.len()));
        let beyond = decision
            .overload
            .map_or(0.0, |needed| needed - snapshot.view.rate.max);
        self.overload.set(beyond);
        let lacks = |entry_state: EntryState| {
            matches!(entry_state, EntryState::Missing | EntryState::Unavailable)
        };
        let (mut all, mut incomplete) = (HashSet::new(), HashSet::new());
        for (target, holding) in snapshot.secrets.iter().zip(&snapshot.view.secrets) {
            let namespace = target.namespace.name.as_str();
            all.insert(namespace);
            if holding.entries.iter().any(|piece| lacks(piece.entry_state)) {
                incomplete.insert(namespace);
            }
        }
        self.namespaces.set(count(all.len()));
        self.incomplete.set(count(incomplete.len()));
        let lives = snapshot.view.credentials.iter();
        let first = lives
            .filter_map(|life| life.minted.map(|(_, until)| until))
            .min();
        // The end itself, not the time left: so it stays true between two passes and after the end.
        self.expiry.set(first.map_or(0, Timestamp::as_second));
    }
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
