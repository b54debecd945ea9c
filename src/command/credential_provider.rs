//! `pullpass credential-provider`: how kubelets are set up to ask pullpass for logins.

pub(super) mod config;
pub(super) mod platform;

use std::process::ExitCode;

use clap::Subcommand;

/// Set up kubelets to ask pullpass for logins.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  pullpass credential-provider config -f registries.yaml --address 10.96.0.80:8444")]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Config(config::Args),
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    match &args.command {
        Command::Config(args) => config::run(args),
    }
}
