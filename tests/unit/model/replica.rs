//! One pullpass: the real reconciler and the real cold path over what its watches show it.

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use pullpass::cluster::EventNote;
use pullpass::controller::{Leadership, Metrics, Reconciler, StatusWriter};
use pullpass::names::NamespaceName;
use pullpass::provision::ports::{Cluster, ClusterError, Credentials};
use pullpass::provision::state::{Observed, State};
use pullpass::provision::store::Store;
use pullpass::provision::{InjectMode, Namespace, PULL_SECRET, Provision as _, Provisioner};
use pullpass::registry::crd::RegistryStatus;
use pullpass::registry::{Grant, RegistryInfo};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::cloud::{Clouds, Wallet};
use super::double::{Dice, KindState, View, World, place, show};
use super::gate::{Faults, Gate, Mutant, read_registries};
use super::names::name;
use super::time;
use super::truth::{Rules, account};

/// The names of the pull secrets that there may be.
pub(crate) const SECRETS: [&str; 3] = [PULL_SECRET, "pullpass-narrow", PUSH_SECRET];

/// The one that is mounted.
pub(crate) const PUSH_SECRET: &str = "pullpass-push";

/// What is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Namespaces,
    Registries,
    PullSecrets,
    Sources,
    Store,
}

pub(crate) const KINDS: [Kind; 5] = [
    Kind::Namespaces,
    Kind::Registries,
    Kind::PullSecrets,
    Kind::Sources,
    Kind::Store,
];

pub(crate) struct Replica {
    state: Arc<State>,
    wallet: Arc<Wallet>,
    ensure: Provisioner,
    leadership: watch::Sender<Leadership>,
    reconciler: JoinHandle<()>,
    pub(crate) faults: Arc<Faults>,
    pub(crate) stalled: HashSet<Kind>,
    /// The epochs that the watches of namespaces and of Registries have shown.
    pub(crate) shown: (usize, usize),
    /// The Registries that their watch has shown, and of which kind it was a watch.
    shown_rules: Rules,
    kind_made: Option<u64>,
    /// Whether it ever saw the Registries: who starts while their kind is away knows nothing of them.
    pub(crate) knows: bool,
    dice: Arc<Dice>,
    blocked: Arc<HeldBack>,
    uids: HashMap<String, String>,
    mutant: Option<Mutant>,
}

/// Listens for what is held back until somebody confirms it.
#[derive(Default)]
struct HeldBack(Mutex<Option<String>>);

#[async_trait]
impl StatusWriter for HeldBack {
    async fn apply_status(&self, _: &RegistryInfo, _: &RegistryStatus) -> Result<(), ClusterError> {
        Ok(())
    }

    async fn publish(&self, notice: &EventNote, _: Timestamp) {
        if let Some((_, id)) = notice.note.split_once("confirm-removal=") {
            let id = id.split_whitespace().next().map(str::to_owned);
            *self.0.lock().unwrap() = id;
        }
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.reconciler.abort();
    }
}

impl Replica {
    pub(crate) fn new(
        world: &Arc<World>,
        clouds: &Arc<Clouds>,
        dice: &Arc<Dice>,
        mutant: Option<Mutant>,
    ) -> Self {
        let state = Arc::new(State::default());
        let wallet = Arc::new(Wallet::new(clouds));
        let faults = Arc::new(Faults::default());
        let view = View::new(world, dice);
        let gate = Gate {
            view,
            faults: Arc::clone(&faults),
            mutant,
        };
        let credentials: Arc<dyn Credentials> = wallet.clone();
        let cluster: Arc<dyn Cluster> = Arc::new(gate);
        let ensure = Provisioner::new(
            Arc::clone(&state),
            cluster,
            Arc::clone(&credentials),
            time::clock,
        );
        let blocked = Arc::new(HeldBack::default());
        let reconciler = Reconciler::new(
            ensure.clone(),
            credentials,
            Arc::clone(&blocked) as Arc<dyn StatusWriter>,
            Metrics::default(),
            name("pullpass"),
            time::clock,
        );
        let leadership = watch::Sender::new(Leadership::default());
        let reconciler = tokio::spawn(reconciler.run(leadership.subscribe()));
        Self {
            state,
            wallet,
            ensure,
            leadership,
            reconciler,
            faults,
            stalled: HashSet::new(),
            shown: (0, 0),
            shown_rules: Rules::new(),
            kind_made: None,
            knows: false,
            dice: Arc::clone(dice),
            blocked,
            uids: HashMap::new(),
            mutant,
        }
    }

