//! The credential store: one Secret per credential in pullpass' own namespace.
//!
//! A Secret `pullpass-credential-<key>` holds the credential in its data and the claim in an annotation: until when a replica has the
//! right to mint the next one. All replicas watch these Secrets; each write is a compare-and-swap.

mod object;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

use async_trait::async_trait;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use tokio::sync::watch;

use super::Kube;
use super::apply::swap;
use crate::clock;
use crate::credential::{
    CLAIM_LIFE, Claim, Credential, CredentialKey, CredentialStore, Freshness, Ticket, freshness,
};
use crate::names::ObjectName;
use crate::provision::changes::ChangeLog;
use crate::provision::digest::Digest;
use crate::provision::login_digests::LoginDigests;
use crate::provision::ports::{ClusterError, Precondition, StoredCredential, Version};
use crate::provision::store::Store;
use crate::registry::source::MintSource;
pub(super) use object::{STORE_LABEL, StoredSecret};

pub(super) const NAME_PREFIX: &str = "pullpass-credential-";

/// How often a lost race is run again before it is given up for this time.
const ATTEMPTS: usize = 8;

/// The credential store over one cluster.
pub struct KubeCredentialStore {
    kube: Kube,
    cache: Store<ObjectName, StoredSecret>,
    changes: watch::Sender<u64>,
    changed_sources: Arc<ChangeLog<String>>,
    logins: Arc<LoginDigests>,
}

impl KubeCredentialStore {
    /// An empty store: a watch fills it.
    pub fn new(kube: Kube) -> Self {
        let changed_sources: Arc<ChangeLog<String>> = Arc::default();
        let logins: Arc<LoginDigests> = Arc::default();
        let (log, known) = (Arc::clone(&changed_sources), Arc::clone(&logins));
        let cache = Store::new(
            Arc::new(AtomicU64::new(0)),
            |one: &StoredSecret, other: &StoredSecret| one.version == other.version,
        );
        // A claim changes nothing for those who use the credential.
        let on_change =
            move |_: &ObjectName, before: Option<&StoredSecret>, now: Option<&StoredSecret>| {
                known.replace(digest_of(before), digest_of(now));
                let life = |stored: Option<&StoredSecret>| {
                    let credential = stored?.credential.as_ref()?;
                    Some((credential.minted_at, credential.expires_at))
                };
                let source = now.or(before).map(|stored| stored.source.clone());
                if let Some(source) = source.filter(|_| life(before) != life(now)) {
                    log.note(source);
                }
            };
        Self {
            kube,
            cache: cache.on_change(on_change),
            changes: watch::Sender::new(0),
            changed_sources,
            logins,
        }
    }

    /// Reads the credential of `key` live and remembers it.
    ///
    /// # Errors
    /// The API server cannot be reached or refuses.
    pub async fn refresh(&self, key: &CredentialKey) -> Result<(), ClusterError> {
        self.read(key).await.map(|_| ())
    }

    /// The sources whose credentials changed, by their canonical texts.
    pub(super) fn changed_sources(&self) -> &ChangeLog<String> {
        &self.changed_sources
    }

    /// Whether a stored credential has the login of this digest.
    pub(super) fn has_login(&self, digest: &Digest) -> bool {
        self.logins.contains(digest)
    }

    /// All that is stored, from memory. A Secret that only carries our label is none of ours.
    pub(super) fn stored(&self) -> Vec<StoredCredential> {
        let is_ours = |name: &ObjectName| {
            let key = name.strip_prefix(NAME_PREFIX);
            key.is_some_and(|key| CredentialKey::parse(key).is_some())
        };
        let cache = self.cache.entries().into_iter();
        cache
            .filter(|(name, _)| is_ours(name))
            .map(|(name, stored)| StoredCredential {
                name,
                version: stored.version.clone(),
                source: stored.source.clone(),
                tenant: stored.tenant.clone(),
                expires_at: stored.credential.as_ref().map(|one| one.expires_at),
                claimed_until: stored.claimed_until,
                created_at: stored.created_at,
            })
            .collect()
    }

    /// Deletes a Secret of the store if it is still in this state; one that is gone already counts as deleted.
    pub(super) async fn delete(&self, stored: &StoredCredential) -> Result<(), ClusterError> {
        let secrets = self.kube.own_secrets();
        secrets
            .delete(&stored.name, &stored.version)
            .await
            .map(drop)
    }

    pub(super) fn cache(&self) -> &Store<ObjectName, StoredSecret> {
        &self.cache
    }

    /// Notifies all waiters that something changed.
    pub(super) fn notify(&self) {
        self.changes.send_modify(|changes| *changes += 1);
    }

