//! What a program logs, in a file.

use std::fs::File;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::wait;

/// The file that a program logs to, a line of JSON for each event.
pub struct ProgramLog(PathBuf);

impl ProgramLog {
    /// Makes the file in a folder; answers also where the program is to write.
    pub fn create(folder: &Path) -> (Self, File) {
        let path = folder.join("log");
        let file = File::create(&path).unwrap();
        (Self(path), file)
    }

    /// Everything that was logged so far.
    pub fn read(&self) -> String {
        std::fs::read_to_string(&self.0).unwrap_or_default()
    }

    /// Waits until a line holds all of these words, as lines are written a moment after what they tell of; answers the log.
    pub async fn wait_for(&self, words: &[&str]) -> String {
        wait::until(&format!("{words:?} in the log"), async || {
            let log = self.read();
            let mut lines = log.lines();
            let is_there = lines.any(|line| words.iter().all(|words| line.contains(words)));
            is_there.then_some(log)
        })
        .await
    }

    /// The first line with this message.
    pub fn find_line(&self, message: &str) -> Option<Value> {
        let log = self.read();
        // The last line may not be complete yet.
        let mut lines = log
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok());
        lines.find(|line: &Value| line["message"] == message)
    }
}
