//! `docs/METRICS.md` against what a running pullpass shows.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use std::collections::{BTreeMap, BTreeSet};

use crate::support;
use serde_json::json;
use support::fixture::{ECR, Fixture};
use support::wait;

/// Metrics by name, with their type and labels.
type Metrics = BTreeMap<String, (String, BTreeSet<String>)>;

fn find_documented() -> Metrics {
    let rows = include_str!("../../docs/METRICS.md").lines();
    let rows = rows.filter(|row| row.starts_with("| `pullpass_") || row.starts_with("| `process_"));
    // An alert has two cells, a metric four, each between bars.
    rows.map(|row| row.split('|').map(str::trim).collect::<Vec<_>>())
        .filter(|cells| cells.len() == 6)
        .map(|cells| {
            let labels = cells[3].split(',').map(|label| label.trim().to_owned());
            let labels = labels.filter(|label| !label.is_empty()).collect();
            let name = cells[1].trim_matches('`').to_owned();
            (name, (cells[2].to_owned(), labels))
        })
        .collect()
}

/// What the text of the endpoint holds. A metric of several samples has the same labels in each.
fn find_shown(text: &str) -> Metrics {
    let mut shown = Metrics::new();
    let mut current = String::new();
    for line in text.lines() {
        if let Some(described) = line.strip_prefix("# TYPE ") {
            let (name, kind) = described.split_once(' ').unwrap();
            current = match kind {
                "counter" => format!("{name}_total"),
                "info" => format!("{name}_info"),
                _ => name.to_owned(),
            };
            shown.insert(current.clone(), (kind.to_owned(), BTreeSet::new()));
        } else if !line.starts_with('#') {
            let (sample, _) = line.rsplit_once(' ').unwrap();
            let labels = sample.split_once('{').map_or("", |(_, labels)| labels);
            let pairs = labels.trim_end_matches('}').split("\",");
            let names = pairs.filter_map(|pair| Some(pair.split_once('=')?.0.to_owned()));
            let (_, known) = shown.get_mut(&current).unwrap();
            known.extend(names.filter(|name| name != "le"));
        }
    }
    shown
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn documents_every_metric_and_no_other() {
    let fixture = Fixture::new("metrics").await;
    fixture.serve(&[&format!("{ECR}/team")]).await;
    let namespace = fixture.namespace("shop").await;
    let pullpass = fixture.start_controller().await;
    fixture
        .create(&namespace, &[&format!("{ECR}/team/hello:1")])
        .await;
    pullpass.validate(&json!({"kind": "Registry"})).await;
    wait::until("a mint and a write", async || {
        let minted = pullpass.count("pullpass_mints_total", &["minted"]).await;
        let written = pullpass
            .count("pullpass_pull_secret_writes_total", &["written"])
            .await;
        (minted > 0 && written > 0).then_some(())
    })
    .await;
    let shown = find_shown(&pullpass.metrics().await);
    let documented = find_documented();
    assert!(documented.len() > 15, "{documented:?}");
    assert_eq!(documented, shown, "docs/METRICS.md on the left");

    // The certificate of the test is good for days, not for ever.
    let ends = pullpass
        .count("pullpass_certificate_expiry_timestamp_seconds", &[])
        .await;
    let now = u64::try_from(jiff::Timestamp::now().as_second()).unwrap();
    assert!(ends > now && ends < now + 20 * 365 * 86_400, "{ends}");
}
