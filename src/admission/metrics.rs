//! Counters of admission.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::metric::{ByLabel, Snake, register};

/// Seconds; a warm review takes some ten microseconds, a cold one waits for a cloud.
const BUCKETS: [f64; 15] = [
    0.0001, 0.000_25, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    10.0,
];

/// What admission counts. Clones count together.
#[derive(Clone, Debug)]
pub struct Metrics {
    admissions: Family<AdmissionLabels, Counter>,
    duration: ByLabel<CacheResult, Histogram>,
    validations: Family<ValidationLabels, Counter>,
    /// Microseconds; 0: never.
    answered: Arc<AtomicI64>,
}

/// What came of a review.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AdmissionOutcome {
    /// The Pod references a secret that holds what its images need.
    Injected,
    /// The Pod references the secret, in which something is still missing.
    Pending,
    /// The Pod is admitted unchanged.
    Unchanged,
    /// The body was no review: 4xx.
    Refused,
    /// The handler panicked; the Pod is admitted unchanged. Where the body was not read yet: 500.
    Panicked,
}

/// Whether memory knew the answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum CacheResult {
    /// It did.
    #[default]
    Hit,
    /// Something had to be read, minted or written.
    Miss,
}

/// What is validated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// A Registry.
    Registry,
    /// A Pod in its final state.
    Pod,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Validation {
    /// Admitted, and nothing to say.
    Allowed,
    /// Admitted with a warning.
    Warned,
    /// Refused.
    Denied,
    /// The handler panicked, and admitted it.
    Panicked,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ValidationLabels {
    subject: Snake<Subject>,
    outcome: Snake<Validation>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AdmissionLabels {
    outcome: Snake<AdmissionOutcome>,
    reason: Snake<&'static str>,
    cache: Snake<CacheResult>,
}

impl AdmissionLabels {
    fn new(outcome: AdmissionOutcome, reason: &'static str, cache: CacheResult) -> Self {
        Self {
            outcome: Snake(outcome),
            reason: Snake(reason),
            cache: Snake(cache),
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            admissions: Family::default(),
            duration: ByLabel::new("cache", || Histogram::new(BUCKETS)),
            validations: Family::default(),
            answered: Arc::default(),
        }
    }
}

impl Metrics {
    /// Adds these counters to what the metrics endpoint shows.
    pub fn register(&self, registry: &mut Registry) {
        register(registry, "pullpass_admissions", &self.admissions);
        register(
            registry,
            "pullpass_admission_duration_seconds",
            &self.duration,
        );
        register(registry, "pullpass_validations", &self.validations);
    }

    /// Counts one review. `reason` is one of a closed set, empty where there is nothing to say.
    pub(super) fn count(
        &self,
        outcome: AdmissionOutcome,
        reason: &'static str,
        cache: CacheResult,
        took: Duration,
    ) {
        let labels = AdmissionLabels::new(outcome, reason, cache);
        self.admissions.get_or_create(&labels).inc();
        self.duration.of(cache).observe(took.as_secs_f64());
    }

    /// Counts one object that was validated.
    pub(super) fn count_validation(&self, subject: Subject, outcome: Validation) {
        let labels = ValidationLabels {
            subject: Snake(subject),
            outcome: Snake(outcome),
        };
        self.validations.get_or_create(&labels).inc();
    }

    /// Counts a request in which no review was read.
    pub(super) fn count_unread(&self, outcome: AdmissionOutcome) {
        let labels = AdmissionLabels::new(outcome, "", CacheResult::Hit);
        self.admissions.get_or_create(&labels).inc();
    }

    /// A review was answered, at `now`.
    pub(super) fn record_response(&self, now: Timestamp) {
        self.answered.store(now.as_microsecond(), Ordering::Relaxed);
    }

    /// When a review was last answered: shows whether the API server reaches the webhook. `None`: not yet.
    pub fn last_response(&self) -> Option<Timestamp> {
        let answered = self.answered.load(Ordering::Relaxed);
        let answered = Timestamp::from_microsecond(answered).ok();
        answered.filter(|answered| *answered != Timestamp::UNIX_EPOCH)
    }

    /// How many reviews had this outcome so far.
    pub fn counted(
        &self,
        outcome: AdmissionOutcome,
        reason: &'static str,
        cache: CacheResult,
    ) -> u64 {
        let labels = AdmissionLabels::new(outcome, reason, cache);
        let counter = self.admissions.get(&labels);
        counter.map_or(0, |counter| counter.get())
    }
}
