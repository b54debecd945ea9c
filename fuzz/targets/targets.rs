//! What is fuzzed: everything that reads what tenants, admins, clouds and callers write. Each target takes any bytes, and panics where a
//! property does not hold; `docs/adr/0011-fuzzing.md` says how they are run.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    missing_docs,
    reason = "a target fails by panicking"
)]

mod answers;
mod claims;
mod kind;
mod patterns;
mod references;
mod review;
mod source_logins;
mod tenant_exports;
mod tenant_logins;

use jiff::Timestamp;

/// One thing that is fuzzed.
pub struct Target {
    /// Its name.
    pub name: &'static str,
    /// Reads any bytes.
    pub run: fn(&[u8]),
    /// Where it begins.
    pub seeds: &'static [&'static str],
}

/// All targets.
pub const TARGETS: [Target; 9] = [
    answers::TARGET,
    claims::TARGET,
    kind::TARGET,
    patterns::TARGET,
    references::TARGET,
    review::TARGET,
    source_logins::TARGET,
    tenant_exports::TARGET,
    tenant_logins::TARGET,
];

/// The target of this name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

/// The time at which all of it happens.
fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// How many inputs are made for each target.
    const INPUTS: u32 = 3_000;

    /// Numbers that are the same in every run (xorshift).
    struct Dice(u64);

    impl Dice {
        fn below(&mut self, bound: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            usize::try_from(self.0 % u64::try_from(bound.max(1)).unwrap()).unwrap()
        }
    }

    /// A change as fuzzers make them: bytes changed, taken out, put in, repeated, or taken from another input.
    fn mutate(input: &mut Vec<u8>, others: &[Vec<u8>], dice: &mut Dice) {
        const ODD: &[u8] = b"\0\"\\{}[],:/*.-_@%AZaz09 \n\xff\xc3";
        let at = dice.below(input.len());
        let end = at + dice.below(input.len() - at + 1).min(40);
        match dice.below(6) {
            0 if !input.is_empty() => input[at] = ODD[dice.below(ODD.len())],
            1 => drop(input.drain(at..end)),
            2 => input.insert(at, ODD[dice.below(ODD.len())]),
            3 => {
                let part = input[at..end].to_vec();
                input.splice(at..at, part);
            }
            4 if !input.is_empty() => input[at] ^= 1 << dice.below(8),
            _ => {
                let other = &others[dice.below(others.len())];
                let from = dice.below(other.len());
                let to = from + dice.below(other.len() - from + 1);
                input.splice(at..end, other[from..to].iter().copied());
            }
        }
        input.truncate(16 * 1024);
    }

    /// The seeds, and what was found once and kept.
    fn inputs(target: &Target) -> Vec<Vec<u8>> {
        let seeds = target.seeds.iter().map(|seed| seed.as_bytes().to_vec());
        let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
        let kept = std::fs::read_dir(kept.join(target.name));
        let kept = kept.into_iter().flatten().flatten();
        let mut kept: Vec<_> = kept.map(|entry| entry.path()).collect();
        kept.sort();
        let kept = kept.into_iter().map(|path| std::fs::read(path).unwrap());
        seeds.chain(kept).collect()
    }

    #[test]
    fn holds_for_seeds_and_three_thousand_changes_of_them() {
        for target in &TARGETS {
            let seeds = inputs(target);
            assert!(!seeds.is_empty(), "{} has no seeds", target.name);
            let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
            for seed in &seeds {
                (target.run)(seed);
            }
            for _ in 0..INPUTS {
                let mut input = seeds[dice.below(seeds.len())].clone();
                for _ in 0..=dice.below(6) {
                    mutate(&mut input, &seeds, &mut dice);
                }
                let run = std::panic::catch_unwind(|| (target.run)(&input));
                assert!(
                    run.is_ok(),
                    "{} fails for {:?}",
                    target.name,
                    String::from_utf8_lossy(&input)
                );
            }
        }
    }
}
