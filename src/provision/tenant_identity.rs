//! Binding: a Registry names a ServiceAccount, a namespace has one of that name; together they are an identity. Pure.

use std::sync::Arc;

use super::Namespace;
use super::service_account::{
    AWS_ROLE_ANNOTATION, AZURE_CLIENT_ANNOTATION, AZURE_TENANT_ANNOTATION, ECR_ROLE_ANNOTATION,
    ServiceAccount,
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
        let has_own = account.annotations.contains_key(ECR_ROLE_ANNOTATION);
        let annotation = if has_own {
            ECR_ROLE_ANNOTATION
        } else {
            AWS_ROLE_ANNOTATION
        };
        let text = whose.annotation(account, annotation)?;
        check_role(source, text).map_err(|problem| whose.malformed(annotation, problem))?;
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
    let says_tenant =
        tenant_id.is_some() || account.annotations.contains_key(AZURE_TENANT_ANNOTATION);
    let identity = AcrIdentity::Tenant {
        client_id: id(client_id, AZURE_CLIENT_ANNOTATION)?,
        // Where nobody says which, it is pullpass' own, as Azure's webhook takes its own (AZURE_TENANT_ID).
        tenant_id: says_tenant
            .then(|| id(tenant_id, AZURE_TENANT_ANNOTATION))
            .transpose()?,
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::registry::host::AzureCloud;
    use crate::registry::source::{AcrEndpoints, EcrEndpoints, Partition, TokenLifetime};

    const OTHER: &str = "arn:aws:iam::123456789012:role/other";
    const ECR: &str = "arn:aws:iam::123456789012:role/ecr";
    const APP: &str = "11111111-1111-1111-1111-111111111111";

    fn grant(source: MintSource) -> Grant {
        Grant {
            registry: ObjectName::parse("eu").unwrap(),
            secret: ObjectName::parse("pullpass").unwrap(),
            source: CredentialSource::Minted(source),
            keys: Vec::new(),
            reserved: Vec::new(),
        }
    }

    fn namespace() -> Namespace {
        Namespace::new("team".parse().unwrap(), BTreeMap::new(), false)
    }

    fn bound(source: MintSource, annotations: &[(&str, &str)]) -> Result<MintSource, TenantError> {
        let annotations = annotations.iter();
        let account = ServiceAccount {
            uid: "1".to_owned(),
            annotations: annotations
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
            ..ServiceAccount::default()
        };
        match bind(&grant(source), &namespace(), Some(&account))?.source {
            CredentialSource::Minted(source) => Ok(source),
            CredentialSource::Static(_) => panic!("it is minted"),
        }
    }

    /// F21: what is said for Amazon ECR alone comes first, and is held to the same form.
    #[test]
    fn binds_to_the_role_for_ecr_before_any_other() {
        let source = || EcrSource {
            partition: Partition::Aws,
            region: "eu-west-1".to_owned(),
            public: false,
            fips: false,
            dual_stack: false,
            identity: EcrIdentity::ServiceAccount {
                name: "puller".parse().unwrap(),
                role_arn: None,
            },
            assume_roles: Vec::new(),
            token_life: TokenLifetime::Session,
            endpoints: EcrEndpoints::default(),
        };
        let role = |annotations: &[(&str, &str)]| match bound(source().into(), annotations) {
            Ok(MintSource::Ecr(EcrSource {
                identity: EcrIdentity::Tenant { role_arn, .. },
                ..
            })) => Ok(role_arn),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error.to_string()),
        };
        let (own, every) = (ECR_ROLE_ANNOTATION, AWS_ROLE_ANNOTATION);
        assert_eq!(role(&[(own, ECR), (every, OTHER)]).as_deref(), Ok(ECR));
        assert_eq!(role(&[(own, ECR)]).as_deref(), Ok(ECR));
        assert_eq!(role(&[(every, OTHER)]).as_deref(), Ok(OTHER));
        let malformed = role(&[(own, "ecr"), (every, OTHER)]).unwrap_err();
        assert!(malformed.contains(own), "{malformed}");
        assert!(role(&[]).unwrap_err().contains(every));
    }

    /// F19: who names no tenant is of pullpass' own, which only its environment says.
    #[test]
    fn binds_to_no_tenant_where_the_service_account_names_none() {
        let source = || AcrSource {
            server: "myreg.azurecr.io".to_owned(),
            cloud: AzureCloud::Public,
            identity: AcrIdentity::ServiceAccount {
                name: "puller".parse().unwrap(),
                client_id: None,
                tenant_id: None,
                audience: "api://AzureADTokenExchange".to_owned(),
            },
            scopes: Vec::new(),
            endpoints: AcrEndpoints::default(),
        };
        let tenant = |annotations: &[(&str, &str)]| match bound(source().into(), annotations) {
            Ok(MintSource::Acr(AcrSource {
                identity: AcrIdentity::Tenant { tenant_id, .. },
                ..
            })) => Ok(tenant_id),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error.to_string()),
        };
        let (client, own) = (AZURE_CLIENT_ANNOTATION, AZURE_TENANT_ANNOTATION);
        assert_eq!(tenant(&[(client, APP)]), Ok(None));
        assert_eq!(
            tenant(&[(client, APP), (own, APP)]),
            Ok(Some(APP.to_owned()))
        );
        assert!(tenant(&[(client, APP), (own, "../x")]).is_err());
        assert!(tenant(&[]).unwrap_err().contains(client));
    }
}
