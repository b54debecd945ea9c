//! The credential that a login server of Azure needs.

use crate::registry::crd::Access;
use crate::registry::crd::acr::Acr;
use crate::registry::host::{AzureCloud, Host};
use crate::registry::source::{AcrEndpoints, AcrIdentity, AcrSource, ManagedIdentity};

/// The source for one login server. The Registry is valid: the host is a login server, ids are GUIDs, endpoints https.
pub(super) fn source_of(acr: &Acr, server: &str, access: Access) -> AcrSource {
    let cloud = match Host::recognise(server) {
        Some(Host::Acr(host)) => host.cloud,
        _ => acr.cloud.unwrap_or_default(),
    };
    // <https://distribution.github.io/distribution/spec/auth/scope/>
    let actions = match access {
        Access::Pull => "pull",
        Access::Push => "pull,push",
    };
    let scope = |repository: &String| format!("repository:{repository}:{actions}");
    let mut scopes: Vec<String> = acr.scopes.iter().map(scope).collect();
    scopes.sort();
    scopes.dedup();
    let endpoints = acr.endpoints.clone().unwrap_or_default();
    let trim = |url: Option<String>| url.map(|url| url.trim_end_matches('/').to_owned());
    AcrSource {
        server: server.to_owned(),
        cloud,
        identity: identity_of(acr, cloud),
        scopes,
        endpoints: AcrEndpoints {
            authority: trim(endpoints.authority),
            resource: trim(endpoints.resource),
            ..endpoints
        },
    }
}

fn identity_of(acr: &Acr, cloud: AzureCloud) -> AcrIdentity {
    let identity = &acr.identity;
    let lower = |id: &Option<String>| id.as_ref().map(|id| id.to_ascii_lowercase());
    if let Some(principal) = &identity.service_principal {
        return AcrIdentity::ServicePrincipal {
            tenant_id: principal.tenant_id.to_ascii_lowercase(),
            client_id: principal.client_id.to_ascii_lowercase(),
            secret: super::checked(&principal.secret_ref.name),
        };
    }
    if let Some(managed) = &identity.managed_identity {
        let user_assigned = match (&managed.client_id, &managed.resource_id) {
            (Some(id), _) => ManagedIdentity::Client(id.to_ascii_lowercase()),
            (None, Some(id)) => ManagedIdentity::Resource(id.clone()),
            (None, None) => ManagedIdentity::System,
        };
        return AcrIdentity::Managed(user_assigned);
    }
    if let Some(account) = &identity.service_account {
        let audience = acr.audience.as_deref();
        return AcrIdentity::ServiceAccount {
            name: super::checked(&account.name),
            client_id: lower(&account.client_id),
            tenant_id: lower(&account.tenant_id),
            audience: audience.unwrap_or_else(|| cloud.audience()).to_owned(),
        };
    }
    let workload = identity.workload.as_ref();
    AcrIdentity::Workload {
        client_id: workload.and_then(|workload| lower(&workload.client_id)),
        tenant_id: workload.and_then(|workload| lower(&workload.tenant_id)),
    }
}
