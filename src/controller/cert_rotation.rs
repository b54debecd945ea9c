//! Keeping the certificates of our own, as long as this replica leads.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;

use super::leadership::Leadership;
use crate::certificates::decide::{Bundle, RotationStep, ValidityPeriods, decide};
use crate::certificates::{CertificateSet, MakeError, Metrics, RewriteBackoff};
use crate::clock;
use crate::cluster::{CERTIFICATES, Certificates, Kube, WEBHOOKS, WebhookConfig, WebhookConfigs};
use crate::provision::ports::{ClusterError, Precondition, Version};

/// Where to look when something was made in the future.
pub const WRONG_CLOCK: &str = "the clock of this node or of another replica's is or was wrong -> check time synchronization (chrony, timesyncd) on the nodes";

/// How long a replica that does not lead leaves it to the leader to put them in place.
const FOLLOWER_DELAY: Duration = Duration::from_secs(10);

/// Makes an authority and a serving certificate, replaces them in time, and keeps the webhooks' caBundle up to date.
pub struct CertRotator {
    kube: Kube,
    certificates: Arc<Certificates>,
    configurations: Arc<WebhookConfigs>,
    hosts: Vec<String>,
    validity: ValidityPeriods,
    metrics: Metrics,
    clock: fn() -> Timestamp,
    state: RotationState,
}

/// What is kept between two checks.
#[derive(Default)]
struct RotationState {
    /// The Secret that was read last, and what it holds, if it can be used.
    read: Option<(Version, Option<CertificateSet>)>,
    /// What could be used last.
    last: Option<CertificateSet>,
    /// What the webhooks were seen to trust, all the same, and since when.
    trusted: Option<(String, Timestamp)>,
    secret: RewriteBackoff,
    bundle: RewriteBackoff,
    /// Whether the webhooks were seen to trust what is to be trusted.
    was_trusted: bool,
}

