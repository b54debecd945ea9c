//! What Azure Container Registry needs: a federated credential for a workload identity, and a role on each registry.

mod condition;
mod rights;

use std::collections::{BTreeMap, BTreeSet};

use super::PolicyContext;
use super::step::{FederatedCredential, RoleAssignment, Step};
use crate::registry::host::AzureCloud;
use crate::registry::source::{AcrIdentity, AcrSource, ManagedIdentity, MintSource};
use crate::registry::{CredentialSource, Pattern, ValidRegistry};
use condition::condition_of;
use rights::{Rights, Role};

/// A registry: one of its sources, its login servers, and the patterns of its images with what `excludedImages` takes away from each.
type RegistryPatterns<'a> = (
    &'a AcrSource,
    BTreeSet<&'a str>,
    Vec<(&'a Pattern, &'a [Pattern])>,
);

/// What a login server's host says of the registry that it belongs to: a regional one is another door to the same registry.
pub(super) fn name_and_suffix(server: &str) -> (&str, &str) {
    let (name, rest) = server.split_once('.').unwrap_or((server, ""));
    (
        name,
        rest.split_once(".geo.").map_or(rest, |(_, suffix)| suffix),
    )
}

/// Who asks Azure.
struct AzurePrincipal {
    /// What a role is assigned to.
    id: String,
    title: &'static str,
}

/// The provider, the identity for people, and the steps.
pub(super) fn plan(
    registry: &ValidRegistry,
    place: &PolicyContext<'_>,
) -> (&'static str, String, Vec<Step>) {
    let mut registries: BTreeMap<(&str, &str), RegistryPatterns<'_>> = BTreeMap::new();
    for (pattern, source) in registry.credentials() {
        if let CredentialSource::Minted(MintSource::Acr(source)) = source {
            let named = registries
                .entry(name_and_suffix(&source.server))
                .or_insert_with(|| (source, BTreeSet::new(), Vec::new()));
            named.1.insert(&source.server);
            named.2.push((pattern, registry.exclusions_of(pattern)));
        }
    }
    let Some((source, ..)) = registries.values().next() else {
        return ("acr", String::new(), Vec::new());
    };
    let (identity, principal, mut steps) = plan_identity(source, registry, place);
    let rights = Rights::new(registry.access, place);
    for named in registries.values() {
        steps.extend(assign(named, &principal, &rights));
    }
    ("acr", identity, steps)
}

/// Who the identity is, for people and for Azure, and what makes it so.
fn plan_identity(
    source: &AcrSource,
    registry: &ValidRegistry,
    place: &PolicyContext<'_>,
) -> (String, AzurePrincipal, Vec<Step>) {
    let identity = describe(&source.identity);
    let principal = principal_of(&source.identity);
    let steps = match &source.identity {
        AcrIdentity::Workload { .. } => {
            vec![trust_own(source.cloud, &principal, place)]
        }
        AcrIdentity::Managed(_) => Vec::new(),
        AcrIdentity::ServiceAccount {
            name,
            client_id,
            audience,
            ..
        } => {
            let mut steps = trust_tenants(name, audience, &principal, registry, place);
            if client_id.is_none() {
                steps = steps.into_iter().map(|step| step.note(format!("then annotate that ServiceAccount: azure.workload.identity/client-id: {} and azure.workload.identity/tenant-id: its tenant", principal.id))).collect();
            }
            steps
        }
        AcrIdentity::Tenant {
            tenant, audience, ..
        } => {
            let account = (tenant.namespace.as_str(), tenant.service_account.as_str());
            vec![federate(account, audience, &principal, place)]
        }
        AcrIdentity::ServicePrincipal { secret, .. } => {
            let keys = ["AZURE_CLIENT_SECRET"];
            let namespace = &place.args.namespace;
            vec![Step::secret_of_file(
                "client secret",
                secret,
                namespace,
                &keys,
            )]
        }
    };
    (identity, principal, steps)
}

fn describe(identity: &AcrIdentity) -> String {
    match identity {
        AcrIdentity::Workload { .. } => "pullpass' own workload identity".to_owned(),
        AcrIdentity::Managed(ManagedIdentity::System) => {
            "the system-assigned managed identity of the nodes".to_owned()
        }
        AcrIdentity::Managed(ManagedIdentity::Client(id) | ManagedIdentity::Resource(id)) => {
            format!("managed identity {id}")
        }
        AcrIdentity::ServiceAccount { name, .. } => {
            format!("ServiceAccount {name} of the Pod's namespace")
        }
        AcrIdentity::Tenant { tenant, .. } => format!(
            "ServiceAccount {}/{}",
            tenant.namespace, tenant.service_account
        ),
        AcrIdentity::ServicePrincipal {
            client_id, secret, ..
        } => format!(
            "service principal {client_id} with the client secret in source secret {secret}"
        ),
    }
}

