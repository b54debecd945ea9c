//! `pullpass completion`: what a shell needs to complete pullpass' arguments.

use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::Shell;

/// Print the script by which a shell completes pullpass' commands and arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  source <(pullpass completion bash)
  pullpass completion zsh > \"${fpath[1]}/_pullpass\"
  pullpass completion fish > ~/.config/fish/completions/pullpass.fish")]
pub(super) struct Args {
    /// The shell.
    shell: Shell,
}

pub(super) fn run<C: CommandFactory>(args: &Args) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut C::command(), "pullpass", &mut script);
    super::print(&String::from_utf8(script)?)?;
    Ok(ExitCode::SUCCESS)
}
