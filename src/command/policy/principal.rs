//! Registries that ask as the same principal: what it may do for one of them, the logins of the others may do, too.

use std::collections::BTreeSet;

use super::PolicyContext;
use super::azure::name_and_suffix;
use crate::registry::source::{
    AcrIdentity, AcrSource, EcrIdentity, EcrSource, ManagedIdentity, MintSource,
};
use crate::registry::{CredentialSource, ValidRegistry};

/// The other Registries of the files that ask as the same principal.
pub(super) fn find_equals<'r>(
    registry: &'r ValidRegistry,
    place: &PolicyContext<'r>,
) -> impl Iterator<Item = &'r ValidRegistry> {
    let own = principals(registry);
    let others = place
        .registries
        .iter()
        .filter(|one| one.name != registry.name);
    others.filter(move |other| !own.is_disjoint(&principals(other)))
}

/// What is to be said of a Registry whose login is that of others with another `access`.
pub(super) fn describe_shared(registry: &ValidRegistry, place: &PolicyContext<'_>) -> Vec<String> {
    let reach = reach(registry);
    let is_shared = |other: &&ValidRegistry| {
        let (pulling, pushing) = if registry.access.is_pull() {
            (registry, *other)
        } else {
            (*other, registry)
        };
        pulling.access.is_pull()
            && !pushing.access.is_pull()
            && !is_narrowed(pulling)
            && !reach.is_disjoint(&self::reach(other))
    };
    let others = find_equals(registry, place).filter(is_shared);
    let mut names: Vec<&str> = others.map(|other| other.name.as_str()).collect();
    names.sort_unstable();
    let describe = |name: &str| {
        let pushing = if registry.access.is_pull() {
            name
        } else {
            registry.name.as_str()
        };
        format!(
            "Pods' logins push, too: Registry {name} asks as the same principal; give Registry {pushing} another role or identity"
        )
    };
    names.into_iter().map(describe).collect()
}

/// Who asks for a Registry's credentials.
fn principals(registry: &ValidRegistry) -> BTreeSet<String> {
    let sources = minted(registry);
    sources.map(principal_of).collect()
}

/// Where a Registry's credentials are good: a token is for one region, or for one registry.
fn reach(registry: &ValidRegistry) -> BTreeSet<String> {
    let place = |source: &MintSource| match source {
        MintSource::Ecr(source) => format!("{} {}", source.region, source.public),
        MintSource::Acr(source) => {
            let (name, suffix) = name_and_suffix(&source.server);
            format!("{name}.{suffix}")
        }
    };
    minted(registry).map(place).collect()
}

/// Whether its tokens have less than the rights of who asks for them.
fn is_narrowed(registry: &ValidRegistry) -> bool {
    minted(registry)
        .all(|source| matches!(source, MintSource::Acr(source) if !source.scopes.is_empty()))
}

fn minted(registry: &ValidRegistry) -> impl Iterator<Item = &MintSource> {
    let sources = registry.sources.iter();
    sources.filter_map(|(source, _)| match source {
        CredentialSource::Minted(source) => Some(source),
        CredentialSource::Static(_) => None,
    })
}

fn principal_of(source: &MintSource) -> String {
    match source {
        MintSource::Ecr(source) => aws_principal(source),
        MintSource::Acr(source) => azure_principal(source),
    }
}

/// The last role decides, whoever assumes it.
fn aws_principal(source: &EcrSource) -> String {
    let partition = source.partition;
    let hop = source.assume_roles.last().map(|hop| &hop.role_arn);
    match (hop, &source.identity) {
        (Some(role), _)
        | (
            None,
            EcrIdentity::ServiceAccount {
                role_arn: Some(role),
                ..
            }
            | EcrIdentity::Tenant { role_arn: role, .. },
        ) => role.clone(),
        (None, EcrIdentity::Workload) => format!("{partition} workload"),
        (None, EcrIdentity::Node) => format!("{partition} node"),
        (None, EcrIdentity::Keys { secret }) => format!("{partition} keys {secret}"),
        (None, EcrIdentity::ServiceAccount { name, .. }) => {
            format!("{partition} service account {name}")
        }
    }
}

/// An application decides, however it is asked.
fn azure_principal(source: &AcrSource) -> String {
    match &source.identity {
        AcrIdentity::Workload {
            client_id: Some(id),
            ..
        }
        | AcrIdentity::Managed(ManagedIdentity::Client(id))
        | AcrIdentity::ServiceAccount {
            client_id: Some(id),
            ..
        }
        | AcrIdentity::Tenant { client_id: id, .. }
        | AcrIdentity::ServicePrincipal { client_id: id, .. } => format!("application {id}"),
        AcrIdentity::Workload { .. } => "azure workload".to_owned(),
        AcrIdentity::Managed(ManagedIdentity::System) => "azure node".to_owned(),
        AcrIdentity::Managed(ManagedIdentity::Resource(id)) => {
            format!("azure resource {}", id.to_ascii_lowercase())
        }
        AcrIdentity::ServiceAccount { name, .. } => format!("azure service account {name}"),
    }
}
