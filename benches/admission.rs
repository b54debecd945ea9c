//! One review, body to answer, with no network: the floor, pullpass' whole handler, and the same webhook on typed structs.

#[allow(
    clippy::duplicate_mod,
    reason = "each benchmark is a program of its own"
)]
mod support;

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::ensure;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{Request, StatusCode};
use criterion::{Criterion, Throughput};
use jiff::Timestamp;
use pullpass::admission::{self, Metrics, Webhook};
use pullpass::names::NamespaceName;
use pullpass::provision::{ExcludedNamespaces, Namespace, offline::Offline};
use support::{floor, namespace_labels, registries, reviews, typed};
use tower::ServiceExt as _;

fn main() -> anyhow::Result<()> {
    // Log lines are written as they are by default, only nowhere.
    tracing_subscriber::fmt().with_writer(io::sink).init();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let registries = registries()?;
    let labels = namespace_labels();
    let namespace = Namespace::new(
        NamespaceName::constant(reviews::NAMESPACE),
        labels.clone(),
        false,
    );
    let webhook = admission::router(Arc::new(Webhook {
        provision: Arc::new(Offline::new(support::registries()?, [namespace])),
        excluded: Arc::new(ExcludedNamespaces::new(
            NamespaceName::constant("pullpass"),
            [],
        )),
        metrics: Metrics::default(),
        clock: Timestamp::now,
    }));
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    for (size, bytes) in reviews::SIZES {
        let body = Bytes::from(reviews::review(bytes));
        reviews::check(&floor::answer(&body)?)?;
        reviews::check(&runtime.block_on(ask(&webhook, &body))?)?;
        reviews::check(&typed::answer(&body, &registries, &labels)?)?;
        let mut group = criterion.benchmark_group(format!("review of {size}"));
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function("floor", |bencher| bencher.iter(|| floor::answer(&body)));
        group.bench_function("pullpass", |bencher| {
            bencher.iter_custom(|iterations| {
                runtime.block_on(async {
                    let started = Instant::now();
                    for _ in 0..iterations {
                        drop(ask(&webhook, &body).await);
                    }
                    started.elapsed()
                })
            });
        });
        group.bench_function("typed", |bencher| {
            bencher.iter(|| typed::answer(&body, &registries, &labels));
        });
        group.finish();
    }
    criterion.final_summary();
    Ok(())
}

/// Asks the webhook as its server does.
async fn ask(webhook: &Router, body: &Bytes) -> anyhow::Result<Bytes> {
    let request = Request::post("/mutate?timeout=10s")
        .header("content-type", "application/json")
        .body(Body::from(body.clone()))?;
    let answer = webhook.clone().oneshot(request).await?;
    ensure!(answer.status() == StatusCode::OK, "{}", answer.status());
    Ok(axum::body::to_bytes(answer.into_body(), usize::MAX).await?)
}
