use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::controller::at;
use crate::credential::{Credential, MintError, SourceSecret};
use crate::plain_text::to_text;
use crate::provision::changes::{Change, ChangeLog, Cursor};
use crate::provision::digest::Digest;
use crate::provision::namespace::INJECT_LABEL;
use crate::provision::observe::PullSecretView;
use crate::provision::ports::{
    Cluster, ClusterError, Credentials, ListedRegistry, Precondition, PullSecret,
    PullSecretContent, Version,
};
use crate::provision::service_account::ServiceAccount;
use crate::provision::state::{Observed, State};
use crate::provision::{Namespace, PULL_SECRET, Provisioner};
use crate::registry::{CredentialSource, Registries};

const NAMESPACES: [&str; 4] = ["n0", "n1", "n2", "n3"];
const SECRETS: [&str; 2] = [PULL_SECRET, "pullpass-own"];
const SOURCES: [&str; 2] = ["login", "own-login"];

/// A Registry for all with a fixed login, one for all and one for `tier: web` that are minted, and one with a Secret of its own.
fn registries(which: usize) -> Registries {
    let ecr = |region: &str| format!("123456789012.dkr.ecr.{region}.amazonaws.com");
    let node = json!({"identity": {"node": {}}});
    let all = [
        json!({"images": ["fixed.invalid"], "namespaceSelector": {}, "static": {"secretRef": {"name": "login"}}}),
        json!({"images": [ecr("eu-west-1")], "namespaceSelector": {}, "ecr": node}),
        json!({"images": [ecr("us-east-1")], "namespaceSelector": {"matchLabels": {"tier": "web"}}, "ecr": node}),
        json!({"images": ["own.invalid"], "namespaceSelector": {}, "podSelector": {"matchLabels": {"own": "yes"}},
            "static": {"secretRef": {"name": "own-login"}}}),
    ];
    let names = ["fixed", "minted", "web", "own"];
    let some = names
        .into_iter()
        .zip(all)
        .enumerate()
        .filter(|(place, _)| which >> place & 1 == 1);
    Registries::build(some.map(|(_, (name, spec))| {
        let registry: Value = json!({"apiVersion": "pullpass.dev/v1alpha1", "kind": "Registry",
            "metadata": {"name": name, "uid": name, "generation": 1}, "spec": spec});
        serde_json::from_value(registry).unwrap()
    }))
}

/// What is stored.
#[derive(Default)]
struct Stored {
    credentials: Mutex<BTreeMap<String, Arc<Credential>>>,
    changes: ChangeLog<String>,
}

#[async_trait]
impl Credentials for Stored {
    fn current(&self, source: &MintSource) -> Option<Arc<Credential>> {
        self.credentials
            .lock()
            .unwrap()
            .get(&source.canonical())
            .cloned()
    }

    async fn mint(&self, _: &MintSource, _: Timestamp) -> Result<Arc<Credential>, Arc<MintError>> {
        unreachable!("nothing is minted")
    }

    async fn renew(&self, _: &MintSource, _: Timestamp) -> Result<Arc<Credential>, Arc<MintError>> {
        unreachable!("nothing is minted")
    }

    async fn refresh(&self, _: &MintSource) -> Result<(), ClusterError> {
        unreachable!("nothing is read")
    }

    fn changes(&self) -> &ChangeLog<String> {
        &self.changes
    }
}

/// Nothing is read or written.
struct NoCluster;

#[async_trait]
impl Cluster for NoCluster {
    async fn fetch_namespace(
        &self,
        _: &NamespaceName,
    ) -> Result<Option<(String, Namespace)>, ClusterError> {
        unreachable!()
    }

    async fn fetch_service_account(
        &self,
        _: &NamespaceName,
        _: &ObjectName,
    ) -> Result<Option<ServiceAccount>, ClusterError> {
        unreachable!()
    }

    async fn fetch_source(&self, _: &ObjectName) -> Result<Option<SourceSecret>, ClusterError> {
        unreachable!()
    }

    async fn fetch_pull_secret(
        &self,
        _: &NamespaceName,
        _: &ObjectName,
    ) -> Result<Option<PullSecret>, ClusterError> {
        unreachable!()
    }

