//! Webhooks side by side under load: real processes, TLS, HTTP/1.1 connections that are kept as kube-apiserver keeps them.
//!
//! - `floor`: hyper and rustls with nothing around them, and the least that reads a Pod's images and answers with a patch
//! - `floor, our server`: the same answer behind pullpass' own server (bounds, deadlines, draining, router)
//! - `pullpass`: `pullpass serve --patch-only`, as it is built for release, log and metrics on
//! - `typed`: the same webhook on kube's typed structs, behind pullpass' own server
//!
//! All run all the time; they are driven in turn, several rounds, and medians are shown. Every answer is compared with the one
//! that was checked before. Without `--bench` (as under `cargo test`) it only checks that all answer rightly.

#[path = "../support/mod.rs"]
mod support;

mod client;
mod contestant;
mod drive;
mod serve;
mod table;

use std::time::Duration;

use anyhow::{Context as _, ensure};
use client::Target;
use contestant::{Contestant, Place};
use support::reviews;
use table::{Row, Table};

/// Kept connections: one, and kube-apiserver's usual many.
const CONNECTIONS: [usize; 2] = [1, 25];

/// Creates at a time, each on a connection of its own.
const BURST: usize = 600;

/// How long and how often each is driven.
#[derive(Clone, Copy)]
struct Effort {
    rounds: usize,
    warm_up: Duration,
    duration: Duration,
}

fn main() -> anyhow::Result<()> {
    ensure!(
        rustls::crypto::aws_lc_rs::default_provider()
            .install_default()
            .is_ok(),
        "a TLS provider is installed already"
    );
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, kind, directory] = arguments.as_slice()
        && flag == serve::FLAG
    {
        return serve::run(kind, directory.as_ref());
    }
    let measures = arguments.iter().any(|argument| argument == "--bench");
    let effort = if measures {
        Effort {
            rounds: 5,
            warm_up: Duration::from_millis(300),
            duration: Duration::from_millis(1200),
        }
    } else {
        Effort {
            rounds: 1,
            warm_up: Duration::ZERO,
            duration: Duration::ZERO,
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let place = Place::prepare()?;
    let table = runtime.block_on(run(&place, effort))?;
    if measures {
        println!("{table}");
    } else {
        println!("all webhooks answer rightly");
    }
    runtime.block_on(burst(&place))
}

/// Drives all, in turn, with reviews of all sizes.
async fn run(place: &Place, effort: Effort) -> anyhow::Result<Table> {
    let mut table = Table::default();
    for (size, bytes) in reviews::SIZES {
        let body = reviews::review(bytes);
        let contestants = place.start_all()?;
        for round in 1..=effort.rounds {
            eprintln!("review of {size}: round {round} of {}", effort.rounds);
            for connections in CONNECTIONS {
                for contestant in &contestants {
                    let row = measure(contestant, place, &body, connections, effort).await;
                    let row = row.with_context(|| {
                        format!("{size}, {connections} connections, {}", contestant.name)
                    })?;
                    table.add(size, connections, contestant.name, row);
                }
            }
        }
        for contestant in contestants {
            table.set_memory(size, contestant.name, contestant.memory()?);
        }
    }
    Ok(table)
}

/// Drives one contestant for a while.
async fn measure(
    contestant: &Contestant,
    place: &Place,
    body: &[u8],
    connections: usize,
    effort: Effort,
) -> anyhow::Result<Row> {
    let target = Target::new(contestant.address, &place.ca, body)?;
    let expected = target.connect().await?.ask(&target).await?;
    reviews::check(&expected)?;
    drive::keep(&target, &expected, connections, effort.warm_up).await?;
    let before = contestant.cpu_time()?;
    let load = drive::keep(&target, &expected, connections, effort.duration).await?;
    let cpu = contestant.cpu_time()?.saturating_sub(before);
    Ok(Row::new(cpu, &load))
}

/// Many creates at once, each on a new connection.
async fn burst(place: &Place) -> anyhow::Result<()> {
    println!("\n{BURST} creates at once, each on a connection of its own, 3 KB");
    println!(
        "{:<18} {:>7} {:>9} {:>9} {:>9} {:>9} {:>9}",
        "", "errors", "all ms", "p50 ms", "p99 ms", "RSS MiB", "peak MiB"
    );
    let body = reviews::review(reviews::SIZES[0].1);
    for contestant in place.start_all()? {
        let target = Target::new(contestant.address, &place.ca, &body)?;
        let expected = target.connect().await?.ask(&target).await?;
        reviews::check(&expected)?;
        let (load, errors) = drive::burst(&target, &expected, BURST).await;
        let memory = contestant.memory()?;
        println!(
            "{:<18} {:>7} {:>9.0} {:>9.1} {:>9.1} {:>9.1} {:>9.1}",
            contestant.name,
            errors.len(),
            load.wall.as_secs_f64() * 1e3,
            load.percentile(50).as_secs_f64() * 1e3,
            load.percentile(99).as_secs_f64() * 1e3,
            memory.resident_mib,
            memory.peak_mib,
        );
        if let Some(error) = errors.first() {
            println!("  the first error: {error:#}");
        }
    }
    Ok(())
}
