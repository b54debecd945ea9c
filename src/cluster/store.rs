//! The credential store: one Secret per credential in pullpass' own namespace.
//!
//! A Secret `pullpass-credential-<key>` holds the credential in its data, and in an annotation until when somebody has claimed the
//! right to mint the next one. All replicas watch these Secrets; each write is a compare-and-swap.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::apply::swap;
use super::objects::read_version;
use super::{Kube, MANAGED_BY, failure};
use crate::credential::{
    CLAIM_LIFE, Claim, Credential, CredentialKey, CredentialStore, Freshness, StoreError, Ticket,
    freshness,
};
use crate::provision::access::{ClusterError, Precondition, Version};
use crate::provision::table::Table;

/// The label on the Secrets of the credential store.
pub(super) const STORE_LABEL: &str = "pullpass.dev/store";

const CLAIM_ANNOTATION: &str = "pullpass.dev/claimed-until";
const SOURCE_ANNOTATION: &str = "pullpass.dev/source";
const PRINCIPAL_ANNOTATION: &str = "pullpass.dev/principal";
const EXPIRES_ANNOTATION: &str = "pullpass.dev/expires-at";
const NAME_PREFIX: &str = "pullpass-credential-";

/// How often a lost race is run again before it is given up for this time.
const ATTEMPTS: usize = 8;

/// The credential store over one cluster.
pub struct Store {
    kube: Kube,
    rows: Table<Stored>,
    changes: watch::Sender<u64>,
}

/// What one Secret of the store holds.
#[derive(Clone)]
pub(super) struct Stored {
    version: Version,
    source: String,
    credential: Option<Arc<Credential>>,
    claimed_until: Option<Timestamp>,
}

impl Store {
    /// An empty store: a watch fills it.
    pub fn new(kube: Kube) -> Self {
        Self {
            kube,
            rows: Table::new(Arc::new(AtomicU64::new(0)), |one, other| {
                one.version == other.version
            }),
            changes: watch::Sender::new(0),
        }
    }

    /// Reads the credential of `key` live and remembers it.
    ///
    /// # Errors
    /// [`StoreError`] when the API server cannot be reached or refuses.
    pub async fn refresh(&self, key: &CredentialKey) -> Result<(), StoreError> {
        self.read(key).await.map(|_| ())
    }

    /// A number that grows with every change.
    pub fn count(&self) -> u64 {
        *self.changes.borrow()
    }

    pub(super) fn rows(&self) -> &Table<Stored> {
        &self.rows
    }

    /// Tells everybody who waits that something changed.
    pub(super) fn notify(&self) {
        self.changes.send_modify(|changes| *changes += 1);
    }

    async fn read(&self, key: &CredentialKey) -> Result<Option<Stored>, StoreError> {
        let name = name_of(key);
        let api = self.kube.own_secrets();
        let found = failure::request(&self.what(&name), api.get_opt(&name))
            .await
            .map_err(translate)?;
        Ok(found.map(|secret| self.remember(&name, &secret)))
    }

    fn remember(&self, name: &str, secret: &Secret) -> Stored {
        let stored = Stored::read(secret);
        if self
            .rows
            .put(name, &stored.version.resource_version, stored.clone())
        {
            self.notify();
        }
        stored
    }

    /// Writes one Secret of the store; `None`: somebody else wrote in between.
    async fn swap(
        &self,
        key: &CredentialKey,
        stored: &Stored,
        precondition: &Precondition,
    ) -> Result<Option<Stored>, StoreError> {
        let name = name_of(key);
        let api = self.kube.own_secrets();
        match failure::request(
            &self.what(&name),
            swap(&api, &name, stored.write(), precondition),
        )
        .await
        {
            Ok(secret) => Ok(Some(self.remember(&name, &secret))),
            Err(ClusterError::Conflict { .. }) => Ok(None),
            Err(error) => Err(translate(error)),
        }
    }

    fn what(&self, name: &str) -> String {
        format!("secret {}/{name}", self.kube.namespace())
    }

