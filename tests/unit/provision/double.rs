//! A cluster and a minter in memory. Both may be slow, refuse, or show what changed late.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use pullpass::credential::{Credential, Freshness, MintError, SourceSecret, freshness};
use pullpass::names::{NamespaceName, ObjectName};
use pullpass::provision::changes::ChangeLog;
use pullpass::provision::ports::{
    Cluster, ClusterError, Credentials, ListedRegistry, Precondition, PullSecret,
    PullSecretContent, Version,
};
use pullpass::provision::secret::format::DOCKERCONFIGJSON;
use pullpass::provision::service_account::ServiceAccount;
use pullpass::provision::state::{Observed, State};
use pullpass::provision::{Namespace, PULL_SECRET};
use pullpass::registry::SecretFormat;
use pullpass::registry::source::MintSource;
use secrecy::{ExposeSecret, SecretSlice, SecretString};
use tokio::sync::Notify;

use super::names::name;

pub(crate) fn now() -> Timestamp {
    "2026-11-21T10:00:00Z".parse().unwrap()
}

/// Numbers that look random and are the same for the same seed.
pub(crate) struct Dice(Mutex<u64>);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Mutex::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1))
    }

    pub(crate) fn below(&self, bound: u64) -> u64 {
        let mut state = self.0.lock().unwrap();
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        *state % bound
    }

    /// Lets others run, a few times or not at all.
    pub(crate) async fn pause(&self) {
        for _ in 0..self.below(4) {
            tokio::task::yield_now().await;
        }
    }
}

/// One namespace's Secret as the cluster has it.
#[derive(Clone)]
pub(crate) struct Stored {
    pub(crate) version: Version,
    pub(crate) ours: bool,
    pub(crate) dockerconfigjson: Vec<u8>,
    pub(crate) annotations: BTreeMap<String, String>,
}

impl Stored {
    pub(crate) fn read(&self) -> PullSecret {
        PullSecret {
            version: self.version.clone(),
            ours: self.ours,
            format: Some(SecretFormat::PullSecret),
            type_: SecretFormat::PullSecret.secret_type().to_owned(),
            data: BTreeMap::from([(
                DOCKERCONFIGJSON,
                Arc::new(SecretSlice::from(self.dockerconfigjson.clone())),
            )]),
            annotations: self.annotations.clone(),
        }
    }

    /// The password under each key.
    pub(crate) fn logins(&self) -> BTreeMap<String, String> {
        use base64::Engine as _;
        let value: serde_json::Value = serde_json::from_slice(&self.dockerconfigjson).unwrap();
        let auths = value["auths"].as_object().unwrap();
        let login = |entry: &serde_json::Value| {
            let auth = base64::engine::general_purpose::STANDARD
                .decode(entry["auth"].as_str().unwrap())
                .unwrap();
            String::from_utf8(auth)
                .unwrap()
                .split_once(':')
                .unwrap()
                .1
                .to_owned()
        };
        auths
            .iter()
            .map(|(key, entry)| (key.clone(), login(entry)))
            .collect()
    }
}

/// Judges one write or deletion of pullpass: where, what was there, and what is there now.
pub(crate) type Judge = Box<dyn Fn(&str, Option<&Stored>, Option<&Stored>) + Send>;

/// What there is of the kind Registry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum KindState {
    /// It is there, and so are the Registries.
    #[default]
    Served,
    /// It is being deleted, and the Registries are gone.
    Going,
    /// It is not there.
    Gone,
    /// It is there again, and the Registries are not yet.
    Bare,
}

