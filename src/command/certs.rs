//! `pullpass certs`: a CA and a serving certificate for local use.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use jiff::{SignedDuration, Timestamp};
use secrecy::SecretString;

use crate::certificates::{Authority, Validity};
use crate::plain_text::private_key;

/// How long the CA is good for, in days.
const CA_DAYS: i64 = 3650;

/// How long the serving certificate is good for, in days. Longer ones are refused by some clients.
/// <https://support.apple.com/en-us/102028>
const SERVING_DAYS: i64 = 397;

/// Write a CA and a serving certificate for local use
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  pullpass certs certs --host webhook.example.internal --host 10.0.0.5"
)]
pub struct Args {
    /// The folder to write ca.crt, ca.key, tls.crt and tls.key into; made if it does not exist
    #[arg(default_value = "certs")]
    directory: PathBuf,
    /// A further DNS name or IP address of the certificate; may be repeated
    #[arg(long = "host", value_name = "NAME|IP")]
    hosts: Vec<String>,
    /// Overwrite files that exist
    #[arg(long)]
    force: bool,
}

/// The names that the serving certificate is always good for: this machine, and the Service of the same name.
const HOSTS: [&str; 5] = [
    "localhost",
    "127.0.0.1",
    "::1",
    "pullpass.pullpass.svc",
    "pullpass.pullpass.svc.cluster.local",
];

/// Runs the command.
///
/// # Errors
/// A file is there already, cannot be written, or a host is not one.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let directory = &args.directory;
    let paths = ["ca.crt", "ca.key", "tls.crt", "tls.key"].map(|name| directory.join(name));
    if let Some(path) = paths.iter().find(|path| path.exists() && !args.force) {
        bail!(
            "{} is there already: add --force to replace the CA and the pair",
            path.display()
        );
    }
    let hosts = HOSTS.iter().map(|host| (*host).to_owned());
    let hosts: Vec<String> = hosts.chain(args.hosts.iter().cloned()).collect();
    let made = make(&hosts, Timestamp::now())?;
    fs::create_dir_all(directory)
        .with_context(|| format!("cannot make the folder {}", directory.display()))?;
    let [ca, ca_key, certificate, key] = &paths;
    write(ca, 0o644, |mut file| file.write_all(made.ca.as_bytes()))?;
    write(ca_key, 0o600, |file| private_key::write(&made.ca_key, file))?;
    write(certificate, 0o644, |mut file| {
        file.write_all(made.certificate.as_bytes())
    })?;
    write(key, 0o600, |file| private_key::write(&made.key, file))?;
    let shown = directory.display();
    super::print(&format!(
        "wrote {shown}/ca.crt and ca.key (the CA, {CA_DAYS} days), {shown}/tls.crt and tls.key (the serving pair, {SERVING_DAYS} days)\n\
         next:\n\
         \x20 pullpass serve --patch-only --registries examples/registries.yaml --tls-cert {shown}/tls.crt --tls-key {shown}/tls.key\n\
         \x20 caBundle of the webhook configuration: base64 < {shown}/ca.crt | tr -d '\\n'\n"
    ))?;
    Ok(ExitCode::SUCCESS)
}

/// A CA and a serving pair, as PEM text.
pub struct LocalCertificates {
    /// The CA's certificate.
    pub ca: String,
    /// The CA's key.
    pub ca_key: SecretString,
    /// The serving certificate.
    pub certificate: String,
    /// The serving certificate's key.
    pub key: SecretString,
}

/// Makes a CA and a serving pair (ECDSA P-256, X.509 v3) that is good for the hosts, DNS names or IP addresses, from `now` on.
///
/// # Errors
/// A host is neither.
pub fn make(hosts: &[String], now: Timestamp) -> anyhow::Result<LocalCertificates> {
    let lasting = |days: i64| Validity::lasting(SignedDuration::from_hours(24 * days), now);
    let ca = Authority::make("pullpass local CA", lasting(CA_DAYS))?;
    let pair = ca.sign(hosts, lasting(SERVING_DAYS));
    let pair = pair.context("a host is neither a DNS name nor an IP address")?;
    Ok(LocalCertificates {
        ca: ca.certificate,
        ca_key: ca.key,
        certificate: pair.certificate,
        key: pair.key,
    })
}

/// Replaces a file by way of a new one beside it, so that no reader sees half of it and no key is readable for a moment.
fn write(
    path: &Path,
    mode: u32,
    content: impl FnOnce(&File) -> std::io::Result<()>,
) -> anyhow::Result<()> {
    let partial = path.with_extension("partial");
    let write = || -> std::io::Result<()> {
        let _ = fs::remove_file(&partial);
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&partial)?;
        content(&file)?;
        fs::rename(&partial, path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::certificate::Certificate;

    fn args(directory: &Path, force: bool) -> Args {
        Args {
            directory: directory.to_owned(),
            hosts: vec!["10.213.0.1".into()],
            force,
        }
    }

    #[test]
    fn writes_a_pair_that_serves_and_keeps_keys_private() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path().join("new");
        run(&args(&directory, false)).unwrap();
        Certificate::load(directory.join("tls.crt"), directory.join("tls.key")).unwrap();
        for key in ["ca.key", "tls.key"] {
            let mode = fs::metadata(directory.join(key))
                .unwrap()
                .permissions()
                .mode();
            assert_eq!(mode & 0o777, 0o600, "{key}");
        }
    }

    #[test]
    fn refuses_to_overwrite_without_force() {
        let directory = tempfile::tempdir().unwrap();
        run(&args(directory.path(), false)).unwrap();
        let before = fs::read(directory.path().join("ca.crt")).unwrap();
        let error = run(&args(directory.path(), false)).unwrap_err().to_string();
        assert!(error.contains("--force"), "{error}");
        assert_eq!(fs::read(directory.path().join("ca.crt")).unwrap(), before);
        run(&args(directory.path(), true)).unwrap();
        assert_ne!(fs::read(directory.path().join("ca.crt")).unwrap(), before);
    }

    #[test]
    fn refuses_hosts_that_are_none() {
        assert!(make(&["né.example".into()], Timestamp::now()).is_err());
    }
}
