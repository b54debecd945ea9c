//! What may happen.

use std::sync::atomic::Ordering;

use jiff::SignedDuration;
use pullpass::provision::Namespace;
use serde_json::json;

use super::double::{KindState, Stored};
use super::history::{History, NAMESPACES};
use super::oracle::names;
use super::replica::{KINDS, SECRETS};
use super::time;
use super::truth::{REGISTRIES, SOURCE, delivery};

impl History {
    fn pick<T: Clone>(&self, of: &[T]) -> T {
        of[usize::try_from(self.dice.below(of.len() as u64)).unwrap()].clone()
    }

    pub(crate) async fn happen(&mut self) {
        match self.dice.below(27) {
            0..=2 => self.change_namespace(),
            3..=6 => self.meddle(),
            7..=9 => self.change_registries(),
            10 => self.change_clouds(),
            11 => self.change_server(),
            12 => self.step_clock(),
            13 => self.restart(),
            14 => self.change_leaders(),
            15 | 16 => self.change_watches(),
            17 => self.lose_kind().await,
            18..=20 => self.admit(),
            21 => self.rotate_fixed(),
            22 => self.ask(),
            _ => self.pass_time().await,
        }
        let ticks = self.dice.below(5);
        self.run(ticks).await;
    }

    fn change_namespace(&mut self) {
        let name = self.pick(&NAMESPACES);
        match self.dice.below(6) {
            0 => {
                self.log.push(format!("namespace {name} deleted"));
                self.world.namespaces.lock().unwrap().remove(name);
                let mut secrets = self.world.secrets.lock().unwrap();
                secrets.retain(|place, _| names(place).0 != name);
            }
            1 => {
                self.log.push(format!("namespace {name} terminating"));
                let mut all = self.world.namespaces.lock().unwrap();
                if let Some(namespace) = all.get_mut(name) {
                    let terminating = true;
                    *namespace = Namespace {
                        terminating,
                        ..namespace.clone()
                    };
                }
            }
            _ => self.put_namespace(name),
        }
        self.note_change();
    }

    /// Somebody else writes or deletes a Secret of that name.
    fn meddle(&mut self) {
        let namespace = self.pick(&NAMESPACES);
        let place = super::double::place(namespace, self.pick(&SECRETS));
        let known = self
            .world
            .namespaces
            .lock()
            .unwrap()
            .contains_key(namespace);
        if !known {
            return;
        }
        let there = self.world.secret(&place);
        let forged = self.forge(namespace, there.as_ref());
        let what = match (self.dice.below(8), there) {
            (0 | 1, Some(_)) => {
                self.world.secrets.lock().unwrap().remove(&place);
                "deleted"
            }
            (2, Some(there)) => {
                self.replace(&place, &there, false, there.dockerconfigjson.clone());
                "relabelled"
            }
            (3, None) => {
                self.world.put_secret(&place, false, &forged);
                "foreign"
            }
            (4, Some(there)) => {
                self.replace(&place, &there, there.ours, b"no JSON".to_vec());
                "garbled"
            }
            (_, Some(there)) => {
                self.replace(&place, &there, there.ours, forged.into_bytes());
                "forged"
            }
            (_, None) => {
                self.world.put_secret(&place, true, &forged);
                "made with our label"
            }
        };
        self.log.push(format!("secret {place} {what}"));
    }

    fn replace(&self, place: &str, there: &Stored, ours: bool, dockerconfigjson: Vec<u8>) {
        let mut stored = there.clone();
        stored.version.resource_version = self.world.next_version();
        stored.ours = ours;
        stored.dockerconfigjson = dockerconfigjson;
        let mut secrets = self.world.secrets.lock().unwrap();
        secrets.insert(place.to_owned(), stored);
    }