    async fn try_claim(
        &self,
        key: &CredentialKey,
        source: &str,
        now: Timestamp,
    ) -> Result<Claim, StoreError> {
        for _ in 0..ATTEMPTS {
            let there = self.read(key).await?;
            let credential = there.as_ref().and_then(|stored| stored.credential.clone());
            if let Some(credential) = &credential
                && freshness(credential, now) == Freshness::Fresh
            {
                return Ok(Claim::Theirs(Arc::clone(credential)));
            }
            if let Some(until) = there.as_ref().and_then(|stored| stored.claimed_until)
                && until > now
                // No claim is longer: a clock that runs far ahead must not hold one up for ever.
                && until <= now + CLAIM_LIFE * 2
            {
                return Ok(Claim::Pending { until });
            }
            let until = now + CLAIM_LIFE;
            let claimed = Stored {
                version: Version::default(),
                source: source.to_owned(),
                credential,
                claimed_until: Some(until),
            };
            let precondition = precondition(there.as_ref());
            if let Some(stored) = self.swap(key, &claimed, &precondition).await? {
                let version = write_version(&stored.version);
                return Ok(Claim::Yours(Ticket {
                    key: key.clone(),
                    version,
                    until,
                }));
            }
        }
        Err(StoreError::Contended)
    }

    async fn try_put(
        &self,
        ticket: Ticket,
        credential: Credential,
    ) -> Result<Arc<Credential>, StoreError> {
        let credential = Arc::new(credential);
        let mut there = self.row(&ticket.key);
        let mut precondition = Precondition::Exactly(read_ticket(&ticket));
        for _ in 0..ATTEMPTS {
            let stored = Stored {
                version: Version::default(),
                source: there
                    .as_ref()
                    .map(|stored| stored.source.clone())
                    .unwrap_or_default(),
                credential: Some(Arc::clone(&credential)),
                claimed_until: None,
            };
            if self
                .swap(&ticket.key, &stored, &precondition)
                .await?
                .is_some()
            {
                return Ok(credential);
            }
            there = self.read(&ticket.key).await?;
            let theirs = there.as_ref().and_then(|stored| stored.credential.clone());
            if let Some(theirs) = theirs.filter(|theirs| theirs.expires_at >= credential.expires_at)
            {
                return Ok(theirs);
            }
            precondition = self::precondition(there.as_ref());
        }
        Err(StoreError::Contended)
    }

    async fn try_release(&self, ticket: Ticket) -> Result<(), StoreError> {
        let Some(there) = self.row(&ticket.key) else {
            return Ok(());
        };
        let released = Stored {
            claimed_until: None,
            ..there
        };
        let precondition = Precondition::Exactly(read_ticket(&ticket));
        self.swap(&ticket.key, &released, &precondition)
            .await
            .map(|_| ())
    }

    fn row(&self, key: &CredentialKey) -> Option<Stored> {
        self.rows.get(&name_of(key)).map(|stored| (*stored).clone())
    }
}

impl CredentialStore for Store {
    fn current(&self, key: &CredentialKey) -> Option<Arc<Credential>> {
        self.rows.get(&name_of(key))?.credential.clone()
    }

    fn claim<'a>(
        &'a self,
        key: &'a CredentialKey,
        source: &'a str,
        now: Timestamp,
    ) -> BoxFuture<'a, Result<Claim, StoreError>> {
        self.try_claim(key, source, now).boxed()
    }

    fn put(
        &self,
        ticket: Ticket,
        credential: Credential,
    ) -> BoxFuture<'_, Result<Arc<Credential>, StoreError>> {
        self.try_put(ticket, credential).boxed()
    }

    fn release(&self, ticket: Ticket) -> BoxFuture<'_, ()> {
        async move {
            if let Err(error) = self.try_release(ticket).await {
                tracing::debug!(error = %error, "a claim could not be released, it ends by itself");
            }
        }
        .boxed()
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

fn name_of(key: &CredentialKey) -> String {
    format!("{NAME_PREFIX}{key}")
}

