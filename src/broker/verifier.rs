//! Asking the API server whose a token is: not too often, not for too long, and not twice in a moment.

use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use tokio::sync::Semaphore;

use super::claims::{self, PodIdentity};
use super::metrics::{Metrics, ReviewOutcome};
use super::ports::{BrokerCluster, ClusterError};
use super::protocol::AUDIENCE;
use super::refusal::{Reason, Refusal};
use crate::credential::jwt;
use crate::log_throttle::LogThrottle;
use crate::plain_text;
use crate::provision::read_cache::ReadCache;

/// How long a good answer is relied on: a Pod with many images asks for each of them. The API server may have kept it for 10 s before.
const TRUSTED_FOR: Duration = Duration::from_secs(5);

/// Of how many tokens that is.
const TRUSTED_MAX: u64 = 10_000;

/// How long the API server may take, its turn included: the plug-in waits for 2 s in all.
const REVIEW_TIMEOUT: Duration = Duration::from_millis(1200);

/// How many reviews go on at a time.
const REVIEWS_MAX: usize = 64;

/// The longest token, in bytes: the API server's have some 1,200.
const TOKEN_MAX: usize = 16 * 1024;

type Verified = Result<Arc<PodIdentity>, String>;

/// Says whose a token is.
pub(super) struct Verifier {
    cluster: Arc<dyn BrokerCluster>,
    /// By the digest of the token.
    known: ReadCache<[u8; 32], Verified>,
    turns: Arc<Semaphore>,
    metrics: Metrics,
    failures: LogThrottle<&'static str>,
}

impl Verifier {
    pub(super) fn new(cluster: Arc<dyn BrokerCluster>, metrics: Metrics) -> Self {
        // What was refused is asked again: a Pod's token may be good a moment later.
        let relied_on =
            |verified: &Verified| verified.as_ref().map_or(Duration::ZERO, |_| TRUSTED_FOR);
        Self {
            cluster,
            known: ReadCache::new(TRUSTED_MAX, relied_on),
            turns: Arc::new(Semaphore::new(REVIEWS_MAX)),
            metrics,
            failures: LogThrottle::default(),
        }
    }

    /// The Pod that a token is of. Before the API server is asked nothing counts but that it has the form of one.
    ///
    /// # Errors
    /// The token is refused, or nobody can say.
    pub(super) async fn verify(&self, token: &SecretString) -> Result<Arc<PodIdentity>, Refusal> {
        if !jwt::has_form(token, TOKEN_MAX) {
            let message = "the token has not the form of a ServiceAccount's";
            return Err(Refusal::new(Reason::Unauthenticated, message));
        }
        let review = self.review(token.clone());
        let found = self.known.find(plain_text::digest(token), review);
        let failure = match tokio::time::timeout(REVIEW_TIMEOUT, found).await {
            Ok(Ok((verified, is_new))) => {
                self.count(&verified, is_new);
                return verified.map_err(|why| Refusal::new(Reason::Unauthenticated, why));
            }
            Ok(Err(error)) => error,
            Err(_) => Arc::new(ClusterError::Unreachable {
                what: "the review of a token".to_owned(),
                message: "no answer in time".to_owned(),
            }),
        };
        self.metrics.count_review(ReviewOutcome::Failed);
        if let Some(suppressed) = self.failures.admit(failure.reason()) {
            tracing::warn!(
                suppressed,
                "a token could not be reviewed, so its Pod gets no login (logged once a minute): {failure}"
            );
        }
        let message =
            "pullpass cannot have the token reviewed by the API server now: the kubelet asks again";
        Err(Refusal::new(Reason::Unavailable, message).with_detail(failure.to_string()))
    }

    fn review(
        &self,
        token: SecretString,
    ) -> impl Future<Output = Result<Verified, ClusterError>> + Send + 'static {
        let (cluster, turns) = (Arc::clone(&self.cluster), Arc::clone(&self.turns));
        async move {
            let _turn = turns.acquire_owned().await;
            let status = cluster.review_token(&token, AUDIENCE).await?;
            let found = claims::find_pod(&status, AUDIENCE);
            Ok(found.map(Arc::new).map_err(|why| why.to_string()))
        }
    }

    fn count(&self, verified: &Verified, is_new: bool) {
        self.metrics.count_review(match verified {
            Ok(_) if is_new => ReviewOutcome::Authenticated,
            Ok(_) => ReviewOutcome::Remembered,
            Err(_) => ReviewOutcome::Refused,
        });
    }
}
