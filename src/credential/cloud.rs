//! What the clouds' minting has in common.

use std::sync::Arc;
use std::time::Duration;

use tracing::instrument::WithSubscriber as _;
use tracing::subscriber::NoSubscriber;

use super::ServiceAccountTokens;
use super::http::HttpClient;

/// How long a mint may take. Whoever waits for one has a deadline of its own, which bounds the waiting and not the mint: what comes later
/// is there for the next one who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MintTimeouts {
    /// The whole of it, the identity included.
    pub mint: Duration,
    /// One request to a cloud.
    pub cloud: Duration,
    /// One request to instance metadata or an agent of the node, which may take ten seconds and more
    /// (<https://github.com/Azure/go-autorest/issues/660>).
    pub machine: Duration,
}

impl Default for MintTimeouts {
    fn default() -> Self {
        Self {
            mint: Duration::from_secs(30),
            cloud: Duration::from_secs(10),
            machine: Duration::from_secs(20),
        }
    }
}

/// Mints the tokens of one cloud; `E` is what the process's environment says about its own identity there.
pub struct CloudMint<E> {
    pub(super) http: HttpClient,
    pub(super) environment: E,
    pub(super) tokens: Option<Arc<dyn ServiceAccountTokens>>,
    pub(super) timeouts: MintTimeouts,
}

impl<E> CloudMint<E> {
    /// Mints over `http`, with the identities that `environment` knows.
    pub fn new(http: HttpClient, environment: E) -> Self {
        Self {
            http,
            environment,
            tokens: None,
            timeouts: MintTimeouts::default(),
        }
    }

    /// With other bounds of how long a mint may take.
    #[must_use]
    pub fn with_timeouts(self, timeouts: MintTimeouts) -> Self {
        Self { timeouts, ..self }
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
