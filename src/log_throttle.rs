//! How often a line is logged that comes again and again: so many times a minute for each cause, and the rest is counted.
//!
//! What callers, tenants or a failing API server can have logged is bounded by the number of causes, which are a closed set wherever this is
//! used. No cause silences another.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// The time within which lines are counted, where nothing else is said.
pub(crate) const MINUTE: Duration = Duration::from_mins(1);

/// How many causes are remembered. There are fewer, unless a set is not closed after all: then those beyond share what is left.
const MAX_CAUSES: usize = 1024;

/// Which lines are logged, by their causes.
#[derive(Debug)]
pub(crate) struct LogThrottle<C> {
    lines: u32,
    interval: Duration,
    windows: Mutex<HashMap<C, Window>>,
}

/// The lines of one cause since `begun`.
#[derive(Clone, Copy, Debug)]
struct Window {
    begun: Instant,
    lines: u32,
    /// How many were left out since the last one that was logged.
    suppressed: u64,
}

impl<C> LogThrottle<C> {
    /// Admits so many `lines` of each cause within an interval that begins with the first of them.
    pub(crate) fn new(lines: u32, interval: Duration) -> Self {
        Self {
            lines,
            interval,
            windows: Mutex::new(HashMap::new()),
        }
    }
}

impl<C: Eq + Hash> LogThrottle<C> {
    /// Whether to log a line about this cause now, and how many were left out since the last one; `None`: it is left out.
    pub(crate) fn admit(&self, cause: C) -> Option<u64> {
        self.admit_at(cause, Instant::now())
    }

    fn admit_at(&self, cause: C, now: Instant) -> Option<u64> {
        let mut windows = self.windows.lock();
        let is_over =
            |window: &Window| now.saturating_duration_since(window.begun) >= self.interval;
        if windows.len() >= MAX_CAUSES && !windows.contains_key(&cause) {
            windows.retain(|_, window| !is_over(window));
            if windows.len() >= MAX_CAUSES {
                return None;
            }
        }
        let window = windows.entry(cause).or_insert(Window {
            begun: now,
            lines: 0,
            suppressed: 0,
        });
        if is_over(window) {
            (window.begun, window.lines) = (now, 0);
        }
        if window.lines >= self.lines {
            window.suppressed += 1;
            return None;
        }
        window.lines += 1;
        Some(std::mem::take(&mut window.suppressed))
    }

    /// Forgets a cause that holds no more: when it comes again, that is news.
    pub(crate) fn forget(&self, cause: &C) {
        let mut windows = self.windows.lock();
        windows.remove(cause);
    }
}

impl<C> Default for LogThrottle<C> {
    /// One line a minute.
    fn default() -> Self {
        Self::new(1, MINUTE)
    }
}

/// How many lines of level info and more this thread logs meanwhile.
#[cfg(test)]
pub(crate) fn count_lines(log: impl FnOnce()) -> u64 {
    use tracing_subscriber::Layer;
    use tracing_subscriber::layer::{Context, SubscriberExt as _};

    struct Lines(std::sync::Arc<std::sync::atomic::AtomicU64>);
    impl<S: tracing::Subscriber> Layer<S> for Lines {
        fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
            let counts = *event.metadata().level() <= tracing::Level::INFO;
            self.0
                .fetch_add(counts.into(), std::sync::atomic::Ordering::Relaxed);
        }
    }
    // Tracing keeps one level for the process: while other threads begin and end their subscribers, it must not be that of none.
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        drop(tracing::subscriber::set_global_default(
            tracing_subscriber::registry(),
        ));
    });
    let lines = std::sync::Arc::default();
    let subscriber = tracing_subscriber::registry().with(Lines(std::sync::Arc::clone(&lines)));
    tracing::subscriber::with_default(subscriber, log);
    lines.load(std::sync::atomic::Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn admits_one_line_a_minute_and_counts_the_others() {
        let (throttle, start) = (LogThrottle::default(), Instant::now());
        for (seconds, expected) in [
            (5, Some(0)),
            (5, None),
            (64, None),
            (65, Some(2)),
            (66, None),
            (500, Some(1)),
        ] {
            let admitted = throttle.admit_at("cause", start + Duration::from_secs(seconds));
            assert_eq!(admitted, expected, "at {seconds} s");
        }
    }

    #[test]
    fn admits_so_many_lines_of_each_interval() {
        let throttle = LogThrottle::new(60, MINUTE);
        let start = Instant::now();
        for (seconds, lines) in [(0, 60), (59, 0), (60, 60), (61, 0), (1000, 60)] {
            let now = start + Duration::from_secs(seconds);
            let admitted = (0..1000).filter(|_| throttle.admit_at((), now).is_some());
            assert_eq!(admitted.count(), lines, "at {seconds} s");
        }
    }

    #[test]
    fn admits_each_cause_whatever_the_others_did() {
        let (throttle, now) = (LogThrottle::default(), Instant::now());
        for cause in ["one", "other"] {
            assert_eq!(throttle.admit_at(cause, now), Some(0), "{cause}");
            assert_eq!(throttle.admit_at(cause, now), None, "{cause}");
        }
        throttle.forget(&"one");
        assert_eq!(throttle.admit_at("one", now), Some(0), "it is news again");
        assert_eq!(throttle.admit_at("other", now), None);
    }

    #[test]
    fn remembers_a_bounded_number_of_causes() {
        let (throttle, start) = (LogThrottle::default(), Instant::now());
        let admitted = |now| {
            let causes = 0..10 * MAX_CAUSES;
            causes
                .filter(|cause| throttle.admit_at(*cause, now).is_some())
                .count()
        };
        assert_eq!(admitted(start), MAX_CAUSES);
        assert_eq!(admitted(start + MINUTE), MAX_CAUSES);
        assert_eq!(throttle.windows.lock().len(), MAX_CAUSES);
    }
}
