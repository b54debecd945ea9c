//! `pullpass man`: the command line as pages for man(1).

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::CommandFactory;

/// Print the manual page of pullpass or of one of its commands, or write all of them.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  pullpass man check | man -l -
  pullpass man --folder /usr/local/share/man/man1")]
pub(super) struct Args {
    /// The command; pullpass itself where there is none.
    command: Vec<String>,
    /// Write all pages into this folder, which must be there.
    #[arg(long, value_name = "FOLDER", conflicts_with = "command")]
    folder: Option<PathBuf>,
}

pub(super) fn run<C: CommandFactory>(args: &Args) -> anyhow::Result<ExitCode> {
    if let Some(folder) = &args.folder {
        clap_mangen::generate_to(C::command(), folder)
            .with_context(|| format!("cannot write pages into {}", folder.display()))?;
        return Ok(ExitCode::SUCCESS);
    }
    let page = build_page(C::command(), &args.command)?;
    super::print(&String::from_utf8(page)?)?;
    Ok(ExitCode::SUCCESS)
}

/// The page of the command that these words name, as roff.
fn build_page(mut top: clap::Command, words: &[String]) -> anyhow::Result<Vec<u8>> {
    top = top.disable_help_subcommand(true);
    // Names with what stands before them, as `generate_to` has them.
    top.build();
    let found = words.iter().try_fold(&top, |command, word| {
        let found = command.find_subcommand(word);
        found.with_context(|| {
            format!(
                "{} has no command {word}: `pullpass --help` lists them",
                command.get_bin_name().unwrap_or(command.get_name())
            )
        })
    })?;
    let mut text = Vec::new();
    clap_mangen::Man::new(found.clone()).render(&mut text)?;
    Ok(text)
}
