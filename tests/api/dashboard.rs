//! The Grafana dashboard, its queries run by Prometheus' own engine on what two replicas of a real run showed, and its picture in the docs.
//!
//! `make dashboard` records a longer run into `tests/data/dashboard.txt` and draws `docs/images/dashboard.svg` from it.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::support;
use jiff::Timestamp;
use serde_json::{Value, json};
use support::bed;
use support::fixture::{ECR, Fixture};
use support::process::{Launch, Pullpass};

/// How many scrapes, a second apart: of each run, and of the one that is recorded.
const SCRAPES: usize = 12;
const RECORDED_SCRAPES: usize = 60;

/// Panels that are empty where all is well: nothing fails.
const EMPTY_WHEN_WELL: [&str; 1] = ["Watches that failed"];

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The metrics that the dashboard's queries name.
fn used_metrics() -> BTreeSet<String> {
    let text = std::fs::read_to_string(repository("manifests/chart/dashboard.json")).unwrap();
    let words = text.split(|letter: char| !letter.is_ascii_lowercase() && letter != '_');
    let is_metric = |word: &&str| word.starts_with("pullpass_") || word.starts_with("process_");
    words.filter(is_metric).map(str::to_owned).collect()
}

/// What scrapes showed: the values of each series, one for each scrape.
#[derive(Default)]
struct Recording {
    times: Vec<i64>,
    series: BTreeMap<String, Vec<Option<String>>>,
}

impl Recording {
    /// Adds what each replica shows now, with the labels that the Prometheus operator would add.
    async fn scrape(&mut self, replicas: &[&Pullpass], used: &BTreeSet<String>) {
        let place = self.times.len();
        self.times.push(Timestamp::now().as_millisecond());
        for (replica, name) in replicas.iter().zip(["x2k4z", "p9q8r"]) {
            let text = replica.metrics().await;
            for line in text.lines().filter(|line| !line.starts_with('#')) {
                let (sample, value) = line.rsplit_once(' ').unwrap();
                let (metric, labels) = sample.split_once('{').unwrap_or((sample, "}"));
                if !used.contains(metric) {
                    continue;
                }
                let labels = labels.strip_suffix('}').unwrap();
                let comma = if labels.is_empty() { "" } else { "," };
                let pod = format!("pullpass-6d5f4c9b7d-{name}");
                let series = format!(
                    "{metric}{{namespace=\"pullpass\",pod=\"{pod}\",instance=\"{name}\"{comma}{labels}}}"
                );
                let values = self.series.entry(series).or_default();
                values.resize(place, None);
                values.push(Some(value.to_owned()));
            }
        }
    }

    /// As `tests/bed/promql/recording.go` reads it.
    fn write(&self) -> String {
        let times: Vec<String> = self.times.iter().map(ToString::to_string).collect();
        let mut text = format!("# times {}\n", times.join(" "));
        for (series, values) in &self.series {
            text.push_str(series);
            let mut last = None;
            for value in values {
                let word = match value.as_deref() {
                    None => "-",
                    Some(value) if last == Some(value) => "=",
                    Some(value) => value,
                };
                last = value.as_deref().or(last);
                write!(text, " {word}").unwrap();
            }
            text.push('\n');
        }
        text
    }
}

/// Runs the dashboard on a recording, and draws it; answers what each panel shows.
fn show(recording: &Path, svg: &Path) -> Vec<Value> {
    let output = Command::new(bed::dir().join("bin/promql"))
        .arg("-dashboard")
        .arg(repository("manifests/chart/dashboard.json"))
        .arg("-recording")
        .arg(recording)
        .arg("-svg")
        .arg(svg)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let shown: Value = serde_json::from_slice(&output.stdout).unwrap();
    shown.as_array().unwrap().clone()
}

/// What happens meanwhile: namespaces opt in, Pods are created, Registries come and one of them has no login yet.
async fn act(fixture: &Fixture, pullpass: &Pullpass, number: usize, all: usize) {
    let image = format!("{ECR}/team/hello:1");
    if number.is_multiple_of((all / 6).max(1)) {
        let name = format!("shop-{number}");
        fixture.namespace(&name).await;
    }
    let first = fixture.namespace_name("shop-0");
    for _ in 0..=number % 4 {
        fixture.try_out(&first, &[&image]).await;
    }
    if number == all / 4 {
        let spec =
            json!({"images": ["harbor.example.com"], "static": {"secretRef": {"name": "harbor"}}});
        fixture.put_registry("harbor", spec).await;
        pullpass.validate(&json!({"kind": "Registry"})).await;
    }
    if number == all / 2 {
        let second = json!({"images": [format!("{ECR}/other")], "ecr": fixture.ecr(fixture.name)});
        fixture.put_registry("orders", second).await;
    }
    if number == all * 3 / 4 {
        let login = json!({"username": "robot", "password": "canary"});
        fixture
            .put_source("harbor", "kubernetes.io/basic-auth", login)
            .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn draws_every_panel_from_metrics_of_a_real_run() {
    let is_recorded = std::env::var_os("PULLPASS_RECORD_DASHBOARD").is_some();
    let scrapes = if is_recorded {
        RECORDED_SCRAPES
    } else {
        SCRAPES
    };
    let fixture = Fixture::alone("payments").await;
    fixture.serve(&[&format!("{ECR}/team")]).await;
    let leader = fixture.start_controller().await;
    let launch = Launch {
        controller: true,
        ..fixture.launch().await
    };
    let other = Pullpass::start(&launch).await;
    let (mut recording, used) = (Recording::default(), used_metrics());
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    for number in 0..scrapes {
        ticks.tick().await;
        act(&fixture, &leader, number, scrapes).await;
        recording.scrape(&[&leader, &other], &used).await;
    }
    let file = fixture.file("recording");
    std::fs::write(&file, recording.write()).unwrap();
    let shown = show(&file, &fixture.file("dashboard.svg"));
    assert!(shown.len() > 20, "{shown:?}");
    for panel in &shown {
        let title = panel["title"].as_str().unwrap();
        let has_data = panel["samples"].as_u64() > Some(0);
        assert!(has_data || EMPTY_WHEN_WELL.contains(&title), "{panel}");
    }
    let by_registry = |title: &str| {
        let panel = shown.iter().find(|panel| panel["title"] == title).unwrap();
        panel["legends"].clone()
    };
    assert_eq!(
        by_registry("Ready"),
        json!(["harbor", "orders", "payments"])
    );
    assert_eq!(
        by_registry("Credentials end in"),
        json!(["orders", "payments"])
    );
    if is_recorded {
        std::fs::write(repository("tests/data/dashboard.txt"), recording.write()).unwrap();
        let svg = repository("docs/images/dashboard.svg");
        show(&repository("tests/data/dashboard.txt"), &svg);
    }
}

/// Whoever changes the dashboard, or how it is drawn, draws it anew.
#[test]
fn picture_is_that_of_the_dashboard() {
    let folder = tempfile::tempdir().unwrap();
    let drawn = folder.path().join("dashboard.svg");
    show(&repository("tests/data/dashboard.txt"), &drawn);
    let (drawn, kept) = (
        std::fs::read_to_string(drawn).unwrap(),
        std::fs::read_to_string(repository("docs/images/dashboard.svg")).unwrap(),
    );
    assert!(drawn.contains("<path d=\"M") && drawn.contains("Credentials end in"));
    assert!(drawn == kept, "run make dashboard");
}
