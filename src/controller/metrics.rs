//! What the controller shows of itself.

use std::collections::HashSet;
use std::sync::atomic::{AtomicI64, AtomicU64};

use jiff::Timestamp;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use crate::provision::decide::{Decision, Stands};
use crate::provision::survey::Survey;

/// Gauges of the replica that leads. Clones show the same.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    leader: Gauge<i64, AtomicI64>,
    namespaces: Gauge<i64, AtomicI64>,
    incomplete: Gauge<i64, AtomicI64>,
    expiry: Gauge<f64, AtomicU64>,
    held_back: Gauge<i64, AtomicI64>,
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
            "Those of them with a pull secret that lacks a good login",
            self.incomplete.clone(),
        );
        registry.register(
            "pullpass_removals_held_back",
            "Pull secrets that something is taken out of only when somebody confirms it: too many at once",
            self.held_back.clone(),
        );
        registry.register_with_unit(
            "pullpass_credential_expiry",
            "Seconds until the first of the minted credentials in use ends, when it was last looked",
            Unit::Seconds,
            self.expiry.clone(),
        );
    }

    pub(super) fn set_leader(&self, leads: bool) {
        self.leader.set(i64::from(leads));
        if !leads {
            self.namespaces.set(0);
            self.incomplete.set(0);
            self.expiry.set(0.0);
            self.held_back.set(0);
        }
    }

    pub(super) fn set_survey(&self, survey: &Survey, decision: &Decision, now: Timestamp) {
        self.held_back.set(count(decision.held_back.len()));
        let lacks = |stands: Stands| matches!(stands, Stands::Missing | Stands::Unavailable);
        let (mut all, mut incomplete) = (HashSet::new(), HashSet::new());
        for (place, holding) in survey.secrets.iter().zip(&survey.view.secrets) {
            let namespace = place.namespace.name.as_str();
            all.insert(namespace);
            if holding.entries.iter().any(|piece| lacks(piece.stands)) {
                incomplete.insert(namespace);
            }
        }
        self.namespaces.set(count(all.len()));
        self.incomplete.set(count(incomplete.len()));
        let lives = survey.view.credentials.iter();
        let first = lives
            .filter_map(|life| life.minted.map(|(_, until)| until))
            .min();
        let left = first.map_or(0.0, |until| until.duration_since(now).as_secs_f64());
        self.expiry.set(left);
    }
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
