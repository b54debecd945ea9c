//! `spec.acr`: credentials that Azure Container Registry mints.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::{ENDPOINT, OBJECT_NAME, SecretRef};
use crate::registry::host::AzureCloud;

/// How many scopes a Registry may have: they are in one token.
pub const SCOPES_MAX: usize = 32;
/// The longest scope: a repository's name.
pub const SCOPE_MAX: usize = 255;

/// An id of Entra: a GUID.
const GUID: &str = r"^[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}$";
/// The resource id of a user-assigned managed identity.
const RESOURCE_ID: &str = r"^/subscriptions/[0-9A-Fa-f-]{36}/[Rr]esource[Gg]roups/[A-Za-z0-9_.()-]+/providers/[Mm]icrosoft\.[Mm]anaged[Ii]dentity/user[Aa]ssigned[Ii]dentities/[A-Za-z0-9_-]+$";
/// An audience of Entra ID's: no API server takes a token for one.
const AUDIENCE: &str = r"^api://[A-Za-z0-9._~/-]+$";
/// A repository's name.
const REPOSITORY: &str =
    r"^[a-z0-9]+(([.]|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+(([.]|_|__|-+)[a-z0-9]+)*)*$";
/// A suffix of hosts: at least two labels, no dot before it.
const SUFFIX: &str = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?([.][a-z0-9]([a-z0-9-]*[a-z0-9])?)+$";

/// Credentials that Azure Container Registry mints.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Acr {
    /// Who asks for them.
    pub identity: AcrIdentitySpec,
    /// The cloud of login servers whose name does not say it. Default: Public.
    pub cloud: Option<AzureCloud>,
    /// The audience of the ServiceAccount tokens of `identity.serviceAccount`. Form: as `api://AzureADTokenExchange`. Default: what
    /// the cloud recommends.
    #[schemars(length(max = 253), regex(pattern = AUDIENCE))]
    pub audience: Option<String>,
    /// Narrows the credential to these repositories, to pulls from them and, with `access: Push`, pushes to them; it then has a shorter
    /// life. Form: up to 32 full names below the login server, as `samples/app`; no `*`. Default: all that the identity may do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 32),
        inner(length(max = 255), regex(pattern = REPOSITORY)),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub scopes: Vec<String>,
    /// Endpoints instead of the cloud's own. Default: the cloud's own.
    pub endpoints: Option<AcrEndpoints>,
}

/// Who asks Azure Container Registry for credentials: exactly one of these.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("[has(self.workload), has(self.managedIdentity), has(self.servicePrincipal), has(self.serviceAccount)].filter(given, given).size() == 1")
    .message("give exactly one of workload, managedIdentity, servicePrincipal and serviceAccount"))]
pub struct AcrIdentitySpec {
    /// The workload identity of pullpass' own ServiceAccount. Form: `{}`, or with ids. Default: not used.
    pub workload: Option<AcrWorkload>,
    /// A managed identity of the node that pullpass runs on, or what AAD Pod Identity (retired: use workload) answers in its place. Form: `{}`
    /// for the system-assigned one, or with an id. Default: not used.
    pub managed_identity: Option<ManagedIdentitySpec>,
    /// A service principal with a client secret. Default: not used.
    pub service_principal: Option<ServicePrincipal>,
    /// A ServiceAccount of the Pod's namespace; the credential is used in that namespace alone. Default: not used.
    pub service_account: Option<ServiceAccountApplication>,
}

/// A ServiceAccount of the Pod's namespace, and the application that is federated with it.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("has(self.fromAnnotations) && self.fromAnnotations ? !has(self.clientId) : has(self.clientId) && has(self.tenantId)")
    .message("give clientId and tenantId, or fromAnnotations: true without clientId"))]
pub struct ServiceAccountApplication {
    /// The ServiceAccount. Form: its name.
    #[schemars(length(min = 1, max = 253), regex(pattern = OBJECT_NAME))]
    pub name: String,
    /// The application, or user-assigned managed identity. Form: a GUID. Default: none, `fromAnnotations` is true.
    #[schemars(regex(pattern = GUID))]
    pub client_id: Option<String>,
    /// Its tenant. Form: a GUID. Default: none, `fromAnnotations` is true.
    #[schemars(regex(pattern = GUID))]
    pub tenant_id: Option<String>,
    /// Whether the ServiceAccount's annotations `azure.workload.identity/client-id` and, unless `tenantId` is given,
    /// `azure.workload.identity/tenant-id` name them: then anyone who may write ServiceAccounts in a served namespace chooses among the
    /// applications that are federated with it. Default: false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub from_annotations: bool,
}

/// The workload identity of pullpass' own ServiceAccount; what is not given here is in the environment that Azure's webhook sets.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AcrWorkload {
    /// The application, or user-assigned managed identity, that the ServiceAccount is federated with. Form: a GUID. Default: what the
    /// environment says.
    #[schemars(regex(pattern = GUID))]
    pub client_id: Option<String>,
    /// Its tenant. Form: a GUID. Default: what the environment says.
    #[schemars(regex(pattern = GUID))]
    pub tenant_id: Option<String>,
}

/// A managed identity: the system-assigned one where nothing is said.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("!(has(self.clientId) && has(self.resourceId))")
    .message("give clientId or resourceId, not both"))]
pub struct ManagedIdentitySpec {
    /// The user-assigned one of this client id. Form: a GUID. Default: none.
    #[schemars(regex(pattern = GUID))]
    pub client_id: Option<String>,
    /// The user-assigned one of this resource id. Form: as
    /// `/subscriptions/…/resourceGroups/…/providers/Microsoft.ManagedIdentity/userAssignedIdentities/…`. Default: none.
    #[schemars(length(max = 512), regex(pattern = RESOURCE_ID))]
    pub resource_id: Option<String>,
}

/// A service principal with a client secret.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServicePrincipal {
    /// Its tenant. Form: a GUID.
    #[schemars(regex(pattern = GUID))]
    pub tenant_id: String,
    /// Its application. Form: a GUID.
    #[schemars(regex(pattern = GUID))]
    pub client_id: String,
    /// The Secret that holds `AZURE_CLIENT_SECRET`.
    pub secret_ref: SecretRef,
}

/// Endpoints instead of the cloud's own.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AcrEndpoints {
    /// Who gives tokens. Form: an https URL, such as `https://login.microsoftonline.com`. Default: the cloud's own.
    #[schemars(length(max = 512), regex(pattern = ENDPOINT))]
    pub authority: Option<String>,
    /// What the login servers of a cloud of one's own end in. Form: at least two labels in lower case, such as
    /// `azurecr.example.com`. Default: none.
    #[schemars(length(max = 200), regex(pattern = SUFFIX))]
    pub login_server_suffix: Option<String>,
    /// Whom the tokens are for. Form: an https URL. Default: `https://containerregistry.azure.net`.
    #[schemars(length(max = 512), regex(pattern = ENDPOINT))]
    pub resource: Option<String>,
}
