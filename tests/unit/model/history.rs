//! One random history of a cluster with pullpass in it, from a seed.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use pullpass::provision::Namespace;
use pullpass::provision::ports::ListedRegistry;
use pullpass::registry::CredentialSource;
use pullpass::registry::source::StaticSource;

use super::cloud::Clouds;
use super::double::{Dice, World, place};
use super::gate::Mutant;
use super::names::name;
use super::oracle::Oracle;
use super::replica::{Replica, SECRETS};
use super::time;
use super::truth::{Epoch, REGISTRIES, Ruled, Rules, SOURCE, spec};

pub(crate) const NAMESPACES: [&str; 4] = ["team-a", "team-b", "team-c", "team-d"];

/// How many events in a history.
const EVENTS: u64 = 50;

/// How long a step takes.
const TICK: Duration = Duration::from_millis(50);

/// For how many events a replica may still be about what it saw before.
const UNDER_WAY: usize = 3;

pub(crate) struct History {
    pub(crate) dice: Arc<Dice>,
    pub(crate) world: Arc<World>,
    pub(crate) clouds: Arc<Clouds>,
    pub(crate) judge: Arc<Oracle>,
    pub(crate) replicas: Vec<Replica>,
    pub(crate) rules: Rules,
    pub(crate) mutant: Option<Mutant>,
    /// What happened, for people.
    pub(crate) log: Vec<String>,
    seen: VecDeque<usize>,
    pub(crate) fixed: u64,
}

/// Where something was written, and when.
pub(crate) type Writes = Vec<(String, Timestamp)>;

/// What somebody found wrong, and what led to it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) verdicts: Vec<String>,
    pub(crate) log: Vec<String>,
}

impl History {
    pub(crate) fn new(seed: u64, mutant: Option<Mutant>) -> Self {
        time::begin();
        let dice = Arc::new(Dice::new(seed));
        let (world, clouds) = (Arc::new(World::default()), Arc::new(Clouds::new(&dice)));
        let judge = Arc::new(Oracle {
            clouds: Arc::clone(&clouds),
            epochs: Mutex::default(),
            oldest: AtomicUsize::new(0),
            stepped: AtomicBool::new(false),
            verdicts: Mutex::default(),
            writes: Mutex::default(),
            fixed: CredentialSource::Static(StaticSource {
                secret: name(SOURCE),
            }),
        });
        let judging = Arc::clone(&judge);
        *world.judge.lock().unwrap() = Some(Box::new(move |place, before, after| {
            judging.judge(place, before, after);
        }));
        let mut history = Self {
            dice,
            world,
            clouds,
            judge,
            replicas: Vec::new(),
            rules: Rules::new(),
            mutant,
            log: Vec::new(),
            seen: VecDeque::new(),
            fixed: 1,
        };
        history.populate();
        history
    }

    fn populate(&mut self) {
        self.world.set_source(SOURCE, "robot", "fixed-1");
        for name in NAMESPACES {
            self.put_namespace(name);
        }
        for name in REGISTRIES {
            if self.dice.below(4) > 0 {
                self.put_registry(name);
            }
        }
        self.note_change();
        for _ in 0..2 {
            let replica = self.new_replica();
            self.replicas.push(replica);
        }
        self.replicas[0].lead(true);
    }

    pub(crate) fn new_replica(&self) -> Replica {
        let mut replica = Replica::new(&self.world, &self.clouds, &self.dice, self.mutant);
        // It serves when its watches have shown everything once.
        replica.show(&self.world, &self.rules, self.epoch());
        replica
    }

    /// A namespace with labels of any kind.
    pub(crate) fn put_namespace(&mut self, name: &str) {
        let pick =
            |of: &[&str]| of[usize::try_from(self.dice.below(of.len() as u64)).unwrap()].to_owned();
        let inject = pick(&["enabled", "enabled", "enabled", "all", "disabled"]);
        let labels = BTreeMap::from([
            ("pullpass.dev/inject".to_owned(), inject),
            ("team".to_owned(), pick(&["a", "b"])),
        ]);
        self.log.push(format!("namespace {name} {labels:?}"));
        let mut all = self.world.namespaces.lock().unwrap();
        let uid = all.get(name).map_or_else(
            || format!("uid-{}", self.world.next_version()),
            |known| known.uid.clone(),
        );
        let namespace = Namespace::new(name.parse().unwrap(), labels, false).with_uid(uid);
        all.insert(name.to_owned(), namespace);
    }

