//! Binding: a Registry names a ServiceAccount, a namespace has one of that name; together they are an identity. Pure.

use std::sync::Arc;

use super::Namespace;
use super::service_account::{
    ACR_CLIENT_ANNOTATION, ACR_TENANT_ANNOTATION, AWS_AUDIENCE_ANNOTATION, AWS_ROLE_ANNOTATION,
    AZURE_CLIENT_ANNOTATION, AZURE_TENANT_ANNOTATION, ECR_ROLE_ANNOTATION, ServiceAccount,
};
use crate::credential::TenantError;
use crate::names::ObjectName;
use crate::registry::arn::RoleArn;
use crate::registry::audience::is_sts_audience;
use crate::registry::guid::is_guid;
use crate::registry::source::{
    AcrIdentity, AcrSource, EcrIdentity, EcrSource, MintSource, STS_AUDIENCE, Tenant,
};
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
    let EcrIdentity::ServiceAccount {
        role_arn, audience, ..
    } = &source.identity
    else {
        return Ok(source.clone());
    };
    let is_annotated = role_arn.is_none();
    let role_arn = match role_arn {
        Some(role_arn) => role_arn.clone(),
        None => annotated_role(source, account, whose)?,
    };
    let audience = match audience {
        None if is_annotated => annotated_audience(account, whose)?,
        given => given.clone(),
    };
    let identity = EcrIdentity::Tenant {
        tenant,
        role_arn,
        audience: audience.unwrap_or_else(|| STS_AUDIENCE.to_owned()),
    };
    Ok(EcrSource {
        identity,
        ..source.clone()
    })
}

/// The role that the ServiceAccount names, for Amazon ECR alone or for all of AWS.
fn annotated_role(
    source: &EcrSource,
    account: &ServiceAccount,
    whose: AccountRef<'_>,
) -> Result<String, TenantError> {
    let annotation = account.annotation_of(ECR_ROLE_ANNOTATION, AWS_ROLE_ANNOTATION);
    let text = whose.annotation(account, annotation)?;
    check_role(source, text).map_err(|problem| whose.malformed(annotation, problem))?;
    Ok(text.to_owned())
}

