//! Runs the target that `PULLPASS_FUZZ_TARGET` names, by libFuzzer: `make fuzz`.
#![no_main]

use std::sync::LazyLock;

use pullpass::fuzz::Target;

static TARGET: LazyLock<&Target> = LazyLock::new(|| {
    let name = std::env::var("PULLPASS_FUZZ_TARGET").unwrap_or_default();
    pullpass::fuzz::target(&name).expect("PULLPASS_FUZZ_TARGET names a target: see fuzz/targets/targets.rs")
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| (TARGET.run)(data));
