//! About which Pods the API server asks: the conditions of those of our webhooks that have one, as long as this replica leads.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use super::keep::Leadership;
use crate::certificates::Pace;
use crate::cluster::{Configurations, Kube, WEBHOOKS};
use crate::provision::access::ClusterError;
use crate::provision::{Ensure, Provision as _};
use crate::registry::{Hosts, ServedRegistry};

/// How often it is looked whether something changed.
const TICK: Duration = Duration::from_millis(50);

/// About which Pods the API server asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Asked {
    /// Nobody looked yet.
    Unknown,
    /// About all Pods of opted-in namespaces.
    #[default]
    AboutAll,
    /// About those with an image of these hosts.
    About(Arc<Hosts>),
}

impl Asked {
    /// Whether it asks about each Pod that may need this Registry.
    pub fn cover(&self, registry: &ServedRegistry) -> bool {
        match self {
            Self::Unknown => false,
            Self::AboutAll => true,
            Self::About(hosts) => hosts.cover(registry),
        }
    }
}

/// Writes the conditions, from the hosts of all Registries.
pub struct Asker {
    kube: Kube,
    configurations: Arc<Configurations>,
    ensure: Ensure,
    asked: watch::Sender<Asked>,
    /// The condition that was written last, if one was.
    written: Option<String>,
    pace: Pace,
    clock: fn() -> Timestamp,
}

impl Asker {
    /// Puts it together. `clock` is [`Timestamp::now`] outside tests.
    pub fn new(
        kube: Kube,
        configurations: Arc<Configurations>,
        ensure: Ensure,
        clock: fn() -> Timestamp,
    ) -> Self {
        Self {
            kube,
            configurations,
            ensure,
            asked: watch::Sender::new(Asked::Unknown),
            written: None,
            pace: Pace::default(),
            clock,
        }
    }

    /// About which Pods the API server asks, as far as this replica leads.
    pub fn asked(&self) -> watch::Receiver<Asked> {
        self.asked.subscribe()
    }

    /// Keeps the conditions whenever this replica leads. Ends when the sender is gone.
    pub async fn run(mut self, mut leadership: watch::Receiver<Leadership>) {
        while leadership.wait_for(|told| told.leads).await.is_ok() {
            tokio::select! {
                () = self.lead() => {}
                _ = leadership.wait_for(|told| !told.leads) => {}
            }
            self.asked.send_replace(Asked::Unknown);
            self.written = None;
        }
    }

    async fn lead(&mut self) {
        let mut changes = self.configurations.follow();
        changes.mark_changed();
        let mut looked = None;
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let registries = self.ensure.registries();
            let is_same = looked
                .as_ref()
                .is_some_and(|seen| Arc::ptr_eq(seen, &registries));
            let now = (self.clock)();
            if is_same && !changes.has_changed().unwrap_or(false) || self.pace.from(now) > now {
                continue;
            }
            changes.mark_unchanged();
            let hosts = Hosts::of(&registries);
            looked = match self.ask(&hosts, now).await {
                Ok(asked) => {
                    self.asked.send_if_modified(|told| {
                        let differs = *told != asked;
                        *told = asked;
                        differs
                    });
                    Some(registries)
                }
                Err(error) => {
                    self.complain(&error, now);
                    None
                }
            };
        }
    }

    /// Writes the condition where it is another.
    async fn ask(&mut self, hosts: &Hosts, now: Timestamp) -> Result<Asked, ClusterError> {
        let condition = hosts.condition();
        let configurations = self.configurations.all().unwrap_or_default();
        if !configurations.iter().all(|one| one.asks(&condition)) {
            for configuration in &configurations {
                if !configuration.asks(&condition) {
                    self.kube
                        .apply_condition(&condition, configuration, &self.configurations)
                        .await?;
                }
            }
            self.tell(condition, now);
        }
        // Without our webhooks nobody is asked about anything.
        Ok(if configurations.is_empty() {
            Asked::AboutAll
        } else {
            Asked::About(Arc::new(hosts.clone()))
        })
    }

    /// Says what was written; who keeps changing it is answered more and more slowly.
    fn tell(&mut self, condition: String, now: Timestamp) {
        if self.written.as_ref() != Some(&condition) {
            self.pace.succeeded();
            tracing::info!(
                webhook.configuration = WEBHOOKS,
                "the API server is told the hosts of all Registries, and asks about Pods with such images"
            );
        } else if self.pace.repaired(now) {
            tracing::warn!(
                webhook.configuration = WEBHOOKS,
                "somebody keeps changing the conditions of our webhooks: they are put back more and more slowly; find who does (kubectl get mutatingwebhookconfiguration,validatingwebhookconfiguration {WEBHOOKS} -o yaml --show-managed-fields) and leave matchConditions to pullpass"
            );
        }
        self.written = Some(condition);
    }

    fn complain(&mut self, error: &ClusterError, now: Timestamp) {
        // After a conflict the watch shows what somebody else wrote.
        if self.pace.failed(now) && !matches!(error, ClusterError::Conflict { .. }) {
            tracing::warn!(
                webhook.configuration = WEBHOOKS,
                "the API server could not be told the hosts of all Registries, it is tried again: {error}"
            );
        }
    }
}