fn precondition(there: Option<&Stored>) -> Precondition {
    there.map_or(Precondition::Absent, |stored| {
        Precondition::Exactly(stored.version.clone())
    })
}

fn write_version(version: &Version) -> String {
    format!("{}/{}", version.uid, version.resource_version)
}

fn read_ticket(ticket: &Ticket) -> Version {
    let (uid, resource_version) = ticket
        .version
        .split_once('/')
        .unwrap_or(("", &ticket.version));
    Version {
        uid: uid.to_owned(),
        resource_version: resource_version.to_owned(),
    }
}

fn translate(error: ClusterError) -> StoreError {
    match error {
        ClusterError::Conflict { .. } => StoreError::Contended,
        ClusterError::Forbidden { message, .. } => StoreError::Forbidden { detail: message },
        ClusterError::Rejected { message, .. } | ClusterError::Unreachable { message, .. } => {
            StoreError::Unreachable { detail: message }
        }
        ClusterError::NamespaceGone { what } => StoreError::Unreachable {
            detail: format!("{what}: pullpass' own namespace is being deleted or gone"),
        },
    }
}

impl Stored {
    /// Reads a Secret of the store that the watch shows.
    ///
    /// # Errors
    /// It holds something that is no credential: what was known before stays, and the next mint replaces it.
    pub(super) fn try_read(secret: &Secret) -> Result<Self, String> {
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
            source: annotation(SOURCE_ANNOTATION).cloned().unwrap_or_default(),
            credential: read_credential(secret).map(Arc::new),
            claimed_until: annotation(CLAIM_ANNOTATION).and_then(|until| until.parse().ok()),
        }
    }

    fn write(&self) -> Value {
        let mut annotations = json!({ SOURCE_ANNOTATION: self.source });
        if let Some(until) = self.claimed_until {
            annotations[CLAIM_ANNOTATION] = until.to_string().into();
        }
        let mut object = json!({ "type": "Opaque" });
        if let Some(credential) = &self.credential {
            annotations[PRINCIPAL_ANNOTATION] = credential.principal.as_str().into();
            annotations[EXPIRES_ANNOTATION] = credential.expires_at.to_string().into();
            object["data"] = write_credential(credential);
        }
        object["metadata"] = json!({
            "labels": { MANAGED_BY.0: MANAGED_BY.1, STORE_LABEL: "true" },
            "annotations": annotations,
        });
        object
    }
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
        "password": encode(credential.password.expose_secret()),
        "mintedAt": encode(&credential.minted_at.to_string()),
        "expiresAt": encode(&credential.expires_at.to_string()),
        "principal": encode(&credential.principal),
    })
}

#[cfg(test)]
mod tests {
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

    fn stored(credential: Option<Credential>, claimed_until: Option<Timestamp>) -> Stored {
        Stored {
            version: Version::default(),
            source: "ecr identity=workload".to_owned(),
            credential: credential.map(Arc::new),
            claimed_until,
        }
    }

    fn read_back(stored: &Stored) -> Stored {
        Stored::read(&serde_json::from_value(stored.write()).unwrap())
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
    fn holds_no_credential_when_a_part_of_it_is_missing() {
        let mut object = stored(Some(credential()), None).write();
        object["data"]["expiresAt"] = "bm8gdGltZQ==".into();
        let secret: Secret = serde_json::from_value(object).unwrap();
        assert!(Stored::read(&secret).credential.is_none());
        assert!(Stored::try_read(&secret).is_err());
        assert!(
            Stored::try_read(
                &serde_json::from_value(stored(Some(credential()), None).write()).unwrap()
            )
            .is_ok()
        );
        assert!(
            Stored::try_read(&serde_json::from_value(stored(None, None).write()).unwrap()).is_ok()
        );
    }

    #[test]
    fn shows_no_password_outside_the_data() {
        let mut object = stored(Some(credential()), None).write();
        object.as_object_mut().unwrap().remove("data");
        assert!(!object.to_string().contains("canary"));
    }
}