    /// Content that a tenant may write: logins of its own, ones that were there, some left out, under keys of any kind.
    fn forge(&self, namespace: &str, there: Option<&Stored>) -> String {
        use base64::Engine as _;
        let encode = |login: String| base64::engine::general_purpose::STANDARD.encode(login);
        let mut auths = serde_json::Map::new();
        let passwords = super::oracle::passwords(there);
        let all: Vec<String> = passwords.values().cloned().collect();
        for (key, password) in passwords {
            let password = match self.dice.below(4) {
                0 => continue,
                1 => format!("forged-{namespace}"),
                2 => self.pick(&all),
                _ => password,
            };
            auths.insert(key, json!({"auth": encode(format!("AWS:{password}"))}));
        }
        if self.dice.below(2) == 0 {
            let auth = encode(format!("me:forged-{namespace}"));
            let key = self.pick(&["mine.example.com", "harbor.example.com"]);
            auths.insert(key.to_owned(), json!({ "auth": auth }));
        }
        json!({ "auths": auths }).to_string()
    }

    /// One Registry, several at once, or all of them.
    fn change_registries(&mut self) {
        let count = self.pick(&[1, 1, 1, 2, 3, REGISTRIES.len()]);
        let first = self.dice.below(REGISTRIES.len() as u64);
        let names = REGISTRIES.iter().cycle();
        let names = names.skip(usize::try_from(first).unwrap()).take(count);
        let what = self.dice.below(6);
        for name in names {
            self.change_registry(name, what);
        }
        self.note_change();
    }

    fn change_registry(&mut self, name: &str, what: u64) {
        let kind = *self.world.kind.lock().unwrap();
        let is_away = matches!(kind, KindState::Going | KindState::Gone);
        let known = self.rules.get_mut(name);
        match (what, known) {
            (0, Some(_)) => {
                self.rules.remove(name);
                self.log.push(format!("registry {name} deleted"));
            }
            (0, None) => {}
            // The API server makes and changes no object of a kind that goes, or is gone.
            _ if is_away => {}
            (1, Some(known)) => {
                known.broken = true;
                known.generation += 1;
                self.log.push(format!("registry {name} breaks a rule"));
            }
            (2, Some(known)) => {
                known.spec["suspend"] = json!(known.spec["suspend"] == false);
                known.generation += 1;
                self.log.push(format!("registry {name} suspended or not"));
            }
            (3, Some(known)) => {
                let delivery = delivery(&known.spec, &self.dice);
                self.log
                    .push(format!("registry {name} delivers {delivery}"));
                known.spec["delivery"] = delivery;
                known.generation += 1;
            }
            _ => self.put_registry(name),
        }
    }

    fn change_clouds(&mut self) {
        let region = self.pick(&["eu-west-1", "us-east-1", "ap-south-1"]);
        let lives = [5, 5, 60, 12 * 60, 12 * 60, 10 * 365 * 24 * 60].map(SignedDuration::from_mins);
        let life = self.pick(&[&lives[..], &[SignedDuration::from_secs(30)]].concat());
        if self.dice.below(2) == 0 {
            self.log.push(format!("credentials live {life:#}"));
            *self.clouds.life.lock().unwrap() = life;
            return;
        }
        let mut away = self.clouds.away.lock().unwrap();
        if away.remove(region) {
            self.log.push(format!("cloud of {region} comes back"));
        } else {
            away.insert(region.to_owned());
            self.log.push(format!("cloud of {region} goes away"));
        }
    }

    fn change_server(&mut self) {
        let which = usize::from(self.dice.below(2) == 1);
        let faults = &self.replicas[which].faults;
        if self.dice.below(2) == 0 {
            let down = !faults.down.fetch_not(Ordering::SeqCst);
            self.log
                .push(format!("API server down for {which}: {down}"));
        } else {
            let one_in = self.pick(&[0, 3, 10]);
            faults.one_in.store(one_in, Ordering::SeqCst);
            self.log
                .push(format!("one request in {one_in} fails for {which}"));
        }
    }

    fn step_clock(&mut self) {
        let wrong = SignedDuration::from_mins(self.pick(&[-10, 0, 10]));
        self.log.push(format!("clock is wrong by {wrong:#}"));
        self.judge.stepped.store(true, Ordering::SeqCst);
        time::step(wrong);
    }

    fn restart(&mut self) {
        let which = usize::from(self.dice.below(2) == 1);
        self.log
            .push(format!("replica {which} is killed and starts again"));
        let replica = self.new_replica();
        replica.lead(self.dice.below(2) == 0);
        self.replicas[which] = replica;
    }

