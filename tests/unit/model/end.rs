//! What must be true at the end of a history, when nobody disturbs any more.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use jiff::{SignedDuration, Timestamp};
use pullpass::registry::CredentialSource;
use secrecy::ExposeSecret as _;

use super::double::KindState;
use super::history::{History, NAMESPACES, QUIET};
use super::oracle::{names, passwords};
use super::replica::PUSH_SECRET;
use super::time;
use super::truth::Wanted;

/// Longer than anything that failed is waited with, also where the clock was put back meanwhile: 5 minutes for one who keeps changing a
/// Secret.
const MINUTES: usize = 8;

/// Longer than what stays is waited for: 10 minutes for a new identity, and 10 that a clock may have been stepped back.
const MORE_MINUTES: usize = 22;

impl History {
    /// All faults end, and time passes.
    pub(crate) async fn calm_down(&mut self) {
        self.clouds.away.lock().unwrap().clear();
        *self.clouds.life.lock().unwrap() = SignedDuration::from_hours(12);
        time::step(SignedDuration::ZERO);
        for replica in &mut self.replicas {
            replica.faults.down.store(false, Ordering::SeqCst);
            replica.faults.one_in.store(0, Ordering::SeqCst);
            replica.stalled.clear();
        }
        self.set_kind(KindState::Served);
        self.replicas[0].lead(true);
        self.replicas[1].lead(false);
        self.run(5).await;
        self.wait(MINUTES).await;
        self.judge_end(false);
        self.mend_registries();
        self.wait(MORE_MINUTES).await;
    }

    /// Each Registry that breaks a rule is mended or deleted, while the same replica leads: what nobody knew until then is known.
    fn mend_registries(&mut self) {
        let broken = self.rules.iter().filter(|(_, ruled)| ruled.broken);
        let broken: Vec<String> = broken.map(|(name, _)| name.clone()).collect();
        for name in &broken {
            if self.dice.below(2) == 0 {
                self.rules.remove(name);
                self.log.push(format!("registry {name} deleted"));
            } else {
                self.put_registry(name);
            }
        }
        if !broken.is_empty() {
            self.note_change();
        }
    }

    async fn wait(&mut self, minutes: usize) {
        for _ in 0..minutes {
            time::pass(QUIET).await;
            self.run(3).await;
            // What may have gone with the kind is gone for good.
            self.replicas[0].confirm_held_back();
        }
        // Nothing is being renewed just then.
        while self.is_any_due() {
            time::pass(QUIET).await;
            self.run(5).await;
        }
        self.run(40).await;
    }

    /// Each Secret holds the newest of what is wanted and, once it may be `all` over, nothing else; what is somebody else's is there.
    pub(crate) fn judge_end(&self, all: bool) {
        let truth = self.truth();
        for place in Self::places() {
            let (namespace, secret) = names(&place);
            let wanted = truth.grants(&truth, namespace, secret);
            let stored = self.world.secret(&place);
            if stored.as_ref().is_some_and(|stored| !stored.ours) || !truth.has(namespace) {
                continue;
            }
            let there = passwords(stored.as_ref());
            for (key, source) in &wanted {
                if there.get(key) != self.newest(source).as_ref() {
                    let why = format!(
                        "{key} has {:?}, not {:?}",
                        there.get(key),
                        self.newest(source)
                    );
                    self.judge.condemn("untrue", &place, &why);
                }
            }
            if all {
                self.judge_delivery(&place, &there);
            }
            for key in there.keys().filter(|key| all && !wanted.contains_key(*key)) {
                let is_kept = truth.wanted(&truth, namespace, secret, key) == Wanted::AsItIs;
                let is_opted_in = truth.opted_in().any(|one| one.name == namespace);
                let is_terminating = self.is_terminating(namespace);
                if !is_kept && !is_terminating && (truth.knows_all() || !is_opted_in) {
                    self.judge
                        .condemn("left", &place, &format!("{key} is still there"));
                }
            }
        }
    }

    /// No Secret holds a login that kubelets are to ask for, under whichever key, unless another Registry has it written there.
    fn judge_delivery(&self, place: &str, there: &BTreeMap<String, String>) {
        let truth = self.truth();
        let (namespace, secret) = names(place);
        if !truth.knows_all() || !truth.opted_in().any(|one| one.name == namespace) {
            return;
        }
        let wanted = truth.grants(&truth, namespace, secret);
        let by_node = truth.by_node(namespace);
        for (key, password) in there {
            let source = self.judge.login(password).map(|login| login.source);
            let Some(source) = source.filter(|source| by_node.contains(source)) else {
                continue;
            };
            let is_kept = truth.wanted(&truth, namespace, secret, key) == Wanted::AsItIs;
            if !is_kept && wanted.get(key) != Some(&source) {
                let why = format!("{key} has {source:?}, which kubelets are to ask for");
                self.judge.condemn("delivered", place, &why);
            }
        }
    }

