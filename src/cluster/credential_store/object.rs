//! One Secret of the credential store, read and written.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use secrecy::SecretString;
use serde_json::{Value, json};

use crate::cluster::objects::read_version;
use crate::cluster::own_labels;
use crate::credential::{Credential, find_claim_left};
use crate::names::{NamespaceName, ObjectName};
use crate::plain_text::to_base64;
use crate::provision::ports::Version;
use crate::registry::source::Tenant;

/// The label on the Secrets of the credential store.
pub(in crate::cluster) const STORE_LABEL: &str = "pullpass.dev/store";

const CLAIM_ANNOTATION: &str = "pullpass.dev/claimed-until";
const CREDENTIAL_KEY_ANNOTATION: &str = "pullpass.dev/credential-key";
const PRINCIPAL_ANNOTATION: &str = "pullpass.dev/principal";
const EXPIRES_ANNOTATION: &str = "pullpass.dev/expiration-time";
/// On what a namespace's own ServiceAccount minted: whose it is, for who cleans up and for people.
const TENANT_NAMESPACE_LABEL: &str = "pullpass.dev/tenant-namespace";
const TENANT_NAMESPACE_UID_LABEL: &str = "pullpass.dev/tenant-namespace-uid";
const TENANT_ACCOUNT_UID_LABEL: &str = "pullpass.dev/tenant-service-account-uid";
const TENANT_ACCOUNT_ANNOTATION: &str = "pullpass.dev/tenant-service-account";
/// What one Secret of the store holds.
#[derive(Clone)]
pub(in crate::cluster) struct StoredSecret {
    pub(super) version: Version,
    pub(super) source: String,
    /// The ServiceAccount of a tenant that it is minted by, if it is.
    pub(super) tenant: Option<Tenant>,
    pub(super) credential: Option<Arc<Credential>>,
    pub(super) claimed_until: Option<Timestamp>,
    /// When this replica first saw it so.
    pub(super) seen_at: Instant,
    /// When the API server made the Secret.
    pub(super) created_at: Option<Timestamp>,
}

impl StoredSecret {
    /// Reads a Secret of the store that the watch shows.
    ///
    /// # Errors
    /// It holds something that is no credential: what was known before stays, and the next mint replaces it.
    pub(in crate::cluster) fn try_read(secret: &Secret) -> Result<Self, String> {
        let stored = Self::read(secret);
        let empty = secret.data.as_ref().is_none_or(BTreeMap::is_empty);
        if stored.credential.is_none() && !empty {
            return Err("its data is no credential".to_owned());
        }
        Ok(stored)
    }

    /// Reads a Secret of the store. What cannot be read as a credential counts as none: the next mint replaces it.
    pub(super) fn read(secret: &Secret) -> Self {
        let annotations = secret.metadata.annotations.as_ref();
        let annotation = |name: &str| annotations.and_then(|all| all.get(name));
        Self {
            version: read_version(&secret.metadata),
            source: annotation(CREDENTIAL_KEY_ANNOTATION)
                .cloned()
                .unwrap_or_default(),
            tenant: read_tenant(secret),
            credential: read_credential(secret).map(Arc::new),
            claimed_until: annotation(CLAIM_ANNOTATION).and_then(|until| until.parse().ok()),
            seen_at: Instant::now(),
            created_at: secret
                .metadata
                .creation_timestamp
                .as_ref()
                .map(|time| time.0),
        }
    }

    /// How much longer a claim of it is respected; `None`: it is not claimed.
    pub(super) fn find_claim_left(&self, now: Timestamp) -> Option<SignedDuration> {
        find_claim_left(self.claimed_until?, self.seen_at.elapsed(), now)
    }

    pub(super) fn write(&self) -> Value {
        let mut annotations = json!({ CREDENTIAL_KEY_ANNOTATION: self.source });
        if let Some(until) = self.claimed_until {
            annotations[CLAIM_ANNOTATION] = until.to_string().into();
        }
        let mut labels = own_labels();
        labels[STORE_LABEL] = "true".into();
        if let Some(tenant) = &self.tenant {
            labels[TENANT_NAMESPACE_LABEL] = tenant.namespace.as_str().into();
            labels[TENANT_NAMESPACE_UID_LABEL] = tenant.namespace_uid.as_str().into();
            labels[TENANT_ACCOUNT_UID_LABEL] = tenant.service_account_uid.as_str().into();
            annotations[TENANT_ACCOUNT_ANNOTATION] = tenant.service_account.as_str().into();
        }
        let mut object = json!({ "type": "Opaque" });
        if let Some(credential) = &self.credential {
            annotations[PRINCIPAL_ANNOTATION] = credential.principal.as_str().into();
            annotations[EXPIRES_ANNOTATION] = credential.expires_at.to_string().into();
            object["data"] = write_credential(credential);
        }
        object["metadata"] = json!({
            "labels": labels,
            "annotations": annotations,
        });
        object
    }
}

