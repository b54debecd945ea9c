//! `pullpass version`.

use std::process::ExitCode;

/// The version of this program.
pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit that it was made of.
pub(super) const COMMIT: &str = match option_env!("PULLPASS_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};

/// Print the version.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  pullpass version\n  pullpass version -o json")]
pub(super) struct Args {
    /// How to print it.
    #[arg(short, long, value_enum, default_value_t)]
    output: super::Output,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let version = VERSION;
    let report = args
        .output
        .format(&serde_json::json!({"version": version}))?;
    super::print(&report.unwrap_or_else(|| format!("pullpass {version}\n")))?;
    Ok(ExitCode::SUCCESS)
}
