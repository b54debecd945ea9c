//! Starts verbs of the test bed (`make bed` builds it) and stops them with the value that stands for them.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::panic::Location;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::module::module_of;

/// A verb waits for its parts itself and says why when it gives up; this only ends a test whose bed hangs.
const ANSWER_DEADLINE: Duration = Duration::from_mins(2);
const STOP_DEADLINE: Duration = Duration::from_secs(20);

/// A running part of the test bed. Dropping it stops it.
pub struct Bed {
    verb: String,
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Mutex<Receiver<String>>,
    /// The JSON line that the verb printed when it was ready.
    pub ready: Value,
}

impl Bed {
    /// Starts a long-running verb and waits until it is ready.
    pub fn start(verb: &str, arguments: &[&str]) -> Self {
        let mut child = command(verb, arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("bed {verb}: {error}"));
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().expect("stdout is piped");
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let mut bed = Self {
            verb: verb.to_owned(),
            child,
            stdin,
            lines: Mutex::new(lines),
            ready: Value::Null,
        };
        bed.ready = bed.answer();
        bed
    }

    /// A text field of the ready line.
    pub fn field(&self, name: &str) -> &str {
        let value = self.ready[name].as_str();
        value.unwrap_or_else(|| panic!("bed {} said no {name}: {}", self.verb, self.ready))
    }

    /// Sends one command line and returns the answer, which must be a good one.
    pub fn command(&mut self, line: &str) -> Value {
        let answer = self.try_command(line);
        assert_eq!(answer["ok"], true, "bed {}: {line}: {answer}", self.verb);
        answer
    }

    /// Sends one command line and returns the answer, good or bad.
    pub fn try_command(&mut self, line: &str) -> Value {
        let stdin = self.stdin.as_mut().expect("stdin is piped until the end");
        writeln!(stdin, "{line}").unwrap_or_else(|error| panic!("bed {}: {error}", self.verb));
        self.answer()
    }

    fn answer(&mut self) -> Value {
        let lines = self.lines.get_mut().unwrap_or_else(PoisonError::into_inner);
        let line = match lines.recv_timeout(ANSWER_DEADLINE) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => panic!("bed {} says nothing", self.verb),
            Err(RecvTimeoutError::Disconnected) => {
                let status = self.child.wait();
                panic!(
                    "bed {} ended ({status:?}); its last words stand above",
                    self.verb
                )
            }
        };
        serde_json::from_str(&line)
            .unwrap_or_else(|error| panic!("bed {}: {error}: {line}", self.verb))
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        self.stdin = None;
        let deadline = Instant::now() + STOP_DEADLINE;
        while Instant::now() < deadline {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The kubeconfig of an administrator of one API server for all tests of the calling module. It ends with the process.
#[track_caller]
pub fn shared_api() -> &'static str {
    static APIS: Mutex<BTreeMap<String, &'static Bed>> = Mutex::new(BTreeMap::new());
    let module = module_of(Location::caller());
    let mut apis = APIS.lock().unwrap_or_else(PoisonError::into_inner);
    let api = apis.entry(module);
    let api = api.or_insert_with(|| Box::leak(Box::new(Bed::start("api", &[]))));
    api.field("kubeconfig")
}

/// Runs a verb that ends by itself, with `input` on its stdin.
pub fn run(verb: &str, arguments: &[&str], input: &str) -> Output {
    let mut child = command(verb, arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("bed {verb}: {error}"));
    let mut stdin = child.stdin.take().expect("stdin is piped");
    let input = input.to_owned();
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = child
        .wait_with_output()
        .unwrap_or_else(|error| panic!("bed {verb}: {error}"));
    // A verb may end without reading all of its input; what it printed then tells why.
    drop(writer.join());
    output
}

/// The folder of the test bed: `BED_DIR`, or `.bed` in the repository.
pub fn dir() -> PathBuf {
    std::env::var_os("BED_DIR").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(".bed"),
        PathBuf::from,
    )
}

/// A program that the test bed built.
pub fn program(name: &str) -> PathBuf {
    dir().join("bin").join(name)
}

/// What a command printed that must succeed.
pub fn succeed(command: &mut Command) -> String {
    let output = command.output();
    let output = output.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {stderr}");
    String::from_utf8(output.stdout).expect("it prints UTF-8")
}

fn command(verb: &str, arguments: &[&str]) -> Command {
    let binary = dir().join("bin").join("bed");
    assert!(
        binary.exists(),
        "{} is not there: run `make bed`",
        binary.display()
    );
    let mut command = Command::new(binary);
    command.arg(verb).args(arguments).env("BED_DIR", dir());
    command
}
