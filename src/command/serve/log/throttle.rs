//! A bound on what others can have logged. Whoever reaches a listener can have a line written for each connection and each request, by
//! us or by a library; whoever makes namespaces and labels them, a warning for each. So many of one kind are written each minute, and the
//! rest is counted.

use prometheus_client::metrics::counter::Counter;
use tracing::callsite::Identifier;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

use crate::log_throttle::{LogThrottle, MINUTE};

/// How many lines of one kind are written within a minute.
const LINES_PER_MINUTE: u32 = 60;

/// Passes on what is within the bound.
pub(super) struct Throttle {
    /// By the place in the code that logs: as many as there are such places.
    lines: LogThrottle<Identifier>,
    /// The lines that were left out.
    suppressed: Counter,
}

impl Throttle {
    pub(super) fn new(suppressed: Counter) -> Self {
        Self {
            lines: LogThrottle::new(LINES_PER_MINUTE, MINUTE),
            suppressed,
        }
    }

    fn admit(&self, metadata: &'static Metadata<'static>) -> bool {
        let admitted = !is_bounded(metadata) || self.lines.admit(metadata.callsite()).is_some();
        if !admitted {
            self.suppressed.inc();
        }
        admitted
    }
}

/// Whether others can have lines like this written: all of what faces callers, and warnings of every room. What the controller does is
/// logged as often as it does it, and who wants details by `--log` gets all of them.
fn is_bounded(metadata: &Metadata<'_>) -> bool {
    let mut rooms = metadata.target().split("::");
    let ours = rooms.next() == Some("pullpass");
    let faces_callers = matches!(rooms.next(), Some("server" | "admission" | "broker"));
    let level = *metadata.level();
    level <= Level::WARN || level <= Level::INFO && (!ours || faces_callers)
}

impl<S: Subscriber> Layer<S> for Throttle {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        self.admit(event.metadata())
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    /// Counts what reaches it.
    struct Reached(Counter);

    impl<S: Subscriber> Layer<S> for Reached {
        fn on_event(&self, _: &Event<'_>, _: Context<'_, S>) {
            self.0.inc();
        }
    }

    #[test]
    fn bounds_each_kind_of_line_that_others_cause_and_no_other() {
        let (suppressed, reached) = (Counter::default(), Counter::default());
        let subscriber = tracing_subscriber::registry()
            .with(Reached(reached.clone()))
            .with(Throttle::new(suppressed.clone()));
        let count = |log: &dyn Fn()| {
            let before = reached.get();
            (0..100).for_each(|_| log());
            reached.get() - before
        };
        tracing::subscriber::with_default(subscriber, || {
            let rejected = || tracing::info!(target: "pullpass::admission::handler", "a");
            assert_eq!(count(&rejected), 60);
            assert_eq!(count(&rejected), 0);
            let other = || tracing::warn!(target: "pullpass::admission::handler", "b");
            assert_eq!(count(&other), 60, "another kind");
            assert_eq!(count(&|| tracing::warn!(target: "rustls::server", "c")), 60);
            assert_eq!(suppressed.get(), 40 + 100 + 40 + 40);
            let details = || tracing::debug!(target: "pullpass::admission::handler", "d");
            assert_eq!(count(&details), 100);
            let own = || tracing::info!(target: "pullpass::provision::write", "e");
            assert_eq!(count(&own), 100);
            assert_eq!(suppressed.get(), 220);
            let failed = || tracing::warn!(target: "pullpass::provision::write", "f");
            assert_eq!(count(&failed), 60);
            assert_eq!(suppressed.get(), 260);
        });
    }
}
