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
        leadership
            .wait_for(|leadership| leadership.leads)
            .await
            .is_ok()
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