/// The audience that the ServiceAccount names, if it does. Which ones there may be is up to the policy on tokens.
fn annotated_audience(
    account: &ServiceAccount,
    whose: AccountRef<'_>,
) -> Result<Option<String>, TenantError> {
    match account.annotations.get(AWS_AUDIENCE_ANNOTATION) {
        None => Ok(None),
        Some(audience) if is_sts_audience(audience) => Ok(Some(audience.clone())),
        Some(_) => Err(whose.malformed(
            AWS_AUDIENCE_ANNOTATION,
            "is no audience of tokens for AWS STS, or one that API servers take for their own"
                .to_owned(),
        )),
    }
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
    let client = account.annotation_of(ACR_CLIENT_ANNOTATION, AZURE_CLIENT_ANNOTATION);
    let directory = account.annotation_of(ACR_TENANT_ANNOTATION, AZURE_TENANT_ANNOTATION);
    let says_tenant = tenant_id.is_some() || account.annotations.contains_key(directory);
    let identity = AcrIdentity::Tenant {
        client_id: id(client_id, client)?,
        // Where nobody says which, it is pullpass' own, as Azure's webhook takes its own (AZURE_TENANT_ID).
        tenant_id: says_tenant.then(|| id(tenant_id, directory)).transpose()?,
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
    use crate::registry::Access;
    use crate::registry::host::AzureCloud;
    use crate::registry::source::{AcrEndpoints, EcrEndpoints, Partition, TokenLifetime};

    const OTHER: &str = "arn:aws:iam::123456789012:role/other";
    const ECR: &str = "arn:aws:iam::123456789012:role/ecr";
    const APP: &str = "11111111-1111-1111-1111-111111111111";
    const OTHER_APP: &str = "22222222-2222-2222-2222-222222222222";

    fn grant(source: MintSource) -> Grant {
        Grant {
            registry: ObjectName::parse("eu").unwrap(),
            secret: ObjectName::parse("pullpass").unwrap(),
            format: crate::registry::SecretFormat::PullSecret,
            access: Access::Pull,
            source: CredentialSource::Minted(source),
            keys: Vec::new(),
            reserved: Vec::new(),
            host_keys: Vec::new(),
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

    fn ecr_source(role_arn: Option<&str>, audience: Option<&str>) -> EcrSource {
        EcrSource {
            partition: Partition::Aws,
            region: "eu-west-1".to_owned(),
            public: false,
            fips: false,
            dual_stack: false,
            identity: EcrIdentity::ServiceAccount {
                name: "puller".parse().unwrap(),
                role_arn: role_arn.map(ToOwned::to_owned),
                audience: audience.map(ToOwned::to_owned),
            },
            session_seconds: None,
            assume_roles: Vec::new(),
            token_life: TokenLifetime::Session,
            endpoints: EcrEndpoints::default(),
        }
    }

    /// The role that a source is bound to, and whom its tokens are for.
    fn bound_ecr(
        source: EcrSource,
        annotations: &[(&str, &str)],
    ) -> Result<(String, String), String> {
        match bound(source.into(), annotations) {
            Ok(MintSource::Ecr(EcrSource {
                identity:
                    EcrIdentity::Tenant {
                        role_arn, audience, ..
                    },
                ..
            })) => Ok((role_arn, audience)),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error.to_string()),
        }
    }

    /// F5: the annotation counts where annotations do, and an admin's own word comes first.
    #[test]
    fn binds_to_the_audience_of_the_annotation_only_from_annotations() {
        let annotations = [
            (AWS_ROLE_ANNOTATION, OTHER),
            (AWS_AUDIENCE_ANNOTATION, "annotated"),
        ];
        let audience = |role_arn, audience, annotations: &[(&str, &str)]| {
            bound_ecr(ecr_source(role_arn, audience), annotations).map(|(_, audience)| audience)
        };
        let annotated = |given| audience(None, given, &annotations);
        assert_eq!(annotated(None).as_deref(), Ok("annotated"));
        assert_eq!(annotated(Some("given")).as_deref(), Ok("given"));
        let named = |given| audience(Some(ECR), given, &annotations);
        assert_eq!(named(None).as_deref(), Ok(STS_AUDIENCE));
        assert_eq!(named(Some("given")).as_deref(), Ok("given"));
        let plain = audience(None, None, &annotations[..1]);
        assert_eq!(plain.as_deref(), Ok(STS_AUDIENCE));
        for none in ["", "https://kubernetes.default.svc", "kubernetes", "a b"] {
            let annotations = [annotations[0], (AWS_AUDIENCE_ANNOTATION, none)];
            let problem = audience(None, None, &annotations).unwrap_err();
            assert!(problem.contains(AWS_AUDIENCE_ANNOTATION), "{problem}");
            assert!(audience(Some(ECR), None, &annotations).is_ok(), "{none}");
        }
    }

    /// Another audience is another credential; the usual one is the same that it was before there was a choice.
    #[test]
    fn keys_differ_by_audience_and_by_nothing_that_is_usual() {
        let key = |role_arn, audience| {
            let annotations = [(AWS_ROLE_ANNOTATION, ECR)];
            bound(ecr_source(role_arn, audience).into(), &annotations).map(|one| one.canonical())
        };
        assert_eq!(key(None, None), key(Some(ECR), Some(STS_AUDIENCE)));
        assert_ne!(key(None, None), key(None, Some("other")));
        let usual = key(None, None).unwrap();
        assert!(
            !usual.contains("audience") && !usual.contains("session"),
            "{usual}"
        );
        let longer = EcrSource {
            session_seconds: Some(7200),
            ..ecr_source(None, None)
        };
        assert!(
            MintSource::from(longer)
                .canonical()
                .contains("sessionSeconds=7200")
        );
    }

    /// F21: what is said for Amazon ECR alone comes first, and is held to the same form.
    #[test]
    fn binds_to_the_role_for_ecr_before_any_other() {
        let role = |annotations: &[(&str, &str)]| {
            bound_ecr(ecr_source(None, None), annotations).map(|(role_arn, _)| role_arn)
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
        let both = |annotations: &[(&str, &str)]| match bound(source().into(), annotations) {
            Ok(MintSource::Acr(AcrSource {
                identity:
                    AcrIdentity::Tenant {
                        client_id,
                        tenant_id,
                        ..
                    },
                ..
            })) => Ok((client_id, tenant_id)),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error.to_string()),
        };
        let tenant = |annotations: &[(&str, &str)]| both(annotations).map(|(_, tenant)| tenant);
        let (client, own) = (AZURE_CLIENT_ANNOTATION, AZURE_TENANT_ANNOTATION);
        assert_eq!(tenant(&[(client, APP)]), Ok(None));
        assert_eq!(
            tenant(&[(client, APP), (own, APP)]),
            Ok(Some(APP.to_owned()))
        );
        assert!(tenant(&[(client, APP), (own, "../x")]).is_err());
        // What is said for registries alone comes first, and is held to the same form.
        let every = [(client, APP), (own, APP)];
        let (for_acr, of_acr) = (ACR_CLIENT_ANNOTATION, ACR_TENANT_ANNOTATION);
        let first = [
            every[0],
            every[1],
            (for_acr, OTHER_APP),
            (of_acr, OTHER_APP),
        ];
        let other = OTHER_APP.to_owned();
        assert_eq!(both(&first), Ok((other.clone(), Some(other.clone()))));
        assert_eq!(both(&first[2..3]), Ok((other, None)));
        let malformed = both(&[every[0], every[1], (for_acr, "x")]).unwrap_err();
        assert!(malformed.contains(for_acr), "{malformed}");
        assert!(tenant(&[]).unwrap_err().contains(client));
    }
}