/// The cluster, shared by all replicas.
#[derive(Default)]
pub(crate) struct World {
    // In an order of their own, so that a history can be replayed.
    pub(crate) secrets: Mutex<BTreeMap<String, Stored>>,
    pub(crate) sources: Mutex<BTreeMap<String, SourceSecret>>,
    pub(crate) namespaces: Mutex<BTreeMap<String, Namespace>>,
    /// The Registries that there are.
    pub(crate) registries: Mutex<Vec<ListedRegistry>>,
    pub(crate) kind: Mutex<KindState>,
    /// How often their kind was made anew.
    pub(crate) kinds_made: AtomicU64,
    /// Whether nobody may read its CRD.
    pub(crate) crd_is_forbidden: AtomicBool,
    pub(crate) minted: Mutex<HashMap<MintSource, Arc<Credential>>>,
    pub(crate) refusal: Mutex<Option<ClusterError>>,
    pub(crate) enforced: AtomicBool,
    /// ServiceAccounts by namespace and name; every other one is there and says nothing.
    pub(crate) accounts: Mutex<HashMap<(String, String), Option<ServiceAccount>>>,
    pub(crate) reads: AtomicUsize,
    pub(crate) writes: AtomicUsize,
    versions: AtomicU64,
    /// Each write is judged: what was there, and what is there now.
    pub(crate) judge: Mutex<Option<Judge>>,
}

impl World {
    pub(crate) fn next_version(&self) -> String {
        (self.versions.fetch_add(1, Ordering::SeqCst) + 10).to_string()
    }

    /// The Registries of these names are there and no others: as they are without uid and generation.
    pub(crate) fn put_registries(&self, names: impl Iterator<Item = String>) {
        let registries = names.map(|name| ListedRegistry {
            name,
            uid: String::new(),
            generation: None,
        });
        *self.registries.lock().unwrap() = registries.collect();
    }

    /// The uid of the CRD that is there, or will be next.
    pub(crate) fn crd(&self) -> String {
        format!("crd-{}", self.kinds_made.load(Ordering::SeqCst))
    }

    pub(crate) fn secret(&self, namespace: &str) -> Option<Stored> {
        self.secrets.lock().unwrap().get(namespace).cloned()
    }

    pub(crate) fn logins(&self, namespace: &str) -> BTreeMap<String, String> {
        self.secret(namespace)
            .map(|secret| secret.logins())
            .unwrap_or_default()
    }

    /// Puts a Secret there as somebody else would.
    pub(crate) fn put_secret(&self, namespace: &str, ours: bool, dockerconfigjson: &str) -> Stored {
        let stored = Stored {
            version: Version {
                uid: format!("uid-{}", self.next_version()),
                resource_version: self.next_version(),
            },
            ours,
            dockerconfigjson: dockerconfigjson.as_bytes().to_vec(),
            annotations: BTreeMap::new(),
        };
        self.secrets
            .lock()
            .unwrap()
            .insert(namespace.to_owned(), stored.clone());
        stored
    }

    /// Mints the next credential of a source, as some replica would.
    pub(crate) fn mint(&self, source: &MintSource, minted_at: Timestamp) -> Arc<Credential> {
        let mut minted = self.minted.lock().unwrap();
        let last = minted.get(source).map_or(0, |credential| {
            version_of(credential.password.expose_secret())
        });
        let credential = Arc::new(Credential {
            username: "AWS".to_owned(),
            password: SecretString::from(format!("{}-v{}", source.location(), last + 1)),
            minted_at,
            expires_at: minted_at + SignedDuration::from_hours(12),
            principal: "tester".to_owned(),
        });
        minted.insert(source.clone(), Arc::clone(&credential));
        credential
    }

    pub(crate) fn set_source(&self, name: &str, username: &str, password: &str) -> SourceSecret {
        let text = |text: &str| SecretSlice::from(text.as_bytes().to_vec());
        let secret = SourceSecret {
            name: name.parse().unwrap(),
            type_: "kubernetes.io/basic-auth".to_owned(),
            data: BTreeMap::from([
                ("username".to_owned(), text(username)),
                ("password".to_owned(), text(password)),
            ]),
            resource_version: self.next_version(),
        };
        self.sources
            .lock()
            .unwrap()
            .insert(name.to_owned(), secret.clone());
        secret
    }
}

fn no_kind() -> ClusterError {
    ClusterError::NotFound {
        what: "the kind Registry".to_owned(),
    }
}

/// The number at the end of a password of this double.
pub(crate) fn version_of(password: &str) -> u64 {
    password.rsplit_once("-v").unwrap().1.parse().unwrap()
}

/// Where a pull secret stands in [`World::secrets`]: the common one under its namespace alone.
pub(crate) fn place(namespace: &str, secret: &str) -> String {
    match secret {
        PULL_SECRET => namespace.to_owned(),
        own => format!("{namespace}/{own}"),
    }
}

