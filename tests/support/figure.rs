//! Figures: how long what a test waited for may take, and how often something may happen.

use std::time::Duration;

/// How much longer a shared machine may need, beside other tests: what hangs is still found.
const SHARED: u32 = 8;

/// Shows how long `what` took; fails when that was longer than `bound` and nothing else runs beside it (`make figures`),
/// or much longer than `bound` in any run.
pub fn within(what: &str, took: Duration, bound: Duration) {
    println!("{what}: {took:.2?} (bound {bound:?})");
    let most = if is_strict() { bound } else { bound * SHARED };
    assert!(
        took <= most,
        "{what} took {took:.2?}, the bound is {most:?}"
    );
}

/// The same of how often something happens in a second.
pub fn per_second(what: &str, count: u64, during: Duration, bound: u32) {
    let bound = f64::from(bound);
    #[expect(clippy::cast_precision_loss, reason = "a count of seconds")]
    let rate = count as f64 / during.as_secs_f64();
    println!("{what}: {rate:.1} a second (bound {bound})");
    let most = if is_strict() {
        bound
    } else {
        bound * f64::from(SHARED)
    };
    assert!(
        rate <= most,
        "{what}: {rate:.1} a second, the bound is {most}"
    );
}

fn is_strict() -> bool {
    std::env::var("PULLPASS_FIGURES").is_ok_and(|value| value == "strict")
}