    async fn apply_pull_secret(
        &self,
        _: &NamespaceName,
        _: &ObjectName,
        _: &PullSecretContent,
        _: &Precondition,
    ) -> Result<Version, ClusterError> {
        unreachable!()
    }

    async fn delete_pull_secret(
        &self,
        _: &NamespaceName,
        _: &ObjectName,
        _: &Version,
    ) -> Result<(), ClusterError> {
        unreachable!()
    }

    async fn fetch_registry_verbs(&self) -> Result<Vec<String>, ClusterError> {
        unreachable!()
    }

    async fn fetch_registry_crd(&self) -> Result<Option<String>, ClusterError> {
        unreachable!()
    }

    async fn list_registries(&self) -> Result<Vec<ListedRegistry>, ClusterError> {
        unreachable!()
    }
}

/// A cluster in memory, and what was found of it.
struct World {
    state: Arc<State>,
    stored: Arc<Stored>,
    provisioner: Provisioner,
    index: Index,
    version: u64,
    state_cursor: Cursor,
    credential_cursor: Cursor,
}

impl World {
    fn new() -> Self {
        let (state, stored) = (Arc::new(State::default()), Arc::new(Stored::default()));
        Self {
            provisioner: Provisioner::new(
                Arc::clone(&state),
                Arc::new(NoCluster),
                stored.clone(),
                || at(0),
            ),
            state,
            stored,
            index: Index::default(),
            version: 0,
            state_cursor: Cursor::default(),
            credential_cursor: Cursor::default(),
        }
    }

    /// The sources of all minted credentials that any Registry has.
    fn sources() -> Vec<MintSource> {
        let labels = BTreeMap::from([("tier".to_owned(), "web".to_owned())]);
        let grants = registries(0b1111).grants_of(&labels, PULL_SECRET);
        let minted = grants.iter().filter_map(|grant| match &grant.source {
            CredentialSource::Minted(source) => Some(source.clone()),
            CredentialSource::Static(_) => None,
        });
        minted.collect()
    }

    /// Something changes: which kind of it, which one, and how it is then.
    fn change(&mut self, (kind, which, how): (u8, usize, usize)) {
        self.version += 1;
        let version = self.version.to_string();
        match kind {
            0 => self.put_namespace(which, how, &version),
            1 => drop(self.state.set_registries(registries(how), at(0))),
            2 => self.put_credential(which, how),
            3 => self.put_source(which, how, &version),
            _ => self.put_pull_secret(which, how, &version),
        }
    }

    fn put_namespace(&self, which: usize, how: usize, version: &str) {
        let name: NamespaceName = NAMESPACES[which % 4].parse().unwrap();
        if how == 0 {
            self.state.namespaces.delete(&name, version);
            return;
        }
        let mode = ["disabled", "enabled", "enabled", "enabled"][how % 4];
        let tier = ["web", "other"][how / 4 % 2];
        let labels = [(INJECT_LABEL, mode), ("tier", tier)];
        let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let namespace = Namespace::new(name.clone(), BTreeMap::from(labels), how / 8 % 8 == 1);
        self.state.namespaces.apply_event(&name, version, namespace);
    }

    fn put_credential(&self, which: usize, how: usize) {
        let source = Self::sources()[which % 2].canonical();
        let credential = Credential {
            username: "AWS".to_owned(),
            password: format!("p{how}").into(),
            minted_at: at(0),
            expires_at: at(3600 * i64::try_from(1 + how % 3).unwrap()),
            principal: String::new(),
        };
        let mut all = self.stored.credentials.lock().unwrap();
        if how == 0 {
            all.remove(&source);
        } else {
            all.insert(source.clone(), Arc::new(credential));
        }
        drop(all);
        self.stored.changes.note(source);
    }

