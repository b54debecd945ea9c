//! Working as long as this replica leads.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Interval, MissedTickBehavior};

/// What a replica learns from the Lease.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leadership {
    /// Whether this replica leads.
    pub leads: bool,
    /// Which blocked removals an admin confirmed, by the annotation [`crate::cluster::CONFIRM_ANNOTATION`].
    pub confirmed: Option<String>,
}

impl Leadership {
    /// Waits until this replica leads; `false`: the sender is gone, it never will.
    pub(super) async fn acquired(leadership: &mut watch::Receiver<Self>) -> bool {
        // What a sender said last says nothing once it is gone.
        if leadership.has_changed().is_err() {
            return false;
        }
        let leads = leadership.wait_for(|leadership| leadership.leads);
        leads.await.is_ok()
    }

    /// Does `work`, which does not end by itself, until this replica leads no more.
    pub(super) async fn while_leading(
        leadership: &mut watch::Receiver<Self>,
        work: impl Future<Output = ()>,
    ) {
        tokio::select! {
            () = work => {}
            _ = leadership.wait_for(|leadership| !leadership.leads) => {}
        }
    }
}

/// Rings now and every so often; what was missed is not made up for.
pub(super) fn ticks(every: Duration) -> Interval {
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn leads_no_more_once_the_sender_is_gone() {
        let leads = Leadership {
            leads: true,
            confirmed: None,
        };
        let (sender, mut leadership) = watch::channel(leads);
        assert!(Leadership::acquired(&mut leadership).await);
        let working = Leadership::while_leading(&mut leadership, std::future::pending());
        assert!(working.now_or_never().is_none());
        drop(sender);
        Leadership::while_leading(&mut leadership, std::future::pending()).await;
        assert!(!Leadership::acquired(&mut leadership).await);
    }
}