fn read_tenant(secret: &Secret) -> Option<Tenant> {
    let labels = secret.metadata.labels.as_ref()?;
    let annotations = secret.metadata.annotations.as_ref()?;
    let account = annotations.get(TENANT_ACCOUNT_ANNOTATION)?;
    Some(Tenant {
        namespace: NamespaceName::parse(labels.get(TENANT_NAMESPACE_LABEL)?).ok()?,
        namespace_uid: labels.get(TENANT_NAMESPACE_UID_LABEL)?.clone(),
        service_account: ObjectName::parse(account).ok()?,
        service_account_uid: labels.get(TENANT_ACCOUNT_UID_LABEL)?.clone(),
    })
}

fn read_credential(secret: &Secret) -> Option<Credential> {
    let data = secret.data.as_ref()?;
    let text = |key: &str| std::str::from_utf8(&data.get(key)?.0).ok();
    Some(Credential {
        username: text("username")?.to_owned(),
        password: SecretString::from(text("password")?),
        minted_at: text("mintedAt")?.parse().ok()?,
        expires_at: text("expiresAt")?.parse().ok()?,
        principal: text("principal")?.to_owned(),
    })
}

fn write_credential(credential: &Credential) -> Value {
    use base64::Engine as _;
    let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    json!({
        "username": encode(&credential.username),
        "password": to_base64(&credential.password),
        "mintedAt": encode(&credential.minted_at.to_string()),
        "expiresAt": encode(&credential.expires_at.to_string()),
        "principal": encode(&credential.principal),
    })
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    fn credential() -> Credential {
        Credential {
            username: "AWS".to_owned(),
            password: SecretString::from("canary"),
            minted_at: "2026-11-21T10:00:00.5Z".parse().unwrap(),
            expires_at: "2026-11-21T22:00:00Z".parse().unwrap(),
            principal: "arn:aws:sts::123456789012:assumed-role/pull/pullpass".to_owned(),
        }
    }

    fn stored(credential: Option<Credential>, claimed_until: Option<Timestamp>) -> StoredSecret {
        StoredSecret {
            version: Version::default(),
            source: "ecr identity=workload".to_owned(),
            tenant: None,
            credential: credential.map(Arc::new),
            claimed_until,
            seen_at: Instant::now(),
            created_at: None,
        }
    }

    fn read_back(stored: &StoredSecret) -> StoredSecret {
        StoredSecret::read(&serde_json::from_value(stored.write()).unwrap())
    }

    #[test]
    fn reads_back_what_it_wrote() {
        let until = "2026-11-21T10:00:10.25Z".parse().unwrap();
        let back = read_back(&stored(Some(credential()), Some(until)));
        let found = back.credential.unwrap();
        assert_eq!(found.password.expose_secret(), "canary");
        assert_eq!(found.minted_at, credential().minted_at);
        assert_eq!(found.expires_at, credential().expires_at);
        assert_eq!(found.principal, credential().principal);
        assert_eq!(back.claimed_until, Some(until));
        assert_eq!(back.source, "ecr identity=workload");
    }

    #[test]
    fn keeps_whose_identity_minted() {
        let tenant = Tenant {
            namespace: NamespaceName::constant("team-a"),
            namespace_uid: "4c0e5f0e-1111-4a53-8f0e-000000000001".to_owned(),
            service_account: ObjectName::constant("image.puller"),
            service_account_uid: "4c0e5f0e-1111-4a53-8f0e-000000000002".to_owned(),
        };
        let mine = StoredSecret {
            tenant: Some(tenant.clone()),
            ..stored(Some(credential()), None)
        };
        assert_eq!(read_back(&mine).tenant, Some(tenant));
        assert_eq!(read_back(&stored(None, None)).tenant, None);
    }

    #[test]
    fn holds_no_credential_when_a_part_of_it_is_missing() {
        let mut object = stored(Some(credential()), None).write();
        object["data"]["expiresAt"] = "bm8gdGltZQ==".into();
        let secret: Secret = serde_json::from_value(object).unwrap();
        assert!(StoredSecret::read(&secret).credential.is_none());
        assert!(StoredSecret::try_read(&secret).is_err());
        assert!(
            StoredSecret::try_read(
                &serde_json::from_value(stored(Some(credential()), None).write()).unwrap()
            )
            .is_ok()
        );
        assert!(
            StoredSecret::try_read(&serde_json::from_value(stored(None, None).write()).unwrap())
                .is_ok()
        );
    }

    #[test]
    fn shows_no_password_outside_the_data() {
        let mut object = stored(Some(credential()), None).write();
        object.as_object_mut().unwrap().remove("data");
        assert!(!object.to_string().contains("canary"));
    }
}
