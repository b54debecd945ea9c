//! `docs/reference/metrics.md` against what a running pullpass shows.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use std::collections::{BTreeMap, BTreeSet};

use crate::support;
use serde_json::json;
use support::fixture::{ECR, FIXTURE, Fixture};
use support::generated::{Row, read, rows, section};
use support::process::{Launch, Pullpass};
use support::wait;

const PAGE: &str = "docs/reference/metrics.md";

/// Metrics by name, with their type and labels.
type Metrics = BTreeMap<String, (String, BTreeSet<String>)>;

/// The values of each metric's labels.
type Values = BTreeMap<(String, String), BTreeSet<String>>;

fn name_of(cells: &Row) -> Option<String> {
    let name = cells[0].strip_prefix('`')?.strip_suffix('`')?;
    let is_metric = name.starts_with("pullpass_") || name.starts_with("process_");
    is_metric.then(|| name.to_owned())
}

fn find_documented() -> Metrics {
    let mut documented = Metrics::new();
    for cells in rows(&read(PAGE)) {
        // The values of a label have three cells, a metric five.
        let [_, kind, _, labels, _] = &cells[..] else {
            continue;
        };
        let labels = labels.split(',').map(|label| label.trim().to_owned());
        let labels = labels.filter(|label| !label.is_empty()).collect();
        documented.extend(name_of(&cells).map(|name| (name, (kind.clone(), labels))));
    }
    documented
}

/// `NotTls` as `not_tls`.
fn to_snake_case(word: &str) -> String {
    let mut snake = String::new();
    for letter in word.chars() {
        if letter.is_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.extend(letter.to_lowercase());
    }
    snake
}

/// What the page says of a label whose values are no closed set: `any: the name of a Registry`.
const OPEN: &str = "any: ";

/// The words of the page's table of values; where it names a section of conditions.md, also those of that section.
fn find_documented_values() -> Values {
    let conditions = read("docs/reference/conditions.md");
    let words_of = |heading: &str| -> BTreeSet<String> {
        let rows = rows(section(&conditions, heading));
        let words = rows.iter().map(|cells| cells[0].trim_matches('`'));
        words.map(to_snake_case).collect()
    };
    let mut documented = Values::new();
    for cells in rows(&read(PAGE)) {
        let [_, label, said] = &cells[..] else {
            continue;
        };
        let mut values: BTreeSet<String> = said
            .split('`')
            .skip(1)
            .step_by(2)
            .map(str::to_owned)
            .collect();
        for (link, heading) in [
            ("(conditions.md#reasons)", "## Reasons"),
            (
                "(conditions.md#pods-that-are-admitted-unchanged)",
                "## Pods that are admitted unchanged",
            ),
        ] {
            if said.contains(link) {
                values.extend(words_of(heading));
            }
        }
        if said.starts_with(OPEN) {
            values.insert(OPEN.to_owned());
        }
        if said.contains("else empty") {
            values.insert(String::new());
        }
        documented.extend(name_of(&cells).map(|name| ((name, label.clone()), values)));
    }
    documented
}

/// What the text of the endpoint holds. A metric of several samples has the same labels in each.
fn find_shown(text: &str) -> (Metrics, Values) {
    let (mut shown, mut values) = (Metrics::new(), Values::new());
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
            let labels = labels.trim_end_matches('}').trim_end_matches('"');
            let pairs = labels
                .split("\",")
                .filter_map(|pair| pair.split_once("=\""));
            for (label, value) in pairs.filter(|(label, _)| *label != "le") {
                let (_, known) = shown.get_mut(&current).unwrap();
                known.insert(label.to_owned());
                let of_label = values.entry((current.clone(), label.to_owned()));
                of_label.or_default().insert(value.to_owned());
            }
        }
    }
    (shown, values)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn documents_every_metric_and_no_other() {
    let fixture = Fixture::new("metrics").await;
    fixture.serve(&[&format!("{ECR}/team")]).await;
    let namespace = fixture.namespace("shop").await;
    let launch = Launch {
        controller: true,
        arguments: vec!["--broker-listen=127.0.0.1:0"],
        ..fixture.launch().await
    };
    let pullpass = Pullpass::start(&launch).await;
    pullpass
        .register(&fixture.cluster, FIXTURE, fixture.name)
        .await;
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
    let (shown, values) = find_shown(&pullpass.metrics().await);
    let documented = find_documented();
    assert!(documented.len() > 15, "{documented:?}");
    assert_eq!(documented, shown, "{PAGE} on the left");
    let documented = find_documented_values();
    let labels = |all: &Values| all.keys().cloned().collect::<BTreeSet<_>>();
    assert_eq!(labels(&documented), labels(&values), "{PAGE} on the left");
    for (label, values) in &values {
        let known = &documented[label];
        let unknown: Vec<_> = values.difference(known).collect();
        assert!(
            unknown.is_empty() || known.contains(OPEN),
            "{PAGE} lacks the values {unknown:?} of {label:?}"
        );
    }

    // The certificate of the test is good for days, not for ever.
    let ends = pullpass
        .count("pullpass_certificate_expiry_timestamp_seconds", &[])
        .await;
    let now = u64::try_from(jiff::Timestamp::now().as_second()).unwrap();
    assert!(ends > now && ends < now + 20 * 365 * 86_400, "{ends}");
}
