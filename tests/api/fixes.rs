//! Every fix that is printed is done, and ends in health: by `pullpass check`, by a Registry's conditions, by Events and by warnings.
//! The faults are rows of `tests/data/fixes.yaml`. A fix that is a command is run as it is printed; one that is a sentence stands there
//! with what was done about it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod place;
mod row;
mod step;

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;

use futures::{FutureExt as _, StreamExt as _};

use place::Place;
use row::Row;

/// How many rows there are at least.
const ROWS: usize = 70;
/// How many are tried side by side: each has a namespace, a Registry and a host of its own.
const SIDE_BY_SIDE: usize = 3;

#[tokio::test(flavor = "multi_thread")]
async fn ends_in_health_after_each_printed_fix() {
    let rows = row::load();
    let names: BTreeSet<&str> = rows.iter().map(|row| row.name.as_str()).collect();
    assert_eq!(names.len(), rows.len(), "two rows of one name");
    assert!(rows.len() >= ROWS, "{} rows, {ROWS} at least", rows.len());
    let (alone, beside): (Vec<&Row>, Vec<&Row>) = rows.iter().partition(|row| row.alone);
    let place = Place::new().await;
    let only = std::env::var("FIXES_ROW").ok();
    let wanted = |row: &&Row| only.as_ref().is_none_or(|only| *only == row.name);
    let tried = async |row: &Row| try_row(&place, row).await;
    let beside = futures::stream::iter(beside.into_iter().filter(wanted)).map(tried);
    let mut failed: Vec<String> = beside
        .buffer_unordered(SIDE_BY_SIDE)
        .filter_map(std::future::ready)
        .collect()
        .await;
    for row in alone.into_iter().filter(wanted) {
        failed.extend(try_row(&place, row).await);
    }
    assert!(
        failed.is_empty(),
        "these rows do not end in health: {failed:?}"
    );
}

/// Its name, where a row does not end in health; the others are tried all the same.
async fn try_row(place: &Place, row: &Row) -> Option<String> {
    let tried = AssertUnwindSafe(step::try_row(place, row)).catch_unwind();
    tried.await.is_err().then(|| row.name.clone())
}
