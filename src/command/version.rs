//! `pullpass version`.

use std::process::ExitCode;

/// Print the version.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  pullpass version\n  pullpass version -o json")]
pub(super) struct Args {
    /// How to print it.
    #[arg(short, long, value_enum, default_value_t)]
    output: super::Output,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let version = env!("CARGO_PKG_VERSION");
    let report = args
        .output
        .format(&serde_json::json!({"version": version}))?;
    super::print(&report.unwrap_or_else(|| format!("pullpass {version}\n")))?;
    Ok(ExitCode::SUCCESS)
}
