//! The log: lines on stderr, each bounded.
//!
//! Nothing waits for stderr, which may be a pipe that nobody reads: lines are queued and written by a thread of their own, and what comes
//! while the queue is full is left out and counted. A write to the kernel for each line costs a webhook more than reading a review
//! does, so lines are gathered for some milliseconds and written together.

mod line;
mod throttle;

use std::io::{self, BufWriter, IsTerminal as _, Write};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::Context as _;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::registry::Registry as MetricsRegistry;
use tracing::{Level, Metadata};
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

use throttle::Throttle;

use super::ManagerArgs;
use crate::metric;

/// How long lines are gathered.
const GATHER: Duration = Duration::from_millis(10);

/// How many lines may wait to be written.
const QUEUE_LINES: usize = 2048;

/// How long the process waits at its end for lines to be written.
const FLUSH_MAX: Duration = Duration::from_millis(500);

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
    let (log, lines) = Log::start(io::stderr());
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(lines)
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
    std::panic::set_hook(Box::new(log_panic));
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

/// Says that something panicked. The hook of the standard library writes to stderr itself, and would wait for it.
fn log_panic(panic: &std::panic::PanicHookInfo<'_>) {
    let place = panic.location().map(ToString::to_string);
    let message = panic.payload_as_str().unwrap_or_default();
    tracing::error!(panic.location = place, "panicked: {message}");
}

/// The running log. Lines that wait are written when the value is dropped, as far as stderr takes them at once.
pub(super) struct Log {
    worker: Option<WorkerGuard>,
    suppressed: Counter,
    lost: ErrorCounter,
}

impl Log {
    fn start(sink: impl Write + Send + 'static) -> (Self, Lines) {
        let builder = NonBlockingBuilder::default().lossy(true).thread_name("log");
        let builder = builder.buffered_lines_limit(QUEUE_LINES);
        let (lines, worker) = builder.finish(Gathered(BufWriter::new(sink)));
        let log = Self {
            worker: Some(worker),
            suppressed: Counter::default(),
            lost: lines.error_counter(),
        };
        (log, Lines(lines))
    }

    /// Adds what the log counts to what the metrics endpoint shows.
    pub(super) fn register(&self, registry: &mut MetricsRegistry) {
        metric::register(registry, "pullpass_log_lines_suppressed", &self.suppressed);
        let lost = self.lost.clone();
        let lost = move || ConstCounter::new(lost.dropped_lines() as u64);
        metric::register_sampled(registry, "pullpass_log_lines_lost", lost);
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        let Some(worker) = self.worker.take() else {
            return;
        };
        // It waits for longer than that, and where stderr takes nothing, it writes to stdout, which may take nothing either.
        let (ended, end) = mpsc::channel::<()>();
        let flush = std::thread::Builder::new().name("log-end".to_owned());
        let flush = flush.spawn(move || {
            drop(worker);
            drop(ended);
        });
        if flush.is_ok() {
            let _ = end.recv_timeout(FLUSH_MAX);
        }
    }
}

/// Writes what came together, then waits a little for more to come.
struct Gathered<W: Write>(BufWriter<W>);

impl<W: Write> Write for Gathered<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        let flushed = self.0.flush();
        std::thread::sleep(GATHER);
        flushed
    }
}

/// Where lines go.
struct Lines(NonBlocking);

/// One line on its way.
struct Line(NonBlocking);

impl Write for Line {
    /// Takes the whole line: it is formatted before it is written.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write_all(&line::bound(bytes))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line(self.0.clone())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::time::Instant;

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<Vec<u8>>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let lines = self.0.lock();
            lines
                .map_err(|_| io::ErrorKind::Other)?
                .push(bytes.to_vec());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn written(sink: &Sink) -> String {
        String::from_utf8(sink.0.lock().unwrap().concat()).unwrap()
    }

    fn log(lines: &Lines, line: &str) {
        lines.make_writer().write_all(line.as_bytes()).unwrap();
    }

    #[test]
    fn writes_every_line_in_order_when_dropped() {
        let sink = Sink::default();
        let (running, lines) = Log::start(sink.clone());
        let expected = "a line\nanother line\n".repeat(QUEUE_LINES / 2);
        for line in expected.split_inclusive('\n') {
            log(&lines, line);
        }
        drop(running);
        assert_eq!(written(&sink), expected);
        assert!(sink.0.lock().unwrap().len() < 100, "lines are gathered");
    }

    #[test]
    fn writes_lines_soon_by_itself() {
        let sink = Sink::default();
        let (_running, lines) = Log::start(sink.clone());
        log(&lines, "line\n");
        let deadline = Instant::now() + Duration::from_secs(30);
        while written(&sink).is_empty() {
            assert!(Instant::now() < deadline);
            std::thread::yield_now();
        }
    }

    /// Never takes anything.
    struct Stuck(mpsc::Receiver<()>);

    impl Write for Stuck {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn counts_lines_that_nobody_takes_and_ends_all_the_same() {
        let (_hold, held) = mpsc::channel();
        let (running, lines) = Log::start(Stuck(held));
        let long = "x".repeat(1 << 20);
        for _ in 0..10_000 {
            log(&lines, &long[..8192]);
        }
        let mut registry = MetricsRegistry::default();
        running.register(&mut registry);
        let lost = running.lost.dropped_lines();
        // Some are in the writer's own buffer.
        assert!((7_900..=10_000 - QUEUE_LINES).contains(&lost), "{lost}");
        let mut shown = String::new();
        prometheus_client::encoding::text::encode(&mut shown, &registry).unwrap();
        let line = format!("pullpass_log_lines_lost_total {lost}\n");
        assert!(shown.contains(&line), "{shown}");
        drop(running);
    }
}
