//! What decides a credential: provider, identity, partition and region, endpoints.
//!
//! A [`CredentialSource`] is derived from one Registry and one of its image patterns. Two images whose sources are equal share
//! one credential, whatever their accounts, repositories and namespaces are; two that differ never do.

mod acr;

use std::fmt::Write as _;
use std::sync::Arc;

use crate::names::{NamespaceName, ObjectName};

pub use super::crd::{EcrEndpoints, RoleHop, TokenLifetime};
pub use super::host::Partition;
pub use acr::{AcrEndpoints, AcrIdentity, AcrSource, ManagedIdentity};

/// Where a credential comes from. Equal sources share one credential; its [`MintSource::canonical`] text is the base of
/// the cache key and of the store's object name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum CredentialSource {
    /// Minted by a cloud, kept in the credential store until it is renewed.
    Minted(MintSource),
    /// Read from a source Secret in pullpass' own namespace.
    Static(StaticSource),
}

/// What a cloud mints, and for whom.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum MintSource {
    /// Minted by Amazon ECR's `GetAuthorizationToken`.
    Ecr(EcrSource),
    /// Minted by an Azure Container Registry for a token of Entra ID.
    Acr(AcrSource),
}

impl From<EcrSource> for MintSource {
    fn from(source: EcrSource) -> Self {
        Self::Ecr(source)
    }
}

impl From<AcrSource> for MintSource {
    fn from(source: AcrSource) -> Self {
        Self::Acr(source)
    }
}

/// An Amazon ECR token: one serves every account whose repository policies admit the principal, in one region.
///
/// <https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_GetAuthorizationToken.html>
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EcrSource {
    /// The partition that the host belongs to.
    pub partition: Partition,
    /// The region that the token is for, such as `eu-west-1`; `us-east-1` for ECR Public.
    pub region: String,
    /// Whether this is ECR Public (`public.ecr.aws`), which has its own API.
    pub public: bool,
    /// Whether the host asks for FIPS endpoints.
    pub fips: bool,
    /// Whether the host asks for dual-stack endpoints.
    pub dual_stack: bool,
    /// Who asks.
    pub identity: EcrIdentity,
    /// How long a session by web identity lives, in seconds; an hour where nothing is said.
    pub session_seconds: Option<u32>,
    /// The roles that are assumed on top of the identity, in this order; the last one asks.
    pub assume_roles: Vec<RoleHop>,
    /// Until when the token counts as good.
    pub token_life: TokenLifetime,
    /// Endpoints that replace AWS's own, for PrivateLink; https only.
    pub endpoints: EcrEndpoints,
}

/// Who asks Amazon ECR for a token.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum EcrIdentity {
    /// pullpass' own workload identity: web identity (IRSA) or container credentials (EKS Pod Identity). Nothing else.
    Workload,
    /// The node's role by instance metadata (IMDSv2).
    Node,
    /// Static keys in the source Secret of this name.
    Keys {
        /// The name of a Secret in pullpass' own namespace.
        secret: ObjectName,
    },
    /// The ServiceAccount of this name in the Pod's namespace, as the Registry says it. It is nobody yet: provisioning binds it to a
    /// namespace, and only what it is bound to then mints.
    ServiceAccount {
        /// The ServiceAccount's name.
        name: ObjectName,
        /// The role that it assumes; `None`: the one that its annotation `eks.amazonaws.com/role-arn` names.
        role_arn: Option<String>,
        /// Whom its tokens are for; `None`: [`STS_AUDIENCE`], or where an annotation names the role what the annotation
        /// `eks.amazonaws.com/audience` names.
        audience: Option<String>,
    },
    /// A role by web identity of one ServiceAccount of one namespace.
    Tenant {
        /// The ServiceAccount.
        tenant: Arc<Tenant>,
        /// The role that it assumes.
        role_arn: String,
        /// Whom the ServiceAccount's tokens are for.
        audience: String,
    },
}

/// Whom tokens for AWS STS are for where nothing else was agreed on with IAM.
///
/// <https://docs.aws.amazon.com/eks/latest/userguide/enable-iam-roles-for-service-accounts.html>
pub const STS_AUDIENCE: &str = "sts.amazonaws.com";

/// One ServiceAccount of one namespace, whose identity is used in that namespace alone. The unique ids distinguish it from another one that
/// had, or will have, the same names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tenant {
    /// The namespace.
    pub namespace: NamespaceName,
    /// The namespace's `metadata.uid`.
    pub namespace_uid: String,
    /// The ServiceAccount's name.
    pub service_account: ObjectName,
    /// The ServiceAccount's `metadata.uid`.
    pub service_account_uid: String,
}

/// A fixed login kept in a source Secret.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StaticSource {
    /// The name of a Secret in pullpass' own namespace, of type `kubernetes.io/basic-auth` or `kubernetes.io/dockerconfigjson`.
    pub secret: ObjectName,
}

impl CredentialSource {
    /// The source Secret that it needs; `None`: it needs none.
    pub fn secret(&self) -> Option<&ObjectName> {
        match self {
            Self::Minted(source) => source.secret(),
            Self::Static(source) => Some(&source.secret),
        }
    }
}

