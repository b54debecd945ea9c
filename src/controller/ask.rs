//! About which Pods the API server asks: the conditions of those of our webhooks that have one, as long as this replica leads.

use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::watch;

use super::keep::TICK;
use super::term::{Leadership, ticks};
use crate::certificates::Pace;
use crate::cluster::{Configurations, Kube, WEBHOOKS};
use crate::provision::access::ClusterError;
use crate::provision::{Ensure, Provision as _};
use crate::registry::{Hosts, ServedRegistry};

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
        while Leadership::begins(&mut leadership).await {
            Leadership::hold(&mut leadership, self.lead()).await;
            self.asked.send_replace(Asked::Unknown);
            self.written = None;
        }
    }

    async fn lead(&mut self) {
        let mut changes = self.configurations.follow();
        changes.mark_changed();
        let mut looked = None;
        let mut ticks = ticks(TICK);
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
            looked = match self.ask(Hosts::of(&registries), now).await {
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
    async fn ask(&mut self, hosts: Hosts, now: Timestamp) -> Result<Asked, ClusterError> {
        let condition = hosts.condition();
        let configurations = self.configurations.all().unwrap_or_default();
        // Without our webhooks nobody is asked about anything.
        let asked = if configurations.is_empty() {
            Asked::AboutAll
        } else {
            Asked::About(Arc::new(hosts))
        };
        let others = configurations.iter().filter(|one| !one.asks(&condition));
        let others: Vec<_> = others.collect();
        for configuration in &others {
            self.kube
                .apply_condition(&condition, configuration, &self.configurations)
                .await?;
        }
        if !others.is_empty() {
            self.tell(condition, now);
        }
        Ok(asked)
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
