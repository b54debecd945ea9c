//! The nodes whose kubelets asked for a Registry's login, each with the day on which it did last. Pure.

use std::collections::BTreeMap;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};

use crate::names::ObjectName;

/// How many nodes a list holds.
pub const MAX_NODES: usize = 5_000;

/// How many bytes their names have together at most: a Secret holds 1 MiB.
/// <https://kubernetes.io/docs/concepts/configuration/secret/#restriction-data-size>
pub const MAX_BYTES: usize = 600 * 1024;

/// The longest name, with what ends it.
const LONGEST: usize = 254;

/// A node that did not ask for so many days is forgotten: it is gone, or nothing of it needs the Registry any more.
pub(super) const REMEMBERED_DAYS: i64 = 14;

/// The nodes of one Registry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeList {
    nodes: BTreeMap<ObjectName, Date>,
    /// Of all names.
    bytes: usize,
}

/// The day of a moment, in UTC.
pub fn day_of(now: Timestamp) -> Date {
    now.to_zoned(TimeZone::UTC).date()
}

impl NodeList {
    /// Notes that a node asked on this day; answers whether that is new. What does not fit is left out.
    pub fn note(&mut self, node: &ObjectName, day: Date) -> bool {
        if let Some(last) = self.nodes.get_mut(node) {
            let is_later = *last < day;
            *last = day.max(*last);
            return is_later;
        }
        let bytes = self.bytes + node.len() + 1;
        if self.nodes.len() >= MAX_NODES || bytes > MAX_BYTES {
            return false;
        }
        self.bytes = bytes;
        self.nodes.insert(node.clone(), day);
        true
    }

    /// Forgets who did not ask lately, and who did only on days to come, by a clock that was wrong.
    pub fn forget_old(&mut self, today: Date) {
        let first = today.checked_sub(REMEMBERED_DAYS.days());
        let first = first.unwrap_or(Date::MIN);
        let last = today.tomorrow().unwrap_or(Date::MAX);
        self.nodes.retain(|_, day| (first..=last).contains(day));
        self.bytes = self.nodes.keys().map(|node| node.len() + 1).sum();
    }

    /// When this node asked last.
    pub fn last_day(&self, node: &str) -> Option<Date> {
        self.nodes.get(node).copied()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Whether others may have asked for which there is no room: of those nothing is known.
    pub fn is_full(&self) -> bool {
        self.nodes.len() >= MAX_NODES || self.bytes + LONGEST > MAX_BYTES
    }

    /// What is under the keys of a Secret: for each day the nodes that asked last on it. What is neither is left out.
    pub fn parse<'d>(data: impl IntoIterator<Item = (&'d str, &'d [u8])>) -> Self {
        let mut list = Self::default();
        for (day, names) in data {
            let names = std::str::from_utf8(names).ok();
            let Some((day, names)) = day.parse().ok().zip(names) else {
                continue;
            };
            for name in names.lines().flat_map(ObjectName::parse) {
                list.note(&name, day);
            }
        }
        list
    }

    /// The same as it is written.
    pub fn format(&self) -> BTreeMap<String, String> {
        let mut days: BTreeMap<String, String> = BTreeMap::new();
        for (node, day) in &self.nodes {
            let names = days.entry(day.to_string()).or_default();
            names.push_str(node);
            names.push('\n');
        }
        days
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(number: i64) -> Date {
        let first = Date::constant(2026, 11, 1);
        first.checked_add(number.days()).unwrap()
    }

    fn name(number: usize, length: usize) -> ObjectName {
        format!("{number:0>length$}").parse().unwrap()
    }

    fn read_back(list: &NodeList) -> NodeList {
        let data = list.format();
        let data = data.iter();
        NodeList::parse(data.map(|(day, names)| (day.as_str(), names.as_bytes())))
    }

    #[test]
    fn notes_each_node_once_a_day() {
        let mut list = NodeList::default();
        let (one, other) = (name(1, 8), name(2, 8));
        assert!(list.note(&one, day(0)));
        assert!(!list.note(&one, day(0)), "known");
        assert!(list.note(&other, day(1)));
        assert!(list.note(&one, day(1)), "another day");
        assert!(!list.note(&one, day(0)), "an earlier one");
        assert_eq!((list.len(), list.last_day(&one)), (2, Some(day(1))));
        assert_eq!(read_back(&list), list);
    }

    #[test]
    fn forgets_nodes_after_days_and_those_of_a_wrong_clock() {
        let mut list = NodeList::default();
        for (number, asked) in [0, 1, 15, 16, 17].into_iter().enumerate() {
            list.note(&name(number, 3), day(asked));
        }
        list.forget_old(day(15));
        let left = [1, 2, 3].map(|number| name(number, 3));
        assert!(left.iter().all(|node| list.last_day(node).is_some()));
        assert_eq!(list.len(), 3);
    }

    #[test]
    fn holds_what_fits_in_a_secret_whatever_the_names() {
        for length in [8, 63, 253] {
            let mut list = NodeList::default();
            let noted =
                (0..MAX_NODES + 1000).filter(|number| list.note(&name(*number, length), day(0)));
            let noted = noted.count();
            assert_eq!(noted, list.len());
            assert!(list.is_full(), "{length}");
            let size: usize = list
                .format()
                .iter()
                .map(|(day, names)| day.len() + names.len())
                .sum();
            assert!(
                size < 1_000_000 && list.len() <= MAX_NODES,
                "{length}: {size}"
            );
            assert_eq!(read_back(&list), list, "{length}");
            // Those that are known are noted still.
            assert!(list.note(&name(0, length), day(1)));
        }
    }

    #[test]
    fn leaves_out_what_is_no_day_or_no_name() {
        let data: [(&str, &[u8]); 4] = [
            ("2026-11-01", b"a\nB c\n\nb.example\n"),
            ("2026-13-01", b"c\n"),
            ("tls.key", b"d\n"),
            ("2026-11-02", b"\xff\n"),
        ];
        let list = NodeList::parse(data);
        assert_eq!(list.len(), 2);
        assert!(list.last_day("a").is_some() && list.last_day("b.example").is_some());
    }
}
