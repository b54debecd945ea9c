//! The command line: one file per command. Here commands meet everything else; nothing imports this room.

pub mod certs;
mod check;
mod cluster_args;
mod completion;
mod crd;
mod credential_provider;
mod explain;
mod installed;
mod invocation;
mod man;
mod manifest;
mod missed;
mod policy;
mod purge;
mod rbac;
mod serve;
mod status;
mod version;

use std::process::ExitCode;

use anyhow::Context as _;
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::names::NamespaceName;
use crate::provision::ExcludedNamespaces;

/// pullpass gives Kubernetes Pods the credentials to pull private images.
///
/// Exit codes: 0 is success; 1, that a command found or met a failure; 2, that its arguments or files, or the cluster that they name,
/// cannot be used.
#[derive(Debug, Parser)]
#[command(name = "pullpass", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// One variant per command, each with its arguments in the command's own file.
#[derive(Debug, Subcommand)]
enum Command {
    Certs(certs::Args),
    Check(check::Args),
    Completion(completion::Args),
    Crd(crd::Args),
    CredentialProvider(credential_provider::Args),
    Explain(explain::Args),
    Man(man::Args),
    Policy(policy::Args),
    Purge(purge::Args),
    Rbac(rbac::Args),
    Serve(serve::Args),
    Status(status::Args),
    Version(version::Args),
}

/// The label that the API server gives every Namespace: its name.
///
/// <https://kubernetes.io/docs/reference/labels-annotations-taints/#kubernetes-io-metadata-name>
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// How long a process waits at its end for what it says to be taken; the log had as long before.
const PRINT_MAX: std::time::Duration = std::time::Duration::from_millis(500);

/// How a command prints what it found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    /// For people.
    #[default]
    Text,
    /// For people, with more columns.
    Wide,
    /// For programs.
    Json,
    /// The same as YAML.
    Yaml,
}

impl Output {
    /// Whether it is for people.
    fn is_text(self) -> bool {
        matches!(self, Self::Text | Self::Wide)
    }

    /// A report for programs; `None`: it is for people.
    fn format(self, report: &impl serde::Serialize) -> anyhow::Result<Option<String>> {
        Ok(match self {
            Self::Text | Self::Wide => None,
            Self::Json => Some(serde_json::to_string_pretty(report)? + "\n"),
            Self::Yaml => Some(serde_saphyr::to_string(report)?),
        })
    }
}

/// The exit code of every command when it did its work and found a failure, or met one.
const FAILED: ExitCode = ExitCode::FAILURE;
/// The exit code of every command when its arguments or files, or the cluster that they name, cannot be used.
const USAGE: u8 = 2;

/// Which namespaces are excluded: for the process, and for commands that say what it would do.
#[derive(Clone, Debug, clap::Args)]
struct ExcludeArgs {
    /// Namespaces to leave alone whatever their labels say, besides kube-* and pullpass' own: no Pod there is changed, no pull secret is
    /// written
    #[arg(
        long,
        env = "PULLPASS_EXCLUDE_NAMESPACES",
        value_name = "NAME,…",
        value_delimiter = ','
    )]
    exclude_namespaces: Vec<NamespaceName>,
}

impl ExcludeArgs {
    /// What the arguments alone exclude, with pullpass' own namespace: `pullpass` where it is not given.
    fn build(&self, own: Option<&NamespaceName>) -> ExcludedNamespaces {
        let own = own.cloned();
        let own = own.unwrap_or_else(|| NamespaceName::constant("pullpass"));
        ExcludedNamespaces::new(own, self.exclude_namespaces.clone())
    }
}

/// The command line as clap has it, for what is made from it: the program itself does not ask.
#[doc(hidden)]
pub fn build_cli() -> clap::Command {
    Cli::command()
}

