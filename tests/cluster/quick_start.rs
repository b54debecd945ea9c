//! The quick starts, command by command, as they are written: what each prints is what the page says, and what a page says goes wrong is
//! made to go wrong and looks so. One cluster for all of them. `make e2e` builds the parts and runs this.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot be set up has failed"
)]

mod compare;
pub(crate) mod page;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::support::site::{Shell, Site};
use compare::find_difference;
use page::{Block, Page};

/// How long a command that only looks is tried again, until it prints what the page says.
const DEADLINE: Duration = Duration::from_mins(1);
/// How many commands it takes to the first Pod, in a cluster that is there, and how long at most.
const COMMANDS: usize = 3;
const FIRST_POD: Duration = Duration::from_mins(5);
/// The page of which that is so: nothing has to be made in a cloud first.
const SHORTEST: &str = "fixed-login.md";
/// Commands that change nothing.
const LOOKS: [&str; 8] = [
    "kubectl get ",
    "kubectl describe ",
    "kubectl events ",
    "kubectl exec ",
    "kubectl wait ",
    "kubectl create --dry-run=server ",
    "pullpass check ",
    "helm list ",
];

/// Until kube-proxy knows a new Service, the API server does not reach the webhook and admits a Pod as it is. The chart's `minReadySeconds`
/// waits for that, which a slow machine may need longer for: this asks until a Pod would get its reference.
const WAIT_FOR_WEBHOOK: &str = "\
    asked='kubectl run asked --namespace shop --image '${IMAGE:-$ECR_IMAGE}' --dry-run=server -o jsonpath={.spec.imagePullSecrets[*].name}'\n\
    timeout 60 bash -c \"until [ \\\"\\$($asked 2>/dev/null)\\\" ]; do sleep 0.1; done\"";

/// Commands that create Pods.
const CREATES: [&str; 2] = ["kubectl run ", "kubectl create deployment "];

/// What is done before a page is followed.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Row {
    page: String,
    /// What of it is not real here, and why.
    doubles: String,
    /// Shell, by the heading under which something goes wrong: makes it so.
    #[serde(default)]
    provoke: BTreeMap<String, String>,
    /// Shell that is run when that was looked at.
    #[serde(default)]
    mend: BTreeMap<String, String>,
}

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/quick-start"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_page_does_what_it_says() {
    let table = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/quick_starts.yaml");
    let rows = std::fs::read_to_string(table).unwrap();
    let rows: Vec<Row> = serde_saphyr::from_str(&rows).unwrap();
    let mut pages: Vec<String> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        // tests/cluster/nodes.rs does what kubelet.md says: it restarts the kubelet.
        .filter(|name| !["README.md", "kubelet.md"].contains(&name.as_str()))
        .collect();
    let mut known: Vec<&String> = rows.iter().map(|row| &row.page).collect();
    pages.sort();
    known.sort();
    assert_eq!(known, pages.iter().collect::<Vec<_>>());
    let only = std::env::var("PULLPASS_QUICK_START").ok();
    let Some(site) = Site::start().await else {
        return;
    };
    for row in rows
        .iter()
        .filter(|row| only.as_ref().is_none_or(|only| *only == row.page))
    {
        assert!(!row.doubles.is_empty(), "{}", row.page);
        let text = std::fs::read_to_string(folder().join(&row.page)).unwrap();
        let page = Page::read(&text);
        let began = Instant::now();
        tokio::task::block_in_place(|| follow(&site, row, &page));
        println!("{}: {} s", row.page, began.elapsed().as_secs());
    }
}

fn follow(site: &Site, row: &Row, page: &Page) {
    for heading in row.provoke.keys().chain(row.mend.keys()) {
        let is_there = page.blocks.iter().any(|block| block.heading == *heading);
        assert!(is_there, "{}: no block below {heading:?}", row.page);
    }
    let shell = site.shell(&row.page);
    let began = Instant::now();
    let (mut commands, mut is_first) = (0, true);
    let mut below = "";
    for block in &page.blocks {
        if below != block.heading {
            settle(row.mend.get(below), &shell);
            settle(row.provoke.get(&block.heading), &shell);
            below = &block.heading;
        }
        let creates = |line: String| CREATES.iter().any(|create| line.starts_with(create));
        if is_first && block.commands().any(creates) {
            shell.must(WAIT_FOR_WEBHOOK);
        }
        run(site, row, block, &shell);
        commands += block
            .commands()
            .filter(|line| !line.starts_with("export "))
            .count();
        if is_first && block.commands().any(creates) {
            is_first = false;
            let time = began.elapsed();
            println!(
                "{}: {commands} commands, {} s to the first Pod",
                row.page,
                time.as_secs()
            );
            let is_short = commands <= COMMANDS && time <= FIRST_POD;
            assert!(
                is_short || row.page != SHORTEST,
                "{commands} commands, {time:?}"
            );
        }
    }
    settle(row.mend.get(below), &shell);
}

fn settle(script: Option<&String>, shell: &Shell) {
    if let Some(script) = script {
        shell.must(script);
    }
}

/// Runs a block until it prints what the page says; one that changes something is run once.
fn run(site: &Site, row: &Row, block: &Block, shell: &Shell) {
    let only_looks = block
        .commands()
        .all(|line| LOOKS.iter().any(|look| line.starts_with(look)));
    let deadline = Instant::now() + DEADLINE;
    loop {
        let ran = shell.run(&block.text);
        let difference = match &block.output {
            Some(expected) => find_difference(expected, &ran.output),
            None => None,
        };
        // What a page shows of a failure may be a command that fails.
        let is_good = ran.succeeded || block.output.is_some() && block.is_failure();
        if is_good && difference.is_none() {
            return;
        }
        assert!(
            only_looks && Instant::now() < deadline,
            "{}, {}:\n{}\nprinted:\n{}\n{}\n{}",
            row.page,
            block.heading,
            block.text,
            ran.output,
            difference.unwrap_or_else(|| "and failed".to_owned()),
            site.tell(),
        );
        std::thread::sleep(Duration::from_millis(200));
    }
}