    fn put_source(&self, which: usize, how: usize, version: &str) {
        let name: ObjectName = SOURCES[which % 2].parse().unwrap();
        if how == 0 {
            self.state.sources.delete(&name, version);
            return;
        }
        let data = [
            ("username", "me".to_owned()),
            ("password", format!("p{how}")),
        ];
        let data = data.map(|(key, value)| (key.to_owned(), value.into_bytes().into()));
        let secret = SourceSecret {
            name: name.clone(),
            type_: "kubernetes.io/basic-auth".to_owned(),
            data: BTreeMap::from(data),
            resource_version: version.to_owned(),
        };
        self.state.sources.apply_event(&name, version, secret);
    }

    fn put_pull_secret(&self, which: usize, how: usize, version: &str) {
        let (namespace, secret) = (NAMESPACES[which % 4], SECRETS[which / 4 % 2]);
        let (namespace, secret): (NamespaceName, ObjectName) =
            (namespace.parse().unwrap(), secret.parse().unwrap());
        let store = self.state.pull_secrets_of(&secret);
        if how == 0 {
            store.delete(&namespace, version);
            return;
        }
        // What belongs there, some of it, and something else.
        let labels = self.state.namespaces.get(&namespace);
        let labels = labels.map(|known| known.labels.clone()).unwrap_or_default();
        let grants = self.state.registries().grants_of(&labels, &secret);
        let mut digests = BTreeMap::new();
        for (place, grant) in grants.iter().enumerate() {
            if how % 4 == 2 && place == 0 {
                continue;
            }
            let login = self.login(&grant.source);
            digests.extend(grant.keys.iter().map(|key| (key.clone(), login)));
        }
        if how % 4 == 3 {
            digests.insert("other.invalid".to_owned(), Digest::of_auth("other"));
        }
        let observed = Observed {
            version: Version {
                uid: "u".to_owned(),
                resource_version: version.to_owned(),
            },
            ours: how % 8 != 5,
            format: Some(crate::registry::SecretFormat::PullSecret),
            intact: true,
            digests,
        };
        store.apply_event(&namespace, version, observed);
    }

    fn login(&self, source: &CredentialSource) -> Digest {
        match source {
            CredentialSource::Minted(source) => {
                let current = self.stored.current(source);
                current.map_or(Digest::of_auth("none"), |one| {
                    Digest::of_login(&one.username, &one.password)
                })
            }
            CredentialSource::Static(source) => {
                let secret = self.state.sources.get(&source.secret);
                let password = secret.and_then(|secret| to_text(secret.data.get("password")?));
                Digest::of_login("me", &password.unwrap_or_default())
            }
        }
    }

    /// The pull secrets that the changes since concern, as the reconciler finds them.
    fn find_concerned(&mut self) -> BTreeSet<PullSecretKey> {
        let (mut keys, mut changes) = (BTreeSet::new(), Vec::new());
        let log = self.provisioner.changes();
        assert!(log.read(&mut self.state_cursor, |change| {
            changes.push(change.clone());
        }));
        let index = &self.index;
        let log = self.stored.changes();
        assert!(log.read(&mut self.credential_cursor, |source| {
            keys.extend(index.keys_of(source));
        }));
        for change in changes {
            match change {
                Change::Namespace(name) => {
                    keys.extend(index.keys_in(&name));
                    let known = self.state.namespaces.get(&name);
                    let wanted = known
                        .iter()
                        .flat_map(|one| self.provisioner.secrets_of(one));
                    keys.extend(wanted);
                    keys.extend(self.provisioner.secrets_there(&name));
                }
                Change::PullSecret(key) => drop(keys.insert(key)),
                Change::Source(name) => keys.extend(index.keys_with(&name)),
                Change::Registries => {
                    keys.extend(index.records().map(|(key, _)| key.clone()));
                    keys.extend(self.provisioner.all_keys());
                }
                Change::Status(_) => {}
            }
        }
        keys
    }

    fn put(&self, index: &mut Index, key: &PullSecretKey) {
        let seen = match self.provisioner.view(key, at(0)) {
            PullSecretView::Nothing => None,
            PullSecretView::Foreign(registries) => Some(Seen::Foreign(registries)),
            PullSecretView::Ours(view) => Some(Seen::Ours(view)),
        };
        index.put(key, seen, at(0));
    }

