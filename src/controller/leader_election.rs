//! Leader election, for as long as the process lives.

use std::time::Instant;

use jiff::Timestamp;
use tokio::sync::watch;

use super::election::{Election, LeaseAction, RETRY_PERIOD};
use super::leadership::Leadership;
use crate::cluster::Kube;
use crate::provision::ports::ClusterError;

/// Whether this replica leads; the sender is the candidate.
pub struct LeaderElector {
    kube: Kube,
    election: Election,
    leadership: watch::Sender<Leadership>,
    /// Whether a failure to acquire or renew the Lease was logged.
    is_failing: bool,
}

impl LeaderElector {
    /// A candidate of this identity, which no other replica has.
    pub fn new(kube: Kube, identity: impl Into<String>) -> Self {
        Self {
            kube,
            election: Election::new(identity),
            leadership: watch::Sender::default(),
            is_failing: false,
        }
    }

    /// Whether this replica leads and what the Lease says beside, now and from now on.
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.subscribe()
    }

    /// Takes part in the election until `stop` ends; then releases the Lease, so that another replica leads within seconds.
    pub async fn run(mut self, stop: impl Future<Output = ()> + Send) {
        let mut stop = std::pin::pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => break,
                () = self.run_once() => {}
            }
        }
        self.leadership.send_replace(Leadership::default());
        match self.release().await {
            Ok(true) => tracing::info!("released the leader lease"),
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(
                    "failed to release the leader lease, another replica acquires it when it expires: {error}"
                );
            }
        }
    }

    /// Releases the Lease; whether this replica held it. The write that was under way at the stop may have succeeded, and another
    /// replica may have written since: then our view of it is out of date, and it is read once.
    async fn release(&mut self) -> Result<bool, ClusterError> {
        if let Some((term, precondition)) = self.election.release() {
            let now = Timestamp::now();
            match self.kube.apply_lease(&term, &precondition, now).await {
                Err(ClusterError::Conflict { .. }) => {}
                done => return done.map(|_| true),
            }
        } else if self.election.decide(Instant::now(), Timestamp::now()) == LeaseAction::Wait {
            return Ok(false);
        }
        let found = self.kube.fetch_lease().await?;
        self.election.observe(found, Instant::now());
        let Some((term, precondition)) = self.election.release() else {
            return Ok(false);
        };
        let now = Timestamp::now();
        let given = self.kube.apply_lease(&term, &precondition, now).await;
        given.map(|_| true)
    }

    /// Reads or writes once, publishes the result, and waits until the next is due.
    async fn run_once(&mut self) {
        let begun = Instant::now();
        let ends = self.election.lease_until();
        let step = self.election.decide(begun, Timestamp::now());
        let asked = match ends {
            // A leader that hears nothing stops when its time is over, not when the request is.
            Some(ends) => tokio::time::timeout_at(ends.into(), self.perform(step, begun))
                .await
                .ok(),
            None => Some(self.perform(step, begun).await),
        };
        let is_answered = matches!(asked, Some(Ok(())));
        self.publish(asked);
        let wait = RETRY_PERIOD.saturating_sub(begun.elapsed());
        let wait = match self.election.decide(Instant::now(), Timestamp::now()) {
            // After a conflict the Lease is read again soon.
            LeaseAction::Get if is_answered => wait / 10,
            LeaseAction::Get | LeaseAction::Apply(..) | LeaseAction::Wait => wait,
        };
        tokio::time::sleep(wait).await;
    }

    async fn perform(&mut self, step: LeaseAction, begun: Instant) -> Result<(), ClusterError> {
        let (term, precondition) = match step {
            LeaseAction::Apply(term, precondition) => (term, precondition),
            LeaseAction::Get | LeaseAction::Wait => {
                let found = self.kube.fetch_lease().await?;
                self.election.observe(found, Instant::now());
                match self.election.decide(Instant::now(), Timestamp::now()) {
                    LeaseAction::Apply(term, precondition) => (term, precondition),
                    LeaseAction::Get | LeaseAction::Wait => return Ok(()),
                }
            }
        };
        match self
            .kube
            .apply_lease(&term, &precondition, Timestamp::now())
            .await
        {
            Ok(held) => self.election.acquired(held, begun),
            Err(ClusterError::Conflict { .. }) => self.election.conflicted(),
            Err(error) => {
                // Whether it was written is not known.
                self.election.conflicted();
                return Err(error);
            }
        }
        Ok(())
    }

    /// Publishes the result of a request; `None`: there was no answer in time.
    fn publish(&mut self, asked: Option<Result<(), ClusterError>>) {
        let now = Instant::now();
        self.election.expire(now);
        match asked {
            None => {}
            Some(Ok(())) => self.is_failing = false,
            Some(Err(error)) if !self.is_failing => {
                self.is_failing = true;
                tracing::warn!("failed to acquire or renew the leader lease, retrying: {error}");
            }
            Some(Err(error)) => {
                tracing::debug!("failed to acquire or renew the leader lease: {error}");
            }
        }
        let leads = self.election.leads(now);
        let confirmed = self.election.confirmed().map(str::to_owned);
        let changed = self.leadership.borrow().leads != leads;
        self.leadership.send_if_modified(|known| {
            let leadership = Leadership { leads, confirmed };
            let modified = *known != leadership;
            *known = leadership;
            modified
        });
        if changed && leads {
            tracing::info!("acquired the leader lease, starting the controller");
        } else if changed {
            tracing::info!(
                leader.identity = self.election.holder(),
                "lost the leader lease, stopping the controller"
            );
        }
    }
}