/// The cluster as one replica sees it.
pub(crate) struct View {
    pub(crate) world: Arc<World>,
    pub(crate) dice: Arc<Dice>,
    /// How long a write of a pull secret is under way before it is done.
    write: Duration,
}

impl View {
    pub(crate) fn new(world: &Arc<World>, dice: &Arc<Dice>) -> Self {
        Self {
            world: Arc::clone(world),
            dice: Arc::clone(dice),
            write: Duration::ZERO,
        }
    }

    /// One whose writes of pull secrets take so long each.
    pub(crate) fn slow(world: &Arc<World>, write: Duration) -> Self {
        Self {
            write,
            ..Self::new(world, &Arc::new(Dice::new(1)))
        }
    }

    async fn pass(&self) -> Result<(), ClusterError> {
        self.dice.pause().await;
        self.world
            .refusal
            .lock()
            .unwrap()
            .clone()
            .map_or(Ok(()), Err)
    }
}

#[async_trait]
impl Cluster for View {
    async fn fetch_namespace(
        &self,
        name: &NamespaceName,
    ) -> Result<Option<(String, Namespace)>, ClusterError> {
        self.world.reads.fetch_add(1, Ordering::SeqCst);
        self.pass().await?;
        let found = self
            .world
            .namespaces
            .lock()
            .unwrap()
            .get(name.as_str())
            .cloned();
        Ok(found.map(|namespace| (self.world.next_version(), namespace)))
    }

    async fn fetch_service_account(
        &self,
        namespace: &NamespaceName,
        name: &ObjectName,
    ) -> Result<Option<ServiceAccount>, ClusterError> {
        self.world.reads.fetch_add(1, Ordering::SeqCst);
        self.pass().await?;
        let key = (namespace.to_string(), name.to_string());
        if let Some(account) = self.world.accounts.lock().unwrap().get(&key) {
            return Ok(account.clone());
        }
        let enforces = self.world.enforced.load(Ordering::SeqCst);
        Ok(Some(ServiceAccount {
            uid: format!("uid-of-{namespace}-{name}"),
            pull_secrets: enforces.then(Default::default),
            annotations: BTreeMap::new(),
        }))
    }

    async fn fetch_source(&self, name: &ObjectName) -> Result<Option<SourceSecret>, ClusterError> {
        self.pass().await?;
        Ok(self
            .world
            .sources
            .lock()
            .unwrap()
            .get(name.as_str())
            .cloned())
    }

    async fn fetch_pull_secret(
        &self,
        namespace: &NamespaceName,
        name: &ObjectName,
    ) -> Result<Option<PullSecret>, ClusterError> {
        self.world.reads.fetch_add(1, Ordering::SeqCst);
        self.pass().await?;
        let found = self
            .world
            .secret(&place(namespace, name))
            .map(|secret| secret.read());
        self.dice.pause().await;
        Ok(found)
    }

    async fn apply_pull_secret(
        &self,
        namespace: &NamespaceName,
        name: &ObjectName,
        content: &PullSecretContent,
        precondition: &Precondition,
    ) -> Result<Version, ClusterError> {
        if !self.write.is_zero() {
            tokio::time::sleep(self.write).await;
        }
        self.pass().await?;
        let version = self.swap(&place(namespace, name), content, precondition)?;
        self.dice.pause().await;
        Ok(version)
    }

    async fn delete_pull_secret(
        &self,
        namespace: &NamespaceName,
        name: &ObjectName,
        version: &Version,
    ) -> Result<(), ClusterError> {
        self.pass().await?;
        self.remove(&place(namespace, name), version)
    }

    async fn fetch_registry_verbs(&self) -> Result<Vec<String>, ClusterError> {
        self.world.reads.fetch_add(1, Ordering::SeqCst);
        self.pass().await?;
        let verbs = match *self.world.kind.lock().unwrap() {
            KindState::Served | KindState::Bare => &["create", "list"][..],
            KindState::Going => &["list"],
            KindState::Gone => return Err(no_kind()),
        };
        Ok(verbs.iter().map(|&verb| verb.to_owned()).collect())
    }