fn principal_of(identity: &AcrIdentity) -> AzurePrincipal {
    let (id, title) = match identity {
        AcrIdentity::Workload { client_id, .. } => (
            client_id.as_deref(),
            "pullpass' own application or managed identity",
        ),
        AcrIdentity::Managed(ManagedIdentity::Client(id)) => {
            (Some(id.as_str()), "the managed identity")
        }
        AcrIdentity::Managed(ManagedIdentity::System | ManagedIdentity::Resource(_)) => {
            (None, "the managed identity")
        }
        AcrIdentity::ServiceAccount { client_id, .. } => (
            client_id.as_deref(),
            "the application or managed identity of the ServiceAccounts",
        ),
        AcrIdentity::Tenant { client_id, .. } => (
            Some(client_id.as_str()),
            "the application or managed identity of the ServiceAccount",
        ),
        AcrIdentity::ServicePrincipal { client_id, .. } => {
            (Some(client_id.as_str()), "the service principal")
        }
    };
    AzurePrincipal {
        id: id.unwrap_or("<CLIENT_ID>").to_owned(),
        title,
    }
}

/// An application takes the tokens of pullpass' own ServiceAccount.
fn trust_own(cloud: AzureCloud, principal: &AzurePrincipal, place: &PolicyContext<'_>) -> Step {
    let account = (
        place.args.namespace.as_str(),
        place.args.service_account.as_str(),
    );
    let (namespace, name) = account;
    let audience = cloud.audience();
    let mut step = federate(account, audience, principal, place);
    if audience != AzureCloud::Public.audience() {
        step = step.note(format!("pullpass' own token must say that audience: identity.azure.audience={audience} of the chart"));
    }
    step.note(format!("then install the chart with identity.azure.clientId={} and identity.azure.tenantId, or annotate the ServiceAccount {namespace}/{name}: azure.workload.identity/client-id, and label its Pods azure.workload.identity/use=true", principal.id))
}

/// An application takes the tokens of the ServiceAccounts of the namespaces that are served.
fn trust_tenants(
    name: &str,
    audience: &str,
    principal: &AzurePrincipal,
    registry: &ValidRegistry,
    place: &PolicyContext<'_>,
) -> Vec<Step> {
    let namespaces = place.served_by(registry);
    namespaces
        .into_iter()
        .map(|namespace| federate((namespace, name), audience, principal, place).note_tokens())
        .collect()
}

/// An application takes the tokens of a ServiceAccount (its namespace and name).
///
/// <https://azure.github.io/azure-workload-identity/docs/topics/federated-identity-credential.html>
fn federate(
    (namespace, account): (&str, &str),
    audience: &str,
    principal: &AzurePrincipal,
    place: &PolicyContext<'_>,
) -> Step {
    let issuer = place.args.issuer.clone();
    let credential = FederatedCredential {
        name: format!("{namespace}-{account}"),
        issuer: issuer.unwrap_or_else(|| "https://<ISSUER>".to_owned()),
        subject: format!("system:serviceaccount:{namespace}:{account}"),
        audiences: [audience.to_owned()],
    };
    let title = format!("federated credential of {}", principal.title);
    let command = format!(
        "az ad app federated-credential create --id {} --parameters credential.json",
        principal.id
    );
    Step::federated(title, &principal.id, credential, command)
        .note("for a managed identity the same three values: az identity federated-credential create --issuer … --subject … --audiences …")
}

/// The right to one registry: the role for it, and the one that counts in its stead where repositories have permissions of their own.
fn assign(
    (source, servers, patterns): &RegistryPatterns<'_>,
    principal: &AzurePrincipal,
    rights: &Rights,
) -> [Step; 2] {
    let server = servers.iter().copied().collect::<Vec<_>>().join(" and ");
    // The name of a domain name label's host ends in a hash.
    let name = source.server.split(['.', '-']).next().unwrap_or_default();
    let scope = format!(
        "/subscriptions/<SUBSCRIPTION_ID>/resourceGroups/<RESOURCE_GROUP>/providers/Microsoft.ContainerRegistry/registries/{name}"
    );
    let role = |(role, id): Role, condition: Option<String>| RoleAssignment {
        role,
        role_definition_id: id,
        scope: scope.clone(),
        condition_version: condition.is_some().then_some("2.0"),
        condition,
    };
    let title = format!("{} may {} {server}", principal.title, rights.verb);
    let has_exclusions = patterns.iter().any(|(_, excluded)| !excluded.is_empty());
    let excluded = if has_exclusions {
        ", what excludedImages takes away, too"
    } else {
        ""
    };
    let whole = Step::role(title, &principal.id, role(rights.role, None)).note(format!(
        "it allows {} of the registry{excluded}: none less can be said in this mode",
        rights.every_verb
    ));
    let title = format!(
        "or, where the registry {server} has repository permissions (ABAC): {} may {}",
        principal.title, rights.repository_verb
    );
    let condition = condition_of(source, patterns, rights);
    let mut each = Step::role(
        title,
        &principal.id,
        role(rights.repository_role, condition),
    );
    if rights.has_caches && !source.scopes.is_empty() {
        each = each.note("acr.scopes must list the repositories of the layers, too: the token is for what it lists alone");
    }
    [whole, each]
}
