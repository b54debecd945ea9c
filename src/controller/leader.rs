//! Standing for election, for as long as the process lives.

use std::time::Instant;

use jiff::Timestamp;
use tokio::sync::watch;

use super::election::{Election, RETRY, Step};
use super::term::Leadership;
use crate::cluster::Kube;
use crate::provision::access::ClusterError;

/// Whether this replica leads; the sender's side stands for election.
pub struct Candidate {
    kube: Kube,
    election: Election,
    told: watch::Sender<Leadership>,
    /// Whether it was said that the Lease cannot be had.
    complained: bool,
}

impl Candidate {
    /// A candidate of this identity, which no other replica has.
    pub fn new(kube: Kube, identity: impl Into<String>) -> Self {
        Self {
            kube,
            election: Election::new(identity),
            told: watch::Sender::default(),
            complained: false,
        }
    }

    /// Whether this replica leads and what the Lease says beside, now and from now on.
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.told.subscribe()
    }

    /// Stands for election until `stop` ends; then gives the Lease back, so that another replica leads within seconds.
    pub async fn run(mut self, stop: impl Future<Output = ()> + Send) {
        let mut stop = std::pin::pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => break,
                () = self.round() => {}
            }
        }
        self.told.send_replace(Leadership::default());
        match self.give_back().await {
            Ok(true) => tracing::info!("gave leadership back"),
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(
                    "leadership was not given back, another replica takes it in some seconds: {error}"
                );
            }
        }
    }

    /// Gives the Lease back; whether this replica held it. What was written when it was told to stop may have been the Lease, and somebody
    /// else may have written into it: then what is known of it is out of date, and it is read once.
    async fn give_back(&mut self) -> Result<bool, ClusterError> {
        if let Some((term, precondition)) = self.election.give_back() {
            let now = Timestamp::now();
            match self.kube.apply_lease(&term, &precondition, now).await {
                Err(ClusterError::Conflict { .. }) => {}
                done => return done.map(|_| true),
            }
        } else if self.election.decide(Instant::now(), Timestamp::now()) == Step::Leave {
            return Ok(false);
        }
        let found = self.kube.fetch_lease().await?;
        self.election.looked(found, Instant::now());
        let Some((term, precondition)) = self.election.give_back() else {
            return Ok(false);
        };
        let now = Timestamp::now();
        let given = self.kube.apply_lease(&term, &precondition, now).await;
        given.map(|_| true)
    }

    /// Looks or writes once, tells what came of it, and waits until it is time for the next.
    async fn round(&mut self) {
        let begun = Instant::now();
        let ends = self.election.leads_until();
        let step = self.election.decide(begun, Timestamp::now());
        let asked = match ends {
            // A leader that hears nothing stops when its time is over, not when the request is.
            Some(ends) => tokio::time::timeout_at(ends.into(), self.ask(step, begun))
                .await
                .ok(),
            None => Some(self.ask(step, begun).await),
        };
        let is_answered = matches!(asked, Some(Ok(())));
        self.tell(asked);
        let wait = RETRY.saturating_sub(begun.elapsed());
        let wait = match self.election.decide(Instant::now(), Timestamp::now()) {
            // What another wrote in between is looked at soon.
            Step::Look if is_answered => wait / 10,
            Step::Look | Step::Take(..) | Step::Leave => wait,
        };
        tokio::time::sleep(wait).await;
    }

    async fn ask(&mut self, step: Step, begun: Instant) -> Result<(), ClusterError> {
        let (term, precondition) = match step {
            Step::Take(term, precondition) => (term, precondition),
            Step::Look | Step::Leave => {
                let found = self.kube.fetch_lease().await?;
                self.election.looked(found, Instant::now());
                match self.election.decide(Instant::now(), Timestamp::now()) {
                    Step::Take(term, precondition) => (term, precondition),
                    Step::Look | Step::Leave => return Ok(()),
                }
            }
        };
        match self
            .kube
            .apply_lease(&term, &precondition, Timestamp::now())
            .await
        {
            Ok(held) => self.election.took(held, begun),
            Err(ClusterError::Conflict { .. }) => self.election.lost_race(),
            Err(error) => {
                // Whether it was written is not known.
                self.election.lost_race();
                return Err(error);
            }
        }
        Ok(())
    }

    /// Tells what came of asking; `None`: there was no answer in time.
    fn tell(&mut self, asked: Option<Result<(), ClusterError>>) {
        let now = Instant::now();
        self.election.expire(now);
        match asked {
            None => {}
            Some(Ok(())) => self.complained = false,
            Some(Err(error)) if !self.complained => {
                self.complained = true;
                tracing::warn!(
                    "the Lease that says who leads cannot be had, it is tried again: {error}"
                );
            }
            Some(Err(error)) => tracing::debug!("the Lease cannot be had: {error}"),
        }
        let leads = self.election.leads(now);
        let confirmed = self.election.confirmed().map(str::to_owned);
        let changed = self.told.borrow().leads != leads;
        self.told.send_if_modified(|known| {
            let told = Leadership { leads, confirmed };
            let modified = *known != told;
            *known = told;
            modified
        });
        if changed && leads {
            tracing::info!("this replica leads: it keeps every pull secret fresh");
        } else if changed {
            tracing::info!(
                leader.identity = self.election.holder(),
                "this replica leads no longer"
            );
        }
    }
}