/// Runs the command that the process' arguments name, and gives the process' exit code. What goes wrong is printed to stderr.
pub fn run() -> ExitCode {
    let (program, arguments) = invocation::parse(std::env::args_os().collect());
    let command = program.describe(Cli::command());
    let is_plug_in = credential_provider::is_run_by_kubelet(&arguments);
    let matches = command.try_get_matches_from(arguments);
    let cli = match matches.and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        Err(error) if is_plug_in && error.use_stderr() => {
            return credential_provider::refuse(&error);
        }
        Err(error) => return print_usage(&error),
    };
    let outcome = match cli.command {
        Command::Certs(args) => certs::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Completion(args) => completion::run::<Cli>(&args),
        Command::Crd(args) => crd::run(&args),
        Command::CredentialProvider(args) => credential_provider::run(args),
        Command::Explain(args) => explain::run(&args),
        Command::Man(args) => man::run::<Cli>(&args),
        Command::Policy(args) => policy::run(&args),
        Command::Purge(args) => purge::run(&args),
        Command::Rbac(args) => rbac::run(&args),
        Command::Serve(args) => serve::run(&args),
        Command::Status(args) => status::run(&args, program),
        Command::Version(args) => version::run(&args),
    };
    outcome.unwrap_or_else(|error| {
        print_error(format!("error: {}\n", describe(&error)));
        ExitCode::from(USAGE)
    })
}

/// Writes to stderr, as far as it takes it at once: it may be a pipe that nobody reads, which must not keep a process from ending.
fn print_error(text: String) {
    use std::io::Write;
    let (written, end) = std::sync::mpsc::channel::<()>();
    let writer = std::thread::Builder::new().spawn(move || {
        // Nothing is left to be said where it cannot be printed.
        drop(std::io::stderr().write_all(text.as_bytes()));
        drop(written);
    });
    if writer.is_ok() {
        let _ = end.recv_timeout(PRINT_MAX);
    }
}

/// An error and its causes in one line, each of them once: some say their cause themselves.
fn describe(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.ends_with(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

/// Runs a command's work to its end, on this thread.
fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    wait_for(work).context("cannot start a runtime")?
}

/// As [`block_on`], whatever comes of it; an error where no runtime can be started.
fn wait_for<T>(work: impl Future<Output = T>) -> std::io::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let done = runtime.block_on(work);
    // A name that is still being resolved is not waited for.
    runtime.shutdown_background();
    Ok(done)
}

/// Prints help where it was asked for, or what is wrong with the arguments.
fn print_usage(error: &clap::Error) -> ExitCode {
    // Nothing is left to be said where it cannot be printed.
    drop(error.print());
    if error.use_stderr() {
        ExitCode::from(USAGE)
    } else {
        ExitCode::SUCCESS
    }
}

/// Columns side by side, as kubectl prints them; the last one is as long as it is.
fn table<const COLUMNS: usize>(rows: &[[String; COLUMNS]]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.max().unwrap_or_default()
    };
    let widths: [usize; COLUMNS] = std::array::from_fn(width);
    let line = |row: &[String; COLUMNS]| {
        let cells = row.iter().zip(widths);
        let cells: Vec<String> = cells
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        format!("{}\n", cells.join("   ").trim_end())
    };
    rows.iter().map(line).collect()
}

/// Writes to stdout. A reader that has read enough (`pullpass … | head`) is no error.
fn print(text: &str) -> anyhow::Result<()> {
    use std::io::Write;
    let mut stdout = std::io::stdout().lock();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_each_cause_once() {
        let cause = || std::io::Error::other("the disk is full");
        for (error, text) in [
            (
                anyhow::Error::new(cause()).context("cannot write"),
                "cannot write: the disk is full",
            ),
            (
                anyhow::Error::new(cause()).context("cannot write: the disk is full"),
                "cannot write: the disk is full",
            ),
            (anyhow::anyhow!("nothing to do"), "nothing to do"),
        ] {
            assert_eq!(describe(&error), text);
        }
    }

    #[test]
    fn puts_columns_side_by_side() {
        let rows = [["NAME", "WHY"], ["a", ""], ["längest", "it is"]];
        let text = table(&rows.map(|row| row.map(str::to_owned)));
        assert_eq!(text, "NAME      WHY\na\nlängest   it is\n");
        assert_eq!(table::<2>(&[]), "");
    }

    #[test]
    fn has_consistent_arguments() {
        build_cli().debug_assert();
    }

    #[test]
    fn shows_example_in_help_of_each_command() {
        for command in build_cli().get_subcommands_mut() {
            let help = command.render_long_help().to_string();
            assert!(
                help.contains("Examples:\n  "),
                "pullpass {} --help has no example",
                command.get_name()
            );
        }
    }
}
