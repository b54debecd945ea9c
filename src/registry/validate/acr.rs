//! The rules of `spec.acr`.

use super::{Problems, check_endpoints, check_object_name};
use crate::image;
use crate::names::is_subdomain;
use crate::registry::audience::is_entra_audience;
use crate::registry::crd::acr::{
    Acr, AcrEndpoints, AcrIdentitySpec, ManagedIdentitySpec, SCOPE_MAX, SCOPES_MAX,
    ServiceAccountApplication,
};
use crate::registry::guid::is_guid;
use crate::registry::host::{AzureCloud, Host, is_login_server};
use crate::registry::pattern::Pattern;

/// Checks `spec.acr` and that each image's host is a login server that it is for.
pub(super) fn check(acr: &Acr, images: &[Pattern], findings: &mut Problems<'_>) {
    check_identity(&acr.identity, findings);
    check_audience(acr, findings);
    let endpoints = acr.endpoints.clone().unwrap_or_default();
    check_own_endpoints(&endpoints, findings);
    let suffix = endpoints.login_server_suffix.as_deref();
    let mut has_use = false;
    for image in images {
        match check_image(image, acr, suffix) {
            Ok(uses_suffix) => has_use |= uses_suffix,
            Err(problem) => findings.add_of_image(image, format!("\"{image}\" {problem}")),
        }
    }
    if suffix.is_some() && !has_use {
        findings.add(
            "spec.acr.endpoints.loginServerSuffix",
            "is the end of no host of images: remove it",
        );
    }
    check_scopes(&acr.scopes, images, findings);
}

/// Whether the image's host is known by the suffix alone.
fn check_image(image: &Pattern, acr: &Acr, suffix: Option<&str>) -> Result<bool, String> {
    if image.has_wildcard() {
        return Err(
            "has a * in its host: a token of Azure is for one login server, list them".to_owned(),
        );
    }
    // The kubelet compares ports as text, so an image that names the usual one needs a pattern that does, too.
    if image::split_port(image.domain())
        .1
        .is_some_and(|port| port != "443")
    {
        return Err(
            "has a port other than 443: login servers of Azure have no other, remove it".to_owned(),
        );
    }
    match Host::recognise(image.host()) {
        Some(Host::Acr(host)) if host.cloud == AzureCloud::Germany => {
            Err("belongs to a cloud that was closed in 2021: remove it".to_owned())
        }
        Some(Host::Acr(host)) => match acr.cloud {
            Some(cloud) if cloud != host.cloud => Err(format!(
                "belongs to the cloud {}: remove acr.cloud, the host says it",
                host.cloud.name()
            )),
            _ => Ok(false),
        },
        Some(Host::AcrData) => Err(
            "is a data endpoint: no image is pulled from one and no credential is for it, name the login server".to_owned(),
        ),
        Some(Host::Ecr(_) | Host::EcrPublic { .. }) => {
            Err("is a registry of Amazon: Azure's credentials are not for it".to_owned())
        }
        None if is_login_server(image.host(), suffix) => Ok(true),
        None => Err(
            "is no login server of Azure: correct it, or give acr.endpoints.loginServerSuffix if it is an alias of one".to_owned(),
        ),
    }
}

fn check_identity(identity: &AcrIdentitySpec, findings: &mut Problems<'_>) {
    let field = "spec.acr.identity";
    let given = [
        identity.workload.is_some(),
        identity.managed_identity.is_some(),
        identity.service_principal.is_some(),
        identity.service_account.is_some(),
    ];
    if given.iter().filter(|given| **given).count() != 1 {
        findings.add(
            field,
            "must have exactly one of workload, managedIdentity, servicePrincipal and serviceAccount: give exactly one",
        );
    }
    if let Some(workload) = &identity.workload {
        let ids = [
            ("clientId", &workload.client_id),
            ("tenantId", &workload.tenant_id),
        ];
        check_ids(&format!("{field}.workload"), ids, findings);
    }
    if let Some(managed) = &identity.managed_identity {
        check_managed(managed, findings);
    }
    if let Some(account) = &identity.service_account {
        check_service_account(account, findings);
    }
    if let Some(principal) = &identity.service_principal {
        let field = format!("{field}.servicePrincipal");
        check_id(&format!("{field}.tenantId"), &principal.tenant_id, findings);
        check_id(&format!("{field}.clientId"), &principal.client_id, findings);
        let secret = &principal.secret_ref.name;
        check_object_name(
            "a Secret",
            &format!("{field}.secretRef.name"),
            secret,
            findings,
        );
    }
}

fn check_service_account(account: &ServiceAccountApplication, findings: &mut Problems<'_>) {
    const FIELD: &str = "spec.acr.identity.serviceAccount";
    check_object_name(
        "a ServiceAccount",
        &format!("{FIELD}.name"),
        &account.name,
        findings,
    );
    let ids = [
        ("clientId", &account.client_id),
        ("tenantId", &account.tenant_id),
    ];
    check_ids(FIELD, ids, findings);
    let (client_id, tenant_id) = (account.client_id.is_some(), account.tenant_id.is_some());
    let is_said = if account.from_annotations {
        !client_id
    } else {
        client_id && tenant_id
    };
    if !is_said {
        findings.add(
            FIELD,
            "must say which application: give clientId and tenantId, or fromAnnotations: true without clientId",
        );
    }
}

