//! The clouds, the credential store, and what each replica knows of it.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use pullpass::credential::{Credential, Freshness, MintError, freshness};
use pullpass::provision::changes::ChangeLog;
use pullpass::provision::ports::{ClusterError, Credentials};
use pullpass::registry::source::MintSource;

use super::double::{Dice, Known};
use super::time;

/// Who was given a password, and until when it truly works.
#[derive(Clone, Debug)]
pub(crate) struct Issued {
    pub(crate) source: MintSource,
    pub(crate) number: u64,
    pub(crate) until: Timestamp,
    pub(crate) at: Timestamp,
}

/// What the clouds gave out, and the store that all replicas share.
pub(crate) struct Clouds {
    pub(crate) dice: Arc<Dice>,
    pub(crate) issued: Mutex<HashMap<String, Issued>>,
    pub(crate) stored: Mutex<HashMap<MintSource, Arc<Credential>>>,
    pub(crate) life: Mutex<SignedDuration>,
    /// Places whose cloud is away.
    pub(crate) away: Mutex<HashSet<String>>,
    /// Whoever mints holds the claim of the source.
    claims: Mutex<HashMap<MintSource, Arc<tokio::sync::Mutex<()>>>>,
}

impl Clouds {
    pub(crate) fn new(dice: &Arc<Dice>) -> Self {
        Self {
            dice: Arc::clone(dice),
            issued: Mutex::default(),
            stored: Mutex::default(),
            life: Mutex::new(SignedDuration::from_hours(12)),
            away: Mutex::default(),
            claims: Mutex::default(),
        }
    }

    pub(crate) fn minted(&self) -> usize {
        self.issued.lock().unwrap().len()
    }

    /// A new credential, as the cloud gives it: its end is by the cloud's clock.
    fn issue(&self, source: &MintSource, now: Timestamp) -> Result<Arc<Credential>, MintError> {
        let bad = || MintError::Timeout {
            host: source.location().to_owned(),
        };
        if self.away.lock().unwrap().contains(source.location()) {
            return Err(bad());
        }
        let until = time::truth() + *self.life.lock().unwrap();
        // The provider takes no answer that says it has ended.
        if until <= now {
            return Err(bad());
        }
        let mut issued = self.issued.lock().unwrap();
        let number = issued.len() as u64 + 1;
        let password = format!("minted-{number}");
        issued.insert(
            password.clone(),
            Issued {
                source: source.clone(),
                number,
                until,
                at: time::truth(),
            },
        );
        Ok(Arc::new(Credential {
            username: "AWS".to_owned(),
            password: password.into(),
            minted_at: now,
            expires_at: until,
            principal: "model".to_owned(),
        }))
    }

    async fn fill(&self, source: &MintSource, now: Timestamp) -> Result<(), MintError> {
        let claim = Arc::clone(
            self.claims
                .lock()
                .unwrap()
                .entry(source.clone())
                .or_default(),
        );
        let _claimed = claim.lock().await;
        let stored = self.stored.lock().unwrap().get(source).cloned();
        if stored.is_some_and(|stored| freshness(&stored, now) == Freshness::Fresh) {
            return Ok(());
        }
        self.dice.pause().await;
        let credential = self.issue(source, now)?;
        self.stored
            .lock()
            .unwrap()
            .insert(source.clone(), credential);
        Ok(())
    }
}

/// What one replica knows of the store.
pub(crate) struct Wallet {
    pub(crate) clouds: Arc<Clouds>,
    known: Known,
}

impl Wallet {
    pub(crate) fn new(clouds: &Arc<Clouds>) -> Self {
        Self {
            clouds: Arc::clone(clouds),
            known: Known::default(),
        }
    }

    /// The watch shows all that is stored.
    pub(crate) fn learn_all(&self) {
        let stored = self.clouds.stored.lock().unwrap().clone();
        let mut known = self.known.all.lock().unwrap();
        let is_known = |source: &MintSource, credential: &Arc<Credential>| {
            known
                .get(source)
                .is_some_and(|known| Arc::ptr_eq(known, credential))
        };
        let mut changed: Vec<String> = stored
            .iter()
            .filter(|(source, credential)| !is_known(source, credential))
            .map(|(source, _)| source.canonical())
            .collect();
        changed.sort();
        *known = stored;
        drop(known);
        for source in changed {
            self.known.changes.note(source);
        }
    }

    fn learn(&self, source: &MintSource) -> Option<Arc<Credential>> {
        let stored = self.clouds.stored.lock().unwrap().get(source).cloned()?;
        let before = self.known.get(source);
        if before.is_none_or(|before| !Arc::ptr_eq(&before, &stored)) {
            self.known.put(source, &stored);
        }
        Some(stored)
    }
}

#[async_trait]
impl Credentials for Wallet {
    fn current(&self, source: &MintSource) -> Option<Arc<Credential>> {
        self.known.get(source)
    }

    async fn mint(
        &self,
        source: &MintSource,
        now: Timestamp,
    ) -> Result<Arc<Credential>, Arc<MintError>> {
        let known = self.current(source);
        let state = known
            .as_ref()
            .map_or(Freshness::Spent, |known| freshness(known, now));
        match (known, state) {
            (Some(known), Freshness::Fresh) => Ok(known),
            (Some(known), Freshness::Renewable) => {
                let (clouds, source) = (Arc::clone(&self.clouds), source.clone());
                tokio::spawn(async move { clouds.fill(&source, now).await });
                Ok(known)
            }
            (known, _) => match self.renew(source, now).await {
                Ok(credential) => Ok(credential),
                Err(error) => known.filter(|known| known.expires_at > now).ok_or(error),
            },
        }
    }

    async fn renew(
        &self,
        source: &MintSource,
        now: Timestamp,
    ) -> Result<Arc<Credential>, Arc<MintError>> {
        self.clouds.fill(source, now).await.map_err(Arc::new)?;
        Ok(self.learn(source).expect("it was just stored"))
    }

    async fn refresh(&self, source: &MintSource) -> Result<(), ClusterError> {
        self.clouds.dice.pause().await;
        self.learn(source);
        Ok(())
    }

    fn changes(&self) -> &ChangeLog<String> {
        &self.known.changes
    }
}