impl MintSource {
    /// What it is good for, in a word: the region of an Amazon ECR token, the login server of one of Azure.
    pub fn location(&self) -> &str {
        match self {
            Self::Ecr(ecr) => &ecr.region,
            Self::Acr(acr) => &acr.server,
        }
    }

    /// A number of its own; every replica finds the same. FNV-1a, folded.
    pub fn jitter(&self) -> u8 {
        let text = self.canonical();
        let hash = text.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
            (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
        });
        let bytes = hash.to_be_bytes().into_iter();
        bytes.fold(0, |fold, byte| fold ^ byte)
    }

    /// The name of the ServiceAccount that this still has to be bound to, in the Pod's namespace; `None` when there is nothing to bind.
    pub fn unbound(&self) -> Option<&ObjectName> {
        match self {
            Self::Ecr(ecr) => match &ecr.identity {
                EcrIdentity::ServiceAccount { name, .. } => Some(name),
                _ => None,
            },
            Self::Acr(acr) => match &acr.identity {
                AcrIdentity::ServiceAccount { name, .. } => Some(name),
                _ => None,
            },
        }
    }

    /// The ServiceAccount whose identity mints this, in whose namespace alone it may be used; `None` when it is no ServiceAccount of a
    /// tenant.
    pub fn tenant(&self) -> Option<&Tenant> {
        match self {
            Self::Ecr(ecr) => match &ecr.identity {
                EcrIdentity::Tenant { tenant, .. } => Some(tenant),
                _ => None,
            },
            Self::Acr(acr) => match &acr.identity {
                AcrIdentity::Tenant { tenant, .. } => Some(tenant),
                _ => None,
            },
        }
    }

    /// The source Secret whose keys this is minted with; `None` when there is none.
    pub fn secret(&self) -> Option<&ObjectName> {
        match self {
            Self::Ecr(ecr) => match &ecr.identity {
                EcrIdentity::Keys { secret } => Some(secret),
                _ => None,
            },
            Self::Acr(acr) => match &acr.identity {
                AcrIdentity::ServicePrincipal { secret, .. } => Some(secret),
                _ => None,
            },
        }
    }

    /// Everything that decides this credential as one line of text, equal exactly when the sources are equal. It holds no secret.
    pub fn canonical(&self) -> String {
        match self {
            Self::Ecr(ecr) => ecr.canonical(),
            Self::Acr(acr) => acr.canonical(),
        }
    }
}

impl EcrSource {
    fn canonical(&self) -> String {
        let identity = match &self.identity {
            EcrIdentity::Workload => "workload".to_owned(),
            EcrIdentity::Node => "node".to_owned(),
            EcrIdentity::Keys { secret } => format!("keys({secret:?})"),
            EcrIdentity::ServiceAccount { name, role_arn, .. } => {
                format!("serviceAccount({name:?},{role_arn:?})")
            }
            EcrIdentity::Tenant {
                tenant, role_arn, ..
            } => {
                format!("tenant({},role={role_arn:?})", tenant.canonical())
            }
        };
        // What nearly every source has none of is left out, so that a key stays what it was.
        let mut more = String::new();
        if let Some(audience) = self.identity.chosen_audience() {
            write!(more, " audience={audience:?}")
                .expect("a String takes all that is written to it");
        }
        if let Some(seconds) = self.session_seconds {
            write!(more, " sessionSeconds={seconds}")
                .expect("a String takes all that is written to it");
        }
        for hop in &self.assume_roles {
            more.push_str(&hop.canonical());
        }
        if self.token_life == TokenLifetime::Answer {
            more.push_str(" tokenLife=Answer");
        }
        let endpoint = |endpoint: &Option<String>| endpoint.clone().unwrap_or_default();
        format!(
            "ecr identity={identity} partition={} region={:?} public={} fips={} dualStack={} endpoints=({:?},{:?},{:?}){more}",
            self.partition,
            self.region,
            self.public,
            self.fips,
            self.dual_stack,
            endpoint(&self.endpoints.ecr),
            endpoint(&self.endpoints.ecr_public),
            endpoint(&self.endpoints.sts),
        )
    }
}

impl EcrIdentity {
    /// Whom ServiceAccount tokens are for, where that was chosen.
    fn chosen_audience(&self) -> Option<&str> {
        match self {
            Self::ServiceAccount { audience, .. } => audience.as_deref(),
            Self::Tenant { audience, .. } => {
                Some(audience.as_str()).filter(|one| *one != STS_AUDIENCE)
            }
            Self::Workload | Self::Node | Self::Keys { .. } => None,
        }
    }
}

impl Tenant {
    /// Everything that distinguishes it, as text.
    pub(crate) fn canonical(&self) -> String {
        format!(
            "namespace={:?}/{:?} serviceAccount={:?}/{:?}",
            self.namespace, self.namespace_uid, self.service_account, self.service_account_uid
        )
    }
}

impl RoleHop {
    fn canonical(&self) -> String {
        format!(
            " assumeRole=({:?},{:?},{:?},{:?})",
            self.role_arn, self.external_id, self.session_name, self.duration_seconds
        )
    }
}
