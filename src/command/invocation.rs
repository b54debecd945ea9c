//! As what this program was called: `pullpass`, or kubectl's plugin. Pure.
//!
//! <https://kubernetes.io/docs/tasks/extend-kubectl/kubectl-plugins/>

use std::ffi::OsString;
use std::path::Path;

/// The name of the file by which kubectl finds a plugin.
const PLUGIN: &str = "kubectl-pullpass";

/// How people call this program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Program {
    /// `pullpass`.
    Pullpass,
    /// `kubectl pullpass`.
    Plugin,
}

impl Program {
    /// What people type.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Pullpass => "pullpass",
            Self::Plugin => "kubectl pullpass",
        }
    }

    /// The same arguments in words that name this program.
    pub(super) fn describe(self, command: clap::Command) -> clap::Command {
        match self {
            Self::Pullpass => command,
            Self::Plugin => rename(command.bin_name(self.name())),
        }
    }
}

/// Has examples say what people type.
fn rename(command: clap::Command) -> clap::Command {
    let examples = command.get_after_help().map(ToString::to_string);
    let command = match examples {
        Some(text) => command.after_help(text.replace("\n  pullpass ", "\n  kubectl pullpass ")),
        None => command,
    };
    command.mut_subcommands(rename)
}

/// As what this program was called, and the arguments that count: a plugin without a command shows the status.
pub(super) fn parse(mut arguments: Vec<OsString>) -> (Program, Vec<OsString>) {
    let file = arguments.first().map(Path::new).and_then(Path::file_stem);
    if file.is_none_or(|file| file != PLUGIN) {
        return (Program::Pullpass, arguments);
    }
    let asks_for_status = match arguments.get(1).and_then(|first| first.to_str()) {
        None => arguments.len() == 1,
        Some("-h" | "--help" | "-V" | "--version") => false,
        Some(first) => first.starts_with('-'),
    };
    if asks_for_status {
        arguments.insert(1, "status".into());
    }
    (Program::Plugin, arguments)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_status_for_a_plugin_without_a_command() {
        for (called, program, meant) in [
            ("pullpass", Program::Pullpass, "pullpass"),
            (
                "/usr/bin/pullpass check",
                Program::Pullpass,
                "/usr/bin/pullpass check",
            ),
            (
                "kubectl-pullpass",
                Program::Plugin,
                "kubectl-pullpass status",
            ),
            (
                "/a/kubectl-pullpass -n b",
                Program::Plugin,
                "/a/kubectl-pullpass status -n b",
            ),
            (
                "kubectl-pullpass.exe",
                Program::Plugin,
                "kubectl-pullpass.exe status",
            ),
            (
                "kubectl-pullpass check -n b",
                Program::Plugin,
                "kubectl-pullpass check -n b",
            ),
            (
                "kubectl-pullpass --help",
                Program::Plugin,
                "kubectl-pullpass --help",
            ),
            (
                "kubectl-pullpass -V",
                Program::Plugin,
                "kubectl-pullpass -V",
            ),
        ] {
            let arguments = called.split(' ').map(OsString::from).collect();
            let meant: Vec<OsString> = meant.split(' ').map(OsString::from).collect();
            assert_eq!(parse(arguments), (program, meant), "{called}");
        }
        assert_eq!(parse(Vec::new()), (Program::Pullpass, Vec::new()));
    }
}
