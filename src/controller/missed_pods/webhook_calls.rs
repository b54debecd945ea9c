//! What is known of the API server's calls, between the scanner that finds it out and the reconciler that reports it.

use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::calls::UnaskedPod;

/// What is known of the API server's calls, shared between those who find it out and those who report it. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct WebhookCalls(Arc<SharedCalls>);

#[derive(Debug, Default)]
struct SharedCalls {
    state: Mutex<CallState>,
    /// Notified when something else is known; one reader waits.
    changed: Notify,
}

#[derive(Debug, Default)]
struct CallState {
    ready: Option<Timestamp>,
    unasked: Option<Arc<UnaskedPod>>,
}

impl WebhookCalls {
    /// This replica is ready to be called, from `now` on.
    pub fn set_ready(&self, now: Timestamp) {
        self.with(|state| state.ready = Some(now));
    }

    /// The Pod that shows that the API server does not call; `None`: it calls, or nothing is known.
    pub fn unasked(&self) -> Option<Arc<UnaskedPod>> {
        self.with(|state| state.unasked.clone())
    }

    /// Waits until something else is known than when this was last waited for.
    pub(in crate::controller) async fn changed(&self) {
        self.0.changed.notified().await;
    }

    /// Since when a replica can be called; `None`: not yet.
    pub(super) fn ready_since(&self) -> Option<Timestamp> {
        self.with(|state| state.ready)
    }

    pub(super) fn set_unasked(&self, pod: Option<UnaskedPod>) {
        let is_other = self.with(|state| {
            let before = std::mem::replace(&mut state.unasked, pod.map(Arc::new));
            state.unasked != before
        });
        if is_other {
            self.0.changed.notify_one();
        }
    }

    fn with<T>(&self, act: impl FnOnce(&mut CallState) -> T) -> T {
        act(&mut self.0.state.lock())
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn wakes_who_reports_it_when_something_else_is_known() {
        let calls = WebhookCalls::default();
        let pod = |name: &str| {
            Some(UnaskedPod {
                namespace: "shop".parse().unwrap(),
                name: name.parse().unwrap(),
                created: Timestamp::UNIX_EPOCH,
            })
        };
        for (known, is_other) in [
            (None, false),
            (pod("a"), true),
            (pod("a"), false),
            (pod("b"), true),
            (None, true),
        ] {
            calls.set_unasked(known.clone());
            assert_eq!(calls.unasked().as_deref(), known.as_ref());
            let woken = calls.changed().now_or_never();
            assert_eq!(woken.is_some(), is_other, "{known:?}");
        }
    }
}