    pub(crate) fn lead(&self, leads: bool) {
        self.leadership.send_modify(|told| told.leads = leads);
    }

    /// Whether its reconciler is still there.
    pub(crate) fn lives(&self) -> bool {
        !self.reconciler.is_finished()
    }

    /// The watches that are not stalled show what there is.
    pub(crate) fn show(&mut self, world: &World, rules: &Rules, epoch: usize) {
        for kind in KINDS {
            if !self.stalled.contains(&kind) {
                self.show_kind(kind, world, rules, epoch);
            }
        }
    }

    fn show_kind(&mut self, kind: Kind, world: &World, rules: &Rules, epoch: usize) {
        match kind {
            Kind::Namespaces => {
                self.show_namespaces(world);
                self.shown.0 = epoch;
            }
            Kind::Registries => self.show_registries(world, rules, epoch),
            Kind::PullSecrets => self.show_secrets(world),
            Kind::Sources => {
                for (name, source) in &*world.sources.lock().unwrap() {
                    let version = source.resource_version.clone();
                    let known = self.state.sources.get(name);
                    if known.is_none_or(|known| known.resource_version != version) {
                        self.state
                            .sources
                            .apply_event(&source.name, &version, source.clone());
                    }
                }
            }
            Kind::Store => self.wallet.learn_all(),
        }
    }

    /// The watch of Registries shows what happened event by event; or a list shows what there is, where a watch cannot go on.
    fn show_registries(&mut self, world: &World, rules: &Rules, epoch: usize) {
        let kind = *world.kind.lock().unwrap();
        let none = Rules::new();
        let there = match kind {
            KindState::Served => rules,
            KindState::Going | KindState::Bare => &none,
            // What is known stays.
            KindState::Gone => {
                if self.shown_rules.is_empty() {
                    self.shown.1 = epoch;
                }
                return;
            }
        };
        self.knows |= kind == KindState::Served;
        let made = Some(world.kinds_made.load(Ordering::SeqCst));
        let is_new = self.kind_made != made;
        let is_other = self.shown_rules != *there;
        if is_new || (is_other && self.dice.below(8) == 0) {
            self.kind_made = made;
            let crd = (kind != KindState::Going).then(|| world.crd());
            self.state.crd.begin_list(crd.as_deref());
            self.shown_rules = there.clone();
            self.shown.1 = epoch;
            let registries = read_registries(self.mutant, there);
            self.state.set_registries(registries, time::clock());
            return;
        }
        let names: BTreeSet<String> = self
            .shown_rules
            .keys()
            .chain(there.keys())
            .cloned()
            .collect();
        for name in names {
            let is = there.get(&name);
            // Of those that go with the kind not each one is seen, if it is gone soon.
            let is_late = kind == KindState::Going && self.dice.below(4) == 0;
            if self.shown_rules.get(&name) == is || is_late {
                continue;
            }
            match is {
                Some(is) => self.shown_rules.insert(name.clone(), is.clone()),
                None => self.shown_rules.remove(&name),
            };
            let registries = read_registries(self.mutant, &self.shown_rules);
            self.state.apply_registry(&name, registries, time::clock());
        }
        // Else it goes by what it saw before.
        if self.shown_rules == *there {
            self.shown.1 = epoch;
        }
    }

    /// Somebody confirms what is held back.
    pub(crate) fn confirm_held_back(&self) {
        let id = self.blocked.0.lock().unwrap().clone();
        self.leadership.send_modify(|told| told.confirmed = id);
    }

    fn show_namespaces(&mut self, world: &World) {
        let all = world.namespaces.lock().unwrap().clone();
        let is_watched = |namespace: &&Namespace| namespace.mode != InjectMode::Off;
        let watched: BTreeMap<&NamespaceName, &Namespace> = all
            .values()
            .filter(is_watched)
            .map(|namespace| (&namespace.name, namespace))
            .collect();
        let store = &self.state.namespaces;
        for (name, _) in store.entries() {
            if !watched.contains_key(&name) {
                store.delete(&name, &world.next_version());
            }
        }
        for (name, namespace) in watched {
            if store.get(name).is_none_or(|known| *known != *namespace) {
                store.apply_event(name, &world.next_version(), namespace.clone());
            }
            let before = self.uids.insert(name.to_string(), namespace.uid.clone());
            if before.is_some_and(|uid| uid != namespace.uid) {
                self.state.forget_pull_secrets_in(name);
            }
        }
    }