/// Why a step was not taken.
#[derive(Debug, thiserror::Error)]
enum StepError {
    #[error(transparent)]
    Make(#[from] MakeError),
    #[error(transparent)]
    Cluster(#[from] ClusterError),
}

impl CertRotator {
    /// Puts it together: the serving certificate is for these hosts. `clock` is [`Timestamp::now`] outside tests.
    pub fn new(
        kube: Kube,
        certificates: Arc<Certificates>,
        configurations: Arc<WebhookConfigs>,
        hosts: Vec<String>,
        validity: ValidityPeriods,
        metrics: Metrics,
        clock: fn() -> Timestamp,
    ) -> Self {
        Self {
            kube,
            certificates,
            configurations,
            hosts,
            validity,
            metrics,
            clock,
            state: RotationState::default(),
        }
    }

    /// Keeps them whenever this replica leads, and until they are in place once: who leads may have its certificate from files, and
    /// stays until this replica is ready. Ends when the sender is gone.
    pub async fn run(mut self, mut leadership: watch::Receiver<Leadership>) {
        loop {
            let leads = leadership.borrow_and_update().leads;
            tokio::select! {
                () = self.run_while_leader(leads) => {}
                changed = leadership.wait_for(|leadership| leadership.leads != leads) => {
                    if changed.is_err() {
                        return;
                    }
                }
            }
            self.state.trusted = None;
        }
    }

    /// Keeps them; without leading until they are in place, after the leader had the time to.
    async fn run_while_leader(&mut self, leads: bool) {
        let mut secret = self.certificates.subscribe();
        let mut webhooks = self.configurations.subscribe();
        if !leads {
            tokio::time::sleep(FOLLOWER_DELAY).await;
        }
        loop {
            if !leads && self.state.was_trusted {
                return std::future::pending().await;
            }
            secret.mark_unchanged();
            webhooks.mark_unchanged();
            let now = (self.clock)();
            let until = match self.observe(now) {
                RotationStep::Wait(until) => until,
                action => self.perform(action, now).await,
            };
            let wait = clock::find_wait(until, (self.clock)());
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                _ = secret.changed() => {}
                _ = webhooks.changed() => {}
            }
        }
    }

    /// Reads what the watches show, and decides.
    fn observe(&mut self, now: Timestamp) -> RotationStep {
        let state = &mut self.state;
        let held = state.read(&self.certificates, &self.hosts, now);
        let bundle = held.map(CertificateSet::bundle);
        let view = held.map(|held| *held.view());
        let webhooks = self.configurations.all();
        let bundle = state.compare(bundle, webhooks.as_deref(), now);
        let action = decide(now, view.as_ref(), bundle, self.validity);
        state.was_trusted |= matches!((action, bundle), (RotationStep::Wait(_), Bundle::Holds(_)));
        match action {
            RotationStep::CreateAll
            | RotationStep::RenewServing
            | RotationStep::RotateCa
            | RotationStep::DropOldCa
                if self.state.secret.from(now) > now =>
            {
                RotationStep::Wait(self.state.secret.from(now))
            }
            action => action,
        }
    }

    /// Takes one step; answers when to check again.
    async fn perform(&mut self, action: RotationStep, now: Timestamp) -> Timestamp {
        if action == RotationStep::WriteBundle {
            return self.write_bundle(now).await;
        }
        let held = self.state.held();
        let is_due = held.is_some_and(|held| held.view().is_serving_due(now));
        match self.write_secret(action, now).await {
            Ok(what) => {
                if action == RotationStep::CreateAll
                    || (action == RotationStep::RenewServing && !is_due)
                {
                    // Repeated deletes by another writer, and states that cannot be repaired, are backed off from, too.
                    self.state.secret.repaired(now);
                } else {
                    self.state.secret.succeeded();
                }
                tracing::info!(
                    secret.name = CERTIFICATES,
                    "updated the certificates Secret: {what}"
                );
                now
            }
            Err(error) => {
                if self.state.secret.failed(now) {
                    tracing::warn!(
                        secret.name = CERTIFICATES,
                        "failed to write the certificates Secret, retrying: {error}"
                    );
                }
                self.state.secret.from(now)
            }
        }
    }

    async fn write_secret(
        &mut self,
        action: RotationStep,
        now: Timestamp,
    ) -> Result<&'static str, StepError> {
        let (hosts, validity) = (&self.hosts, self.validity);
        let held = self.state.held();
        let last = self.state.last.as_ref();
        let last = last.filter(|last| last.view().serving.until > now);
        let (next, what) = match (action, held, last) {
            (RotationStep::RenewServing, Some(held), _) => (
                held.with_new_pair(hosts, validity, now)?,
                "new serving certificate",
            ),
            (RotationStep::RotateCa, Some(held), _) => (
                held.with_new_authority(validity, now)?,
                "new CA, it signs once caBundle trusts it",
            ),
            (RotationStep::DropOldCa, Some(held), _) => {
                (held.without_older(), "removed the old CA")
            }
            // What every replica still serves stays trusted until they have the new one.
            (_, None, Some(last)) => (
                last.with_new_authority(validity, now)?,
                "missing or damaged: new CA, it signs once caBundle trusts it",
            ),
            _ => (
                CertificateSet::make(hosts, validity, now)?,
                "new CA and serving certificate",
            ),
        };
        let read = self.state.read.as_ref();
        let precondition = read.map_or(Precondition::Absent, |(version, _)| {
            Precondition::Exactly(version.clone())
        });
        let data = next.data();
        let applied = self
            .kube
            .apply_certificates(&data, &precondition, &self.certificates);
        applied.await?;
        Ok(what)
    }

    /// Writes `caBundle` where it is another.
    async fn apply_bundle(
        &self,
        bundle: &str,
        webhooks: &[Arc<WebhookConfig>],
    ) -> Result<(), ClusterError> {
        for webhooks in webhooks.iter().filter(|webhooks| !webhooks.trusts(bundle)) {
            self.kube
                .apply_bundle(bundle, webhooks, &self.configurations)
                .await?;
        }
        Ok(())
    }

