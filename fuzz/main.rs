//! Runs the target that `PULLPASS_FUZZ_TARGET` names, by libFuzzer: `make fuzz`.
#![no_main]

use std::env;
use std::path::PathBuf;
use std::sync::LazyLock;

use pullpass::fuzz::Target;

static TARGET: LazyLock<&Target> = LazyLock::new(|| {
    let name = env::var("PULLPASS_FUZZ_TARGET").unwrap_or_default();
    pullpass::fuzz::target(&name)
        .expect("PULLPASS_FUZZ_TARGET names a target: see fuzz/targets/targets.rs")
});

/// Puts the target's seeds into the folder that `PULLPASS_FUZZ_SEEDS` names, where libFuzzer finds them.
fn write_seeds() {
    let Some(folder) = env::var_os("PULLPASS_FUZZ_SEEDS").map(PathBuf::from) else {
        return;
    };
    for (number, seed) in TARGET.seeds.iter().enumerate() {
        std::fs::write(folder.join(format!("seed-{number}")), seed)
            .expect("the folder of PULLPASS_FUZZ_SEEDS can be written");
    }
}

libfuzzer_sys::fuzz_target!(init: write_seeds(), |data: &[u8]| (TARGET.run)(data));
