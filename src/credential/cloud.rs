//! What the clouds' minting has in common.

use std::sync::Arc;

use tracing::instrument::WithSubscriber as _;
use tracing::subscriber::NoSubscriber;

use super::ServiceAccountTokens;
use super::http::HttpClient;

/// Mints the tokens of one cloud; `E` is what the process's environment says about its own identity there.
pub struct CloudMint<E> {
    pub(super) http: HttpClient,
    pub(super) environment: E,
    pub(super) tokens: Option<Arc<dyn ServiceAccountTokens>>,
}

impl<E> CloudMint<E> {
    /// Mints over `http`, with the identities that `environment` knows.
    pub fn new(http: HttpClient, environment: E) -> Self {
        Self {
            http,
            environment,
            tokens: None,
        }
    }

    /// With the identities of namespaces' own ServiceAccounts, too.
    #[must_use]
    pub fn with_tokens(self, tokens: Arc<dyn ServiceAccountTokens>) -> Self {
        let tokens = Some(tokens);
        Self { tokens, ..self }
    }
}

/// Does `work` without a log: libraries log answers with tokens in them at trace, so that is never taken, whatever the filter says.
pub(crate) async fn unlogged<F: Future>(work: F) -> F::Output {
    work.with_subscriber(NoSubscriber::default()).await
}
