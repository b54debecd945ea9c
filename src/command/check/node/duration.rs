//! Durations as Go writes them. Pure.

const UNITS: [(&str, u128); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Whether it is a duration that the kubelet takes: one of Go's that is not negative, 292 years at most.
///
/// <https://pkg.go.dev/time#ParseDuration>
pub(super) fn is_duration(text: &str) -> bool {
    nanoseconds(text).is_some_and(|length| (0..=i128::from(i64::MAX)).contains(&length))
}

fn nanoseconds(text: &str) -> Option<i128> {
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut sum: i128 = 0;
    while !rest.is_empty() {
        let is_number = |one: char| one.is_ascii_digit() || one == '.';
        let (number, after) = rest.split_at(rest.find(|one| !is_number(one))?);
        let (unit, after) = after.split_at(after.find(is_number).unwrap_or(after.len()));
        let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit)?;
        let (whole, part) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && part.is_empty() || part.contains('.') {
            return None;
        }
        sum = sum.checked_add(scaled(whole, part, *factor)?)?;
        rest = after;
    }
    Some(sign * sum)
}

/// A number with these digits before and behind its point, times a factor; digits that make no nanosecond are dropped.
fn scaled(whole: &str, part: &str, factor: u128) -> Option<i128> {
    const DIGITS: usize = 18;
    let read = |digits: &str| match digits {
        "" => Some(0),
        digits => digits.parse::<u64>().ok().map(u128::from),
    };
    let part = &part[..part.len().min(DIGITS)];
    let scale = 10_u128.pow(u32::try_from(part.len()).ok()?);
    let fraction = read(part)? * factor / scale;
    i128::try_from(read(whole)? * factor + fraction).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kubelet of Kubernetes 1.36.3 said of each.
    #[test]
    fn reads_durations_as_the_kubelet_does() {
        for good in [
            "0",
            "-0",
            "+0",
            "-0s",
            "0s",
            "12h",
            "1h30m",
            "1.5h",
            ".5h",
            "1.h",
            "100ms",
            "5µs",
            "0.0000000000000000000000001h",
            "9223372036854775807ns",
            "2562047h47m16.854775807s",
        ] {
            assert!(is_duration(good), "{good}");
        }
        for bad in [
            "",
            "+",
            "-",
            "12",
            "-1s",
            "1d",
            "s",
            ".h",
            "1h 30m",
            " 1s",
            "1..5s",
            "1.5.5s",
            "1s1",
            "1e3s",
            "1h-1h",
            "PT1H",
            "99999999h",
            "9223372036854775808ns",
            "2562047h47m16.854775808s",
            "99999999999999999999999999s",
        ] {
            assert!(!is_duration(bad), "{bad}");
        }
    }
}
