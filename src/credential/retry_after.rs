//! How long another side asks to be left alone. Pure.

use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::fmt::{rfc2822, strtime};
use jiff::tz::TimeZone;

/// The longest that a mint follows: as long as any that failed is left alone.
pub(crate) const LONGEST: Duration = Duration::from_mins(10);

/// The longest that is read: as long as anything that failed is left alone.
const LONGEST_READ: Duration = Duration::from_hours(1);

/// The headers Retry-After and Date of an answer that came at `now`, by their names in lower case.
///
/// A date is as far away as the answer's own Date says, so that a wrong clock, theirs or ours, changes nothing.
pub(crate) fn find<'h>(
    header: impl Fn(&'static str) -> Option<&'h str>,
    now: Timestamp,
) -> Option<Duration> {
    let date = header("date").and_then(parse_date);
    parse(header("retry-after")?, date.unwrap_or(now))
}

/// A number of seconds or a date, at most [`LONGEST_READ`] away; `None` for what is neither, and for what has passed.
///
/// <https://www.rfc-editor.org/rfc/rfc9110#section-10.2.3>
fn parse(header: &str, now: Timestamp) -> Option<Duration> {
    let header = header.trim();
    if !header.is_empty() && header.bytes().all(|byte| byte.is_ascii_digit()) {
        let seconds = header.parse().unwrap_or(u64::MAX);
        return Some(Duration::from_secs(seconds).min(LONGEST_READ));
    }
    let wait = parse_date(header)?.duration_since(now);
    let wait = Duration::try_from(wait).ok()?;
    (!wait.is_zero()).then_some(wait.min(LONGEST_READ))
}

/// A date in the form of today, or in one of the two older ones.
///
/// <https://www.rfc-editor.org/rfc/rfc9110#section-5.6.7>
fn parse_date(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    let older = |format| {
        let parsed: DateTime = strtime::parse(format, text).ok()?.to_datetime().ok()?;
        let parsed = parsed.to_zoned(TimeZone::UTC).ok()?;
        Some(parsed.timestamp())
    };
    let newest = rfc2822::DateTimeParser::new().relaxed_weekday(true);
    let newest = newest.parse_timestamp(text).ok();
    newest
        .or_else(|| older("%A, %d-%b-%y %H:%M:%S GMT"))
        .or_else(|| older("%a %b %e %H:%M:%S %Y"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-11-21T10:00:00Z".parse().unwrap()
    }

    #[test]
    fn reads_both_forms_within_reason() {
        let table = [
            ("0", Some(0)),
            ("7", Some(7)),
            (" 120 ", Some(120)),
            ("86400", Some(3600)),
            ("99999999999999999999999", Some(3600)),
            ("Sat, 21 Nov 2026 10:00:30 GMT", Some(30)),
            ("Sat, 21 Nov 2026 10:00:30 +0000", Some(30)),
            ("Mon, 21 Nov 2026 10:00:30 GMT", Some(30)),
            ("Saturday, 21-Nov-26 10:01:00 GMT", Some(60)),
            ("Sat Nov 21 10:02:00 2026", Some(120)),
            ("Sat, 21 Nov 2037 10:00:00 GMT", Some(3600)),
            // It has passed.
            ("Sat, 21 Nov 2026 10:00:00 GMT", None),
            ("Sat, 21 Nov 2026 09:00:00 GMT", None),
            // Neither.
            ("", None),
            ("-5", None),
            ("+5", None),
            ("1.5", None),
            ("5s", None),
            ("soon", None),
            ("21 Nov", None),
            ("Sat, 31 Feb 2026 10:00:30 GMT", None),
            ("2026-11-21T10:00:30Z", None),
        ];
        for (header, seconds) in table {
            let found = parse(header, now()).map(|wait| wait.as_secs());
            assert_eq!(found, seconds, "{header:?}");
        }
    }

    #[test]
    fn counts_a_date_from_the_date_of_the_answer() {
        let answer = |date: Option<&'static str>| {
            let header = move |name: &str| match name {
                "retry-after" => Some("Sat, 21 Nov 2026 12:00:30 GMT"),
                _ => date,
            };
            find(header, now()).map(|wait| wait.as_secs())
        };
        assert_eq!(answer(Some("Sat, 21 Nov 2026 12:00:00 GMT")), Some(30));
        assert_eq!(answer(None), Some(3600));
        assert_eq!(answer(Some("nonsense")), Some(3600));
        assert_eq!(find(|_| None, now()), None);
    }
}
