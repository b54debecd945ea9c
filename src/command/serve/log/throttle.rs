//! A bound on what callers can have logged: whoever reaches a listener can have a line written for each connection and each request, by
//! us or by a library. So many of one kind are written each minute, and the rest is counted.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use prometheus_client::metrics::counter::Counter;
use tracing::callsite::Identifier;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

/// How many lines of one kind are written within a minute.
const LINES_PER_MINUTE: u32 = 60;

const MINUTE: Duration = Duration::from_mins(1);

/// Passes on what is within the bound.
pub(super) struct Throttle {
    started: Instant,
    /// By the place in the code that logs: as many as there are such places.
    windows: Mutex<HashMap<Identifier, Window>>,
    /// The lines that were left out.
    suppressed: Counter,
}

/// The lines of one kind in the current minute.
#[derive(Clone, Copy, Debug, Default)]
struct Window {
    begun: Duration,
    lines: u32,
}

impl Window {
    /// Whether one more line is within the bound.
    fn admit(&mut self, now: Duration) -> bool {
        if now >= self.begun + MINUTE {
            *self = Self {
                begun: now,
                lines: 0,
            };
        }
        self.lines += 1;
        self.lines <= LINES_PER_MINUTE
    }
}

impl Throttle {
    pub(super) fn new(suppressed: Counter) -> Self {
        Self {
            started: Instant::now(),
            windows: Mutex::default(),
            suppressed,
        }
    }

    fn admit(&self, metadata: &'static Metadata<'static>, now: Duration) -> bool {
        if !is_bounded(metadata) {
            return true;
        }
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = Window {
            begun: now,
            lines: 0,
        };
        let admitted = windows
            .entry(metadata.callsite())
            .or_insert(fresh)
            .admit(now);
        if !admitted {
            self.suppressed.inc();
        }
        admitted
    }
}

/// Whether callers can have lines like this written. Who wants details by `--log` gets all of them.
fn is_bounded(metadata: &Metadata<'_>) -> bool {
    let mut rooms = metadata.target().split("::");
    let ours = rooms.next() == Some("pullpass");
    let faces_callers = matches!(rooms.next(), Some("server" | "admission"));
    *metadata.level() <= Level::INFO && (!ours || faces_callers)
}

impl<S: Subscriber> Layer<S> for Throttle {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        self.admit(event.metadata(), self.started.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[test]
    fn admits_so_many_lines_a_minute() {
        let mut window = Window::default();
        let admitted = |window: &mut Window, seconds| {
            (0..1000)
                .filter(|_| window.admit(Duration::from_secs(seconds)))
                .count()
        };
        for (seconds, lines) in [(0, 60), (59, 0), (60, 60), (61, 0), (1000, 60)] {
            assert_eq!(admitted(&mut window, seconds), lines, "at {seconds} s");
        }
    }

    /// Counts what reaches it.
    struct Reached(Counter);

    impl<S: Subscriber> Layer<S> for Reached {
        fn on_event(&self, _: &Event<'_>, _: Context<'_, S>) {
            self.0.inc();
        }
    }

    #[test]
    fn bounds_each_kind_of_line_that_callers_cause_and_no_other() {
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
            let own = || tracing::warn!(target: "pullpass::controller::reconciler", "e");
            assert_eq!(count(&own), 100);
            assert_eq!(suppressed.get(), 220);
        });
    }
}
