//! Figures: how long what a test waited for may take.

use std::time::Duration;

/// How much longer a shared machine may need, beside other tests: what hangs is still found.
const SHARED: u32 = 8;

/// Shows how long `what` took; fails when that was longer than `bound` and nothing else runs beside it (`make figures`),
/// or much longer than `bound` in any run.
pub fn within(what: &str, took: Duration, bound: Duration) {
    println!("{what}: {took:.2?} (bound {bound:?})");
    let is_strict = std::env::var("PULLPASS_FIGURES").is_ok_and(|value| value == "strict");
    let most = if is_strict { bound } else { bound * SHARED };
    assert!(
        took <= most,
        "{what} took {took:.2?}, the bound is {most:?}"
    );
}