    fn show_secrets(&self, world: &World) {
        for secret in SECRETS {
            let store = self.state.pull_secrets_of(&name(secret));
            for (namespace, _) in store.entries() {
                if world.secret(&place(&namespace, secret)).is_none() {
                    store.delete(&namespace, &world.next_version());
                }
            }
            for (namespace, stored) in secrets_named(world, secret) {
                let known = store.get(&namespace);
                if known.is_none_or(|known| known.version != stored.version) {
                    if secret == PULL_SECRET {
                        show(&self.state, &namespace, &stored);
                    } else {
                        let version = &stored.version.resource_version;
                        store.apply_event(&namespace, version, Observed::of(&stored.read()));
                    }
                }
            }
        }
    }

    /// A list that misses things is taken for complete; then the watch hangs.
    pub(crate) fn show_part(&mut self, kind: Kind, world: &World, dice: &Dice) {
        match kind {
            Kind::Namespaces => {
                let all = world.namespaces.lock().unwrap().clone();
                let listed = all
                    .into_iter()
                    .filter(|(_, one)| one.mode != InjectMode::Off);
                let listed = listed.map(|(_, one)| (one.name.clone(), world.next_version(), one));
                replace(&self.state.namespaces, listed.collect(), dice);
            }
            Kind::PullSecrets => {
                for secret in SECRETS {
                    let listed =
                        secrets_named(world, secret)
                            .into_iter()
                            .map(|(namespace, stored)| {
                                let version = stored.version.resource_version.clone();
                                (namespace, version, Observed::of(&stored.read()))
                            });
                    replace(
                        &self.state.pull_secrets_of(&name(secret)),
                        listed.collect(),
                        dice,
                    );
                }
            }
            Kind::Sources => {
                let all = world.sources.lock().unwrap().clone();
                let listed = all
                    .into_values()
                    .map(|one| (one.name.clone(), one.resource_version.clone(), one));
                replace(&self.state.sources, listed.collect(), dice);
            }
            Kind::Registries | Kind::Store => {}
        }
        self.stalled.insert(kind);
    }

    /// A Pod of this namespace comes, and is not waited for.
    pub(crate) fn admit(&self, namespace: &str, secret: &'static str, keys: Vec<String>) {
        let (ensure, namespace) = (self.ensure.clone(), name(namespace));
        tokio::spawn(async move {
            let known = ensure.namespace(&namespace);
            let known = match known {
                Some(known) => Some(known),
                None => ensure.fetch_namespace(&namespace).await,
            };
            let Some(known) = known.filter(|known| known.mode != InjectMode::Off) else {
                return;
            };
            let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
            let deadline = Instant::now() + Duration::from_secs(2);
            ensure.ensure(&known, &name(secret), &keys, deadline).await;
        });
    }

    /// A kubelet asks for the login of a Pod in this namespace, and is not waited for.
    pub(crate) fn ask(&self, namespace: &str, grant: Grant) {
        let (ensure, namespace) = (self.ensure.clone(), name(namespace));
        tokio::spawn(async move {
            let Some(known) = ensure.namespace(&namespace) else {
                return;
            };
            let (account, uid) = (name("puller"), account(&namespace).uid);
            drop(ensure.fetch_login(&known, grant, (&account, &uid)).await);
        });
    }
}

fn secrets_named(world: &World, secret: &str) -> Vec<(NamespaceName, super::double::Stored)> {
    let all = world.secrets.lock().unwrap();
    let named = all.iter().filter_map(|(at, stored)| {
        let (namespace, own) = super::oracle::names(at);
        (own == secret).then(|| (name(namespace), stored.clone()))
    });
    named.collect()
}

fn replace<N: Borrow<str> + Clone + Ord, T>(
    store: &Store<N, T>,
    listed: Vec<(N, String, T)>,
    dice: &Dice,
) {
    store.begin_relist();
    let listed = listed.into_iter().filter(|_| dice.below(2) == 0);
    store.replace(listed.collect());
}