    async fn fetch_registry_crd(&self) -> Result<Option<String>, ClusterError> {
        self.world.reads.fetch_add(1, Ordering::SeqCst);
        self.pass().await?;
        if self.world.crd_is_forbidden.load(Ordering::SeqCst) {
            return Err(ClusterError::Forbidden {
                what: "the CRD".to_owned(),
                message: "no".to_owned(),
            });
        }
        match *self.world.kind.lock().unwrap() {
            KindState::Served | KindState::Bare => Ok(Some(self.world.crd())),
            KindState::Going | KindState::Gone => Ok(None),
        }
    }

    async fn list_registries(&self) -> Result<Vec<ListedRegistry>, ClusterError> {
        self.world.reads.fetch_add(1, Ordering::SeqCst);
        self.pass().await?;
        match *self.world.kind.lock().unwrap() {
            KindState::Served => Ok(self.world.registries.lock().unwrap().clone()),
            KindState::Going | KindState::Bare => Ok(Vec::new()),
            KindState::Gone => Err(no_kind()),
        }
    }
}

impl View {
    fn remove(&self, place: &str, version: &Version) -> Result<(), ClusterError> {
        let mut secrets = self.world.secrets.lock().unwrap();
        match secrets.get(place) {
            None => Ok(()),
            Some(stored) if stored.version == *version => {
                let gone = secrets.remove(place);
                if let Some(judge) = &*self.world.judge.lock().unwrap() {
                    judge(place, gone.as_ref(), None);
                }
                self.world.writes.fetch_add(1, Ordering::SeqCst);
                Ok(())
            }
            Some(_) => Err(ClusterError::Conflict {
                what: place.to_owned(),
            }),
        }
    }

    fn swap(
        &self,
        namespace: &str,
        content: &PullSecretContent,
        precondition: &Precondition,
    ) -> Result<Version, ClusterError> {
        let mut secrets = self.world.secrets.lock().unwrap();
        let there = secrets.get(namespace);
        let wanted = match precondition {
            Precondition::Absent => None,
            Precondition::Exactly(version) => Some(version),
        };
        if there.map(|stored| &stored.version) != wanted {
            return Err(ClusterError::Conflict {
                what: namespace.to_owned(),
            });
        }
        let uid = there.map_or_else(
            || format!("uid-{}", self.world.next_version()),
            |stored| stored.version.uid.clone(),
        );
        let stored = Stored {
            version: Version {
                uid,
                resource_version: self.world.next_version(),
            },
            ours: true,
            dockerconfigjson: content.data[DOCKERCONFIGJSON].expose_secret().to_vec(),
            annotations: content.annotations.clone(),
        };
        if let Some(judge) = &*self.world.judge.lock().unwrap() {
            judge(namespace, there, Some(&stored));
        }
        self.world.writes.fetch_add(1, Ordering::SeqCst);
        secrets.insert(namespace.to_owned(), stored.clone());
        Ok(stored.version)
    }
}

/// The minted credentials that a replica knows of.
#[derive(Default)]
pub(crate) struct Known {
    pub(crate) all: Mutex<HashMap<MintSource, Arc<Credential>>>,
    pub(crate) changes: ChangeLog<String>,
}

impl Known {
    pub(crate) fn get(&self, source: &MintSource) -> Option<Arc<Credential>> {
        self.all.lock().unwrap().get(source).cloned()
    }

    /// It learns of one.
    pub(crate) fn put(&self, source: &MintSource, credential: &Arc<Credential>) {
        let mut all = self.all.lock().unwrap();
        all.insert(source.clone(), Arc::clone(credential));
        drop(all);
        self.changes.note(source.canonical());
    }

    /// It learns of a new one with this password.
    pub(crate) fn issue(
        &self,
        source: &MintSource,
        password: String,
        now: Timestamp,
    ) -> Arc<Credential> {
        let credential = Arc::new(Credential {
            username: "AWS".to_owned(),
            password: password.into(),
            minted_at: now,
            expires_at: now + SignedDuration::from_hours(12),
            principal: "tester".to_owned(),
        });
        self.put(source, &credential);
        credential
    }
}

