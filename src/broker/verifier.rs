//! Asking the API server whose a token is: not too often, not for too long, and not twice in a moment.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use secrecy::SecretString;
use tokio::time::{Instant, timeout_at};

use super::claims::{self, PodIdentity};
use super::metrics::{Metrics, ReviewOutcome};
use super::ports::{BrokerCluster, ClusterError};
use super::protocol::AUDIENCE;
use super::refusal::{Reason, Refusal};
use super::review_budget::ReviewBudget;
use super::token;
use crate::log_throttle::LogThrottle;
use crate::plain_text;
use crate::provision::read_cache::ReadCache;

/// How long a good answer is relied on: a Pod with many images asks for each of them. The API server may have kept it for 10 s before.
const TRUSTED_FOR: Duration = Duration::from_secs(5);

/// Of how many tokens that is.
const TRUSTED_MAX: u64 = 10_000;

/// How long the API server may take, its turn included: the plug-in waits for 2 s in all.
const REVIEW_TIMEOUT: Duration = Duration::from_millis(1200);

/// How long a token waits for its turn to be reviewed, and a Pod to be read. The request has the rest of the time: a slow API server would
/// else be asked for answers that come too late for anybody.
pub(super) const TURN_TIMEOUT: Duration = Duration::from_millis(500);

/// What came of a review.
#[derive(Clone, Debug)]
enum Review {
    /// It is this Pod's.
    Accepted(Arc<PodIdentity>),
    /// It is refused, and why.
    Refused(String),
    /// The API server was not asked.
    NotAsked,
}

/// Says whose a token is.
pub(super) struct Verifier {
    cluster: Arc<dyn BrokerCluster>,
    /// By the digest of the token.
    known: ReadCache<[u8; 32], Review>,
    budget: Arc<ReviewBudget>,
    metrics: Metrics,
    failures: LogThrottle<&'static str>,
    clock: fn() -> Timestamp,
}

impl Verifier {
    pub(super) fn new(
        cluster: Arc<dyn BrokerCluster>,
        metrics: Metrics,
        clock: fn() -> Timestamp,
    ) -> Self {
        // What was refused is asked again: a Pod's token may be good a moment later.
        let relied_on = |review: &Review| match review {
            Review::Accepted(_) => TRUSTED_FOR,
            Review::Refused(_) | Review::NotAsked => Duration::ZERO,
        };
        Self {
            cluster,
            known: ReadCache::new(TRUSTED_MAX, relied_on),
            budget: Arc::default(),
            metrics,
            failures: LogThrottle::default(),
            clock,
        }
    }

    /// The Pod that a token is of, which comes from this address. What the token says of itself only spares the API server the question.
    ///
    /// # Errors
    /// The token is refused, or nobody can say.
    pub(super) async fn verify(
        &self,
        token: &SecretString,
        address: IpAddr,
    ) -> Result<Arc<PodIdentity>, Refusal> {
        if let Err(error) = token::check(token, AUDIENCE, (self.clock)()) {
            self.metrics.count_review(ReviewOutcome::InvalidClaims);
            return Err(Refusal::new(Reason::Unauthenticated, error.to_string()));
        }
        let review = self.review(token.clone(), address);
        match self.known.find(plain_text::digest(token), review).await {
            Ok((Review::Accepted(pod), is_new)) => {
                self.metrics.count_review(if is_new {
                    ReviewOutcome::Authenticated
                } else {
                    ReviewOutcome::Remembered
                });
                Ok(pod)
            }
            Ok((Review::Refused(why), _)) => {
                self.metrics.count_review(ReviewOutcome::Refused);
                Err(Refusal::new(Reason::Unauthenticated, why))
            }
            Ok((Review::NotAsked, _)) => {
                self.metrics.count_review(ReviewOutcome::RateLimited);
                Err(too_many(address))
            }
            Err(error) => Err(self.report_failure(&error)),
        }
    }

    fn report_failure(&self, failure: &ClusterError) -> Refusal {
        self.metrics.count_review(ReviewOutcome::Failed);
        if let Some(suppressed) = self.failures.admit(failure.reason()) {
            tracing::warn!(
                suppressed,
                "a token could not be reviewed, so its Pod gets no login (logged once a minute): {failure}"
            );
        }
        let message =
            "pullpass cannot have the token reviewed by the API server now: the kubelet asks again";
        Refusal::new(Reason::Unavailable, message).with_detail(failure.to_string())
    }

    fn review(
        &self,
        token: SecretString,
        address: IpAddr,
    ) -> impl Future<Output = Result<Review, ClusterError>> + Send + 'static {
        let (cluster, budget) = (Arc::clone(&self.cluster), Arc::clone(&self.budget));
        let clock = self.clock;
        async move {
            let begun = Instant::now();
            let turn = budget.take_turn(address, clock());
            let turn = timeout_at(begun + TURN_TIMEOUT, turn).await;
            let Ok(Some(mut turn)) = turn else {
                return Ok(Review::NotAsked);
            };
            turn.spend();
            let answer = cluster.review_token(&token, AUDIENCE);
            let answer = timeout_at(begun + REVIEW_TIMEOUT, answer).await;
            turn.note_answer(answer.is_ok());
            let status = match answer.unwrap_or_else(|_| Err(no_answer("the review of a token"))) {
                Ok(status) => status,
                Err(error) => {
                    turn.give_back();
                    return Err(error);
                }
            };
            match claims::find_pod(&status, AUDIENCE) {
                Ok(pod) => {
                    budget.accept(turn);
                    Ok(Review::Accepted(Arc::new(pod)))
                }
                Err(why) => Ok(Review::Refused(why.to_string())),
            }
        }
    }
}

/// That the API server did not answer such a request in time, or was not asked, as its answer would have come too late.
pub(super) fn no_answer(what: &str) -> ClusterError {
    ClusterError::Unreachable {
        what: what.to_owned(),
        message: "no answer in time".to_owned(),
    }
}

fn too_many(address: IpAddr) -> Refusal {
    let message = "too many tokens from this address were refused, or wait for their review: the kubelet asks again";
    let detail = format!("it came from {address}");
    Refusal::new(Reason::Unavailable, message).with_detail(detail)
}

#[cfg(test)]
mod tests;
