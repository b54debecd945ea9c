//! The report for people.

use super::Setup;
use super::step::Step;

/// All Registries, one after the other.
pub(super) fn render(setups: &[Setup]) -> String {
    let mut lines = Vec::new();
    for setup in setups {
        lines.push(format!("Registry {}", setup.registry));
        list("images", &setup.images, &mut lines);
        if !setup.access.is_pull() {
            list("access", &[format!("{:?}", setup.access)], &mut lines);
        }
        list(
            "identity",
            std::slice::from_ref(&setup.identity),
            &mut lines,
        );
        list("note", &setup.notes, &mut lines);
        for (index, step) in setup.steps.iter().enumerate() {
            lines.push(String::new());
            lines.push(format!("  {}. {}", index + 1, step.title));
            render_step(step, &mut lines);
        }
        lines.push(String::new());
    }
    lines.pop();
    lines.join("\n") + "\n"
}

fn render_step(step: &Step, lines: &mut Vec<String>) {
    list("   attach to", &step.attach_to, lines);
    if let Some(document) = &step.document {
        let text = serde_json::to_string_pretty(document).unwrap_or_default();
        lines.extend(text.lines().map(|line| format!("     {line}")));
    }
    lines.extend(
        step.commands
            .iter()
            .map(|command| format!("     {command}")),
    );
    list("   note", &step.notes, lines);
    let replace: Vec<String> = step
        .replace
        .iter()
        .map(|replace| format!("{} by {}", replace.placeholder, replace.by))
        .collect();
    list("   replace", &replace, lines);
}

/// Entries under one title.
fn list(title: &str, entries: &[String], lines: &mut Vec<String>) {
    for (index, entry) in entries.iter().enumerate() {
        let title = if index == 0 { title } else { "" };
        lines.push(format!("  {title:<13} {entry}"));
    }
}
