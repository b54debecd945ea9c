//! What a test logs.

use std::io::Write;
use std::sync::{Arc, Mutex};

use tracing::subscriber::DefaultGuard;

/// Takes all that this thread logs, at every level, until its end.
pub struct Log {
    written: Written,
    guard: DefaultGuard,
}

#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Has every event reach the subscriber of its thread. Tracing keeps one level for the process, of all subscribers that it knows: while
/// several threads begin and end theirs, it may for a moment be that of none.
fn keep_all_levels() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let nowhere = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_writer(std::io::sink)
            .finish();
        tracing::subscriber::set_global_default(nowhere).unwrap();
    });
}

impl Log {
    pub fn begin() -> Self {
        keep_all_levels();
        let written = Written::default();
        let writer = written.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_writer(move || writer.clone())
            .finish();
        let guard = tracing::subscriber::set_default(subscriber);
        Self { written, guard }
    }

    /// Everything that was logged.
    pub fn end(self) -> String {
        drop(self.guard);
        String::from_utf8(self.written.0.lock().unwrap().clone()).unwrap()
    }
}
