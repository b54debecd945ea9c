//! What is minted, and who mints it.

use async_trait::async_trait;
use jiff::Timestamp;

use super::acr::{self, AcrMint, ClientSecret};
use super::ecr::{self, EcrMint};
use super::identity::keys::AccessKeys;
use super::{Credential, MintError, SourceSecrets};
use crate::registry::source::{AcrIdentity, EcrIdentity, MintSource};

/// What is to be minted.
#[derive(Clone, Debug)]
pub struct MintRequest {
    /// What decides the credential.
    pub source: MintSource,
    /// The static keys that the source names, if it names some.
    pub keys: Option<SourceKeys>,
    /// When the credential that is there already ends, if there is one.
    pub expires_at: Option<Timestamp>,
    /// The present.
    pub now: Timestamp,
}

/// Mints credentials.
#[async_trait]
pub trait Mint: Send + Sync {
    /// Mints one credential, within a bounded time.
    ///
    /// # Errors
    /// [`MintError`] says why not; what was minted before stays good.
    async fn mint(&self, order: MintRequest) -> Result<Credential, MintError>;
}

/// The clouds: each source is minted by its own.
pub struct Clouds {
    /// Amazon ECR.
    pub ecr: EcrMint,
    /// Azure Container Registry.
    pub acr: AcrMint,
}

#[async_trait]
impl Mint for Clouds {
    async fn mint(&self, order: MintRequest) -> Result<Credential, MintError> {
        let MintRequest {
            source,
            keys,
            expires_at,
            now,
        } = order;
        match source {
            MintSource::Ecr(source) => {
                let keys = keys.and_then(SourceKeys::aws);
                let order = ecr::EcrMintRequest {
                    source,
                    keys,
                    expires_at,
                    now,
                };
                self.ecr.mint(order).await
            }
            MintSource::Acr(source) => {
                let secret = keys.and_then(SourceKeys::azure);
                let order = acr::AcrMintRequest {
                    source,
                    secret,
                    now,
                };
                self.acr.mint(order).await
            }
        }
    }
}

/// The static keys that a source names: rotated ones lead to another credential.
#[derive(Clone, Debug)]
pub enum SourceKeys {
    /// Access keys of AWS.
    Aws(AccessKeys),
    /// A client secret of Entra ID.
    Azure(ClientSecret),
}

impl SourceKeys {
    /// The keys that `source` names; `None` when it names none.
    ///
    /// # Errors
    /// [`MintError::MissingSource`] or [`MintError::MalformedSource`] when `secrets` does not hold them.
    pub(crate) fn find(
        source: &MintSource,
        secrets: &dyn SourceSecrets,
    ) -> Result<Option<Self>, MintError> {
        match source {
            MintSource::Ecr(source) => match &source.identity {
                EcrIdentity::Keys { secret } => {
                    AccessKeys::find(secret, secrets).map(|keys| Some(Self::Aws(keys)))
                }
                EcrIdentity::Workload
                | EcrIdentity::Node
                | EcrIdentity::ServiceAccount { .. }
                | EcrIdentity::Tenant { .. } => Ok(None),
            },
            MintSource::Acr(source) => match &source.identity {
                AcrIdentity::ServicePrincipal { secret, .. } => {
                    ClientSecret::find(secret, secrets).map(|secret| Some(Self::Azure(secret)))
                }
                AcrIdentity::Workload { .. }
                | AcrIdentity::Managed(_)
                | AcrIdentity::ServiceAccount { .. }
                | AcrIdentity::Tenant { .. } => Ok(None),
            },
        }
    }

    /// 32 bytes that differ when any of the values differs.
    pub(crate) fn fingerprint(&self) -> [u8; 32] {
        match self {
            Self::Aws(keys) => keys.fingerprint(),
            Self::Azure(secret) => secret.fingerprint(),
        }
    }

    pub(crate) fn aws(self) -> Option<AccessKeys> {
        match self {
            Self::Aws(keys) => Some(keys),
            Self::Azure(_) => None,
        }
    }

    pub(crate) fn azure(self) -> Option<ClientSecret> {
        match self {
            Self::Azure(secret) => Some(secret),
            Self::Aws(_) => None,
        }
    }
}
