//! A shell whose exported variables last from one block to the next, as in a terminal.

use std::path::PathBuf;
use std::process::Command;

/// A shell in a folder of its own.
pub(crate) struct Shell {
    folder: PathBuf,
    environment: Vec<(String, String)>,
}

/// What a block printed, in the order in which it came, and whether it succeeded.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) succeeded: bool,
    pub(crate) output: String,
}

impl Shell {
    pub(super) fn new(folder: PathBuf, environment: &[(&str, &str)]) -> Self {
        let own = environment.iter();
        Self {
            folder,
            environment: own
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
        }
    }

    /// Runs a block; what it exports is there for the next.
    pub(crate) fn run(&self, block: &str) -> Ran {
        let script = format!(
            "exec 2>&1\nif [ -e .exported ]; then . ./.exported; fi\n\
             trap 'export -p >.exported' EXIT\n{block}\n"
        );
        let mut command = Command::new("bash");
        command
            .args(["-euo", "pipefail", "-c", &script])
            .current_dir(&self.folder)
            .env_clear()
            .envs(self.environment.iter().cloned());
        let output = command.output().unwrap();
        Ran {
            succeeded: output.status.success(),
            output: String::from_utf8(output.stdout).unwrap(),
        }
    }

    /// Runs a block that must succeed; answers what it printed.
    pub(crate) fn must(&self, block: &str) -> String {
        let ran = self.run(block);
        assert!(ran.succeeded, "{block}\n{}", ran.output);
        ran.output
    }
}