    /// The sums of what is there, made of nothing else.
    fn index_anew(&self) -> Index {
        let mut index = Index::default();
        for key in self.provisioner.all_keys() {
            self.put(&mut index, &key);
        }
        index
    }
}

/// What a Registry adds up to.
fn sum_of(index: &Index, name: &str) -> String {
    let Some(counts) = index.registry(name) else {
        return String::new();
    };
    let mut examples: Vec<_> = index.examples(counts).map(SecretView::group).collect();
    examples.sort_unstable();
    format!(
        "{} {:?} {:?} {examples:?}",
        counts.total, counts.lacking, counts.foreign
    )
}

/// Everything that an index answers.
fn sums(index: &Index) -> String {
    let mut text = String::new();
    for name in ["fixed", "minted", "web", "own"] {
        writeln!(text, "{name}: {}", sum_of(index, name)).unwrap();
    }
    for source in World::sources() {
        let name = source.canonical();
        let keys = index.keys_of(&name);
        let example = index.example_of(&name);
        assert_eq!(example.is_some(), !keys.is_empty());
        assert!(example.is_none_or(|key| keys.contains(key)));
        let uses = index.uses(&source);
        writeln!(text, "{uses} {keys:?} {:?}", index.registries_of(&name)).unwrap();
    }
    for secret in SOURCES {
        writeln!(text, "{:?}", index.keys_with(&secret.parse().unwrap())).unwrap();
    }
    let (there, stale) = (index.there(), index.stale());
    let (namespaces, rate) = (index.namespaces(), index.rate);
    writeln!(text, "{there} {stale:?} {:?}", index.unconfirmed).unwrap();
    writeln!(text, "{namespaces:?} {rate} {:?}", index.first_end()).unwrap();
    let known: Vec<_> = index.records().map(|(key, _)| key).collect();
    writeln!(text, "{known:?}").unwrap();
    text
}

proptest! {
    /// What is subtracted and added, pull secret by pull secret, is what all of them add up to; and what it says of who is concerned by a
    /// change is all of them.
    #[test]
    fn adds_up_to_the_same_as_made_anew(
        events in prop::collection::vec((0_u8..6, 0_usize..8, 0_usize..16), 1..60),
    ) {
        let mut world = World::new();
        for event in events {
            let before = ["fixed", "minted", "web", "own"].map(|name| sum_of(&world.index, name));
            world.change(event);
            let keys = world.find_concerned();
            let mut index = std::mem::take(&mut world.index);
            index.changed.clear();
            for key in &keys {
                world.put(&mut index, key);
            }
            world.index = index;
            prop_assert_eq!(sums(&world.index), sums(&world.index_anew()), "{:?}", event);
            for (name, before) in ["fixed", "minted", "web", "own"].into_iter().zip(before) {
                let is_other = sum_of(&world.index, name) != before;
                prop_assert!(!is_other || world.index.changed.contains(name), "{} {:?}", name, event);
            }
        }
    }
}

#[test]
fn counts_each_registry_and_namespace_of_a_pull_secret() {
    let mut world = World::new();
    // Registries for all, two namespaces, and what their sources give.
    for event in [
        (1, 0, 0b0011),
        (0, 0, 1),
        (0, 1, 1),
        (3, 0, 1),
        (2, 0, 1),
        (2, 1, 1),
    ] {
        world.change(event);
    }
    world.change((4, 0, 1));
    let index = world.index_anew();
    let counts = index.registry("fixed").unwrap();
    let key: PullSecretKey = ("n1".parse().unwrap(), PULL_SECRET.parse().unwrap());
    assert_eq!(counts.total, 2);
    assert_eq!(counts.lacking, BTreeSet::from([key]));
    assert_eq!(index.namespaces(), (2, 1), "of two one lacks a login");
    assert_eq!(index.there(), 1);
    assert_eq!(index.keys_with(&"login".parse().unwrap()).len(), 2);
    let sources = World::sources();
    let is_used = |source: &&MintSource| index.uses(source);
    let used: Vec<_> = sources.iter().filter(is_used).collect();
    let [source] = used[..] else {
        panic!("one is used, not {}", used.len());
    };
    assert_eq!(index.keys_of(&source.canonical()).len(), 2);
}
