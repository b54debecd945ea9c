//! The log: lines on stderr.
//!
//! Each decision is a line, and a write to the kernel for each costs a webhook more than reading the review does. So lines are
//! gathered for some milliseconds and written together, by a thread of their own. What a person must see, from warnings on, is
//! written at once, with all lines before it.

mod throttle;

use std::io::{self, IsTerminal as _, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context as _;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry as MetricsRegistry;
use tracing::{Level, Metadata};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

use throttle::Throttle;

use super::ManagerArgs;

/// How long lines are gathered.
const GATHER: Duration = Duration::from_millis(10);

/// How many bytes may wait to be written. Beyond it the thread that logs a line writes it itself.
const WAITING_MAX: usize = 1 << 20;

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For programs: one JSON object a line.
    Json,
}

/// Starts the log, on stderr. Lines that wait are written when the value is dropped.
pub(super) fn start(args: &ManagerArgs) -> anyhow::Result<Log> {
    let filter = EnvFilter::try_new(&args.log)
        .with_context(|| format!("--log {}: not a filter", args.log))?;
    let is_terminal = io::stderr().is_terminal();
    let log = Log::start(Box::new(io::stderr())).context("cannot start the log's thread")?;
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(log.lines.clone())
        .with_ansi(is_terminal)
        .with_target(false);
    let layer = match args.log_format {
        LogFormat::Text => layer.boxed(),
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
    };
    let started = tracing_subscriber::registry()
        .with(layer.with_filter(filter))
        .with(filter_fn(may_be_logged))
        .with(Throttle::new(log.suppressed.clone()))
        .try_init();
    started.map_err(|error| anyhow::anyhow!("cannot start the log: {error}"))?;
    Ok(log)
}

/// Whether lines like this may be logged, whatever `--log` says: libraries write bodies (and so Secrets) when they cannot read them,
/// and headers (and so passwords) when they are asked for details.
fn may_be_logged(metadata: &Metadata<'_>) -> bool {
    match metadata.target().split("::").next() {
        Some("pullpass") => true,
        Some("kube_client" | "kube_runtime") => false,
        _ => *metadata.level() <= Level::WARN,
    }
}

/// The running log.
pub(super) struct Log {
    lines: Lines,
    writer: Option<JoinHandle<()>>,
    suppressed: Counter,
}

impl Log {
    /// Adds what the log counts to what the metrics endpoint shows.
    pub(super) fn register(&self, registry: &mut MetricsRegistry) {
        registry.register(
            "pullpass_log_lines_suppressed",
            "Log lines that callers caused beyond 60 of a kind in a minute",
            self.suppressed.clone(),
        );
    }

    fn start(sink: Box<dyn Write + Send>) -> io::Result<Self> {
        let lines = Lines(Arc::new(LogBuffer {
            waiting: Mutex::default(),
            changed: Condvar::new(),
            sink: Mutex::new(sink),
        }));
        let shared = Arc::clone(&lines.0);
        let writer = std::thread::Builder::new().name("log".to_owned());
        let writer = writer.spawn(move || shared.run())?;
        Ok(Self {
            lines,
            writer: Some(writer),
            suppressed: Counter::default(),
        })
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        lock(&self.lines.0.waiting).closed = true;
        self.lines.0.changed.notify_one();
        if let Some(writer) = self.writer.take() {
            drop(writer.join());
        }
    }
}

/// Lines that wait to be written. Clones are the same.
#[derive(Clone)]
struct Lines(Arc<LogBuffer>);

struct LogBuffer {
    waiting: Mutex<PendingLines>,
    changed: Condvar,
    /// Locked before `waiting`, so that lines keep their order.
    sink: Mutex<Box<dyn Write + Send>>,
}

#[derive(Default)]
struct PendingLines {
    bytes: Vec<u8>,
    closed: bool,
}

impl LogBuffer {
    /// Writes what waits, again and again, until the log is dropped.
    fn run(&self) {
        loop {
            let waiting = lock(&self.waiting);
            let idle = |waiting: &mut PendingLines| waiting.bytes.is_empty() && !waiting.closed;
            let waiting = self.changed.wait_while(waiting, idle);
            let closed = waiting.unwrap_or_else(PoisonError::into_inner).closed;
            if !closed {
                std::thread::sleep(GATHER);
            }
            self.flush();
            if closed {
                return;
            }
        }
    }

    fn flush(&self) {
        let mut sink = lock(&self.sink);
        let bytes = std::mem::take(&mut lock(&self.waiting).bytes);
        // When stderr is closed, there is nowhere left to report it.
        drop(sink.write_all(&bytes).and_then(|()| sink.flush()));
    }
}

/// One line on its way.
struct Line {
    shared: Arc<LogBuffer>,
    urgent: bool,
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut waiting = lock(&self.shared.waiting);
        let first = waiting.bytes.is_empty();
        waiting.bytes.extend_from_slice(bytes);
        let at_once = self.urgent || waiting.closed || waiting.bytes.len() > WAITING_MAX;
        drop(waiting);
        if at_once {
            self.shared.flush();
        } else if first {
            self.shared.changed.notify_one();
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line {
            shared: Arc::clone(&self.0),
            urgent: false,
        }
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> Line {
        Line {
            shared: Arc::clone(&self.0),
            urgent: *metadata.level() <= Level::WARN,
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<Vec<u8>>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            lock(&self.0).push(bytes.to_vec());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn written(sink: &Sink) -> String {
        String::from_utf8(sink.0.lock().unwrap().concat()).unwrap()
    }

    #[test]
    fn writes_every_line_in_order_when_dropped() {
        let sink = Sink::default();
        let log = Log::start(Box::new(sink.clone())).unwrap();
        let expected = "a line\nanother line\n".repeat(5_000);
        for line in expected.split_inclusive('\n') {
            let mut writer = log.lines.make_writer();
            writer.write_all(line.as_bytes()).unwrap();
        }
        drop(log);
        assert_eq!(written(&sink), expected);
        assert!(sink.0.lock().unwrap().len() < 10_000, "lines are gathered");
    }

    #[test]
    fn writes_urgent_line_at_once_after_those_before_it() {
        let sink = Sink::default();
        let log = Log::start(Box::new(sink.clone())).unwrap();
        log.lines.make_writer().write_all(b"routine\n").unwrap();
        let shared = Arc::clone(&log.lines.0);
        let mut urgent = Line {
            shared,
            urgent: true,
        };
        urgent.write_all(b"urgent\n").unwrap();
        assert_eq!(written(&sink), "routine\nurgent\n");
    }

    #[test]
    fn writes_lines_soon_by_itself() {
        let sink = Sink::default();
        let log = Log::start(Box::new(sink.clone())).unwrap();
        log.lines.make_writer().write_all(b"line\n").unwrap();
        let deadline = std::time::Instant::now() + Duration::from_secs(30);
        while written(&sink).is_empty() {
            assert!(std::time::Instant::now() < deadline);
            std::thread::yield_now();
        }
    }

    #[test]
    fn writes_lines_that_come_after_the_end() {
        let sink = Sink::default();
        let log = Log::start(Box::new(sink.clone())).unwrap();
        let lines = log.lines.clone();
        drop(log);
        lines.make_writer().write_all(b"late\n").unwrap();
        assert_eq!(written(&sink), "late\n");
    }
}
