//! What decides a token of Azure Container Registry.

use std::sync::Arc;

use super::Tenant;
use crate::names::ObjectName;
pub use crate::registry::crd::acr::AcrEndpoints;
use crate::registry::host::AzureCloud;

/// A token of one login server of Azure Container Registry.
///
/// <https://github.com/Azure/acr/blob/main/docs/AAD-OAuth.md>
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AcrSource {
    /// The login server: the only host that the token is asked of and good for.
    pub server: String,
    /// The cloud that it belongs to.
    pub cloud: AzureCloud,
    /// Who asks.
    pub identity: AcrIdentity,
    /// What the token is narrowed to, sorted, none twice; nothing: all that the identity may do.
    pub scopes: Vec<String>,
    /// Endpoints that replace the cloud's own; https only.
    pub endpoints: AcrEndpoints,
}

/// Who asks an Azure Container Registry for a token. Ids are GUIDs in lower case.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum AcrIdentity {
    /// The workload identity of pullpass' own ServiceAccount; what is not given comes from the environment.
    Workload {
        /// The application.
        client_id: Option<String>,
        /// Its tenant.
        tenant_id: Option<String>,
    },
    /// The managed identity that instance metadata answers for.
    Managed(ManagedIdentity),
    /// The ServiceAccount of this name in the Pod's namespace, as the Registry says it. It is nobody yet: provisioning binds it to a
    /// namespace, and only what it is bound to then mints.
    ServiceAccount {
        /// The ServiceAccount's name.
        name: ObjectName,
        /// The application; `None`: the one that its annotation `azure.workload.identity/client-id` names.
        client_id: Option<String>,
        /// Its tenant; `None`: the one that its annotation `azure.workload.identity/tenant-id` names.
        tenant_id: Option<String>,
        /// Whom its tokens are for.
        audience: String,
    },
    /// An application by federation with one ServiceAccount of one namespace.
    Tenant {
        /// The ServiceAccount.
        tenant: Arc<Tenant>,
        /// The application.
        client_id: String,
        /// Its tenant; `None`: pullpass' own, which its environment says.
        tenant_id: Option<String>,
        /// Whom the ServiceAccount's tokens are for.
        audience: String,
    },
    /// A service principal with the client secret in a source Secret.
    ServicePrincipal {
        /// Its tenant.
        tenant_id: String,
        /// Its application.
        client_id: String,
        /// The name of a Secret in pullpass' own namespace.
        secret: ObjectName,
    },
}

/// Which managed identity.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ManagedIdentity {
    /// The machine's own.
    System,
    /// The user-assigned one of this client id.
    Client(String),
    /// The user-assigned one of this resource id.
    Resource(String),
}

impl AcrSource {
    /// As [`super::MintSource::canonical`].
    pub(super) fn canonical(&self) -> String {
        let identity = match &self.identity {
            AcrIdentity::Workload {
                client_id,
                tenant_id,
            } => format!("workload({client_id:?},{tenant_id:?})"),
            AcrIdentity::Managed(identity) => format!("managed({identity:?})"),
            AcrIdentity::ServiceAccount {
                name,
                client_id,
                tenant_id,
                audience,
            } => {
                format!("serviceAccount({name:?},{client_id:?},{tenant_id:?},{audience:?})")
            }
            AcrIdentity::Tenant {
                tenant,
                client_id,
                tenant_id,
                audience,
            } => format!(
                "tenant({},{client_id:?},{tenant_id:?},{audience:?})",
                tenant.canonical()
            ),
            AcrIdentity::ServicePrincipal {
                tenant_id,
                client_id,
                secret,
            } => format!("servicePrincipal({tenant_id:?},{client_id:?},{secret:?})"),
        };
        format!(
            "acr identity={identity} server={:?} cloud={} scopes={:?} endpoints=({:?},{:?},{:?})",
            self.server,
            self.cloud.name(),
            self.scopes,
            self.endpoints.authority,
            self.endpoints.login_server_suffix,
            self.endpoints.resource,
        )
    }
}
