//! Binding: a Registry names a ServiceAccount, a namespace has one of that name; together they are an identity. Pure.

use std::sync::Arc;

use super::Namespace;
use super::service_account::{
    AWS_ROLE_ANNOTATION, AZURE_CLIENT_ANNOTATION, AZURE_TENANT_ANNOTATION, ServiceAccount,
};
use crate::credential::TenantError;
use crate::names::ObjectName;
use crate::registry::arn::RoleArn;
use crate::registry::guid::is_guid;
use crate::registry::source::{AcrIdentity, AcrSource, EcrIdentity, EcrSource, MintSource, Tenant};
use crate::registry::{CredentialSource, Grant};

/// The name of the ServiceAccount that a grant's credential still has to be bound to; `None` when there is nothing to bind.
pub fn unbound(grant: &Grant) -> Option<&ObjectName> {
    match &grant.source {
        CredentialSource::Minted(source) => source.unbound(),
        CredentialSource::Static(_) => None,
    }
}

/// Binds a grant to the ServiceAccount of its name in its namespace. What comes of it holds both objects' unique ids: it is for this
/// namespace alone, and for this ServiceAccount alone.
///
/// # Errors
/// [`TenantError`] when there is no such ServiceAccount, or it does not say what the Registry reads from it.
pub fn bind(
    grant: &Grant,
    namespace: &Namespace,
    account: Option<&ServiceAccount>,
) -> Result<Grant, TenantError> {
    let CredentialSource::Minted(source) = &grant.source else {
        return Ok(grant.clone());
    };
    let Some(name) = source.unbound() else {
        return Ok(grant.clone());
    };
    let whose = AccountRef {
        namespace: &namespace.name,
        name,
    };
    let account = account.ok_or_else(|| whose.missing())?;
    let tenant = Arc::new(Tenant {
        namespace: namespace.name.clone(),
        namespace_uid: namespace.uid.clone(),
        service_account: name.clone(),
        service_account_uid: account.uid.clone(),
    });
    let bound = match source {
        MintSource::Ecr(ecr) => bind_ecr(ecr, tenant, account, whose)?.into(),
        MintSource::Acr(acr) => bind_acr(acr, tenant, account, whose)?.into(),
    };
    Ok(Grant {
        source: CredentialSource::Minted(bound),
        ..grant.clone()
    })
}

fn bind_ecr(
    source: &EcrSource,
    tenant: Arc<Tenant>,
    account: &ServiceAccount,
    whose: AccountRef<'_>,
) -> Result<EcrSource, TenantError> {
    let EcrIdentity::ServiceAccount { role_arn, .. } = &source.identity else {
        return Ok(source.clone());
    };
    let role_arn = if let Some(role_arn) = role_arn {
        role_arn.clone()
    } else {
        let text = whose.annotation(account, AWS_ROLE_ANNOTATION)?;
        check_role(source, text)
            .map_err(|problem| whose.malformed(AWS_ROLE_ANNOTATION, problem))?;
        text.to_owned()
    };
    Ok(EcrSource {
        identity: EcrIdentity::Tenant { tenant, role_arn },
        ..source.clone()
    })
}

fn bind_acr(
    source: &AcrSource,
    tenant: Arc<Tenant>,
    account: &ServiceAccount,
    whose: AccountRef<'_>,
) -> Result<AcrSource, TenantError> {
    let AcrIdentity::ServiceAccount {
        client_id,
        tenant_id,
        audience,
        ..
    } = &source.identity
    else {
        return Ok(source.clone());
    };
    // What a tenant wrote is an id, to the letter, or nothing.
    let id = |given: &Option<String>, annotation| match given {
        Some(id) => Ok(id.clone()),
        None => match whose.annotation(account, annotation)? {
            id if is_guid(id) => Ok(id.to_ascii_lowercase()),
            _ => Err(whose.malformed(
                annotation,
                "is no id of the form 00000000-0000-0000-0000-000000000000".to_owned(),
            )),
        },
    };
    let identity = AcrIdentity::Tenant {
        client_id: id(client_id, AZURE_CLIENT_ANNOTATION)?,
        tenant_id: id(tenant_id, AZURE_TENANT_ANNOTATION)?,
        audience: audience.clone(),
        tenant,
    };
    Ok(AcrSource {
        identity,
        ..source.clone()
    })
}

/// What a tenant wrote is a role of the registry's partition, to the letter, or nothing.
fn check_role(source: &EcrSource, text: &str) -> Result<(), String> {
    let role = RoleArn::parse(text)?;
    if role.partition == source.partition.name() {
        return Ok(());
    }
    Err(format!(
        "names a role of partition {}, and the images are of partition {}",
        role.partition, source.partition
    ))
}

/// The ServiceAccount that is spoken of.
#[derive(Clone, Copy)]
struct AccountRef<'a> {
    namespace: &'a str,
    name: &'a str,
}

impl AccountRef<'_> {
    fn missing(self) -> TenantError {
        TenantError::MissingServiceAccount {
            namespace: self.namespace.to_owned(),
            service_account: self.name.to_owned(),
        }
    }

    fn annotation<'s>(
        self,
        account: &'s ServiceAccount,
        annotation: &'static str,
    ) -> Result<&'s str, TenantError> {
        let found = account.annotations.get(annotation);
        found
            .map(String::as_str)
            .ok_or_else(|| TenantError::MissingAnnotation {
                namespace: self.namespace.to_owned(),
                service_account: self.name.to_owned(),
                annotation,
            })
    }

    fn malformed(self, annotation: &'static str, problem: String) -> TenantError {
        TenantError::MalformedAnnotation {
            namespace: self.namespace.to_owned(),
            service_account: self.name.to_owned(),
            annotation,
            problem,
        }
    }
}