    async fn read(&self, key: &CredentialKey) -> Result<Option<StoredSecret>, ClusterError> {
        let name = name_of(key);
        let found = self.kube.own_secrets().get(&name).await?;
        Ok(found.map(|secret| self.observe(&name, &secret)))
    }

    fn observe(&self, name: &ObjectName, secret: &Secret) -> StoredSecret {
        let stored = StoredSecret::read(secret);
        if self
            .cache
            .apply_own_write(name, &stored.version.resource_version, stored.clone())
        {
            self.notify();
        }
        stored
    }

    /// Writes one Secret of the store; `None`: another writer changed it in between.
    async fn swap(
        &self,
        key: &CredentialKey,
        stored: &StoredSecret,
        precondition: &Precondition,
    ) -> Result<Option<StoredSecret>, ClusterError> {
        let name = name_of(key);
        let secrets = self.kube.own_secrets();
        match swap(&secrets, &name, stored.write(), precondition).await {
            Ok(secret) => Ok(Some(self.observe(&name, &secret))),
            Err(ClusterError::Conflict { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn try_extend(
        &self,
        ticket: &Ticket,
        now: Timestamp,
    ) -> Result<Option<Ticket>, ClusterError> {
        let Some(there) = self.cached(&ticket.key) else {
            return Ok(None);
        };
        let extended = StoredSecret {
            claimed_until: Some(now + CLAIM_LIFE),
            seen_at: Instant::now(),
            ..there
        };
        let precondition = Precondition::Exactly(ticket.version.clone());
        let stored = self.swap(&ticket.key, &extended, &precondition).await?;
        Ok(stored.map(|stored| Ticket {
            key: ticket.key.clone(),
            version: stored.version,
        }))
    }

    async fn try_release(&self, ticket: Ticket) -> Result<(), ClusterError> {
        let Some(there) = self.cached(&ticket.key) else {
            return Ok(());
        };
        let released = StoredSecret {
            claimed_until: None,
            ..there
        };
        let precondition = Precondition::Exactly(ticket.version.clone());
        self.swap(&ticket.key, &released, &precondition)
            .await
            .map(|_| ())
    }

    /// What was read, as it was first seen: the watch may have shown it before.
    fn first_seen(&self, key: &CredentialKey, there: &StoredSecret) -> StoredSecret {
        let cached = self.cached(key);
        let same = cached.filter(|cached| cached.version == there.version);
        same.unwrap_or_else(|| there.clone())
    }

    fn cached(&self, key: &CredentialKey) -> Option<StoredSecret> {
        self.cache
            .get(&name_of(key))
            .map(|stored| (*stored).clone())
    }
}

#[async_trait]
impl CredentialStore for KubeCredentialStore {
    fn current(&self, key: &CredentialKey) -> Option<Arc<Credential>> {
        self.cache.get(&name_of(key))?.credential.clone()
    }

    async fn claim(
        &self,
        key: &CredentialKey,
        source: &MintSource,
        now: Timestamp,
    ) -> Result<Claim, ClusterError> {
        for _ in 0..ATTEMPTS {
            let there = self.read(key).await?;
            let credential = there.as_ref().and_then(|stored| stored.credential.clone());
            if let Some(credential) = &credential
                && freshness(credential, now) == Freshness::Fresh
            {
                return Ok(Claim::AlreadyStored(Arc::clone(credential)));
            }
            let claimed = there.as_ref().map(|there| self.first_seen(key, there));
            if let Some(left) = claimed.and_then(|there| there.find_claim_left(now)) {
                return Ok(Claim::Pending { until: now + left });
            }
            let claimed = StoredSecret {
                version: Version::default(),
                source: source.canonical(),
                tenant: source.tenant().cloned(),
                credential,
                claimed_until: Some(now + CLAIM_LIFE),
                seen_at: Instant::now(),
                created_at: None,
            };
            let precondition = precondition(there.as_ref());
            if let Some(stored) = self.swap(key, &claimed, &precondition).await? {
                return Ok(Claim::Acquired(Ticket {
                    key: key.clone(),
                    version: stored.version,
                }));
            }
        }
        Err(ClusterError::Conflict {
            what: name_of(key).to_string(),
        })
    }

    async fn extend(&self, ticket: Ticket, now: Timestamp) -> Ticket {
        match self.try_extend(&ticket, now).await {
            Ok(extended) => extended.unwrap_or(ticket),
            Err(error) => {
                tracing::debug!(error = %error, "failed to extend the claim on a credential, another replica may mint it, too");
                ticket
            }
        }
    }

    async fn put(
        &self,
        ticket: Ticket,
        credential: Credential,
    ) -> Result<Arc<Credential>, ClusterError> {
        let credential = Arc::new(credential);
        let (source, tenant) = self
            .cached(&ticket.key)
            .map(|stored| (stored.source, stored.tenant))
            .unwrap_or_default();
        let mut precondition = Precondition::Exactly(ticket.version.clone());
        for _ in 0..ATTEMPTS {
            let stored = StoredSecret {
                version: Version::default(),
                source: source.clone(),
                tenant: tenant.clone(),
                credential: Some(Arc::clone(&credential)),
                claimed_until: None,
                seen_at: Instant::now(),
                created_at: None,
            };
            if self
                .swap(&ticket.key, &stored, &precondition)
                .await?
                .is_some()
            {
                return Ok(credential);
            }
            let there = self.read(&ticket.key).await?;
            let theirs = there.as_ref().and_then(|stored| stored.credential.clone());
            if let Some(theirs) = theirs.filter(|theirs| is_newer(theirs, &credential)) {
                return Ok(theirs);
            }
            precondition = self::precondition(there.as_ref());
        }
        Err(ClusterError::Conflict {
            what: name_of(&ticket.key).to_string(),
        })
    }

    async fn release(&self, ticket: Ticket) {
        if let Err(error) = self.try_release(ticket).await {
            tracing::debug!(error = %error, "failed to release the claim on a credential, it expires by itself");
        }
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

/// Whether what another replica stored meanwhile is taken instead of what was just minted here. Made in the future it cannot be used.
fn is_newer(theirs: &Credential, ours: &Credential) -> bool {
    theirs.expires_at >= ours.expires_at && !clock::is_from_future(theirs.minted_at, ours.minted_at)
}

fn digest_of(stored: Option<&StoredSecret>) -> Option<Digest> {
    let credential = stored?.credential.as_ref()?;
    Some(Digest::of_login(&credential.username, &credential.password))
}

/// The name of the Secret that holds the credential of `key`.
fn name_of(key: &CredentialKey) -> ObjectName {
    ObjectName::parse(&format!("{NAME_PREFIX}{key}")).expect("a key is 64 hexadecimal digits")
}

fn precondition(there: Option<&StoredSecret>) -> Precondition {
    there.map_or(Precondition::Absent, |stored| {
        Precondition::Exactly(stored.version.clone())
    })
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;
    use crate::provision::digest::COMPUTED;

    fn stored(number: usize, version: usize) -> StoredSecret {
        let minted_at = Timestamp::UNIX_EPOCH;
        let credential = Credential {
            username: "AWS".to_owned(),
            password: format!("password-{number}-{version}").into(),
            minted_at,
            expires_at: minted_at + SignedDuration::from_hours(12),
            principal: "tester".to_owned(),
        };
        StoredSecret {
            version: Version {
                uid: number.to_string(),
                resource_version: version.to_string(),
            },
            source: number.to_string(),
            tenant: None,
            credential: Some(Arc::new(credential)),
            claimed_until: None,
            seen_at: Instant::now(),
            created_at: None,
        }
    }

    fn login(number: usize, version: usize) -> Digest {
        let password = format!("password-{number}-{version}").into();
        Digest::of_login("AWS", &password)
    }

    /// Anybody may put as many entries as a Secret holds where nothing belongs, and change them every second.
    #[tokio::test]
    async fn finds_logins_among_many_without_working_out_any_anew() {
        const STORED: usize = 1_000;
        let service = tower::service_fn(|_: hyper::Request<kube::client::Body>| {
            let body = kube::client::Body::from(Vec::new());
            std::future::ready(Ok::<_, std::convert::Infallible>(hyper::Response::new(
                body,
            )))
        });
        let client = kube::Client::new(service, "pullpass");
        let store = KubeCredentialStore::new(Kube::new(client, "pullpass".parse().unwrap()));
        let put = |number: usize, version: usize| {
            let name = ObjectName::parse(&format!("credential-{number}")).unwrap();
            let stored = stored(number, version);
            store.cache.apply_event(&name, &version.to_string(), stored);
        };
        (0..STORED).for_each(|number| put(number, 1));
        let junk: Vec<Digest> = (0..1_024)
            .map(|number| Digest::of_auth(&format!("junk-{number}")))
            .collect();
        COMPUTED.set(0);
        assert!(!junk.iter().any(|digest| store.has_login(digest)));
        assert_eq!(COMPUTED.get(), 0);
        put(7, 2);
        assert_eq!(COMPUTED.get(), 2, "the old one and the new one");
        let has = |number, version| store.has_login(&login(number, version));
        assert_eq!([has(7, 1), has(7, 2), has(8, 1)], [false, true, true]);
        store.cache.delete("credential-7", "3");
        assert!(!has(7, 2));
    }
}
