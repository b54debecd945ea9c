//! A credential store in memory that behaves like objects in an API server: each replica sees it through a memory of its own that
//! lags behind, writes compare versions and lose races.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use pullpass::api_server::{ClusterError, Version};
use pullpass::credential::{
    CLAIM_LIFE, Claim, Credential, CredentialKey, CredentialStore, Freshness, Ticket,
    find_claim_left, freshness,
};
use pullpass::registry::source::MintSource;
use tokio::sync::watch;
use tokio::time::Instant;

/// A small generator of numbers, so that a seed alone decides an interleaving.
#[derive(Clone)]
pub struct Seeded(Arc<Mutex<u64>>);

impl Seeded {
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(seed.wrapping_mul(2).wrapping_add(1))))
    }

    /// A number below `bound`.
    pub fn below(&self, bound: u64) -> u64 {
        let mut state = self.0.lock().unwrap();
        *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = *state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % bound
    }

    /// Sleeps for up to `milliseconds` of the paused clock.
    pub async fn pause(&self, milliseconds: u64) {
        tokio::time::sleep(Duration::from_millis(self.below(milliseconds + 1))).await;
    }
}

fn version(number: u64) -> Version {
    Version {
        uid: "uid".to_owned(),
        resource_version: number.to_string(),
    }
}

#[derive(Clone, Default)]
struct Object {
    version: u64,
    credential: Option<Arc<Credential>>,
    claimed_until: Option<Timestamp>,
}

/// What the API server holds.
#[derive(Clone)]
pub struct Shared(
    Arc<Mutex<HashMap<CredentialKey, Object>>>,
    watch::Sender<u64>,
);

impl Default for Shared {
    fn default() -> Self {
        Self(Arc::default(), watch::Sender::new(0))
    }
}

impl Shared {
    /// Every stored credential.
    pub fn credentials(&self) -> Vec<Arc<Credential>> {
        self.0
            .lock()
            .unwrap()
            .values()
            .filter_map(|object| object.credential.clone())
            .collect()
    }

    fn read(&self, key: &CredentialKey) -> Object {
        self.0.lock().unwrap().get(key).cloned().unwrap_or_default()
    }

    /// Writes if the version is still `seen.version`.
    fn swap(
        &self,
        key: &CredentialKey,
        seen: &Object,
        change: impl FnOnce(&mut Object),
    ) -> Option<Object> {
        let mut objects = self.0.lock().unwrap();
        let object = objects.entry(key.clone()).or_default();
        if object.version != seen.version {
            return None;
        }
        change(object);
        object.version += 1;
        self.1.send_modify(|number| *number += 1);
        Some(object.clone())
    }
}

/// One replica's view of it.
pub struct Replica {
    shared: Shared,
    memory: Mutex<HashMap<CredentialKey, (u64, Arc<Credential>)>>,
    /// When each object was first seen in its state.
    seen: Mutex<HashMap<CredentialKey, (u64, Instant)>>,
    changes: watch::Sender<u64>,
    seeded: Seeded,
    /// The longest delay of a read or write, in milliseconds.
    delay: u64,
    /// Whether every write fails.
    pub refuses: std::sync::atomic::AtomicBool,
    /// Whether it goes away after each claim.
    pub takes_nothing: std::sync::atomic::AtomicBool,
}

impl Replica {
    /// A replica that has synced once, and whose watch then lags by up to four `delay`s.
    pub fn start(shared: &Shared, seeded: &Seeded, delay: u64) -> Arc<Self> {
        let objects = shared.0.lock().unwrap().clone();
        let memory = objects
            .into_iter()
            .filter_map(|(key, object)| Some((key, (object.version, object.credential?))));
        let replica = Arc::new(Self {
            shared: shared.clone(),
            memory: Mutex::new(memory.collect()),
            seen: Mutex::default(),
            changes: watch::Sender::new(0),
            seeded: seeded.clone(),
            delay,
            refuses: false.into(),
            takes_nothing: false.into(),
        });
        let (weak, mut writes) = (Arc::downgrade(&replica), shared.1.subscribe());
        tokio::spawn(async move {
            while writes.changed().await.is_ok() {
                let Some(replica) = weak.upgrade() else {
                    return;
                };
                let seen = replica.shared.0.lock().unwrap().clone();
                replica.seeded.pause(replica.delay * 4).await;
                for (key, object) in seen {
                    if let Some(credential) = object.credential {
                        replica.learn(&key, object.version, &credential);
                    }
                }
            }
        });
        replica
    }

