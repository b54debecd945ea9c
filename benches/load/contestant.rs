//! The processes that are compared.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use jiff::Timestamp;
use pullpass::command::certs;
use secrecy::ExposeSecret as _;

use crate::serve;
use crate::support::{REGISTRY, namespace_labels, reviews::NAMESPACE};

/// What they all run with: a certificate, and pullpass' Registries.
pub(crate) struct Place {
    directory: tempfile::TempDir,
    /// The CA's certificate as PEM text.
    pub(crate) ca: String,
}

/// A running webhook. It ends with this value.
pub(crate) struct Contestant {
    /// Its name in the table.
    pub(crate) name: &'static str,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    process: Child,
}

/// The memory of a process.
#[derive(Clone, Copy)]
pub(crate) struct Memory {
    /// Resident now.
    pub(crate) resident_mib: f64,
    /// Resident at most, ever.
    pub(crate) peak_mib: f64,
}

impl Place {
    /// Writes the files.
    pub(crate) fn prepare() -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        let made = certs::make(&["localhost".to_owned()], Timestamp::now())?;
        let namespace = serde_json::json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": NAMESPACE, "labels": namespace_labels()},
        });
        let path = |name: &str| directory.path().join(name);
        fs::write(path("tls.crt"), &made.certificate)?;
        fs::write(path("tls.key"), made.key.expose_secret())?;
        fs::write(
            path("registries.yaml"),
            format!("{REGISTRY}---\n{namespace}\n"),
        )?;
        Ok(Self {
            directory,
            ca: made.ca,
        })
    }

    /// Starts all, in the order of the table.
    pub(crate) fn start_all(&self) -> anyhow::Result<Vec<Contestant>> {
        let itself = std::env::current_exe()?;
        let start = |name, kind| {
            let mut command = Command::new(&itself);
            command.args([serve::FLAG, kind]).arg(self.directory.path());
            Contestant::start(name, command)
        };
        Ok(vec![
            start("floor", serve::FLOOR)?,
            start("floor, our server", serve::FLOOR_ON_OUR_SERVER)?,
            Contestant::start("pullpass", self.pullpass())?,
            start("typed", serve::TYPED)?,
        ])
    }

    /// The binary with its defaults.
    fn pullpass(&self) -> Command {
        let path = |name: &str| -> PathBuf { self.directory.path().join(name) };
        let mut command = Command::new(env!("CARGO_BIN_EXE_pullpass"));
        command
            .args([
                "serve",
                "--patch-only",
                "--listen",
                "127.0.0.1:0",
                "--metrics-listen",
                "127.0.0.1:0",
                "--drain-delay",
                "0",
            ])
            .arg("--registries")
            .arg(path("registries.yaml"))
            .arg("--tls-cert")
            .arg(path("tls.crt"))
            .arg("--tls-key")
            .arg(path("tls.key"));
        command
    }
}

impl Contestant {
    /// Starts a process and waits for the line on stderr that says where it listens. What it says afterwards is read and dropped,
    /// as a log collector would read it.
    fn start(name: &'static str, mut command: Command) -> anyhow::Result<Self> {
        let process = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut contestant = Self {
            name,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            process: process.with_context(|| format!("cannot start {name}"))?,
        };
        let mut log = BufReader::new(contestant.process.stderr.take().context("stderr")?);
        let mut said = String::new();
        while contestant.address.port() == 0 {
            let mut line = String::new();
            if log.read_line(&mut line)? == 0 {
                anyhow::bail!("{name} ended: {said}");
            }
            let address = line
                .split_whitespace()
                .find_map(|word| word.strip_prefix(serve::ADDRESS));
            if let Some(address) = address {
                contestant.address = address.parse()?;
            }
            said.push_str(&line);
        }
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut log, &mut std::io::sink());
        });
        Ok(contestant)
    }

    /// The processor time that it has used, of all its threads, in user and kernel mode.
    /// <https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html>
    pub(crate) fn cpu_time(&self) -> anyhow::Result<Duration> {
        let stat = self.proc("stat")?;
        let (_, fields) = stat.rsplit_once(')').context("/proc/PID/stat")?;
        let mut times = fields.split_whitespace().skip(11).map(str::parse::<u64>);
        let mut time = || -> anyhow::Result<u64> { Ok(times.next().context("/proc/PID/stat")??) };
        // In hundredths of a second (USER_HZ) on every architecture that this runs on.
        Ok(Duration::from_millis(10 * (time()? + time()?)))
    }

    /// Its memory now.
    pub(crate) fn memory(&self) -> anyhow::Result<Memory> {
        let status = self.proc("status")?;
        let mib = |key: &str| -> anyhow::Result<f64> {
            let line = status.lines().find_map(|line| line.strip_prefix(key));
            let kib: u32 = line
                .context("/proc/PID/status")?
                .trim()
                .trim_end_matches(" kB")
                .parse()?;
            Ok(f64::from(kib) / 1024.0)
        };
        Ok(Memory {
            resident_mib: mib("VmRSS:")?,
            peak_mib: mib("VmHWM:")?,
        })
    }

    fn proc(&self, file: &str) -> anyhow::Result<String> {
        let path = Path::new("/proc")
            .join(self.process.id().to_string())
            .join(file);
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    }
}

impl Drop for Contestant {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