/// The minted credentials as one replica sees them: it learns of what others minted late.
pub(crate) struct Mints {
    pub(crate) world: Arc<World>,
    pub(crate) dice: Arc<Dice>,
    known: Known,
    pub(crate) minted: AtomicUsize,
    claim: Mutex<()>,
    /// Regions whose mint fails, and why.
    pub(crate) broken: Mutex<HashMap<String, MintError>>,
    /// ServiceAccounts, by unique id, that are refused, and why.
    refused: Mutex<HashMap<String, MintError>>,
    /// Regions whose mint hangs until it is told to go on.
    hanging: Mutex<HashMap<String, Arc<Notify>>>,
}

impl Mints {
    pub(crate) fn new(world: &Arc<World>, dice: &Arc<Dice>) -> Self {
        Self {
            world: Arc::clone(world),
            dice: Arc::clone(dice),
            known: Known::default(),
            minted: AtomicUsize::new(0),
            claim: Mutex::default(),
            broken: Mutex::default(),
            refused: Mutex::default(),
            hanging: Mutex::default(),
        }
    }

    /// Lets the mints of a ServiceAccount with this unique id be refused.
    pub(crate) fn refuse(&self, uid: &str, error: MintError) {
        self.refused.lock().unwrap().insert(uid.to_owned(), error);
    }

    pub(crate) fn learn(&self, source: &MintSource) {
        let stored = self.world.minted.lock().unwrap().get(source).cloned();
        if let Some(credential) = stored {
            self.known.put(source, &credential);
        }
    }

    /// One mint at a time, as with claims.
    fn mint_unless_fresh(&self, source: &MintSource, now: Timestamp) -> Arc<Credential> {
        let _claim = self.claim.lock().unwrap();
        let known = self.current(source);
        known
            .filter(|known| freshness(known, now) == Freshness::Fresh)
            .unwrap_or_else(|| {
                self.minted.fetch_add(1, Ordering::SeqCst);
                self.world.mint(source, now);
                self.learn(source);
                self.current(source).unwrap()
            })
    }

    /// Lets the mints of a region hang.
    pub(crate) fn hang(&self, region: &str) {
        self.hanging
            .lock()
            .unwrap()
            .insert(region.to_owned(), Arc::default());
    }

    /// Lets the mints of a region go on.
    pub(crate) fn go_on(&self, region: &str) {
        let gate = self.hanging.lock().unwrap().remove(region);
        gate.unwrap().notify_waiters();
    }
}

#[async_trait]
impl Credentials for Mints {
    fn current(&self, source: &MintSource) -> Option<Arc<Credential>> {
        self.known.get(source)
    }

    async fn mint(
        &self,
        source: &MintSource,
        now: Timestamp,
    ) -> Result<Arc<Credential>, Arc<MintError>> {
        self.dice.pause().await;
        let gate = self.hanging.lock().unwrap().get(source.location()).cloned();
        if let Some(gate) = gate {
            gate.notified().await;
        }
        if let Some(error) = self.broken.lock().unwrap().get(source.location()) {
            return Err(Arc::new(error.clone()));
        }
        let uid = source.tenant().map(|tenant| &tenant.service_account_uid);
        if let Some(error) = uid.and_then(|uid| self.refused.lock().unwrap().get(uid).cloned()) {
            return Err(Arc::new(error));
        }
        if let Some(known) = self.current(source) {
            return Ok(known);
        }
        self.learn(source);
        Ok(self.mint_unless_fresh(source, now))
    }

    async fn renew(
        &self,
        source: &MintSource,
        now: Timestamp,
    ) -> Result<Arc<Credential>, Arc<MintError>> {
        self.dice.pause().await;
        if let Some(error) = self.broken.lock().unwrap().get(source.location()) {
            return Err(Arc::new(error.clone()));
        }
        Ok(self.mint_unless_fresh(source, now))
    }

    async fn refresh(&self, source: &MintSource) -> Result<(), ClusterError> {
        self.dice.pause().await;
        self.learn(source);
        Ok(())
    }

    fn changes(&self) -> &ChangeLog<String> {
        &self.known.changes
    }
}

/// Shows a replica the pull secret as it is.
pub(crate) fn show(state: &State, namespace: &str, stored: &Stored) {
    state.pull_secrets.apply_event(
        &name(namespace),
        &stored.version.resource_version,
        Observed::of(&stored.read()),
    );
}
