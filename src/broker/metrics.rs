//! Counters of the broker.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::refusal::Reason;
use crate::metric::{ByLabel, register};

/// Seconds; the plug-in waits for two.
const BUCKETS: [f64; 12] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0,
];

/// What the broker counts. Clones count together.
#[derive(Clone, Debug)]
pub struct Metrics {
    requests: ByLabel<&'static str, Counter>,
    reviews: ByLabel<ReviewOutcome, Counter>,
    duration: Histogram,
}

/// How it was found out whose a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum ReviewOutcome {
    /// The API server said it.
    Authenticated,
    /// It said so a moment ago.
    Remembered,
    /// The API server does not accept the token, or does not say all of whose it is.
    Refused,
    /// There was no answer.
    Failed,
    /// Nobody was asked: by what the token says of itself it cannot be good.
    InvalidClaims,
    /// Nobody was asked: too many were refused, or are being reviewed.
    RateLimited,
}

impl ReviewOutcome {
    const ALL: [Self; 6] = [
        Self::Authenticated,
        Self::Remembered,
        Self::Refused,
        Self::Failed,
        Self::InvalidClaims,
        Self::RateLimited,
    ];
}

/// The word for a request that got its login.
const SERVED: &str = "Served";

impl Default for Metrics {
    fn default() -> Self {
        let refused = Reason::ALL.map(Reason::as_str);
        let requests = ByLabel::new("outcome", Counter::default);
        Self {
            requests: requests.with(refused.into_iter().chain([SERVED])),
            reviews: ByLabel::new("outcome", Counter::default).with(ReviewOutcome::ALL),
            duration: Histogram::new(BUCKETS),
        }
    }
}

impl Metrics {
    /// Adds these counters to what the metrics endpoint shows.
    pub fn register(&self, registry: &mut Registry) {
        register(registry, "pullpass_broker_requests", &self.requests);
        register(
            registry,
            "pullpass_broker_request_duration_seconds",
            &self.duration,
        );
        register(registry, "pullpass_broker_token_reviews", &self.reviews);
    }

    /// Counts a request: answered, or why not.
    pub(super) fn count(&self, refused: Option<Reason>, took: Duration) {
        self.requests
            .of(refused.map_or(SERVED, Reason::as_str))
            .inc();
        self.duration.observe(took.as_secs_f64());
    }

    pub(super) fn count_review(&self, outcome: ReviewOutcome) {
        self.reviews.of(outcome).inc();
    }
}
