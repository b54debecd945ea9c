//! Keeping the certificates of our own, as long as this replica leads.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;

use super::term::Leadership;
use crate::certificates::decide::{Action, Bundle, Lives, decide};
use crate::certificates::{Held, MakeError, Metrics, Pace};
use crate::cluster::{CERTIFICATES, Certificates, Configuration, Configurations, Kube, WEBHOOKS};
use crate::provision::access::{ClusterError, Precondition, Version};

/// How long nothing is looked at when nothing rings.
const LONGEST_WAIT: SignedDuration = SignedDuration::from_mins(1);

/// How long a replica that does not lead leaves it to the leader to put them in place.
const STAND_IN: Duration = Duration::from_secs(10);

/// Makes an authority and a serving certificate, replaces them in time, and tells the API server whom to trust.
pub struct Certifier {
    kube: Kube,
    known: Arc<Certificates>,
    configurations: Arc<Configurations>,
    hosts: Vec<String>,
    lives: Lives,
    metrics: Metrics,
    clock: fn() -> Timestamp,
    work: Work,
}

/// What is remembered between two looks.
#[derive(Default)]
struct Work {
    /// The Secret that was read last, and what it holds, if it can be used.
    read: Option<(Version, Option<Held>)>,
    /// What could be used last.
    last: Option<Held>,
    /// What the webhooks were seen to trust, all the same, and since when.
    trusted: Option<(String, Timestamp)>,
    secret: Pace,
    bundle: Pace,
    /// Whether the webhooks were seen to trust what is to be trusted.
    was_in_place: bool,
}

/// Why a step was not taken.
#[derive(Debug, thiserror::Error)]
enum StepError {
    #[error(transparent)]
    Make(#[from] MakeError),
    #[error(transparent)]
    Cluster(#[from] ClusterError),
}

impl Certifier {
    /// Puts it together: the serving certificate is for these hosts. `clock` is [`Timestamp::now`] outside tests.
    pub fn new(
        kube: Kube,
        known: Arc<Certificates>,
        configurations: Arc<Configurations>,
        hosts: Vec<String>,
        lives: Lives,
        metrics: Metrics,
        clock: fn() -> Timestamp,
    ) -> Self {
        Self {
            kube,
            known,
            configurations,
            hosts,
            lives,
            metrics,
            clock,
            work: Work::default(),
        }
    }

    /// Keeps them whenever this replica leads, and until they are in place once: who leads may have its certificate from files, and
    /// stays until this replica is ready. Ends when the sender is gone.
    pub async fn run(mut self, mut leadership: watch::Receiver<Leadership>) {
        loop {
            let leads = leadership.borrow_and_update().leads;
            tokio::select! {
                () = self.keep(leads) => {}
                changed = leadership.wait_for(|told| told.leads != leads) => {
                    if changed.is_err() {
                        return;
                    }
                }
            }
            self.work.trusted = None;
        }
    }

    /// Keeps them; without leading until they are in place, after the leader had the time to.
    async fn keep(&mut self, leads: bool) {
        let mut secret = self.known.follow();
        let mut webhooks = self.configurations.follow();
        if !leads {
            tokio::time::sleep(STAND_IN).await;
        }
        loop {
            if !leads && self.work.was_in_place {
                return std::future::pending().await;
            }
            secret.mark_unchanged();
            webhooks.mark_unchanged();
            let now = (self.clock)();
            let until = match self.look(now) {
                Action::Wait(until) => until,
                action => self.carry_out(action, now).await,
            };
            let wait = until.duration_since((self.clock)()).min(LONGEST_WAIT);
            let wait = Duration::try_from(wait).unwrap_or_default();
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                _ = secret.changed() => {}
                _ = webhooks.changed() => {}
            }
        }
    }

    /// Reads what the watches show, and decides.
    fn look(&mut self, now: Timestamp) -> Action {
        let work = &mut self.work;
        let held = work.read(&self.known, &self.hosts);
        let bundle = held.map(Held::bundle);
        let view = held.map(|held| *held.view());
        let webhooks = self.configurations.all();
        let bundle = work.compare(bundle, webhooks.as_deref(), now);
        let action = decide(now, view.as_ref(), bundle, self.lives);
        work.was_in_place |= matches!((action, bundle), (Action::Wait(_), Bundle::Holds(_)));
        match action {
            Action::MakeAll | Action::MakeServing | Action::MakeAuthority | Action::DropOlder
                if self.work.secret.from(now) > now =>
            {
                Action::Wait(self.work.secret.from(now))
            }
            action => action,
        }
    }

    /// Takes one step; answers when to look again.
    async fn carry_out(&mut self, action: Action, now: Timestamp) -> Timestamp {
        if action == Action::WriteBundle {
            return self.write_bundle(now).await;
        }
        let held = self.work.read.as_ref().and_then(|(_, held)| held.as_ref());
        let is_due = held.is_some_and(|held| held.view().is_serving_due(now));
        match self.write_secret(action, now).await {
            Ok(what) => {
                if action == Action::MakeAll || (action == Action::MakeServing && !is_due) {
                    // Somebody who keeps deleting them, or what cannot be made right, is answered more and more slowly, too.
                    self.work.secret.repaired(now);
                } else {
                    self.work.secret.succeeded();
                }
                tracing::info!(
                    secret.name = CERTIFICATES,
                    "the certificates changed: {what}"
                );
                now
            }
            Err(error) => {
                if self.work.secret.failed(now) {
                    tracing::warn!(
                        secret.name = CERTIFICATES,
                        "the certificates could not be written, it is tried again: {error}"
                    );
                }
                self.work.secret.from(now)
            }
        }
    }

    async fn write_secret(
        &mut self,
        action: Action,
        now: Timestamp,
    ) -> Result<&'static str, StepError> {
        let (hosts, lives) = (&self.hosts, self.lives);
        let held = self.work.read.as_ref().and_then(|(_, held)| held.as_ref());
        let last = self.work.last.as_ref();
        let last = last.filter(|last| last.view().serving.until > now);
        let (next, what) = match (action, held, last) {
            (Action::MakeServing, Some(held), _) => (
                held.with_new_pair(hosts, lives, now)?,
                "another serving certificate",
            ),
            (Action::MakeAuthority, Some(held), _) => (
                held.with_new_authority(lives, now)?,
                "another authority, which signs as soon as it is trusted",
            ),
            (Action::DropOlder, Some(held), _) => {
                (held.without_older(), "the older authority is gone")
            }
            // What every replica still serves stays trusted until they have the new one.
            (_, None, Some(last)) => (
                last.with_new_authority(lives, now)?,
                "they were gone or damaged: another authority, which signs as soon as it is trusted",
            ),
            _ => (
                Held::make(hosts, lives, now)?,
                "an authority and a serving certificate",
            ),
        };
        let read = self.work.read.as_ref();
        let precondition = read.map_or(Precondition::Absent, |(version, _)| {
            Precondition::Exactly(version.clone())
        });
        let data = next.data();
        let applied = self
            .kube
            .apply_certificates(&data, &precondition, &self.known);
        applied.await?;
        Ok(what)
    }