    async fn write_bundle(&mut self, now: Timestamp) -> Timestamp {
        let held = self.state.held();
        let (Some(held), Some(webhooks)) = (held, self.configurations.all()) else {
            return now;
        };
        let bundle = held.bundle();
        let written = self.apply_bundle(&bundle, &webhooks).await;
        let state = &mut self.state;
        match written {
            Ok(()) => {
                self.metrics.count_write("Written");
                let repaired = state
                    .trusted
                    .as_ref()
                    .is_some_and(|(leadership, _)| *leadership == bundle);
                if !repaired {
                    state.bundle.succeeded();
                    tracing::info!(
                        webhook.configuration = WEBHOOKS,
                        "updated caBundle of webhook configurations"
                    );
                } else if state.bundle.repaired(now) {
                    tracing::warn!(
                        webhook.configuration = WEBHOOKS,
                        "another writer keeps changing caBundle of webhook configurations, backing off; find it with `kubectl get mutatingwebhookconfiguration,validatingwebhookconfiguration {WEBHOOKS} -o yaml --show-managed-fields`, or run pullpass with --tls-cert and --tls-key"
                    );
                } else {
                    tracing::info!(
                        webhook.configuration = WEBHOOKS,
                        "caBundle of webhook configurations drifted: restored it"
                    );
                }
                // That it is trusted counts from now on.
                state.trusted = Some((bundle, now));
                now
            }
            Err(error) => {
                self.metrics.count_write(error.reason());
                // After a conflict the watch shows what the other writer wrote.
                if state.bundle.failed(now) && !matches!(error, ClusterError::Conflict { .. }) {
                    tracing::warn!(
                        webhook.configuration = WEBHOOKS,
                        "failed to update caBundle of webhook configurations, retrying: {error}"
                    );
                }
                state.bundle.from(now)
            }
        }
    }
}

impl RotationState {
    /// What the Secret holds, as it was read last.
    fn held(&self) -> Option<&CertificateSet> {
        self.read.as_ref()?.1.as_ref()
    }

    /// What the Secret holds, if it can be used. Each state of it is read once.
    fn read(
        &mut self,
        certificates: &Certificates,
        hosts: &[String],
        now: Timestamp,
    ) -> Option<&CertificateSet> {
        let Some(secret) = certificates.secret() else {
            self.read = None;
            return None;
        };
        let is_read = self
            .read
            .as_ref()
            .is_some_and(|(version, _)| *version == secret.version);
        if !is_read {
            let held = CertificateSet::read(&secret.data, hosts);
            if let Err(damage) = &held {
                tracing::warn!(
                    secret.name = CERTIFICATES,
                    "cannot use the certificates Secret, creating new certificates: {damage}"
                );
            }
            if let Ok(held) = &held
                && held.view().is_from_future(now)
            {
                tracing::warn!(
                    secret.name = CERTIFICATES,
                    certificate.made = %held.view().serving.made,
                    ca.made = %held.view().authority.made,
                    "the certificates Secret was made in the future, creating new certificates: {WRONG_CLOCK}"
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
        webhooks: Option<&[Arc<WebhookConfig>]>,
        now: Timestamp,
    ) -> Bundle {
        let (Some(wanted), Some(webhooks)) = (wanted, webhooks) else {
            return Bundle::Unknown;
        };
        if !webhooks.iter().all(|webhooks| webhooks.trusts(&wanted)) {
            return Bundle::Differs(self.bundle.from(now));
        }
        match &self.trusted {
            // After the clock was put back it counts from now on.
            Some((leadership, since)) if *leadership == wanted && *since <= now => {
                Bundle::Holds(*since)
            }
            _ => {
                self.trusted = Some((wanted, now));
                Bundle::Holds(now)
            }
        }
    }
}
