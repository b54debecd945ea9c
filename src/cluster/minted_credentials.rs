//! Minted credentials for provisioning: the minter over the credential store of one cluster.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;

use super::KubeCredentialStore;
use crate::credential::cache::Minter;
use crate::credential::{Credential, CredentialKey, MintError, SourceSecrets};
use crate::provision::changes::ChangeLog;
use crate::provision::digest::Digest;
use crate::provision::ports::{ClusterError, Credentials, StoredCredential};
use crate::registry::source::MintSource;

/// A minter and the store that it fills.
pub struct MintedCredentials {
    minter: Minter,
    store: Arc<KubeCredentialStore>,
    secrets: Arc<dyn SourceSecrets>,
}

impl MintedCredentials {
    /// Puts it together: `minter` works over this `store` and these `secrets`.
    pub fn new(
        minter: Minter,
        store: Arc<KubeCredentialStore>,
        secrets: Arc<dyn SourceSecrets>,
    ) -> Self {
        Self {
            minter,
            store,
            secrets,
        }
    }

    /// All that is stored, from memory.
    pub fn stored(&self) -> Vec<StoredCredential> {
        self.store.stored()
    }

    /// Deletes a stored credential if it is still as it was seen; one that is gone already counts as deleted.
    ///
    /// # Errors
    /// [`ClusterError::Conflict`] when another writer changed it in between.
    pub async fn delete(&self, stored: &StoredCredential) -> Result<(), ClusterError> {
        self.store.delete(stored).await
    }
}

#[async_trait]
impl Credentials for MintedCredentials {
    fn current(&self, source: &MintSource) -> Option<Arc<Credential>> {
        self.minter.current(source)
    }

    async fn mint(
        &self,
        source: &MintSource,
        now: Timestamp,
    ) -> Result<Arc<Credential>, Arc<MintError>> {
        self.minter.credential(source, now).await
    }

    async fn renew(
        &self,
        source: &MintSource,
        now: Timestamp,
    ) -> Result<Arc<Credential>, Arc<MintError>> {
        self.minter.renew(source, now).await
    }

    async fn refresh(&self, source: &MintSource) -> Result<(), ClusterError> {
        // Without its keys nothing can have been minted for a source.
        let Ok(key) = CredentialKey::of(source, &*self.secrets) else {
            return Ok(());
        };
        self.store.refresh(&key).await
    }

    fn changes(&self) -> &ChangeLog<String> {
        self.store.changed_sources()
    }

    fn is_stored(&self, digest: &Digest) -> bool {
        self.store.has_login(digest)
    }
}
