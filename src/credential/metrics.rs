//! What this room counts: mints by provider and outcome.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::metric::{self, ByLabel, Snake};
use crate::registry::source::MintSource;

/// Which API mints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Provider {
    Ecr,
    EcrPublic,
    Acr,
}

impl Provider {
    pub(crate) fn of(source: &MintSource) -> Self {
        match source {
            MintSource::Ecr(ecr) if ecr.public => Self::EcrPublic,
            MintSource::Ecr(_) => Self::Ecr,
            MintSource::Acr(_) => Self::Acr,
        }
    }

    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Ecr => "ecr",
            Self::EcrPublic => "ecr_public",
            Self::Acr => "acr",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Mints {
    provider: Snake<&'static str>,
    /// `Minted`, or the reason of the error ([`super::MintError::reason`]).
    outcome: Snake<&'static str>,
}

/// The mint metrics; cheap to clone, all clones count together.
#[derive(Clone)]
pub struct Metrics {
    mints: Family<Mints, Counter>,
    duration: ByLabel<&'static str, Histogram>,
}

impl Metrics {
    /// Creates the metrics and registers them in `registry` as `pullpass_mints_total` and `pullpass_mint_duration_seconds`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        metric::register(registry, "pullpass_mints", &metrics.mints);
        metric::register(
            registry,
            "pullpass_mint_duration_seconds",
            &metrics.duration,
        );
        metrics
    }

    pub(crate) fn count(&self, provider: Provider, outcome: &'static str, took: Duration) {
        let provider = provider.label();
        let mints = Mints {
            provider: Snake(provider),
            outcome: Snake(outcome),
        };
        self.mints.get_or_create(&mints).inc();
        self.duration.of(provider).observe(took.as_secs_f64());
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let histogram = || Histogram::new([0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0]);
        Self {
            mints: Family::default(),
            duration: ByLabel::new("provider", histogram),
        }
    }
}
