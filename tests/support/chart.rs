//! The chart, rendered by real Helm.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::bed;

/// What the chart makes of these settings, in the namespace `pullpass`. A value that looks like a number or a truth stays a text with a
/// `=` before it: `=podLabels.a=true`.
pub fn render(settings: &[&str]) -> Vec<Value> {
    let home = tempfile::tempdir().unwrap();
    let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests/chart");
    let mut command = Command::new(bed::dir().join("bin/helm"));
    command
        .args([
            "template",
            "pullpass",
            "--namespace",
            "pullpass",
            "--skip-tests",
        ])
        .arg(chart)
        .args(["--set", "image.repository=registry.example.com/pullpass"])
        .env_clear()
        .env("HOME", home.path());
    for setting in settings {
        match setting.strip_prefix('=') {
            Some(text) => command.args(["--set-string", text]),
            None => command.args(["--set", setting]),
        };
    }
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {stderr}");
    let objects: Vec<Value> =
        serde_saphyr::from_multiple(std::str::from_utf8(&output.stdout).unwrap()).unwrap();
    objects.into_iter().filter(Value::is_object).collect()
}
