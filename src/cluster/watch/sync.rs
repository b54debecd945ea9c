//! How far the watches have come with their first lists, and when that is enough.

use std::time::Duration;

use tokio::sync::watch as signal;

use super::reflect::OWN_SECRETS;

/// What the watch on the pull secrets is called.
pub(super) const PULL_SECRETS: &str = "pull_secrets";

/// How long a start waits for the lists of pull secrets once all else is known. They only save reads: one that is not known yet is read
/// where a Pod needs it. So whoever fills them with large Secrets keeps no replica from serving.
const PULL_SECRETS_TIMEOUT: Duration = Duration::from_millis(300);

/// How far a watch has come with its first list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum SyncState {
    /// The API server has shown nothing yet.
    Waiting,
    /// The list is being read.
    Listing,
    /// All was shown, or there are no rights to it, which holds up nothing.
    Listed,
}

/// What is not known before a watch has begun.
pub(super) fn channel() -> (signal::Sender<SyncState>, signal::Receiver<SyncState>) {
    signal::channel(SyncState::Waiting)
}

/// Waits until a watch has come so far.
pub(super) async fn reached(receiver: &mut signal::Receiver<SyncState>, state: SyncState) {
    // The sender lives as long as its watch, which never ends.
    let _ = receiver.wait_for(|now| *now >= state).await;
}

/// How far each watch has come.
#[derive(Clone, Default)]
pub struct Synced {
    watches: Vec<(&'static str, signal::Receiver<SyncState>)>,
    others: Vec<(&'static str, signal::Receiver<bool>)>,
}

impl Synced {
    /// The same, and what `receiver` becomes true for.
    #[must_use]
    pub fn and(mut self, what: &'static str, receiver: signal::Receiver<bool>) -> Self {
        self.others.push((what, receiver));
        self
    }

    pub(super) fn add(&mut self, what: &'static str, receiver: signal::Receiver<SyncState>) {
        self.watches.push((what, receiver));
    }

    /// How far the watch of this name has come.
    pub(super) fn receiver(&self, what: &str) -> signal::Receiver<SyncState> {
        let mut watches = self.watches.iter();
        let found = watches.find(|(name, _)| *name == what);
        let (_, receiver) = found.expect("it was added");
        receiver.clone()
    }

    /// Waits until each watch has shown everything once.
    pub async fn wait(&mut self) {
        self.wait_for(|_| true, SyncState::Listed).await;
        self.wait_for_others().await;
    }

    /// Waits until Pods can be served: each watch has shown everything once, but for the pull secrets, where the list goes on for longer.
    pub async fn wait_servable(&mut self) {
        self.wait_for(|what| !is_optional(what), SyncState::Listed)
            .await;
        self.wait_for_others().await;
        let listed = self.wait_for(is_optional, SyncState::Listed);
        if tokio::time::timeout(PULL_SECRETS_TIMEOUT, listed)
            .await
            .is_err()
        {
            self.wait_for(is_optional, SyncState::Listing).await;
        }
    }

    /// The watches that have not shown everything yet.
    pub fn missing(&self) -> Vec<&'static str> {
        let watches = self.watches.iter();
        let watches = watches.filter(|(_, receiver)| *receiver.borrow() < SyncState::Listed);
        let others = self
            .others
            .iter()
            .filter(|(_, receiver)| !*receiver.borrow());
        let others = others.map(|(what, _)| *what);
        watches.map(|(what, _)| *what).chain(others).collect()
    }

    async fn wait_for(&mut self, which: impl Fn(&str) -> bool, state: SyncState) {
        for (what, receiver) in &mut self.watches {
            if which(what) {
                reached(receiver, state).await;
            }
        }
    }

    async fn wait_for_others(&mut self) {
        for (_, receiver) in &mut self.others {
            let _ = receiver.wait_for(|is_true| *is_true).await;
        }
    }
}

fn is_optional(what: &str) -> bool {
    [PULL_SECRETS, OWN_SECRETS].contains(&what)
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    const TOO_EARLY: Duration = Duration::from_millis(299);

    struct Start {
        namespaces: signal::Sender<SyncState>,
        secrets: signal::Sender<SyncState>,
        synced: Synced,
    }

    fn start() -> Start {
        let ((namespaces, first), (secrets, second)) = (channel(), channel());
        let mut synced = Synced::default();
        synced.add("namespaces", first);
        synced.add(PULL_SECRETS, second);
        Start {
            namespaces,
            secrets,
            synced,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn serves_while_pull_secrets_are_being_listed_and_leads_after_it() {
        let mut start = start();
        let mut servable = start.synced.clone();
        let mut servable = Box::pin(servable.wait_servable());
        start.secrets.send_replace(SyncState::Listing);
        tokio::time::advance(2 * PULL_SECRETS_TIMEOUT).await;
        assert!(
            (&mut servable).now_or_never().is_none(),
            "no namespaces yet"
        );

        start.namespaces.send_replace(SyncState::Listed);
        assert!((&mut servable).now_or_never().is_none());
        tokio::time::advance(TOO_EARLY).await;
        assert!((&mut servable).now_or_never().is_none());
        tokio::time::advance(PULL_SECRETS_TIMEOUT).await;
        assert!((&mut servable).now_or_never().is_some());
        assert_eq!(start.synced.missing(), [PULL_SECRETS]);
        assert!(start.synced.wait().now_or_never().is_none());

        start.secrets.send_replace(SyncState::Listed);
        assert!(start.synced.wait().now_or_never().is_some());
    }

    /// Nobody knows whether it has the rights.
    #[tokio::test(start_paused = true)]
    async fn serves_nothing_where_no_pull_secret_was_ever_shown() {
        let mut start = start();
        start.namespaces.send_replace(SyncState::Listed);
        let mut servable = Box::pin(start.synced.wait_servable());
        assert!((&mut servable).now_or_never().is_none());
        tokio::time::advance(100 * PULL_SECRETS_TIMEOUT).await;
        assert!((&mut servable).now_or_never().is_none());
        start.secrets.send_replace(SyncState::Listed);
        assert!(servable.now_or_never().is_some());
    }
}