    fn is_terminating(&self, namespace: &str) -> bool {
        let all = self.world.namespaces.lock().unwrap();
        all.get(namespace).is_some_and(|one| one.terminating)
    }

    /// The password that stands for a source now, if it works.
    fn newest(&self, source: &CredentialSource) -> Option<String> {
        match source {
            CredentialSource::Static(_) => Some(format!("fixed-{}", self.fixed)),
            CredentialSource::Minted(source) => {
                let stored = self.clouds.stored.lock().unwrap().get(source).cloned()?;
                let works = stored.expires_at > time::truth();
                works.then(|| stored.password.expose_secret().to_owned())
            }
        }
    }

    fn written(&self) -> usize {
        self.judge.writes.lock().unwrap().len()
    }

    /// Whether a credential is due for renewal, or will be in a moment.
    fn is_any_due(&self) -> bool {
        let (now, moment) = (time::truth(), SignedDuration::from_secs(10));
        let stored = self.clouds.stored.lock().unwrap();
        stored.values().any(|credential| {
            let life = credential.expires_at.duration_since(credential.minted_at);
            let half = credential.minted_at + life / 2;
            // Each one has a time of its own within this part of its life.
            half - moment < now && now < half + life / 5 + moment
        })
    }

    /// Nothing changes: nothing is written or minted, also not after all replicas started again.
    pub(crate) async fn judge_idle(&mut self) {
        let before = (self.written(), self.clouds.minted());
        // The clock stands still: nothing is due meanwhile.
        time::skip(-SignedDuration::from_secs(1));
        self.run(3).await;
        for which in 0..2 {
            self.replicas[which] = self.new_replica();
        }
        self.replicas[1].lead(true);
        self.run(10).await;
        let after = (self.written(), self.clouds.minted());
        if before != after {
            let why = format!("writes and mints were {before:?}, are {after:?}");
            self.judge.condemn("idle", "everywhere", &why);
        }
    }

    /// Whoever mounts a Secret finds a quarter of each credential's life left.
    fn judge_mounted(&self) {
        let now = time::truth();
        for namespace in NAMESPACES {
            let place = super::double::place(namespace, PUSH_SECRET);
            let truth = self.truth();
            let wanted = truth.grants(&truth, namespace, PUSH_SECRET);
            let stored = self.world.secret(&place).filter(|stored| stored.ours);
            for (key, password) in passwords(stored.as_ref()) {
                let issued = self.clouds.issued.lock().unwrap().get(&password).cloned();
                let Some(issued) = issued.filter(|_| wanted.contains_key(&key)) else {
                    continue;
                };
                let life = issued.until.duration_since(issued.at);
                if issued.until.duration_since(now) < life / 4 {
                    let why = format!("{key} has {issued:?}");
                    self.judge.condemn("mounted", &place, &why);
                }
            }
        }
    }

    /// Within the next hours each credential in use is minted once at most, and each Secret written once for all that were minted
    /// together.
    pub(crate) async fn judge_rotation(&mut self) {
        let began = time::truth();
        for _ in 0..70 {
            time::pass(SignedDuration::from_mins(5)).await;
            self.run(5).await;
            self.judge_mounted();
        }
        self.run(20).await;
        let mut mints: BTreeMap<String, Vec<Timestamp>> = BTreeMap::new();
        for issued in self.clouds.issued.lock().unwrap().values() {
            if issued.at > began {
                let source = format!("{:?}", issued.source);
                mints.entry(source).or_default().push(issued.at);
            }
        }
        if let Some((source, times)) = mints.iter().find(|(_, times)| times.len() > 1) {
            self.judge
                .condemn("mints", source, &format!("at {times:?}"));
        }
        let truth = self.truth();
        for place in Self::places() {
            let (namespace, secret) = names(&place);
            let is_ours = self.world.secret(&place).is_some_and(|stored| stored.ours);
            let wanted = truth.grants(&truth, namespace, secret);
            let mut minted: Vec<Timestamp> = wanted
                .values()
                .filter_map(|source| match source {
                    CredentialSource::Minted(source) => mints.get(&format!("{source:?}")),
                    CredentialSource::Static(_) => None,
                })
                .flatten()
                .copied()
                .collect();
            minted.sort_unstable();
            minted.dedup_by(|later, earlier| later.duration_since(*earlier) < QUIET);
            let writes = self.judge.writes.lock().unwrap();
            let writes = writes
                .iter()
                .filter(|(at, when)| *at == place && *when > began)
                .count();
            if is_ours && writes != minted.len() {
                let why = format!("{writes} writes for mints at {minted:?}");
                self.judge.condemn("writes", &place, &why);
            }
        }
        self.judge_end(true);
    }
}