    /// A Registry of any form, made or changed.
    pub(crate) fn put_registry(&mut self, name: &str) {
        let spec = spec(name, &self.dice);
        self.log.push(format!("registry {name} {spec}"));
        let known = self.rules.remove(name);
        let (uid, generation) = known.map_or_else(
            || (format!("uid-{}", self.world.next_version()), 1),
            |known| (known.uid, known.generation + 1),
        );
        let ruled = Ruled {
            spec,
            broken: false,
            uid,
            generation,
        };
        self.rules.insert(name.to_owned(), ruled);
    }

    pub(crate) fn epoch(&self) -> usize {
        self.judge.epochs.lock().unwrap().len() - 1
    }

    pub(crate) fn truth(&self) -> Arc<Epoch> {
        let epochs = self.judge.epochs.lock().unwrap();
        Arc::clone(epochs.last().expect("there is always one"))
    }

    /// The Registries or namespaces are others now.
    pub(crate) fn note_change(&mut self) {
        self.put_registries();
        let namespaces = self.world.namespaces.lock().unwrap().clone();
        let namespaces = namespaces.into_iter().collect();
        let epoch = Epoch::new(&self.rules, namespaces, time::truth());
        self.judge.epochs.lock().unwrap().push(Arc::new(epoch));
    }

    /// The Registries that the API server has.
    pub(crate) fn put_registries(&self) {
        let registries = self.rules.iter().map(|(name, ruled)| ListedRegistry {
            name: name.clone(),
            uid: ruled.uid.clone(),
            generation: Some(ruled.generation),
        });
        *self.world.registries.lock().unwrap() = registries.collect();
    }

    /// Lets everything run for some ticks, and the watches show what happened.
    pub(crate) async fn run(&mut self, ticks: u64) {
        for _ in 0..ticks {
            let epoch = self.epoch();
            for replica in &mut self.replicas {
                replica.show(&self.world, &self.rules, epoch);
            }
            tokio::time::sleep(TICK).await;
        }
        let shown = self
            .replicas
            .iter()
            .map(|replica| replica.shown.0.min(replica.shown.1));
        self.seen.push_back(shown.min().unwrap_or(0));
        if self.seen.len() > UNDER_WAY {
            self.seen.pop_front();
        }
        let oldest = self.seen.iter().min().copied().unwrap_or(0);
        self.judge.oldest.store(oldest, Ordering::SeqCst);
    }

    /// Places that a Secret may stand in.
    pub(crate) fn places() -> impl Iterator<Item = String> {
        NAMESPACES
            .iter()
            .flat_map(|namespace| SECRETS.map(|secret| place(namespace, secret)))
    }

    fn verdicts(&self) -> Vec<String> {
        for (number, replica) in self.replicas.iter().enumerate() {
            if !replica.lives() {
                self.judge.condemn(
                    "panicked",
                    &format!("replica {number}"),
                    "its reconciler ended",
                );
            }
        }
        std::mem::take(&mut *self.judge.verdicts.lock().unwrap())
    }

    fn end(&mut self) -> Result<(), Failure> {
        let verdicts = self.verdicts();
        if verdicts.is_empty() {
            return Ok(());
        }
        let log = std::mem::take(&mut self.log);
        Err(Failure { verdicts, log })
    }
}

/// Runs the history of this seed.
pub(crate) async fn live(seed: u64, mutant: Option<Mutant>) -> Result<Writes, Failure> {
    let mut history = History::new(seed, mutant);
    history.run(4).await;
    for number in 0..EVENTS {
        let began = history.log.len();
        history.happen().await;
        for line in &mut history.log[began..] {
            *line = format!("{number}: {line}");
        }
        history.end()?;
    }
    history.calm_down().await;
    history.end()?;
    history.judge_end(true);
    history.end()?;
    history.judge_idle().await;
    history.end()?;
    if seed.is_multiple_of(ROTATED) {
        history.judge_rotation().await;
        history.end()?;
    }
    let writes = history.judge.writes.lock().unwrap();
    Ok(writes.clone())
}

/// Of so many histories one is followed for half a day more.
const ROTATED: u64 = 16;

/// A while in which nobody does anything.
pub(crate) const QUIET: SignedDuration = SignedDuration::from_mins(1);