    fn change_leaders(&mut self) {
        let leads = self.pick(&[[true, false], [false, true], [true, true], [false, false]]);
        self.log.push(format!("who leads: {leads:?}"));
        for (replica, leads) in self.replicas.iter().zip(leads) {
            replica.lead(leads);
        }
    }

    fn change_watches(&mut self) {
        let (which, kind) = (usize::from(self.dice.below(2) == 1), self.pick(&KINDS));
        let replica = &mut self.replicas[which];
        if replica.stalled.remove(&kind) {
            self.log.push(format!("watch {kind:?} of {which} goes on"));
        } else if self.dice.below(2) == 0 {
            replica.stalled.insert(kind);
            self.log.push(format!("watch {kind:?} of {which} hangs"));
        } else {
            replica.show_part(kind, &self.world, &self.dice);
            self.log
                .push(format!("list {kind:?} of {which} is partial"));
        }
    }

    /// The kind is deleted, with all Registries; or it comes back, and they with it or a while later.
    async fn lose_kind(&mut self) {
        let kind = *self.world.kind.lock().unwrap();
        let next = match kind {
            KindState::Served => KindState::Going,
            KindState::Going if self.dice.below(2) == 0 => KindState::Gone,
            // A process that never saw the Registries misses none of them.
            _ if self.replicas.iter().all(|replica| replica.knows) && self.dice.below(2) == 0 => {
                self.set_kind(KindState::Bare);
                for _ in 0..self.dice.below(3) {
                    time::pass(SignedDuration::from_mins(1)).await;
                    self.run(60).await;
                }
                KindState::Served
            }
            _ => KindState::Served,
        };
        self.set_kind(next);
    }

    /// The kind is another one once it comes back, and so are the Registries.
    pub(crate) fn set_kind(&mut self, kind: KindState) {
        self.log.push(format!("kind is {kind:?}"));
        let before = std::mem::replace(&mut *self.world.kind.lock().unwrap(), kind);
        let was_away = matches!(before, KindState::Going | KindState::Gone);
        if was_away && matches!(kind, KindState::Bare | KindState::Served) {
            self.world.kinds_made.fetch_add(1, Ordering::SeqCst);
        }
        if before != kind && kind == KindState::Served {
            for ruled in self.rules.values_mut() {
                ruled.uid = format!("uid-{}", self.world.next_version());
                ruled.generation = 1;
            }
            self.put_registries();
        }
    }

    fn admit(&mut self) {
        let (which, namespace) = (usize::from(self.dice.below(2) == 1), self.pick(&NAMESPACES));
        let secret = self.pick(&SECRETS);
        let truth = self.truth();
        let keys: Vec<String> = truth
            .grants(&truth, namespace, secret)
            .into_keys()
            .collect();
        if keys.is_empty() {
            return;
        }
        let key = self.pick(&keys);
        self.log
            .push(format!("Pod in {namespace} by {which}: {secret} {key}"));
        self.replicas[which].admit(namespace, secret, vec![key]);
    }

    /// A kubelet asks for a login that no Secret holds.
    fn ask(&mut self) {
        let (which, namespace) = (usize::from(self.dice.below(2) == 1), self.pick(&NAMESPACES));
        let asked_for = self.truth().asked_for(namespace);
        if asked_for.is_empty() {
            return;
        }
        let grant = self.pick(&asked_for);
        let registry = &grant.registry;
        self.log
            .push(format!("kubelet for {namespace} by {which}: {registry}"));
        self.replicas[which].ask(namespace, grant);
    }

    fn rotate_fixed(&mut self) {
        self.fixed += 1;
        let password = format!("fixed-{}", self.fixed);
        self.log.push(format!("source {SOURCE} {password}"));
        self.world.set_source(SOURCE, "robot", &password);
    }

    async fn pass_time(&mut self) {
        let minutes = self.pick(&[0, 0, 1, 2, 3, 10, 60, 360, 400, 1500]);
        let seconds = i64::try_from(self.dice.below(60)).unwrap();
        let time = SignedDuration::from_mins(minutes) + SignedDuration::from_secs(seconds);
        self.log.push(format!("{time:#} pass"));
        time::pass(time).await;
    }
}
