//! Source Secrets that were read, and why one cannot be.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::credential::{MintError, SourceSecret, SourceSecrets};
use crate::provision::ports::ClusterError;

/// The source Secrets that were read so far.
#[derive(Default)]
pub(super) struct Secrets(Mutex<BTreeMap<String, Arc<SourceSecret>>>);

impl Secrets {
    /// Keeps one that was read.
    pub(super) fn keep(&self, name: &str, secret: &Arc<SourceSecret>) {
        let mut read = self.0.lock();
        read.insert(name.to_owned(), Arc::clone(secret));
    }
}

impl SourceSecrets for Secrets {
    fn source(&self, name: &str) -> Option<Arc<SourceSecret>> {
        let read = self.0.lock();
        read.get(name).cloned()
    }
}

/// Why a source Secret cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum SecretError {
    /// There is no cluster to read it from.
    #[error("source secret {0} is in a cluster, and none is connected")]
    NoCluster(String),
    /// The cluster has none of this name.
    #[error(transparent)]
    Missing(MintError),
    /// The cluster has one of this name, without the label.
    #[error(transparent)]
    Unlabelled(MintError),
    /// It cannot be read.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
}