    /// Takes a credential into memory unless a later one is there.
    fn learn(&self, key: &CredentialKey, version: u64, credential: &Arc<Credential>) {
        let mut memory = self.memory.lock().unwrap();
        let later = memory.get(key).is_none_or(|(known, _)| *known < version);
        if later {
            memory.insert(key.clone(), (version, Arc::clone(credential)));
            self.changes.send_modify(|number| *number += 1);
        }
    }

    fn first_seen(&self, key: &CredentialKey, version: u64) -> Instant {
        let mut seen = self.seen.lock().unwrap();
        let known = seen.entry(key.clone()).or_insert((version, Instant::now()));
        if known.0 != version {
            *known = (version, Instant::now());
        }
        known.1
    }

    async fn try_claim(&self, key: &CredentialKey, now: Timestamp) -> Result<Claim, ClusterError> {
        loop {
            self.seeded.pause(self.delay).await;
            let seen = self.shared.read(key);
            self.seeded.pause(self.delay).await;
            if let Some(credential) = &seen.credential
                && freshness(credential, now) == Freshness::Fresh
            {
                self.learn(key, seen.version, credential);
                return Ok(Claim::AlreadyStored(Arc::clone(credential)));
            }
            let left = seen.claimed_until.and_then(|until| {
                find_claim_left(until, self.first_seen(key, seen.version).elapsed(), now)
            });
            if let Some(left) = left {
                return Ok(Claim::Pending { until: now + left });
            }
            if self.refuses.load(std::sync::atomic::Ordering::Relaxed) {
                return Err(ClusterError::Forbidden {
                    what: "secret".to_owned(),
                    message: "secrets is forbidden".to_owned(),
                });
            }
            let until = now + CLAIM_LIFE;
            if let Some(object) = self
                .shared
                .swap(key, &seen, |object| object.claimed_until = Some(until))
            {
                return Ok(Claim::Acquired(Ticket {
                    key: key.clone(),
                    version: version(object.version),
                }));
            }
        }
    }

    async fn try_put(&self, ticket: Ticket, credential: Credential) -> Arc<Credential> {
        let credential = Arc::new(credential);
        let mut seen = Object {
            version: ticket.version.resource_version.parse().unwrap(),
            ..Object::default()
        };
        loop {
            self.seeded.pause(self.delay).await;
            let put = self.shared.swap(&ticket.key, &seen, |object| {
                object.credential = Some(Arc::clone(&credential));
                object.claimed_until = None;
            });
            if let Some(put) = put {
                self.learn(&ticket.key, put.version, &credential);
                return credential;
            }
            seen = self.shared.read(&ticket.key);
            if let Some(stored) = seen
                .credential
                .as_ref()
                .filter(|stored| stored.expires_at >= credential.expires_at)
            {
                self.learn(&ticket.key, seen.version, stored);
                return Arc::clone(stored);
            }
        }
    }
}

#[async_trait]
impl CredentialStore for Replica {
    fn current(&self, key: &CredentialKey) -> Option<Arc<Credential>> {
        let memory = self.memory.lock().unwrap();
        memory.get(key).map(|(_, credential)| credential.clone())
    }

    async fn claim(
        &self,
        key: &CredentialKey,
        _: &MintSource,
        now: Timestamp,
    ) -> Result<Claim, ClusterError> {
        self.try_claim(key, now).await
    }

    async fn extend(&self, ticket: Ticket, now: Timestamp) -> Ticket {
        if self
            .takes_nothing
            .load(std::sync::atomic::Ordering::Relaxed)
        {
            return ticket;
        }
        self.seeded.pause(self.delay).await;
        let seen = Object {
            version: ticket.version.resource_version.parse().unwrap(),
            ..Object::default()
        };
        let until = now + CLAIM_LIFE;
        let extended = self.shared.swap(&ticket.key, &seen, |object| {
            object.claimed_until = Some(until);
        });
        let extended = extended.map(|object| version(object.version));
        Ticket {
            version: extended.unwrap_or(ticket.version),
            ..ticket
        }
    }

    async fn put(
        &self,
        ticket: Ticket,
        credential: Credential,
    ) -> Result<Arc<Credential>, ClusterError> {
        if self
            .takes_nothing
            .load(std::sync::atomic::Ordering::Relaxed)
        {
            let (what, message) = ("secret".to_owned(), "connection refused".to_owned());
            return Err(ClusterError::Unreachable { what, message });
        }
        Ok(self.try_put(ticket, credential).await)
    }

    async fn release(&self, ticket: Ticket) {
        self.seeded.pause(self.delay).await;
        let seen = Object {
            version: ticket.version.resource_version.parse().unwrap(),
            ..Object::default()
        };
        self.shared
            .swap(&ticket.key, &seen, |object| object.claimed_until = None);
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}