    /// Writes `caBundle` where it is another.
    async fn tell(
        &self,
        bundle: &str,
        webhooks: &[Arc<Configuration>],
    ) -> Result<(), ClusterError> {
        for webhooks in webhooks.iter().filter(|webhooks| !webhooks.trusts(bundle)) {
            self.kube
                .apply_bundle(bundle, webhooks, &self.configurations)
                .await?;
        }
        Ok(())
    }

    async fn write_bundle(&mut self, now: Timestamp) -> Timestamp {
        let held = self.work.read.as_ref().and_then(|(_, held)| held.as_ref());
        let (Some(held), Some(webhooks)) = (held, self.configurations.all()) else {
            return now;
        };
        let bundle = held.bundle();
        let written = self.tell(&bundle, &webhooks).await;
        let work = &mut self.work;
        match written {
            Ok(()) => {
                self.metrics.count_write("Written");
                let repaired = work
                    .trusted
                    .as_ref()
                    .is_some_and(|(told, _)| *told == bundle);
                if !repaired {
                    work.bundle.succeeded();
                    tracing::info!(
                        webhook.configuration = WEBHOOKS,
                        "the API server is told whom to trust"
                    );
                } else if work.bundle.repaired(now) {
                    tracing::warn!(
                        webhook.configuration = WEBHOOKS,
                        "somebody keeps changing the caBundle of our webhooks: it is put back more and more slowly; find who does (kubectl get mutatingwebhookconfiguration,validatingwebhookconfiguration {WEBHOOKS} -o yaml --show-managed-fields) and leave caBundle to pullpass, or give it certificates as files"
                    );
                } else {
                    tracing::info!(
                        webhook.configuration = WEBHOOKS,
                        "somebody changed the caBundle of our webhooks: it was put back"
                    );
                }
                // That it is trusted counts from now on.
                work.trusted = Some((bundle, now));
                now
            }
            Err(error) => {
                self.metrics.count_write(error.reason());
                // After a conflict the watch shows what somebody else wrote.
                if work.bundle.failed(now) && !matches!(error, ClusterError::Conflict { .. }) {
                    tracing::warn!(
                        webhook.configuration = WEBHOOKS,
                        "the caBundle of our webhooks could not be written, it is tried again: {error}"
                    );
                }
                work.bundle.from(now)
            }
        }
    }
}

impl Work {
    /// What the Secret holds, if it can be used. Each state of it is read once.
    fn read(&mut self, known: &Certificates, hosts: &[String]) -> Option<&Held> {
        let Some(secret) = known.secret() else {
            self.read = None;
            return None;
        };
        let is_read = self
            .read
            .as_ref()
            .is_some_and(|(version, _)| *version == secret.version);
        if !is_read {
            let held = Held::read(&secret.data, hosts);
            if let Err(damage) = &held {
                tracing::warn!(
                    secret.name = CERTIFICATES,
                    "the certificates cannot be used and are made anew: {damage}"
                );
            }
            self.read = Some((secret.version.clone(), held.ok()));
        }
        let (_, held) = self.read.as_ref()?;
        if let Some(held) = held {
            self.last = Some(held.clone());
        }
        held.as_ref()
    }

    /// Whether the webhooks trust what they are to trust.
    fn compare(
        &mut self,
        wanted: Option<String>,
        webhooks: Option<&[Arc<Configuration>]>,
        now: Timestamp,
    ) -> Bundle {
        let (Some(wanted), Some(webhooks)) = (wanted, webhooks) else {
            return Bundle::Unknown;
        };
        if !webhooks.iter().all(|webhooks| webhooks.trusts(&wanted)) {
            return Bundle::Differs(self.bundle.from(now));
        }
        match &self.trusted {
            Some((told, since)) if *told == wanted => Bundle::Holds(*since),
            _ => {
                self.trusted = Some((wanted, now));
                Bundle::Holds(now)
            }
        }
    }
}