fn check_audience(acr: &Acr, findings: &mut Problems<'_>) {
    let Some(audience) = acr.audience.as_deref() else {
        return;
    };
    let has_use = acr.identity.service_account.is_some();
    if !is_entra_audience(audience) {
        findings.add(
            "spec.acr.audience",
            format!(
                "{audience:?} is no audience of Entra ID: write one like api://AzureADTokenExchange"
            ),
        );
    } else if !has_use {
        findings.add(
            "spec.acr.audience",
            "is for the tokens of identity.serviceAccount alone: remove it",
        );
    }
}

fn check_managed(managed: &ManagedIdentitySpec, findings: &mut Problems<'_>) {
    let field = "spec.acr.identity.managedIdentity";
    check_ids(field, [("clientId", &managed.client_id)], findings);
    if managed.client_id.is_some() && managed.resource_id.is_some() {
        findings.add(field, "has both clientId and resourceId: give one");
    }
    if managed
        .resource_id
        .as_deref()
        .is_some_and(|id| !is_resource_id(id))
    {
        findings.add(
            format!("{field}.resourceId"),
            "is no resource id of a managed identity: write /subscriptions/…/resourceGroups/…/providers/Microsoft.ManagedIdentity/userAssignedIdentities/…",
        );
    }
}

fn check_ids<'i>(
    field: &str,
    ids: impl IntoIterator<Item = (&'static str, &'i Option<String>)>,
    findings: &mut Problems<'_>,
) {
    for (name, id) in ids {
        if let Some(id) = id {
            check_id(&format!("{field}.{name}"), id, findings);
        }
    }
}

fn check_id(field: &str, id: &str, findings: &mut Problems<'_>) {
    if !is_guid(id) {
        findings.add(
            field,
            format!("{id:?} is no id: write it as 00000000-0000-0000-0000-000000000000"),
        );
    }
}

/// `/subscriptions/ID/resourceGroups/NAME/providers/Microsoft.ManagedIdentitySpec/userAssignedIdentities/NAME`, in any case of letters.
fn is_resource_id(id: &str) -> bool {
    let parts: Vec<&str> = id.split('/').collect();
    let is_name = |name: &str| {
        let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"_.()-".contains(&byte);
        !name.is_empty() && name.bytes().all(is_part)
    };
    let is = |part: &str, word: &str| part.eq_ignore_ascii_case(word);
    id.len() <= 512
        && matches!(parts[..], ["", subscriptions, subscription, groups, group, providers, provider, kind, name]
            if subscriptions == "subscriptions" && is_guid(subscription) && is(groups, "resourceGroups") && is_name(group)
                && providers == "providers" && is(provider, "Microsoft.ManagedIdentity")
                && is(kind, "userAssignedIdentities") && is_name(name))
}

fn check_own_endpoints(endpoints: &AcrEndpoints, findings: &mut Problems<'_>) {
    let field = "spec.acr.endpoints";
    let urls = [
        ("authority", &endpoints.authority),
        ("resource", &endpoints.resource),
    ];
    check_endpoints(field, urls, findings);
    let is_suffix = |suffix: &str| {
        suffix.contains('.')
            && suffix.len() <= 200
            && is_subdomain(suffix)
            && suffix.bytes().any(|byte| byte.is_ascii_lowercase())
    };
    if endpoints
        .login_server_suffix
        .as_deref()
        .is_some_and(|suffix| !is_suffix(suffix))
    {
        findings.add(
            format!("{field}.loginServerSuffix"),
            "is no end of hosts: write at least two labels in lower case, such as azurecr.example.com",
        );
    }
}

/// Repositories, of which the scopes are made: <https://distribution.github.io/distribution/spec/auth/scope/>.
fn check_scopes(scopes: &[String], images: &[Pattern], findings: &mut Problems<'_>) {
    if scopes.len() > SCOPES_MAX {
        findings.add(
            "spec.acr.scopes",
            format!("has more than {SCOPES_MAX} repositories: split it over several Registries"),
        );
    }
    for (index, scope) in scopes.iter().enumerate().take(SCOPES_MAX) {
        let field = format!("spec.acr.scopes[{index}]");
        if scope.len() > SCOPE_MAX || !image::is_path(scope) {
            let message = format!(
                "{scope:?} is no repository: write its full name below the login server, as samples/app, no * and no verb"
            );
            findings.add(field, message);
        } else if scopes[..index].contains(scope) {
            findings.add(field, format!("{scope:?} is there twice: remove one"));
        } else if !images
            .iter()
            .any(|image| image.covers(image.domain(), scope))
        {
            findings.add(
                field,
                format!("{scope:?} is under no pattern of images: remove it, or name it there"),
            );
        }
    }
}
