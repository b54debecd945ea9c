//! docs/reference/alerts.md: the chart's alerts, each with its runbook.

use crate::support::generated::{Part, Row, cell, code, read, section, table};

const FILE: &str = "docs/reference/alerts.md";
const TEMPLATE: &str = "manifests/chart/templates/prometheusrule.yaml";

/// What each runbook says, in this order.
const PARTS: [&str; 4] = [
    "**Meaning.**",
    "**Impact.**",
    "**Diagnosis.**",
    "**Mitigation.**",
];

/// An alert of the chart, as its template has it.
#[derive(Default)]
struct Alert {
    name: String,
    expression: String,
    duration: String,
    severity: String,
    summary: String,
}

/// Without what Helm fills in: the namespace, and words that Prometheus does.
fn plain(text: &str) -> String {
    let text = text
        .replace("{namespace=\"{{ .Release.Namespace }}\"}", "")
        .replace("namespace=\"{{ .Release.Namespace }}\", ", "")
        .replace("'{{ `", "")
        .replace("` }}'", "");
    text.trim().to_owned()
}

fn find_alerts() -> Vec<Alert> {
    let text = read(TEMPLATE);
    let mut alerts: Vec<Alert> = Vec::new();
    let mut lines = text.lines().map(str::trim);
    while let Some(line) = lines.next() {
        if let Some(name) = line.strip_prefix("- alert: ") {
            let name = name.to_owned();
            alerts.push(Alert {
                name,
                ..Alert::default()
            });
            continue;
        }
        let Some(alert) = alerts.last_mut() else {
            continue;
        };
        if line == "expr: |-" {
            alert.expression = plain(lines.next().unwrap_or_default());
        } else if let Some(expression) = line.strip_prefix("expr: ") {
            alert.expression = plain(expression);
        } else if let Some(duration) = line.strip_prefix("for: ") {
            duration.clone_into(&mut alert.duration);
        } else if let Some(severity) = line.strip_prefix("labels: {severity: ") {
            severity
                .trim_end_matches('}')
                .clone_into(&mut alert.severity);
        } else if let Some(summary) = line.strip_prefix("summary: ") {
            alert.summary = plain(summary);
        }
    }
    alerts
}

#[test]
fn lists_every_alert_of_the_chart() {
    let alerts = find_alerts();
    assert!(alerts.len() > 15, "{}", alerts.len());
    let make = |alert: &Alert| -> Row {
        let name = &alert.name;
        assert!(
            !alert.expression.is_empty() && !alert.severity.is_empty(),
            "{TEMPLATE}: {name}"
        );
        let duration = if alert.duration.is_empty() {
            "at once"
        } else {
            &alert.duration
        };
        vec![
            format!("[{name}](#{})", name.to_lowercase()),
            alert.severity.clone(),
            cell(&alert.summary),
            code(&alert.expression),
            duration.to_owned(),
        ]
    };
    let rows: Vec<Row> = alerts.iter().map(make).collect();
    Part {
        file: FILE,
        name: "alerts",
    }
    .hold(&table(
        &["alert", "severity", "summary", "expression", "for"],
        &rows,
    ));
}

/// Nobody is woken without being told what to do. That each alert's address leads to its runbook is of `chart::has_a_runbook_for_each_alert`.
#[test]
fn has_a_whole_runbook_for_each_alert_and_for_no_other() {
    let alerts: Vec<String> = find_alerts().into_iter().map(|alert| alert.name).collect();
    let text = read(FILE);
    let headings = text
        .lines()
        .filter_map(|line| line.strip_prefix("## Pullpass"));
    let headings: Vec<String> = headings.map(|rest| format!("Pullpass{rest}")).collect();
    assert_eq!(
        headings, alerts,
        "{FILE} has a section for each alert of {TEMPLATE}, in its order"
    );
    for alert in alerts {
        let runbook = section(&text, &format!("## {alert}"));
        let mut from = 0;
        for part in PARTS {
            let at = runbook[from..].find(part);
            let at = at.unwrap_or_else(|| panic!("{FILE}: the runbook of {alert} lacks {part}"));
            from += at + part.len();
        }
        let diagnosis = runbook.split(PARTS[2]).nth(1).unwrap();
        let commands = diagnosis
            .split(PARTS[3])
            .next()
            .unwrap()
            .matches("```sh\n")
            .count();
        assert!(
            commands > 0,
            "{FILE}: the diagnosis of {alert} has no command"
        );
    }
}
